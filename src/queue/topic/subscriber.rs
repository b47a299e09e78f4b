//! A subscriber of a topic: messages by value, in place, and through iterators.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::body::{load_bytes, Copied};
use super::error::RecvError;
use super::handle::Topic;
use super::receive::Cursor;
use crate::error::Refusal;
use crate::message::{self, Message, Payload};
use crate::queue::holders::Tenure;
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// A subscriber of a [`Topic`]. It receives every message from the one with which it began, unless
/// it is lossy and too slow.
///
/// One thread at a time receives. Several subscribers of one process receive independently.
/// Dropping it makes room for another.
///
/// A lossless one that is [evicted](super::Policy::Evict) goes on as a lossy one. Its next receive
/// returns `Lagged`, once a message is published beyond those that the topic keeps.
pub struct Subscriber<T: Payload + ?Sized> {
    topic: Topic<T>,
    cursor: Cursor,
    /// The participant that took the line. A fork gives the child a copy of this, but not the line.
    tenure: Tenure,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    pub(super) fn new(topic: Topic<T>, tenure: Tenure, cursor: Cursor) -> Subscriber<T> {
        Subscriber { topic, cursor, tenure }
    }

    fn check_mine(&self) -> Result<(), RecvError> {
        match self.tenure.is_mine() {
            true => Ok(()),
            false => Err(RecvError::NotInThisProcess(Refusal::FORKED)),
        }
    }

    /// Receives a copy. Without a deadline it does not block.
    #[inline]
    pub(super) fn recv_any(&mut self, deadline: Option<Deadline>) -> Result<T::Owned, RecvError> {
        if !T::IS_FIXED {
            let mut copied = Vec::new();
            self.copy_elements(&mut copied, deadline)?;
            return T::from_copy(copied).ok_or(RecvError::Corrupted);
        }
        self.check_mine()?;
        let (port, cursor) = (&self.topic.port, &mut self.cursor);
        let mut copy = MaybeUninit::<T::Element>::uninit();
        let read = |index| {
            let words = port.ring.words(index);
            // SAFETY: `copy` is writable for the size of the message, and our own.
            unsafe { load_bytes(words, copy.as_mut_ptr().cast(), size_of::<T::Element>()) }
        };
        port.receive(deadline, cursor, read, |cursor, read| port.ring.try_copy(cursor, read))?;
        // SAFETY: a whole message was copied.
        let message = unsafe { message::read::<T::Element>(copy.as_ptr().cast()) };
        message.and_then(T::from_one).ok_or(RecvError::Corrupted)
    }

    /// Receives a copy of the elements of a message that differs in length. Uses the memory of
    /// `copied`, which is empty if the call fails.
    pub(super) fn copy_elements(
        &mut self,
        copied: &mut Vec<T::Element>,
        deadline: Option<Deadline>,
    ) -> Result<(), RecvError> {
        let mut copy = Copied::new(std::mem::take(copied));
        let received = self.check_mine().and_then(|()| {
            let (port, cursor) = (&self.topic.port, &mut self.cursor);
            // SAFETY: find() returns elements of this type, as the topic's schema says, inside of
            // the object, which is mapped. They are aligned to 8, as blocks and slots are.
            let read = |index| unsafe { copy.load(port.find(index)) };
            Ok(port.receive(deadline, cursor, read, |cursor, read| port.ring.try_copy(cursor, read))?)
        });
        let is_valid;
        (*copied, is_valid) = match received {
            Ok(()) => copy.into_elements(),
            Err(error) => {
                *copied = copy.into_memory();
                return Err(error);
            }
        };
        is_valid.then_some(()).ok_or(RecvError::Corrupted)
    }
}

impl<T: Message> Subscriber<T> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`; `Lagged` if messages were overwritten, once for each time; `Closed`
    /// once everything that was published has been received; `Corrupted`; `NotInThisProcess`.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_any(None)
    }

    /// Receives a message. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv), without `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_any(Some(Deadline::Never))
    }

    /// Receives a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_any(Some(Deadline::after(timeout)))
    }

    /// Receives a message. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_any(Some(Deadline::at(deadline)))
    }
}

impl<T: Payload + ?Sized> Subscriber<T> {
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

    /// Like [`recv_ref`](Subscriber::recv_ref), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.pin(Some(Deadline::after(timeout)))
    }

    /// Like [`recv_ref`](Subscriber::recv_ref), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Received<'_, T>, RecvError> {
        self.pin(Some(Deadline::at(deadline)))
    }

    fn pin(&mut self, deadline: Option<Deadline>) -> Result<Received<'_, T>, RecvError> {
        self.check_mine()?;
        let (port, me, cursor) = (&self.topic.port, self.tenure.me, &mut self.cursor);
        let index = port.receive(deadline, cursor, (), |cursor, ()| port.ring.try_pin(me, cursor))?;
        let found = match T::IS_FIXED {
            true => Some((port.ring.message(index), 1)),
            false => port.find(index),
        };
        // SAFETY: the slot is pinned, so its message can be read. It is in the slot or in a block,
        // as find() has checked, and aligned there.
        let message = found.and_then(|(at, len)| unsafe { T::in_place(at.cast(), len) });
        if message.is_none() {
            port.ring.release(self.cursor.line);
        }
        let message = message.ok_or(RecvError::Corrupted)?;
        Ok(Received { subscriber: self, message })
    }

    /// Returns the number of positions between this subscriber and the end of the topic: at most
    /// this many messages can be received. The answer may be out of date immediately.
    pub fn lag(&self) -> u64 {
        let ring = &self.topic.port.ring;
        ring.end().saturating_sub(self.cursor.at.number.max(ring.floor()))
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

impl<T: Payload + ?Sized> Drop for Subscriber<T> {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.topic.port.ring.leave(self.tenure.me, self.cursor.line);
        }
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Subscriber");
        out.field("position", &self.position()).field("lag", &self.lag()).field("lost", &self.lost());
        out.field("topic", &self.topic).finish()
    }
}

/// A message of a [`Topic`], received in place.
///
/// May be kept for any length of time: publishers skip its slot meanwhile, and do not use its
/// memory. A process that breaks the rules and writes there changes what is read here;
/// [`Subscriber::recv`] returns a copy.
pub struct Received<'a, T: Payload + ?Sized> {
    subscriber: &'a mut Subscriber<T>,
    message: *const T,
}

impl<T: Payload + ?Sized> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is pinned until this is dropped; the message is valid (see pin) and
        // aligned.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized> Drop for Received<'_, T> {
    fn drop(&mut self) {
        if self.subscriber.tenure.is_mine() {
            self.subscriber.topic.port.ring.release(self.subscriber.cursor.line);
        }
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Received<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the pin belongs to the process, not to a thread.
unsafe impl<T: Payload + ?Sized> Send for Received<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Payload + ?Sized> Sync for Received<'_, T> {}

/// A blocking iterator over messages, which ends when the topic is closed and everything was
/// received: see [`Subscriber::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Payload + ?Sized> {
    subscriber: &'a mut Subscriber<T>,
    has_failed: bool,
}

/// A non-blocking iterator over messages, which ends when there is none: see
/// [`Subscriber::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Payload + ?Sized> {
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

impl<T: Payload + ?Sized> Iterator for Iter<'_, T> {
    type Item = Result<T::Owned, RecvError>;

    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.subscriber.recv_any(Some(Deadline::Never)))
    }
}

impl<T: Payload + ?Sized> Iterator for TryIter<'_, T> {
    type Item = Result<T::Owned, RecvError>;

    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.subscriber.recv_any(None))
    }
}
