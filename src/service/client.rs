//! A client of a service: calls by reference, in place, and several at once.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::call::{Answer, Call};
use super::caller::{Caller, Terms, Ticket};
use super::error::CallError;
use super::stream::Stream;
use crate::message::Payload;
use crate::segment::object::ObjectRef;
use crate::sys::clock::Deadline;

/// A client of a [`Service`](crate::Service).
///
/// Share it, clone it, or make one for each thread; calls of several threads do not wait for each
/// other. A call makes a system call only if it waits for longer than some microseconds, or if a
/// server sleeps.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use pagemate::service::CallError;
///
/// # fn main() -> pagemate::Result<()> {
/// let service = pagemate::Service::<u32, u32>::new(4)?;
/// let client = service.client();
/// assert_eq!(client.call(&1), Err(CallError::NoServer));
///
/// let server = service.server(); // it does not serve yet
/// let soon = Duration::from_millis(1);
/// assert_eq!(client.call_timeout(&1, soon), Err(CallError::TimedOut));
///
/// let call = client.start(&2)?;
/// server.recv()?.reply(&20).unwrap();
/// assert_eq!(call.wait(), Ok(20));
/// # Ok(())
/// # }
/// ```
pub struct Client<Q: Payload + ?Sized, R: Payload + ?Sized> {
    pub(super) caller: Caller,
    _messages: PhantomData<fn(&Q) -> &R>,
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Client<Q, R> {
    pub(super) fn new(caller: Caller) -> Client<Q, R> {
        Client { caller, _messages: PhantomData }
    }

    /// Sets whether calls wait for a server if there is none. The default is false: they fail with
    /// `NoServer`, at once if there is none when they begin, else within 50 ms after the last one
    /// has left, or 100 ms after it has died.
    ///
    /// ```
    /// use pagemate::Service;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let service = Service::<u32, u32>::new(4)?;
    /// let client = service.client().wait_for_server(true);
    /// let call = client.start(&1)?;
    /// service.server().recv()?.reply(&10).unwrap();
    /// assert_eq!(call.wait(), Ok(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_server(mut self, wait_for_server: bool) -> Client<Q, R> {
        self.caller.waits_for_server = wait_for_server;
        self
    }

    /// Returns whether calls wait for a server, and the object, for a child.
    pub(crate) fn parts(&self) -> (bool, &ObjectRef) {
        (self.caller.waits_for_server, &self.caller.port.object)
    }

    /// Sends a request, and blocks until its call has ended.
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer`, `ServerDied`, `Refused`, `Closed`, `TooLarge`, `Corrupted`,
    /// `NotInThisProcess`.
    #[inline]
    pub fn call(&self, request: &Q) -> Result<R::Owned, CallError> {
        self.start_by(request, Deadline::Never, Deadline::Never)?.finish(Deadline::Never)
    }

    /// Like [`call`](Client::call), but blocks for at most `timeout`, and then cancels the call.
    /// The server can see the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Client::call); `Full` if there was no room, `TimedOut` if there was no
    /// answer in time.
    pub fn call_timeout(&self, request: &Q, timeout: Duration) -> Result<R::Owned, CallError> {
        let deadline = Deadline::after(timeout);
        self.start_by(request, deadline, deadline)?.finish(deadline)
    }

    /// Like [`call`](Client::call), but blocks until `deadline` at the latest, and then cancels the
    /// call. The server can see the deadline.
    ///
    /// # Errors
    ///
    /// As [`call_timeout`](Client::call_timeout).
    pub fn call_deadline(&self, request: &Q, deadline: Instant) -> Result<R::Owned, CallError> {
        let deadline = Deadline::at(deadline);
        self.start_by(request, deadline, deadline)?.finish(deadline)
    }

    /// Like [`call`](Client::call), but returns the answer in place.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    #[inline]
    pub fn call_ref(&self, request: &Q) -> Result<Answer<'_, R>, CallError> {
        self.start_by(request, Deadline::Never, Deadline::Never)?.finish_ref(Deadline::Never)
    }

    /// Like [`call_timeout`](Client::call_timeout), but returns the answer in place.
    ///
    /// # Errors
    ///
    /// As [`call_timeout`](Client::call_timeout).
    pub fn call_ref_timeout(&self, request: &Q, timeout: Duration) -> Result<Answer<'_, R>, CallError> {
        let deadline = Deadline::after(timeout);
        self.start_by(request, deadline, deadline)?.finish_ref(deadline)
    }

    /// Like [`call_deadline`](Client::call_deadline), but returns the answer in place.
    ///
    /// # Errors
    ///
    /// As [`call_timeout`](Client::call_timeout).
    pub fn call_ref_deadline(&self, request: &Q, deadline: Instant) -> Result<Answer<'_, R>, CallError> {
        let deadline = Deadline::at(deadline);
        self.start_by(request, deadline, deadline)?.finish_ref(deadline)
    }

    /// Sends a request, and returns its call, which goes on meanwhile. Blocks while there is no
    /// room.
    ///
    /// # Errors
    ///
    /// [`CallError`]: `NoServer`, `Closed`, `TooLarge`, `Corrupted`, `NotInThisProcess`. Nothing
    /// was sent.
    #[inline]
    pub fn start(&self, request: &Q) -> Result<Call<'_, R>, CallError> {
        self.start_by(request, Deadline::Never, Deadline::Never)
    }

    /// Like [`start`](Client::start), but only if there is room now.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Client::start), and `Full`.
    #[inline]
    pub fn try_start(&self, request: &Q) -> Result<Call<'_, R>, CallError> {
        self.start_by(request, Deadline::At(0), Deadline::Never)
    }

    /// Like [`start`](Client::start), but blocks for at most `timeout`. That is the time to find
    /// room, not the time of the call.
    ///
    /// # Errors
    ///
    /// As [`try_start`](Client::try_start).
    pub fn start_timeout(&self, request: &Q, timeout: Duration) -> Result<Call<'_, R>, CallError> {
        self.start_by(request, Deadline::after(timeout), Deadline::Never)
    }

    /// Like [`start`](Client::start), but blocks until `deadline` at the latest. That is the time
    /// to find room, not the deadline of the call.
    ///
    /// # Errors
    ///
    /// As [`try_start`](Client::try_start).
    pub fn start_deadline(&self, request: &Q, deadline: Instant) -> Result<Call<'_, R>, CallError> {
        self.start_by(request, Deadline::at(deadline), Deadline::Never)
    }

    /// Sends a request whose answer may come in parts. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// As [`start`](Client::start).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let primes = pagemate::Service::<u32, u32>::builder(4).parts(16).build()?;
    /// let server = primes.server();
    /// # let worker =
    /// std::thread::spawn(move || -> pagemate::Result<()> {
    ///     while let Ok(request) = server.recv() {
    ///         let Ok(mut parts) = request.stream() else { continue };
    ///         for n in (2..).filter(|n| (2..*n).all(|d| n % d != 0)) {
    ///             if n > **parts.request() || parts.send(&n).is_err() {
    ///                 break;
    ///             }
    ///         }
    ///         let _ = parts.finish();
    ///     }
    ///     Ok(())
    /// });
    /// let client = primes.client();
    /// let found: Result<Vec<u32>, _> = client.stream(&20)?.collect();
    /// assert_eq!(found?, [2, 3, 5, 7, 11, 13, 17, 19]);
    ///
    /// let first = client.stream(&u32::MAX)?.next(); // the server notices that no more are taken
    /// assert_eq!(first, Some(Ok(2)));
    /// # primes.close();
    /// # worker.join().unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&self, request: &Q) -> Result<Stream<'_, R>, CallError> {
        let (room, deadline) = (Deadline::Never, Deadline::Never);
        let ticket = self.send(request, Terms { room, deadline, is_in_parts: true })?;
        Ok(Stream::new(&self.caller, ticket))
    }

    /// Like [`stream`](Client::stream), but only if there is room now.
    ///
    /// # Errors
    ///
    /// As [`try_start`](Client::try_start).
    pub fn try_stream(&self, request: &Q) -> Result<Stream<'_, R>, CallError> {
        let (room, deadline) = (Deadline::At(0), Deadline::Never);
        let ticket = self.send(request, Terms { room, deadline, is_in_parts: true })?;
        Ok(Stream::new(&self.caller, ticket))
    }

    /// Sends a request. `room` is the deadline for finding room, `deadline` that of the call, for
    /// the server to see.
    #[inline]
    fn start_by(&self, request: &Q, room: Deadline, deadline: Deadline) -> Result<Call<'_, R>, CallError> {
        let ticket = self.send(request, Terms { room, deadline, is_in_parts: false })?;
        Ok(Call::new(&self.caller, ticket))
    }

    #[inline]
    fn send(&self, request: &Q, terms: Terms) -> Result<Ticket, CallError> {
        let elements = request.as_elements();
        let placed = self.caller.place(elements.len(), terms.room)?;
        // SAFETY: place() has returned room for that many elements, and it is ours.
        unsafe {
            let from = elements.as_ptr().cast::<u8>();
            from.copy_to_nonoverlapping(placed.at, size_of_val(elements));
        }
        let sent = self.caller.send(placed.me, placed.claim, terms);
        // After the request was sent, as in Ring::try_send().
        self.caller.port.table.ring.move_tail(placed.claim);
        sent.map_err(|(error, claim)| {
            self.caller.port.free_own(placed.me, claim);
            error
        })
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Clone for Client<Q, R> {
    fn clone(&self) -> Client<Q, R> {
        Client::new(self.caller.clone())
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> fmt::Debug for Client<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Client");
        out.field("wait_for_server", &self.caller.waits_for_server);
        out.field("table", &self.caller.port.table).finish()
    }
}
