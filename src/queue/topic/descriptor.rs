//! The shared words of a topic before its slots: geometry, tail, sleepers, the counts of the
//! publishers, and the lines of the subscribers.
//!
//! See [`ring`](super::ring) for what the words mean together.

use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::message::CachePadded;
use crate::queue::holders::Holders;
use crate::segment::owner::OwnerId;
use crate::wait::Waiters;

/// The closing bit of `tail`.
pub(super) const CLOSED: u64 = 1 << 63;
/// The bit of `tail` that says that there was a lossless subscriber. Never cleared.
pub(super) const GATED: u64 = 1 << 62;
/// The bits of `tail` that are a position.
pub(super) const NUMBER: u64 = GATED - 1;
/// The number of bits in `users`: half the number of participants. Two that share a bit cost a
/// scan.
pub(super) const USERS: usize = 512;

/// Everything of a topic but its lines and slots. Zero is the fresh state, except for the geometry.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Descriptor {
    /// Read once for each handle.
    pub(super) geometry: CachePadded<Geometry>,
    pub(super) end: CachePadded<End>,
    /// Subscribers that wait for messages.
    pub(super) sleepers: CachePadded<Waiters>,
    pub(super) room: CachePadded<Room>,
    pub(super) publishers: Holders,
}

/// The words that move with each publication.
#[derive(Debug)]
#[repr(C)]
pub(super) struct End {
    /// The number of the next position to claim, and the bits `CLOSED` and `GATED`.
    pub(super) tail: AtomicU64,
    /// See [`Holes`](super::word::Holes).
    pub(super) holes: AtomicU64,
    /// See [`Gate`](super::line::Gate).
    pub(super) gate: AtomicU64,
    /// Bit `index % 64`: the line with this index may be lossless. Never cleared.
    pub(super) lossless: AtomicU64,
}

/// The words of publishers that find no room.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Room {
    /// Publishers that wait for lossless subscribers.
    pub(super) waiters: Waiters,
    _reserved: u32,
    /// See [`Floor`](super::floor::Floor). Only if messages differ in length.
    pub(super) floor: AtomicU64,
}

/// The constants of a topic, written by its creator.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Geometry {
    pub(super) capacity: AtomicU64,
    /// The number of slots: more than the capacity.
    pub(super) slots: AtomicU64,
    pub(super) stride: AtomicU64,
    /// The offset of a message in its slot.
    pub(super) offset: AtomicU64,
    /// The size of a message, or of an element of one.
    pub(super) size: AtomicU64,
    /// The number of lines.
    pub(super) lines: AtomicU64,
    /// Bits 0..2: the [`Policy`](super::Policy). Bit 2: the topic ends with its publishers. Bits
    /// 8..16: the alignment of an element, if messages differ in length; else 0.
    pub(super) options: AtomicU64,
    /// Bit `index % 512`: a participant with this index may be named. Never cleared.
    pub(super) users: [AtomicU64; USERS / 64],
    /// The units of the store behind the slots; 0: none.
    pub(super) units: AtomicU64,
}

/// The words of one subscriber. Only its owner, a reaper, and a publisher that evicts it change
/// them.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Line {
    /// See [`LineWord`](super::line::LineWord).
    pub(super) state: AtomicU64,
    /// The slot whose message is read in place: see [`pin`]. 0: none.
    pub(super) pin: AtomicU64,
    /// The number of the position that is received next. Publishers wait for that of a lossless
    /// subscriber.
    pub(super) cursor: AtomicU64,
    /// The number of messages that were overwritten before they were received. For observers.
    pub(super) lost: AtomicU64,
    /// 1: the subscriber has yet to be told of messages that were lost before it began.
    pub(super) owes: AtomicU32,
}

/// The first words of a slot. The message follows; if messages differ in length, after a
/// [`Header`](crate::queue::payload::header::Header).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    pub(super) word: AtomicU64,
    /// The number of the position whose message the slot holds.
    pub(super) position: AtomicU64,
}

const _: () = {
    assert!(size_of::<Descriptor>() == 4 * 128 + size_of::<Holders>());
    assert!(align_of::<Descriptor>() == 128 && size_of::<Geometry>() <= 128);
    assert!(size_of::<Line>() == 128 && size_of::<Slot>() == 16);
};

/// Returns the word that pins a slot for a participant: the index + 1, and above it the owner.
pub(super) fn pin(owner: OwnerId, index: u32) -> u64 {
    u64::from(owner.bits()) << 32 | (u64::from(index) + 1) & u64::from(u32::MAX)
}

/// Returns whether a pin is that of a slot.
pub(super) fn is_pin_of(pin: u64, index: u32) -> bool {
    pin as u32 == index.wrapping_add(1)
}

/// Returns whether a pin names a participant.
pub(super) fn is_pin_by(pin: u64, owner: OwnerId) -> bool {
    pin >> 32 == u64::from(owner.bits())
}

#[cfg(test)]
impl Descriptor {
    /// Creates the fresh state outside of shared memory, for models.
    pub(crate) fn new() -> Descriptor {
        let word = || AtomicU64::new(0);
        Descriptor {
            geometry: CachePadded::new(Geometry {
                capacity: word(),
                slots: word(),
                stride: word(),
                offset: word(),
                size: word(),
                lines: word(),
                options: word(),
                users: [(); USERS / 64].map(|()| word()),
                units: word(),
            }),
            end: CachePadded::new(End { tail: word(), holes: word(), gate: word(), lossless: word() }),
            sleepers: CachePadded::new(Waiters::new()),
            room: CachePadded::new(Room { waiters: Waiters::new(), _reserved: 0, floor: word() }),
            publishers: Holders::new(),
        }
    }
}

#[cfg(test)]
impl Line {
    /// Creates a free line outside of shared memory, for models.
    pub(crate) fn new() -> Line {
        Line {
            state: AtomicU64::new(0),
            pin: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            owes: AtomicU32::new(0),
        }
    }
}
