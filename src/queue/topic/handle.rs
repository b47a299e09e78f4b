//! The handle of a topic, `Topic<T>`.

use std::fmt;
use std::marker::PhantomData;

use super::layout::{Layout, LINES, SUBSCRIBERS};
use super::locate::Wanted;
use super::publisher::Publisher;
use super::ring::Ring;
use super::subscriber::Subscriber;
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::message::Message;
use crate::queue::blocked::Blocked;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::{Error, ErrorKind, Result};

/// Messages from any number of publishers to any number of subscribers, in any number of processes.
/// Each subscriber receives all of them.
///
/// All subscribers see one order: a message published after another `publish` has returned comes
/// after that message. The topic keeps the last `capacity` messages for subscribers that are slow
/// or come later; [`subscribe`](Topic::subscribe) says with which of them they begin. A publisher
/// never waits for a subscriber, whether that is idle, slow, stopped, dead or reading in place. A
/// subscriber that is too slow is told exactly how many messages it has lost
/// ([`RecvError::Lagged`](super::RecvError::Lagged)), and continues with the oldest one that is
/// there.
///
/// Any process may be killed or stopped at any moment, and the others go on. A message that it had
/// not finished publishing is not published, or published later at the end of the order.
///
/// It has no subscribers that a publisher waits for: use a [`Queue`](crate::Queue) for messages
/// that must not be lost. It has room for 64 subscribers. A message has a fixed size.
///
/// Memory: `capacity` and an eighth of it (three at least) slots of the message's size and 16
/// bytes, rounded up to 128; and 8,576 bytes, 128 of them for each subscriber.
///
/// # Examples
///
/// ```
/// use pagemate::Topic;
/// use pagemate::queue::topic::From;
///
/// # fn main() -> pagemate::Result<()> {
/// let prices = Topic::<f64>::new(1024)?;
/// let publisher = prices.publisher();
/// publisher.publish(1.0)?;
///
/// let mut early = prices.subscribe(From::Earliest)?;
/// let mut late = prices.subscribe(From::Latest)?;
/// publisher.publish(2.5)?;
/// assert_eq!((early.recv()?, early.recv()?), (1.0, 2.5));
/// assert_eq!(late.recv()?, 2.5);
/// # Ok(())
/// # }
/// ```
///
/// A topic of capacity 1 is the latest value, with notification:
///
/// ```
/// use pagemate::Topic;
/// use pagemate::queue::topic::{From, RecvError};
///
/// # fn main() -> pagemate::Result<()> {
/// let level = Topic::<u64>::new(1)?;
/// let publisher = level.publisher();
/// (1..=5).try_for_each(|n| publisher.publish(n))?;
///
/// let mut subscriber = level.subscribe(From::Last(1))?;
/// assert_eq!(subscriber.recv()?, 5); // the value now
/// publisher.publish(6)?;
/// publisher.publish(7)?;
/// assert_eq!(subscriber.recv(), Err(RecvError::Lagged(1)));
/// assert_eq!(subscriber.recv()?, 7); // blocks until there is a new value
/// # Ok(())
/// # }
/// ```
pub struct Topic<T: Message> {
    pub(super) ring: Ring,
    /// Keeps the memory of `ring` mapped.
    pub(super) object: ObjectRef,
    /// The last user of this handle that was registered as one that the words may name. 0: nobody.
    enlisted: AtomicU32,
    _messages: PhantomData<fn(T) -> T>,
}

/// Where a subscriber begins: see [`Topic::subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum From {
    /// With the next message that is published.
    Latest,
    /// With the oldest message that the topic has.
    Earliest,
    /// With the last messages that were published: this many, or all that the topic has.
    Last(u64),
    /// With the message that this number of messages came before, as
    /// [`Subscriber::position`] says. If it was overwritten, the first receive returns
    /// [`Lagged`](super::RecvError::Lagged).
    Position(u64),
}

impl<T: Message> Object for Topic<T> {
    const KIND: Kind = Kind::Topic;
    const LEN: usize = LINES;
    /// The capacity.
    type Initial = usize;

    fn schema() -> String {
        T::schema().to_string()
    }

    fn len_for(&capacity: &usize) -> Result<usize> {
        Layout::<T>::len(capacity)
    }

    unsafe fn init(base: *mut u8, &capacity: &usize) {
        // SAFETY: as the caller promises.
        unsafe { Layout::<T>::init(base, capacity) }
    }

    fn attach(object: ObjectRef) -> Result<Topic<T>> {
        let () = T::CHECKED;
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Layout::<T>::check(object.base(), object.len()) } {
            Some(ring) => Ok(Topic { ring, object, enlisted: AtomicU32::new(0), _messages: PhantomData }),
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the topic's geometry does not fit its size or its type",
            )),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> Topic<T> {
    verbs! {
        Topic<T>: "a" "topic" (capacity: usize),
        with "that keeps the last `capacity` messages",
        refuses "a capacity of 0, or too large",
        mismatch "a topic of other messages",
        keeps "its capacity"
    }

    /// Returns a publisher. Any number of them may publish at once.
    pub fn publisher(&self) -> Publisher<T> {
        Publisher::new(self.clone())
    }

    /// Returns a subscriber, which begins where `from` says.
    ///
    /// It receives every message that is published after this call has returned, unless it is too
    /// slow. A publisher that is in the middle of a publication at this moment may have to publish
    /// at a later position.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` (the topic has 64 subscribers), `InvalidInput` (`From::Position` of a message
    /// that is not published yet), `Busy` (publishers were always faster), `Corrupted`,
    /// `NotInThisProcess`.
    pub fn subscribe(&self, from: From) -> Result<Subscriber<T>> {
        let me = self.object.owner()?;
        self.enlist(me);
        let line = match self.ring.take_line(me) {
            Some(line) => line,
            None => {
                // Some of them may be dead.
                self.object.reap_dead();
                self.ring.take_line(me).ok_or_else(table_is_full)?
            }
        };
        let wanted = match from {
            From::Latest => Wanted::Last(0),
            From::Earliest => Wanted::Last(u64::MAX),
            From::Last(count) => Wanted::Last(count),
            From::Position(position) => Wanted::Ordinal(position),
        };
        match self.ring.begin_at(wanted, line) {
            Ok(Some(cursor)) => Ok(Subscriber::new(self.clone(), me, cursor)),
            failed => {
                self.ring.leave(me, line);
                Err(cannot_subscribe(failed.err()))
            }
        }
    }

    pub(crate) fn ring(&self) -> Ring {
        self.ring
    }

    #[inline]
    pub(super) fn me(&self) -> Result<OwnerId, Blocked> {
        let me = self.object.owner().map_err(|error| Blocked::NotInThisProcess(error.refusal()))?;
        self.enlist(me);
        Ok(me)
    }

    #[inline]
    fn enlist(&self, me: OwnerId) {
        // Relaxed: a thread that sees another thread's mark may see the bit in memory later, but
        // before it dies.
        if self.enlisted.load(Relaxed) != me.bits() {
            self.ring.enlist(me);
            self.enlisted.store(me.bits(), Relaxed);
        }
    }

    /// Returns the number of messages that the topic keeps. It may keep some more, or fewer while
    /// messages are read or written in place.
    pub fn capacity(&self) -> usize {
        self.ring.shape().capacity as usize
    }

    /// Closes the topic for good. From now on publications fail with `Closed` and return the
    /// message. Subscribers get everything that was published, and then `Closed`. Wakes all
    /// waiters. Returns true if this call closed it, false if it was closed before.
    ///
    /// A `publish` that runs at this moment returns either `Ok`, and its message is received, or
    /// `Closed`.
    pub fn close(&self) -> bool {
        self.ring.close()
    }

    /// Returns whether the topic was closed. Once true, always true. There may still be messages.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

#[cold]
fn table_is_full() -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("all {SUBSCRIBERS} lines for subscribers of this topic are taken"),
    )
}

#[cold]
fn cannot_subscribe(blocked: Option<Blocked>) -> Error {
    match blocked {
        None => Error::new(ErrorKind::InvalidInput, "the message to begin with is not published yet"),
        Some(Blocked::Later) => Error::new(
            ErrorKind::Busy,
            "publishers went round the topic faster than a subscriber could begin",
        ),
        Some(_) => Error::new(ErrorKind::Corrupted, "the words of the topic contradict each other"),
    }
}

impl<T: Message> Clone for Topic<T> {
    fn clone(&self) -> Topic<T> {
        Topic {
            ring: self.ring,
            object: self.object.clone(),
            enlisted: AtomicU32::new(0),
            _messages: PhantomData,
        }
    }
}

impl<T: Message> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Topic");
        out.field("capacity", &self.capacity()).field("is_closed", &self.is_closed());
        out.field("ring", &self.ring).finish()
    }
}
