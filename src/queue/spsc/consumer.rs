//! The receiving handle of a ring.

use std::fmt;
use std::time::{Duration, Instant};

use super::slot::Plan;
use crate::error::Refusal;
use crate::message::payload::append;
use crate::message::{self, Payload};
use crate::queue::blocked::Blocked;
use crate::queue::error::{item, RecvError};
use crate::queue::spsc::cursor::{Control, ReadCursor};
use crate::queue::spsc::endpoint::{check_role, damaged_positions, hand_over, take_role, Endpoint};
use crate::queue::spsc::Received;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::sys::clock::Deadline;
use crate::Result;

/// The only receiver of a ring. See [`spsc`](crate::spsc).
///
/// Not `Clone`: a second consumer needs a [`Queue`](crate::Queue). Dropping it closes the ring for
/// the producer. `try_recv` does not allocate, and makes a system call only if the producer sleeps.
/// In a child created by `fork`, its calls return `NotInThisProcess`, because the role stays with
/// the parent.
pub struct Consumer<T: Payload + ?Sized> {
    pub(super) cursor: ReadCursor,
    /// The slot of the cursor's position.
    pub(super) slot: usize,
    pub(super) endpoint: Endpoint<T>,
}

// SAFETY: the pointers inside of the endpoint lead to shared memory, which belongs to no thread;
// messages are Send.
unsafe impl<T: Payload + ?Sized> Send for Consumer<T> {}

impl<T: Payload + ?Sized> Consumer<T> {
    /// Creates the ring with room for `capacity` messages and becomes its consumer. The role of the
    /// producer is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`, `RoleTaken` (another process became the consumer first).
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Consumer<T>> {
        Consumer::join(Endpoint::create(place, Plan::of(capacity))?)
    }

    /// Opens the ring and becomes its consumer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a consumer), `Closed` (it had one), `TypeMismatch`,
    /// `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Consumer<T>> {
        Consumer::join(Endpoint::open(place)?)
    }

    /// Opens the ring, or creates it with room for `capacity` messages if there is none. Also
    /// returns which of the two happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Consumer::open) and [`create`](Consumer::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Consumer<T>, Origin)> {
        let (endpoint, origin) = Endpoint::open_or_create(place, Plan::of(capacity))?;
        Ok((Consumer::join(endpoint)?, origin))
    }

    pub(super) fn join(endpoint: Endpoint<T>) -> Result<Consumer<T>> {
        take_role(&endpoint.object, endpoint.control().consumer(), endpoint.me, "consumer")?;
        Consumer::resume(endpoint)
    }

    /// Creates the handle of a process that holds the role already.
    pub(super) fn resume(endpoint: Endpoint<T>) -> Result<Consumer<T>> {
        let Some(cursor) = ReadCursor::start(endpoint.control(), endpoint.capacity as u64) else {
            endpoint.control().close_consumer(endpoint.me);
            return Err(damaged_positions());
        };
        let slot = (cursor.position() % endpoint.capacity as u64) as usize;
        Ok(Consumer { cursor, slot, endpoint })
    }

    /// Returns what a waiter without the handle needs: the object and its control block.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control) {
        (&self.endpoint.object, self.endpoint.control())
    }

    /// Hands the role to the child process that `register` adds.
    pub(crate) fn into_child(self, register: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = register(&self.endpoint.object)?;
        hand_over(self.endpoint.control().consumer(), self.endpoint.me, child, "consumer")
    }

    /// Creates, in a child, the handle of the role that its parent handed over.
    pub(crate) fn from_parent(endpoint: Endpoint<T>) -> Result<Consumer<T>> {
        check_role(endpoint.control().consumer(), endpoint.me, "consumer")?;
        Consumer::resume(endpoint)
    }

    /// Returns the known number of messages: at least `want`, or all there are, but not 0.
    #[inline(always)]
    pub(super) fn ready(&mut self, want: u64) -> Result<u64, Blocked> {
        if !self.endpoint.is_mine() {
            return Err(Blocked::NotInThisProcess(Refusal::FORKED));
        }
        self.cursor.ready(self.endpoint.control(), want).map_err(|blocked| self.endpoint.note(blocked))
    }

    /// Releases the current slot, which `ready` has granted.
    #[inline(always)]
    pub(super) fn release_one(&mut self) {
        self.slot += 1;
        if self.slot == self.endpoint.capacity {
            self.slot = 0;
        }
        self.cursor.release(self.endpoint.control(), 1);
    }

    /// Releases `count` slots, which `ready` has granted. `count` is at most the capacity.
    #[inline]
    pub(super) fn release(&mut self, count: usize) {
        self.slot += count;
        if self.slot >= self.endpoint.capacity {
            self.slot -= self.endpoint.capacity;
        }
        self.cursor.release(self.endpoint.control(), count as u64);
    }

    /// Copies the message out of the current slot, which `ready` has granted, and releases the
    /// slot.
    #[inline(always)]
    fn take(&mut self) -> Result<T::Owned, RecvError> {
        if T::IS_FIXED {
            // SAFETY: the slot is the consumer's until it is released.
            let value = unsafe { message::read::<T::Element>(self.endpoint.slot(self.slot).cast()) };
            self.release_one();
            return value.and_then(T::from_one).ok_or(RecvError::Corrupted);
        }
        let mut copy = Vec::new();
        self.append(&mut copy)?;
        T::from_copy(copy).ok_or(RecvError::Corrupted)
    }

    /// Appends the elements of the current message, which `ready` has granted, to a copy, and
    /// releases the slot. Returns their number.
    pub(super) fn append(&mut self, copy: &mut Vec<T::Element>) -> Result<usize, RecvError> {
        // SAFETY: the slot is the consumer's, and so is its block, where find() has found that many
        // elements, aligned.
        let found = self.endpoint.find(self.slot).filter(|(at, len)| unsafe { append(copy, *at, *len) });
        self.endpoint.finish(self.slot);
        self.release_one();
        found.map(|(_, len)| len).ok_or(RecvError::Corrupted)
    }

    /// See [`try_recv`](Consumer::try_recv).
    #[inline]
    pub(super) fn try_recv_any(&mut self) -> Result<T::Owned, RecvError> {
        match self.ready(1) {
            Ok(_) => self.take(),
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }

    /// Receives a message. Blocks until there is one, until the deadline.
    #[inline]
    pub(super) fn recv_any(&mut self, deadline: Deadline) -> Result<T::Owned, RecvError> {
        match self.wait_for_message(deadline) {
            Ok(()) => self.take(),
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }

    /// Receives a message like [`recv_any`](Consumer::recv_any). Reads the clock only if it must
    /// wait.
    pub(super) fn recv_timed(&mut self, deadline: impl FnOnce() -> Deadline) -> Result<T::Owned, RecvError> {
        match self.try_recv_any() {
            Err(RecvError::Empty) => self.recv_any(deadline()),
            received => received,
        }
    }

    /// Blocks until there is at least one message, the ring has ended, or the deadline passes.
    #[inline]
    pub(super) fn wait_for_message(&mut self, deadline: Deadline) -> Result<(), Blocked> {
        match self.ready(1) {
            Ok(_) => Ok(()),
            Err(Blocked::Later) => self.wait_contended(deadline),
            Err(blocked) => Err(blocked),
        }
    }

    #[cold]
    fn wait_contended(&mut self, deadline: Deadline) -> Result<(), Blocked> {
        let Consumer { endpoint, cursor, .. } = self;
        let control = endpoint.control();
        let attempt = || match cursor.ready(control, 1) {
            Err(Blocked::Later) => None,
            other => Some(other),
        };
        match control.wait_for_items(deadline, || endpoint.object.reap_dead(), attempt) {
            Some(Ok(_)) => Ok(()),
            Some(Err(blocked)) => Err(blocked),
            None => Err(Blocked::Later),
        }
    }

    /// Returns the next message in place, if there is one now. Dropping the guard releases its
    /// slot.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<Received<'_, T>, RecvError> {
        match self.ready(1) {
            Ok(_) => self.show(),
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }

    /// Returns the next message in place. Blocks until there is one. Dropping the guard releases
    /// its slot.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_ref(&mut self) -> Result<Received<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::Never)
    }

    /// Like [`recv_ref`](Consumer::recv_ref), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Received<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::after(timeout))
    }

    /// Like [`recv_ref`](Consumer::recv_ref), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Received<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::at(deadline))
    }

    fn recv_ref_until(&mut self, deadline: Deadline) -> Result<Received<'_, T>, RecvError> {
        match self.wait_for_message(deadline) {
            Ok(()) => self.show(),
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }

    #[inline]
    fn show(&mut self) -> Result<Received<'_, T>, RecvError> {
        let found = self.endpoint.find(self.slot);
        // SAFETY: the slot is the consumer's until it is released. The message is in the slot or in
        // a block, as find() has checked, and aligned there.
        match found.and_then(|(at, len)| unsafe { T::in_place(at, len) }) {
            Some(message) => Ok(Received { consumer: self, message }),
            None => {
                self.endpoint.finish(self.slot);
                self.release_one();
                Err(RecvError::Corrupted)
            }
        }
    }

    /// Returns an iterator that receives messages, blocking for each, until the ring is closed and
    /// empty.
    ///
    /// Only `Closed` ends it without an item, so its end means that everything sent has been
    /// received. Every other error is an item, after which the iterator ends. A new call of `iter`
    /// continues after it.
    ///
    /// # Errors
    ///
    /// The items are those of [`recv`](Consumer::recv) without `Closed`: a message, `Corrupted` or
    /// `NotInThisProcess`.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<T::Owned, RecvError>> + use<'_, T> {
        let mut has_failed = false;
        std::iter::from_fn(move || item(&mut has_failed, || self.recv_any(Deadline::Never)))
    }

    /// Returns the number of messages that the ring has room for.
    pub fn capacity(&self) -> usize {
        self.endpoint.capacity
    }

    /// Returns the number of messages in the ring. The producer may make it larger at any moment,
    /// nobody can make it smaller.
    #[doc(alias = "slots")]
    pub fn len(&self) -> usize {
        self.endpoint.len()
    }

    /// Returns whether the ring is empty. True can turn false immediately. False stays false until
    /// this consumer receives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the ring is full. True stays true until this consumer receives.
    pub fn is_full(&self) -> bool {
        self.len() == self.endpoint.capacity
    }

    /// Returns whether the producer has closed or died. There may still be messages. True stays
    /// true. False can turn true immediately.
    pub fn is_closed(&self) -> bool {
        !self.endpoint.object.is_hindered(!self.endpoint.control().producer().is_gone())
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = T::name();
        f.debug_struct("Consumer")
            .field("message", &name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}
