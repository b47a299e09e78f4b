//! Why a queue, a ring or a pipe cannot take its next step: one answer for all of them.
//!
//! A step of an algorithm returns [`Blocked`] without the message. The handles convert it into the
//! public error, which returns the message to the caller. The conversion into
//! [`PipeError`](crate::pipe::PipeError) is in `pipe/error.rs`, because pipes are a higher layer.

use crate::error::Refusal;
use crate::queue::error::{RecvError, SendError};

/// The reason why a step is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Not now: no room, or no message; or the deadline has passed.
    Later,
    /// Never again: closed, or the other side is gone. For a receiver everything has been received.
    Closed,
    /// The words in shared memory contradict each other.
    Corrupted,
    /// The handle was created in another process. Only handles return it, never the algorithms.
    NotInThisProcess(Refusal),
}

impl Blocked {
    /// Returns the error of a send that was to send `value`.
    #[inline]
    pub(crate) fn into_send_error<T>(self, value: T) -> SendError<T> {
        match self {
            Blocked::Later => SendError::Full(value),
            Blocked::Closed => SendError::Closed(value),
            Blocked::Corrupted => SendError::Corrupted(value),
            Blocked::NotInThisProcess(refusal) => SendError::NotInThisProcess(value, refusal),
        }
    }

    /// Returns the error of a receive.
    #[inline]
    pub(crate) fn into_recv_error(self) -> RecvError {
        match self {
            Blocked::Later => RecvError::Empty,
            Blocked::Closed => RecvError::Closed,
            Blocked::Corrupted => RecvError::Corrupted,
            Blocked::NotInThisProcess(refusal) => RecvError::NotInThisProcess(refusal),
        }
    }
}
