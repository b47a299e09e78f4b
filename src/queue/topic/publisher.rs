//! A publisher of a topic: messages by value, and slots to write messages in place.

use std::fmt;
use std::time::{Duration, Instant};

use super::body::store;
use super::handle::Topic;
use super::loan::{Held, Loan};
use crate::message::{self, Message, Payload};
use crate::queue::error::SendError;
use crate::queue::holders::Tenure;
use crate::sys::clock::Deadline;

/// A publisher of a [`Topic`].
///
/// Share it, clone it, or make one for each thread. Calls block only while a
/// [lossless](Topic::subscribe_lossless) subscriber lags, and, if messages differ in length, for
/// some 100 ms while the memory that they need is in use in place.
///
/// # Examples
///
/// ```
/// use pagemate::queue::topic::From;
///
/// # fn main() -> pagemate::Result<()> {
/// let topic = pagemate::Topic::<[u8; 1 << 20]>::new(4)?;
/// let mut subscriber = topic.subscribe(From::Latest)?;
/// let publisher = topic.publisher();
/// let mut frame = publisher.loan()?;
/// frame[..5].copy_from_slice(b"hello");
/// frame.publish()?;
/// assert_eq!(&subscriber.recv_ref()?[..5], b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Publisher<T: Payload + ?Sized> {
    pub(super) topic: Topic<T>,
    tenure: Option<Tenure>,
}

impl<T: Payload + ?Sized> Publisher<T> {
    pub(super) fn new(topic: Topic<T>) -> Publisher<T> {
        Publisher { tenure: topic.port.join(), topic }
    }

    /// Publishes a message. Without a deadline it does not block.
    #[inline]
    pub(super) fn publish_any<'m>(
        &self,
        message: T::Sent<'m>,
        deadline: Option<Deadline>,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        let (port, elements) = (&self.topic.port, T::elements(&message));
        if T::IS_FIXED {
            let write =
                |index| elements.iter().take(1).for_each(|value| store(port.ring.words(index), value));
            return port.publish(deadline, write).map_err(|refused| refused.into_send_error(message));
        }
        let done = port.publish_bytes(elements.len(), message::bytes_of_all(elements), deadline);
        done.map_err(|error| error.with(message))
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic<T> {
        &self.topic
    }
}

impl<T: Message> Publisher<T> {
    /// Publishes a message, if no lossless subscriber lags. It overwrites the oldest one if the
    /// topic is full.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message:
    ///
    /// - `Full`, if a lossless subscriber lags and the [policy](super::TopicBuilder::policy) is
    ///   `Block`; if all slots are being written or read in place: at least `capacity + 3` loans
    ///   and [`Received`](super::Received) at once; or if it lost its place in the order 1,024
    ///   times in a row, because other publishers are much faster;
    /// - `Lagging`, if a lossless subscriber lags and the policy is `Fail`;
    /// - `Closed`; `Corrupted`; `NotInThisProcess`.
    #[inline]
    pub fn try_publish(&self, value: T) -> Result<(), SendError<T>> {
        self.publish_any(value, None)
    }

    /// Publishes a message. Blocks while a lossless subscriber lags. It overwrites the oldest
    /// message if the topic is full.
    ///
    /// The value is passed on the stack and may be copied there. Write a message of a megabyte in
    /// place instead, with [`loan`](Publisher::loan).
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish), except for a lossless subscriber that lags.
    #[inline]
    pub fn publish(&self, value: T) -> Result<(), SendError<T>> {
        self.publish_any(value, Some(Deadline::Never))
    }

    /// Publishes a message. Blocks while a lossless subscriber lags, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn publish_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.publish_any(value, Some(Deadline::after(timeout)))
    }

    /// Publishes a message. Blocks while a lossless subscriber lags, until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn publish_deadline(&self, value: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.publish_any(value, Some(Deadline::at(deadline)))
    }

    /// Returns a slot to write a message in place, if no lossless subscriber lags.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time; use [`loan_with`](Publisher::loan_with) for them.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    #[inline]
    pub fn try_loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(None)
    }

    /// Returns a slot to write a message in place. Blocks while a lossless subscriber lags. See
    /// [`try_loan`](Publisher::try_loan).
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    #[inline]
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::Never))
    }

    /// Like [`loan`](Publisher::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::after(timeout)))
    }

    /// Like [`loan`](Publisher::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn loan_deadline(&self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::at(deadline)))
    }

    #[inline]
    fn loan_until(&self, deadline: Option<Deadline>) -> Result<Loan<'_, T>, SendError<()>> {
        match self.topic.port.claim(deadline) {
            Ok((me, claim)) => Ok(Loan::of_any(Held::new(&self.topic.port, me, claim))),
            Err(refused) => Err(refused.into_send_error(())),
        }
    }

    /// Returns a slot that holds `value`, to be changed in place. Blocks while a lossless
    /// subscriber lags. Works for every message type.
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    pub fn loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        self.loan_with_until(value, Some(Deadline::Never))
    }

    /// Like [`loan_with`](Publisher::loan_with), but only if no lossless subscriber lags.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn try_loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        self.loan_with_until(value, None)
    }

    fn loan_with_until(&self, value: T, deadline: Option<Deadline>) -> Result<Loan<'_, T>, SendError<T>> {
        match self.topic.port.claim(deadline) {
            Ok((me, claim)) => Ok(Loan::of(Held::new(&self.topic.port, me, claim), &value)),
            Err(refused) => Err(refused.into_send_error(value)),
        }
    }
}

impl<T: Payload + ?Sized> Clone for Publisher<T> {
    fn clone(&self) -> Publisher<T> {
        Publisher::new(self.topic.clone())
    }
}

impl<T: Payload + ?Sized> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.topic.port.leave(self.tenure);
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).finish()
    }
}
