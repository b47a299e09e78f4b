//! An answer in parts, as its client takes it.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::call::copy_out;
use super::caller::{Caller, End, Ticket};
use super::error::{self, CallError};
use super::word::Status;
use crate::error::Refusal;
use crate::message::Payload;
use crate::sys::clock::Deadline;

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The call goes on.
    Going,
    /// The call has ended. The client has its slot, and there may be parts in it.
    Ended(Option<Status>),
    /// Nothing is left of the call.
    Over,
}

/// What the client takes next.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// The part of this number.
    Part(usize),
    /// An answer that did not come in parts.
    Whole,
}

/// An answer in parts: see [`Client::stream`](super::Client::stream).
///
/// It iterates over the parts, in the order in which the server has sent them, and ends after the
/// last one. An error is the last item. It comes after all parts that were sent before:
/// `ServerDied` and `Refused` mean that the server has not sent all. An answer that does not come
/// in parts is one item.
///
/// Dropping it cancels the call, as for a [`Call`](super::Call).
#[must_use = "dropping it cancels the call"]
pub struct Stream<'a, R: Payload + ?Sized> {
    caller: &'a Caller,
    ticket: Ticket,
    state: State,
    _answer: PhantomData<fn() -> &'a R>,
}

impl<'a, R: Payload + ?Sized> Stream<'a, R> {
    pub(super) fn new(caller: &'a Caller, ticket: Ticket) -> Stream<'a, R> {
        Stream { caller, ticket, state: State::Going, _answer: PhantomData }
    }

    /// Returns the next part if there is one now. `TimedOut`: there is none, and the stream goes
    /// on. `None`: all were taken.
    pub fn try_next(&mut self) -> Option<Result<R::Owned, CallError>> {
        self.next_by(Deadline::At(0))
    }

    /// Returns the next part. Blocks while there is none, for at most `timeout`. `TimedOut`: there
    /// was none, and the stream goes on. `None`: all were taken.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R::Owned, CallError>> {
        self.next_by(Deadline::after(timeout))
    }

    /// Like [`next_timeout`](Stream::next_timeout), but blocks until `deadline` at the latest.
    pub fn next_deadline(&mut self, deadline: Instant) -> Option<Result<R::Owned, CallError>> {
        self.next_by(Deadline::at(deadline))
    }

    /// Returns the next part in place. Blocks while there is none. `None`: all were taken.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let service = pagemate::Service::<u64, [u8; 4096]>::builder(4).parts(2).build()?;
    /// let (client, server) = (service.client(), service.server());
    /// let mut answer = client.stream(&7)?;
    /// let mut parts = server.recv()?.stream().unwrap();
    /// let mut part = parts.loan().unwrap();
    /// part.fill(1);
    /// part.send().unwrap();
    /// parts.finish().unwrap();
    /// assert_eq!(answer.next_ref().unwrap()?[4000], 1);
    /// assert!(answer.next_ref().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_ref(&mut self) -> Option<Result<Part<'_, 'a, R>, CallError>> {
        let found = match self.find(Deadline::Never)? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let place = self.caller.port.find_part(self.ticket.index, found.number());
        // SAFETY: the place is ours until we give it back, so its part can be read. It is in the
        // slot or in a block, as find_part() has checked, and aligned there.
        match place.and_then(|(at, len)| unsafe { R::in_place(at.cast(), len) }) {
            Some(message) => Some(Ok(Part { message: message.cast_const(), found, stream: self })),
            None => Some(Err(self.fail(CallError::Corrupted))),
        }
    }

    fn next_by(&mut self, deadline: Deadline) -> Option<Result<R::Owned, CallError>> {
        let found = match self.find(deadline)? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let copy = copy_out::<R>(&self.caller.port, self.ticket.index, found.number());
        match copy {
            Ok(_) => self.finish(found),
            Err(error) => _ = self.fail(error),
        }
        Some(copy)
    }

    /// Finds the next part.
    fn find(&mut self, deadline: Deadline) -> Option<Result<Found, CallError>> {
        if self.state == State::Over {
            return None;
        }
        if !self.ticket.tenure.is_mine() {
            self.state = State::Over; // of this copy
            return Some(Err(CallError::NotInThisProcess(Refusal::FORKED)));
        }
        if self.state == State::Going {
            match self.caller.wait_for_part(&self.ticket, deadline) {
                End::Part => {}
                End::Later => return Some(Err(CallError::TimedOut)),
                End::Decided(outcome) => self.state = State::Ended(outcome.status()),
                End::NoServer => {
                    self.state = State::Over; // the request was withdrawn
                    return Some(Err(CallError::NoServer));
                }
            }
        }
        // After the outcome. Pairs with the server's count.
        let parts = self.caller.port.table.parts(self.ticket.index);
        match (parts.number(), self.state) {
            (0, State::Ended(Some(Status::Answered))) => Some(Ok(Found::Whole)),
            (0, State::Ended(Some(Status::Ended))) => {
                self.end();
                None
            }
            (0, State::Ended(status)) => {
                Some(Err(self.fail(error::of(status).unwrap_or(CallError::Corrupted))))
            }
            (1.., _) if parts.number() <= self.caller.port.places.number() => {
                Some(Ok(Found::Part(parts.next_taken())))
            }
            _ => Some(Err(self.fail(CallError::Corrupted))), // the word was overwritten
        }
    }

    /// Gives back what was found.
    fn finish(&mut self, found: Found) {
        match found {
            Found::Part(number) => self.caller.port.finish_part(self.ticket.index, number),
            Found::Whole => self.end(),
        }
    }

    /// Ends the stream, after this error.
    fn fail(&mut self, error: CallError) -> CallError {
        self.end();
        error
    }

    /// Cancels the call if it goes on, and frees its slot.
    fn end(&mut self) {
        let has_slot = match std::mem::replace(&mut self.state, State::Over) {
            State::Going => self.caller.cancel(&self.ticket).is_some(),
            State::Ended(_) => true,
            State::Over => false,
        };
        if has_slot {
            self.caller.port.free_handed_on(self.ticket.index);
        }
    }
}

impl Found {
    /// Returns the number of its place.
    fn number(self) -> usize {
        match self {
            Found::Part(number) => number,
            Found::Whole => 0,
        }
    }
}

impl<R: Payload + ?Sized> Iterator for Stream<'_, R> {
    type Item = Result<R::Owned, CallError>;

    /// Returns the next part. Blocks while there is none. `None`: all were taken.
    fn next(&mut self) -> Option<Result<R::Owned, CallError>> {
        self.next_by(Deadline::Never)
    }
}

impl<R: Payload + ?Sized> FusedIterator for Stream<'_, R> {}

impl<R: Payload + ?Sized> Drop for Stream<'_, R> {
    fn drop(&mut self) {
        if self.ticket.tenure.is_mine() {
            self.end();
        }
    }
}

impl<R: Payload + ?Sized> fmt::Debug for Stream<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("is_over", &(self.state == State::Over)).finish_non_exhaustive()
    }
}

/// A part of an answer in place. Its place is free for another part once this was dropped.
///
/// May be kept for any time; the server can send as many more parts as there are
/// [places](super::ServiceBuilder::parts).
pub struct Part<'s, 'a, R: Payload + ?Sized> {
    message: *const R,
    found: Found,
    stream: &'s mut Stream<'a, R>,
}

impl<R: Payload + ?Sized> Deref for Part<'_, '_, R> {
    type Target = R;

    #[inline]
    fn deref(&self) -> &R {
        // SAFETY: the place is ours until we give it back, which needs `self`; the part is valid
        // (see next_ref) and aligned.
        unsafe { &*self.message }
    }
}

impl<R: Payload + ?Sized> Drop for Part<'_, '_, R> {
    fn drop(&mut self) {
        if self.stream.ticket.tenure.is_mine() {
            self.stream.finish(self.found);
        }
    }
}

impl<R: Payload + ?Sized + fmt::Debug> fmt::Debug for Part<'_, '_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<R: Payload + ?Sized> Send for Part<'_, '_, R> {}
// SAFETY: as above; through a shared reference the part can only be read.
unsafe impl<R: Payload + ?Sized> Sync for Part<'_, '_, R> {}
