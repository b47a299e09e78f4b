//! Why a message was not sent or not received: small enums for hot paths, which give the value back.

use std::fmt;

use crate::queue::ring::Stuck;
use crate::{Error, ErrorKind};

/// A message was not sent. Gives it back.
///
/// Converts into [`Error`], so that `?` works where the message does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// There is no room: not now, or not before the deadline.
    Full(T),
    /// Nobody will ever receive it: closed, or the only receiver has died.
    Closed(T),
    /// The shared bytes contradict each other.
    Corrupted(T),
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess(T),
}

/// No message was received.
///
/// Converts into [`Error`], so that `?` works where the reason does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// There is none: not now, or not before the deadline.
    Empty,
    /// There will never be one: closed, or the only sender has died, and everything that was sent has been
    /// received.
    Closed,
    /// The shared bytes contradict each other, or are no valid message.
    Corrupted,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

/// Why a step of an algorithm was not possible, without the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Later,
    Closed,
    Corrupted,
    NotInThisProcess,
}

impl From<Stuck> for Denied {
    #[inline(always)]
    fn from(stuck: Stuck) -> Denied {
        match stuck {
            Stuck::Later => Denied::Later,
            Stuck::Closed => Denied::Closed,
            Stuck::Corrupted => Denied::Corrupted,
        }
    }
}

impl Denied {
    #[inline]
    pub(crate) fn sending<T>(self, value: T) -> SendError<T> {
        match self {
            Denied::Later => SendError::Full(value),
            Denied::Closed => SendError::Closed(value),
            Denied::Corrupted => SendError::Corrupted(value),
            Denied::NotInThisProcess => SendError::NotInThisProcess(value),
        }
    }

    #[inline]
    pub(crate) fn receiving(self) -> RecvError {
        match self {
            Denied::Later => RecvError::Empty,
            Denied::Closed => RecvError::Closed,
            Denied::Corrupted => RecvError::Corrupted,
            Denied::NotInThisProcess => RecvError::NotInThisProcess,
        }
    }
}

impl<T> SendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(value)
            | SendError::Closed(value)
            | SendError::Corrupted(value)
            | SendError::NotInThisProcess(value) => value,
        }
    }

    /// Whether trying again later can help.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full(_))
    }

    /// Whether nobody will ever receive it.
    pub fn is_closed(&self) -> bool {
        matches!(self, SendError::Closed(_))
    }

    fn name(&self) -> &'static str {
        match self {
            SendError::Full(_) => "Full",
            SendError::Closed(_) => "Closed",
            SendError::Corrupted(_) => "Corrupted",
            SendError::NotInThisProcess(_) => "NotInThisProcess",
        }
    }

    fn sentence(&self) -> (ErrorKind, &'static str) {
        match self {
            SendError::Full(_) => (ErrorKind::TimedOut, "there was no room for the message in time"),
            SendError::Closed(_) => (
                ErrorKind::Closed,
                "nobody will receive the message: it was closed, or the other side is gone",
            ),
            SendError::Corrupted(_) => (ErrorKind::Corrupted, "the shared bytes contradict each other"),
            SendError::NotInThisProcess(_) => (ErrorKind::NotInThisProcess, FORKED),
        }
    }
}

impl RecvError {
    fn sentence(&self) -> (ErrorKind, &'static str) {
        match self {
            RecvError::Empty => (ErrorKind::TimedOut, "no message came in time"),
            RecvError::Closed => {
                (ErrorKind::Closed, "no message will come: it was closed, or the other side is gone")
            }
            RecvError::Corrupted => {
                (ErrorKind::Corrupted, "the shared bytes contradict each other, or are no valid message")
            }
            RecvError::NotInThisProcess => (ErrorKind::NotInThisProcess, FORKED),
        }
    }
}

const FORKED: &str =
    "the handle belongs to the process that this one was forked from: give it to a child as an argument";

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence().1)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence().1)
    }
}

impl<T> std::error::Error for SendError<T> {}
impl std::error::Error for RecvError {}

impl<T> From<SendError<T>> for Error {
    fn from(error: SendError<T>) -> Error {
        let (kind, text) = error.sentence();
        Error::new(kind, text)
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Error {
        let (kind, text) = error.sentence();
        Error::new(kind, text)
    }
}
