//! The error of a subscriber: that of a queue's receiver, and what a subscriber has lost.

use std::fmt;

use crate::error::{said, Refusal};
use crate::queue::blocked::Blocked;
use crate::queue::topic::receive::Unread;
use crate::{Error, ErrorKind};

/// The error of a receive from a [`Topic`](crate::Topic).
///
/// Converts into [`Error`], so that `?` works where the reason does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message, or there was none until the deadline.
    Empty,
    /// No message will come: the topic is closed, and everything has been received.
    Closed,
    /// This number of messages was overwritten, or discarded because the quota was used up, before
    /// the subscriber received them. The next call receives the oldest message that is there.
    Lagged(u64),
    /// The words in shared memory contradict each other, or the bytes are not a valid message.
    Corrupted,
    /// The subscriber was made in another process, of which this one is a `fork`. The [`Refusal`]
    /// says why this process cannot use it.
    NotInThisProcess(Refusal),
}

impl RecvError {
    fn sentence(&self) -> (ErrorKind, &'static str) {
        match self {
            RecvError::Empty => (ErrorKind::TimedOut, "no message came in time"),
            RecvError::Closed => (ErrorKind::Closed, "no message will come: the topic was closed"),
            RecvError::Lagged(_) => {
                (ErrorKind::Lagged, "messages were overwritten before this subscriber received them")
            }
            RecvError::Corrupted => {
                (ErrorKind::Corrupted, "the shared bytes contradict each other, or are not a valid message")
            }
            RecvError::NotInThisProcess(refusal) => (refusal.kind(), refusal.sentence()),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Lagged(count) => write!(f, "{count} {}", self.sentence().1),
            _ => f.write_str(self.sentence().1),
        }
    }
}

impl std::error::Error for RecvError {}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Error {
        said(error.sentence().0, &error)
    }
}

impl From<Unread> for RecvError {
    #[inline]
    fn from(unread: Unread) -> RecvError {
        match unread {
            Unread::Lagged(count) => RecvError::Lagged(count),
            Unread::Blocked(Blocked::Later) => RecvError::Empty,
            Unread::Blocked(Blocked::Closed) => RecvError::Closed,
            Unread::Blocked(Blocked::Corrupted) => RecvError::Corrupted,
            Unread::Blocked(Blocked::NotInThisProcess(refusal)) => RecvError::NotInThisProcess(refusal),
        }
    }
}
