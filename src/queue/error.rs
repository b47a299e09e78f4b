//! The public errors of sends and receives: small enums for hot paths, which return the value.

use std::fmt;

use crate::error::{said, Refusal};
use crate::queue::topic::policy::Laggard;
use crate::{Error, ErrorKind};

/// The error of a send, with the message that was not sent.
///
/// Converts into [`Error`], so that `?` works where the message does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// No room: not now, or not before the deadline.
    Full(T),
    /// No receiver will come: the queue is closed, or its only receiver has died.
    Closed(T),
    /// The words in shared memory contradict each other.
    Corrupted(T),
    /// The handle was created in another process, of which this process is a `fork`. The
    /// [`Refusal`] says why this process cannot use it.
    NotInThisProcess(T, Refusal),
    /// The queue delivers the messages of dead consumers again, so none of them can be replaced.
    /// Only [`Queue::force_send`](crate::Queue::force_send) returns it.
    Unsupported(T),
    /// The message is longer than the quota can ever hold. Only queues and topics whose messages
    /// differ in length return it.
    TooLarge(T, Excess),
    /// A lossless subscriber of a topic lags: it has received too little to make room in time. Only
    /// a [`Publisher`](crate::queue::topic::Publisher) returns it, as the topic's
    /// [`Policy`](crate::queue::topic::Policy) says.
    Lagging(T, Laggard),
}

/// How much too large a message is: see [`SendError::TooLarge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    needed: u64,
    quota: u64,
}

impl Excess {
    pub(crate) fn new(needed: u64, quota: u64) -> Excess {
        Excess { needed, quota }
    }

    /// Returns the bytes that the message would take: up to a quarter more than its length, and a
    /// multiple of 16 KiB.
    pub fn needed(&self) -> u64 {
        self.needed
    }

    /// Returns the number of bytes of the quota of the queue or topic.
    pub fn quota(&self) -> u64 {
        self.quota
    }
}

/// The error of a receive.
///
/// Converts into [`Error`], so that `?` works where the reason does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// No message: not now, or not before the deadline.
    Empty,
    /// No message will come: the queue is closed, or its only sender has died, and everything that
    /// was sent has been received.
    Closed,
    /// The words in shared memory contradict each other, or the bytes are not a valid message.
    Corrupted,
    /// The handle was created in another process, of which this process is a `fork`. The
    /// [`Refusal`] says why this process cannot use it.
    NotInThisProcess(Refusal),
}

/// Returns the next item of an iterator over messages. `Empty` and `Closed` end the iterator; any
/// other error is an item, the last one, because it may persist.
#[inline]
pub(crate) fn item<T>(
    has_failed: &mut bool,
    receive: impl FnOnce() -> Result<T, RecvError>,
) -> Option<Result<T, RecvError>> {
    if *has_failed {
        return None;
    }
    match receive() {
        Ok(value) => Some(Ok(value)),
        Err(RecvError::Empty | RecvError::Closed) => None,
        Err(error) => {
            *has_failed = true;
            Some(Err(error))
        }
    }
}

impl<T> SendError<T> {
    /// Returns the same error with another message.
    pub(crate) fn with<U>(self, value: U) -> SendError<U> {
        match self {
            SendError::Full(_) => SendError::Full(value),
            SendError::Closed(_) => SendError::Closed(value),
            SendError::Corrupted(_) => SendError::Corrupted(value),
            SendError::NotInThisProcess(_, refusal) => SendError::NotInThisProcess(value, refusal),
            SendError::Unsupported(_) => SendError::Unsupported(value),
            SendError::TooLarge(_, excess) => SendError::TooLarge(value, excess),
            SendError::Lagging(_, laggard) => SendError::Lagging(value, laggard),
        }
    }

    /// Returns the message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(value)
            | SendError::Closed(value)
            | SendError::Corrupted(value)
            | SendError::NotInThisProcess(value, _)
            | SendError::Unsupported(value)
            | SendError::TooLarge(value, _)
            | SendError::Lagging(value, _) => value,
        }
    }

    /// Returns whether a later attempt can succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full(_) | SendError::Lagging(..))
    }

    /// Returns whether no receiver will ever come.
    pub fn is_closed(&self) -> bool {
        matches!(self, SendError::Closed(_))
    }

    fn name(&self) -> &'static str {
        match self {
            SendError::Full(_) => "Full",
            SendError::Closed(_) => "Closed",
            SendError::Corrupted(_) => "Corrupted",
            SendError::NotInThisProcess(..) => "NotInThisProcess",
            SendError::Unsupported(_) => "Unsupported",
            SendError::TooLarge(..) => "TooLarge",
            SendError::Lagging(..) => "Lagging",
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
            SendError::NotInThisProcess(_, refusal) => (refusal.kind(), refusal.sentence()),
            SendError::Unsupported(_) => {
                (ErrorKind::Unsupported, "no message of a queue with redelivery can be replaced")
            }
            SendError::TooLarge(..) => (ErrorKind::InvalidInput, "the message is larger than the quota"),
            SendError::Lagging(..) => (ErrorKind::TimedOut, "a lossless subscriber lags"),
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
                (ErrorKind::Corrupted, "the shared bytes contradict each other, or are not a valid message")
            }
            RecvError::NotInThisProcess(refusal) => (refusal.kind(), refusal.sentence()),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::TooLarge(_, Excess { needed, quota }) => {
                write!(f, "the message takes {needed} bytes, and the quota is {quota} bytes")
            }
            SendError::Lagging(_, laggard) => write!(f, "{}: {laggard}", self.sentence().1),
            _ => f.write_str(self.sentence().1),
        }
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
        said(error.sentence().0, &error)
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Error {
        said(error.sentence().0, &error)
    }
}
