//! Guards of messages in place: a slot that is being written, and one that is being read.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::handle::Queue;
use super::ring::Claim;
use crate::error::Refusal;
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::fork;

/// The hold on a slot. Frees the slot when dropped, in the process that claimed it.
struct Held<'a, T: Message> {
    queue: &'a Queue<T>,
    claim: Claim,
    /// The participant that claimed it. A fork gives the child a copy of this guard, but not the
    /// slot.
    me: OwnerId,
    epoch: u32,
    /// Whether dropping this abandons a claim and sends nothing.
    is_loan: bool,
}

impl<'a, T: Message> Held<'a, T> {
    fn new(queue: &'a Queue<T>, me: OwnerId, claim: Claim, is_loan: bool) -> Held<'a, T> {
        Held { queue, claim, me, epoch: fork::epoch(), is_loan }
    }

    fn is_mine(&self) -> bool {
        self.epoch == fork::epoch()
    }

    fn message(&self) -> *mut T {
        self.queue.message(self.claim.index).cast()
    }
}

impl<T: Message> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        if self.is_loan {
            self.queue.ring.free_unsent(self.me, self.claim);
        } else {
            self.queue.ring.free(self.me, self.claim);
        }
    }
}

/// A slot of a [`Queue`], to write a message in place.
///
/// [`send`](Loan::send) sends it. Dropping the loan sends nothing and frees the slot.
///
/// The loan keeps the place in the order that it got when it was taken, unless a later message was
/// sent and a consumer skipped the loan. Then `send` claims a new place and copies the message
/// there. So a process that stops while it has a loan blocks nobody.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let queue = pagemate::Queue::<[u8; 1 << 20]>::new(4)?;
/// let mut frame = queue.loan()?;
/// frame[..5].copy_from_slice(b"hello");
/// frame.send()?;
/// assert_eq!(&queue.recv_ref()?[..5], b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Loan<'a, T: Message> {
    held: Held<'a, T>,
}

impl<'a, T: Message> Loan<'a, T> {
    /// Creates a loan of a claimed slot that holds a valid value. Types whose zeros are not valid
    /// are refused at compile time.
    pub(super) fn of_any(queue: &'a Queue<T>, me: OwnerId, claim: Claim) -> Loan<'a, T> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use loan_with(value)");
        }
        let held = Held::new(queue, me, claim, true);
        let at = held.message();
        // SAFETY: the slot is ours, so its message can be read and written.
        unsafe {
            if !message::is_valid::<T>(at.cast()) {
                at.write_bytes(0, 1);
            }
        }
        Loan { held }
    }

    /// Creates a loan of a claimed slot and stores `value` in it.
    pub(super) fn of(queue: &'a Queue<T>, me: OwnerId, claim: Claim, value: T) -> Loan<'a, T> {
        let held = Held::new(queue, me, claim, true);
        // SAFETY: the slot is ours, so its message can be written.
        unsafe { message::write(held.message().cast(), value) };
        Loan { held }
    }

    /// Sends the message. Blocks only if its place was lost (see [`Loan`]) and there is no room.
    ///
    /// # Errors
    ///
    /// `Closed`, with the loan; `Corrupted`.
    pub fn send(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::Never)
    }

    /// Sends the message without blocking.
    ///
    /// # Errors
    ///
    /// `Full`, with the loan, if its place was lost (see [`Loan`]) and there is no room; `Closed`;
    /// `Corrupted`.
    pub fn try_send(self) -> Result<(), SendError<Loan<'a, T>>> {
        let queue = self.held.queue;
        self.send_by(Deadline::At(0), |me, own| {
            let claim = queue.ring.try_claim(me, Some(own));
            queue.object.is_hindered(claim == Err(Blocked::Later));
            claim
        })
    }

    /// Calls [`send`](Loan::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Loan::try_send).
    pub fn send_timeout(self, timeout: Duration) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::after(timeout))
    }

    /// Calls [`send`](Loan::send), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Loan::try_send).
    pub fn send_deadline(self, deadline: Instant) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::at(deadline))
    }

    fn send_until(self, deadline: Deadline) -> Result<(), SendError<Loan<'a, T>>> {
        let queue = self.held.queue;
        self.send_by(deadline, |me, own| {
            queue.ring.claim(me, Some(own), deadline, || queue.object.reap_dead())
        })
    }

    fn send_by(
        self,
        deadline: Deadline,
        mut find: impl FnMut(OwnerId, u32) -> Result<Claim, Blocked>,
    ) -> Result<(), SendError<Loan<'a, T>>> {
        if !self.held.is_mine() {
            return Err(SendError::NotInThisProcess(self, Refusal::FORKED));
        }
        let Held { queue, claim, me, .. } = self.held;
        // From here on the slot may belong to another participant.
        let mut this = ManuallyDrop::new(self);
        let copy = |from, to| {
            // SAFETY: both slots are ours, and they are not the same; no loan of the value is left.
            unsafe { queue.message(from).copy_to_nonoverlapping(queue.message(to), size_of::<T>()) }
        };
        queue.ring.send_claimed(me, claim, deadline, |own| find(me, own), copy).map_err(|(blocked, claim)| {
            this.held.claim = claim;
            blocked.into_send_error(ManuallyDrop::into_inner(this))
        })
    }
}

impl<T: Message> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is ours until we free it, which needs `self`; it holds a valid T
        // (of_any, of), aligned.
        unsafe { &*self.held.message() }
    }
}

impl<T: Message> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.held.message() }
    }
}

/// A message of a [`Queue`], received in place. Its slot is freed when this is dropped.
///
/// May be kept for any time: the queue has one slot less meanwhile. A process that breaks the rules
/// and writes into the slot changes what is read here; [`Queue::recv`] returns a copy.
pub struct Received<'a, T: Message> {
    held: Held<'a, T>,
}

impl<'a, T: Message> Received<'a, T> {
    /// Creates a guard of a taken slot, if its message is valid.
    pub(super) fn new(queue: &'a Queue<T>, me: OwnerId, claim: Claim) -> Option<Received<'a, T>> {
        let held = Held::new(queue, me, claim, false);
        // SAFETY: the slot is ours, so its message can be read.
        unsafe { message::is_valid::<T>(held.message().cast()) }.then_some(Received { held })
    }
}

impl<T: Message> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot is ours until we free it, which needs `self`; it holds a valid T (see
        // new), aligned.
        unsafe { &*self.held.message() }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&**self).finish()
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Received<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<T: Message> Send for Held<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Message> Sync for Held<'_, T> {}
