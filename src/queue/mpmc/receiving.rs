//! The receiving half of the handle: messages by value, in place, and through iterators.

use std::time::{Duration, Instant};

use super::guard::Received;
use super::handle::Queue;
use super::ring::Claim;
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::{item, RecvError};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`, `Closed` once everything that was sent has been received,
    /// `Corrupted`.
    #[inline]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        let me = self.me().map_err(Blocked::into_recv_error)?;
        let claim = self.ring.try_take(me).map_err(|blocked| self.note(blocked).into_recv_error())?;
        self.copy_out(me, claim)
    }

    /// Receives a message. Blocks while there is none.
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

    /// Receives a message. Blocks while there is none, for at most `timeout`.
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

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
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
        let me = self.me().map_err(Blocked::into_recv_error)?;
        let claim =
            self.ring.take(me, deadline, || self.object.reap_dead()).map_err(Blocked::into_recv_error)?;
        self.copy_out(me, claim)
    }

    /// Copies the message of a taken slot and frees the slot.
    #[inline]
    fn copy_out(&self, me: OwnerId, claim: Claim) -> Result<T, RecvError> {
        // SAFETY: the slot is ours to read.
        let value = unsafe { message::read::<T>(self.message(claim.index)) };
        self.ring.free(me, claim);
        value.ok_or(RecvError::Corrupted)
    }

    /// Takes a message in place. Without a deadline it does not block.
    fn take(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Blocked> {
        let me = self.me()?;
        let claim = match (self.ring.try_take(me), deadline) {
            (Err(Blocked::Later), Some(deadline)) => {
                self.ring.take(me, deadline, || self.object.reap_dead())?
            }
            (claim, _) => claim.map_err(|blocked| self.note(blocked))?,
        };
        Ok((me, claim))
    }

    fn receive(&self, deadline: Option<Deadline>) -> Result<Received<'_, T>, RecvError> {
        let (me, claim) = self.take(deadline).map_err(Blocked::into_recv_error)?;
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

    /// Receives a message in place. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Queue::recv).
    pub fn recv_ref(&self) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::Never))
    }

    /// Calls [`recv_ref`](Queue::recv_ref), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::after(timeout)))
    }

    /// Calls [`recv_ref`](Queue::recv_ref), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_ref_deadline(&self, deadline: Instant) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::at(deadline)))
    }

    /// Returns an iterator that receives messages, blocking for each, until the queue is closed and
    /// empty.
    ///
    /// Only `Closed` ends it without an item, so its end means that everything sent has been
    /// received. Every other error is an item, after which the iterator ends. A new call of `iter`
    /// continues after it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = pagemate::Queue::<u64>::new(4)?;
    /// (1..=3).try_for_each(|n| queue.send(n))?;
    /// queue.close();
    /// assert_eq!(queue.iter().sum::<Result<u64, _>>()?, 6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The items are those of [`recv`](Queue::recv) without `Closed`: a message, `Corrupted` or
    /// `NotInThisProcess`.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, has_failed: false }
    }

    /// Returns an iterator that receives the messages that are there now, without blocking.
    ///
    /// Both `Empty` and `Closed` end it without an item. Every other error is an item, after which
    /// the iterator ends. Use [`is_closed`](Queue::is_closed) to tell a closed queue from one that
    /// is empty for the moment.
    ///
    /// # Errors
    ///
    /// The items are those of [`iter`](Queue::iter).
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { queue: self, has_failed: false }
    }
}

impl<'a, T: Message> IntoIterator for &'a Queue<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Message> IntoIterator for Queue<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { queue: self, has_failed: false }
    }
}

/// A blocking iterator over messages that has the handle, for example to move it to a thread.
///
/// It ends as [`Iter`] does.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let queue = pagemate::Queue::<u64>::new(4)?;
/// let received = queue.clone().into_iter();
/// let sum = std::thread::spawn(move || received.sum::<Result<u64, _>>());
/// (1..=3).try_for_each(|n| queue.send(n))?;
/// queue.close();
/// assert_eq!(sum.join().unwrap()?, 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct IntoIter<T: Message> {
    queue: Queue<T>,
    has_failed: bool,
}

impl<T: Message> Iterator for IntoIter<T> {
    type Item = Result<T, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T, RecvError>> {
        item(&mut self.has_failed, || self.queue.recv())
    }
}

/// A blocking iterator over messages, which ends when the queue is closed and empty: see
/// [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    queue: &'a Queue<T>,
    has_failed: bool,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T, RecvError>> {
        item(&mut self.has_failed, || self.queue.recv())
    }
}

/// A non-blocking iterator over messages, which ends when the queue is empty: see
/// [`Queue::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Message> {
    queue: &'a Queue<T>,
    has_failed: bool,
}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = Result<T, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T, RecvError>> {
        item(&mut self.has_failed, || self.queue.try_recv())
    }
}
