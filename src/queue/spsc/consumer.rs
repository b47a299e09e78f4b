//! The receiving handle.

use std::fmt;
use std::time::{Duration, Instant};

use super::{check_role, damaged_positions, hand_over, take_role, Frame, RecvChunk, RecvSlot};
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place};
use crate::queue::error::{Denied, RecvError};
use crate::queue::ring::{Control, ReadCursor, Stuck};
use crate::sys::clock::Deadline;
use crate::Result;

/// The only receiver of a ring. See [`spsc`](crate::spsc).
///
/// Not `Clone`: a second consumer needs a [`Queue`](crate::Queue). Dropping it closes the ring for the
/// producer. `try_recv` makes no system call unless the producer sleeps, and never allocates.
pub struct Consumer<T: Message> {
    pub(super) cursor: ReadCursor,
    /// The slot of the cursor's position.
    pub(super) slot: usize,
    pub(super) frame: Frame<T>,
}

// SAFETY: the pointers inside of the frame lead to shared memory, which belongs to no thread; messages are
// Send.
unsafe impl<T: Message> Send for Consumer<T> {}

impl<T: Message> Consumer<T> {
    /// Creates the ring with room for `capacity` messages and becomes its consumer. The producer's role is
    /// vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`, `RoleTaken` (somebody opened it as consumer at once).
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Consumer<T>> {
        Consumer::join(Frame::create(place.into(), capacity)?)
    }

    /// Opens the ring and becomes its consumer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a consumer), `Closed` (it had one), `TypeMismatch`,
    /// `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Consumer<T>> {
        Consumer::join(Frame::open(place.into())?)
    }

    /// Opens the ring or, if there is none, creates it with room for `capacity` messages; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Consumer::open) and [`create`](Consumer::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Consumer<T>, Origin)> {
        let (frame, origin) = Frame::open_or_create(place.into(), capacity)?;
        Ok((Consumer::join(frame)?, origin))
    }

    pub(super) fn join(frame: Frame<T>) -> Result<Consumer<T>> {
        take_role(&frame.object, frame.control().consumer(), frame.me, "consumer")?;
        Consumer::resume(frame)
    }

    /// The handle of who has the role already.
    pub(super) fn resume(frame: Frame<T>) -> Result<Consumer<T>> {
        let Some(cursor) = ReadCursor::start(frame.control(), frame.capacity as u64) else {
            frame.control().close_consumer(frame.me);
            return Err(damaged_positions());
        };
        let slot = (cursor.position() % frame.capacity as u64) as usize;
        Ok(Consumer { cursor, slot, frame })
    }

    /// What somebody who waits for the ring without the handle looks at: the object, its control block.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control) {
        (&self.frame.object, self.frame.control())
    }

    /// Gives the role to the process that `seat` finds a place for.
    pub(crate) fn into_child(self, seat: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = seat(&self.frame.object)?;
        hand_over(self.frame.control().consumer(), self.frame.me, child, "consumer")
    }

    /// In a child: the role that its parent handed over.
    pub(crate) fn from_parent(object: ObjectRef) -> Result<Consumer<T>> {
        let frame = Frame::new(object)?;
        check_role(frame.control().consumer(), frame.me, "consumer")?;
        Consumer::resume(frame)
    }

    /// Whether at least `want` messages are there, and how many are known to be. Not nothing.
    #[inline(always)]
    pub(super) fn ready(&mut self, want: u64) -> Result<u64, Denied> {
        if !self.frame.is_mine() {
            return Err(Denied::NotInThisProcess);
        }
        self.cursor.ready(self.frame.control(), want).map_err(|stuck| self.frame.denied(stuck))
    }

    /// Gives back the current slot, which `ready` has granted.
    #[inline(always)]
    pub(super) fn release_one(&mut self) {
        self.slot += 1;
        if self.slot == self.frame.capacity {
            self.slot = 0;
        }
        self.cursor.release(self.frame.control(), 1);
    }

    /// Gives back `count` slots, which `ready` has granted: no more than the capacity.
    #[inline]
    pub(super) fn release(&mut self, count: usize) {
        self.slot += count;
        if self.slot >= self.frame.capacity {
            self.slot -= self.frame.capacity;
        }
        self.cursor.release(self.frame.control(), count as u64);
    }

    /// Copies the message out of the current slot, which `ready` has granted, and gives the slot back.
    #[inline(always)]
    fn take(&mut self) -> Result<T, RecvError> {
        // SAFETY: the slot is the consumer's until it is released.
        let value = unsafe { message::read::<T>(self.frame.slot(self.slot).cast()) };
        match value {
            Some(value) => {
                self.release_one();
                Ok(value)
            }
            None => Err(RecvError::Corrupted),
        }
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`; `Closed` if the producer has closed or died and everything it sent was
    /// received; `Corrupted` if the bytes are no valid message, which then stays.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        match self.ready(1) {
            Ok(_) => self.take(),
            Err(denied) => Err(denied.receiving()),
        }
    }

    /// Receives a message; waits for one.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(Deadline::Never)
    }

    /// Receives a message; waits for one, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_until(Deadline::after(timeout)),
            received => received,
        }
    }

    /// Receives a message; waits for one, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => self.recv_until(Deadline::at(deadline)),
            received => received,
        }
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<T, RecvError> {
        match self.wait_for_message(deadline) {
            Ok(()) => self.take(),
            Err(denied) => Err(denied.receiving()),
        }
    }

    /// `Ok`: at least one message is there.
    #[inline]
    fn wait_for_message(&mut self, deadline: Deadline) -> Result<(), Denied> {
        match self.ready(1) {
            Ok(_) => Ok(()),
            Err(Denied::Later) => self.wait_contended(deadline),
            Err(denied) => Err(denied),
        }
    }

    #[cold]
    fn wait_contended(&mut self, deadline: Deadline) -> Result<(), Denied> {
        let Consumer { frame, cursor, .. } = self;
        let control = frame.control();
        let attempt = || match cursor.ready(control, 1) {
            Err(Stuck::Later) => None,
            other => Some(other),
        };
        match control.wait_for_items(deadline, || frame.object.tend(), attempt) {
            Some(Ok(_)) => Ok(()),
            Some(Err(stuck)) => Err(stuck.into()),
            None => Err(Denied::Later),
        }
    }

    /// The next message in place, if there is one now. Its slot is given back when the guard is dropped.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<RecvSlot<'_, T>, RecvError> {
        match self.ready(1) {
            Ok(_) => self.show(),
            Err(denied) => Err(denied.receiving()),
        }
    }

    /// The next message in place; waits for one. Its slot is given back when the guard is dropped.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_ref(&mut self) -> Result<RecvSlot<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::Never)
    }

    /// [`recv_ref`](Consumer::recv_ref), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<RecvSlot<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::after(timeout))
    }

    /// [`recv_ref`](Consumer::recv_ref), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<RecvSlot<'_, T>, RecvError> {
        self.recv_ref_until(Deadline::at(deadline))
    }

    fn recv_ref_until(&mut self, deadline: Deadline) -> Result<RecvSlot<'_, T>, RecvError> {
        match self.wait_for_message(deadline) {
            Ok(()) => self.show(),
            Err(denied) => Err(denied.receiving()),
        }
    }

    #[inline]
    fn show(&mut self) -> Result<RecvSlot<'_, T>, RecvError> {
        // SAFETY: the slot is the consumer's until it is released.
        match unsafe { message::is_valid::<T>(self.frame.slot(self.slot).cast()) } {
            true => Ok(RecvSlot { consumer: self }),
            false => Err(RecvError::Corrupted),
        }
    }

    /// Appends to `into` the messages that are there now, `most` at most; says how many: at least one, unless
    /// `most` is 0. Allocates only if `into` has no room for them.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn try_recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let chunk = self.try_chunk(most)?;
        let (first, rest) = chunk.as_slices();
        into.extend_from_slice(first);
        into.extend_from_slice(rest);
        Ok(chunk.len())
    }

    /// Like [`try_recv_batch`](Consumer::try_recv_batch), but waits for the first message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most > 0 {
            self.wait_for_message(Deadline::Never).map_err(Denied::receiving)?;
        }
        self.try_recv_batch(into, most)
    }

    /// Up to `count` messages in place: as many as there are now, at least one. Their slots are given back
    /// when the chunk is dropped.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    #[inline]
    pub fn try_chunk(&mut self, count: usize) -> Result<RecvChunk<'_, T>, RecvError> {
        assert!(count > 0, "a chunk of no messages");
        match self.ready(count as u64) {
            Ok(ready) => RecvChunk::new(self, count.min(ready as usize)),
            Err(denied) => Err(denied.receiving()),
        }
    }

    /// The messages, each waited for, until the ring is closed and empty, or turns out to be damaged.
    pub fn iter(&mut self) -> impl Iterator<Item = T> + use<'_, T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// How many messages the ring has room for.
    pub fn capacity(&self) -> usize {
        self.frame.capacity
    }

    /// How many messages are in the ring. By the time it is looked at there may be more; there are not fewer.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the ring is empty. May be false the moment after; if false, it stays so until this consumer
    /// receives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is full. If true, it stays so until this consumer receives.
    pub fn is_full(&self) -> bool {
        self.len() == self.frame.capacity
    }

    /// Whether the producer has closed or died; there may be messages left. Stays true; false may be wrong
    /// the moment after.
    pub fn is_closed(&self) -> bool {
        self.frame.control().producer().is_gone()
    }
}

impl<T: Message> Drop for Consumer<T> {
    fn drop(&mut self) {
        if self.frame.is_mine() {
            self.frame.control().close_consumer(self.frame.me);
        }
    }
}

impl<T: Message> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = T::schema().name();
        f.debug_struct("Consumer")
            .field("message", &name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}
