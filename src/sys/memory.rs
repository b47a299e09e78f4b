//! Files to map: memfds, and unnamed files that get a name when they are complete.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, IFlags, MemfdFlags, Mode, OFlags, SealFlags, CWD};
use rustix::io::{retry_on_intr, Errno};

use super::descriptor::above_standard;
use crate::{Error, ErrorKind, Result};

/// Creates an anonymous file of `size` bytes, sealed against shrinking and growing so that no peer
/// can cause SIGBUS by truncation.
pub(crate) fn sealed_memfd(name: &str, size: u64) -> Result<OwnedFd> {
    let memfd = memfd(name, MemfdFlags::ALLOW_SEALING)?;
    resize(memfd.as_fd(), size)?;
    fs::fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|cause| Error::system("cannot seal anonymous memory", cause))?;
    Ok(memfd)
}

/// Returns whether no process can shrink this file.
#[cfg(not(loom))]
pub(crate) fn is_sealed(file: BorrowedFd<'_>) -> bool {
    fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// Creates an anonymous file of length 0 that cannot be executed, because some kernels refuse
/// executable ones.
pub(crate) fn memfd(name: &str, flags: MemfdFlags) -> Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC;
    let memfd = match fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // The error of kernels before 6.3.
        Err(Errno::INVAL) => fs::memfd_create(name, flags),
        memfd => memfd,
    };
    memfd.and_then(above_standard).map_err(|cause| match cause {
        Errno::NOSYS => unsupported(
            "this kernel, or the sandbox, has no memfd_create, which anonymous objects need",
            cause,
        ),
        cause => Error::system("cannot create anonymous memory (memfd_create)", cause),
    })
}

fn unsupported(what: impl std::fmt::Display, cause: Errno) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what}: {cause}"))
}

/// Returns the error for a missing directory, the caller's or the default one.
fn no_directory(dir: &Path, cause: Errno) -> Error {
    let kind = if dir == Path::new("/dev/shm") { ErrorKind::Unsupported } else { ErrorKind::InvalidInput };
    let text = format!(
        "there is no directory {}: create it, or use another (Place::in_dir): {cause}",
        dir.display()
    );
    Error::new(kind, text)
}

/// Returns the directory's absolute path without links, which is valid in other working
/// directories.
pub(crate) fn canonical(dir: &Path) -> Result<PathBuf> {
    dir.canonicalize().map_err(|cause| match cause.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => no_directory(dir, Errno::NOENT),
        _ => Error::system(format!("cannot find the directory {}", dir.display()), cause),
    })
}

/// Creates a file in `dir` without a name, which it gets by [`link`]. A crash before that leaves
/// nothing.
pub(crate) fn unnamed_file(dir: &Path, size: u64, mode: u32) -> Result<OwnedFd> {
    let file = open_file(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
    let file = file.and_then(above_standard);
    let file = file.map_err(|cause| match cause {
        Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOSYS | Errno::INVAL => unsupported(
            format_args!(
                "the file system of {}, or the sandbox, has no O_TMPFILE, without which a segment cannot \
                 appear complete or not at all; use a directory on tmpfs, ext4, xfs or btrfs",
                dir.display()
            ),
            cause,
        ),
        Errno::NOENT | Errno::NOTDIR => no_directory(dir, cause),
        cause => Error::system(format!("cannot create a segment in the directory {}", dir.display()), cause),
    })?;
    // btrfs writes a committed page to another block, unless the file is marked while it is empty.
    // Even then the kernel searches for free space first. On a full file system there may be none,
    // and the write ends in SIGBUS. The README warns of that.
    const BTRFS: i128 = 0x9123_683e;
    if fs::fstatfs(&file).is_ok_and(|found| i128::from(found.f_type) == BTRFS) {
        let _ = fs::ioctl_getflags(&file).and_then(|flags| fs::ioctl_setflags(&file, flags | IFlags::NOCOW));
    }
    // Not subject to the umask, because the caller chose the permissions.
    fs::fchmod(&file, Mode::from_raw_mode(mode))
        .map_err(|cause| Error::system("cannot set the permissions of a segment", cause))?;
    resize(file.as_fd(), size)?;
    Ok(file)
}

fn resize(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    without_size_signal(|| retry_on_intr(|| fs::ftruncate(file, size)))
        .map_err(|cause| Error::system(format!("cannot reserve {size} bytes of shared memory"), cause))
}

/// Links an unnamed file to the name `path`, atomically. Returns false if the name is taken.
pub(crate) fn link(file: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    match fs::linkat(CWD, by_descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(cause @ (Errno::NOENT | Errno::NOSYS)) if path.parent().is_some_and(Path::is_dir) => Err(
            unsupported("cannot give a segment its name through /proc/self/fd (is /proc mounted?)", cause),
        ),
        Err(cause @ Errno::NOENT) => Err(no_directory(path.parent().unwrap_or(path), cause)),
        Err(cause) => Err(Error::system(format!("cannot publish the segment as {}", path.display()), cause)),
    }
}

/// Opens a file. Tries again after a signal, which can interrupt network and user-space file
/// systems.
fn open_file(path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    retry_on_intr(|| fs::open(path.as_ref(), flags, mode))
}

/// Opens an existing file for mapping. Refuses links and anything that is not a regular file.
pub(crate) fn open(path: &Path, write: bool) -> Result<OwnedFd> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        open_file(path, flags, Mode::empty()).and_then(above_standard).map_err(|cause| match cause {
            Errno::NOENT => Error::new(
                ErrorKind::NotFound,
                format!("there is no {}: nobody has created it, or its last user has left", path.display()),
            ),
            Errno::ACCESS => {
                let whose = fs::lstat(path).map_or(String::new(), |stat| {
                    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o777);
                    format!(": its owner (user {owner}, mode {mode:04o}) or root can open or remove it")
                });
                Error::system(format!("cannot open the segment {}{whose}", path.display()), cause)
            }
            // A link, a socket or a directory, which the kernel's reason does not tell.
            Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR => {
                match fs::lstat(path).map(|stat| kind_of(&stat)) {
                    Ok(kind) if !kind.is_file() => no_segment(path, kind),
                    _ => Error::system(format!("cannot open the segment {}", path.display()), cause),
                }
            }
            cause => Error::system(format!("cannot open the segment {}", path.display()), cause),
        })?;
    match kind_of(&stat(file.as_fd())?) {
        FileType::RegularFile => Ok(file),
        kind => Err(no_segment(path, kind)),
    }
}

fn kind_of(stat: &fs::Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns the error for a file with the name `path` that cannot be a segment. It can be removed by
/// its name, unless it is a directory.
#[cold]
pub(crate) fn no_segment(path: &Path, kind: FileType) -> Error {
    let path = path.display();
    let what = match kind {
        FileType::Directory => {
            let text = format!("{path} is a directory and no segment: move it away, or use another name");
            return Error::new(ErrorKind::System, text);
        }
        FileType::Symlink => "a symbolic link",
        FileType::Socket => "a socket",
        FileType::Fifo => "a FIFO",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "no regular file",
    };
    Error::new(
        ErrorKind::Corrupted,
        format!("{path} is {what} and no segment: remove it, or use another name"),
    )
}

/// Opens the same file once more, with an open file description of its own.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    let again = open_file(by_descriptor(file), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    again.and_then(above_standard).map_err(|cause| match cause {
        Errno::NOENT => {
            unsupported("cannot open shared memory again through /proc/self/fd (is /proc mounted?)", cause)
        }
        cause => Error::system("cannot open shared memory again through /proc/self/fd", cause),
    })
}

/// Opens the file that another process of this user has open as `file`.
pub(crate) fn open_of(pid: u32, file: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{file}");
    let again = open_file(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    again.and_then(above_standard).map_err(|cause| match cause {
        Errno::NOENT if Path::new("/proc/self/fd").exists() => Error::new(
            ErrorKind::NotFound,
            format!(
                "process {pid} has ended, or closed its shared memory: take the \
                 object from one that has it open"
            ),
        ),
        Errno::NOENT => unsupported(
            format_args!(
                "cannot open the shared memory of process {pid} through /proc/{pid}/fd (is /proc mounted?)"
            ),
            cause,
        ),
        cause => Error::system(
            format!("cannot open the shared memory of process {pid} through its /proc/{pid}/fd"),
            cause,
        ),
    })
}

/// Opens the file of the mapping that begins at `start` in this process. Needs CAP_SYS_ADMIN or
/// CAP_CHECKPOINT_RESTORE.
pub(crate) fn open_mapped(start: usize) -> Result<OwnedFd> {
    let failed =
        |cause: std::io::Error| Error::system("cannot open shared memory again by its mapping", cause);
    let maps = std::fs::read_to_string("/proc/thread-self/maps").map_err(failed)?;
    let head = format!("{start:x}-");
    let range = maps.lines().find(|line| line.starts_with(&head)).and_then(|line| line.split(' ').next());
    let path = format!("/proc/self/map_files/{}", range.ok_or_else(|| failed(Errno::NOENT.into()))?);
    let file = open_file(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).and_then(above_standard);
    file.map_err(|cause| failed(cause.into()))
}

fn by_descriptor(file: BorrowedFd<'_>) -> PathBuf {
    // The thread's path, because the process has no descriptors there once its main thread has
    // ended.
    PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
}

/// Returns length, number of names, and identity of an open file.
pub(crate) fn stat(file: BorrowedFd<'_>) -> Result<fs::Stat> {
    fs::fstat(file).map_err(|cause| Error::system("cannot examine an open segment", cause))
}

/// Returns whether `path` now refers to this open file.
pub(crate) fn is_called(file: BorrowedFd<'_>, path: &Path) -> bool {
    match (fs::fstat(file), fs::lstat(path)) {
        (Ok(here), Ok(there)) => (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino),
        _ => false,
    }
}

/// Returns the path of an open file, as this process sees it now: it follows directories that are
/// renamed. `None` if there is none.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(by_descriptor(file)).ok().filter(|path| path.is_absolute())
}

/// Runs `grow` without the signal for growing a file beyond the user's limit (`ulimit -f`). The
/// kernel sends it beside the error, and it would end the process. The error is enough.
pub(crate) fn without_size_signal<R>(
    grow: impl FnOnce() -> std::result::Result<R, Errno>,
) -> std::result::Result<R, Errno> {
    // SAFETY: both sets are this function's own, and are filled before they are read; signals are
    // blocked and taken for this thread only.
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

/// Returns a random number, never 0: a part of a name that no other process chooses.
pub(crate) fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the kernel writes at most 8 bytes, which are ours.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 8, 0) };
    match u64::from_ne_bytes(bytes) {
        number if count == 8 && number != 0 => number,
        // A sandbox may refuse the call. Then std's own random keys are used.
        _ => std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), bytes) | 1,
    }
}

/// Reads up to `buffer.len()` bytes at `offset` without mapping; returns the number read.
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
