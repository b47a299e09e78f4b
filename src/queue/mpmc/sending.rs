//! The sending half of the handle: messages by value, and slots to write messages in place.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::backoff::pause;
use super::guard::Loan;
use super::handle::Queue;
use super::ring::Claim;
use crate::message::{self, Message, Payload};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed`, `Corrupted`.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        self.try_send_any(message)
    }

    /// Sends a message. Blocks while there is no room.
    ///
    /// The value is passed on the stack and may be copied there. Write a message of a megabyte in
    /// place instead, with [`loan`](Queue::loan).
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed`, `Corrupted`.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.send_any(message, || Deadline::Never)
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Queue::try_send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_any(message, || Deadline::after(timeout))
    }

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Queue::try_send).
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.send_any(message, || Deadline::at(deadline))
    }

    /// Sends a message now, also to a full queue: there it replaces the oldest message, which is
    /// passed to `replaced`.
    ///
    /// Never blocks, and does not fail because others send at the same time. The slot of the
    /// replaced message is never free, so no other sender gets ahead. If a consumer receives at
    /// this moment, another sender may use that room. If there is no room left then, the next
    /// oldest message is replaced as well. So `replaced` is called once in almost all cases, and
    /// with each message that was taken, also if the call fails afterwards. A message with invalid
    /// bytes is dropped.
    ///
    /// A process that dies in this call leaves its message sent or not sent, never twice. The
    /// oldest message is then in the queue, or it is gone with the process. In that case it counts
    /// as [`lost`](Queue::lost), unless its slot was claimed for the new message already.
    ///
    /// # Examples
    ///
    /// Keep the latest samples:
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let samples = pagemate::Queue::<u32>::new(2)?;
    /// let mut old = Vec::new();
    /// for sample in 0..5 {
    ///     samples.force_send(sample, |sample| old.push(sample))?;
    /// }
    /// assert_eq!(old, [0, 1, 2]);
    /// assert_eq!((samples.recv()?, samples.recv()?), (3, 4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed`, `Corrupted`, `Unsupported` if the queue was built
    /// with [`redeliver(true)`](crate::queue::QueueBuilder::redeliver), because a message that
    /// comes back has no place in the order. `Full` if there is nothing to replace, because others
    /// read or write all slots, in place or in a call of theirs. That takes as many of them at once
    /// as the queue has slots.
    pub fn force_send(&self, message: T, replaced: impl FnMut(T)) -> Result<(), SendError<T>> {
        self.force_send_any(message, replaced)
    }

    /// Returns a slot to write a message in place, if there is room now.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time; use [`loan_with`](Queue::loan_with) for them.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`.
    pub fn try_loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        let (me, claim) = self.claim(None).map_err(|blocked| blocked.into_send_error(()))?;
        Ok(Loan::of_any(self, me, claim))
    }

    /// Returns a slot to write a message in place. Blocks while there is no room. See
    /// [`try_loan`](Queue::try_loan).
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`.
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// Like [`loan`](Queue::loan), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Queue::try_loan).
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// Like [`loan`](Queue::loan), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Queue::try_loan).
    pub fn loan_deadline(&self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::at(deadline))
    }

    fn loan_until(&self, deadline: Deadline) -> Result<Loan<'_, T>, SendError<()>> {
        let (me, claim) = self.claim(Some(deadline)).map_err(|blocked| blocked.into_send_error(()))?;
        Ok(Loan::of_any(self, me, claim))
    }

    /// Returns a slot that holds `value`, to be changed in place. Blocks while there is no room.
    /// Works for every message type.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`, with the value.
    pub fn loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        match self.claim(Some(Deadline::Never)) {
            Ok((me, claim)) => Ok(Loan::of(self, me, claim, value)),
            Err(blocked) => Err(blocked.into_send_error(value)),
        }
    }

    /// Like [`loan_with`](Queue::loan_with), but only if there is room now.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`, with the value.
    pub fn try_loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        match self.claim(None) {
            Ok((me, claim)) => Ok(Loan::of(self, me, claim, value)),
            Err(blocked) => Err(blocked.into_send_error(value)),
        }
    }
}

impl<T: Payload + ?Sized> Queue<T> {
    /// See [`try_send`](Queue::try_send).
    #[inline]
    pub(super) fn try_send_any<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        let done = self.send_now(message);
        if let Err(SendError::Full(_)) = done {
            self.object.note_failed_try();
            pause();
        }
        done
    }

    #[inline]
    fn send_now<'m>(&self, message: T::Sent<'m>) -> Result<(), SendError<T::Sent<'m>>> {
        let elements = T::elements(&message);
        if !T::IS_FIXED && size_of_val(elements) > self.inline {
            return self.send_block(elements, Deadline::At(0)).map_err(|error| error.with(message));
        }
        match self.me() {
            Ok(me) => self
                .ring
                .try_send(me, |index| self.write(index, elements))
                .map_err(|blocked| blocked.into_send_error(message)),
            Err(blocked) => Err(blocked.into_send_error(message)),
        }
    }

    /// Writes a message that fits into its slot, which this process has claimed.
    #[inline(always)]
    pub(super) fn write(&self, index: u32, elements: &[T::Element]) {
        if T::IS_FIXED {
            // SAFETY: the slot is ours to write.
            elements.iter().take(1).for_each(|value| unsafe { message::write(self.message(index), *value) });
            return;
        }
        self.ring.header(index).set(elements.len(), None);
        // SAFETY: the slot is ours to write, and has `inline` bytes; the caller has compared.
        unsafe {
            let from = elements.as_ptr().cast::<u8>();
            from.copy_to_nonoverlapping(self.message(index), size_of_val(elements));
        }
    }

    /// Sends a message. Blocks while there is no room, until the deadline.
    #[inline]
    pub(super) fn send_any<'m>(
        &self,
        message: T::Sent<'m>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError<T::Sent<'m>>> {
        match self.send_now(message) {
            Err(SendError::Full(message)) => self.send_until(message, deadline()),
            done => done,
        }
    }

    #[cold]
    fn send_until<'m>(&self, message: T::Sent<'m>, deadline: Deadline) -> Result<(), SendError<T::Sent<'m>>> {
        let elements = T::elements(&message);
        if !T::IS_FIXED && size_of_val(elements) > self.inline {
            return self.send_block(elements, deadline).map_err(|error| error.with(message));
        }
        let reap_dead = || self.object.reap_dead();
        match self.me() {
            Ok(me) => self
                .ring
                .send(me, deadline, reap_dead, |index| self.write(index, elements))
                .map_err(|blocked| blocked.into_send_error(message)),
            Err(blocked) => Err(blocked.into_send_error(message)),
        }
    }

    /// See [`force_send`](Queue::force_send).
    pub(super) fn force_send_any<'m>(
        &self,
        message: T::Sent<'m>,
        mut replaced: impl FnMut(T::Owned),
    ) -> Result<(), SendError<T::Sent<'m>>> {
        if self.ring.redelivers() {
            return Err(SendError::Unsupported(message));
        }
        let elements = T::elements(&message);
        if !T::IS_FIXED && size_of_val(elements) > self.inline {
            return self.force_block(elements, replaced).map_err(|error| error.with(message));
        }
        let me = match self.me() {
            Ok(me) => me,
            Err(blocked) => return Err(blocked.into_send_error(message)),
        };
        let oldest = Cell::new(None);
        let write = |index| self.write(index, elements);
        let read = |index| oldest.set(self.copy_replaced(index));
        let pass = || oldest.take().into_iter().for_each(&mut replaced);
        let sent = self.ring.force_send(me, write, read, pass);
        sent.map_err(|blocked| self.note(blocked).into_send_error(message))
    }

    /// Claims a slot. Without a deadline it does not block.
    pub(super) fn claim(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Blocked> {
        let me = self.me()?;
        let claim = match (self.ring.try_claim(me, None), deadline) {
            (Err(Blocked::Later), Some(deadline)) => {
                self.ring.claim(me, None, deadline, || self.object.reap_dead())?
            }
            (claim, _) => claim.map_err(|blocked| self.note(blocked))?,
        };
        Ok((me, claim))
    }
}
