//! Room for a slice of a queue, and loans of messages of varying length.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use super::guard::{Held, Loan};
use super::handle::Queue;
use crate::message::payload::sealed::Sealed;
use crate::message::{Message, Varied};
use crate::queue::error::SendError;
use crate::sys::clock::Deadline;

/// Room in a [`Queue`] for a slice, to write it in place.
///
/// The elements are not initialised. Write all of them with [`write_slice`](Room::write_slice) or
/// [`fill_with`](Room::fill_with), or start from [`zeroed`](Room::zeroed). The result is a
/// [`Loan`], which can be changed further, and sent. Dropping the room sends nothing.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let queue = pagemate::Queue::<[u32]>::new(4)?;
/// let mut squares = queue.loan(1000)?.fill_with(|index| (index * index) as u32);
/// squares[0] = 7;
/// squares.send()?;
/// assert_eq!(queue.recv_ref()?[..3], [7, 1, 4]);
/// # Ok(())
/// # }
/// ```
pub struct Room<'a, T: Message> {
    held: Held<'a, [T]>,
    at: *mut T,
    len: usize,
}

impl<'a, T: Message> Room<'a, T> {
    /// Copies `elements` into the room.
    ///
    /// # Panics
    ///
    /// If their number differs from that of the room.
    pub fn write_slice(self, elements: &[T]) -> Loan<'a, [T]> {
        assert!(elements.len() == self.len, "room for {} elements, not {}", self.len, elements.len());
        // SAFETY: the room is ours, and has as many elements.
        unsafe { self.at.copy_from_nonoverlapping(elements.as_ptr(), self.len) };
        self.into_loan()
    }

    /// Writes each element: `fill` returns the one with this index.
    pub fn fill_with(mut self, mut fill: impl FnMut(usize) -> T) -> Loan<'a, [T]> {
        for (index, element) in self.iter_mut().enumerate() {
            element.write(fill(index));
        }
        self.into_loan()
    }

    /// Writes zeros. Types for which zeros are not valid are refused at compile time.
    pub fn zeroed(self) -> Loan<'a, [T]> {
        const {
            assert!(T::ZERO_VALID, "zeros are no valid value of this message: use fill_with");
        }
        // SAFETY: the room is ours, and has as many elements.
        unsafe { self.at.write_bytes(0, self.len) };
        self.into_loan()
    }

    /// Returns the loan, after all elements were written through the slice that this derefs to.
    /// Checks that each is a valid value; if not, returns the room again.
    ///
    /// # Safety
    ///
    /// Every byte of every element was written.
    pub unsafe fn assume_init(self) -> Result<Loan<'a, [T]>, Room<'a, T>> {
        // SAFETY: the room is ours; the caller has written all of it.
        match unsafe { <[T]>::in_place(self.at, self.len) } {
            Some(_) => Ok(self.into_loan()),
            None => Err(self),
        }
    }

    fn into_loan(self) -> Loan<'a, [T]> {
        let message = std::ptr::slice_from_raw_parts_mut(self.at, self.len);
        Loan::written(self.held, message)
    }
}

impl<T: Message> Deref for Room<'_, T> {
    type Target = [MaybeUninit<T>];

    fn deref(&self) -> &[MaybeUninit<T>] {
        // SAFETY: the room is ours until the slot is freed, which needs `self`; it is aligned, and
        // any bytes are a MaybeUninit.
        unsafe { std::slice::from_raw_parts(self.at.cast(), self.len) }
    }
}

impl<T: Message> DerefMut for Room<'_, T> {
    fn deref_mut(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.len) }
    }
}

impl<T: Message> fmt::Debug for Room<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("len", &self.len).finish_non_exhaustive()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<T: Message> Send for Room<'_, T> {}
// SAFETY: as above; through a shared reference the room can only be read.
unsafe impl<T: Message> Sync for Room<'_, T> {}

impl<T: Message> Queue<[T]> {
    pub(super) fn room(&self, len: usize, deadline: Deadline) -> Result<Room<'_, T>, SendError<()>> {
        self.place(len, deadline).map(|(held, at)| Room { held, at, len })
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
        message.map(|message| Loan::written(held, message)).ok_or(SendError::Corrupted(()))
    }
}
