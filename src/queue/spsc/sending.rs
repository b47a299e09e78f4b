//! The producer's verbs for messages of fixed size, by value.

use std::time::{Duration, Instant};

use super::producer::Producer;
use crate::message::Message;
use crate::queue::error::SendError;
use crate::sys::clock::Deadline;

impl<T: Message> Producer<T> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed` if the consumer has closed or died,
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.try_send_any(message)
    }

    /// Sends a message. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Producer::try_send), but not `Full`.
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.send_any(message, Deadline::Never)
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Producer::try_send).
    pub fn send_timeout(&mut self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_timed(message, || Deadline::after(timeout))
    }

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Producer::try_send).
    pub fn send_deadline(&mut self, message: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.send_timed(message, || Deadline::at(deadline))
    }
}
