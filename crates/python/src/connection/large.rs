//! Messages that are too long for a packet: memory of their own, without a name.
//!
//! The sender writes and seals it. So nobody can change it any more, and the receiver may map it.
//! It is freed with the last descriptor or mapping, whoever had it.

use std::ffi::c_void;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{null_mut, NonNull};

use pyo3::prelude::*;
use rustix::fs::{fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, MemfdFlags, SealFlags};
use rustix::io::{pread, pwritev, Errno};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};

use crate::error::system;

/// So much is copied between two looks at pending signals: some milliseconds.
const CHUNK: usize = 16 << 20;

/// Creates memory with these parts, each at its offset.
pub(super) fn create<'a>(
    py: Python<'_>,
    parts: impl Iterator<Item = (usize, &'a [u8])>,
) -> PyResult<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(c"pagemate message", flags).map_err(system)?;
    for (mut at, mut part) in parts {
        while !part.is_empty() {
            let chunk = IoSlice::new(&part[..part.len().min(CHUNK)]);
            match py.detach(|| pwritev(&file, &[chunk], at as u64)) {
                Ok(written) => (at, part) = (at + written, &part[written..]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(system(error)),
            }
            py.check_signals()?;
        }
    }
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)
        .map_err(system)?;
    Ok(file)
}

/// Checks that a received descriptor is memory of `len` bytes that cannot change.
pub(super) fn check(file: BorrowedFd<'_>, len: usize) -> Result<(), Errno> {
    let seals = fcntl_get_seals(file).map_err(|_| Errno::BADMSG)?;
    let is_long = fstat(file)?.st_size as u64 >= len as u64;
    let is_sealed = seals.contains(SealFlags::SHRINK | SealFlags::WRITE);
    if is_long && is_sealed {
        Ok(())
    } else {
        Err(Errno::BADMSG)
    }
}

/// Copies the memory, from its beginning.
pub(super) fn copy(py: Python<'_>, file: &OwnedFd, to: &mut [MaybeUninit<u8>]) -> PyResult<()> {
    let mut at = 0;
    while at < to.len() {
        let end = to.len().min(at + CHUNK);
        match py.detach(|| pread(file.as_fd(), &mut to[at..end], at as u64).map(|(read, _)| read.len())) {
            Ok(0) => return Err(system(Errno::BADMSG)),
            Ok(count) => at += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(system(error)),
        }
        py.check_signals()?;
    }
    Ok(())
}

/// Memory that is mapped to be read.
pub(super) struct Mapping {
    at: NonNull<c_void>,
    len: usize,
}

// SAFETY: nobody writes there, and any thread may unmap it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps memory that [`check`] has accepted. Nothing is copied or read.
    pub(super) fn new(file: &OwnedFd, len: usize) -> Result<Mapping, Errno> {
        // SAFETY: a new mapping, where the kernel wants it.
        let at = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        NonNull::new(at).map(|at| Mapping { at, len }).ok_or(Errno::NOMEM)
    }

    /// Returns the bytes, which can be read as long as `self` exists, and do not change.
    pub(super) fn bytes(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.at.cast(), self.len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: new() has mapped it, and nobody uses it any more.
        let unmapped = unsafe { munmap(self.at.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
