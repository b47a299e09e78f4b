//! A publisher of a topic: messages by value, and slots to write messages in place.

use std::fmt;
use std::time::{Duration, Instant};

use super::handle::Topic;
use super::loan::Loan;
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::message::{self, Message};
use crate::queue::error::SendError;
use crate::queue::holders::Tenure;
use crate::sys::clock::Deadline;

/// A publisher of a [`Topic`].
///
/// Share it, clone it, or make one for each thread. Calls block only while a
/// [lossless](Topic::subscribe_lossless) subscriber lags.
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
pub struct Publisher<T: Message> {
    pub(super) topic: Topic<T>,
    tenure: Option<Tenure>,
}

/// Copies a message into the words of a slot, which subscribers may copy at the same time.
#[inline]
pub(super) fn store<T: Message>(words: &[AtomicU64], value: &T) {
    let () = T::CHECKED;
    store_bytes(words, message::bytes_of(value));
}

/// Copies the bytes of a message into the words of a slot.
#[inline]
pub(crate) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, last) = words.split_at(words.len().min(bytes.len() / 8));
    let (chunks, rest) = bytes.split_at(8 * whole.len());
    for (word, chunk) in whole.iter().zip(chunks.chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
    if let (Some(word), false) = (last.first(), rest.is_empty()) {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
}

impl<T: Message> Publisher<T> {
    pub(super) fn new(topic: Topic<T>) -> Publisher<T> {
        Publisher { tenure: topic.port.join(), topic }
    }

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
    /// - `Closed`; `Corrupted`.
    #[inline]
    pub fn try_publish(&self, value: T) -> Result<(), SendError<T>> {
        self.publish_until(value, None)
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
        self.publish_until(value, Some(Deadline::Never))
    }

    /// Publishes a message. Blocks while a lossless subscriber lags, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn publish_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.publish_until(value, Some(Deadline::after(timeout)))
    }

    /// Publishes a message. Blocks while a lossless subscriber lags, until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn publish_deadline(&self, value: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.publish_until(value, Some(Deadline::at(deadline)))
    }

    /// Without a deadline it does not block.
    #[inline]
    fn publish_until(&self, value: T, deadline: Option<Deadline>) -> Result<(), SendError<T>> {
        let port = &self.topic.port;
        let done = port.publish(deadline, |index| store(port.ring.words(index), &value));
        done.map_err(|refused| refused.into_send_error(value))
    }

    /// Returns a slot to write a message in place, if no lossless subscriber lags.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time; use [`loan_with`](Publisher::loan_with) for them.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn try_loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(None)
    }

    /// Returns a slot to write a message in place. Blocks while a lossless subscriber lags. See
    /// [`try_loan`](Publisher::try_loan).
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::Never))
    }

    /// Calls [`loan`](Publisher::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::after(timeout)))
    }

    /// Calls [`loan`](Publisher::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn loan_deadline(&self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Some(Deadline::at(deadline)))
    }

    fn loan_until(&self, deadline: Option<Deadline>) -> Result<Loan<'_, T>, SendError<()>> {
        match self.topic.port.claim(deadline) {
            Ok((me, claim)) => Ok(Loan::of_any(self, Tenure::new(me), claim)),
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

    /// Calls [`loan_with`](Publisher::loan_with), if no lossless subscriber lags.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Publisher::try_publish).
    pub fn try_loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        self.loan_with_until(value, None)
    }

    fn loan_with_until(&self, value: T, deadline: Option<Deadline>) -> Result<Loan<'_, T>, SendError<T>> {
        match self.topic.port.claim(deadline) {
            Ok((me, claim)) => Ok(Loan::of(self, Tenure::new(me), claim, &value)),
            Err(refused) => Err(refused.into_send_error(value)),
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic<T> {
        &self.topic
    }
}

impl<T: Message> Clone for Publisher<T> {
    fn clone(&self) -> Publisher<T> {
        Publisher::new(self.topic.clone())
    }
}

impl<T: Message> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.topic.port.leave(self.tenure);
    }
}

impl<T: Message> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).finish()
    }
}
