//! This process's part in one segment: its owner id and the lock that says "alive".
//!
//! Both are valid in one process only. The states are those of [`word`](super::word). The page is
//! stored before the word says that the process takes part. Only the thread that has taken the word
//! takes the page.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | byte locked, line not yet written | nobody needs to | the kernel drops the lock | nothing |
//! | line written, a descriptor still has the lock | as any death | as any death | nothing |
//! | copied while a thread joins | the copy, by its epoch | it joins anew | nothing |

use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::word::{Turn, Word};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::sys::hold::Hold;
use crate::{Error, ErrorKind, Result};

/// How long a thread waits for another one that is joining.
const PATIENCE: Duration = Duration::from_secs(10);

/// An owner id and its lock, and the process that they belong to.
#[derive(Debug)]
pub(crate) struct Membership {
    word: Word,
    /// The mapping that holds the lock; belongs to the process in `word`.
    page: AtomicPtr<libc::c_void>,
}

impl Membership {
    /// Creates the membership of a process that does not take part yet.
    pub(crate) fn none() -> Membership {
        Membership { word: Word::new(), page: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Returns this process's id, if it takes part. Two loads.
    #[inline]
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        self.word.owner(fork::epoch())
    }

    /// Makes this process take part by calling `join`, in one thread only.
    pub(crate) fn enter(&self, join: impl FnOnce() -> Result<(OwnerId, Hold)>) -> Result<OwnerId> {
        let epoch = fork::ensure_epoch();
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.word.begin(epoch) {
                Turn::In(owner) => return Ok(owner),
                Turn::Mine => break,
                Turn::Others if deadline.has_passed() => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        "another thread of this process is attaching to the segment and does not finish",
                    ));
                }
                Turn::Others => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        match join() {
            Ok((owner, hold)) => {
                self.page.store(hold.into_raw(), Relaxed);
                self.word.finish(epoch, owner);
                Ok(owner)
            }
            Err(error) => {
                self.word.give_up();
                Err(error)
            }
        }
    }

    /// Ends the membership and returns its id and lock, if this process takes part.
    ///
    /// For its last user: a thread that joined anew at the same time would store a page that this
    /// takes.
    pub(crate) fn take(&mut self) -> Option<(OwnerId, Hold)> {
        let owner = self.word.take(fork::epoch())?;
        let page = std::mem::replace(self.page.get_mut(), std::ptr::null_mut());
        // SAFETY: the page was stored by `enter` in this process, as the epoch says, and is taken
        // out here.
        unsafe { Hold::from_raw(page) }.map(|hold| (owner, hold))
    }
}
