//! Open-file-description locks on single bytes far above the data, by which the kernel says which
//! participant is alive.
//!
//! Such a lock belongs to an open file description. It is released when the last reference to the
//! description goes, however the process ends, and a stopped process keeps it. `F_OFD_GETLK` costs
//! about half a microsecond. See `fcntl(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Offset of the byte of participant 0: above anything that a segment can hold.
const BASE: i64 = 1 << 62;

/// Describes the byte of one participant, or of `count` of them from `index` on.
fn request(kind: i32, index: usize, count: usize) -> libc::flock {
    // SAFETY: flock is plain data, for which zero bytes are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = BASE + index as i64;
    lock.l_len = count as i64;
    lock
}

fn fcntl(file: BorrowedFd<'_>, command: i32, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open for the borrow, and the command takes a flock, which
        // `lock` is.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, lock as *mut libc::flock) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Locks the bytes `index..index + count` if no other description holds any of them. Returns
/// false if one does.
pub(crate) fn try_lock(file: BorrowedFd<'_>, index: usize, count: usize) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, &mut request(libc::F_WRLCK, index, count)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Unlocks the bytes.
#[cfg(feature = "shared_memory")]
pub(crate) fn unlock(file: BorrowedFd<'_>, index: usize, count: usize) -> io::Result<()> {
    fcntl(file, libc::F_OFD_SETLK, &mut request(libc::F_UNLCK, index, count))
}

/// Returns the width in bytes of the first lock that *another* description holds among
/// `index..index + count`; 0 if there is none.
pub(crate) fn held_by_others(file: BorrowedFd<'_>, index: usize, count: usize) -> io::Result<usize> {
    let mut lock = request(libc::F_WRLCK, index, count);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(0);
    }
    // A length of 0 means up to the end of all offsets.
    Ok(if lock.l_len == 0 { usize::MAX } else { lock.l_len as usize })
}
