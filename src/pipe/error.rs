//! The public error of pipes.

use std::fmt;

use crate::queue::blocked::Blocked;
use crate::{Error, ErrorKind};

/// The error of a send or a receive. No message is lost, unless the variant says so.
///
/// Converts into [`Error`], so that `?` works in functions that return
/// [`pagemate::Result`](crate::Result).
#[derive(Debug)]
#[non_exhaustive]
pub enum PipeError {
    /// Receiving: there is no message. Sending: there is no room. From a call with a deadline: and
    /// there was none until then.
    TimedOut,
    /// Receiving: end of file. The other end has closed or died, and everything that it sent was
    /// received. Sending: nobody will receive the message.
    Closed,
    /// The message is longer than the buffer. It has been received, and is in this variant.
    BufferTooShort(Vec<u8>),
    /// The next message is of another type. The error shows both layouts. The message stays in the
    /// pipe.
    TypeMismatch(Error),
    /// The message has more bytes than the pipe has room for. Only a send that may block can send
    /// it.
    TooLarge,
    /// The words in shared memory contradict each other, or the bytes are not a valid message.
    Corrupted,
    /// The handle was created in another process, of which this process is a `fork`.
    NotInThisProcess,
}

impl PipeError {
    /// Returns true if the other end has closed or died: no later attempt can succeed.
    pub fn is_closed(&self) -> bool {
        matches!(self, PipeError::Closed)
    }

    /// Returns true if there was no message or no room in time: a later attempt can succeed.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, PipeError::TimedOut)
    }
}

impl From<Blocked> for PipeError {
    fn from(blocked: Blocked) -> PipeError {
        match blocked {
            Blocked::Later => PipeError::TimedOut,
            Blocked::Closed => PipeError::Closed,
            Blocked::Corrupted => PipeError::Corrupted,
            Blocked::NotInThisProcess(_) => PipeError::NotInThisProcess,
        }
    }
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PipeError::TimedOut => "the other end of the pipe did not send, or make room, in time",
            PipeError::Closed => "the other end of the pipe has closed or died",
            PipeError::BufferTooShort(message) => {
                return write!(f, "the buffer is too short for the message of {} bytes", message.len());
            }
            PipeError::TypeMismatch(error) => return error.fmt(f),
            PipeError::TooLarge => {
                "the message is larger than the pipe: only a send that may wait can send it"
            }
            PipeError::Corrupted => {
                "the shared bytes of the pipe contradict each other, or are not a valid message"
            }
            PipeError::NotInThisProcess => {
                "the end of the pipe belongs to the process that this one was forked from: \
                 give it to a child as an argument"
            }
        })
    }
}

impl std::error::Error for PipeError {}

impl From<PipeError> for Error {
    fn from(error: PipeError) -> Error {
        let kind = match &error {
            PipeError::TypeMismatch(_) => ErrorKind::TypeMismatch,
            PipeError::TimedOut => ErrorKind::TimedOut,
            PipeError::Closed => ErrorKind::Closed,
            PipeError::BufferTooShort(_) | PipeError::TooLarge => ErrorKind::InvalidInput,
            PipeError::Corrupted => ErrorKind::Corrupted,
            PipeError::NotInThisProcess => ErrorKind::NotInThisProcess,
        };
        match error {
            PipeError::TypeMismatch(error) => error,
            error => Error::new(kind, error.to_string()),
        }
    }
}
