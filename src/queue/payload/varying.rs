//! The methods that take or return messages of varying length.
//!
//! They have the names of those for messages of fixed size, but other signatures. In one type the
//! compiler could not tell which is meant where a program does not name the type of the messages.
//! So a handle has the methods for messages of fixed size, and derefs to the others.

/// A [`Queue`](crate::Queue), [`Producer`](super::super::spsc::Producer),
/// [`Consumer`](super::super::spsc::Consumer), or a
/// [`Publisher`](super::super::topic::Publisher) or [`Subscriber`](super::super::topic::Subscriber)
/// of a topic, whose messages differ in length, seen as what has the methods for them.
///
/// Each such handle derefs to this, so a program calls `queue.send("text")` and never names it.
/// Code that is generic over [`Payload`](super::super::Payload) gets it from
/// [`Queue::varying`](crate::Queue::varying).
#[derive(Debug)]
#[repr(transparent)]
pub struct Varying<H: ?Sized>(pub(in crate::queue) H);

impl<H> Varying<H> {
    #[inline(always)]
    pub(in crate::queue) fn of(handle: &H) -> &Varying<H> {
        // SAFETY: transparent, so both have the same layout.
        unsafe { &*std::ptr::from_ref(handle).cast() }
    }

    #[inline(always)]
    pub(in crate::queue) fn of_mut(handle: &mut H) -> &mut Varying<H> {
        // SAFETY: as above, and `handle` is borrowed mutably.
        unsafe { &mut *std::ptr::from_mut(handle).cast() }
    }
}
