//! The methods of publishers and subscribers whose messages differ in length, beside those of all.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::error::RecvError;
use super::publisher::Publisher;
use super::room::Room;
use super::subscriber::Subscriber;
use crate::message::{Message, Payload, Varied};
use crate::queue::error::SendError;
use crate::queue::payload::Varying;
use crate::sys::clock::Deadline;

impl<T: Varied + ?Sized> Deref for Publisher<T> {
    type Target = Varying<Publisher<T>>;

    #[inline(always)]
    fn deref(&self) -> &Varying<Publisher<T>> {
        Varying::of(self)
    }
}

impl<T: Varied + ?Sized> Deref for Subscriber<T> {
    type Target = Varying<Subscriber<T>>;

    #[inline(always)]
    fn deref(&self) -> &Varying<Subscriber<T>> {
        Varying::of(self)
    }
}

impl<T: Varied + ?Sized> DerefMut for Subscriber<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Varying<Subscriber<T>> {
        Varying::of_mut(self)
    }
}

impl<T: Payload + ?Sized> Publisher<T> {
    /// Returns the publisher with the methods for messages of any length, for code that is generic
    /// over [`Payload`]. Elsewhere they are found without this.
    #[inline]
    pub fn varying(&self) -> &Varying<Publisher<T>> {
        Varying::of(self)
    }
}

impl<T: Payload + ?Sized> Subscriber<T> {
    /// Returns the subscriber with the methods for messages of any length, for code that is generic
    /// over [`Payload`]. Elsewhere they are found without this.
    ///
    /// ```
    /// use pagemate::Topic;
    /// use pagemate::queue::Payload;
    /// use pagemate::queue::topic::{From, RecvError, Subscriber};
    ///
    /// fn next<T: Payload + ?Sized>(from: &mut Subscriber<T>) -> Result<T::Owned, RecvError> {
    ///     from.varying().try_recv()
    /// }
    /// # let topic = Topic::<str>::new(1).unwrap();
    /// # assert!(next(&mut topic.subscribe(From::Latest).unwrap()).is_err());
    /// # let topic = Topic::<u8>::new(1).unwrap();
    /// # assert!(next(&mut topic.subscribe(From::Latest).unwrap()).is_err());
    /// ```
    #[inline]
    pub fn varying(&mut self) -> &mut Varying<Subscriber<T>> {
        Varying::of_mut(self)
    }
}

impl<T: Payload + ?Sized> Varying<Publisher<T>> {
    /// Publishes a message, if no lossless subscriber lags. It overwrites the oldest one if the
    /// topic is full, and the oldest ones if the quota is used up.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: those of [`Publisher::try_publish`]. `Full` also if the
    /// memory for it is being written or read in place, or a process is stopped that rearranges it
    /// for another size; by then the other messages have been discarded. `TooLarge` if it does not
    /// fit into the quota.
    #[inline]
    pub fn try_publish<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.publish_any(message, None)
    }

    /// Publishes a message. Blocks while a lossless subscriber lags, or has yet to receive the
    /// messages whose memory is needed.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish), except for a lossless subscriber that lags. `Full`
    /// only after some 100 ms in which the memory did not become free.
    #[inline]
    pub fn publish<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.publish_any(message, Some(Deadline::Never))
    }

    /// Like [`publish`](Varying::publish), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish).
    pub fn publish_timeout<'m>(
        &self,
        message: T::Sent<'m>,
        timeout: Duration,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.publish_any(message, Some(Deadline::after(timeout)))
    }

    /// Like [`publish`](Varying::publish), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish).
    pub fn publish_deadline<'m>(
        &self,
        message: T::Sent<'m>,
        deadline: Instant,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        self.0.publish_any(message, Some(Deadline::at(deadline)))
    }
}

impl<T: Message> Varying<Publisher<[T]>> {
    /// Returns room for `len` elements, to write a message in place, if no lossless subscriber
    /// lags.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish).
    #[inline]
    pub fn try_loan(&self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, None)
    }

    /// Returns room for `len` elements, to write a message in place. Blocks while a lossless
    /// subscriber lags, or has yet to receive the messages whose memory is needed.
    ///
    /// # Errors
    ///
    /// As [`publish`](Varying::publish).
    #[inline]
    pub fn loan(&self, len: usize) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Some(Deadline::Never))
    }

    /// Like [`loan`](Varying::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish).
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Some(Deadline::after(timeout)))
    }

    /// Like [`loan`](Varying::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Varying::try_publish).
    pub fn loan_deadline(&self, len: usize, deadline: Instant) -> Result<Room<'_, T>, SendError<()>> {
        self.0.room(len, Some(Deadline::at(deadline)))
    }
}

impl<T: Payload + ?Sized> Varying<Subscriber<T>> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::try_recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<T::Owned, RecvError> {
        self.0.recv_any(None)
    }

    /// Receives a message. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv), without `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T::Owned, RecvError> {
        self.0.recv_any(Some(Deadline::Never))
    }

    /// Receives a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T::Owned, RecvError> {
        self.0.recv_any(Some(Deadline::after(timeout)))
    }

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Varying::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T::Owned, RecvError> {
        self.0.recv_any(Some(Deadline::at(deadline)))
    }
}

impl<T: Varied + ?Sized> Subscriber<T> {
    /// Receives a message if there is one now. Stores it in `to`, whose memory is used again, and
    /// returns the number of its elements, or of its bytes if it is text.
    ///
    /// ```
    /// use pagemate::queue::topic::From;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let topic = pagemate::Topic::<[u16]>::new(4)?;
    /// let mut subscriber = topic.subscribe(From::Latest)?;
    /// topic.publisher().publish(&[1, 2, 3])?;
    /// let mut samples = Vec::new();
    /// assert_eq!(subscriber.recv_into(&mut samples)?, 3);
    /// assert_eq!(samples, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv). Then `to` is empty.
    pub fn try_recv_into(&mut self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.copy_into(to, None)
    }

    /// Receives a message like [`try_recv_into`](Subscriber::try_recv_into). Blocks while there is
    /// none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Subscriber::recv).
    pub fn recv_into(&mut self, to: &mut T::Owned) -> Result<usize, RecvError> {
        self.copy_into(to, Some(Deadline::Never))
    }

    /// Like [`recv_into`](Subscriber::recv_into), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_into_timeout(&mut self, to: &mut T::Owned, timeout: Duration) -> Result<usize, RecvError> {
        self.copy_into(to, Some(Deadline::after(timeout)))
    }

    /// Like [`recv_into`](Subscriber::recv_into), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_into_deadline(&mut self, to: &mut T::Owned, deadline: Instant) -> Result<usize, RecvError> {
        self.copy_into(to, Some(Deadline::at(deadline)))
    }

    fn copy_into(&mut self, to: &mut T::Owned, deadline: Option<Deadline>) -> Result<usize, RecvError> {
        let mut copied = T::take_memory(to);
        let received = self.copy_elements(&mut copied, deadline);
        let len = copied.len();
        // If this fails, its memory is lost.
        *to = T::from_copy(copied).ok_or(RecvError::Corrupted)?;
        received.map(|()| len)
    }
}
