//! Calls of bytes, for programs that do not have the types of a service.

use std::time::Duration;

use super::caller::{self, End, Terms, Ticket};
use super::error;
use super::layout::Any;
use super::port::Port;
use super::CallError;
use crate::segment::object::ObjectRef;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// The longest wait between two calls of `idle`.
const TICK: Duration = Duration::from_millis(100);

/// A client without types.
#[derive(Debug)]
pub(crate) struct Caller(caller::Caller);

impl Caller {
    /// Checks that the object is a service, and that requests and answers have these sizes, and
    /// differ in length or not.
    pub(crate) fn open(object: ObjectRef, sizes: [(u64, bool); 2]) -> Result<Caller> {
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the table,
        // keeps it mapped.
        match unsafe { Any::check(object.base(), object.len()) } {
            Some(found) if [found.request, found.answer].map(|side| side.kind()) == sizes => {
                Ok(Caller(caller::Caller::new(Port::new(found, object))))
            }
            _ => Err(Error::new(ErrorKind::Corrupted, "the service's geometry does not fit its size")),
        }
    }

    pub(crate) fn set_wait_for_server(&mut self, wait_for_server: bool) {
        self.0.waits_for_server = wait_for_server;
    }

    /// Sends a request of these bytes, and returns the bytes of its answer.
    pub(crate) fn call<E: From<CallError>>(
        &self,
        bytes: &[u8],
        timeout: Option<Duration>,
        mut idle: impl FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<u8>, E> {
        let end = timeout.map_or(Deadline::Never, Deadline::after);
        let side = &self.0.port.request.side;
        let len = bytes.len().checked_div(side.size).unwrap_or(0);
        let is_whole =
            if side.is_fixed() { bytes.len() == side.size } else { bytes.len() == len * side.size };
        assert!(is_whole, "the bytes of one request");
        let placed = loop {
            match self.0.place(len, Deadline::after(TICK).min(end)) {
                Err(CallError::Full) if !end.has_passed() => idle()?,
                placed => break placed?,
            }
        };
        // SAFETY: place() has returned room for these bytes, and it is ours.
        unsafe { placed.at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        let terms = Terms { room: end, deadline: end, is_in_parts: false };
        let ticket = self.0.send(placed.me, placed.claim, terms).map_err(|(error, claim)| {
            self.0.port.free_own(placed.me, claim);
            error
        })?;
        let outcome = loop {
            match self.0.wait(&ticket, Deadline::after(TICK).min(end)) {
                End::Decided(outcome) => break outcome,
                End::NoServer => return Err(CallError::NoServer.into()),
                End::Later | End::Part => {
                    let asked = if end.has_passed() { Err(CallError::TimedOut.into()) } else { idle() };
                    if let Err(reason) = asked {
                        match self.0.cancel(&ticket) {
                            Some(outcome) => break outcome,
                            None => return Err(reason),
                        }
                    }
                }
            }
        };
        let answer = match error::of(outcome.status()) {
            None => self.copy(&ticket).ok_or(CallError::Corrupted),
            Some(error) => Err(error),
        };
        self.0.port.free_handed_on(ticket.index);
        Ok(answer?)
    }

    /// Copies the bytes of an answer.
    fn copy(&self, ticket: &Ticket) -> Option<Vec<u8>> {
        let (at, len) = self.0.port.find_answer(ticket.index)?;
        let bytes = len * self.0.port.answer.side.size;
        let mut copy = Vec::with_capacity(bytes);
        // SAFETY: the answer is ours to read, and has that many bytes; there is room for them.
        unsafe {
            at.copy_to_nonoverlapping(copy.as_mut_ptr(), bytes);
            copy.set_len(bytes);
        }
        Some(copy)
    }
}
