//! Rooms in a topic, and loans of messages of varying length.

use super::loan::{Held, Loan};
use super::publisher::Publisher;
use crate::message::{Message, Varied};
use crate::queue::error::SendError;
use crate::queue::payload::room::{self, Lent};
use crate::sys::clock::Deadline;

/// Room in a [`Topic`](crate::Topic) for a slice, to write it in place.
///
/// # Examples
///
/// ```
/// use pagemate::queue::topic::From;
///
/// # fn main() -> pagemate::Result<()> {
/// let topic = pagemate::Topic::<[u32]>::new(4)?;
/// let mut subscriber = topic.subscribe(From::Latest)?;
/// let publisher = topic.publisher();
/// let mut squares = publisher.loan(1000)?.fill_with(|index| (index * index) as u32);
/// squares[0] = 7;
/// squares.publish()?;
/// assert_eq!(subscriber.recv_ref()?[..3], [7, 1, 4]);
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

impl<T: Message> Publisher<[T]> {
    #[inline]
    pub(super) fn room(&self, len: usize, deadline: Option<Deadline>) -> Result<Room<'_, T>, SendError<()>> {
        let placed = self.topic.port.place(len, deadline)?;
        let held = Held::new(&self.topic.port, placed.me, placed.claim);
        Ok(Room::of(Loan { held, message: std::ptr::slice_from_raw_parts_mut(placed.at.cast(), len) }))
    }
}

impl<T: Varied + ?Sized> Publisher<T> {
    /// Returns a loan of a copy of `message`, to be changed in place and published. Blocks while a
    /// lossless subscriber lags.
    ///
    /// ```
    /// use pagemate::queue::topic::From;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let topic = pagemate::Topic::<str>::new(4)?;
    /// let publisher = topic.publisher();
    /// let mut line = publisher.loan_from("hello")?;
    /// line.make_ascii_uppercase();
    /// line.publish()?;
    /// assert_eq!(topic.subscribe(From::Earliest)?.recv()?, "HELLO");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for `publish`.
    pub fn loan_from(&self, message: T::Sent<'_>) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_copy(T::elements(&message), Some(Deadline::Never))
    }

    /// Like [`loan_from`](Publisher::loan_from), but only if no lossless subscriber lags.
    ///
    /// # Errors
    ///
    /// As for `try_publish`.
    pub fn try_loan_from(&self, message: T::Sent<'_>) -> Result<Loan<'_, T>, SendError<()>> {
        self.loan_copy(T::elements(&message), None)
    }

    fn loan_copy(
        &self,
        elements: &[T::Element],
        deadline: Option<Deadline>,
    ) -> Result<Loan<'_, T>, SendError<()>> {
        let placed = self.topic.port.place(elements.len(), deadline)?;
        let held = Held::new(&self.topic.port, placed.me, placed.claim);
        let at = placed.at.cast::<T::Element>();
        // SAFETY: place() has found room for that many elements, aligned, and they are ours. What
        // was borrowed as a message is one.
        let message = unsafe {
            at.copy_from_nonoverlapping(elements.as_ptr(), elements.len());
            T::in_place(at, elements.len())
        };
        message.map(|message| Loan { held, message }).ok_or(SendError::Corrupted(()))
    }
}
