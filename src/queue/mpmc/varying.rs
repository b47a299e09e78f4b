//! The methods of a queue whose messages differ in length, beside those of every queue.

use std::ops::Deref;
use std::time::{Duration, Instant};

use super::handle::Queue;
use crate::message::{Message, Payload, Varied};
use crate::queue::error::{RecvError, SendError};
use crate::queue::payload::{Room, Varying};
use crate::sys::clock::Deadline;

impl<T: Varied + ?Sized> Deref for Queue<T> {
    type Target = Varying<Queue<T>>;

    #[inline(always)]
    fn deref(&self) -> &Varying<Queue<T>> {
        Varying::of(self)
    }
}

impl<T: Payload + ?Sized> Queue<T> {
    /// Returns the queue with the methods for messages of any length, for code that is generic over
    /// [`Payload`]. Elsewhere they are found without this.
    ///
    /// ```
    /// use pagemate::Queue;
    /// use pagemate::queue::{Payload, RecvError};
    ///
    /// fn next<T: Payload + ?Sized>(queue: &Queue<T>) -> Result<T::Owned, RecvError> {
    ///     queue.varying().try_recv()
    /// }
    /// # assert!(next(&Queue::<str>::new(1).unwrap()).is_err());
    /// # assert!(next(&Queue::<u8>::new(1).unwrap()).is_err());
    /// ```
    #[inline]
    pub fn varying(&self) -> &Varying<Queue<T>> {
        Varying::of(self)
    }
}

impl<T: Payload + ?Sized> Varying<Queue<T>> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed`, `Corrupted`; `TooLarge` if it does not
    /// fit into the quota.
    #[inline]
    pub fn try_send<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.try_send_any(message)
    }

    /// Sends a message. Blocks while there is no room, in the ring or in the quota.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed`, `Corrupted`, `TooLarge`.
    #[inline]
    pub fn send<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_any(message, || Deadline::Never)
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Varying::try_send).
    pub fn send_timeout<'m>(
        &self,
        message: T::Sent<'m>,
        timeout: Duration,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_any(message, || Deadline::after(timeout))
    }

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Varying::try_send).
    pub fn send_deadline<'m>(
        &self,
        message: T::Sent<'m>,
        deadline: Instant,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_any(message, || Deadline::at(deadline))
    }

    /// Sends a message now, also to a full queue: there it replaces the oldest message, which is
    /// passed to `replaced`. See [`Queue::force_send`]. A message that needs more bytes than the
    /// oldest one frees replaces several.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::force_send`], and `TooLarge`.
    pub fn force_send<'m>(
        &self,
        message: T::Sent<'m>,
        replaced: impl FnMut(T::Owned),
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.force_send_any(message, replaced)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`, `Closed` once everything that was sent has been received,
    /// `Corrupted`.
    #[inline]
    pub fn try_recv(&self) -> Result<T::Owned, RecvError> {
        self.0.try_recv_any()
    }

    /// Receives a message. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Closed` once everything that was sent has been received, `Corrupted`.
    #[inline]
    pub fn recv(&self) -> Result<T::Owned, RecvError> {
        self.0.recv_any(|| Deadline::Never)
    }

    /// Receives a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T::Owned, RecvError> {
        self.0.recv_any(|| Deadline::after(timeout))
    }

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T::Owned, RecvError> {
        self.0.recv_any(|| Deadline::at(deadline))
    }
}

impl<T: Message> Varying<Queue<[T]>> {
    /// Returns room for `len` elements, to write a message in place, if there is room now.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`, `TooLarge`.
    #[inline]
    pub fn try_loan(&self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Deadline::At(0))
    }

    /// Returns room for `len` elements, to write a message in place. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`, `TooLarge`.
    #[inline]
    pub fn loan(&self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Deadline::Never)
    }

    /// Like [`loan`](Varying::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Varying::try_loan).
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Deadline::after(timeout))
    }

    /// Like [`loan`](Varying::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Varying::try_loan).
    pub fn loan_deadline(&self, len: usize, deadline: Instant) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Deadline::at(deadline))
    }
}
