//! Taking a place in the table: locking a byte, and writing the line that belongs to it.

use std::sync::atomic::Ordering::AcqRel;
use std::time::{Duration, SystemTime};

use super::Attachment;
use crate::segment::owner::{OwnerId, MAX_PARTICIPANTS};
use crate::sys::backing::{memory, ofd_lock, AsFd, BorrowedFd, Hold, OwnedFd};
use crate::sys::fork::{self, Window};
use crate::{Error, ErrorKind, Result};

/// Attempts at one index, each after the dead participant there was reaped.
const TRIES: usize = 100;

/// A place in the table that was taken, for this process or for a child: the locked description,
/// and the id.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) file: OwnedFd,
    pub(crate) owner: OwnerId,
    /// Blocks forks of this process while it has the descriptor. A fork's copy of it would keep the
    /// byte locked after the child's death.
    pub(crate) window: Window,
}

impl Attachment {
    /// Takes any free place for this process.
    pub(super) fn enter(&self) -> Result<(OwnerId, Hold)> {
        let seat = self.take_place(std::process::id())?;
        Ok((seat.owner, hold(seat.file)?))
    }

    /// Takes a place for a child that is about to be started.
    pub(crate) fn seat(&self) -> Result<Seat> {
        self.take_place(0)
    }

    /// Locks a free byte through a new description, and takes the line that belongs to it.
    fn take_place(&self, pid: u32) -> Result<Seat> {
        for index in 0..MAX_PARTICIPANTS {
            // A second turn is needed only if a participant dies here at this moment, or if stray
            // writes change the table.
            for _ in 0..TRIES {
                let file = self.file()?;
                // The occupant is read before the lock is checked: see the module doc of
                // `participant`.
                let occupant = self.view().line(index).occupant(index);
                let held = ofd_lock::held_by_others(file, index, 1).map_err(|cause| {
                    Error::system("cannot ask which processes are attached to the segment", cause)
                })?;
                if held > 0 {
                    break;
                }
                if self.file.get().is_none() {
                    continue; // the descriptor was closed, so the answer may be another file's
                }
                // The dead occupant is reaped before its byte is locked. While any process holds
                // the byte, even a stopped one, the dead one seems alive.
                occupant.into_iter().for_each(|dead| self.reap(dead));
                // The window is opened before the description, because a child that is forked in
                // between would share the lock that is taken later.
                let window = fork::window();
                let file = memory::reopen(self.file()?)?;
                if !try_lock(file.as_fd(), index, 1)? {
                    break;
                }
                if let Ok(owner) = self.occupy(index, pid) {
                    return Ok(Seat { file, owner, window });
                }
            }
        }
        Err(table_is_full())
    }

    /// Takes the line of a byte that this process has locked already. Does not unlock the byte on
    /// failure, because the lock keeps the segment's name.
    pub(super) fn enter_at(&self, index: usize) -> Result<OwnerId> {
        for _ in 0..TRIES {
            match self.occupy(index, std::process::id()) {
                Ok(owner) => return Ok(owner),
                Err(dead) => self.reap(dead),
            }
        }
        Err(Error::new(ErrorKind::Corrupted, "the table of participants keeps being overwritten"))
    }

    /// Writes the line. Returns the new id, or the dead participant that must be reaped first.
    pub(super) fn occupy(&self, index: usize, pid: u32) -> std::result::Result<OwnerId, OwnerId> {
        // `high` is raised before the line is written, so that a check for the dead reaches the
        // line. Pairs with View::high().
        self.view().header().high.fetch_max(index as u32 + 1, AcqRel);
        self.view().line(index).occupy(index, pid, unix_time().as_secs() as u32)
    }
}

/// Moves the lock of a place into a mapping.
pub(super) fn hold(file: OwnedFd) -> Result<Hold> {
    Hold::take(file).map_err(|cause| {
        Error::system("cannot map the page that keeps this process's place in the segment", cause)
    })
}

#[cold]
pub(super) fn table_is_full() -> Error {
    let text = format!("all {MAX_PARTICIPANTS} places for participants of this segment are taken");
    Error::new(ErrorKind::OutOfMemory, text)
}

pub(super) fn try_lock(file: BorrowedFd<'_>, index: usize, count: usize) -> Result<bool> {
    ofd_lock::try_lock(file, index, count).map_err(|cause| match cause.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => Error::new(
            ErrorKind::Unsupported,
            format!(
                "this file system, or the sandbox, has no open-file-description locks (see fcntl(2)), by \
                 which processes are told \
                 apart from the dead; use tmpfs or a local disk: {cause}"
            ),
        ),
        _ => Error::system("cannot lock a place in the segment", cause),
    })
}

pub(super) fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
