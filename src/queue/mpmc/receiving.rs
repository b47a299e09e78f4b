//! The receiving half of the handle: messages by value, in place, and one after the other.

use std::time::{Duration, Instant};

use super::guard::Received;
use super::handle::Queue;
use super::ring::{Claim, Stop};
use crate::message::{self, Message};
use crate::owner::OwnerId;
use crate::queue::error::{Denied, RecvError};
use crate::sys::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`, `Closed` once everything that was sent has been received, `Corrupted`.
    #[inline]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        let me = self.me().map_err(Denied::receiving)?;
        let claim = self.ring.try_take(me).map_err(|stop| self.denied(stop).receiving())?;
        self.copy_out(me, claim)
    }

    /// Receives a message; waits while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Closed` once everything that was sent has been received, `Corrupted`.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_until(Deadline::Never),
            done => done,
        }
    }

    /// Receives a message; waits while there is none, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_until(Deadline::after(timeout)),
            done => done,
        }
    }

    /// Receives a message; waits while there is none, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_until(Deadline::at(deadline)),
            done => done,
        }
    }

    #[cold]
    fn recv_until(&self, deadline: Deadline) -> Result<T, RecvError> {
        let (me, claim) = self.take(Some(deadline)).map_err(Denied::receiving)?;
        self.copy_out(me, claim)
    }

    /// Copies the message of a taken slot and frees it.
    #[inline]
    fn copy_out(&self, me: OwnerId, claim: Claim) -> Result<T, RecvError> {
        // SAFETY: the slot is ours to read.
        let value = unsafe { message::read::<T>(self.message(claim.index)) };
        self.ring.free(me, claim);
        value.ok_or(RecvError::Corrupted)
    }

    /// Takes a message in place; without a deadline only if there is one now.
    fn take(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Denied> {
        let me = self.me()?;
        let claim = match (self.ring.try_take(me), deadline) {
            (Err(Stop::Wait), Some(deadline)) => self.ring.take(me, deadline, || self.object.tend())?,
            (claim, _) => claim.map_err(|stop| self.denied(stop))?,
        };
        Ok((me, claim))
    }

    fn receive(&self, deadline: Option<Deadline>) -> Result<Received<'_, T>, RecvError> {
        let (me, claim) = self.take(deadline).map_err(Denied::receiving)?;
        Received::new(self, me, claim).ok_or(RecvError::Corrupted)
    }

    /// Receives a message in place, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn try_recv_ref(&self) -> Result<Received<'_, T>, RecvError> {
        self.receive(None)
    }

    /// Receives a message in place; waits while there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Queue::recv).
    pub fn recv_ref(&self) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::Never))
    }

    /// [`recv_ref`](Queue::recv_ref), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::after(timeout)))
    }

    /// [`recv_ref`](Queue::recv_ref), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_ref_deadline(&self, deadline: Instant) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::at(deadline)))
    }

    /// Receives messages, waiting for each, until the queue is closed and empty (or corrupted).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }

    /// Receives the messages that are there.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { queue: self }
    }
}

impl<'a, T: Message> IntoIterator for &'a Queue<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Receives until the queue is closed: see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    queue: &'a Queue<T>,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.recv().ok()
    }
}

/// Receives what is there: see [`Queue::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Message> {
    queue: &'a Queue<T>,
}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}
