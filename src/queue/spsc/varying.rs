//! The methods of a ring whose messages differ in length, beside those of every ring.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::{Consumer, Producer, Room};
use crate::message::{Message, Varied};
use crate::queue::blocked::Blocked;
use crate::queue::error::{RecvError, SendError};
use crate::queue::payload::Varying;
use crate::sys::clock::Deadline;

impl<T: Varied + ?Sized> Deref for Producer<T> {
    type Target = Varying<Producer<T>>;

    #[inline(always)]
    fn deref(&self) -> &Varying<Producer<T>> {
        Varying::of(self)
    }
}

impl<T: Varied + ?Sized> DerefMut for Producer<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Varying<Producer<T>> {
        Varying::of_mut(self)
    }
}

impl<T: Varied + ?Sized> Deref for Consumer<T> {
    type Target = Varying<Consumer<T>>;

    #[inline(always)]
    fn deref(&self) -> &Varying<Consumer<T>> {
        Varying::of(self)
    }
}

impl<T: Varied + ?Sized> DerefMut for Consumer<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Varying<Consumer<T>> {
        Varying::of_mut(self)
    }
}

impl<T: Varied + ?Sized> Varying<Producer<T>> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed` if the consumer has closed or died;
    /// `TooLarge` if it does not fit into the quota.
    #[inline]
    pub fn try_send<'m>(&mut self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.try_send_any(message)
    }

    /// Sends a message. Blocks while there is no room, in the ring or in the quota.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed` if the consumer has closed or died; `TooLarge`.
    #[inline]
    pub fn send<'m>(&mut self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_any(message, Deadline::Never)
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Varying::try_send).
    pub fn send_timeout<'m>(
        &mut self,
        message: T::Sent<'m>,
        timeout: Duration,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_timed(message, || Deadline::after(timeout))
    }

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Varying::try_send).
    pub fn send_deadline<'m>(
        &mut self,
        message: T::Sent<'m>,
        deadline: Instant,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.send_timed(message, || Deadline::at(deadline))
    }
}

impl<T: Message> Varying<Producer<[T]>> {
    /// Returns room for `len` elements, to write a message in place, if there is room now.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed` if the consumer has closed or died, `TooLarge`, `Corrupted`.
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room_for(len, Deadline::At(0))
    }

    /// Returns room for `len` elements, to write a message in place. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died, `TooLarge`, `Corrupted`.
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room_for(len, Deadline::Never)
    }

    /// Like [`loan`](Varying::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Varying::try_loan).
    pub fn loan_timeout(&mut self, len: usize, timeout: Duration) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room_for(len, Deadline::after(timeout))
    }

    /// Like [`loan`](Varying::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Varying::try_loan).
    pub fn loan_deadline(&mut self, len: usize, deadline: Instant) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room_for(len, Deadline::at(deadline))
    }
}

impl<T: Varied + ?Sized> Varying<Consumer<T>> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`; `Closed` once the producer has closed or died, and everything it
    /// sent was received; `Corrupted` if the bytes are not a valid message, which is dropped.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T::Owned, RecvError> {
        self.0.try_recv_any()
    }

    /// Receives a message. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv), but not `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T::Owned, RecvError> {
        self.0.recv_any(Deadline::Never)
    }

    /// Receives a message. Blocks until there is one, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T::Owned, RecvError> {
        self.0.recv_timed(|| Deadline::after(timeout))
    }

    /// Receives a message. Blocks until there is one, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T::Owned, RecvError> {
        self.0.recv_timed(|| Deadline::at(deadline))
    }
}

impl<T: Varied + ?Sized> Consumer<T> {
    /// Receives a message if there is one now. Stores it in `to`, whose memory is used again, and
    /// returns the number of its elements, or of its bytes if it is text.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv). If it is `Corrupted`, `to` may be empty.
    pub fn try_recv_into(&mut self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.ready(1).map_err(Blocked::into_recv_error)?;
        self.take_into(to)
    }

    /// Receives a message like [`try_recv_into`](Consumer::try_recv_into). Blocks until there is
    /// one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Consumer::recv).
    pub fn recv_into(&mut self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.wait_for_message(Deadline::Never).map_err(Blocked::into_recv_error)?;
        self.take_into(to)
    }

    /// Like [`recv_into`](Consumer::recv_into), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_into_timeout(&mut self, to: &mut T::Owned, timeout: Duration) -> Result<usize, RecvError> {
        self.wait_for_message(Deadline::after(timeout)).map_err(Blocked::into_recv_error)?;
        self.take_into(to)
    }

    /// Like [`recv_into`](Consumer::recv_into), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_into_deadline(&mut self, to: &mut T::Owned, deadline: Instant) -> Result<usize, RecvError> {
        self.wait_for_message(Deadline::at(deadline)).map_err(Blocked::into_recv_error)?;
        self.take_into(to)
    }

    fn take_into(&mut self, to: &mut T::Owned) -> Result<usize, RecvError> {
        let mut copy = T::take_memory(to);
        copy.clear();
        let len = self.append(&mut copy);
        *to = T::from_copy(copy).ok_or(RecvError::Corrupted)?;
        len
    }
}
