//! The sending handle of a ring.

use std::fmt;

use super::slot::Plan;
use crate::error::Refusal;
use crate::message::{self, Payload};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::spsc::cursor::{Control, WriteCursor};
use crate::queue::spsc::endpoint::{check_role, damaged_positions, hand_over, take_role, Endpoint};
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::sys::clock::Deadline;
use crate::Result;

/// The only sender of a ring. See [`spsc`](crate::spsc).
///
/// Not `Clone`: a second producer needs a [`Queue`](crate::Queue). Dropping it closes the ring for
/// the consumer, which first receives everything that was sent. `try_send` does not allocate, and
/// makes a system call only if the consumer sleeps. In a child created by `fork`, its calls return
/// `NotInThisProcess`, because the role stays with the parent.
///
/// # Examples
///
/// Unrelated processes, by name:
///
/// ```
/// use pagemate::queue::spsc::{Consumer, Producer};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-producer-{}", std::process::id());
/// # let name = name.as_str();
/// let mut producer = Producer::<u64>::create(name, 64)?;
/// producer.send(7)?; // needs no consumer yet
///
/// let mut consumer = Consumer::<u64>::open(name)?; // elsewhere
/// assert_eq!(consumer.recv()?, 7);
/// # Ok(())
/// # }
/// ```
pub struct Producer<T: Payload + ?Sized> {
    pub(super) cursor: WriteCursor,
    /// The slot of the cursor's position.
    pub(super) slot: usize,
    pub(super) endpoint: Endpoint<T>,
}

// SAFETY: the pointers inside of the endpoint lead to shared memory, which belongs to no thread;
// messages are Send.
unsafe impl<T: Payload + ?Sized> Send for Producer<T> {}

impl<T: Payload + ?Sized> Producer<T> {
    /// Creates the ring with room for `capacity` messages and becomes its producer. The role of the
    /// consumer is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`, `RoleTaken` (another process became the producer first).
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Producer<T>> {
        Producer::join(Endpoint::create(place, Plan::of(capacity))?)
    }

    /// Opens the ring and becomes its producer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a producer), `Closed` (it had one), `TypeMismatch`,
    /// `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Producer<T>> {
        Producer::join(Endpoint::open(place)?)
    }

    /// Opens the ring, or creates it with room for `capacity` messages if there is none. Also
    /// returns which of the two happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Producer::open) and [`create`](Producer::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Producer<T>, Origin)> {
        let (endpoint, origin) = Endpoint::open_or_create(place, Plan::of(capacity))?;
        Ok((Producer::join(endpoint)?, origin))
    }

    pub(super) fn join(endpoint: Endpoint<T>) -> Result<Producer<T>> {
        take_role(&endpoint.object, endpoint.control().producer(), endpoint.me, "producer")?;
        Producer::resume(endpoint)
    }

    /// Creates the handle of a process that holds the role already.
    pub(super) fn resume(endpoint: Endpoint<T>) -> Result<Producer<T>> {
        let Some(cursor) = WriteCursor::start(endpoint.control(), endpoint.capacity as u64) else {
            endpoint.control().close_producer(endpoint.me);
            return Err(damaged_positions());
        };
        let slot = (cursor.position() % endpoint.capacity as u64) as usize;
        Ok(Producer { cursor, slot, endpoint })
    }

    /// Returns what a waiter without the handle needs: the object, its control block, the capacity.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control, u64) {
        (&self.endpoint.object, self.endpoint.control(), self.endpoint.capacity as u64)
    }

    /// Hands the role to the child process that `register` adds.
    pub(crate) fn into_child(self, register: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = register(&self.endpoint.object)?;
        hand_over(self.endpoint.control().producer(), self.endpoint.me, child, "producer")
    }

    /// Creates, in a child, the handle of the role that its parent handed over.
    pub(crate) fn from_parent(endpoint: Endpoint<T>) -> Result<Producer<T>> {
        check_role(endpoint.control().producer(), endpoint.me, "producer")?;
        Producer::resume(endpoint)
    }

    /// Returns the known number of free slots: at least `want`, or all there are, but not 0.
    #[inline(always)]
    pub(super) fn room(&mut self, want: u64) -> Result<u64, Blocked> {
        if !self.endpoint.is_mine() {
            return Err(Blocked::NotInThisProcess(Refusal::FORKED));
        }
        self.cursor.room(self.endpoint.control(), want).map_err(|blocked| self.endpoint.note(blocked))
    }

    /// Sends the message in the current slot, which `room` has granted.
    #[inline(always)]
    pub(super) fn publish_one(&mut self) {
        self.slot += 1;
        if self.slot == self.endpoint.capacity {
            self.slot = 0;
        }
        self.cursor.publish(self.endpoint.control(), 1);
    }

    /// Sends the messages in `count` slots, which `room` has granted. `count` is at most the
    /// capacity.
    #[inline]
    pub(super) fn publish(&mut self, count: usize) {
        self.slot += count;
        if self.slot >= self.endpoint.capacity {
            self.slot -= self.endpoint.capacity;
        }
        self.cursor.publish(self.endpoint.control(), count as u64);
    }

    /// Writes a message that fits into its slot to the current slot, which `room` has granted, and
    /// sends it.
    #[inline(always)]
    fn put(&mut self, elements: &[T::Element]) {
        let at = self.endpoint.short(self.slot);
        if T::IS_FIXED {
            // SAFETY: the slot is the producer's until it is published.
            elements.iter().take(1).for_each(|value| unsafe { message::write(at.cast(), *value) });
        } else {
            self.endpoint.abandon(self.slot);
            self.endpoint.header(self.slot).set(elements.len(), None);
            // SAFETY: as above, and it has `inline` bytes; the caller has compared.
            unsafe { at.copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
        }
        self.publish_one();
    }

    /// Returns whether a message is so long that it needs a block.
    #[inline(always)]
    fn is_long(&self, elements: &[T::Element]) -> bool {
        !T::IS_FIXED && size_of_val(elements) > self.endpoint.inline
    }

    /// See [`try_send`](Producer::try_send).
    #[inline]
    pub(super) fn try_send_any<'m>(&mut self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        let elements = T::elements(&message);
        if self.is_long(elements) {
            return self.send_block(elements, Deadline::At(0)).map_err(|error| error.with(message));
        }
        match self.room(1) {
            Ok(_) => {
                self.put(elements);
                Ok(())
            }
            Err(blocked) => Err(blocked.into_send_error(message)),
        }
    }

    /// Sends a message. Blocks while there is no room, until the deadline.
    #[inline]
    pub(super) fn send_any<'m>(
        &mut self,
        message: T::Sent<'m>,
        deadline: Deadline,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        let elements = T::elements(&message);
        if self.is_long(elements) {
            return self.send_block(elements, deadline).map_err(|error| error.with(message));
        }
        match self.wait_for_room(deadline) {
            Ok(()) => {
                self.put(elements);
                Ok(())
            }
            Err(blocked) => Err(blocked.into_send_error(message)),
        }
    }

    /// Sends a message like [`send_any`](Producer::send_any). Reads the clock only if it must wait.
    pub(super) fn send_timed<'m>(
        &mut self,
        message: T::Sent<'m>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        match self.try_send_any(message) {
            Err(SendError::Full(message)) => self.send_any(message, deadline()),
            sent => sent,
        }
    }

    /// Blocks until at least one slot is free, the ring has ended, or the deadline passes.
    #[inline]
    pub(super) fn wait_for_room(&mut self, deadline: Deadline) -> Result<(), Blocked> {
        match self.room(1) {
            Ok(_) => Ok(()),
            Err(Blocked::Later) => self.wait_contended(deadline),
            Err(blocked) => Err(blocked),
        }
    }

    #[cold]
    fn wait_contended(&mut self, deadline: Deadline) -> Result<(), Blocked> {
        let Producer { endpoint, cursor, .. } = self;
        let control = endpoint.control();
        let attempt = || match cursor.room(control, 1) {
            Err(Blocked::Later) => None,
            other => Some(other),
        };
        match control.wait_for_space(deadline, || endpoint.object.reap_dead(), attempt) {
            Some(Ok(_)) => Ok(()),
            Some(Err(blocked)) => Err(blocked),
            None => Err(Blocked::Later),
        }
    }

    /// Returns the number of messages that the ring has room for.
    pub fn capacity(&self) -> usize {
        self.endpoint.capacity
    }

    /// Returns the number of messages in the ring. The consumer may make it smaller at any moment,
    /// nobody can make it larger.
    pub fn len(&self) -> usize {
        self.endpoint.len()
    }

    /// Returns the number of free slots. It can grow at any moment, and shrinks only when this
    /// producer sends. Messages that differ in length also need memory.
    pub fn slots(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Returns whether the ring is empty. True stays true until this producer sends.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the ring is full. True can turn false immediately. False stays false until
    /// this producer sends.
    pub fn is_full(&self) -> bool {
        self.len() == self.endpoint.capacity
    }

    /// Returns whether the consumer has closed or died. True stays true. False can turn true at
    /// once.
    pub fn is_closed(&self) -> bool {
        !self.endpoint.object.is_hindered(!self.endpoint.control().consumer().is_gone())
    }
}

impl<T: Payload + ?Sized> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = T::name();
        f.debug_struct("Producer")
            .field("message", &name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}
