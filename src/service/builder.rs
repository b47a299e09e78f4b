//! The options of a new service.

use std::fmt;
use std::marker::PhantomData;

use super::handle::Service;
use super::layout::{Plan, INLINE};
use crate::message::Payload;
use crate::queue::payload::QUOTA;
use crate::segment::object::Object;
use crate::segment::place::{Origin, Place};
use crate::Result;

/// The options of a new service: see [`Service::builder`].
pub struct ServiceBuilder<Q: Payload + ?Sized, R: Payload + ?Sized> {
    pub(super) plan: Plan,
    _messages: PhantomData<fn(&Q) -> &R>,
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> ServiceBuilder<Q, R> {
    pub(super) fn of(capacity: usize) -> ServiceBuilder<Q, R> {
        let plan = Plan { capacity, redeliver: false, inline: INLINE, quota: QUOTA, parts: 1 };
        ServiceBuilder { plan, _messages: PhantomData }
    }

    /// Sets whether the request of a server that dies goes to another server. The default is false:
    /// its call ends with `ServerDied`.
    ///
    /// With true a request is handled at least once: a server may do the work and die before it
    /// answers. It goes to another server before requests that no server has taken. If there is no
    /// other server, the call ends with `NoServer`, or waits for one, as its client says.
    pub fn redeliver(mut self, redeliver: bool) -> ServiceBuilder<Q, R> {
        self.plan.redeliver = redeliver;
        self
    }

    /// Sets the bytes of memory for requests that do not fit into a slot, and for such answers as
    /// many again. The default is 1 MiB each. Only for messages that differ in length.
    ///
    /// It is part of the service, and never grows. A message takes up to a quarter more than its
    /// length. A call that finds no memory for its request waits, and so does a server for its
    /// answer. Requests and answers have their own, so calls that wait for answers leave memory to
    /// answer them. One message that would not fit even into an empty quota is `TooLarge`. The
    /// number is rounded up to 16 KiB, and to 64 KiB at least. With 0, all messages must fit into a
    /// slot.
    pub fn quota(mut self, bytes: u64) -> ServiceBuilder<Q, R> {
        self.plan.quota = bytes;
        self
    }

    /// Sets the length in bytes of the longest message that is stored in its slot, without using
    /// the quota. It is rounded up so that slots are multiples of 128 bytes. The default is 96.
    /// Only for messages that differ in length.
    pub fn inline(mut self, bytes: usize) -> ServiceBuilder<Q, R> {
        self.plan.inline = bytes;
        self
    }

    /// Sets how many parts of an answer there may be that the client has not taken. The default is
    /// 1, which is enough for answers that do not come in parts. Rounded up to a power of two, at
    /// most 4,096.
    ///
    /// Each call has memory for as many answers. A server that finds all of them in use waits until
    /// its client takes one.
    pub fn parts(mut self, parts: usize) -> ServiceBuilder<Q, R> {
        self.plan.parts = parts;
        self
    }

    /// Creates a service like [`Service::new`].
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn build(self) -> Result<Service<Q, R>> {
        Object::new(self)
    }

    /// Creates a service like [`Service::create`].
    ///
    /// # Errors
    ///
    /// As [`Service::create`].
    pub fn create(self, place: impl Into<Place>) -> Result<Service<Q, R>> {
        Object::create(place, self)
    }

    /// Opens or creates a service like [`Service::open_or_create`]. An existing service keeps its
    /// own options.
    ///
    /// # Errors
    ///
    /// As [`Service::open_or_create`].
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<(Service<Q, R>, Origin)> {
        Object::open_or_create(place, self)
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> fmt::Debug for ServiceBuilder<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { capacity, redeliver, inline, quota, parts } = self.plan;
        let mut out = f.debug_struct("ServiceBuilder");
        out.field("capacity", &capacity).field("redeliver", &redeliver).field("parts", &parts);
        if !(Q::IS_FIXED && R::IS_FIXED) {
            out.field("inline", &inline).field("quota", &quota);
        }
        out.finish()
    }
}
