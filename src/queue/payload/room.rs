//! Room for a slice in a queue, a ring, a topic or a service.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use crate::message::payload::sealed::Sealed;
use crate::message::Message;
use crate::queue::mpmc::Loan;

/// A loan of a slice, as its room uses it.
pub trait Lent {
    /// The type of the elements.
    type Element: Message;

    /// Returns the address of the elements, and their number. They are the loan's until it is sent
    /// or dropped.
    fn elements(&self) -> *mut [Self::Element];
}

/// Room for a slice in a [`Queue`](crate::Queue), a ring, a [`Topic`](crate::Topic) or a
/// [`Service`](crate::Service), to write it in place.
///
/// The elements are not initialised. Write all of them with [`write_slice`](Room::write_slice) or
/// [`fill_with`](Room::fill_with), or start from [`zeroed`](Room::zeroed). The result is a loan,
/// which can be changed further, and sent or published. Dropping the room sends nothing.
///
/// `L` is the loan that the room becomes: that of a queue, a [ring](crate::queue::spsc::Loan) or a
/// [topic](crate::queue::topic::Loan).
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
#[must_use = "dropped without being written and sent, nothing is sent"]
pub struct Room<'a, T: Message, L: Lent<Element = T> = Loan<'a, [T]>> {
    /// Its elements may be anything.
    loan: L,
    _elements: PhantomData<&'a T>,
}

impl<T: Message, L: Lent<Element = T>> Room<'_, T, L> {
    /// Creates the room of a loan whose elements may be anything. They must not be used before they
    /// are written.
    #[inline]
    pub(crate) fn of(loan: L) -> Self {
        Room { loan, _elements: PhantomData }
    }

    #[inline]
    fn at(&self) -> *mut T {
        self.loan.elements().cast()
    }

    /// Copies `elements` into the room.
    ///
    /// # Panics
    ///
    /// If their number differs from that of the room.
    #[inline]
    pub fn write_slice(self, elements: &[T]) -> L {
        assert!(elements.len() == self.len(), "room for {} elements, not {}", self.len(), elements.len());
        // SAFETY: the room is the loan's, and has this number of elements (checked above).
        unsafe { self.at().copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
        self.loan
    }

    /// Writes each element: `fill` returns the one with the given index.
    pub fn fill_with(mut self, mut fill: impl FnMut(usize) -> T) -> L {
        for (index, element) in self.iter_mut().enumerate() {
            element.write(fill(index));
        }
        self.loan
    }

    /// Writes zeros. Types for which zeros are not valid are refused at compile time.
    pub fn zeroed(self) -> L {
        const {
            assert!(T::ZERO_VALID, "zeros are not a valid value of this message: use fill_with");
        }
        // SAFETY: the room is the loan's, and has `len()` elements.
        unsafe { self.at().write_bytes(0, self.len()) };
        self.loan
    }

    /// Returns the loan, after all elements were written through the slice that this derefs to.
    /// Checks that each is a valid value; if not, returns the room again.
    ///
    /// # Safety
    ///
    /// Every byte of every element was written.
    #[inline]
    pub unsafe fn assume_init(self) -> Result<L, Self> {
        // SAFETY: the room is the loan's; the caller has written all of it.
        match unsafe { <[T]>::in_place(self.at(), self.len()) } {
            Some(_) => Ok(self.loan),
            None => Err(self),
        }
    }
}

impl<T: Message, L: Lent<Element = T>> Deref for Room<'_, T, L> {
    type Target = [MaybeUninit<T>];

    #[inline]
    fn deref(&self) -> &[MaybeUninit<T>] {
        // SAFETY: the elements are the loan's until it is sent or dropped; they are aligned, and
        // any bytes are a MaybeUninit.
        unsafe { &*(self.loan.elements() as *const [MaybeUninit<T>]) }
    }
}

impl<T: Message, L: Lent<Element = T>> DerefMut for Room<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *(self.loan.elements() as *mut [MaybeUninit<T>]) }
    }
}

impl<T: Message, L: Lent<Element = T>> fmt::Debug for Room<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("len", &self.len()).finish_non_exhaustive()
    }
}
