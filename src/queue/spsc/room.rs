//! Room for a slice in a ring, and loans of messages of varying length.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use super::{Loan, Producer};
use crate::message::payload::sealed::Sealed;
use crate::message::{Message, Varied};
use crate::queue::error::SendError;
use crate::sys::clock::Deadline;

/// Room in a ring for a slice, to write it in place.
///
/// The elements are not initialised. Write all of them with [`write_slice`](Room::write_slice) or
/// [`fill_with`](Room::fill_with), or start from [`zeroed`](Room::zeroed). The result is a
/// [`Loan`], which can be changed further, and sent. Dropping the room sends nothing.
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
#[must_use = "dropped without being written and sent, nothing is sent"]
pub struct Room<'a, T: Message> {
    loan: Loan<'a, [T]>,
}

impl<'a, T: Message> Room<'a, T> {
    fn at(&self) -> *mut T {
        self.loan.message.cast()
    }

    /// Copies `elements` into the room.
    ///
    /// # Panics
    ///
    /// If their number differs from that of the room.
    pub fn write_slice(self, elements: &[T]) -> Loan<'a, [T]> {
        assert!(elements.len() == self.len(), "room for {} elements, not {}", self.len(), elements.len());
        // SAFETY: the room is the producer's, and has as many elements.
        unsafe { self.at().copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
        self.loan
    }

    /// Writes each element: `fill` returns the one with this index.
    pub fn fill_with(mut self, mut fill: impl FnMut(usize) -> T) -> Loan<'a, [T]> {
        for (index, element) in self.iter_mut().enumerate() {
            element.write(fill(index));
        }
        self.loan
    }

    /// Writes zeros. Types for which zeros are not valid are refused at compile time.
    pub fn zeroed(self) -> Loan<'a, [T]> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use fill_with");
        }
        // SAFETY: the room is the producer's, and has as many elements.
        unsafe { self.at().write_bytes(0, self.len()) };
        self.loan
    }

    /// Returns the loan, after all elements were written through the slice that this derefs to.
    /// Checks that each is a valid value; if not, returns the room again.
    ///
    /// # Safety
    ///
    /// Every byte of every element was written.
    pub unsafe fn assume_init(self) -> Result<Loan<'a, [T]>, Room<'a, T>> {
        // SAFETY: the room is the producer's; the caller has written all of it.
        match unsafe { <[T]>::in_place(self.at(), self.len()) } {
            Some(_) => Ok(self.loan),
            None => Err(self),
        }
    }
}

impl<T: Message> Deref for Room<'_, T> {
    type Target = [MaybeUninit<T>];

    fn deref(&self) -> &[MaybeUninit<T>] {
        // SAFETY: the room is the producer's until the loan is sent or dropped; it is aligned, and
        // any bytes are a MaybeUninit.
        unsafe { &*(self.loan.message as *const [MaybeUninit<T>]) }
    }
}

impl<T: Message> DerefMut for Room<'_, T> {
    fn deref_mut(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *(self.loan.message as *mut [MaybeUninit<T>]) }
    }
}

impl<T: Message> fmt::Debug for Room<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T: Message> Producer<[T]> {
    pub(super) fn room_for(&mut self, len: usize, deadline: Deadline) -> Result<Room<'_, T>, SendError<()>> {
        let message = std::ptr::slice_from_raw_parts_mut(self.place(len, deadline)?, len);
        Ok(Room { loan: Loan { producer: self, message } })
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
