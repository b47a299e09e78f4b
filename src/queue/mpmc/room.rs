//! Rooms in a queue, and loans of messages of varying length.

use super::guard::Loan;
use super::handle::Queue;
use crate::message::{Message, Varied};
use crate::queue::error::SendError;
use crate::queue::payload::room::{Lent, Room};
use crate::sys::clock::Deadline;

impl<T: Message> Lent for Loan<'_, [T]> {
    type Element = T;

    #[inline]
    fn elements(&self) -> *mut [T] {
        self.message
    }
}

impl<T: Message> Queue<[T]> {
    #[inline]
    pub(super) fn room(&self, len: usize, deadline: Deadline) -> Result<Room<'_, T>, SendError<()>> {
        let (held, at) = self.place(len, deadline)?;
        Ok(Room::of(Loan { held, message: std::ptr::slice_from_raw_parts_mut(at, len) }))
    }
}

impl<T: Varied + ?Sized> Queue<T> {
    /// Returns a loan of a copy of `message`, to be changed in place and sent. Blocks while there
    /// is no room.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = pagemate::Queue::<str>::new(4)?;
    /// let mut line = queue.loan_from("hello")?;
    /// line.make_ascii_uppercase();
    /// line.send()?;
    /// assert_eq!(queue.recv()?, "HELLO");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupted`, `TooLarge`.
    pub fn loan_from(&self, message: T::Sent<'_>) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_copy(T::elements(&message), Deadline::Never)
    }

    /// Like [`loan_from`](Queue::loan_from), but only if there is room now.
    ///
    /// # Errors
    ///
    /// `Full`, `Closed`, `Corrupted`, `TooLarge`.
    pub fn try_loan_from(&self, message: T::Sent<'_>) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_copy(T::elements(&message), Deadline::At(0))
    }

    fn loan_copy(&self, elements: &[T::Element], deadline: Deadline) -> Result<Loan<'_, T>, SendError<()>> {
        let (held, at) = self.place(elements.len(), deadline)?;
        // SAFETY: place() has returned room for that many elements, aligned, and it is ours. What
        // was borrowed as a message is one.
        let message = unsafe {
            at.copy_from_nonoverlapping(elements.as_ptr(), elements.len());
            T::in_place(at, elements.len())
        };
        message.map(|message| Loan { held, message }).ok_or(SendError::Corrupted(()))
    }
}
