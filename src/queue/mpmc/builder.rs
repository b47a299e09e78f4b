//! The options of a new queue.

use std::fmt;
use std::marker::PhantomData;

use super::handle::Queue;
use super::layout::Plan;
use crate::message::{Payload, Varied};
use crate::queue::payload::QUOTA;
use crate::segment::object::Object;
use crate::segment::place::{Origin, Place};
use crate::Result;

/// The options of a new queue: see [`Queue::builder`].
pub struct QueueBuilder<T: Payload + ?Sized> {
    pub(super) plan: Plan,
    _messages: PhantomData<fn(&T) -> &T>,
}

impl<T: Payload + ?Sized> QueueBuilder<T> {
    pub(super) fn of(capacity: usize) -> QueueBuilder<T> {
        let plan = Plan { capacity, redeliver: false, inline: 0, quota: QUOTA };
        QueueBuilder { plan, _messages: PhantomData }
    }

    /// Sets whether the message of a consumer that dies is delivered again, to the next receiver.
    /// The default is false.
    ///
    /// With `true`, dropping a [`Received`](crate::queue::Received) acknowledges the message, and
    /// so does the return of [`Queue::recv`]. Delivery is at least once: a consumer may finish its
    /// work and die before the acknowledgement. A redelivered message comes before all others. It
    /// may also come after a consumer was told that the queue is closed.
    pub fn redeliver(mut self, redeliver: bool) -> QueueBuilder<T> {
        self.plan.redeliver = redeliver;
        self
    }

    /// Creates a queue like [`Queue::new`].
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn build(self) -> Result<Queue<T>> {
        Object::new(self)
    }

    /// Creates a queue like [`Queue::create`].
    ///
    /// # Errors
    ///
    /// As [`Queue::create`].
    pub fn create(self, place: impl Into<Place>) -> Result<Queue<T>> {
        Object::create(place, self)
    }

    /// Opens or creates a queue like [`Queue::open_or_create`]. An existing queue keeps its own
    /// options.
    ///
    /// # Errors
    ///
    /// As [`Queue::open_or_create`].
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<(Queue<T>, Origin)> {
        Object::open_or_create(place, self)
    }
}

impl<T: Varied + ?Sized> QueueBuilder<T> {
    /// Sets the bytes of memory for messages that do not fit into a slot. The default is 1 MiB.
    ///
    /// It is part of the queue, and never grows. When it is used up, the queue is full. A message
    /// takes up to a quarter more than its length. One that would not fit even into an empty quota
    /// is [`TooLarge`](crate::queue::SendError::TooLarge). The number is rounded up to 16 KiB, and
    /// to 64 KiB at least. With 0, all messages must fit into a slot.
    pub fn quota(mut self, bytes: u64) -> QueueBuilder<T> {
        self.plan.quota = bytes;
        self
    }

    /// Sets the length in bytes of the longest message that is stored in its slot, without using
    /// the quota. It is rounded up so that slots are multiples of 128 bytes, and word and header
    /// take 24 bytes of a slot. The default is 104: one such multiple.
    pub fn inline(mut self, bytes: usize) -> QueueBuilder<T> {
        self.plan.inline = bytes;
        self
    }
}

impl<T: Payload + ?Sized> fmt::Debug for QueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { capacity, redeliver, inline, quota } = self.plan;
        let mut out = f.debug_struct("QueueBuilder");
        out.field("capacity", &capacity).field("redeliver", &redeliver);
        if !T::IS_FIXED {
            out.field("inline", &inline).field("quota", &quota);
        }
        out.finish()
    }
}
