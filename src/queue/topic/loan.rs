//! A slot of a topic that a publisher fills in place.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::publish::Claim;
use super::publisher::{store, Publisher};
use crate::error::Refusal;
use crate::message::{self, Message};
use crate::queue::error::SendError;
use crate::segment::owner::OwnerId;
use crate::sys::fork;

/// A slot of a [`Topic`](crate::Topic), to write a message in place.
///
/// [`publish`](Loan::publish) publishes it. Dropping the loan publishes nothing and frees the slot.
///
/// The loan keeps the place in the order that it got when it was taken, unless a later message was
/// published and a subscriber skipped the loan. Then `publish` claims a new place and copies the
/// message there. So a process that stops while it has a loan blocks nobody.
pub struct Loan<'a, T: Message> {
    publisher: &'a Publisher<T>,
    claim: Claim,
    /// The participant that claimed the slot. A fork gives the child a copy of this guard, but not
    /// the slot.
    me: OwnerId,
    epoch: u32,
}

impl<'a, T: Message> Loan<'a, T> {
    /// Creates a loan of a claimed slot that holds a valid value. Types whose zeros are not valid
    /// are refused at compile time.
    pub(super) fn of_any(publisher: &'a Publisher<T>, me: OwnerId, claim: Claim) -> Loan<'a, T> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use loan_with(value)");
        }
        let loan = Loan { publisher, claim, me, epoch: fork::epoch() };
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
    pub(super) fn of(publisher: &'a Publisher<T>, me: OwnerId, claim: Claim, value: &T) -> Loan<'a, T> {
        store(publisher.topic.ring.words(claim.position.index), value);
        Loan { publisher, claim, me, epoch: fork::epoch() }
    }

    fn message(&self) -> *mut T {
        self.publisher.topic.ring.message(self.claim.position.index).cast()
    }

    /// Publishes the message.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the loan: `Closed`; `Corrupted`; `Full` if its place was lost (see
    /// [`Loan`]) and all slots are in use in place, or it was lost 1,024 times in a row;
    /// `NotInThisProcess`.
    pub fn publish(self) -> Result<(), SendError<Loan<'a, T>>> {
        if self.epoch != fork::epoch() {
            return Err(SendError::NotInThisProcess(self, Refusal::FORKED));
        }
        let Loan { publisher, claim, me, .. } = self;
        // From here on the slot may belong to another participant.
        let mut this = ManuallyDrop::new(self);
        let ring = &publisher.topic.ring;
        let copy = |from, to| {
            // SAFETY: both slots are ours, and they are not the same; no loan of the value is left.
            unsafe { ring.message(from).copy_to_nonoverlapping(ring.message(to), size_of::<T>()) }
        };
        ring.send_claimed(me, claim, copy).map_err(|(blocked, claim)| {
            this.claim = claim;
            publisher.note(blocked).into_send_error(ManuallyDrop::into_inner(this))
        })
    }
}

impl<T: Message> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.publisher.topic.ring.free(self.me, self.claim);
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
