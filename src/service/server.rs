//! A server of a service: it receives requests, and answers them.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::handle::Service;
use super::port::Port;
use super::request::{Request, Serving};
use crate::message::Payload;
use crate::queue::blocked::Blocked;
use crate::queue::holders::Tenure;
use crate::queue::mpmc::ring::{Claim, Ring};
use crate::queue::RecvError;
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::Result;

/// A server of a [`Service`](crate::Service).
///
/// Share it, clone it, or make one for each thread. The service has a server as long as there is
/// one of them, in a process that is alive. Passed to a child process, it serves from the moment at
/// which the child is started. In a child made by `fork` it counts nothing, because it stays with
/// the parent.
///
/// # Examples
///
/// ```
/// use pagemate::service::CallError;
///
/// # fn main() -> pagemate::Result<()> {
/// let service = pagemate::Service::<i64, f64>::new(4)?;
/// let server = service.server();
/// let worker = std::thread::spawn(move || -> pagemate::Result<()> {
///     while let Ok(request) = server.recv() {
///         match *request {
///             n if n < 0 => {} // dropped without an answer
///             n => request.reply(&(n as f64).sqrt())?,
///         }
///     }
///     Ok(())
/// });
/// let client = service.client();
/// assert_eq!(client.call(&9), Ok(3.0));
/// assert_eq!(client.call(&-9), Err(CallError::Refused));
/// service.close();
/// worker.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
pub struct Server<Q: Payload + ?Sized, R: Payload + ?Sized> {
    port: Port,
    /// `None` if this process has no place in the segment, and the server does nothing.
    tenure: Option<Tenure>,
    _messages: PhantomData<fn(&Q) -> &R>,
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Server<Q, R> {
    pub(super) fn join(port: Port) -> Server<Q, R> {
        let tenure = port.me().ok().map(|me| {
            let _ = port.servers().join(me); // a service does not end with its servers
            Tenure::new(me)
        });
        Server { port, tenure, _messages: PhantomData }
    }

    /// Counts the server of a child that is about to be started. Its process takes it over with
    /// [`from_parent`](Server::from_parent).
    pub(crate) fn into_child(self, register: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = register(&self.port.object)?;
        // Before this server leaves, so that the service has one at every moment.
        let _ = self.port.servers().join(child);
        Ok(())
    }

    /// Creates, in a child, the server that its parent has counted.
    pub(crate) fn from_parent(service: Service<Q, R>) -> Server<Q, R> {
        let tenure = service.port.me().ok().map(Tenure::new);
        Server { port: service.port, tenure, _messages: PhantomData }
    }

    /// Receives a request if there is one now.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Empty`, `Closed` once everything that was sent has been received,
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn try_recv(&self) -> Result<Request<'_, Q, R>, RecvError> {
        self.recv_by(|| Deadline::At(0))
    }

    /// Receives a request. Blocks while there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Closed` once everything that was sent has been received, `Corrupted`,
    /// `NotInThisProcess`.
    #[inline]
    pub fn recv(&self) -> Result<Request<'_, Q, R>, RecvError> {
        self.recv_by(|| Deadline::Never)
    }

    /// Receives a request. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Server::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Request<'_, Q, R>, RecvError> {
        self.recv_by(|| Deadline::after(timeout))
    }

    /// Receives a request. Blocks while there is none, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Server::try_recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Request<'_, Q, R>, RecvError> {
        self.recv_by(|| Deadline::at(deadline))
    }

    /// Answers requests with the results of `handle`, until the service is closed and all requests
    /// were received.
    ///
    /// If `handle` panics, its caller gets `Refused`, and the panic goes on. An answer that is
    /// larger than the quota refuses the call as well.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Corrupted`, `NotInThisProcess`.
    pub fn serve<A: Borrow<R>>(&self, mut handle: impl FnMut(&Q) -> A) -> Result<(), RecvError> {
        loop {
            match self.recv() {
                Ok(request) => {
                    let answer = handle(&request);
                    // An answer that nobody waits for any more is no matter of the server's.
                    let _ = request.reply(answer.borrow());
                }
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether the service was closed. There may still be requests.
    pub fn is_closed(&self) -> bool {
        !self.port.object.is_hindered(!self.port.table.ring.is_closed())
    }

    /// Returns what a set needs to wait for requests.
    pub(crate) fn parts(&self) -> (&ObjectRef, Ring) {
        (&self.port.object, self.port.table.ring)
    }

    #[inline]
    fn recv_by(&self, deadline: impl FnOnce() -> Deadline) -> Result<Request<'_, Q, R>, RecvError> {
        let me = self.port.me().map_err(Blocked::into_recv_error)?;
        let mut deadline = Some(deadline);
        let mut end = Deadline::At(0);
        loop {
            let claim = match self.port.table.ring.try_take(me) {
                Ok(claim) => claim,
                Err(Blocked::Later) => {
                    if let Some(deadline) = deadline.take() {
                        end = deadline();
                    }
                    self.wait(me, end).map_err(Blocked::into_recv_error)?
                }
                Err(blocked) => return Err(blocked.into_recv_error()),
            };
            // A request whose caller has given up is dropped, and so is one of invalid bytes.
            if let Some(request) = Request::new(Serving::new(&self.port, me, claim)) {
                return Ok(request);
            }
        }
    }

    #[cold]
    fn wait(&self, me: OwnerId, deadline: Deadline) -> Result<Claim, Blocked> {
        let ring = &self.port.table.ring;
        if deadline == Deadline::At(0) {
            return Err(self.port.note(Blocked::Later));
        }
        ring.take(me, deadline, || self.port.object.reap_dead())
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Clone for Server<Q, R> {
    fn clone(&self) -> Server<Q, R> {
        Server::join(self.port.clone())
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Drop for Server<Q, R> {
    fn drop(&mut self) {
        if let Some(tenure) = self.tenure.filter(Tenure::is_mine) {
            let _ = self.port.servers().leave(tenure.me);
        }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> fmt::Debug for Server<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("table", &self.port.table).finish()
    }
}
