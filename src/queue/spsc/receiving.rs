//! The consumer's verbs for messages of fixed size, by value.

use std::time::{Duration, Instant};

use super::consumer::Consumer;
use crate::message::Message;
use crate::queue::error::RecvError;
use crate::sys::clock::Deadline;

impl<T: Message> Consumer<T> {
    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]:
    ///
    /// - `Empty`: there is no message.
    /// - `Closed`: the producer has closed or died, and everything it sent was received.
    /// - `Corrupted`: the bytes are not a valid message. It is dropped, so the next call receives
    ///   the message after it. Or the positions of the ring contradict each other; then every later
    ///   call fails as well.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.try_recv_any()
    }

    /// Receives a message. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_any(Deadline::Never)
    }

    /// Receives a message. Blocks until there is one, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_timed(|| Deadline::after(timeout))
    }

    /// Receives a message. Blocks until there is one, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_timed(|| Deadline::at(deadline))
    }
}
