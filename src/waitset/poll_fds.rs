//! The members of a set that are file descriptors, and the bell that its helpers ring, in one list
//! for `poll`.
//!
//! The set has duplicates, so a member may be closed while the set waits. It uses `poll` and not
//! `epoll`, because a list belongs to this process alone. An epoll instance would be shared with
//! forked children, which could remove members from it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::sys::clock::{timespec, Until};
use crate::sys::descriptor::Own;
use crate::{Error, Result};

/// Descriptors, each with its token.
#[derive(Debug, Default)]
pub(super) struct Files {
    owned: Vec<(usize, Own)>,
    /// The bell: an eventfd, created when helpers are.
    bell: Option<Arc<Own>>,
    /// One entry for each of `owned`, then the bell.
    polled: Vec<PollFd<'static>>,
}

impl Files {
    pub(super) fn add(&mut self, token: usize, file: OwnedFd) -> Result<()> {
        let file =
            Own::new(file).map_err(|cause| Error::system("cannot keep a descriptor in a set", cause))?;
        self.owned.push((token, file));
        self.list();
        Ok(())
    }

    /// Removes the descriptor with this token; returns whether there was one.
    pub(super) fn remove(&mut self, token: usize) -> bool {
        let before = self.owned.len();
        // First the list, which borrows the descriptor.
        self.polled.clear();
        self.owned.retain(|(other, _)| *other != token);
        self.list();
        self.owned.len() < before
    }

    fn list(&mut self) {
        let pollable = |file: &Own| {
            // SAFETY: all code that removes a descriptor from `owned` or `bell` clears `polled`
            // first.
            let file: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(file.number().as_raw_fd()) };
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

    /// Returns the bell for the helpers. `None` if the process has too many open files.
    pub(super) fn bell(&mut self) -> Option<Arc<Own>> {
        if self.bell.is_none() {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).and_then(Own::new);
            self.bell = Some(Arc::new(bell.ok()?));
            self.list();
        }
        self.bell.clone()
    }

    /// Returns whether the program has closed the bell. Then `poll` returns at once, each time.
    pub(super) fn has_lost_bell(&self) -> bool {
        self.bell.as_ref().is_some_and(|bell| bell.get().is_none())
    }

    /// Forgets the bell. After a fork it is also the parent's, which would miss the rings that this
    /// process takes.
    pub(super) fn leave_bell(&mut self) {
        self.polled.clear();
        self.bell = None;
        self.list();
    }

    /// Takes the rings, when no helper rings any more.
    pub(super) fn silence(&self) {
        if let Some(bell) = &self.bell {
            // Fails if no helper has rung.
            let _ = bell.get().map(|bell| rustix::io::read(bell, &mut [0u8; 8]));
        }
    }

    /// Appends the tokens of the descriptors that are readable, at their end, or broken.
    pub(super) fn poll_now(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        if self.owned.is_empty() {
            return Ok(());
        }
        let polled = &mut self.polled[..self.owned.len()];
        loop {
            match poll(polled, Some(&timespec(0))) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(cause) => return Err(Error::system("cannot poll the descriptors of a set", cause)),
            }
        }
        let tokens = self.owned.iter().zip(polled);
        ready.extend(tokens.filter(|(_, polled)| !polled.revents().is_empty()).map(|((token, _), _)| *token));
        Ok(())
    }

    /// Sleeps until a descriptor is ready or the bell rings, or until `end`. Returns false if the
    /// end has passed.
    pub(super) fn sleep(&mut self, end: Until) -> bool {
        let timeout = end.nanos().map(timespec);
        // If this fails, the check that follows fails too, and reports it.
        poll(&mut self.polled, timeout.as_ref()) != Ok(0)
    }
}
