//! A call in progress, and its answer in place.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::caller::{Caller, End, Ticket};
use super::error::{self, CallError};
use super::port::Port;
use super::table::Table;
use super::word::Outcome;
use crate::error::Refusal;
use crate::message::payload::append;
use crate::message::{self, Payload};
use crate::queue::holders::Holders;
use crate::segment::object::ObjectRef;
use crate::sys::clock::Deadline;

/// A call that was sent, and not cancelled. Cancels the call when dropped, in the process that sent
/// it.
struct Pending<'a> {
    caller: &'a Caller,
    ticket: Ticket,
}

/// A call that was answered. Frees its slot when dropped, in the process that sent the request.
struct Answered<'a> {
    caller: &'a Caller,
    ticket: Ticket,
}

impl<'a> Pending<'a> {
    /// Waits until the call has ended. `Err` means that it goes on.
    fn wait(self, deadline: Deadline) -> Result<Result<Answered<'a>, CallError>, Pending<'a>> {
        if !self.ticket.tenure.is_mine() {
            return Ok(Err(CallError::NotInThisProcess(Refusal::FORKED)));
        }
        match self.caller.wait(&self.ticket, deadline) {
            End::Decided(outcome) => Ok(self.decided(outcome)),
            End::NoServer => {
                let _ = ManuallyDrop::new(self); // nothing is left of it
                Ok(Err(CallError::NoServer))
            }
            End::Later | End::Part => Err(self),
        }
    }

    /// Waits until the call has ended, and cancels it at the deadline.
    #[inline]
    fn finish(self, deadline: Deadline) -> Result<Answered<'a>, CallError> {
        self.wait(deadline).unwrap_or_else(|pending| {
            let ended = pending.caller.cancel(&pending.ticket);
            match ended {
                Some(outcome) => pending.decided(outcome),
                None => {
                    let _ = ManuallyDrop::new(pending);
                    Err(CallError::TimedOut)
                }
            }
        })
    }

    #[inline]
    fn decided(self, outcome: Outcome) -> Result<Answered<'a>, CallError> {
        let this = ManuallyDrop::new(self);
        let answered = Answered { caller: this.caller, ticket: this.ticket };
        match error::of(outcome.status()) {
            None => Ok(answered),
            Some(error) => Err(error),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.ticket.tenure.is_mine() && self.caller.cancel(&self.ticket).is_some() {
            self.caller.port.free_handed_on(self.ticket.index);
        }
    }
}

impl Drop for Answered<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.tenure.is_mine() {
            self.caller.port.free_handed_on(self.ticket.index);
        }
    }
}

/// A call that goes on: see [`Client::start`](super::Client::start).
///
/// Dropping it cancels the call. A server that has the request can ask for that
/// ([`Request::is_cancelled`](super::Request::is_cancelled)), and its answer goes nowhere.
#[must_use = "dropping it cancels the call"]
pub struct Call<'a, R: Payload + ?Sized> {
    pending: Pending<'a>,
    _answer: PhantomData<fn() -> &'a R>,
}

impl<'a, R: Payload + ?Sized> Call<'a, R> {
    pub(super) fn new(caller: &'a Caller, ticket: Ticket) -> Call<'a, R> {
        Call { pending: Pending { caller, ticket }, _answer: PhantomData }
    }

    /// Returns whether the call has ended, so that [`wait`](Call::wait) does not block.
    pub fn is_ready(&self) -> bool {
        let Pending { caller, ticket } = &self.pending;
        !caller.port.object.is_hindered(!caller.is_over(ticket))
    }

    /// Returns what a set needs to wait for this call.
    pub(crate) fn parts(&self) -> (&ObjectRef, Table, Option<&Holders>, u32, Outcome) {
        let Pending { caller, ticket } = &self.pending;
        (&caller.port.object, caller.port.table, caller.servers(), ticket.index, ticket.outcome)
    }

    /// Blocks until the call has ended, and returns its answer.
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer` (also if the last server leaves before it has taken the request),
    /// `ServerDied`, `Refused`, `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn wait(self) -> Result<R::Owned, CallError> {
        self.finish(Deadline::Never)
    }

    /// Returns the answer if the call has ended, else the call.
    ///
    /// # Errors
    ///
    /// The call, if it goes on. Inside: as [`wait`](Call::wait).
    pub fn try_wait(self) -> Result<Result<R::Owned, CallError>, Call<'a, R>> {
        self.wait_until(Deadline::At(0))
    }

    /// Like [`wait`](Call::wait), but blocks for at most `timeout`. Then it returns the call, which
    /// goes on.
    ///
    /// # Errors
    ///
    /// The call, if it goes on. Inside: as [`wait`](Call::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R::Owned, CallError>, Call<'a, R>> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Like [`wait`](Call::wait), but blocks until `deadline` at the latest. Then it returns the
    /// call, which goes on.
    ///
    /// # Errors
    ///
    /// The call, if it goes on. Inside: as [`wait`](Call::wait).
    pub fn wait_deadline(self, deadline: Instant) -> Result<Result<R::Owned, CallError>, Call<'a, R>> {
        self.wait_until(Deadline::at(deadline))
    }

    /// Blocks until the call has ended, and returns its answer in place.
    ///
    /// # Errors
    ///
    /// As [`wait`](Call::wait).
    pub fn wait_ref(self) -> Result<Answer<'a, R>, CallError> {
        self.finish_ref(Deadline::Never)
    }

    /// Waits for the answer, and cancels the call at the deadline.
    #[inline]
    pub(super) fn finish(self, deadline: Deadline) -> Result<R::Owned, CallError> {
        copy_answer::<R>(&self.pending.finish(deadline)?)
    }

    /// Like [`finish`](Call::finish), with the answer in place.
    #[inline]
    pub(super) fn finish_ref(self, deadline: Deadline) -> Result<Answer<'a, R>, CallError> {
        Answer::new(self.pending.finish(deadline)?)
    }

    fn wait_until(self, deadline: Deadline) -> Result<Result<R::Owned, CallError>, Call<'a, R>> {
        match self.pending.wait(deadline) {
            Ok(ended) => Ok(ended.and_then(|answered| copy_answer::<R>(&answered))),
            Err(pending) => Err(Call { pending, _answer: PhantomData }),
        }
    }
}

/// Copies an answer.
#[inline]
fn copy_answer<R: Payload + ?Sized>(answered: &Answered<'_>) -> Result<R::Owned, CallError> {
    copy_out::<R>(&answered.caller.port, answered.ticket.index, 0)
}

/// Copies the part with this number of the answer in a slot that this process has.
#[inline]
pub(super) fn copy_out<R: Payload + ?Sized>(
    port: &Port,
    index: u32,
    number: usize,
) -> Result<R::Owned, CallError> {
    let (at, len) = port.find_part(index, number).ok_or(CallError::Corrupted)?;
    let copy = if R::IS_FIXED {
        // SAFETY: the slot is ours to read, and has an answer of this size.
        unsafe { message::read::<R::Element>(at) }.and_then(R::from_one)
    } else {
        let mut copy = Vec::new();
        // SAFETY: the slot is ours to read, and so is its block, where find_part() has found that
        // many elements, aligned.
        let is_valid = unsafe { append(&mut copy, at.cast::<R::Element>(), len) };
        is_valid.then(|| R::from_copy(copy)).flatten()
    };
    copy.ok_or(CallError::Corrupted)
}

/// An answer in place. The slot of its call is freed when this is dropped.
///
/// May be kept for any time: the service has one call less meanwhile, and less of its quota for
/// answers. A process that breaks the rules and writes there changes what is read here;
/// [`Client::call`](super::Client::call) returns a copy.
pub struct Answer<'a, R: Payload + ?Sized> {
    _answered: Answered<'a>,
    message: *const R,
}

impl<'a, R: Payload + ?Sized> Answer<'a, R> {
    fn new(answered: Answered<'a>) -> Result<Answer<'a, R>, CallError> {
        let found = answered.caller.port.find_answer(answered.ticket.index);
        // SAFETY: the slot is ours, so its answer can be read. It is in the slot or in a block, as
        // find_answer() has checked, and aligned there.
        let message = found.and_then(|(at, len)| unsafe { R::in_place(at.cast(), len) });
        message
            .map(|message| Answer { _answered: answered, message: message.cast_const() })
            .ok_or(CallError::Corrupted)
    }
}

impl<R: Payload + ?Sized> Deref for Answer<'_, R> {
    type Target = R;

    #[inline]
    fn deref(&self) -> &R {
        // SAFETY: the slot and its answer are ours until we free them, which needs `self`; the
        // answer is valid (see new) and aligned.
        unsafe { &*self.message }
    }
}

impl<R: Payload + ?Sized> fmt::Debug for Call<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl<R: Payload + ?Sized + fmt::Debug> fmt::Debug for Answer<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<R: Payload + ?Sized> Send for Answer<'_, R> {}
// SAFETY: as above; through a shared reference the answer can only be read.
unsafe impl<R: Payload + ?Sized> Sync for Answer<'_, R> {}
