//! The sending handle.

use std::fmt;
use std::time::{Duration, Instant};

use super::in_place::make_valid;
use super::{check_role, damaged_positions, hand_over, take_role, Frame, SendChunk, SendSlot};
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place};
use crate::queue::error::{Denied, SendError};
use crate::queue::ring::{Control, Stuck, WriteCursor};
use crate::sys::clock::Deadline;
use crate::Result;

/// The only sender of a ring. See [`spsc`](crate::spsc).
///
/// Not `Clone`: a second producer needs a [`Queue`](crate::Queue). Dropping it closes the ring for the
/// consumer, which first receives everything that was sent. `try_send` makes no system call unless the
/// consumer sleeps, and never allocates.
///
/// # Examples
///
/// Unrelated processes, by name:
///
/// ```
/// use pagemate::{Consumer, Producer};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-producer-{}", std::process::id());
/// # let name = name.as_str();
/// let mut producer = Producer::<u64>::create(name, 64)?;
/// producer.send(7)?; // there need be no consumer yet
///
/// let mut consumer = Consumer::<u64>::open(name)?; // elsewhere
/// assert_eq!(consumer.recv()?, 7);
/// # Ok(())
/// # }
/// ```
pub struct Producer<T: Message> {
    pub(super) cursor: WriteCursor,
    /// The slot of the cursor's position.
    pub(super) slot: usize,
    pub(super) frame: Frame<T>,
}

// SAFETY: the pointers inside of the frame lead to shared memory, which belongs to no thread; messages are
// Send.
unsafe impl<T: Message> Send for Producer<T> {}

impl<T: Message> Producer<T> {
    /// Creates the ring with room for `capacity` messages and becomes its producer. The consumer's role is
    /// vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`, `RoleTaken` (somebody opened it as producer at once).
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Producer<T>> {
        Producer::join(Frame::create(place.into(), capacity)?)
    }

    /// Opens the ring and becomes its producer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a producer), `Closed` (it had one), `TypeMismatch`,
    /// `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Producer<T>> {
        Producer::join(Frame::open(place.into())?)
    }

    /// Opens the ring or, if there is none, creates it with room for `capacity` messages; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Producer::open) and [`create`](Producer::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Producer<T>, Origin)> {
        let (frame, origin) = Frame::open_or_create(place.into(), capacity)?;
        Ok((Producer::join(frame)?, origin))
    }

    pub(super) fn join(frame: Frame<T>) -> Result<Producer<T>> {
        take_role(&frame.object, frame.control().producer(), frame.me, "producer")?;
        Producer::resume(frame)
    }

    /// The handle of who has the role already.
    pub(super) fn resume(frame: Frame<T>) -> Result<Producer<T>> {
        let Some(cursor) = WriteCursor::start(frame.control(), frame.capacity as u64) else {
            frame.control().close_producer(frame.me);
            return Err(damaged_positions());
        };
        let slot = (cursor.position() % frame.capacity as u64) as usize;
        Ok(Producer { cursor, slot, frame })
    }

    /// What somebody who waits for the ring without the handle looks at: the object, its control block, the capacity.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control, u64) {
        (&self.frame.object, self.frame.control(), self.frame.capacity as u64)
    }

    /// Gives the role to the process that `seat` finds a place for.
    pub(crate) fn into_child(self, seat: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = seat(&self.frame.object)?;
        hand_over(self.frame.control().producer(), self.frame.me, child, "producer")
    }

    /// In a child: the role that its parent handed over.
    pub(crate) fn from_parent(object: ObjectRef) -> Result<Producer<T>> {
        let frame = Frame::new(object)?;
        check_role(frame.control().producer(), frame.me, "producer")?;
        Producer::resume(frame)
    }

    /// Whether at least `want` slots are free, and how many are known to be. Not nothing.
    #[inline(always)]
    pub(super) fn room(&mut self, want: u64) -> Result<u64, Denied> {
        if !self.frame.is_mine() {
            return Err(Denied::NotInThisProcess);
        }
        self.cursor.room(self.frame.control(), want).map_err(|stuck| self.frame.denied(stuck))
    }

    /// Sends the message in the current slot, which `room` has granted.
    #[inline(always)]
    pub(super) fn publish_one(&mut self) {
        self.slot += 1;
        if self.slot == self.frame.capacity {
            self.slot = 0;
        }
        self.cursor.publish(self.frame.control(), 1);
    }

    /// Sends the messages in `count` slots, which `room` has granted: no more than the capacity.
    #[inline]
    pub(super) fn publish(&mut self, count: usize) {
        self.slot += count;
        if self.slot >= self.frame.capacity {
            self.slot -= self.frame.capacity;
        }
        self.cursor.publish(self.frame.control(), count as u64);
    }

    /// Writes `value` to the current slot, which `room` has granted, and sends it.
    #[inline(always)]
    fn put(&mut self, value: T) {
        // SAFETY: the slot is the producer's until it is published.
        unsafe { message::write(self.frame.slot(self.slot).cast(), value) };
        self.publish_one();
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed` if the consumer has closed or died.
    #[inline]
    pub fn try_send(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.room(1) {
            Ok(_) => {
                self.put(value);
                Ok(())
            }
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// Sends a message; waits while there is no room.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed` if the consumer has closed or died.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, Deadline::Never)
    }

    /// Sends a message; waits while there is no room, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Producer::try_send).
    pub fn send_timeout(&mut self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Err(SendError::Full(value)) => self.send_until(value, Deadline::after(timeout)),
            sent => sent,
        }
    }

    /// Sends a message; waits while there is no room, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Producer::try_send).
    pub fn send_deadline(&mut self, value: T, deadline: Instant) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Err(SendError::Full(value)) => self.send_until(value, Deadline::at(deadline)),
            sent => sent,
        }
    }

    #[inline]
    fn send_until(&mut self, value: T, deadline: Deadline) -> Result<(), SendError<T>> {
        match self.wait_for_room(deadline) {
            Ok(()) => {
                self.put(value);
                Ok(())
            }
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// `Ok`: at least one slot is free.
    #[inline]
    pub(super) fn wait_for_room(&mut self, deadline: Deadline) -> Result<(), Denied> {
        match self.room(1) {
            Ok(_) => Ok(()),
            Err(Denied::Later) => self.wait_contended(deadline),
            Err(denied) => Err(denied),
        }
    }

    #[cold]
    fn wait_contended(&mut self, deadline: Deadline) -> Result<(), Denied> {
        let Producer { frame, cursor, .. } = self;
        let control = frame.control();
        let attempt = || match cursor.room(control, 1) {
            Err(Stuck::Later) => None,
            other => Some(other),
        };
        match control.wait_for_space(deadline, || frame.object.tend(), attempt) {
            Some(Ok(_)) => Ok(()),
            Some(Err(stuck)) => Err(stuck.into()),
            None => Err(Denied::Later),
        }
    }

    /// The next slot, to write the message in place, if there is room now.
    ///
    /// What is in it is a valid message, either an earlier one or all zeros. Types for which not even zeros
    /// are valid are refused at compile time.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<[u8; 1 << 20]>(4)?;
    /// let mut frame = producer.loan()?;
    /// frame[..5].copy_from_slice(b"hello");
    /// frame.send(); // dropped without this, nothing is sent
    ///
    /// let frame = consumer.recv_ref()?;
    /// assert_eq!(&frame[..5], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail
    /// #[derive(Clone, Copy, pagemate::Message)]
    /// #[repr(u8)]
    /// enum Side {
    ///     Buy = 1, // zero is no Side
    ///     Sell,
    /// }
    ///
    /// let (mut producer, _consumer) = pagemate::spsc::<Side>(4).unwrap();
    /// let slot = producer.loan();
    /// ```
    ///
    /// # Errors
    ///
    /// `Full`, `Closed` if the consumer has closed or died.
    #[inline]
    pub fn try_loan(&mut self) -> Result<SendSlot<'_, T>, SendError<()>> {
        match self.room(1) {
            Ok(_) => Ok(self.lend()),
            Err(denied) => Err(denied.sending(())),
        }
    }

    /// The next slot, to write the message in place; waits while there is no room. See
    /// [`try_loan`](Producer::try_loan).
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died.
    pub fn loan(&mut self) -> Result<SendSlot<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// [`loan`](Producer::loan), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<SendSlot<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// [`loan`](Producer::loan), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_deadline(&mut self, deadline: Instant) -> Result<SendSlot<'_, T>, SendError<()>> {
        self.loan_until(Deadline::at(deadline))
    }

    fn loan_until(&mut self, deadline: Deadline) -> Result<SendSlot<'_, T>, SendError<()>> {
        match self.wait_for_room(deadline) {
            Ok(()) => Ok(self.lend()),
            Err(denied) => Err(denied.sending(())),
        }
    }

    #[inline]
    fn lend(&mut self) -> SendSlot<'_, T> {
        // SAFETY: `room` has granted the slot.
        unsafe { make_valid(self.frame.slot(self.slot)) };
        SendSlot { producer: self }
    }

    /// Sends as many of `values` as there is room for, from the first on, all at once; says how many: at
    /// least one, unless there are none.
    ///
    /// # Errors
    ///
    /// `Full` if there is no room for a single one, `Closed` if the consumer has closed or died.
    pub fn try_send_batch(&mut self, values: &[T]) -> Result<usize, SendError<()>> {
        if values.is_empty() {
            return Ok(0);
        }
        let mut chunk = self.try_chunk(values.len())?;
        let count = chunk.copy_from(values);
        chunk.commit(count);
        Ok(count)
    }

    /// Sends all of `values`; waits while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died: with the number of those that had been sent, not all of
    /// which were received.
    pub fn send_batch(&mut self, values: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < values.len() {
            self.wait_for_room(Deadline::Never).map_err(|denied| denied.sending(sent))?;
            match self.try_send_batch(&values[sent..]) {
                Ok(count) => sent += count,
                Err(SendError::Full(())) => {}
                Err(SendError::Closed(())) => return Err(SendError::Closed(sent)),
                Err(SendError::Corrupted(())) => return Err(SendError::Corrupted(sent)),
                Err(SendError::NotInThisProcess(())) => return Err(SendError::NotInThisProcess(sent)),
            }
        }
        Ok(())
    }

    /// Up to `count` free slots at once, to write messages in place: as many as there are now, at least one.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(8)?;
    /// producer.try_chunk(5)?.fill_from(10..); // five messages, one publication
    /// let chunk = consumer.try_chunk(100)?;
    /// assert_eq!(chunk.iter().copied().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Full`, `Closed` if the consumer has closed or died.
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    #[inline]
    pub fn try_chunk(&mut self, count: usize) -> Result<SendChunk<'_, T>, SendError<()>> {
        assert!(count > 0, "a chunk of no slots");
        match self.room(count as u64) {
            Ok(room) => Ok(SendChunk::new(self, count.min(room as usize))),
            Err(denied) => Err(denied.sending(())),
        }
    }

    /// How many messages the ring has room for.
    pub fn capacity(&self) -> usize {
        self.frame.capacity
    }

    /// How many messages are in the ring. By the time it is looked at there may be fewer; there are not more.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the ring is empty. If true, it stays so until this producer sends.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is full. May be false the moment after; if false, it stays so until this producer
    /// sends.
    pub fn is_full(&self) -> bool {
        self.len() == self.frame.capacity
    }

    /// Whether the consumer has closed or died. Stays true; false may be wrong the moment after.
    pub fn is_closed(&self) -> bool {
        self.frame.control().consumer().is_gone()
    }
}

impl<T: Message> Drop for Producer<T> {
    fn drop(&mut self) {
        if self.frame.is_mine() {
            self.frame.control().close_producer(self.frame.me);
        }
    }
}

impl<T: Message> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = T::schema().name();
        f.debug_struct("Producer")
            .field("message", &name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}
