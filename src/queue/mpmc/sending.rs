//! The sending half of the handle: messages by value, and slots to write them in place.

use std::time::{Duration, Instant};

use super::guard::Loan;
use super::handle::Queue;
use super::ring::{leave_alone, Claim, Stop};
use crate::message::{self, Message};
use crate::owner::OwnerId;
use crate::queue::error::{Denied, SendError};
use crate::sys::clock::Deadline;

impl<T: Message> Queue<T> {
    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Full`, `Closed`, `Corrupted`.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let done = self.send_now(value);
        if let Err(SendError::Full(_)) = done {
            self.object.miss();
            leave_alone();
        }
        done
    }

    #[inline]
    fn send_now(&self, value: T) -> Result<(), SendError<T>> {
        // SAFETY: the ring names slots that are ours to write.
        let write = |index| unsafe { message::write(self.message(index), value) };
        match self.me() {
            Ok(me) => self.ring.try_send(me, write).map_err(|stop| Denied::from(stop).sending(value)),
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// Sends a message; waits while there is no room.
    ///
    /// By value: a message of a megabyte stands on the stack once or twice. Write such a one in place, with
    /// [`loan`](Queue::loan).
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: `Closed`, `Corrupted`.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.send_now(value) {
            Err(SendError::Full(value)) => self.send_until(value, Deadline::Never),
            done => done,
        }
    }

    /// Sends a message; waits while there is no room, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Queue::try_send).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        match self.send_now(value) {
            Err(SendError::Full(value)) => self.send_until(value, Deadline::after(timeout)),
            done => done,
        }
    }

    /// Sends a message; waits while there is no room, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Queue::try_send).
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendError<T>> {
        match self.send_now(value) {
            Err(SendError::Full(value)) => self.send_until(value, Deadline::at(deadline)),
            done => done,
        }
    }

    #[cold]
    fn send_until(&self, value: T, deadline: Deadline) -> Result<(), SendError<T>> {
        // SAFETY: the ring names slots that are ours to write.
        let write = |index| unsafe { message::write(self.message(index), value) };
        let tend = || self.object.tend();
        match self.me() {
            Ok(me) => {
                self.ring.send(me, deadline, tend, write).map_err(|stop| Denied::from(stop).sending(value))
            }
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// A slot to write a message in place, if there is room now.
    ///
    /// What is in it is a valid message, some earlier one or all zeros. Types for which not even zeros are
    /// valid are refused at compile time; for them there is [`loan_with`](Queue::loan_with).
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`.
    pub fn try_loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        let (me, claim) = self.claim(None).map_err(|denied| denied.sending(()))?;
        Ok(Loan::of_any(self, me, claim))
    }

    /// A slot to write a message in place; waits while there is no room. See [`try_loan`](Queue::try_loan).
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`.
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::Never)
    }

    /// [`loan`](Queue::loan), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Queue::try_loan).
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::after(timeout))
    }

    /// [`loan`](Queue::loan), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Queue::try_loan).
    pub fn loan_deadline(&self, deadline: Instant) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_until(Deadline::at(deadline))
    }

    fn loan_until(&self, deadline: Deadline) -> Result<Loan<'_, T>, SendError<()>> {
        let (me, claim) = self.claim(Some(deadline)).map_err(|denied| denied.sending(()))?;
        Ok(Loan::of_any(self, me, claim))
    }

    /// [`loan`](Queue::loan) with a value to begin with; for every type of message.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`, with the value.
    pub fn loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        match self.claim(Some(Deadline::Never)) {
            Ok((me, claim)) => Ok(Loan::of(self, me, claim, value)),
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// [`loan_with`](Queue::loan_with), if there is room now.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`, with the value.
    pub fn try_loan_with(&self, value: T) -> Result<Loan<'_, T>, SendError<T>> {
        match self.claim(None) {
            Ok((me, claim)) => Ok(Loan::of(self, me, claim, value)),
            Err(denied) => Err(denied.sending(value)),
        }
    }

    /// Claims a slot; without a deadline only if there is one now.
    fn claim(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Denied> {
        let me = self.me()?;
        let claim = match (self.ring.try_claim(me, None), deadline) {
            (Err(Stop::Wait), Some(deadline)) => {
                self.ring.claim(me, None, deadline, || self.object.tend())?
            }
            (claim, _) => claim.map_err(|stop| self.denied(stop))?,
        };
        Ok((me, claim))
    }
}
