//! Several slots at once: one read of the other side's position and one publication for all of
//! them.

use std::slice;

use super::in_place::make_valid;
use super::{Consumer, Producer};
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::{RecvError, SendError};
use crate::sys::clock::Deadline;

impl<T: Message> Producer<T> {
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
                Err(error) => return Err(error.with(sent)),
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
}

impl<T: Message> Consumer<T> {
    /// Appends to `into` the messages that are there now, at most `most`. Returns their number: at
    /// least one, unless `most` is 0. Allocates only if `into` has no room for them.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn try_recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let chunk = self.try_chunk(most)?;
        into.reserve(chunk.len());
        let len = chunk.copy_to(into.spare_capacity_mut())?;
        // SAFETY: the chunk has written `len` valid messages behind the last one.
        unsafe { into.set_len(into.len() + len) };
        Ok(len)
    }

    /// Receives like [`try_recv_batch`](Consumer::try_recv_batch), but blocks until the first
    /// message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most > 0 {
            self.wait_for_message(Deadline::Never).map_err(Blocked::into_recv_error)?;
        }
        self.try_recv_batch(into, most)
    }

    /// Returns up to `count` messages in place: those that are there now, at least one. Dropping
    /// the chunk releases their slots.
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
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }
}

/// Free slots to write messages in. See [`Producer::try_chunk`].
#[derive(Debug)]
#[must_use = "dropped without `commit`, nothing is sent"]
pub struct SendChunk<'a, T: Message> {
    producer: &'a mut Producer<T>,
    len: usize,
}

impl<'a, T: Message> SendChunk<'a, T> {
    /// Creates a chunk of `len` slots, which `room` has granted.
    #[inline]
    pub(super) fn new(producer: &'a mut Producer<T>, len: usize) -> SendChunk<'a, T> {
        debug_assert!((1..=producer.endpoint.capacity).contains(&len));
        SendChunk { producer, len }
    }

    /// Returns the number of slots, at least one.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of slots before the ring wraps. The others begin at slot 0.
    #[inline]
    fn first(&self) -> usize {
        self.len.min(self.producer.endpoint.capacity - self.producer.slot)
    }

    /// Returns the slots in order; the second slice is often empty. They hold valid messages,
    /// earlier ones or zeros, to be overwritten.
    ///
    /// Types for which zeros are not valid are refused at compile time; use
    /// [`fill_from`](SendChunk::fill_from) or [`copy_from`](SendChunk::copy_from) for them.
    #[inline]
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        let first = self.first();
        let (begin, zero) = (self.producer.endpoint.slot(self.producer.slot), self.producer.endpoint.slot(0));
        if !T::ANY_BITS {
            for i in 0..self.len {
                let slot = if i < first { begin.wrapping_add(i) } else { zero.wrapping_add(i - first) };
                // SAFETY: `room` has granted the slot.
                unsafe { make_valid(slot) };
            }
        }
        // SAFETY: `room` has granted these slots, which do not overlap, and what is in them is
        // valid.
        unsafe {
            (slice::from_raw_parts_mut(begin, first), slice::from_raw_parts_mut(zero, self.len - first))
        }
    }

    /// Copies the beginning of `values` to the slots, and returns the number of messages copied.
    /// Call [`commit`](SendChunk::commit) to send them.
    #[inline]
    pub fn copy_from(&mut self, values: &[T]) -> usize {
        let count = values.len().min(self.len);
        let first = self.first().min(count);
        let (begin, zero) = (self.producer.endpoint.slot(self.producer.slot), self.producer.endpoint.slot(0));
        let () = T::CHECKED;
        // SAFETY: `room` has granted these slots. The values do not overlap them, because nobody
        // has a reference into the slots.
        unsafe {
            begin.copy_from_nonoverlapping(values.as_ptr(), first);
            zero.copy_from_nonoverlapping(values.as_ptr().add(first), count - first);
        }
        count
    }

    /// Fills the slots from `values` until either runs out, sends the messages, and returns their
    /// number.
    #[inline]
    pub fn fill_from(self, values: impl IntoIterator<Item = T>) -> usize {
        let (slot, capacity) = (self.producer.slot, self.producer.endpoint.capacity);
        let mut count = 0;
        for value in values.into_iter().take(self.len) {
            let at = slot + count;
            let at = if at < capacity { at } else { at - capacity };
            // SAFETY: `room` has granted the slot.
            unsafe { message::write(self.producer.endpoint.slot(at).cast(), value) };
            count += 1;
        }
        self.commit(count);
        count
    }

    /// Sends the messages in the first `count` slots. A slot that was not written is sent as it is,
    /// with an earlier message or zeros. If that is not valid, the receiver drops it and reports
    /// `Corrupted`.
    ///
    /// # Panics
    ///
    /// If `count` is larger than [`len`](SendChunk::len).
    #[inline]
    pub fn commit(self, count: usize) {
        assert!(count <= self.len, "a chunk of {} slots cannot send {count} messages", self.len);
        // A forked child has a copy of the chunk, but not the role.
        if count > 0 && self.producer.endpoint.is_mine() {
            self.producer.publish(count);
        }
    }
}

/// Messages in place. Their slots are released when this is dropped. See [`Consumer::try_chunk`].
#[derive(Debug)]
pub struct RecvChunk<'a, T: Message> {
    consumer: &'a mut Consumer<T>,
    len: usize,
    /// The number of slots that the drop releases.
    done: usize,
}

impl<'a, T: Message> RecvChunk<'a, T> {
    /// Creates a chunk of `len` messages, which `ready` has granted. It ends before the first that
    /// is not a valid `T`.
    #[inline]
    pub(super) fn new(consumer: &'a mut Consumer<T>, len: usize) -> Result<RecvChunk<'a, T>, RecvError> {
        debug_assert!((1..=consumer.endpoint.capacity).contains(&len));
        let len = if T::ANY_BITS { len } else { valid(consumer, len) };
        if len == 0 {
            // Dropped, as in Consumer::try_recv().
            consumer.release_one();
            return Err(RecvError::Corrupted);
        }
        Ok(RecvChunk { consumer, len, done: len })
    }

    /// Returns the number of messages, at least one.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the messages in order; the second slice is often empty.
    #[inline]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let Consumer { endpoint, slot, .. } = &*self.consumer;
        let first = self.len.min(endpoint.capacity - slot);
        // SAFETY: `ready` has granted these slots, which hold valid messages.
        unsafe {
            (
                slice::from_raw_parts(endpoint.slot(*slot), first),
                slice::from_raw_parts(endpoint.slot(0), self.len - first),
            )
        }
    }

    /// Returns an iterator over the messages, in order.
    ///
    /// All of them are valid: a chunk ends silently before the first message that is not. The next
    /// chunk or receive reports that one as `Corrupted`.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (first, rest) = self.as_slices();
        first.iter().chain(rest)
    }

    /// Releases only the first `count` slots. The other messages are received again.
    ///
    /// # Panics
    ///
    /// If `count` is larger than [`len`](RecvChunk::len).
    pub fn release(mut self, count: usize) {
        assert!(count <= self.len, "a chunk of {} messages cannot release {count}", self.len);
        self.done = count;
    }
}

impl<T: Message> Drop for RecvChunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A forked child has a copy of the chunk, but not the role.
        if self.done > 0 && self.consumer.endpoint.is_mine() {
            self.consumer.release(self.done);
        }
    }
}

/// Counts the valid ones among the next `len` messages, up to the first invalid one.
fn valid<T: Message>(consumer: &Consumer<T>, len: usize) -> usize {
    let capacity = consumer.endpoint.capacity;
    let is_valid = |i: &usize| {
        let at = consumer.slot + i;
        let at = if at < capacity { at } else { at - capacity };
        // SAFETY: `ready` has granted the slot.
        unsafe { message::is_valid::<T>(consumer.endpoint.slot(at).cast()) }
    };
    (0..len).take_while(is_valid).count()
}
