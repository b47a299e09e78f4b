//! A publisher of a topic: messages by value, and slots to write messages in place.

use std::fmt;

use super::handle::Topic;
use super::loan::Loan;
use super::publish::Claim;
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::segment::owner::OwnerId;

/// A publisher of a [`Topic`].
///
/// Share it, clone it, or make one for each thread: it has no state of its own. No call blocks.
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
}

/// Copies a message into the words of a slot, which subscribers may copy at the same time.
#[inline]
pub(super) fn store<T: Message>(words: &[AtomicU64], value: &T) {
    let () = T::CHECKED;
    let bytes = message::bytes_of(value);
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
        Publisher { topic }
    }

    /// Publishes a message. It overwrites the oldest one if the topic is full.
    ///
    /// The value is passed on the stack and may be copied there. Write a message of a megabyte in
    /// place instead, with [`loan`](Publisher::loan).
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed`; `Corrupted`; `Full` if all slots are being
    /// written or read in place: at least `capacity + 3` loans and [`Received`](super::Received) at
    /// once; or if it lost its place in the order 1,024 times in a row, because other publishers
    /// are much faster.
    #[inline]
    pub fn publish(&self, value: T) -> Result<(), SendError<T>> {
        let ring = &self.topic.ring;
        let done = match self.topic.me() {
            Ok(me) => ring.send(me, |index| store(ring.words(index), &value)),
            Err(blocked) => Err(blocked),
        };
        done.map_err(|blocked| self.note(blocked).into_send_error(value))
    }

    /// Returns a slot to write a message in place.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time; use [`loan_with`](Publisher::loan_with) for them.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`, `Full`: see [`publish`](Publisher::publish).
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        let (me, claim) = self.claim().map_err(|blocked| blocked.into_send_error(()))?;
        Ok(Loan::of_any(self, me, claim))
    }

    /// Returns a slot that holds `value`, to be changed in place. Works for every message type.
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    pub fn loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        match self.claim() {
            Ok((me, claim)) => Ok(Loan::of(self, me, claim, &value)),
            Err(blocked) => Err(blocked.into_send_error(value)),
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic<T> {
        &self.topic
    }

    fn claim(&self) -> Result<(OwnerId, Claim), Blocked> {
        let me = self.topic.me()?;
        let claim = self.topic.ring.try_claim(me).map_err(|blocked| self.note(blocked))?;
        Ok((me, claim))
    }

    /// Counts a failed attempt: a dead participant may be in a slot.
    #[inline]
    pub(super) fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.topic.object.note_failed_try();
        }
        blocked
    }
}

impl<T: Message> Clone for Publisher<T> {
    fn clone(&self) -> Publisher<T> {
        Publisher { topic: self.topic.clone() }
    }
}

impl<T: Message> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).finish()
    }
}
