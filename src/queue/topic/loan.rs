//! A slot of a topic that a publisher fills in place.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::publish::Claim;
use super::publisher::{store, Publisher};
use crate::error::Refusal;
use crate::message::{self, Message};
use crate::queue::error::SendError;
use crate::queue::holders::Tenure;
use crate::sys::clock::Deadline;

/// A slot of a [`Topic`](crate::Topic), to write a message in place.
///
/// [`publish`](Loan::publish) publishes it. Dropping the loan publishes nothing and frees the slot.
///
/// The loan keeps the position in the order that it got when it was taken, unless somebody who
/// would have to wait for it skips it: a subscriber that has a later message to receive or begins
/// behind it, or a publisher that waits for lossless subscribers. Then `publish` claims a new
/// position and copies the message there. So a process that stops while it has a loan blocks nobody.
pub struct Loan<'a, T: Message> {
    publisher: &'a Publisher<T>,
    claim: Claim,
    /// The participant that claimed the slot. A fork gives the child a copy of this guard, but not
    /// the slot.
    tenure: Tenure,
}

impl<'a, T: Message> Loan<'a, T> {
    /// Creates a loan of a claimed slot that holds a valid value. Types whose zeros are not valid
    /// are refused at compile time.
    pub(super) fn of_any(publisher: &'a Publisher<T>, tenure: Tenure, claim: Claim) -> Loan<'a, T> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use loan_with(value)");
        }
        let loan = Loan { publisher, claim, tenure };
        let at = loan.message();
        // SAFETY: the slot is ours, so its message can be read and written.
        unsafe {
            if !message::is_valid::<T>(at.cast()) {
                at.write_bytes(0, 1);
            }
        }
        loan
    }

    /// Creates a loan of a claimed slot and stores `value` in it.
    pub(super) fn of(publisher: &'a Publisher<T>, tenure: Tenure, claim: Claim, value: &T) -> Loan<'a, T> {
        store(publisher.topic.port.ring.words(claim.position.index), value);
        Loan { publisher, claim, tenure }
    }

    fn message(&self) -> *mut T {
        self.publisher.topic.port.ring.message(self.claim.position.index).cast()
    }

    /// Publishes the message. Blocks only if its place was lost (see [`Loan`]) and a lossless
    /// subscriber lags.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the loan: `Closed`; `Corrupted`; `Full` if its place was lost and all
    /// slots are in use in place, or it was lost 1,024 times in a row; `NotInThisProcess`.
    pub fn publish(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::Never))
    }

    /// Publishes the message without blocking.
    ///
    /// # Errors
    ///
    /// As [`publish`](Loan::publish). If its place was lost and a lossless subscriber lags, also
    /// `Full` or `Lagging`, as [`Publisher::try_publish`] says.
    pub fn try_publish(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(None)
    }

    /// Calls [`publish`](Loan::publish), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Loan::try_publish).
    pub fn publish_timeout(self, timeout: Duration) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::after(timeout)))
    }

    /// Calls [`publish`](Loan::publish), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Loan::try_publish).
    pub fn publish_deadline(self, deadline: Instant) -> Result<(), SendError<Loan<'a, T>>> {
        self.publish_until(Some(Deadline::at(deadline)))
    }

    fn publish_until(self, deadline: Option<Deadline>) -> Result<(), SendError<Loan<'a, T>>> {
        if !self.tenure.is_mine() {
            return Err(SendError::NotInThisProcess(self, Refusal::FORKED));
        }
        let Loan { publisher, claim, tenure } = self;
        // From here on the slot may belong to another participant.
        let mut this = ManuallyDrop::new(self);
        let port = &publisher.topic.port;
        let copy = |from, to| {
            let (from, to) = (port.ring.message(from), port.ring.message(to));
            // SAFETY: both slots are ours, and they are not the same; no loan of the value is left.
            unsafe { from.copy_to_nonoverlapping(to, size_of::<T>()) }
        };
        let find = || port.claim_as(tenure.me, deadline);
        port.ring.send_claimed(tenure.me, claim, find, copy).map_err(|(refused, claim)| {
            this.claim = claim;
            refused.into_send_error(ManuallyDrop::into_inner(this))
        })
    }
}

impl<T: Message> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.publisher.topic.port.ring.free(self.tenure.me, self.claim);
        }
    }
}

impl<T: Message> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is ours until we free it, which needs `self`; it holds a valid T
        // (of_any, of), aligned.
        unsafe { &*self.message() }
    }
}

impl<T: Message> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably. A subscriber that still copies the
        // slot's earlier message loads what is written here, and drops it: see `wide_load`.
        unsafe { &mut *self.message() }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&**self).finish()
    }
}
