//! Guards of messages in place: a slot that is being written, and one that is being read.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::handle::Queue;
use super::ring::Claim;
use crate::error::Refusal;
use crate::message::{self, Message, Payload};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::fork;

/// The hold on a slot. Frees the slot when dropped, in the process that claimed it.
pub(super) struct Held<'a, P: Payload + ?Sized> {
    pub(super) queue: &'a Queue<P>,
    pub(super) claim: Claim,
    /// The participant that claimed it. A fork gives the child a copy of this guard, but not the
    /// slot.
    me: OwnerId,
    epoch: u32,
    /// Whether dropping this abandons a claim and sends nothing.
    is_loan: bool,
}

impl<'a, P: Payload + ?Sized> Held<'a, P> {
    #[inline]
    pub(super) fn new(queue: &'a Queue<P>, me: OwnerId, claim: Claim, is_loan: bool) -> Held<'a, P> {
        Held { queue, claim, me, epoch: fork::epoch(), is_loan }
    }

    #[inline]
    fn is_mine(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Sends the message of a loan. On failure returns the slot that is still held.
    #[inline]
    pub(super) fn send(self, deadline: Deadline) -> Result<(), (Blocked, Held<'a, P>)> {
        if !self.is_mine() {
            return Err((Blocked::NotInThisProcess(Refusal::FORKED), self));
        }
        let Held { queue, claim, me, .. } = self;
        // From here on the slot may belong to another participant.
        let mut this = ManuallyDrop::new(self);
        let find = |own| match deadline {
            Deadline::At(0) => queue.ring.try_claim(me, Some(own)),
            _ => queue.ring.claim(me, Some(own), deadline, || queue.object.reap_dead()),
        };
        let copy = |from, to| queue.move_message(from, to);
        queue.ring.send_claimed(me, claim, deadline, find, copy).map(drop).map_err(|(blocked, claim)| {
            this.claim = claim;
            (blocked, ManuallyDrop::into_inner(this))
        })
    }
}

impl<P: Payload + ?Sized> Drop for Held<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        if self.is_loan {
            self.queue.abandon(self.me, self.claim);
        } else {
            self.queue.finish(self.me, self.claim);
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
pub struct Loan<'a, T: Payload + ?Sized> {
    pub(super) held: Held<'a, T>,
    pub(super) message: *mut T,
}

impl<'a, T: Message> Loan<'a, T> {
    /// Creates a loan of a claimed slot that holds a valid value. Types whose zeros are not valid
    /// are refused at compile time.
    pub(super) fn of_any(queue: &'a Queue<T>, me: OwnerId, claim: Claim) -> Loan<'a, T> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use loan_with(value)");
        }
        let held = Held::new(queue, me, claim, true);
        let message = queue.message(claim.index).cast::<T>();
        // SAFETY: the slot is ours, so its message can be read and written.
        unsafe {
            if !message::is_valid::<T>(message.cast()) {
                message.write_bytes(0, 1);
            }
        }
        Loan { held, message }
    }

    /// Creates a loan of a claimed slot and stores `value` in it.
    pub(super) fn of(queue: &'a Queue<T>, me: OwnerId, claim: Claim, value: T) -> Loan<'a, T> {
        let held = Held::new(queue, me, claim, true);
        let message = queue.message(claim.index);
        // SAFETY: the slot is ours, so its message can be written.
        unsafe { message::write(message, value) };
        Loan { held, message: message.cast() }
    }
}

impl<'a, T: Payload + ?Sized> Loan<'a, T> {
    /// Sends the message. Blocks only if its place was lost (see [`Loan`]) and there is no room.
    ///
    /// # Errors
    ///
    /// With the loan: `Closed`, `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn send(self) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::Never)
    }

    /// Sends the message without blocking.
    ///
    /// # Errors
    ///
    /// With the loan: `Full`, if its place was lost (see [`Loan`]) and there is no room; `Closed`,
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn try_send(self) -> Result<(), SendError<Loan<'a, T>>> {
        let queue = self.held.queue;
        let sent = self.send_until(Deadline::At(0));
        queue.object.is_hindered(matches!(sent, Err(SendError::Full(_))));
        sent
    }

    /// Like [`send`](Loan::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Loan::try_send).
    pub fn send_timeout(self, timeout: Duration) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::after(timeout))
    }

    /// Like [`send`](Loan::send), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Loan::try_send).
    pub fn send_deadline(self, deadline: Instant) -> Result<(), SendError<Loan<'a, T>>> {
        self.send_until(Deadline::at(deadline))
    }

    #[inline]
    fn send_until(self, deadline: Deadline) -> Result<(), SendError<Loan<'a, T>>> {
        let Loan { held, message } = self;
        let (queue, from) = (held.queue, held.queue.message(held.claim.index));
        held.send(deadline).map_err(|(blocked, held)| {
            // The message has moved with the slot, unless it is in a block.
            let to = queue.message(held.claim.index);
            let by = if message.cast::<u8>() == from { to as isize - from as isize } else { 0 };
            blocked.into_send_error(Loan { held, message: message.wrapping_byte_offset(by) })
        })
    }
}

impl<T: Payload + ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the message is ours until we free its slot, which needs `self`. It was checked or
        // written when the loan was created, and it is aligned.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.message }
    }
}

/// A message of a [`Queue`], received in place. Its slot is freed when this is dropped.
///
/// May be kept for any time: the queue has one slot less meanwhile, and less of its quota. A
/// process that breaks the rules and writes there changes what is read here; [`Queue::recv`]
/// returns a copy.
pub struct Received<'a, T: Payload + ?Sized> {
    _held: Held<'a, T>,
    message: *const T,
}

impl<'a, T: Payload + ?Sized> Received<'a, T> {
    /// Creates a guard of a taken slot, if its message is valid.
    #[inline]
    pub(super) fn new(queue: &'a Queue<T>, me: OwnerId, claim: Claim) -> Option<Received<'a, T>> {
        let found = queue.find(claim.index);
        // SAFETY: the slot is ours, so its message can be read. It is in the slot or in a block, as
        // find() has checked, and aligned there.
        match found.and_then(|(at, len)| unsafe { T::in_place(at, len) }) {
            Some(message) => Some(Received { message, _held: Held::new(queue, me, claim, false) }),
            None => {
                queue.finish(me, claim);
                None
            }
        }
    }
}

impl<T: Payload + ?Sized> Deref for Received<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot and its message are ours until we free them, which needs `self`; the
        // message is valid (see new) and aligned.
        unsafe { &*self.message }
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&&**self).finish()
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Received<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<T: Payload + ?Sized> Send for Loan<'_, T> {}
// SAFETY: as above; through a shared reference the message can only be read.
unsafe impl<T: Payload + ?Sized> Sync for Loan<'_, T> {}
// SAFETY: as for Loan.
unsafe impl<T: Payload + ?Sized> Send for Received<'_, T> {}
// SAFETY: as for Loan.
unsafe impl<T: Payload + ?Sized> Sync for Received<'_, T> {}
