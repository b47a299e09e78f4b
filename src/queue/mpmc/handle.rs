//! The handle of a queue, `Queue<T>`, and its builder.

use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::QueueBuilder;
use super::halves::Halves;
use super::layout::{Layout, SLOTS};
use super::ring::{Claim, Ring};
use crate::message::{Payload, Varied};
use crate::queue::blocked::Blocked;
use crate::queue::payload::area::{find, Area};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::{Error, ErrorKind, Result};

/// A bounded queue between any number of producers and consumers, in any number of processes.
///
/// All participants see one order: a message sent after another `send` has returned is received
/// after that message. Once `send` has returned, any consumer can receive the message immediately.
/// Each message goes to exactly one consumer, which may read it in place. Any process may be killed
/// or stopped at any moment, and the others go on. A message that it had not finished sending is
/// not sent. A message that it was reading is counted as [`lost`](Queue::lost), or delivered again,
/// as the [builder](Queue::builder) says.
///
/// Messages have a fixed size, or differ in length: `Queue<[T]>` and `Queue<str>` carry slices and
/// text. A short one is stored in its slot, and a longer one in memory out of the queue's
/// [quota](crate::queue::QueueBuilder::quota). A quota that is used up is a full queue.
///
/// Stays open until it is [closed](Queue::close), or until all [halves](Queue::sender) on one side
/// have left, if there were any.
///
/// Unfair: the longest waiter is not served first. Has no priorities and no broadcast. Between one
/// producer and one consumer [`spsc`](crate::spsc()) is faster.
///
/// Has no rendezvous, and refuses a capacity of 0: a send that returns only once the message was
/// received would have to know whether a receiver that died had taken it or only seen it. If a
/// sender must know that its message was handled, send an answer.
///
/// Clone the handle for threads (or share it: it is `Sync`), pass it to a child process, or open it
/// by name. `try_send` and `try_recv` make a system call only if a waiter sleeps. They do not
/// allocate, except for the `Vec` or `String` that a message of varying length is received as.
///
/// # Examples
///
/// ```
/// use pagemate::Queue;
///
/// # fn main() -> pagemate::Result<()> {
/// let queue = Queue::<u64>::new(8)?;
/// let jobs = queue.clone();
/// let worker = std::thread::spawn(move || jobs.iter().sum::<Result<u64, _>>());
/// for n in 0..100 {
///     queue.send(n)?;
/// }
/// queue.close();
/// assert_eq!(worker.join().unwrap()?, 4950);
/// # Ok(())
/// # }
/// ```
///
/// Messages of any length:
///
/// ```
/// use pagemate::Queue;
///
/// # fn main() -> pagemate::Result<()> {
/// let frames = Queue::<[u8]>::builder(8).quota(4 << 20).build()?;
/// frames.send(b"a few bytes")?;
/// frames.send(&vec![7; 1 << 20])?;
/// assert_eq!(frames.recv()?, b"a few bytes");
/// assert_eq!(frames.recv_ref()?.len(), 1 << 20); // in place
///
/// let log = Queue::<str>::new(64)?;
/// log.send("started")?;
/// assert_eq!(log.recv()?, "started");
/// # Ok(())
/// # }
/// ```
///
/// By name, between unrelated processes:
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
pub struct Queue<T: Payload + ?Sized> {
    pub(super) ring: Ring,
    /// Keeps the memory of `ring` mapped.
    pub(super) object: ObjectRef,
    /// The participant that this handle has enlisted last, as one that may hold slots; 0: none.
    enlisted: AtomicU32,
    /// The bytes that fit into a slot. Only if messages differ in length, like `area`.
    pub(super) inline: usize,
    /// Where larger messages are.
    pub(super) area: Option<Arc<Area>>,
    /// The offset of the halves in the object.
    halves_at: usize,
    _messages: PhantomData<fn(&T) -> &T>,
}

impl<T: Payload + ?Sized> Object for Queue<T> {
    const KIND: Kind = Kind::Queue;
    const LEN: usize = SLOTS;
    type Initial = QueueBuilder<T>;

    fn schema() -> String {
        T::layout()
    }

    fn len_for(builder: &QueueBuilder<T>) -> Result<usize> {
        Layout::<T>::len(&builder.plan)
    }

    unsafe fn init(base: *mut u8, builder: &QueueBuilder<T>) {
        // SAFETY: as the caller promises.
        unsafe { Layout::<T>::init(base, &builder.plan) }
    }

    fn attach(object: ObjectRef) -> Result<Queue<T>> {
        let () = <T::Element as crate::Message>::CHECKED;
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Layout::<T>::check(object.base(), object.len()) } {
            Some((ring, area, halves_at)) => Ok(Queue {
                ring,
                halves_at,
                object,
                enlisted: AtomicU32::new(0),
                inline: area.as_ref().map_or(0, Area::inline),
                area: area.map(Arc::new),
                _messages: PhantomData,
            }),
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the queue's geometry does not fit its size or its type",
            )),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Payload + ?Sized> Queue<T> {
    /// Returns a builder for a queue of this capacity with further options.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let tasks = pagemate::Queue::<u32>::builder(64).redeliver(true).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(capacity: usize) -> QueueBuilder<T> {
        QueueBuilder::of(capacity)
    }

    /// Creates an anonymous queue with room for `capacity` messages. Clone the handle, or pass it
    /// to a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open
    /// files).
    pub fn new(capacity: usize) -> Result<Queue<T>> {
        Queue::builder(capacity).build()
    }

    /// Creates a named queue with room for `capacity` messages.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Queue<T>> {
        Queue::builder(capacity).create(place)
    }

    /// Opens an existing queue.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of other messages), `PermissionDenied`,
    /// `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Queue<T>> {
        Object::open(place)
    }

    /// Opens the queue, or creates it with room for `capacity` messages if there is none. Also
    /// returns which of the two happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Queue::open) and [`create`](Queue::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Queue<T>, Origin)> {
        Queue::builder(capacity).open_or_create(place)
    }

    #[inline]
    pub(super) fn halves(&self) -> &Halves {
        // SAFETY: Layout::check() has found that they are inside of the object, which is mapped as
        // long as `self`, at a multiple of 128. Any bytes are Halves, which are atomics only.
        unsafe { &*self.object.base().add(self.halves_at).cast() }
    }

    pub(crate) fn ring(&self) -> Ring {
        self.ring
    }

    /// Returns the address of a slot's message. Its users say why they may access it.
    #[inline(always)]
    pub(super) fn message(&self, index: u32) -> *mut u8 {
        self.ring.message(index, Layout::<T>::OFFSET)
    }

    /// Returns the elements of a slot's message: their address and their number. `None` if the
    /// header is damaged.
    #[inline(always)]
    pub(super) fn find(&self, index: u32) -> Option<(*mut T::Element, usize)> {
        let at = self.message(index);
        if T::IS_FIXED {
            return Some((at.cast(), 1));
        }
        let size = size_of::<T::Element>();
        let (at, len) = find(self.area.as_deref(), self.ring.header(index), at, size, self.inline)?;
        Some((at.cast(), len))
    }

    /// Frees the slot of a message that was received, and the block of the message.
    #[inline(always)]
    pub(super) fn finish(&self, me: OwnerId, claim: Claim) {
        if let (false, Some(area)) = (T::IS_FIXED, &self.area) {
            area.finish(self.ring.header(claim.index));
        }
        self.ring.free(me, claim);
    }

    /// Frees a slot that was claimed and in which nothing is sent, and the block of its message.
    pub(super) fn abandon(&self, me: OwnerId, claim: Claim) {
        if let (false, Some(area)) = (T::IS_FIXED, &self.area) {
            area.abandon(self.ring.header(claim.index));
        }
        self.ring.free_unsent(me, claim);
    }

    /// Moves a message from one slot that this process writes to another.
    pub(super) fn move_message(&self, from: u32, to: u32) {
        let (from_at, to_at) = (self.message(from), self.message(to));
        let bytes = if T::IS_FIXED {
            size_of::<T::Element>()
        } else {
            let (old, new) = (self.ring.header(from), self.ring.header(to));
            let is_inline = old.block().is_none();
            let len = usize::try_from(old.length()).unwrap_or(usize::MAX);
            Area::move_on(old, new);
            // At most what a slot has room for, whatever the header says.
            if is_inline {
                len.saturating_mul(size_of::<T::Element>()).min(self.inline)
            } else {
                0
            }
        };
        // SAFETY: both slots are ours, and they are not the same; each has room for these bytes,
        // and nobody else uses the message.
        unsafe { from_at.copy_to_nonoverlapping(to_at, bytes) }
    }

    #[inline]
    pub(super) fn me(&self) -> Result<OwnerId, Blocked> {
        let me = self.object.owner().map_err(|error| Blocked::NotInThisProcess(error.refusal()))?;
        // Relaxed: a thread that sees another thread's mark may see the bit in memory later, but
        // before it dies.
        if self.enlisted.load(Relaxed) != me.bits() {
            self.ring.enlist(me);
            self.enlisted.store(me.bits(), Relaxed);
        }
        Ok(me)
    }

    /// Counts a failed attempt, because callers that poll without blocking must notice deaths too.
    #[inline]
    pub(super) fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.object.note_failed_try();
        }
        blocked
    }

    /// Returns the number of messages that the queue has room for.
    pub fn capacity(&self) -> usize {
        self.ring.capacity() as usize
    }

    /// Returns the number of messages that can be received. Reads every slot.
    ///
    /// Exact while nobody sends or receives. Otherwise it may be too small by the messages sent
    /// during the call, or too large by those received during the call.
    pub fn len(&self) -> usize {
        self.ring.count(usize::MAX)
    }

    /// Returns whether there is nothing to receive. The answer may be out of date immediately: true
    /// can turn false at a send, false can turn true at a receive.
    pub fn is_empty(&self) -> bool {
        self.object.is_hindered(self.ring.is_empty())
    }

    /// Returns whether there is no room. Messages, loans and messages being read occupy slots. The
    /// answer may be out of date immediately: true can turn false when a slot is freed, false can
    /// turn true at a send.
    pub fn is_full(&self) -> bool {
        self.object.is_hindered(!self.ring.has_room())
    }

    /// Closes the queue for good. From now on sends fail with `Closed` and return the message.
    /// Receivers get everything that was sent, and then `Closed`. Wakes all waiters.
    ///
    /// Returns true if this call closed it, false if it was closed before. One call of all
    /// processes returns true, unless its process dies.
    ///
    /// A `send` that runs at this moment returns either `Ok`, and its message is received, or
    /// `Closed`.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = pagemate::Queue::<u32>::new(4)?;
    /// assert!(queue.close());
    /// assert!(!queue.close() && queue.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> bool {
        self.ring.close()
    }

    /// Returns whether the queue was closed. Once true, always true. There may still be messages.
    pub fn is_closed(&self) -> bool {
        !self.object.is_hindered(!self.ring.is_closed())
    }

    /// Returns whether both handles are of the same queue: clones, or handles that were opened by
    /// the same name.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// use pagemate::Queue;
    ///
    /// let (queue, other) = (Queue::<u32>::new(4)?, Queue::<u32>::new(4)?);
    /// assert!(queue.same_channel(&queue.clone()));
    /// assert!(!queue.same_channel(&other));
    /// # Ok(())
    /// # }
    /// ```
    pub fn same_channel(&self, other: &Queue<T>) -> bool {
        self.object.is_same(&other.object)
    }

    /// Returns the number of messages that were being read by processes that died, and were not
    /// delivered again.
    pub fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

impl<T: Varied + ?Sized> Queue<T> {
    /// Returns the bytes of memory for messages that do not fit into a slot: see
    /// [`quota`](QueueBuilder::quota).
    pub fn quota(&self) -> u64 {
        self.area.as_ref().map_or(0, |area| area.quota())
    }

    /// Returns the bytes of the quota that messages take. Inspects all blocks of memory. The
    /// answer may be out of date immediately.
    pub fn quota_in_use(&self) -> u64 {
        self.area.as_ref().map_or(0, |area| area.in_use())
    }
}

impl<T: Payload + ?Sized> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue {
            ring: self.ring,
            object: self.object.clone(),
            enlisted: AtomicU32::new(0),
            inline: self.inline,
            area: self.area.clone(),
            halves_at: self.halves_at,
            _messages: PhantomData,
        }
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Queue");
        out.field("capacity", &self.capacity()).field("len", &self.len());
        out.field("is_closed", &self.ring.is_closed()).field("ring", &self.ring).finish()
    }
}
