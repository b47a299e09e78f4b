//! The handle: `Queue<T>`, what it is created with, and what can be seen of it.

use std::fmt;
use std::marker::PhantomData;

use super::layout::Layout;
use super::ring::{Ring, Stop};
use crate::kind::Kind;
use crate::message::Message;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place};
use crate::queue::error::Denied;
use crate::{Error, ErrorKind, Result};

/// A bounded queue between any number of producers and consumers, in any number of processes.
///
/// One order for all: who sends after another's `send` has returned is received after it. A `send` that
/// returned can be received at once by anybody. Each message goes to exactly one consumer, in place if one
/// likes. Any process may be killed or stopped at any moment: the others go on. What it had not sent is not
/// sent; what it was reading is counted as [`lost`](Queue::lost), or delivered again, as the
/// [options](Queue::options) say.
///
/// Not fair: who waits longest is not served first. Has no priorities and no broadcast. Between one producer
/// and one consumer [`spsc`](crate::spsc()) is faster.
///
/// Clone it for threads (or share it: it is `Sync`), give it to a child process, or open it by name.
/// `try_send` and `try_recv` allocate nothing, and make a system call only if somebody sleeps.
///
/// # Examples
///
/// ```
/// use pagemate::Queue;
///
/// # fn main() -> pagemate::Result<()> {
/// let queue = Queue::<u64>::new(8)?;
/// let jobs = queue.clone();
/// let worker = std::thread::spawn(move || jobs.iter().sum::<u64>());
/// for n in 0..100 {
///     queue.send(n)?;
/// }
/// queue.close();
/// assert_eq!(worker.join().unwrap(), 4950);
/// # Ok(())
/// # }
/// ```
///
/// By name, between processes that know nothing of each other:
///
/// ```
/// use pagemate::Queue;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-queue-{}", std::process::id());
/// # let name = name.as_str();
/// let here = Queue::<[f32; 3]>::create(name, 1024)?;
/// here.send([1.0, 2.0, 3.0])?;
///
/// let there = Queue::<[f32; 3]>::open(name)?;
/// assert_eq!(there.recv()?, [1.0, 2.0, 3.0]);
/// # Ok(())
/// # }
/// ```
pub struct Queue<T: Message> {
    pub(super) ring: Ring,
    /// Keeps mapped what `ring` points to.
    pub(super) object: ObjectRef,
    _messages: PhantomData<fn(T) -> T>,
}

/// What a queue is created with: see [`Queue::options`].
pub struct QueueOptions<T: Message> {
    capacity: usize,
    redeliver: bool,
    _messages: PhantomData<fn(T) -> T>,
}

impl<T: Message> QueueOptions<T> {
    /// Whether a message that a consumer held when it died is delivered again, to whoever asks next. False
    /// unless said.
    ///
    /// With it, dropping a [`Received`](crate::Received) (or the return of [`Queue::recv`]) is the acknowledgement, and
    /// delivery is at least once: a consumer may have done its work and died before it said so. Such a
    /// message comes before all others, and may come after a consumer was told that the queue is closed.
    pub fn redeliver(mut self, redeliver: bool) -> QueueOptions<T> {
        self.redeliver = redeliver;
        self
    }

    /// As [`Queue::new`].
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    #[allow(clippy::new_ret_no_self)] // The same verbs as a queue's own.
    pub fn new(self) -> Result<Queue<T>> {
        Queue::from_object(Place::anonymous(&Layout::<T>::shape(self.capacity)?, self.init())?)
    }

    /// As [`Queue::create`].
    ///
    /// # Errors
    ///
    /// As [`Queue::create`].
    pub fn create(self, place: impl Into<Place>) -> Result<Queue<T>> {
        Queue::from_object(place.into().create(&Layout::<T>::shape(self.capacity)?, self.init())?)
    }

    /// As [`Queue::open_or_create`]. A queue that is there already keeps its own options.
    ///
    /// # Errors
    ///
    /// As [`Queue::open_or_create`].
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<(Queue<T>, Origin)> {
        let shape = Layout::<T>::shape(self.capacity)?;
        let (object, origin) = place.into().open_or_create(&shape, self.init())?;
        Ok((Queue::from_object(object)?, origin))
    }

    fn init(&self) -> impl Fn(*mut u8) {
        let (capacity, redeliver) = (self.capacity, self.redeliver);
        // SAFETY: an object of this shape, zeroed and aligned, that nobody else can see.
        move |base| unsafe { Layout::<T>::init(base, capacity, redeliver) }
    }
}

impl<T: Message> Queue<T> {
    /// What the queue is to be created with, beside its capacity.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let tasks = pagemate::Queue::<u32>::options(64).redeliver(true).new()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(capacity: usize) -> QueueOptions<T> {
        QueueOptions { capacity, redeliver: false, _messages: PhantomData }
    }

    /// A queue with room for `capacity` messages that only handles lead to: clone it, or give it to a child
    /// process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open files).
    pub fn new(capacity: usize) -> Result<Queue<T>> {
        Queue::options(capacity).new()
    }

    /// Creates the queue. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`.
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Queue<T>> {
        Queue::options(capacity).create(place)
    }

    /// Opens an existing queue.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of other messages), `PermissionDenied`,
    /// `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Queue<T>> {
        Queue::from_object(place.into().open(Kind::Queue, &T::schema().to_string())?)
    }

    /// Opens the queue or, if there is none, creates it with room for `capacity` messages; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Queue::open) and [`create`](Queue::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Queue<T>, Origin)> {
        Queue::options(capacity).open_or_create(place)
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Queue<T>> {
        let () = T::CHECKED;
        // SAFETY: the object is aligned to 128 and mapped as long as `object` lives, which stays beside the
        // ring.
        match unsafe { Layout::<T>::check(object.base(), object.len()) } {
            Some(ring) => Ok(Queue { ring, object, _messages: PhantomData }),
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the queue's geometry does not fit its size or its type",
            )),
        }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(crate) fn ring(&self) -> Ring {
        self.ring
    }

    /// Where the message of a slot is. A pointer only: who uses it says why it may.
    #[inline(always)]
    pub(super) fn message(&self, index: u32) -> *mut u8 {
        self.ring.message(index, Layout::<T>::OFFSET)
    }

    #[inline]
    pub(super) fn me(&self) -> Result<OwnerId, Denied> {
        self.object.owner().map_err(|_| Denied::NotInThisProcess)
    }

    /// Why an attempt came to nothing. Who only ever tries must notice deaths too.
    #[inline]
    pub(super) fn denied(&self, stop: Stop) -> Denied {
        if stop == Stop::Wait {
            self.object.miss();
        }
        Denied::from(stop)
    }

    /// For how many messages the queue was created.
    pub fn capacity(&self) -> usize {
        self.ring.capacity() as usize
    }

    /// How many messages can be received: sent, and not received. Looks at every slot.
    ///
    /// Exact while nobody sends or receives. Otherwise it may count too few (sent meanwhile, behind the look)
    /// or too many (received meanwhile), by as many as were in the time of the call.
    pub fn len(&self) -> usize {
        self.ring.count(usize::MAX)
    }

    /// Whether there is nothing to receive. May change at any moment: true goes wrong when somebody sends,
    /// false when somebody receives.
    pub fn is_empty(&self) -> bool {
        self.ring.count(1) == 0
    }

    /// Whether there is no room: messages, loans and messages being read take it. True goes wrong when
    /// somebody receives or gives up a slot, false when somebody sends.
    pub fn is_full(&self) -> bool {
        !self.ring.has_room()
    }

    /// No more messages, from anybody: sending gives `Closed` and the message back from now on; who receives
    /// gets everything that was sent, and then `Closed`. Wakes everybody who waits. Cannot be undone.
    ///
    /// A `send` that runs at this moment either returns `Ok`, and then its message is received, or `Closed`.
    pub fn close(&self) {
        self.ring.close();
    }

    /// Whether the queue was closed. Once true always true; there may still be messages.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// How many messages were being read by processes that died, and were not delivered again.
    pub fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

impl From<Stop> for Denied {
    #[inline(always)]
    fn from(stop: Stop) -> Denied {
        match stop {
            Stop::Wait => Denied::Later,
            Stop::Closed => Denied::Closed,
            Stop::Corrupted => Denied::Corrupted,
        }
    }
}

impl<T: Message> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { ring: self.ring, object: self.object.clone(), _messages: PhantomData }
    }
}

impl<T: Message> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Queue");
        out.field("capacity", &self.capacity()).field("len", &self.len());
        out.field("is_closed", &self.is_closed()).field("ring", &self.ring).finish()
    }
}

impl<T: Message> fmt::Debug for QueueOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("QueueOptions");
        out.field("capacity", &self.capacity).field("redeliver", &self.redeliver).finish()
    }
}
