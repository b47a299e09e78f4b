//! The producer's verbs for messages of fixed size: by value, in place, in batches and in chunks.

use std::time::{Duration, Instant};

use super::in_place::make_valid;
use super::producer::Producer;
use super::{Loan, SendChunk};
use crate::message::Message;
use crate::queue::error::SendError;
use crate::sys::clock::Deadline;

impl<T: Message> Producer<T> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed` if the consumer has closed or died.
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.try_send_any(message)
    }

    /// Sends a message. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed` if the consumer has closed or died.
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

    /// Returns the next slot, to write the message in place, if there is room now.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<[u8; 1 << 20]>(4)?;
    /// let mut frame = producer.loan()?;
    /// frame[..5].copy_from_slice(b"hello");
    /// frame.send(); // dropped without this, nothing is sent
    ///
    /// let frame = consumer.recv_ref()?;
    /// assert_eq!(&frame[..5], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail
    /// #[derive(Clone, Copy, pagemate::Message)]
    /// #[repr(u8)]
    /// enum Side {
    ///     Buy = 1, // zero is no Side
    ///     Sell,
    /// }
    ///
    /// let (mut producer, _consumer) = pagemate::spsc::<Side>(4).unwrap();
    /// let slot = producer.loan();
    /// ```
    ///
    /// # Errors
    ///
    /// `Full`, `Closed` if the consumer has closed or died.
    #[inline]
    pub fn try_loan(&mut self) -> Result<Loan<'_, T>, SendError<()>> {
        match self.room(1) {
            Ok(_) => Ok(self.lend()),
            Err(blocked) => Err(blocked.into_send_error(())),
        }
    }

    /// Returns the next slot, to write the message in place. Blocks while there is no room. See
    /// [`try_loan`](Producer::try_loan).
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died.
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// Calls [`loan`](Producer::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// Calls [`loan`](Producer::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Producer::try_loan).
    pub fn loan_deadline(&mut self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::at(deadline))
    }

    fn loan_until(&mut self, deadline: Deadline) -> Result<Loan<'_, T>, SendError<()>> {
        match self.wait_for_room(deadline) {
            Ok(()) => Ok(self.lend()),
            Err(blocked) => Err(blocked.into_send_error(())),
        }
    }

    #[inline]
    fn lend(&mut self) -> Loan<'_, T> {
        let message = self.endpoint.slot(self.slot);
        // SAFETY: `room` has granted the slot.
        unsafe { make_valid(message) };
        Loan { producer: self, message }
    }

    /// Sends the first messages of `values` that there is room for, in one publication. Returns
    /// their number: at least one, unless `values` is empty.
    ///
    /// # Errors
    ///
    /// `Full` if there is no room for a single message, `Closed` if the consumer has closed or
    /// died.
    pub fn try_send_batch(&mut self, values: &[T]) -> Result<usize, SendError<()>> {
        if values.is_empty() {
            return Ok(0);
        }
        let mut chunk = self.try_chunk(values.len())?;
        let count = chunk.copy_from(values);
        chunk.commit(count);
        Ok(count)
    }

    /// Sends all of `values`. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died, with the number of messages sent until then.
    /// The consumer may not have received all of those.
    pub fn send_batch(&mut self, values: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < values.len() {
            self.wait_for_room(Deadline::Never).map_err(|blocked| blocked.into_send_error(sent))?;
            match self.try_send_batch(&values[sent..]) {
                Ok(count) => sent += count,
                Err(SendError::Full(())) => {}
                Err(error) => return Err(error.with(sent)),
            }
        }
        Ok(())
    }

    /// Returns up to `count` free slots, to write messages in place: those that are free now, at
    /// least one.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(8)?;
    /// producer.try_chunk(5)?.fill_from(10..); // five messages, one publication
    /// let chunk = consumer.try_chunk(100)?;
    /// assert_eq!(chunk.iter().copied().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Full`, `Closed` if the consumer has closed or died.
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    #[inline]
    pub fn try_chunk(&mut self, count: usize) -> Result<SendChunk<'_, T>, SendError<()>> {
        assert!(count > 0, "a chunk of no slots");
        match self.room(count as u64) {
            Ok(room) => Ok(SendChunk::new(self, count.min(room as usize))),
            Err(blocked) => Err(blocked.into_send_error(())),
        }
    }
}
