//! Shared mappings of segments: reserved address space of which only the committed part is memory.
//!
//! A segment reserves much more than it uses, and two things would turn the reservation into
//! memory. A core dump reads every page. So segments are left out of dumps (`MADV_DONTDUMP`). Then
//! a crash does not fill memory and disk with zeros, and other processes notice it in time.
//! `mlockall(MCL_FUTURE)` touches all that is mapped and accessible. So a segment is mapped
//! inaccessible first.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::fs::{seek, SeekFrom};

use crate::{Error, Result};

/// The number of holes that are covered one by one. From there on, everything is covered.
const HOLES: usize = 10_000;

/// A mapping of the beginning of a file, from its first byte on.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length, which no method changes; code that reads or writes through them
// justifies it there.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Returns the address of the first byte, which begins a page.
    #[inline]
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Replaces the holes of the file, which is mapped for reading only, with zeros. Touching a
    /// hole takes memory, and raises a signal if there is none. Later writes of other processes
    /// into the holes are not visible.
    pub(crate) fn cover_holes(&self, file: BorrowedFd<'_>) -> Result<()> {
        let mut from = 0;
        for number in 0.. {
            let (hole, data) = match number < HOLES {
                true => next_hole(file, from)?,
                false => (from, u64::MAX),
            };
            let (start, end) = (hole.min(self.len as u64), data.min(self.len as u64));
            if start == end {
                break;
            }
            self.cover(start, end)?;
            from = data;
        }
        Ok(())
    }

    /// Maps zeros over the whole pages from `start` to `end`, and over the last page if it holds
    /// nothing else.
    fn cover(&self, start: u64, end: u64) -> Result<()> {
        let failed =
            || Error::system("cannot map zeros over the holes of a segment", io::Error::last_os_error());
        // SAFETY: asks for a number.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(65_536);
        let start = start.next_multiple_of(page);
        let end = if end == self.len as u64 { end.next_multiple_of(page) } else { end - end % page };
        let len = end.saturating_sub(start) as usize;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the pages belong to this mapping, which is `self`'s; nothing has a reference into
        // it yet.
        unsafe {
            let at = self.as_mut_ptr().add(start as usize).cast();
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
            // Inaccessible first: see the module doc.
            if libc::mmap(at, len, libc::PROT_NONE, flags, -1, 0) == libc::MAP_FAILED
                || libc::mprotect(at, len, libc::PROT_READ) != 0
            {
                return Err(failed());
            }
        }
        Ok(())
    }
}

/// Returns where the next hole of the file begins, at or after `from`, and where the next data
/// after it begins. Both are `u64::MAX` if there is none.
fn next_hole(file: BorrowedFd<'_>, from: u64) -> Result<(u64, u64)> {
    let find = |to| match seek(file, to) {
        Ok(found) => Ok(found),
        Err(rustix::io::Errno::NXIO) => Ok(u64::MAX),
        Err(cause) => Err(Error::system("cannot find the holes of a segment", cause)),
    };
    let hole = find(SeekFrom::Hole(from))?;
    let data = if hole == u64::MAX { hole } else { find(SeekFrom::Data(hole))? };
    Ok((hole, data))
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length; code with pointers into it has kept this value
        // alive.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Maps the first `len` bytes, shared, for reading and writing.
///
/// The mapping keeps the open file description alive: pass one that holds no lock.
pub(crate) fn map(file: BorrowedFd<'_>, len: usize) -> Result<Map> {
    map_for(file, len, libc::PROT_READ | libc::PROT_WRITE)
}

/// Maps the first `len` bytes for reading only. Writing through the pointer is a fault.
pub(crate) fn map_read_only(file: BorrowedFd<'_>, len: usize) -> Result<Map> {
    map_for(file, len, libc::PROT_READ)
}

fn map_for(file: BorrowedFd<'_>, len: usize, protection: i32) -> Result<Map> {
    let failed = |cause: io::Error| {
        Error::system(format!("cannot map {len} bytes of shared memory{}", hint(&cause)), cause)
    };
    // SAFETY: maps at an address that the kernel chooses, where nothing else is mapped.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return Err(failed(io::Error::last_os_error()));
    }
    let start =
        NonNull::new(start.cast()).ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EFAULT)))?;
    let map = Map { start, len };
    // SAFETY: the mapping is `map`'s. If the advice is refused, dumps are larger.
    unsafe { libc::madvise(map.as_mut_ptr().cast(), len, libc::MADV_DONTDUMP) };
    // SAFETY: as above; nothing has a pointer into it yet.
    if unsafe { libc::mprotect(map.as_mut_ptr().cast(), len, protection) } != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    Ok(map)
}

/// Returns advice for the user.
fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOMEM) => {
            " (address space is limited, see `ulimit -v`, or there are too many mappings: what grows \
             reserves 16 GiB each; a named one reserves less with `Place::reserve`, a pool with \
             `PoolBuilder::reserve`, and several share a `Segment::new(size)`, each at its `at(name)`)"
        }
        Some(libc::EAGAIN) => {
            " (the limit of locked memory, see `ulimit -l`: mlockall(MCL_FUTURE) locks what is mapped)"
        }
        _ => "",
    }
}
