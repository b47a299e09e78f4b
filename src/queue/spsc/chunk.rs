//! Several slots at once: one look at the other side and one publication for all of them.

use std::slice;

use super::in_place::make_valid;
use super::{Consumer, Producer};
use crate::message::{self, Message};
use crate::queue::error::RecvError;

/// Free slots, to write messages in. See [`Producer::try_chunk`].
#[derive(Debug)]
#[must_use = "dropped without `commit`, nothing is sent"]
pub struct SendChunk<'a, T: Message> {
    producer: &'a mut Producer<T>,
    len: usize,
}

impl<'a, T: Message> SendChunk<'a, T> {
    /// `len` slots, which `room` has granted.
    #[inline]
    pub(super) fn new(producer: &'a mut Producer<T>, len: usize) -> SendChunk<'a, T> {
        debug_assert!((1..=producer.frame.capacity).contains(&len));
        SendChunk { producer, len }
    }

    /// How many slots there are: at least one.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many slots there are before the ring goes round its end. The others begin at slot 0.
    #[inline]
    fn first(&self) -> usize {
        self.len.min(self.producer.frame.capacity - self.producer.slot)
    }

    /// The slots, in order, the second slice often empty: valid messages, earlier ones or zeros, to be
    /// written over.
    ///
    /// Types for which not even zeros are valid are refused at compile time; use
    /// [`fill_from`](SendChunk::fill_from) or [`copy_from`](SendChunk::copy_from).
    #[inline]
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        let first = self.first();
        let (begin, zero) = (self.producer.frame.slot(self.producer.slot), self.producer.frame.slot(0));
        if !T::ANY_BITS {
            for i in 0..self.len {
                let slot = if i < first { begin.wrapping_add(i) } else { zero.wrapping_add(i - first) };
                // SAFETY: `room` has granted the slot.
                unsafe { make_valid(slot) };
            }
        }
        // SAFETY: `room` has granted these slots, which do not overlap, and what is in them is valid.
        unsafe {
            (slice::from_raw_parts_mut(begin, first), slice::from_raw_parts_mut(zero, self.len - first))
        }
    }

    /// Copies the beginning of `values` to the slots; says how many. [`commit`](SendChunk::commit) sends
    /// them.
    #[inline]
    pub fn copy_from(&mut self, values: &[T]) -> usize {
        let count = values.len().min(self.len);
        let first = self.first().min(count);
        let (begin, zero) = (self.producer.frame.slot(self.producer.slot), self.producer.frame.slot(0));
        let () = T::CHECKED;
        // SAFETY: `room` has granted these slots; the values are elsewhere, since nobody has a reference into
        // them.
        unsafe {
            begin.copy_from_nonoverlapping(values.as_ptr(), first);
            zero.copy_from_nonoverlapping(values.as_ptr().add(first), count - first);
        }
        count
    }

    /// Fills the slots from `values`, as many as there are of both, and sends them; says how many.
    #[inline]
    pub fn fill_from(self, values: impl IntoIterator<Item = T>) -> usize {
        let (slot, capacity) = (self.producer.slot, self.producer.frame.capacity);
        let mut count = 0;
        for value in values.into_iter().take(self.len) {
            let at = slot + count;
            let at = if at < capacity { at } else { at - capacity };
            // SAFETY: `room` has granted the slot.
            unsafe { message::write(self.producer.frame.slot(at).cast(), value) };
            count += 1;
        }
        self.commit(count);
        count
    }

    /// Sends the messages in the first `count` slots. Those that have not been written are sent as they were:
    /// an earlier message or zeros, which a receiver refuses if they are not valid.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[inline]
    pub fn commit(self, count: usize) {
        assert!(count <= self.len, "a chunk of {} slots cannot send {count} messages", self.len);
        // A forked child has a copy of the chunk, but not the role.
        if count > 0 && self.producer.frame.is_mine() {
            self.producer.publish(count);
        }
    }
}

/// Messages in place. Their slots are given back when this is dropped. See [`Consumer::try_chunk`].
#[derive(Debug)]
pub struct RecvChunk<'a, T: Message> {
    consumer: &'a mut Consumer<T>,
    len: usize,
    /// How many of them are given back on drop.
    done: usize,
}

impl<'a, T: Message> RecvChunk<'a, T> {
    /// `len` messages, which `ready` has granted; ends before the first that is no valid `T`.
    #[inline]
    pub(super) fn new(consumer: &'a mut Consumer<T>, len: usize) -> Result<RecvChunk<'a, T>, RecvError> {
        debug_assert!((1..=consumer.frame.capacity).contains(&len));
        let len = if T::ANY_BITS { len } else { valid(consumer, len)? };
        Ok(RecvChunk { consumer, len, done: len })
    }

    /// How many messages there are: at least one.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// The messages, in order, the second slice often empty.
    #[inline]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let Consumer { frame, slot, .. } = &*self.consumer;
        let first = self.len.min(frame.capacity - slot);
        // SAFETY: `ready` has granted these slots, which hold valid messages.
        unsafe {
            (
                slice::from_raw_parts(frame.slot(*slot), first),
                slice::from_raw_parts(frame.slot(0), self.len - first),
            )
        }
    }

    /// The messages, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (first, rest) = self.as_slices();
        first.iter().chain(rest)
    }

    /// Gives back only the first `count` slots: the other messages are received again.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn release(mut self, count: usize) {
        assert!(count <= self.len, "a chunk of {} messages cannot give back {count}", self.len);
        self.done = count;
    }
}

impl<T: Message> Drop for RecvChunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A forked child has a copy of the chunk, but not the role.
        if self.done > 0 && self.consumer.frame.is_mine() {
            self.consumer.release(self.done);
        }
    }
}

/// How many of the next `len` messages are valid, up to the first that is not.
fn valid<T: Message>(consumer: &Consumer<T>, len: usize) -> Result<usize, RecvError> {
    let capacity = consumer.frame.capacity;
    let is_valid = |i: &usize| {
        let at = consumer.slot + i;
        let at = if at < capacity { at } else { at - capacity };
        // SAFETY: `ready` has granted the slot.
        unsafe { message::is_valid::<T>(consumer.frame.slot(at).cast()) }
    };
    match (0..len).take_while(is_valid).count() {
        0 => Err(RecvError::Corrupted),
        count => Ok(count),
    }
}
