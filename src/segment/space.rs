//! Space: records one behind the other, each claimed by one compare-and-swap, each with one object in it.
//!
//! A record is claimed where the space ends, by swapping its length and its owner into the first word, which is zero
//! there; `space_end` follows, and anybody helps it on. So there is no moment at which the chain of records is broken, and
//! a death leaves at most one claimed record, which the reaper frees for reuse. Nothing ever moves.
//!
//! # State of [`Record::word`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of who is building it (CLAIMED); 1 if its name was removed (LIVE); else 0 |
//! | 30..32 | EMPTY: space ends here; CLAIMED: being built; LIVE: published; FREE: may be claimed again |
//! | 32..64 | length in units of 128 bytes, this record included; set once |
//!
//! Zero is the fresh state. A record whose name was removed stays where it is, in the directory too: whoever has the object open
//! goes on with it. It is never FREE again, so an offset means one object for as long as the segment exists.
//!
//! # Memory ordering
//!
//! `publish` is Release on the directory's head ([`super::directory`]); who finds a record there with Acquire sees it
//! complete. Claiming a FREE record is Acquire and pairs with the Release of who freed it.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | claimed, `space_end` not yet moved | the next who claims | it helps `space_end` on | nothing |
//! | claimed or half written | reaping | CLAIMED by the dead and not in the directory: FREE | the object, which nobody has seen |
//! | in the directory, still CLAIMED | reaping | CLAIMED by the dead and in the directory: LIVE | nothing |
//! | removing a name | nobody needs to | it is one swap: removed, or not | nothing |

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::owner::OwnerId;

/// Length of a record's fixed part, and the unit of all lengths and places in space.
pub(crate) const UNIT: u64 = 128;

const EMPTY: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const FREE: u32 = 3;
/// In the place of an owner of a LIVE record: its name was removed.
const REMOVED: u32 = 1;

/// The fixed part of a record. Name and schema text follow it, then, on a multiple of 128, the object.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    word: AtomicU64,
    /// Offset of the record that was published before this one; 0: it was the first. Written before publication.
    pub(crate) next: AtomicU64,
    /// Which kind of object; a number of `Kind`.
    pub(crate) kind: u32,
    pub(crate) name_len: u32,
    pub(crate) schema_len: u32,
    pub(crate) _reserved: u32,
    /// Offset of the object in the segment.
    pub(crate) object: u64,
    pub(crate) object_len: u64,
    pub(crate) _pad: [u64; 10],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Record>() == UNIT as usize);

/// A record's first word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    units: u32,
    status: u32,
    owner: u32,
}

impl From<u64> for Word {
    fn from(bits: u64) -> Word {
        let low = bits as u32;
        Word {
            units: (bits >> 32) as u32,
            status: low >> OwnerId::BITS,
            owner: low & ((1 << OwnerId::BITS) - 1),
        }
    }
}

impl From<Word> for u64 {
    fn from(word: Word) -> u64 {
        u64::from(word.units) << 32 | u64::from(word.status << OwnerId::BITS | word.owner)
    }
}

impl Record {
    fn load(&self) -> Word {
        Word::from(self.word.load(Acquire)) // pairs with claim() and free()
    }

    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.into(), to.into(), AcqRel, Relaxed).is_ok()
    }

    /// Length in bytes; `None` where space ends.
    pub(crate) fn len(&self) -> Option<u64> {
        let word = self.load();
        (word.status != EMPTY).then_some(u64::from(word.units) * UNIT)
    }

    /// Claims the end of space for a record of `units`.
    fn claim_end(&self, units: u32, owner: OwnerId) -> bool {
        let claimed = Word { units, status: CLAIMED, owner: owner.bits() };
        self.swap(Word { units: 0, status: EMPTY, owner: 0 }, claimed)
    }

    /// Claims a record that was freed, if it fits without wasting more than it holds.
    pub(crate) fn claim_free(&self, units: u32, owner: OwnerId) -> bool {
        let word = self.load();
        word.status == FREE
            && (units..=units.saturating_mul(2)).contains(&word.units)
            && self.swap(word, Word { status: CLAIMED, owner: owner.bits(), ..word })
    }

    /// Gives back what `owner` claimed and did not publish.
    pub(crate) fn free(&self, owner: OwnerId) {
        self.settle(owner, FREE);
    }

    /// Marks what `owner` has published.
    fn set_live(&self, owner: OwnerId) {
        self.settle(owner, LIVE);
    }

    /// Whether `owner` claimed it and has not said since what became of it.
    fn is_claimed_by(&self, owner: OwnerId) -> bool {
        let word = self.load();
        word.status == CLAIMED && word.owner == owner.bits()
    }

    /// Removes the name of a record that is in the directory. False: somebody else has. If its creator has not said yet that it is
    /// published, this says it too.
    pub(crate) fn remove(&self) -> bool {
        let mut word = self.load();
        // The word of a listed record changes twice at most.
        for _ in 0..3 {
            let is_there = word.status == CLAIMED || (word.status == LIVE && word.owner != REMOVED);
            if !is_there {
                return false;
            }
            if self.swap(word, Word { status: LIVE, owner: REMOVED, ..word }) {
                return true;
            }
            word = self.load();
        }
        false
    }

    /// Whether its name was removed.
    pub(crate) fn is_removed(&self) -> bool {
        let word = self.load();
        word.status == LIVE && word.owner == REMOVED
    }

    fn settle(&self, owner: OwnerId, status: u32) {
        let word = self.load();
        if word.status == CLAIMED && word.owner == owner.bits() {
            self.swap(word, Word { status, owner: 0, ..word });
        }
    }
}

/// Claims `units` where the space ends. `room` looks at an end of space before it is claimed: it makes sure that the record
/// can be touched and gives it, or says why not. `next` gives where the record that stands there already ends.
pub(crate) fn claim_end<'a, E>(
    space_end: &AtomicU64,
    units: u32,
    owner: OwnerId,
    mut room: impl FnMut(u64) -> Result<&'a Record, E>,
    mut next: impl FnMut(u64, Option<u64>) -> Result<u64, E>,
) -> Result<u64, E> {
    loop {
        let end = space_end.load(Acquire); // pairs with help()
        let record = room(end)?;
        if record.claim_end(units, owner) {
            help(space_end, end, end + u64::from(units) * UNIT);
            return Ok(end);
        }
        help(space_end, end, next(end, record.len())?);
    }
}

/// Helps the end of space on from `end` to where the record there ends.
fn help(space_end: &AtomicU64, end: u64, next: u64) {
    let _ = space_end.compare_exchange(end, next, Release, Relaxed); // pairs with claim_end()
}

/// Puts a finished record at the front of the directory. `taken` tells whether its name is among the records from the
/// first offset up to but not including the second. False: it is, and nothing was published.
pub(crate) fn publish<E>(
    directory: &AtomicU64,
    record: &Record,
    offset: u64,
    owner: OwnerId,
    mut taken: impl FnMut(u64, u64) -> Result<bool, E>,
) -> Result<bool, E> {
    let mut looked_through = 0;
    loop {
        let head = directory.load(Acquire); // pairs with the swap below in other processes
        if taken(head, looked_through)? {
            return Ok(false);
        }
        looked_through = head;
        record.next.store(head, Relaxed);
        // Pairs with the Acquire of whoever walks the directory: who sees the record sees all of it.
        if directory.compare_exchange(head, offset, AcqRel, Relaxed).is_ok() {
            record.set_live(owner);
            return Ok(true);
        }
    }
}

/// Settles what `dead` was building: in the directory it is published, and else nobody has seen it and its space is free.
pub(crate) fn settle(record: &Record, dead: OwnerId, is_listed: impl FnOnce() -> bool) -> bool {
    if !record.is_claimed_by(dead) {
        return false;
    }
    // The dead publishes no more, so this answer stays true.
    if is_listed() {
        record.set_live(dead);
        return false;
    }
    record.free(dead);
    true
}

#[cfg(test)]
impl Record {
    /// Where space ends, outside of a mapping.
    pub(crate) fn new() -> Record {
        Record {
            word: AtomicU64::new(0),
            next: AtomicU64::new(0),
            kind: 0,
            name_len: 0,
            schema_len: 0,
            _reserved: 0,
            object: 0,
            object_len: 0,
            _pad: [0; 10],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let word = Word { units: 7, status: FREE, owner: (1 << 30) - 1 };
        assert_eq!(Word::from(u64::from(word)), word);
        assert_eq!(u64::from(Word { units: 0, status: EMPTY, owner: 0 }), 0);
    }
}
