//! An answer in parts, as its server sends it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::request::{Request, Serving};
use super::word::Status;
use crate::error::Refusal;
use crate::message::{self, Message, Payload};
use crate::queue::payload::room::{self, Lent};
use crate::queue::SendError;
use crate::sys::clock::Deadline;
use crate::wait::wait;

impl Serving<'_> {
    /// Waits until there is a place for a part. Returns the number of the part.
    fn find_place(&self, deadline: Deadline) -> Result<usize, SendError<()>> {
        self.check_process()?;
        let (table, index) = (&self.port.table, self.claim.index);
        let places = self.port.places.number();
        let attempt = || {
            let parts = table.parts(index);
            if !self.is_pending() {
                return Some(Err(SendError::Closed(())));
            }
            (parts.number() < places).then(|| Ok(parts.next_sent()))
        };
        if let Some(found) = attempt() {
            return found;
        }
        if deadline == Deadline::At(0) {
            self.port.object.note_failed_try();
            return Err(SendError::Full(()));
        }
        let reap_dead = || self.port.object.reap_dead();
        let announce = || table.announce_server(index);
        let found = wait(table.parts_futex(index), deadline, reap_dead, attempt, announce);
        found.unwrap_or(Err(SendError::Full(())))
    }

    fn check_process(&self) -> Result<(), SendError<()>> {
        match self.tenure.is_mine() {
            true => Ok(()),
            false => Err(SendError::NotInThisProcess((), Refusal::FORKED)),
        }
    }

    /// Sends the part that was written in the next place.
    fn send_part(&self) -> Result<(), SendError<()>> {
        self.check_process()?;
        if !self.is_pending() {
            return Err(SendError::Closed(()));
        }
        self.port.table.send_part(self.claim.index, self.outcome());
        Ok(())
    }
}

/// An answer that a server sends in parts: see [`Request::stream`].
///
/// [`finish`](ReplyStream::finish) ends it. Dropped before that, the client gets the parts that
/// were sent, and then `Refused`.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let words = pagemate::Service::<str, str>::builder(4).parts(8).build()?;
/// let server = words.server();
/// # let worker =
/// std::thread::spawn(move || {
///     while let Ok(request) = server.recv() {
///         let mut parts = request.stream().expect("a client that takes parts");
///         let text = parts.request().to_string();
///         let sent = text.split(' ').try_for_each(|word| parts.send(word));
///         if sent.is_ok() {
///             let _ = parts.finish();
///         }
///     }
/// });
/// let client = words.client();
/// let words: Result<Vec<String>, _> = client.stream("one by one")?.collect();
/// assert_eq!(words?, ["one", "by", "one"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it tells the client that parts are missing"]
pub struct ReplyStream<'a, Q: Payload + ?Sized, R: Payload + ?Sized> {
    request: Request<'a, Q, R>,
}

impl<'a, Q: Payload + ?Sized, R: Payload + ?Sized> Request<'a, Q, R> {
    /// Returns whether the client takes an answer in parts.
    pub fn is_stream(&self) -> bool {
        let Serving { port, claim, .. } = &self.serving;
        port.table.parts(claim.index).is_in_parts()
    }

    /// Begins an answer in parts.
    ///
    /// # Errors
    ///
    /// The request, if its client takes one answer: see [`reply`](Request::reply).
    pub fn stream(self) -> Result<ReplyStream<'a, Q, R>, Request<'a, Q, R>> {
        if self.is_stream() {
            Ok(ReplyStream { request: self })
        } else {
            Err(self)
        }
    }
}

impl<'a, Q: Payload + ?Sized, R: Payload + ?Sized> ReplyStream<'a, Q, R> {
    /// Returns the request.
    pub fn request(&self) -> &Request<'a, Q, R> {
        &self.request
    }

    /// Sends a part. Blocks while the client has not taken as many as there are
    /// [places](super::ServiceBuilder::parts), or while there is no memory.
    ///
    /// # Errors
    ///
    /// [`SendError`]: `Closed` if the client has given up, `TooLarge`, `Corrupted`,
    /// `NotInThisProcess`. The answer goes on.
    pub fn send(&mut self, part: &R) -> Result<(), SendError<()>> {
        self.send_by(part, Deadline::Never)
    }

    /// Like [`send`](ReplyStream::send), but only if there is room now.
    ///
    /// # Errors
    ///
    /// Those of [`send`](ReplyStream::send), and `Full`.
    pub fn try_send(&mut self, part: &R) -> Result<(), SendError<()>> {
        self.send_by(part, Deadline::At(0))
    }

    /// Like [`send`](ReplyStream::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](ReplyStream::try_send).
    pub fn send_timeout(&mut self, part: &R, timeout: Duration) -> Result<(), SendError<()>> {
        self.send_by(part, Deadline::after(timeout))
    }

    /// Like [`send`](ReplyStream::send), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](ReplyStream::try_send).
    pub fn send_deadline(&mut self, part: &R, deadline: Instant) -> Result<(), SendError<()>> {
        self.send_by(part, Deadline::at(deadline))
    }

    fn send_by(&mut self, part: &R, deadline: Deadline) -> Result<(), SendError<()>> {
        let elements = part.as_elements();
        let at = self.place(elements.len(), deadline)?;
        // SAFETY: place() has returned room for that many elements, and it is ours.
        unsafe {
            let from = elements.as_ptr().cast::<u8>();
            from.copy_to_nonoverlapping(at, size_of_val(elements));
        }
        self.request.serving.send_part()
    }

    /// Finds room for a part of `len` elements. Returns their address.
    fn place(&mut self, len: usize, deadline: Deadline) -> Result<*mut u8, SendError<()>> {
        let number = self.request.serving.find_place(deadline)?;
        self.request.serving.place_part(number, len, deadline)
    }

    /// Ends the answer.
    ///
    /// # Errors
    ///
    /// [`SendError`]: `Closed` if the client has given up, `NotInThisProcess`.
    pub fn finish(self) -> Result<(), SendError<()>> {
        self.request.serving.check_process()?;
        self.request.serving.end(Status::Ended).map_err(|_| SendError::Closed(()))
    }
}

/// A part that a server writes in place: see [`ReplyStream::loan`].
///
/// [`send`](PartLoan::send) sends it. Dropped, it is not sent, and the next part takes its place.
pub struct PartLoan<'s, 'a, Q: Payload + ?Sized, R: Payload + ?Sized> {
    stream: &'s mut ReplyStream<'a, Q, R>,
    message: *mut R,
}

/// Room for a slice as a part, to write it in place: see [`ReplyStream::loan`].
pub type PartRoom<'s, 'a, Q, T> = room::Room<'s, T, PartLoan<'s, 'a, Q, [T]>>;

impl<Q: Payload + ?Sized, R: Payload + ?Sized> PartLoan<'_, '_, Q, R> {
    /// Sends the part.
    ///
    /// # Errors
    ///
    /// [`SendError`]: `Closed` if the client has given up, `NotInThisProcess`.
    pub fn send(self) -> Result<(), SendError<()>> {
        self.stream.request.serving.send_part()
    }
}

impl<'a, Q: Payload + ?Sized, R: Message> ReplyStream<'a, Q, R> {
    /// Returns the place of the next part, to write it there. Blocks as
    /// [`send`](ReplyStream::send) does.
    ///
    /// It holds a valid message at first: an earlier one, or all zeros. Types for which zeros are
    /// not valid are refused at compile time; use [`send`](ReplyStream::send) for them.
    ///
    /// # Errors
    ///
    /// As [`send`](ReplyStream::send).
    pub fn loan(&mut self) -> Result<PartLoan<'_, 'a, Q, R>, SendError<()>> {
        const {
            assert!(R::ZERO_VALID, "zeros are no valid value of this answer: use send(&part)");
        }
        let at = self.place(1, Deadline::Never)?;
        // SAFETY: the place is ours, so its part can be read and written.
        unsafe {
            if !message::is_valid::<R>(at) {
                at.write_bytes(0, size_of::<R>());
            }
        }
        Ok(PartLoan { stream: self, message: at.cast() })
    }
}

impl<'a, Q: Payload + ?Sized, T: Message> ReplyStream<'a, Q, [T]> {
    /// Returns room for a part of `len` elements, to write it in place. Blocks as
    /// [`send`](ReplyStream::send) does.
    ///
    /// # Errors
    ///
    /// As [`send`](ReplyStream::send).
    pub fn loan(&mut self, len: usize) -> Result<PartRoom<'_, 'a, Q, T>, SendError<()>> {
        let at = self.place(len, Deadline::Never)?;
        let message = std::ptr::slice_from_raw_parts_mut(at.cast(), len);
        Ok(room::Room::of(PartLoan { stream: self, message }))
    }
}

impl<Q: Payload + ?Sized, T: Message> Lent for PartLoan<'_, '_, Q, [T]> {
    type Element = T;

    fn elements(&self) -> *mut [T] {
        self.message
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Deref for PartLoan<'_, '_, Q, R> {
    type Target = R;

    #[inline]
    fn deref(&self) -> &R {
        // SAFETY: the place is ours until we send its part, which needs `self`. It was checked or
        // written when the loan was made, and it is aligned.
        unsafe { &*self.message }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> DerefMut for PartLoan<'_, '_, Q, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut R {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.message }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized + fmt::Debug> fmt::Debug for PartLoan<'_, '_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartLoan").field(&&**self).finish()
    }
}

impl<Q: Payload + ?Sized + fmt::Debug, R: Payload + ?Sized> fmt::Debug for ReplyStream<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyStream").field(&&**self.request()).finish()
    }
}

// SAFETY: as for Request.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Send for PartLoan<'_, '_, Q, R> {}
// SAFETY: as for Request; through a shared reference the part can only be read.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Sync for PartLoan<'_, '_, Q, R> {}
