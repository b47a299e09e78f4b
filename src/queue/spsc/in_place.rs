//! Messages written and read in place, one at a time.

use std::ops::{Deref, DerefMut};

use super::{Consumer, Producer};
use crate::message::{self, Message};

/// A slot to write a message in. See [`Producer::try_loan`].
#[derive(Debug)]
#[must_use = "dropped without `send`, nothing is sent"]
pub struct Loan<'a, T: Message> {
    pub(super) producer: &'a mut Producer<T>,
}

impl<T: Message> Loan<'_, T> {
    /// Sends the message.
    #[inline]
    pub fn send(self) {
        // A forked child has a copy of the loan, but not the role.
        if self.producer.endpoint.is_mine() {
            self.producer.publish_one();
        }
    }
}

impl<T: Message> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is the producer's until it is published, and holds a valid T since
        // make_valid.
        unsafe { &*self.producer.endpoint.slot(self.producer.slot) }
    }
}

impl<T: Message> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref; the loan is borrowed mutably.
        unsafe { &mut *self.producer.endpoint.slot(self.producer.slot) }
    }
}

/// A message in place. Its slot is released when this is dropped. See [`Consumer::recv_ref`].
#[derive(Debug)]
pub struct Received<'a, T: Message> {
    pub(super) consumer: &'a mut Consumer<T>,
}

impl<T: Message> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is the consumer's until it is released, and was found to hold a valid T.
        unsafe { &*self.consumer.endpoint.slot(self.consumer.slot) }
    }
}

impl<T: Message> Drop for Received<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A forked child has a copy of the guard, but not the role.
        if self.consumer.endpoint.is_mine() {
            self.consumer.release_one();
        }
    }
}

/// Zeroes the message in `slot` unless it is valid.
///
/// # Safety
///
/// The slot belongs to the caller alone.
#[inline]
pub(super) unsafe fn make_valid<T: Message>(slot: *mut T) {
    const {
        assert!(
            T::ANY_BITS || T::ZERO_VALID,
            "zeros are no valid value of this message type, so it cannot be \
             written in place: send it by value"
        )
    };
    // SAFETY: readable and writable for the size of T, and the caller's alone.
    unsafe {
        if !T::ANY_BITS && !message::is_valid::<T>(slot.cast()) {
            slot.write_bytes(0, 1);
        }
    }
}
