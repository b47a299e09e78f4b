//! Descriptors of the library: none is a standard stream, and each is proved to be the library's
//! own before it is used.
//!
//! Any part of a program can close a descriptor (daemonizing code calls `close_range(3, ~0)`). Then
//! its number refers to the next file that is opened. So a [`Kept`] descriptor carries two proofs:
//! the identity of its file, and a file offset that only this library sets. The offset belongs to
//! the open file description, so a file that the program has opened itself does not pass, even if
//! it is the same file. The library reads and writes at explicit offsets only.

use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use rustix::fs::{fstat, seek, SeekFrom};
use rustix::io::{fcntl_dupfd_cloexec, Errno};

use crate::{Error, Result};

/// The first descriptor that is not standard input, output or error.
const FIRST_FREE: i32 = 3;
/// Offsets up to here are possible on every file system.
const MARK_BITS: u32 = 43;

/// Returns the same open file under a number that is not that of a standard stream, as std does for
/// its own descriptors.
///
/// Without this, a program that has closed its standard streams would print into shared memory.
pub(crate) fn above_standard(file: OwnedFd) -> Result<OwnedFd, Errno> {
    if file.as_raw_fd() >= FIRST_FREE {
        return Ok(file);
    }
    fcntl_dupfd_cloexec(&file, FIRST_FREE)
}

/// Device and inode, which identify a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// Returns the identity of `file`.
pub(crate) fn identity(file: BorrowedFd<'_>) -> Result<Identity, Errno> {
    fstat(file).map(|stat| Identity(stat.st_dev, stat.st_ino))
}

/// A descriptor that is open for a long time, while the program may close or replace it.
#[derive(Debug)]
pub(crate) struct Kept {
    number: AtomicI32,
    identity: Identity,
    mark: u64,
}

impl Kept {
    /// Keeps `file`. Nobody else may have its description, and nobody may read or write at its
    /// current offset.
    pub(crate) fn new(file: OwnedFd) -> Result<Kept> {
        let failed = |cause| Error::system("cannot keep the descriptor of a segment", cause);
        let file = above_standard(file).map_err(failed)?;
        let identity = identity(file.as_fd()).map_err(failed)?;
        // A new hasher has new random keys each time.
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let mark = random >> (u64::BITS - MARK_BITS) | 1;
        seek(&file, SeekFrom::Start(mark)).map_err(failed)?;
        Ok(Kept { number: AtomicI32::new(file.into_raw_fd()), identity, mark })
    }

    /// Returns the descriptor if it is still the one that was kept.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        let number = self.number.load(Relaxed);
        // SAFETY: not -1. The number may refer to any file, or none; it is only used in calls that
        // identify the file and change nothing.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        let is_ours =
            identity(file) == Ok(self.identity) && seek(file, SeekFrom::Current(0)) == Ok(self.mark);
        is_ours.then_some(file)
    }

    /// Returns the identity of the file that was kept, whatever the number refers to now.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Keeps `file`, another description of the same file, in the place of a descriptor that is
    /// gone.
    pub(crate) fn replace(&self, file: OwnedFd) -> Result<()> {
        let failed = |cause| Error::system("cannot keep the descriptor of a segment", cause);
        let file = above_standard(file).map_err(failed)?;
        seek(&file, SeekFrom::Start(self.mark)).map_err(failed)?;
        let before = self.number.load(Relaxed);
        if self.get().is_some() {
            return Ok(()); // another thread was first
        }
        if self.number.compare_exchange(before, file.as_raw_fd(), Relaxed, Relaxed).is_ok() {
            let _ = file.into_raw_fd();
        }
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(file) = self.get() {
            let number = file.as_raw_fd();
            // SAFETY: just proved to be ours, and not used after this.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// A descriptor without an offset that could mark it: of a pidfd, a memfd, an eventfd.
///
/// All eventfds have one identity, and so have all pidfds before Linux 6.9. So the mark is in the
/// open file description: the signal that it would send if it were made to send signals
/// (`F_SETSIG`). A pidfd or an eventfd of the program's own has no such mark. Another marked one of
/// this library that gets the same number is not detected.
#[derive(Debug)]
pub(crate) struct Own {
    number: i32,
    identity: Identity,
    /// False where the kernel, or a sandbox, permits no mark.
    is_marked: bool,
}

/// The signal that is the mark: one that no file sends. It is the same for all descriptors, because
/// processes that share a description may mark it at any time.
const MARK: i32 = 57;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

fn is_marked(file: BorrowedFd<'_>) -> bool {
    // SAFETY: reads a number that belongs to the description, whatever file that is.
    unsafe { libc::fcntl(file.as_raw_fd(), F_GETSIG) == MARK }
}

fn mark(file: BorrowedFd<'_>) -> bool {
    // SAFETY: sets a number that is used only if the description is made to send signals, which
    // none of this library's is.
    unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, MARK) };
    is_marked(file)
}

impl Own {
    pub(crate) fn new(file: OwnedFd) -> Result<Own, Errno> {
        let file = above_standard(file)?;
        let (identity, is_marked) = (identity(file.as_fd())?, mark(file.as_fd()));
        Ok(Own { number: file.into_raw_fd(), identity, is_marked })
    }

    /// Returns the descriptor, if its number still refers to the file.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        let file = self.number();
        (identity(file) == Ok(self.identity) && (!self.is_marked || is_marked(file))).then_some(file)
    }

    /// Returns the descriptor, or an error that says what the program has done.
    pub(crate) fn proved(&self) -> Result<BorrowedFd<'_>> {
        self.get().ok_or_else(|| {
            Error::system("this program has closed a descriptor that belongs to pagemate", Errno::BADF)
        })
    }

    /// Returns the number, whatever it refers to now.
    pub(crate) fn number(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1, since it was open; callers ask the kernel what the number refers to.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }

    /// Gives up ownership of the descriptor.
    pub(crate) fn into_file(self) -> Result<OwnedFd> {
        let number = self.proved()?.as_raw_fd();
        std::mem::forget(self);
        // SAFETY: just proved to be ours, and nobody else closes it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(file) = self.get() {
            let number = file.as_raw_fd();
            // SAFETY: as in into_file.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{memfd_create, MemfdFlags};

    fn memfd() -> OwnedFd {
        memfd_create("test-kept", MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn another_file_under_the_number_is_left_alone() {
        let own = Own::new(memfd()).unwrap();
        let number = own.number().as_raw_fd();
        let other = memfd();
        // SAFETY: puts another file under the number.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        assert!(own.get().is_none() && own.proved().is_err());
        drop(own);
        // SAFETY: the number is open, by the dup2 above, and closed by nobody else.
        let still = unsafe { OwnedFd::from_raw_fd(number) };
        assert_eq!(identity(still.as_fd()), identity(other.as_fd()));
    }

    #[test]
    fn an_eventfd_of_the_program_is_not_taken_for_the_librarys() {
        use rustix::event::{eventfd, EventfdFlags};
        let new = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let own = Own::new(new()).unwrap();
        assert!(own.get().is_some());
        // A duplicate shares the description and so has the mark.
        let copy = Own::new(fcntl_dupfd_cloexec(own.number(), 3).unwrap()).unwrap();
        assert!(own.get().is_some() && copy.get().is_some());
        let (number, other) = (own.number().as_raw_fd(), new());
        // SAFETY: puts another file under the number.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        assert!(own.get().is_none() && own.proved().is_err());
        drop(own);
        // SAFETY: the number is open, by the dup2 above, and closed by nobody else.
        let still = unsafe { OwnedFd::from_raw_fd(number) };
        assert!(identity(still.as_fd()).is_ok(), "the program's own was closed");
    }

    #[test]
    fn a_descriptor_that_means_another_file_is_neither_used_nor_closed() {
        let kept = Kept::new(memfd()).unwrap();
        let number = kept.get().unwrap().as_raw_fd();
        let other = memfd();
        // SAFETY: puts another file under the number, as code does that closes all descriptors and
        // opens others.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        assert!(kept.get().is_none());
        drop(kept);
        // SAFETY: the number is open, by the dup2 above, and closed by nobody else.
        let still = unsafe { OwnedFd::from_raw_fd(number) };
        assert_eq!(identity(still.as_fd()), identity(other.as_fd()));
    }

    #[test]
    fn another_description_of_the_same_file_is_not_taken_for_it() {
        let kept = Kept::new(memfd()).unwrap();
        let number = kept.get().unwrap().as_raw_fd();
        let again = || {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open(format!("/proc/self/fd/{number}"), flags, rustix::fs::Mode::empty()).unwrap()
        };
        let other = again();
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        assert!(kept.get().is_none());
        kept.replace(again()).unwrap();
        assert_ne!(kept.get().unwrap().as_raw_fd(), number);
        // SAFETY: as above.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
