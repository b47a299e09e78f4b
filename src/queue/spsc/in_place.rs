//! Messages written and read in place, one at a time.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::{Consumer, Producer};
use crate::message::{self, Message, Payload};
use crate::queue::error::SendError;
use crate::sys::clock::Deadline;

/// A slot to write a message in. See [`Producer::try_loan`].
#[derive(Debug)]
#[must_use = "dropped without `send`, nothing is sent"]
pub struct Loan<'a, T: Payload + ?Sized> {
    pub(super) producer: &'a mut Producer<T>,
    pub(super) message: *mut T,
}

// SAFETY: the message is the producer's, which is Send; messages are Send.
unsafe impl<T: Payload + ?Sized> Send for Loan<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Payload + ?Sized> Sync for Loan<'_, T> {}

impl<T: Payload + ?Sized> Loan<'_, T> {
    /// Sends the message.
    #[inline]
    pub fn send(self) {
        let mut this = ManuallyDrop::new(self);
        // A forked child has a copy of the loan, but not the role.
        if this.producer.endpoint.is_mine() {
            this.producer.publish_one();
        }
    }
}

impl<T: Payload + ?Sized> Drop for Loan<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.producer.endpoint.is_mine() {
            self.producer.endpoint.abandon(self.producer.slot);
        }
    }
}

impl<T: Payload + ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the message is the producer's until it is published. It was made valid, or was
        // written, when the loan was created.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref; the loan is borrowed mutably.
        unsafe { &mut *self.message }
    }
}

/// A message in place. Its slot is released when this is dropped. See [`Consumer::recv_ref`].
#[derive(Debug)]
pub struct Received<'a, T: Payload + ?Sized> {
    pub(super) consumer: &'a mut Consumer<T>,
    pub(super) message: *const T,
}

// SAFETY: the message is the consumer's, which is Send; messages are Send.
unsafe impl<T: Payload + ?Sized> Send for Received<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Payload + ?Sized> Sync for Received<'_, T> {}

impl<T: Payload + ?Sized> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the message is the consumer's until it is released, and was found to be valid.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized> Drop for Received<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A forked child has a copy of the guard, but not the role.
        if self.consumer.endpoint.is_mine() {
            self.consumer.endpoint.finish(self.consumer.slot);
            self.consumer.release_one();
        }
    }
}

impl<T: Message> Producer<T> {
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
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// Like [`loan`](Producer::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// Like [`loan`](Producer::loan), but blocks until `deadline` at the latest.
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
        let message = self.endpoint.slot(self.slot);
        // SAFETY: `room` has granted the slot.
        unsafe { make_valid(message) };
        Loan { producer: self, message }
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
            "zeros are not a valid value of this message type, so it cannot be \
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
