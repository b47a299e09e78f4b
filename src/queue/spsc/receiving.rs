//! The consumer's verbs for messages of fixed size: by value, in batches and in chunks.

use std::time::{Duration, Instant};

use super::consumer::Consumer;
use super::RecvChunk;
use crate::message::Message;
use crate::queue::blocked::Blocked;
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
    /// - `Corrupted`: the bytes are no valid message. It is dropped, so the next call receives the
    ///   message after it. Or the positions of the ring contradict each other; then every later
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

    /// Appends to `into` the messages that are there now, at most `most`. Returns their number: at
    /// least one, unless `most` is 0. Allocates only if `into` has no room for them.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn try_recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let chunk = self.try_chunk(most)?;
        into.reserve(chunk.len());
        let len = chunk.copy_to(into.spare_capacity_mut())?;
        // SAFETY: the chunk has written `len` valid messages behind the last one.
        unsafe { into.set_len(into.len() + len) };
        Ok(len)
    }

    /// Receives like [`try_recv_batch`](Consumer::try_recv_batch), but blocks until the first
    /// message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_batch(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most > 0 {
            self.wait_for_message(Deadline::Never).map_err(Blocked::into_recv_error)?;
        }
        self.try_recv_batch(into, most)
    }

    /// Returns up to `count` messages in place: those that are there now, at least one. Dropping
    /// the chunk releases their slots.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    #[inline]
    pub fn try_chunk(&mut self, count: usize) -> Result<RecvChunk<'_, T>, RecvError> {
        assert!(count > 0, "a chunk of no messages");
        match self.ready(count as u64) {
            Ok(ready) => RecvChunk::new(self, count.min(ready as usize)),
            Err(blocked) => Err(blocked.into_recv_error()),
        }
    }
}
