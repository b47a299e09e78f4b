//! Files to map: memfds, unnamed files that get a name when they are complete, committed pages.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{self, AtFlags, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, CWD};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// An anonymous file of `size` bytes, sealed against shrinking and growing so that no peer can cause SIGBUS by truncation.
pub(crate) fn sealed_memfd(name: &str, size: u64) -> Result<OwnedFd> {
    let memfd = fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|cause| Error::system("cannot create anonymous memory (memfd_create)", cause))?;
    resize(memfd.as_fd(), size)?;
    fs::fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|cause| Error::system("cannot seal anonymous memory", cause))?;
    Ok(memfd)
}

/// A file in `dir` without a name. A crash leaves nothing of it; [`link`] gives it its name.
pub(crate) fn unnamed_file(dir: &Path, size: u64, mode: u32) -> Result<OwnedFd> {
    let file = fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
    let file = file.map_err(|cause| match cause {
        Errno::OPNOTSUPP | Errno::ISDIR => Error::new(
            ErrorKind::Unsupported,
            format!(
                "the file system of {} has no O_TMPFILE, without which a segment cannot appear complete or not at all; \
                 use a directory on tmpfs, ext4, xfs or btrfs",
                dir.display()
            ),
        ),
        cause => Error::system(format!("cannot create a segment in the directory {}", dir.display()), cause),
    })?;
    // Not subject to the umask: the caller said which permissions it wants.
    fs::fchmod(&file, Mode::from_raw_mode(mode))
        .map_err(|cause| Error::system("cannot set the permissions of a segment", cause))?;
    resize(file.as_fd(), size)?;
    Ok(file)
}

fn resize(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    without_size_signal(|| fs::ftruncate(file, size))
        .map_err(|cause| Error::system(format!("cannot reserve {size} bytes of shared memory"), cause))
}

/// Gives an unnamed file the name `path`, at once or not at all. False: the name is taken.
pub(crate) fn link(file: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    match fs::linkat(CWD, by_descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(cause) => Err(Error::system(format!("cannot publish the segment as {}", path.display()), cause)),
    }
}

/// Opens an existing file for mapping. Refuses links and what is not a regular file.
pub(crate) fn open(path: &Path, write: bool) -> Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::open(path, flags, Mode::empty()).map_err(|cause| match cause {
        Errno::NOENT => Error::new(
            ErrorKind::NotFound,
            format!("there is no {}: nobody has created it, or its last user has left", path.display()),
        ),
        cause => Error::system(format!("cannot open the segment {}", path.display()), cause),
    })?;
    let stat = fs::fstat(&file).map_err(|cause| Error::system("cannot look at an open segment", cause))?;
    if !fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Error::new(ErrorKind::Corrupted, format!("{} is not a regular file", path.display())));
    }
    Ok(file)
}

/// Opens the same file once more, as an open file description of its own.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    fs::open(by_descriptor(file), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|cause| {
        let hint = if cause == Errno::NOENT { " (is /proc mounted?)" } else { "" };
        Error::system(format!("cannot open shared memory again through /proc/self/fd{hint}"), cause)
    })
}

/// Opens what another process of this user has open as `file`.
pub(crate) fn open_of(pid: u32, file: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{file}");
    fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|cause| {
        Error::system(
            format!("cannot open the shared memory of process {pid} through its /proc/{pid}/fd"),
            cause,
        )
    })
}

fn by_descriptor(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Length, number of names, and identity of an open file.
pub(crate) fn stat(file: BorrowedFd<'_>) -> Result<fs::Stat> {
    fs::fstat(file).map_err(|cause| Error::system("cannot look at an open segment", cause))
}

/// Whether `path` now means this open file.
pub(crate) fn is_called(file: BorrowedFd<'_>, path: &Path) -> bool {
    match (fs::fstat(file), fs::lstat(path)) {
        (Ok(here), Ok(there)) => (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino),
        _ => false,
    }
}

/// Removes a name.
pub(crate) fn unlink(path: &Path) -> Result<()> {
    match fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(cause) => Err(Error::system(format!("cannot remove the segment {}", path.display()), cause)),
    }
}

/// What makes a file grow beyond the limit that the user has set (`ulimit -f`) sends a signal that ends the process, beside the error. The error
/// is enough.
fn without_size_signal<R>(
    grow: impl FnOnce() -> std::result::Result<R, Errno>,
) -> std::result::Result<R, Errno> {
    // SAFETY: both sets are this function's own, and are filled before they are read; signals are blocked and taken for this thread only.
    unsafe {
        let (mut signal, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigemptyset(&mut signal);
        libc::sigaddset(&mut signal, libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signal, &mut before);
        let result = grow();
        if matches!(result, Err(Errno::FBIG)) && libc::sigismember(&before, libc::SIGXFSZ) == 0 {
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(&signal, std::ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// Commits larger than this are held against the memory that the machine has left.
const LARGE: u64 = 64 << 20;

/// Makes sure that the pages of `start..start + len` exist, so that touching them cannot fail.
pub(crate) fn commit(file: BorrowedFd<'_>, start: u64, len: u64) -> Result<()> {
    let no_room = || {
        Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "no room for {len} more bytes of shared memory: the shared-memory file system (see `df`), the memory limit or \
                 the machine's memory is full; nothing was changed"
            ),
        )
    };
    if len > LARGE && is_memory(file) && available_memory().is_some_and(|available| len > available) {
        return Err(no_room());
    }
    loop {
        match without_size_signal(|| fs::fallocate(file, FallocateFlags::KEEP_SIZE, start, len)) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM) => return Err(no_room()),
            Err(cause) => {
                return Err(Error::system(format!("cannot commit {len} bytes of shared memory"), cause))
            }
        }
    }
}

/// Whether the file's pages are memory. Such a file can be larger than what is left; then the kernel does not refuse, it kills.
fn is_memory(file: BorrowedFd<'_>) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    fs::fstatfs(file).is_ok_and(|found| i128::from(found.f_type) == TMPFS)
}

/// How many bytes can be used before the machine runs out, as the kernel estimates.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Maps the first `len` bytes, shared, for reading and writing.
///
/// The mapping keeps the open file description alive: pass one that holds no lock.
pub(crate) fn map(file: BorrowedFd<'_>, len: usize) -> Result<MmapRaw> {
    MmapOptions::new()
        .len(len)
        .map_raw(file.as_raw_fd())
        .map_err(|cause| {
            let hint = match cause.raw_os_error() {
                Some(libc::ENOMEM) => {
                    " (address space is limited, see `ulimit -v`, or there are too many mappings: what grows reserves 16 GiB each, \
                     less with `Place::reserve`, and together in a `Manager`)"
                }
                _ => "",
            };
            Error::system(format!("cannot map {len} bytes of shared memory{hint}"), cause)
        })
}

/// Maps the first `len` bytes for reading only. Writing through the pointer is a fault.
pub(crate) fn map_read_only(file: BorrowedFd<'_>, len: usize) -> Result<MmapRaw> {
    MmapOptions::new()
        .len(len)
        .map_raw_read_only(file.as_raw_fd())
        .map_err(|cause| Error::system(format!("cannot map {len} bytes of shared memory"), cause))
}

/// Reads up to `buffer.len()` bytes at `offset` without mapping; gives how many there were.
pub(crate) fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(cause) => return Err(Error::system("cannot read a segment", cause)),
        }
    }
    Ok(done)
}
