//! The end of a ring: closing an end, and the iterator that owns the receiving one.

use super::{Consumer, Producer};
use crate::message::Payload;
use crate::queue::error::{item, RecvError};
use crate::sys::clock::Deadline;

impl<T: Payload + ?Sized> Producer<T> {
    /// Closes the ring: the consumer gets `Closed` after everything that was sent. The same as
    /// dropping.
    ///
    /// Returns true if this call closed it. False in a forked child, where the handle is a copy and
    /// closes nothing.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(4)?;
    /// producer.send(7)?;
    /// assert!(producer.close());
    /// assert_eq!(consumer.recv()?, 7);
    /// assert!(consumer.recv().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(self) -> bool {
        self.end_role()
    }

    /// Ends the role of this process. Returns false if it has ended already, or in a fork.
    fn end_role(&self) -> bool {
        self.endpoint.is_mine() && self.endpoint.control().close_producer(self.endpoint.me)
    }
}

impl<T: Payload + ?Sized> Drop for Producer<T> {
    fn drop(&mut self) {
        self.end_role();
    }
}

impl<T: Payload + ?Sized> Consumer<T> {
    /// Closes the ring: sends return `Closed` with their message from now on. What was sent and not
    /// received is dropped. The same as dropping.
    ///
    /// Returns true if this call closed it. False in a forked child, where the handle is a copy and
    /// closes nothing.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, consumer) = pagemate::spsc::<u32>(4)?;
    /// assert!(consumer.close());
    /// assert!(producer.send(7).unwrap_err().is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(self) -> bool {
        self.end_role()
    }

    /// Ends the role of this process. Returns false if it has ended already, or in a fork.
    fn end_role(&self) -> bool {
        self.endpoint.is_mine() && self.endpoint.control().close_consumer(self.endpoint.me)
    }
}

impl<T: Payload + ?Sized> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.end_role();
    }
}

impl<T: Payload + ?Sized> IntoIterator for Consumer<T> {
    type Item = Result<T::Owned, RecvError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { consumer: self, has_failed: false }
    }
}

/// A blocking iterator over the messages of a ring that has the [`Consumer`]. Dropping it closes
/// the ring.
///
/// It ends as [`Consumer::iter`] does.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut producer, consumer) = pagemate::spsc::<u64>(4)?;
/// let sum = std::thread::spawn(move || consumer.into_iter().sum::<Result<u64, _>>());
/// (1..=10).try_for_each(|n| producer.send(n))?;
/// drop(producer);
/// assert_eq!(sum.join().unwrap()?, 55);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct IntoIter<T: Payload + ?Sized> {
    consumer: Consumer<T>,
    has_failed: bool,
}

impl<T: Payload + ?Sized> Iterator for IntoIter<T> {
    type Item = Result<T::Owned, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Result<T::Owned, RecvError>> {
        item(&mut self.has_failed, || self.consumer.recv_any(Deadline::Never))
    }
}
