//! The members of a set that are file descriptors, and the bell that its helpers ring: one list for `poll`.
//!
//! The set has duplicates, so a member may be closed while it waits. `poll` and not `epoll`: a list is this process's
//! alone, where an epoll instance would be shared with forked children, who could take members from it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::sys::clock::{now, timespec, Deadline};
use crate::{Error, Result};

/// Descriptors, each with its token.
#[derive(Debug, Default)]
pub(super) struct Files {
    owned: Vec<(usize, OwnedFd)>,
    /// An eventfd, once there are helpers.
    bell: Option<Arc<OwnedFd>>,
    /// One for each of `owned`, then the bell.
    polled: Vec<PollFd<'static>>,
}

impl Files {
    pub(super) fn add(&mut self, token: usize, file: OwnedFd) {
        self.owned.push((token, file));
        self.list();
    }

    /// Forgets the one with this token; says whether there was one.
    pub(super) fn remove(&mut self, token: usize) -> bool {
        let before = self.owned.len();
        // First the list, which borrows.
        self.polled.clear();
        self.owned.retain(|(other, _)| *other != token);
        self.list();
        self.owned.len() < before
    }

    fn list(&mut self) {
        let pollable = |file: &OwnedFd| {
            // SAFETY: whoever takes a descriptor out of `owned` or `bell` clears `polled` first.
            let file: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
            PollFd::from_borrowed_fd(file, PollFlags::IN)
        };
        self.polled.clear();
        self.polled.extend(self.owned.iter().map(|(_, file)| pollable(file)));
        self.polled.extend(self.bell.iter().map(|file| pollable(file)));
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.owned.iter().map(|(token, _)| *token)
    }

    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    /// What helpers ring. `None`: the process has too many open files.
    pub(super) fn bell(&mut self) -> Option<Arc<OwnedFd>> {
        if self.bell.is_none() {
            self.bell = Some(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?));
            self.list();
        }
        self.bell.clone()
    }

    /// Forgets the bell: after a fork it is the parent's too, who would miss what is taken from it here.
    pub(super) fn leave_bell(&mut self) {
        self.polled.clear();
        self.bell = None;
        self.list();
    }

    /// Takes what has been rung, when nobody rings any more.
    pub(super) fn silence(&self) {
        if let Some(bell) = &self.bell {
            // Fails if nobody has rung.
            let _ = rustix::io::read(bell, &mut [0u8; 8]);
        }
    }

    /// Appends the tokens of those that are readable, or at their end, or broken.
    pub(super) fn look(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        if self.owned.is_empty() {
            return Ok(());
        }
        let polled = &mut self.polled[..self.owned.len()];
        loop {
            match poll(polled, Some(&timespec(0))) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(cause) => {
                    return Err(Error::system("cannot look at the descriptors of a set (poll)", cause))
                }
            }
        }
        let tokens = self.owned.iter().zip(polled);
        ready.extend(tokens.filter(|(_, polled)| !polled.revents().is_empty()).map(|((token, _), _)| *token));
        Ok(())
    }

    /// Sleeps until one of them is, or the bell has been rung; until `deadline` at most. False: that has passed.
    pub(super) fn sleep(&mut self, deadline: Deadline) -> bool {
        let timeout = match deadline {
            Deadline::Never => None,
            Deadline::At(at) => Some(timespec(at.saturating_sub(now()))),
        };
        // A failure, the look that follows has too, and says so.
        poll(&mut self.polled, timeout.as_ref()) != Ok(0)
    }
}
