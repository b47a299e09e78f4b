//! A slot of a topic that a publisher fills in place.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::body::store;
use super::port::{Port, Refused};
use super::publish::Claim;
use crate::error::Refusal;
use crate::message::{self, Message, Payload};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::holders::Tenure;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// The hold on a claimed slot. Frees the slot when dropped, in the process that claimed it.
pub(super) struct Held<'a> {
    port: &'a Port,
    claim: Claim,
    /// The participant that claimed the slot. A fork gives the child a copy of this guard, but not
    /// the slot.
    tenure: Tenure,
}

impl<'a> Held<'a> {
    #[inline]
    pub(super) fn new(port: &'a Port, me: OwnerId, claim: Claim) -> Held<'a> {
        Held { port, claim, tenure: Tenure::new(me) }
    }

    /// Returns the address of the slot's bytes.
    #[inline]
    fn slot(&self) -> *mut u8 {
        self.port.ring.message(self.claim.position.index)
    }

    /// Publishes the message. On failure returns the slot that is still held.
    #[inline]
    fn publish(self, deadline: Option<Deadline>) -> Result<(), (Refused, Held<'a>)> {
        if !self.tenure.is_mine() {
            return Err((Blocked::NotInThisProcess(Refusal::FORKED).into(), self));
        }
        let Held { port, claim, tenure } = self;
        // From here on the slot may belong to another participant.
        let mut this = ManuallyDrop::new(self);
        port.publish_claimed(tenure.me, claim, deadline).map_err(|(refused, claim)| {
            this.claim = claim;
            (refused, ManuallyDrop::into_inner(this))
        })
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.port.abandon(self.tenure.me, self.claim);
        }
    }
}

/// A slot of a [`Topic`](crate::Topic), to write a message in place.
///
/// [`publish`](Loan::publish) publishes it. Dropping the loan publishes nothing and frees the slot.
///
/// The loan keeps the position in the order that it got when it was taken, unless a participant
/// that would have to wait for it skips it: a subscriber that has a later message to receive or
/// begins behind it, or a publisher that waits for lossless subscribers or needs memory. Then
/// `publish` claims a new position and moves the message there. So a process that stops while it
/// has a loan blocks nobody.
pub struct Loan<'a, T: Payload + ?Sized> {
    pub(super) held: Held<'a>,
    pub(super) message: *mut T,
}

impl<'a, T: Message> Loan<'a, T> {
    /// Creates a loan of a claimed slot that holds a valid value. Types whose zeros are not valid
    /// are refused at compile time.
    #[inline]
    pub(super) fn of_any(held: Held<'a>) -> Loan<'a, T> {
        const {
            assert!(T::ZERO_VALID, "zeros are not a valid value of this message: use loan_with(value)");
        }
        let message = held.slot().cast::<T>();
        // SAFETY: the slot is ours, so its message can be read and written.
        unsafe {
            if !message::is_valid::<T>(message.cast()) {
                message.write_bytes(0, 1);
            }
        }
        Loan { held, message }
    }

    /// Creates a loan of a claimed slot and stores `value` in it.
    pub(super) fn of(held: Held<'a>, value: &T) -> Loan<'a, T> {
        store(held.port.ring.words(held.claim.position.index), value);
        Loan { message: held.slot().cast(), held }
    }
}

impl<'a, T: Payload + ?Sized> Loan<'a, T> {
    /// Publishes the message. Blocks only if its place was lost (see [`Loan`]) and a lossless
    /// subscriber lags.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the loan: `Closed`; `Corrupted`; `Full` if its place was lost and all
    /// slots are in use in place, or it was lost 1,024 times in a row; `NotInThisProcess`.
    #[inline]
    pub fn publish(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::Never))
    }

    /// Publishes the message without blocking.
    ///
    /// # Errors
    ///
    /// As [`publish`](Loan::publish). If its place was lost and a lossless subscriber lags, also
    /// `Full` or `Lagging`, as [`Publisher::try_publish`](super::Publisher::try_publish) says.
    #[inline]
    pub fn try_publish(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(None)
    }

    /// Like [`publish`](Loan::publish), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Loan::try_publish).
    pub fn publish_timeout(self, timeout: Duration) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::after(timeout)))
    }

    /// Like [`publish`](Loan::publish), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Loan::try_publish).
    pub fn publish_deadline(self, deadline: Instant) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::at(deadline)))
    }

    #[inline]
    fn publish_until(self, deadline: Option<Deadline>) -> Result<(), SendError<Loan<'a, T>>> {
        let Loan { held, message } = self;
        let from = held.slot();
        held.publish(deadline).map_err(|(refused, held)| {
            // The message has moved with the slot, unless it is in a block.
            let by = if message.cast::<u8>() == from { held.slot() as isize - from as isize } else { 0 };
            refused.into_send_error(Loan { held, message: message.wrapping_byte_offset(by) })
        })
    }
}

impl<T: Payload + ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the message is ours until we free its slot, which needs `self`. It was checked or
        // written when the loan was made, and it is aligned.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably. A subscriber that still copies an
        // earlier message loads what is written here, and drops it: see `wide_load`.
        unsafe { &mut *self.message }
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<T: Payload + ?Sized> Send for Loan<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Payload + ?Sized> Sync for Loan<'_, T> {}
