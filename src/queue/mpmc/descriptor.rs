//! The descriptor of a queue, its shared memory before the slots: geometry, positions, waiters,
//! notices.
//!
//! See [`ring`](super::ring) for what the words mean together.

use crate::loom::atomic::AtomicU64;
use crate::message::CachePadded;
use crate::wait::Waiters;

/// Some slot may be RETURNED.
pub(super) const RETURNS: u64 = 1;
/// The queue is closed, or about to be: check `tail`.
pub(super) const CLOSING: u64 = 2;
/// A sleeping producer has a slot of its own. It may be able to use room that others cannot, so all
/// producers must be woken.
pub(super) const WAKE_ALL: u64 = 4;
/// The unit of the counter above the bits: how many times RETURNS was set.
pub(super) const RETURN: u64 = 8;

/// Everything of a queue but its slots. Zero is the fresh state, except for the geometry.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Descriptor {
    /// Read once for each handle.
    pub(crate) geometry: CachePadded<Geometry>,
    pub(super) head: CachePadded<AtomicU64>,
    pub(super) tail: CachePadded<AtomicU64>,
    /// Consumers that wait for messages.
    pub(super) receivers: CachePadded<Waiters>,
    pub(super) notices: CachePadded<Notices>,
}

/// Words that are rarely written and often read by consumers.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Notices {
    /// Producers that wait for room.
    pub(super) senders: Waiters,
    _reserved: u32,
    /// RETURNS, CLOSING, WAKE_ALL, and above them a counter in steps of RETURN.
    pub(super) word: AtomicU64,
    /// The number of messages lost with their consumers.
    pub(super) lost: AtomicU64,
}

/// The constants of a queue, written by its creator.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Geometry {
    pub(crate) capacity: AtomicU64,
    pub(crate) stride: AtomicU64,
    /// The offset of a message in its slot.
    pub(crate) offset: AtomicU64,
    /// The size of a message, or of an element of one.
    pub(crate) size: AtomicU64,
    pub(crate) options: AtomicU64,
    /// The alignment of an element, if messages differ in length; else 0.
    pub(crate) align: AtomicU64,
    /// The units of the store behind the slots; 0: none.
    pub(crate) units: AtomicU64,
    /// Bit `index % 512`: a participant with this index may hold slots. Never cleared.
    pub(super) users: [AtomicU64; USERS / 64],
}

/// The number of bits in `users`: half the number of participants. Two that share a bit cost a
/// scan.
pub(super) const USERS: usize = 512;

const _: () = assert!(size_of::<Descriptor>() == 5 * 128 && align_of::<Descriptor>() == 128);

impl Descriptor {
    /// Creates the fresh state outside of shared memory, for models.
    #[cfg(test)]
    pub(crate) fn new() -> Descriptor {
        let word = || AtomicU64::new(0);
        Descriptor {
            geometry: CachePadded::new(Geometry {
                capacity: word(),
                stride: word(),
                offset: word(),
                size: word(),
                options: word(),
                align: word(),
                units: word(),
                users: [(); USERS / 64].map(|()| word()),
            }),
            head: CachePadded::new(word()),
            tail: CachePadded::new(word()),
            receivers: CachePadded::new(Waiters::new()),
            notices: CachePadded::new(Notices {
                senders: Waiters::new(),
                _reserved: 0,
                word: word(),
                lost: word(),
            }),
        }
    }
}
