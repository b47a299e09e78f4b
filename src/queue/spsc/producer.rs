//! The sending handle of a ring.

use std::fmt;
use std::time::{Duration, Instant};

use super::in_place::make_valid;
use crate::error::Refusal;
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::spsc::cursor::{Control, WriteCursor};
use crate::queue::spsc::endpoint::{check_role, damaged_positions, hand_over, take_role, Endpoint};
use crate::queue::spsc::{Loan, SendChunk};
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::sys::clock::Deadline;
use crate::Result;

/// The only sender of a ring. See [`spsc`](crate::spsc).
///
/// Not `Clone`: a second producer needs a [`Queue`](crate::Queue). Dropping it closes the ring for
/// the consumer, which first receives everything that was sent. `try_send` does not allocate, and
/// makes a system call only if the consumer sleeps. In a child made by `fork` its calls return
/// `NotInThisProcess`, because it stays with the parent.
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
pub struct Producer<T: Message> {
    pub(super) cursor: WriteCursor,
    /// The slot of the cursor's position.
    pub(super) slot: usize,
    pub(super) endpoint: Endpoint<T>,
}

// SAFETY: the pointers inside of the endpoint lead to shared memory, which belongs to no thread;
// messages are Send.
unsafe impl<T: Message> Send for Producer<T> {}

impl<T: Message> Producer<T> {
    /// Creates the ring with room for `capacity` messages and becomes its producer. The role of the
    /// consumer is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`, `RoleTaken` (somebody opened it as producer at once).
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Producer<T>> {
        Producer::join(Endpoint::create(place, capacity)?)
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
        let (endpoint, origin) = Endpoint::open_or_create(place, capacity)?;
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

    /// Writes `value` to the current slot, which `room` has granted, and sends it.
    #[inline(always)]
    fn put(&mut self, value: T) {
        // SAFETY: the slot is the producer's until it is published.
        unsafe { message::write(self.endpoint.slot(self.slot).cast(), value) };
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
            Err(blocked) => Err(blocked.into_send_error(value)),
        }
    }

    /// Sends a message. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed` if the consumer has closed or died.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, Deadline::Never)
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
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

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
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
            Err(blocked) => Err(blocked.into_send_error(value)),
        }
    }

    /// Blocks until at least one slot is free.
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

    /// Returns the next slot, to write the message in place, if there is room now.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time.
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
    pub fn try_loan(&mut self) -> Result<Loan<'_, T>, SendError<()>> {
        match self.room(1) {
            Ok(_) => Ok(self.lend()),
            Err(blocked) => Err(blocked.into_send_error(())),
        }
    }

    /// Returns the next slot, to write the message in place. Blocks while there is no room. See
    /// [`try_loan`](Producer::try_loan).
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died.
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// Calls [`loan`](Producer::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// Calls [`loan`](Producer::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_deadline(&mut self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::at(deadline))
    }

    fn loan_until(&mut self, deadline: Deadline) -> Result<Loan<'_, T>, SendError<()>> {
        match self.wait_for_room(deadline) {
            Ok(()) => Ok(self.lend()),
            Err(blocked) => Err(blocked.into_send_error(())),
        }
    }

    #[inline]
    fn lend(&mut self) -> Loan<'_, T> {
        // SAFETY: `room` has granted the slot.
        unsafe { make_valid(self.endpoint.slot(self.slot)) };
        Loan { producer: self }
    }

    /// Sends the first messages of `values` that there is room for, in one publication. Returns
    /// their number: at least one, unless `values` is empty.
    ///
    /// # Errors
    ///
    /// `Full` if there is no room for a single message, `Closed` if the consumer has closed or
    /// died.
    pub fn try_send_batch(&mut self, values: &[T]) -> Result<usize, SendError<()>> {
        if values.is_empty() {
            return Ok(0);
        }
        let mut chunk = self.try_chunk(values.len())?;
        let count = chunk.copy_from(values);
        chunk.commit(count);
        Ok(count)
    }

    /// Sends all of `values`. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died, with the number of messages sent until then.
    /// The consumer may not have received all of those.
    pub fn send_batch(&mut self, values: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < values.len() {
            self.wait_for_room(Deadline::Never).map_err(|blocked| blocked.into_send_error(sent))?;
            match self.try_send_batch(&values[sent..]) {
                Ok(count) => sent += count,
                Err(SendError::Full(())) => {}
                Err(SendError::Closed(())) => return Err(SendError::Closed(sent)),
                Err(SendError::Corrupted(())) => return Err(SendError::Corrupted(sent)),
                Err(SendError::NotInThisProcess((), refusal)) => {
                    return Err(SendError::NotInThisProcess(sent, refusal))
                }
                Err(SendError::Unsupported(())) => return Err(SendError::Unsupported(sent)),
                Err(SendError::Lagging((), laggard)) => return Err(SendError::Lagging(sent, laggard)),
            }
        }
        Ok(())
    }

    /// Returns up to `count` free slots, to write messages in place: those that are free now, at
    /// least one.
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
            Err(blocked) => Err(blocked.into_send_error(())),
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

    /// Returns whether the ring is empty. True stays true until this producer sends.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the ring is full. True can turn false at once. False stays false until this
    /// producer sends.
    pub fn is_full(&self) -> bool {
        self.len() == self.endpoint.capacity
    }

    /// Returns whether the consumer has closed or died. True stays true. False can turn true at
    /// once.
    pub fn is_closed(&self) -> bool {
        !self.endpoint.object.is_hindered(!self.endpoint.control().consumer().is_gone())
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
