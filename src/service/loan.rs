//! A request that a client writes in place.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::call::{Answer, Call};
use super::caller::{Caller, Placed, Terms, Ticket};
use super::client::Client;
use super::error::CallError;
use super::stream::Stream;
use crate::error::Refusal;
use crate::message::{self, Message, Payload, Varied};
use crate::queue::holders::Tenure;
use crate::queue::mpmc::ring::Claim;
use crate::queue::payload::room::{self, Lent};
use crate::sys::clock::Deadline;

/// The hold on a claimed slot. Frees the slot when dropped, in the process that claimed it.
struct Held<'a> {
    caller: &'a Caller,
    claim: Claim,
    tenure: Tenure,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.caller.port.free_own(self.tenure.me, self.claim);
        }
    }
}

/// A slot of a [`Service`](crate::Service), to write a request in place: see [`Client::loan`].
///
/// [`call`](Loan::call) sends the request and waits, [`start`](Loan::start) sends it. Dropping the
/// loan sends nothing and frees the slot.
///
/// The loan keeps the place in the order that it got when it was taken, unless a later request was
/// sent and a server skipped the loan. Then it gets a new place when it is sent. So a process that
/// stops while it has a loan blocks nobody.
pub struct Loan<'a, Q: Payload + ?Sized, R: Payload + ?Sized> {
    held: Held<'a>,
    message: *mut Q,
    _answer: PhantomData<fn() -> &'a R>,
}

/// Room for a slice as a request, to write it in place: see [`Client::loan`].
pub type Room<'a, T, R> = room::Room<'a, T, Loan<'a, [T], R>>;

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Client<Q, R> {
    fn held(&self, len: usize, deadline: Deadline) -> Result<(Held<'_>, *mut u8), CallError> {
        let Placed { me, claim, at } = self.caller.place(len, deadline)?;
        self.caller.port.table.ring.move_tail(claim);
        Ok((Held { caller: &self.caller, claim, tenure: Tenure::new(me) }, at))
    }
}

impl<Q: Message, R: Payload + ?Sized> Client<Q, R> {
    /// Returns a slot to write a request in place. Blocks while there is no room.
    ///
    /// The slot holds a valid message at first: an earlier one, or all zeros. Types for which zeros
    /// are not valid are refused at compile time; use [`call`](Client::call) for them.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let service = pagemate::Service::<[u8; 1 << 20], u64>::new(4)?;
    /// let (client, server) = (service.client(), service.server());
    /// let mut frame = client.loan()?;
    /// frame[..5].copy_from_slice(b"hello");
    /// let call = frame.start()?;
    /// let request = server.recv()?;
    /// let sum = request[..5].iter().map(|byte| u64::from(*byte)).sum();
    /// request.reply(&sum).unwrap();
    /// assert_eq!(call.wait(), Ok(532));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer`, `Closed`, `Corrupted`, `NotInThisProcess`.
    pub fn loan(&self) -> Result<Loan<'_, Q, R>, CallError> {
        self.loan_until(Deadline::Never)
    }

    /// Like [`loan`](Client::loan), but only if there is room now.
    ///
    /// # Errors
    ///
    /// Those of [`loan`](Client::loan), and `Full`.
    pub fn try_loan(&self) -> Result<Loan<'_, Q, R>, CallError> {
        self.loan_until(Deadline::At(0))
    }

    fn loan_until(&self, deadline: Deadline) -> Result<Loan<'_, Q, R>, CallError> {
        const {
            assert!(Q::ZERO_VALID, "zeros are no valid value of this request: use call(&request)");
        }
        let (held, at) = self.held(1, deadline)?;
        // SAFETY: the slot is ours, so its request can be read and written.
        unsafe {
            if !message::is_valid::<Q>(at) {
                at.write_bytes(0, size_of::<Q>());
            }
        }
        Ok(Loan { held, message: at.cast(), _answer: PhantomData })
    }
}

impl<T: Message, R: Payload + ?Sized> Client<[T], R> {
    /// Returns room for a request of `len` elements, to write it in place. Blocks while there is no
    /// room.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let service = pagemate::Service::<[u64], u64>::new(4)?;
    /// let (client, server) = (service.client(), service.server());
    /// let call = client.loan(1000)?.fill_with(|n| n as u64).start()?;
    /// let request = server.recv()?;
    /// let sum = request.iter().sum();
    /// request.reply(&sum).unwrap();
    /// assert_eq!(call.wait(), Ok(499_500));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer`, `Closed`, `TooLarge`, `Corrupted`, `NotInThisProcess`.
    pub fn loan(&self, len: usize) -> Result<Room<'_, T, R>, CallError> {
        self.room(len, Deadline::Never)
    }

    /// Like [`loan`](Client::loan), but only if there is room now.
    ///
    /// # Errors
    ///
    /// Those of [`loan`](Client::loan), and `Full`.
    pub fn try_loan(&self, len: usize) -> Result<Room<'_, T, R>, CallError> {
        self.room(len, Deadline::At(0))
    }

    fn room(&self, len: usize, deadline: Deadline) -> Result<Room<'_, T, R>, CallError> {
        let (held, at) = self.held(len, deadline)?;
        let message = std::ptr::slice_from_raw_parts_mut(at.cast(), len);
        Ok(room::Room::of(Loan { held, message, _answer: PhantomData }))
    }
}

impl<Q: Varied + ?Sized, R: Payload + ?Sized> Client<Q, R> {
    /// Returns a loan of a copy of `request`, to be changed in place and sent. Blocks while there
    /// is no room.
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer`, `Closed`, `TooLarge`, `Corrupted`, `NotInThisProcess`.
    pub fn loan_from(&self, request: &Q) -> Result<Loan<'_, Q, R>, CallError> {
        let elements = request.as_elements();
        let (held, at) = self.held(elements.len(), Deadline::Never)?;
        let at = at.cast::<Q::Element>();
        // SAFETY: held() has returned room for that many elements, aligned, and it is ours. What
        // was borrowed as a request is one.
        let message = unsafe {
            at.copy_from_nonoverlapping(elements.as_ptr(), elements.len());
            Q::in_place(at, elements.len())
        };
        message.map(|message| Loan { held, message, _answer: PhantomData }).ok_or(CallError::Corrupted)
    }
}

impl<'a, Q: Payload + ?Sized, R: Payload + ?Sized> Loan<'a, Q, R> {
    /// Sends the request, and blocks until its call has ended.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn call(self) -> Result<R::Owned, CallError> {
        self.send(Deadline::Never)?.finish(Deadline::Never)
    }

    /// Like [`call`](Loan::call), but blocks for at most `timeout`, and then cancels the call.
    ///
    /// # Errors
    ///
    /// As [`Client::call_timeout`].
    pub fn call_timeout(self, timeout: Duration) -> Result<R::Owned, CallError> {
        let deadline = Deadline::after(timeout);
        self.send(deadline)?.finish(deadline)
    }

    /// Like [`call`](Loan::call), but blocks until `deadline` at the latest, and then cancels the
    /// call.
    ///
    /// # Errors
    ///
    /// As [`Client::call_timeout`].
    pub fn call_deadline(self, deadline: Instant) -> Result<R::Owned, CallError> {
        let deadline = Deadline::at(deadline);
        self.send(deadline)?.finish(deadline)
    }

    /// Like [`call`](Loan::call), but returns the answer in place.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn call_ref(self) -> Result<Answer<'a, R>, CallError> {
        self.send(Deadline::Never)?.finish_ref(Deadline::Never)
    }

    /// Sends the request, and returns its call, which goes on meanwhile. Blocks only if the loan's
    /// place was lost (see [`Loan`]) and there is no room.
    ///
    /// # Errors
    ///
    /// [`CallError`]: `Closed`, `Corrupted`, `NotInThisProcess`. Nothing was sent.
    pub fn start(self) -> Result<Call<'a, R>, CallError> {
        self.send(Deadline::Never)
    }

    /// Sends the request, whose answer may come in parts. Blocks as [`start`](Loan::start) does.
    ///
    /// # Errors
    ///
    /// As [`start`](Loan::start).
    pub fn stream(self) -> Result<Stream<'a, R>, CallError> {
        let (caller, room, deadline) = (self.held.caller, Deadline::Never, Deadline::Never);
        let ticket = self.send_by(Terms { room, deadline, is_in_parts: true })?;
        Ok(Stream::new(caller, ticket))
    }

    fn send(self, deadline: Deadline) -> Result<Call<'a, R>, CallError> {
        let caller = self.held.caller;
        let ticket = self.send_by(Terms { room: deadline, deadline, is_in_parts: false })?;
        Ok(Call::new(caller, ticket))
    }

    fn send_by(self, terms: Terms) -> Result<Ticket, CallError> {
        if !self.held.tenure.is_mine() {
            return Err(CallError::NotInThisProcess(Refusal::FORKED));
        }
        // From here on the slot may belong to a server.
        let held = ManuallyDrop::new(self.held);
        let (caller, me) = (held.caller, held.tenure.me);
        caller.send(me, held.claim, terms).map_err(|(error, claim)| {
            caller.port.free_own(me, claim);
            error
        })
    }
}

impl<T: Message, R: Payload + ?Sized> Lent for Loan<'_, [T], R> {
    type Element = T;

    fn elements(&self) -> *mut [T] {
        self.message
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Deref for Loan<'_, Q, R> {
    type Target = Q;

    #[inline]
    fn deref(&self) -> &Q {
        // SAFETY: the request is ours until we send it, which needs `self`. It was checked or
        // written when the loan was made, and it is aligned.
        unsafe { &*self.message }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> DerefMut for Loan<'_, Q, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Q {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.message }
    }
}

impl<Q: Payload + ?Sized + fmt::Debug, R: Payload + ?Sized> fmt::Debug for Loan<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&&**self).finish()
    }
}

// SAFETY: messages are Send and Sync, and the slot belongs to the process, not to a thread.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Send for Loan<'_, Q, R> {}
// SAFETY: as above; through a shared reference the request can only be read.
unsafe impl<Q: Payload + ?Sized, R: Payload + ?Sized> Sync for Loan<'_, Q, R> {}
