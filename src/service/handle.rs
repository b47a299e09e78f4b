//! The handle of a service, `Service<Q, R>`.

use std::fmt;
use std::marker::PhantomData;

use super::builder::ServiceBuilder;
use super::caller::Caller;
use super::client::Client;
use super::layout::{Layout, SLOTS};
use super::port::Port;
use super::server::Server;
use crate::message::{Message, Payload};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::{Origin, Place};
use crate::{Error, ErrorKind, Result};

/// Requests from any number of clients, each of which one server answers, in any number of
/// processes.
///
/// `Q` is the type of the requests, `R` that of the answers. Both have a fixed size, or differ in
/// length: `[T]` and `str`. A request is written once and read in place, and so is its answer.
///
/// Requests are taken in the order in which they were sent. Several servers share the work. Each
/// call has exactly one outcome: the answer, or a [`CallError`](super::CallError). An answer never
/// goes to another call, however late it is, and wakes only the thread that waits for it.
///
/// Any process may be killed or stopped at any moment, and the others go on. If a server dies, its
/// call ends with `ServerDied` within 100 ms, or another server gets the request, as the
/// [builder](Service::builder) says. If a client dies or gives up, its request is withdrawn, or its
/// server can [see it](super::Request::is_cancelled). Nothing of a call is left behind.
///
/// The capacity is the number of calls at one time, from [`start`](Client::start) until the answer
/// was dropped. A client that finds no room waits.
///
/// For messages without an answer use a [`Queue`](crate::Queue). Between two processes that send
/// requests both ways, or of changing types, use a [pipe](crate::pipe()).
///
/// # Examples
///
/// ```
/// use pagemate::Service;
///
/// # fn main() -> pagemate::Result<()> {
/// let squares = Service::<u32, u64>::new(16)?;
/// let server = squares.server();
/// let worker = std::thread::spawn(move || server.serve(|n| u64::from(*n) * u64::from(*n)));
///
/// let client = squares.client();
/// assert_eq!(client.call(&7)?, 49);
///
/// let calls = [client.start(&3)?, client.start(&4)?]; // both at once
/// let [nine, sixteen] = calls.map(|call| call.wait());
/// assert_eq!(nine? + sixteen?, 25);
///
/// squares.close();
/// worker.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
///
/// Messages of any length, by name, between unrelated processes:
///
/// ```
/// use pagemate::Service;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-service-{}", std::process::id());
/// # let name = name.as_str();
/// let here = Service::<str, [u64]>::create(name, 16)?;
/// let server = here.server();
/// # let worker =
/// std::thread::spawn(move || {
///     let lengths = |text: &str| text.split(' ').map(|word| word.len() as u64).collect::<Vec<_>>();
///     server.serve(lengths)
/// });
///
/// let there = Service::<str, [u64]>::open(name)?;
/// assert_eq!(there.client().call("how long are these")?, [3, 4, 3, 5]);
/// # here.close();
/// # worker.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
pub struct Service<Q: Payload + ?Sized, R: Payload + ?Sized> {
    pub(super) port: Port,
    _messages: PhantomData<fn(&Q) -> &R>,
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Object for Service<Q, R> {
    const KIND: Kind = Kind::Service;
    const LEN: usize = SLOTS;
    type Initial = ServiceBuilder<Q, R>;

    fn schema() -> String {
        format!("{} => {}", Q::layout(), R::layout())
    }

    fn len_for(builder: &ServiceBuilder<Q, R>) -> Result<usize> {
        Layout::<Q, R>::len(&builder.plan)
    }

    unsafe fn init(base: *mut u8, builder: &ServiceBuilder<Q, R>) {
        // SAFETY: as the caller promises.
        unsafe { Layout::<Q, R>::init(base, &builder.plan) }
    }

    fn attach(object: ObjectRef) -> Result<Service<Q, R>> {
        let ((), ()) = (<Q::Element as Message>::CHECKED, <R::Element as Message>::CHECKED);
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the table,
        // keeps it mapped.
        match unsafe { Layout::<Q, R>::check(object.base(), object.len()) } {
            Some(found) => Ok(Service { port: Port::new(found, object), _messages: PhantomData }),
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the service's geometry does not fit its size or its types",
            )),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.port.object
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Service<Q, R> {
    /// Returns a builder for a service of this capacity with further options.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let tasks = pagemate::Service::<[u8], [u8]>::builder(64).redeliver(true).quota(8 << 20).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(capacity: usize) -> ServiceBuilder<Q, R> {
        ServiceBuilder::of(capacity)
    }

    /// Creates an anonymous service for `capacity` calls at a time. Clone the handle, or pass it to
    /// a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open
    /// files).
    pub fn new(capacity: usize) -> Result<Service<Q, R>> {
        Service::builder(capacity).build()
    }

    /// Creates a named service for `capacity` calls at a time.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name or the capacity), `OutOfMemory`,
    /// `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, capacity: usize) -> Result<Service<Q, R>> {
        Service::builder(capacity).create(place)
    }

    /// Opens an existing service.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of other messages), `PermissionDenied`,
    /// `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Service<Q, R>> {
        Object::open(place)
    }

    /// Opens the service, or creates it for `capacity` calls at a time if there is none. Also
    /// returns which of the two happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Service::open) and [`create`](Service::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, capacity: usize) -> Result<(Service<Q, R>, Origin)> {
        Service::builder(capacity).open_or_create(place)
    }

    /// Returns a client. Any number of them may call at once, from any number of processes.
    pub fn client(&self) -> Client<Q, R> {
        Client::new(Caller::new(self.port.clone()))
    }

    /// Returns a server. Any number of them may serve at once, from any number of processes. The
    /// service has a server until all of them were dropped, or their processes have ended.
    pub fn server(&self) -> Server<Q, R> {
        Server::join(self.port.clone())
    }

    /// Returns the number of calls that the service has room for.
    pub fn capacity(&self) -> usize {
        self.port.table.ring.capacity() as usize
    }

    /// Returns whether there is a server now. The answer may be out of date immediately.
    pub fn has_server(&self) -> bool {
        let has_server = self.port.servers().find(0).is_some();
        !self.port.object.is_hindered(!has_server)
    }

    /// Closes the service for good. From now on calls fail with `Closed`. Servers get the requests
    /// that were sent, and then `Closed`. Wakes all that wait for requests or for room. Returns
    /// true if this call closed it, false if it was closed before.
    ///
    /// Calls whose requests were sent go on.
    pub fn close(&self) -> bool {
        self.port.table.ring.close()
    }

    /// Returns whether the service was closed. Once true, always true.
    pub fn is_closed(&self) -> bool {
        !self.port.object.is_hindered(!self.port.table.ring.is_closed())
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Clone for Service<Q, R> {
    fn clone(&self) -> Service<Q, R> {
        Service { port: self.port.clone(), _messages: PhantomData }
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> fmt::Debug for Service<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Service");
        out.field("capacity", &self.capacity()).field("is_closed", &self.port.table.ring.is_closed());
        out.field("servers", &self.port.servers().number()).field("table", &self.port.table).finish()
    }
}
