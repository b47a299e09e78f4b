//! Where a server writes an answer: in the slot of its call, or in a block.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::request::{Request, Serving};
use crate::error::Refusal;
use crate::heap::{Block, Class};
use crate::message::{self, Message, Payload};
use crate::queue::payload::area::{Area, Need};
use crate::queue::payload::room::{self, Lent};
use crate::queue::SendError;
use crate::sys::clock::Deadline;

impl Serving<'_> {
    /// Finds room for an answer of `len` elements. Returns their address; their bytes may be
    /// anything.
    pub(super) fn place(&self, len: usize, deadline: Deadline) -> Result<*mut u8, SendError<()>> {
        self.place_part(0, len, deadline)
    }

    /// Finds room for the part with this number, whose place is free, like
    /// [`place`](Serving::place).
    pub(super) fn place_part(
        &self,
        number: usize,
        len: usize,
        deadline: Deadline,
    ) -> Result<*mut u8, SendError<()>> {
        if !self.tenure.is_mine() {
            return Err(SendError::NotInThisProcess((), Refusal::FORKED));
        }
        let port = self.port;
        let (header, in_slot) = port.place(self.claim.index, number);
        let (Some(area), Some(header)) = (&port.answer.area, header) else { return Ok(in_slot) };
        area.abandon(header); // what an earlier attempt has placed
        match area.need(len).map_err(|excess| SendError::TooLarge((), excess))? {
            Need::Slot => {
                area.enter(header, len, None, self.tenure.me);
                Ok(in_slot)
            }
            Need::Block(class) => {
                let block = self.alloc(area, class, deadline)?;
                area.enter(header, len, Some(block), self.tenure.me);
                area.address(block).ok_or(SendError::Corrupted(()))
            }
        }
    }

    /// Allocates a block. Waits where callers wait for room, because a caller that drops an answer
    /// frees both.
    fn alloc(&self, area: &Area, class: Class, deadline: Deadline) -> Result<Block, SendError<()>> {
        let (ring, me) = (&self.port.table.ring, self.tenure.me);
        if let Ok(block) = area.alloc(class, me) {
            return Ok(block);
        }
        if deadline == Deadline::At(0) {
            self.port.object.note_failed_try();
            return Err(SendError::Full(()));
        }
        let attempt = || {
            if !self.is_pending() {
                return Some(Err(SendError::Closed(())));
            }
            ring.ask_to_wake_all();
            area.alloc(class, me).ok().map(Ok)
        };
        let reap_dead = || self.port.object.reap_dead();
        let block = ring.senders().wait(deadline, reap_dead, attempt).unwrap_or(Err(SendError::Full(())));
        ring.pass_on_after_claim();
        block
    }
}

/// An answer that a server writes in place: see [`Request::reply_loan`].
///
/// [`send`](ReplyLoan::send) sends it. Dropping the loan refuses the call.
pub struct ReplyLoan<'a, Q: Payload + ?Sized, R: Payload + ?Sized> {
    request: Request<'a, Q, R>,
    message: *mut R,
}

/// Room for a slice as an answer, to write it in place: see [`Request::reply_loan`].
pub type ReplyRoom<'a, Q, T> = room::Room<'a, T, ReplyLoan<'a, Q, [T]>>;

impl<'a, Q: Payload + ?Sized, R: Payload + ?Sized> ReplyLoan<'a, Q, R> {
    /// Sends the answer.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the request: `Closed` if its caller has given up, `NotInThisProcess`.
    pub fn send(self) -> Result<(), SendError<Request<'a, Q, R>>> {
        if !self.request.serving.tenure.is_mine() {
            return Err(SendError::NotInThisProcess(self.request, Refusal::FORKED));
        }
        self.request.send()
    }

    /// Returns the request, and the answer to be written.
    pub fn parts(&mut self) -> (&Request<'a, Q, R>, &mut R) {
        // SAFETY: as in deref_mut. The request is elsewhere in the slot, or in a block.
        (&self.request, unsafe { &mut *self.message })
    }
}

impl<'a, Q: Payload + ?Sized, R: Message> Request<'a, Q, R> {
    /// Returns the place of the answer, to write it there.
    ///
    /// It holds a valid message at first: an earlier one, or all zeros. Types for which zeros are
    /// not valid are refused at compile time; use [`reply`](Request::reply) for them.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the request: `NotInThisProcess`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let service = pagemate::Service::<u8, [u8; 1 << 20]>::new(4)?;
    /// let (client, server) = (service.client(), service.server());
    /// let call = client.start(&7)?;
    /// let mut frame = server.recv()?.reply_loan().unwrap();
    /// let (request, bytes) = frame.parts();
    /// bytes.fill(**request);
    /// frame.send().unwrap();
    /// assert_eq!(call.wait_ref()?[1000], 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reply_loan(self) -> Result<ReplyLoan<'a, Q, R>, SendError<Request<'a, Q, R>>> {
        const {
            assert!(R::ZERO_VALID, "zeros are no valid value of this answer: use reply(&answer)");
        }
        match self.serving.place(1, Deadline::At(0)) {
            Ok(at) => {
                // SAFETY: the slot is ours, so its answer can be read and written.
                unsafe {
                    if !message::is_valid::<R>(at) {
                        at.write_bytes(0, size_of::<R>());
                    }
                }
                Ok(ReplyLoan { request: self, message: at.cast() })
            }
            Err(error) => Err(error.with(self)),
        }
    }
}

impl<'a, Q: Payload + ?Sized, T: Message> Request<'a, Q, [T]> {
    /// Returns room for an answer of `len` elements, to write it in place. Blocks while there is no
    /// memory for it.
    ///
    /// # Errors
    ///
    /// As [`reply`](Request::reply).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let service = pagemate::Service::<u64, [u64]>::new(4)?;
    /// let (client, server) = (service.client(), service.server());
    /// let call = client.start(&5)?;
    /// let request = server.recv()?;
    /// let count = *request as usize;
    /// let squares = request.reply_loan(count).unwrap().fill_with(|n| (n * n) as u64);
    /// squares.send().unwrap();
    /// assert_eq!(*call.wait_ref()?, [0, 1, 4, 9, 16]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reply_loan(self, len: usize) -> Result<ReplyRoom<'a, Q, T>, SendError<Request<'a, Q, [T]>>> {
        match self.serving.place(len, Deadline::Never) {
            Ok(at) => {
                let message = std::ptr::slice_from_raw_parts_mut(at.cast(), len);
                Ok(room::Room::of(ReplyLoan { request: self, message }))
            }
            Err(error) => Err(error.with(self)),
        }
    }
}

impl<Q: Payload + ?Sized, T: Message> Lent for ReplyLoan<'_, Q, [T]> {
    type Element = T;

    fn elements(&self) -> *mut [T] {
        self.message
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Deref for ReplyLoan<'_, Q, R> {
    type Target = R;

    #[inline]
    fn deref(&self) -> &R {
        // SAFETY: the answer is ours until we send it, which needs `self`. It was checked or
        // written when the loan was made, and it is aligned.
        unsafe { &*self.message }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> DerefMut for ReplyLoan<'_, Q, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut R {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.message }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized + fmt::Debug> fmt::Debug for ReplyLoan<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyLoan").field(&&**self).finish()
    }
}

// SAFETY: as for Request.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Send for ReplyLoan<'_, Q, R> {}
// SAFETY: as for Request; through a shared reference the messages can only be read.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Sync for ReplyLoan<'_, Q, R> {}
