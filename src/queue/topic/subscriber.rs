//! A subscriber of a topic: messages by value, in place, and through iterators.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::error::RecvError;
use super::handle::Topic;
use super::receive::Cursor;
use crate::error::Refusal;
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::message::wide_load::copy_words;
use crate::message::{self, Message};
use crate::queue::holders::Tenure;
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// A subscriber of a [`Topic`]. It receives every message that is published after it began.
///
/// One thread at a time receives. Several subscribers of one process receive independently.
/// Dropping it makes room for another.
///
/// A lossless one that is [evicted](super::Policy::Evict) goes on as a lossy one. Its next receive
/// returns `Lagged`, once a message is published beyond those that the topic keeps.
pub struct Subscriber<T: Message> {
    topic: Topic<T>,
    cursor: Cursor,
    /// The participant that took the line. A fork gives the child a copy of this, but not the line.
    tenure: Tenure,
}

impl<T: Message> Subscriber<T> {
    pub(super) fn new(topic: Topic<T>, tenure: Tenure, cursor: Cursor) -> Subscriber<T> {
        Subscriber { topic, cursor, tenure }
    }

    fn is_mine(&self) -> Result<(), RecvError> {
        match self.tenure.is_mine() {
            true => Ok(()),
            false => Err(RecvError::NotInThisProcess(Refusal::FORKED)),
        }
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`; `Lagged` if messages were overwritten, once for each time; `Closed`
    /// once everything that was published has been received; `Corrupted`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.is_mine()?;
        self.copy(None)
    }

    /// Receives a message. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv), without `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Deadline::Never)
    }

    /// Receives a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_until(Deadline::at(deadline))
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<T, RecvError> {
        self.is_mine()?;
        self.copy(Some(deadline))
    }

    /// Receives a copy. Without a deadline it does not block.
    #[inline]
    fn copy(&mut self, deadline: Option<Deadline>) -> Result<T, RecvError> {
        let mut copy = MaybeUninit::<T>::uninit();
        let read = |words: &[AtomicU64]| {
            // SAFETY: `copy` is writable for the size of T and our own.
            unsafe { load::<T>(words, copy.as_mut_ptr().cast()) }
        };
        let (port, cursor) = (&self.topic.port, &mut self.cursor);
        port.receive(deadline, read, |read| port.ring.try_copy(cursor, read))?;
        // SAFETY: a whole message was copied.
        unsafe { message::read::<T>(copy.as_ptr().cast()) }.ok_or(RecvError::Corrupted)
    }

    /// Receives a message in place, if there is one now. It does not change while it is read, and
    /// publishers do not wait for it.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn try_recv_ref(&mut self) -> Result<Received<'_, T>, RecvError> {
        self.pin(None)
    }

    /// Receives a message in place. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Subscriber::recv).
    pub fn recv_ref(&mut self) -> Result<Received<'_, T>, RecvError> {
        self.pin(Some(Deadline::Never))
    }

    /// Calls [`recv_ref`](Subscriber::recv_ref), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.pin(Some(Deadline::after(timeout)))
    }

    /// Calls [`recv_ref`](Subscriber::recv_ref), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Received<'_, T>, RecvError> {
        self.pin(Some(Deadline::at(deadline)))
    }

    fn pin(&mut self, deadline: Option<Deadline>) -> Result<Received<'_, T>, RecvError> {
        self.is_mine()?;
        let (port, me, cursor) = (&self.topic.port, self.tenure.me, &mut self.cursor);
        let index = port.receive(deadline, (), |()| port.ring.try_pin(me, cursor))?;
        // SAFETY: the slot is pinned, so its message can be read.
        let is_valid = unsafe { message::is_valid::<T>(port.ring.message(index)) };
        let received = Received { subscriber: self, index };
        is_valid.then_some(received).ok_or(RecvError::Corrupted)
    }

    /// Returns the number of positions between this subscriber and the end of the topic: at most
    /// this many messages can be received. The answer may be out of date immediately.
    pub fn lag(&self) -> u64 {
        self.topic.port.ring.end().saturating_sub(self.cursor.at.number)
    }

    /// Returns the number of messages that were overwritten before this subscriber received them:
    /// the sum of all `Lagged`.
    pub fn lost(&self) -> u64 {
        self.cursor.lost
    }

    /// Returns the position in the topic: the number of messages that were published before the one
    /// that this subscriber receives next. For [`From::Position`](super::From::Position), also of
    /// another process.
    pub fn position(&self) -> u64 {
        self.cursor.ordinal
    }

    /// Returns whether publishers wait for this subscriber: it is
    /// [lossless](Topic::subscribe_lossless), and no publisher has evicted it.
    pub fn is_lossless(&self) -> bool {
        self.cursor.is_lossless && !self.topic.port.ring.is_evicted(&self.cursor)
    }

    /// Returns whether the topic was closed. There may still be messages.
    pub fn is_closed(&self) -> bool {
        self.topic.is_closed()
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic<T> {
        &self.topic
    }

    /// Returns an iterator that receives messages, blocking for each, until the topic is closed and
    /// everything was received.
    ///
    /// Only `Closed` ends it without an item. `Lagged` is an item, after which the iterator goes
    /// on. Every other error is the last item.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { subscriber: self, has_failed: false }
    }

    /// Returns an iterator that receives the messages that are there now, without blocking. `Empty`
    /// ends it too; otherwise it is as [`iter`](Subscriber::iter).
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter { subscriber: self, has_failed: false }
    }

    /// Returns what a set needs to wait for this subscriber.
    pub(crate) fn parts(&self) -> (&ObjectRef, super::ring::Ring, u32, OwnerId) {
        (&self.topic.port.object, self.topic.ring(), self.cursor.line, self.tenure.me)
    }
}

/// Copies a message from the words of a slot, which a publisher may write meanwhile.
///
/// # Safety
///
/// `to` is writable for the size of T, and nobody else uses it.
#[inline(always)]
unsafe fn load<T: Message>(words: &[AtomicU64], to: *mut u8) {
    let (whole, last) = words.split_at(words.len().min(size_of::<T>() / 8));
    // SAFETY: as many whole words are writable, as the caller promises.
    unsafe { copy_words(whole, to.cast()) };
    if let (Some(last), 1..) = (last.first(), size_of::<T>() % 8) {
        let bytes = last.load(Relaxed).to_le_bytes();
        // SAFETY: the rest of T is writable behind the whole words, as the caller promises.
        unsafe { to.add(8 * whole.len()).copy_from_nonoverlapping(bytes.as_ptr(), size_of::<T>() % 8) };
    }
}

impl<T: Message> Drop for Subscriber<T> {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.topic.port.ring.leave(self.tenure.me, self.cursor.line);
        }
    }
}

impl<T: Message> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Subscriber");
        out.field("position", &self.position()).field("lag", &self.lag()).field("lost", &self.lost());
        out.field("topic", &self.topic).finish()
    }
}

/// A message of a [`Topic`], received in place.
///
/// May be kept for any time: publishers skip its slot meanwhile. A process that breaks the rules
/// and writes into the slot changes what is read here; [`Subscriber::recv`] returns a copy.
pub struct Received<'a, T: Message> {
    subscriber: &'a mut Subscriber<T>,
    index: u32,
}

impl<T: Message> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is pinned until this is dropped; it holds a valid T (see pin), aligned.
        unsafe { &*self.subscriber.topic.port.ring.message(self.index).cast() }
    }
}

impl<T: Message> Drop for Received<'_, T> {
    fn drop(&mut self) {
        if self.subscriber.tenure.is_mine() {
            self.subscriber.topic.port.ring.unpin(self.subscriber.cursor.line);
        }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Received<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&**self).finish()
    }
}

/// A blocking iterator over messages, which ends when the topic is closed and everything was
/// received: see [`Subscriber::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    subscriber: &'a mut Subscriber<T>,
    has_failed: bool,
}

/// A non-blocking iterator over messages, which ends when there is none: see
/// [`Subscriber::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Message> {
    subscriber: &'a mut Subscriber<T>,
    has_failed: bool,
}

fn item<T>(
    has_failed: &mut bool,
    receive: impl FnOnce() -> Result<T, RecvError>,
) -> Option<Result<T, RecvError>> {
    if *has_failed {
        return None;
    }
    match receive() {
        Err(RecvError::Empty | RecvError::Closed) => None,
        done => {
            *has_failed = !matches!(done, Ok(_) | Err(RecvError::Lagged(_)));
            Some(done)
        }
    }
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Result<T, RecvError>> {
        item(&mut self.has_failed, || self.subscriber.recv())
    }
}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Result<T, RecvError>> {
        item(&mut self.has_failed, || self.subscriber.try_recv())
    }
}
