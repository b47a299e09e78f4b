//! The handle of a topic, `Topic<T>`, and its builder.

use std::fmt;
use std::marker::PhantomData;

use super::builder::TopicBuilder;
use super::layout::{Layout, LINES};
use super::policy::Policy;
use super::port::Port;
use super::publisher::Publisher;
use super::ring::Ring;
use super::subscriber::Subscriber;
use crate::message::{Payload, Varied};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::{Origin, Place};
use crate::{Error, ErrorKind, Result};

/// Messages from any number of publishers to any number of subscribers, in any number of processes.
/// Each subscriber receives all of them.
///
/// All subscribers see one order: a message published after another `publish` has returned comes
/// after that message. The topic keeps the last `capacity` messages for subscribers that are slow
/// or come later; [`subscribe`](Topic::subscribe) says with which of them they begin. A publisher
/// never waits for such a subscriber, whether that is idle, slow, stopped, dead or reading in
/// place. A subscriber that is too slow is told exactly how many messages it has lost
/// ([`RecvError::Lagged`](super::RecvError::Lagged)), and continues with the oldest one that is
/// there.
///
/// A [lossless](Topic::subscribe_lossless) subscriber loses nothing: publishers wait while it is
/// `capacity` messages behind. What a publisher does at its deadline is the topic's
/// [policy](TopicBuilder::policy), by which it may make such a subscriber a lossy one. If such a
/// subscriber dies, publishers go on within 100 ms.
///
/// Any process may be killed or stopped at any moment, and the others go on. A message that it had
/// not finished publishing is not published, or published later at the end of the order.
///
/// Messages have a fixed size, or differ in length: `Topic<[T]>` and `Topic<str>` carry slices and
/// text. A short one is stored in its slot, and a longer one in memory out of the topic's
/// [quota](TopicBuilder::quota). When the quota is used up, the oldest messages are discarded,
/// which counts as overwriting them. Memory that is being written or read in place stays: a
/// publisher that needs it waits for some 100 ms, and then gets `Full`.
///
/// It has room for 64 subscribers. For messages each of which one receiver is to handle use a
/// [`Queue`](crate::Queue).
///
/// Memory: `capacity` and an eighth of it (three at least) slots of the message's size and 16
/// bytes, rounded up to 128; and 12,928 bytes, 128 of them for each subscriber. If messages differ
/// in length, slots of 128 bytes by default, and the quota.
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
/// Messages of any length:
///
/// ```
/// use pagemate::Topic;
/// use pagemate::queue::topic::From;
///
/// # fn main() -> pagemate::Result<()> {
/// let news = Topic::<str>::new(64)?;
/// let mut reader = news.subscribe(From::Latest)?;
/// let publisher = news.publisher();
/// publisher.publish("short")?;
/// publisher.publish(&"long ".repeat(1000))?;
/// assert_eq!(reader.recv()?, "short");
/// assert_eq!(reader.recv_ref()?.len(), 5000); // in place
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
pub struct Topic<T: Payload + ?Sized> {
    pub(super) port: Port,
    _messages: PhantomData<fn(&T) -> &T>,
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

impl<T: Payload + ?Sized> Object for Topic<T> {
    const KIND: Kind = Kind::Topic;
    const LEN: usize = LINES;
    type Initial = TopicBuilder<T>;

    fn schema() -> String {
        T::layout()
    }

    fn len_for(builder: &TopicBuilder<T>) -> Result<usize> {
        Layout::<T>::len(&builder.plan)
    }

    unsafe fn init(base: *mut u8, builder: &TopicBuilder<T>) {
        // SAFETY: as the caller promises.
        unsafe { Layout::<T>::init(base, &builder.plan) }
    }

    fn attach(object: ObjectRef) -> Result<Topic<T>> {
        let () = <T::Element as crate::Message>::CHECKED;
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Layout::<T>::check(object.base(), object.len()) } {
            Some(found) => Ok(Topic { port: Port::new(found, object), _messages: PhantomData }),
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the topic's geometry does not fit its size or its type",
            )),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.port.object
    }
}

impl<T: Payload + ?Sized> Topic<T> {
    /// Returns a builder for a topic of this capacity with further options.
    ///
    /// ```
    /// use pagemate::queue::topic::Policy;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let frames = pagemate::Topic::<[u8; 64]>::builder(16).policy(Policy::Evict).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(capacity: usize) -> TopicBuilder<T> {
        TopicBuilder::of(capacity)
    }

    /// Creates an anonymous topic that keeps the last `capacity` messages. Clone the handle, or
    /// pass it to a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open
    /// files).
    pub fn new(capacity: usize) -> Result<Topic<T>> {
        Topic::builder(capacity).build()
    }

    /// Creates a named topic that keeps the last `capacity` messages.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Topic<T>> {
        Topic::builder(capacity).create(place)
    }

    /// Opens an existing topic.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of other messages), `PermissionDenied`,
    /// `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Topic<T>> {
        Object::open(place)
    }

    /// Opens the topic, or creates it for the last `capacity` messages if there is none. Also
    /// returns which of the two happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Topic::open) and [`create`](Topic::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Topic<T>, Origin)> {
        Topic::builder(capacity).open_or_create(place)
    }

    /// Returns a publisher. Any number of them may publish at once, from any number of processes.
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
        let (tenure, cursor) = self.port.subscribe(from, false)?;
        Ok(Subscriber::new(self.clone(), tenure, cursor))
    }

    /// Returns a subscriber for which publishers wait, so that it loses nothing. It begins where
    /// `from` says.
    ///
    /// A publisher waits while this subscriber has `capacity` messages yet to receive. At the
    /// publisher's deadline the topic's [policy](TopicBuilder::policy) decides what happens.
    /// Skipped positions (dropped loans, messages that are read in place when publishers come
    /// round) count as messages, so it can be a few less.
    ///
    /// If the process dies, publishers go on within 100 ms. If it is stopped, or just does not
    /// receive, they wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use pagemate::queue::topic::From;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let topic = pagemate::Topic::<u32>::new(2)?;
    /// let mut recorder = topic.subscribe_lossless(From::Latest)?;
    /// let publisher = topic.publisher();
    /// publisher.publish(1)?;
    /// publisher.publish(2)?;
    /// assert!(publisher.try_publish(3).unwrap_err().is_full());
    /// assert_eq!(recorder.recv()?, 1);
    /// publisher.try_publish(3)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Topic::subscribe).
    pub fn subscribe_lossless(&self, from: From) -> Result<Subscriber<T>> {
        let (tenure, cursor) = self.port.subscribe(from, true)?;
        Ok(Subscriber::new(self.clone(), tenure, cursor))
    }

    pub(crate) fn ring(&self) -> Ring {
        self.port.ring
    }

    /// Returns the number of messages that the topic keeps. It may keep some more, or fewer while
    /// messages are read or written in place, or if the quota has no memory for that number.
    pub fn capacity(&self) -> usize {
        self.port.ring.shape().capacity as usize
    }

    /// Returns what a publisher does at its deadline about a lossless subscriber that lags.
    pub fn policy(&self) -> Policy {
        self.port.ring.shape().policy
    }

    /// Closes the topic for good. From now on publications fail with `Closed` and return the
    /// message. Subscribers get everything that was published, and then `Closed`. Wakes all
    /// waiters. Returns true if this call closed it, false if it was closed before.
    ///
    /// A `publish` that runs at this moment returns either `Ok`, and its message is received, or
    /// `Closed`.
    pub fn close(&self) -> bool {
        self.port.ring.close()
    }

    /// Returns whether the topic was closed. Once true, always true. There may still be messages.
    pub fn is_closed(&self) -> bool {
        let is_closed = self.port.ring.is_closed();
        if is_closed {
            self.port.ring.seal(); // the caller expects that subscribers get `Closed` from now on
        }
        !self.port.object.is_hindered(!is_closed)
    }
}

impl<T: Varied + ?Sized> Topic<T> {
    /// Returns the number of bytes for messages that do not fit into a slot: see
    /// [`quota`](TopicBuilder::quota).
    pub fn quota(&self) -> u64 {
        self.port.area.as_ref().map_or(0, |area| area.quota())
    }

    /// Returns the number of bytes of the quota that messages take. Inspects all blocks of memory.
    /// Stale at once.
    pub fn quota_in_use(&self) -> u64 {
        self.port.area.as_ref().map_or(0, |area| area.in_use())
    }
}

impl<T: Payload + ?Sized> Clone for Topic<T> {
    fn clone(&self) -> Topic<T> {
        Topic { port: self.port.clone(), _messages: PhantomData }
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Topic");
        out.field("capacity", &self.capacity()).field("is_closed", &self.port.ring.is_closed());
        out.field("ring", &self.port.ring).finish()
    }
}
