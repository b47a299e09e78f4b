//! Rooms in a ring, and loans of messages of varying length.

use super::{Loan, Producer};
use crate::message::{Message, Varied};
use crate::queue::error::SendError;
use crate::queue::payload::room::{self, Lent};
use crate::sys::clock::Deadline;

/// Room in a ring for a slice, to write it in place.
///
/// # Examples
///
/// ```
/// use pagemate::queue::spsc;
///
/// # fn main() -> pagemate::Result<()> {
/// let (mut producer, mut consumer) = spsc::builder::<[u32]>(4).build()?;
/// producer.loan(1000)?.fill_with(|index| index as u32).send();
/// assert_eq!(consumer.recv_ref()?[999], 999);
/// # Ok(())
/// # }
/// ```
pub type Room<'a, T> = room::Room<'a, T, Loan<'a, [T]>>;

impl<T: Message> Lent for Loan<'_, [T]> {
    type Element = T;

    #[inline]
    fn elements(&self) -> *mut [T] {
        self.message
    }
}

impl<T: Message> Producer<[T]> {
    #[inline]
    pub(super) fn room_for(&mut self, len: usize, deadline: Deadline) -> Result<Room<'_, T>, SendError<()>> {
        let message = std::ptr::slice_from_raw_parts_mut(self.place(len, deadline)?, len);
        Ok(Room::of(Loan { producer: self, message }))
    }
}

impl<T: Varied + ?Sized> Producer<T> {
    /// Returns a loan of a copy of `message`, to be changed in place and sent. Blocks while there
    /// is no room.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer has closed or died, `TooLarge`, `Corrupted`.
    pub fn loan_from(&mut self, message: T::Sent<'_>) -> Result<Loan<'_, T>, SendError<()>> {
        let elements = T::elements(&message);
        let at = self.place(elements.len(), Deadline::Never)?;
        // SAFETY: place() has returned room for that many elements, aligned, and it is ours. What
        // was borrowed as a message is one.
        let message = unsafe {
            at.copy_from_nonoverlapping(elements.as_ptr(), elements.len());
            T::in_place(at, elements.len())
        };
        message.map(|message| Loan { producer: self, message }).ok_or(SendError::Corrupted(()))
    }
}
