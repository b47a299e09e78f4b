//! A request that a server has received, and how it is answered.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::port::Port;
use super::word::{Outcome, Status};
use crate::message::Payload;
use crate::queue::holders::Tenure;
use crate::queue::mpmc::ring::Claim;
use crate::queue::SendError;
use crate::segment::owner::OwnerId;
use crate::sys::clock::{now, Deadline};

/// The hold of a server on a call. Refuses the call when dropped, in the process that has received
/// its request.
#[derive(Debug)]
pub(super) struct Serving<'a> {
    pub(super) port: &'a Port,
    pub(super) claim: Claim,
    /// The outcome as the request was received. It has the generation.
    outcome: Outcome,
    /// A fork gives the child a copy of this guard, but not the request.
    pub(super) tenure: Tenure,
}

impl<'a> Serving<'a> {
    #[inline]
    pub(super) fn new(port: &'a Port, me: OwnerId, claim: Claim) -> Serving<'a> {
        let outcome = port.table.outcome(claim.index);
        Serving { port, claim, outcome, tenure: Tenure::new(me) }
    }

    /// Ends the call, and hands its slot on to the caller. Fails if the caller has given up.
    #[inline]
    pub(super) fn end(self, status: Status) -> Result<(), Serving<'a>> {
        if self.port.table.settle(self.claim.index, self.outcome, status).is_err() {
            return Err(self);
        }
        let _ = ManuallyDrop::new(self);
        Ok(())
    }

    /// Returns the outcome as the request was received.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns whether the call goes on.
    pub(super) fn is_pending(&self) -> bool {
        self.port.table.outcome(self.claim.index).is_pending()
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if !self.tenure.is_mine() {
            return;
        }
        let Serving { port, claim, outcome, tenure } = self;
        if port.table.settle(claim.index, *outcome, Status::Refused).is_err() {
            // Its caller has given up, so the slot is still ours. Or the word was overwritten.
            port.free_own(tenure.me, *claim);
        }
    }
}

/// The process that has sent a request.
///
/// `Display` prints both numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId {
    participant: usize,
    pid: u32,
}

impl ClientId {
    /// Returns the index of the participant, as `pagemate show` prints it.
    pub fn participant(self) -> usize {
        self.participant
    }

    /// Returns the process id that the client had when it attached, in its own pid namespace.
    pub fn pid(self) -> u32 {
        self.pid
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "participant {}, process {}", self.participant, self.pid)
    }
}

/// A request that a [`Server`](super::Server) has received, in place.
///
/// It derefs to the request. [`reply`](Request::reply) answers it. Dropped without an answer, its
/// caller gets `Refused`.
///
/// May be kept for any time, and answered from any thread, in any order.
pub struct Request<'a, Q: Payload + ?Sized, R: Payload + ?Sized> {
    pub(super) serving: Serving<'a>,
    message: *const Q,
    _answer: PhantomData<fn(&R)>,
}

impl<'a, Q: Payload + ?Sized, R: Payload + ?Sized> Request<'a, Q, R> {
    /// Creates a guard of a request that was taken. `None`: its caller has given up already, or its
    /// bytes are not valid, and the call has ended.
    #[inline]
    pub(super) fn new(serving: Serving<'a>) -> Option<Request<'a, Q, R>> {
        if !serving.outcome.is_pending() {
            drop(serving);
            return None;
        }
        let found = serving.port.find_request(serving.claim.index);
        // SAFETY: the request is ours, so it can be read. It is in the slot or in a block, as
        // find_request() has checked, and aligned there.
        match found.and_then(|(at, len)| unsafe { Q::in_place(at.cast(), len) }) {
            Some(message) => Some(Request { serving, message, _answer: PhantomData }),
            None => {
                let _ = serving.end(Status::Invalid);
                None
            }
        }
    }

    /// Returns the process that has sent the request.
    pub fn client(&self) -> ClientId {
        let port = self.serving.port;
        let id = port.table.client(self.serving.claim.index);
        let participant = id.map_or(0, OwnerId::index);
        let (pid, _) = port.object.attachment().view().line(participant).label();
        ClientId { participant, pid }
    }

    /// Returns when the caller gives up; `None`: never, or too late for this clock.
    pub fn deadline(&self) -> Option<Instant> {
        match self.serving.port.table.deadline(self.serving.claim.index) {
            u64::MAX => None,
            nanos => match nanos.checked_sub(now()) {
                Some(left) => Instant::now().checked_add(Duration::from_nanos(left)),
                None => Some(Instant::now()), // it has passed
            },
        }
    }

    /// Returns whether the caller has given up, or its death was noticed. Then an answer goes
    /// nowhere. Once true, always true.
    pub fn is_cancelled(&self) -> bool {
        !self.serving.port.object.is_hindered(self.serving.is_pending())
    }

    /// Answers the request. Blocks while there is no memory for the answer; answers of a fixed
    /// size, and those that fit into the slot, need none.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the request: `Closed` if its caller has given up, `TooLarge`,
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn reply(self, answer: &R) -> Result<(), SendError<Request<'a, Q, R>>> {
        self.reply_by(answer, Deadline::Never)
    }

    /// Like [`reply`](Request::reply), but only if there is memory now.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Request::reply), and `Full`.
    pub fn try_reply(self, answer: &R) -> Result<(), SendError<Request<'a, Q, R>>> {
        self.reply_by(answer, Deadline::At(0))
    }

    /// Like [`reply`](Request::reply), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_reply`](Request::try_reply).
    pub fn reply_timeout(self, answer: &R, timeout: Duration) -> Result<(), SendError<Request<'a, Q, R>>> {
        self.reply_by(answer, Deadline::after(timeout))
    }

    /// Like [`reply`](Request::reply), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_reply`](Request::try_reply).
    pub fn reply_deadline(self, answer: &R, deadline: Instant) -> Result<(), SendError<Request<'a, Q, R>>> {
        self.reply_by(answer, Deadline::at(deadline))
    }

    #[inline]
    fn reply_by(self, answer: &R, deadline: Deadline) -> Result<(), SendError<Request<'a, Q, R>>> {
        let elements = answer.as_elements();
        match self.serving.place(elements.len(), deadline) {
            Ok(at) => {
                // SAFETY: place() has returned room for that many elements, and it is ours.
                unsafe {
                    let from = elements.as_ptr().cast::<u8>();
                    from.copy_to_nonoverlapping(at, size_of_val(elements));
                }
                self.send()
            }
            Err(error) => Err(error.with(self)),
        }
    }

    /// Sends the answer that was written where `place` has said.
    #[inline]
    pub(super) fn send(self) -> Result<(), SendError<Request<'a, Q, R>>> {
        let Request { serving, message, _answer } = self;
        serving
            .end(Status::Answered)
            .map_err(|serving| SendError::Closed(Request { serving, message, _answer }))
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Deref for Request<'_, Q, R> {
    type Target = Q;

    #[inline]
    fn deref(&self) -> &Q {
        // SAFETY: the slot and its request are ours until we end the call, which needs `self`; the
        // request is valid (see new) and aligned.
        unsafe { &*self.message }
    }
}

impl<Q: Payload + ?Sized + fmt::Debug, R: Payload + ?Sized> fmt::Debug for Request<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Send for Request<'_, Q, R> {}
// SAFETY: as above; through a shared reference the request can only be read.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Sync for Request<'_, Q, R> {}
