//! The receiving half of the handle: messages by value, in place, and through iterators.

use std::time::{Duration, Instant};

use super::guard::Received;
use super::handle::Queue;
use super::ring::Claim;
use crate::message::payload::append;
use crate::message::{self, Message, Payload, Varied};
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
        self.try_recv_any()
    }

    /// Receives a message. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Closed` once everything that was sent has been received, `Corrupted`.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_any(|| Deadline::Never)
    }

    /// Receives a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_any(|| Deadline::after(timeout))
    }

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_any(|| Deadline::at(deadline))
    }
}

impl<T: Payload + ?Sized> Queue<T> {
    /// See [`try_recv`](Queue::try_recv).
    #[inline]
    pub(super) fn try_recv_any(&self) -> Result<T::Owned, RecvError> {
        let me = self.me().map_err(Blocked::into_recv_error)?;
        let claim = self.ring.try_take(me).map_err(|blocked| self.note(blocked).into_recv_error())?;
        self.copy_out(me, claim)
    }

    /// Receives a message. Blocks while there is none, until the deadline.
    #[inline]
    pub(super) fn recv_any(&self, deadline: impl FnOnce() -> Deadline) -> Result<T::Owned, RecvError> {
        match self.try_recv_any() {
            Err(RecvError::Empty) => self.recv_until(deadline()),
            done => done,
        }
    }

    #[cold]
    fn recv_until(&self, deadline: Deadline) -> Result<T::Owned, RecvError> {
        let me = self.me().map_err(Blocked::into_recv_error)?;
        let claim =
            self.ring.take(me, deadline, || self.object.reap_dead()).map_err(Blocked::into_recv_error)?;
        self.copy_out(me, claim)
    }

    /// Copies the message of a taken slot and frees the slot.
    #[inline]
    fn copy_out(&self, me: OwnerId, claim: Claim) -> Result<T::Owned, RecvError> {
        let value = self.copy(claim.index);
        self.finish(me, claim);
        value.ok_or(RecvError::Corrupted)
    }

    /// Copies the message of a taken slot; `None` if it is not valid.
    #[inline]
    pub(super) fn copy(&self, index: u32) -> Option<T::Owned> {
        if T::IS_FIXED {
            // SAFETY: the slot is ours to read.
            return unsafe { message::read::<T::Element>(self.message(index)) }.and_then(T::from_one);
        }
        let mut copy = Vec::new();
        self.append(index, &mut copy)?;
        T::from_copy(copy)
    }

    /// Appends the elements of a message of varying length to a copy; returns their number. `None`
    /// if they are not valid.
    #[inline]
    fn append(&self, index: u32, copy: &mut Vec<T::Element>) -> Option<usize> {
        let (at, len) = self.find(index)?;
        // SAFETY: the slot is ours to read, and so is its block, where find() has found that many
        // elements, aligned.
        unsafe { append(copy, at, len) }.then_some(len)
    }

    /// Takes a message in place. Without a deadline it does not block.
    #[inline]
    fn take(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Blocked> {
        let me = self.me()?;
        match (self.ring.try_take(me), deadline) {
            (Ok(claim), _) => Ok((me, claim)),
            (Err(Blocked::Later), Some(deadline)) => self.wait_and_take(me, deadline),
            (Err(blocked), _) => Err(self.note(blocked)),
        }
    }

    #[cold]
    fn wait_and_take(&self, me: OwnerId, deadline: Deadline) -> Result<(OwnerId, Claim), Blocked> {
        self.ring.take(me, deadline, || self.object.reap_dead()).map(|claim| (me, claim))
    }

    // Always, because a guard that is returned through memory costs as much as the receive.
    #[inline(always)]
    fn receive(&self, deadline: Option<Deadline>) -> Result<Received<'_, T>, RecvError> {
        let (me, claim) = self.take(deadline).map_err(Blocked::into_recv_error)?;
        Received::new(self, me, claim).ok_or(RecvError::Corrupted)
    }

    /// Receives a message in place, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    #[inline]
    pub fn try_recv_ref(&self) -> Result<Received<'_, T>, RecvError> {
        self.receive(None)
    }

    /// Receives a message in place. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Queue::recv).
    #[inline]
    pub fn recv_ref(&self) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::Never))
    }

    /// Like [`recv_ref`](Queue::recv_ref), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.receive(Some(Deadline::after(timeout)))
    }

    /// Like [`recv_ref`](Queue::recv_ref), but blocks until `deadline` at the latest.
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

impl<T: Varied + ?Sized> Queue<T> {
    /// Receives a message if there is one now. Stores it in `to`, whose memory is used again, and
    /// returns the number of its elements, or of its bytes if it is text.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = pagemate::Queue::<[u16]>::new(4)?;
    /// let mut samples = Vec::new();
    /// queue.send(&[1, 2, 3])?;
    /// assert_eq!(queue.recv_into(&mut samples)?, 3);
    /// assert_eq!(samples, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv). If it is `Corrupted`, `to` is empty.
    #[inline]
    pub fn try_recv_into(&self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.take_into(to, None)
    }

    /// Receives a message like [`try_recv_into`](Queue::try_recv_into). Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Queue::recv).
    #[inline]
    pub fn recv_into(&self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.take_into(to, Some(Deadline::Never))
    }

    /// Like [`recv_into`](Queue::recv_into), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_into_timeout(&self, to: &mut T::Owned, timeout: Duration) -> Result<usize, RecvError> {
        self.take_into(to, Some(Deadline::after(timeout)))
    }

    /// Like [`recv_into`](Queue::recv_into), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Queue::try_recv).
    pub fn recv_into_deadline(&self, to: &mut T::Owned, deadline: Instant) -> Result<usize, RecvError> {
        self.take_into(to, Some(Deadline::at(deadline)))
    }

    #[inline]
    fn take_into(&self, to: &mut T::Owned, deadline: Option<Deadline>) -> Result<usize, RecvError> {
        let (me, claim) = self.take(deadline).map_err(Blocked::into_recv_error)?;
        let mut copy = T::take_memory(to);
        copy.clear();
        let len = self.append(claim.index, &mut copy);
        self.finish(me, claim);
        *to = T::from_copy(copy).ok_or(RecvError::Corrupted)?;
        len.ok_or(RecvError::Corrupted)
    }
}

impl<'a, T: Payload + ?Sized> IntoIterator for &'a Queue<T> {
    type Item = Result<T::Owned, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Payload + ?Sized> IntoIterator for Queue<T> {
    type Item = Result<T::Owned, RecvError>;
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
pub struct IntoIter<T: Payload + ?Sized> {
    queue: Queue<T>,
    has_failed: bool,
}

impl<T: Payload + ?Sized> Iterator for IntoIter<T> {
    type Item = Result<T::Owned, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.queue.recv_any(|| Deadline::Never))
    }
}

/// A blocking iterator over messages, which ends when the queue is closed and empty: see
/// [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Payload + ?Sized> {
    queue: &'a Queue<T>,
    has_failed: bool,
}

impl<T: Payload + ?Sized> Iterator for Iter<'_, T> {
    type Item = Result<T::Owned, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.queue.recv_any(|| Deadline::Never))
    }
}

/// A non-blocking iterator over messages, which ends when the queue is empty: see
/// [`Queue::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Payload + ?Sized> {
    queue: &'a Queue<T>,
    has_failed: bool,
}

impl<T: Payload + ?Sized> Iterator for TryIter<'_, T> {
    type Item = Result<T::Owned, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.queue.try_recv_any())
    }
}
