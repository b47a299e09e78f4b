//! The error of a call.

use std::fmt;

use super::word::Status;
use crate::error::{said, Refusal};
use crate::queue::blocked::Blocked;
use crate::queue::Excess;
use crate::{Error, ErrorKind};

/// The reason why a call has no answer.
///
/// Converts into [`Error`], so that `?` works where the reason does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// There was no answer before the deadline. The call was cancelled. A server may have handled
    /// the request, or may still do so.
    TimedOut,
    /// No room for the call: all slots have calls, or the quota is used up by other requests, now
    /// or until the deadline. The request was not sent.
    Full,
    /// The service has no server. No server has seen the request.
    NoServer,
    /// The server that had the request has died. It may have handled the request. Services that
    /// [redeliver](super::ServiceBuilder::redeliver) do not return it.
    ServerDied,
    /// The server has dropped the request without an answer.
    Refused,
    /// The service was closed before the request was sent.
    Closed,
    /// The request is longer than the quota can ever hold. Only services whose requests differ in
    /// length return it.
    TooLarge(Excess),
    /// The words in shared memory contradict each other, or the bytes of the request or of the
    /// answer are not valid.
    Corrupted,
    /// The handle was created in another process, of which this process is a `fork`. The
    /// [`Refusal`] says why this process cannot use it.
    NotInThisProcess(Refusal),
}

impl CallError {
    fn sentence(&self) -> (ErrorKind, &'static str) {
        match self {
            CallError::TimedOut => (ErrorKind::TimedOut, "no answer came in time"),
            CallError::Full => (ErrorKind::TimedOut, "there was no room for the call in time"),
            CallError::NoServer => (ErrorKind::Closed, "the service has no server"),
            CallError::ServerDied => (ErrorKind::Closed, "the server died before it answered"),
            CallError::Refused => (ErrorKind::Refused, "the server dropped the request without an answer"),
            CallError::Closed => (ErrorKind::Closed, "the service was closed"),
            CallError::TooLarge(_) => (ErrorKind::InvalidInput, "the request is larger than the quota"),
            CallError::Corrupted => {
                (ErrorKind::Corrupted, "the shared bytes contradict each other, or are no valid message")
            }
            CallError::NotInThisProcess(refusal) => (refusal.kind(), refusal.sentence()),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::TooLarge(excess) => write!(
                f,
                "the request takes {} bytes, and the quota is {} bytes",
                excess.needed(),
                excess.quota()
            ),
            _ => f.write_str(self.sentence().1),
        }
    }
}

impl std::error::Error for CallError {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        said(error.sentence().0, &error)
    }
}

impl From<Blocked> for CallError {
    /// Returns the error of a request that was not sent.
    fn from(blocked: Blocked) -> CallError {
        match blocked {
            Blocked::Later => CallError::Full,
            Blocked::Closed => CallError::Closed,
            Blocked::Corrupted => CallError::Corrupted,
            Blocked::NotInThisProcess(refusal) => CallError::NotInThisProcess(refusal),
        }
    }
}

/// Returns the error of a call that has ended so. `None`: it has an answer.
pub(super) fn of(status: Option<Status>) -> Option<CallError> {
    match status {
        Some(Status::Answered) => None,
        Some(Status::Refused) => Some(CallError::Refused),
        Some(Status::Died) => Some(CallError::ServerDied),
        Some(Status::Pending | Status::Cancelled) => Some(CallError::TimedOut),
        // An answer in parts is for those that ask for it.
        Some(Status::Invalid | Status::Ended) | None => Some(CallError::Corrupted),
    }
}
