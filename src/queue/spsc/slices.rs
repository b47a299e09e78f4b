//! Receiving into the caller's slices, and reading the next message without receiving it.

use std::mem::MaybeUninit;
use std::slice;

use super::{Consumer, RecvChunk};
use crate::message::{self, Message};
use crate::queue::blocked::Blocked;
use crate::queue::error::RecvError;
use crate::sys::clock::Deadline;

impl<T: Message> Consumer<T> {
    /// Returns the next message without receiving it, if there is one now: the next receive returns
    /// it again. Never blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(4)?;
    /// producer.send(7)?;
    /// assert_eq!(*consumer.peek()?, 7);
    /// assert_eq!(consumer.recv()?, 7);
    /// assert!(consumer.peek().is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv). Bytes that are not a valid message are dropped here
    /// too.
    pub fn peek(&mut self) -> Result<&T, RecvError> {
        // The guard would release the slot.
        std::mem::forget(self.try_recv_ref()?);
        // SAFETY: `ready` has granted the slot, which holds a valid message. It is the consumer's
        // until it is released, which needs `self`.
        Ok(unsafe { &*self.endpoint.slot(self.slot) })
    }

    /// Receives the messages that are there now into the beginning of `into`. Returns their number:
    /// at least one, unless `into` is empty. The rest of `into` stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(8)?;
    /// producer.send_batch(&[1, 2, 3])?;
    /// let mut two = [0; 2];
    /// assert_eq!((consumer.try_recv_slice(&mut two)?, two), (2, [1, 2]));
    /// assert_eq!((consumer.try_recv_slice(&mut two)?, two), (1, [3, 2]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn try_recv_slice(&mut self, into: &mut [T]) -> Result<usize, RecvError> {
        // SAFETY: a MaybeUninit<T> has the layout of a T. Only valid messages are written to it.
        let into = unsafe { slice::from_raw_parts_mut(into.as_mut_ptr().cast(), into.len()) };
        self.try_recv_slice_uninit(into).map(|received| received.len())
    }

    /// Receives like [`try_recv_slice`](Consumer::try_recv_slice), but blocks until the first
    /// message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_slice(&mut self, into: &mut [T]) -> Result<usize, RecvError> {
        self.wait_for_first(into.len())?;
        self.try_recv_slice(into)
    }

    /// Receives like [`try_recv_slice`](Consumer::try_recv_slice) into memory that need not be
    /// initialised. Returns the part of it that holds messages now.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// use std::mem::MaybeUninit;
    ///
    /// let (mut producer, mut consumer) = pagemate::spsc::<u32>(8)?;
    /// producer.send_batch(&[1, 2, 3])?;
    /// let mut buffer = [MaybeUninit::uninit(); 64];
    /// assert_eq!(consumer.try_recv_slice_uninit(&mut buffer)?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv).
    pub fn try_recv_slice_uninit<'a>(
        &mut self,
        into: &'a mut [MaybeUninit<T>],
    ) -> Result<&'a mut [T], RecvError> {
        let len = if into.is_empty() { 0 } else { self.try_chunk(into.len())?.copy_to(into)? };
        // SAFETY: the chunk has written `len` valid messages to the beginning of `into`.
        Ok(unsafe { slice::from_raw_parts_mut(into.as_mut_ptr().cast(), len) })
    }

    /// Receives like [`try_recv_slice_uninit`](Consumer::try_recv_slice_uninit), but blocks until
    /// the first message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Consumer::try_recv), but not `Empty`.
    pub fn recv_slice_uninit<'a>(
        &mut self,
        into: &'a mut [MaybeUninit<T>],
    ) -> Result<&'a mut [T], RecvError> {
        self.wait_for_first(into.len())?;
        self.try_recv_slice_uninit(into)
    }

    /// Blocks until there is a message, unless none is wanted.
    pub(super) fn wait_for_first(&mut self, wanted: usize) -> Result<(), RecvError> {
        if wanted == 0 {
            return Ok(());
        }
        self.wait_for_message(Deadline::Never).map_err(Blocked::into_recv_error)
    }
}

impl<T: Message> RecvChunk<'_, T> {
    /// Copies the messages to the beginning of `into`, which has room for them, and releases their
    /// slots. Returns their number. Fails if the sender has changed one of them since it was
    /// checked.
    pub(super) fn copy_to(self, into: &mut [MaybeUninit<T>]) -> Result<usize, RecvError> {
        let (first, rest) = self.as_slices();
        assert!(self.len() <= into.len());
        if !T::ANY_BITS {
            for (message, copy) in first.iter().chain(rest).zip(into) {
                // SAFETY: a reference to a slot is readable for the size of T.
                let read = unsafe { message::read::<T>(std::ptr::from_ref(message).cast()) };
                copy.write(read.ok_or(RecvError::Corrupted)?);
            }
            return Ok(self.len());
        }
        let at = into.as_mut_ptr().cast::<T>();
        // SAFETY: `into` has room for both slices, and does not overlap them, because nobody has a
        // mutable reference into the slots.
        unsafe {
            at.copy_from_nonoverlapping(first.as_ptr(), first.len());
            at.add(first.len()).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
        Ok(self.len())
    }
}
