//! The shared words of a service: those before its slots, and those in each slot that say whose
//! call it is and how it has ended.
//!
//! See [`table`](super::table) for what the words mean together.

use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::message::CachePadded;
use crate::queue::holders::Holders;
use crate::queue::mpmc::descriptor::Descriptor as RingDescriptor;
use crate::sys::futex::Futex;

/// Everything of a service but its slots. Zero is the fresh state, except for the geometry.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Descriptor {
    /// The ring of the requests. Its geometry has the capacity, the stride and the options.
    pub(super) ring: RingDescriptor,
    pub(super) geometry: CachePadded<Geometry>,
    /// How many servers each participant has.
    pub(super) servers: Holders,
}

/// The constants of a service beside those of its ring, written by its creator.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Geometry {
    /// The offset of the words of a call in its slot.
    pub(super) call: AtomicU64,
    pub(super) request: Part,
    pub(super) answer: Part,
    /// The number of places for the parts of an answer, a power of two.
    pub(super) places: AtomicU64,
    /// The offset in the slot of all places but the first, which is that of the answer.
    pub(super) more: AtomicU64,
}

/// What a slot has for a request, or for an answer.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Part {
    /// The offset in the slot.
    pub(super) offset: AtomicU64,
    /// The size of a message, or of an element of one.
    pub(super) size: AtomicU64,
    /// The alignment of an element, if messages differ in length; else 0.
    pub(super) align: AtomicU64,
    /// The bytes in the slot.
    pub(super) room: AtomicU64,
    /// The units of the store for larger messages; 0: none.
    pub(super) units: AtomicU64,
}

/// The words of a call, in its slot. Its caller writes them before it sends the request.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Call {
    /// The owner id of the caller.
    pub(super) client: AtomicU32,
    /// See [`Outcome`](super::word::Outcome).
    pub(super) outcome: Futex,
    /// The caller's deadline in nanoseconds on the monotonic clock; `u64::MAX`: none.
    pub(super) deadline: AtomicU64,
    /// The lap of the ring at which the request was sent: see `queue::mpmc::withdraw`.
    pub(super) lap: AtomicU32,
    /// See [`Parts`](super::parts::Parts).
    pub(super) parts: Futex,
}

const _: () = assert!(size_of::<Geometry>() <= 128 && align_of::<Descriptor>() == 128);
#[cfg(not(loom))]
const _: () = assert!(size_of::<Descriptor>() == 640 + 128 + 4224 && size_of::<Call>() == 24);

impl Call {
    /// Creates the words of a slot that had no call, for models.
    #[cfg(test)]
    pub(crate) fn new() -> Call {
        let (client, outcome, deadline) = (AtomicU32::new(0), Futex::new(0), AtomicU64::new(0));
        Call { client, outcome, deadline, lap: AtomicU32::new(0), parts: Futex::new(0) }
    }
}
