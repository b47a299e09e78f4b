//! Space: consecutive records, each claimed by one compare-and-swap, each with one object in it.
//!
//! A process claims a record at the end of space: it swaps its owner id and the record's length
//! into the first word, which is zero there. `space_end` follows, and any process may advance it.
//! So the chain of records is never broken. A death leaves at most one claimed record, which the
//! reaper frees for reuse. Nothing ever moves.
//!
//! # State of [`Record::word`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | CLAIMED: owner id of its builder; LIVE: 1 if its name was removed; else 0 |
//! | 30..32 | one of the four states below |
//! | 32..64 | length in units of 128 bytes, including this fixed part; set once |
//!
//! The states:
//!
//! - EMPTY: space ends here.
//! - CLAIMED: the record is being built.
//! - LIVE: it is published.
//! - FREE: it may be claimed again.
//!
//! Zero is the fresh state. A record whose name was removed keeps its offset, and it stays in the
//! directory. Processes that have the object open continue to use it. It never becomes FREE again,
//! so an offset means one object as long as the segment exists.
//!
//! # Memory ordering
//!
//! `publish` is Release on the directory's head ([`super::directory`]). A process that finds a
//! record there with Acquire sees it complete. Claiming a FREE record is Acquire and pairs with the
//! Release that freed it.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | claimed, `space_end` not moved | the next claim there | it advances `space_end` | nothing |
//! | claimed or half written | the reaper | not in the directory: FREE | the object, never seen |
//! | in the directory, still CLAIMED | the reaper | in the directory: LIVE | nothing |
//! | removing a name | nobody needs to | one swap: removed, or not | nothing |

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::segment::owner::OwnerId;

/// Length of a record's fixed part. All lengths and offsets in space are multiples of it.
pub(crate) const UNIT: u64 = 128;

const EMPTY: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const FREE: u32 = 3;
/// Replaces the owner id in a LIVE record whose name was removed.
const REMOVED: u32 = 1;

/// The fixed part of a record. The name and the schema text follow it, then the object, at a
/// multiple of 128.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    word: AtomicU64,
    /// Offset of the record that was published before this one; 0: this was the first. Written
    /// before publication.
    pub(crate) next: AtomicU64,
    /// The object's `Kind` as a number. Written before publication, like the lengths and the
    /// offset. Readers load each once, because only a value that was checked may be used.
    pub(crate) kind: AtomicU32,
    pub(crate) name_len: AtomicU32,
    pub(crate) schema_len: AtomicU32,
    pub(crate) _reserved: u32,
    /// Offset of the object in the segment.
    pub(crate) object: AtomicU64,
    pub(crate) object_len: AtomicU64,
    pub(crate) _pad: [u64; 10],
}

const _: () = assert!(size_of::<Record>() == UNIT as usize);

/// A record's first word, unpacked.
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
        Word::from(self.word.load(Acquire)) // pairs with swap()
    }

    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.into(), to.into(), AcqRel, Relaxed).is_ok()
    }

    /// Returns the length in bytes; `None` at the end of space.
    pub(crate) fn len(&self) -> Option<u64> {
        let word = self.load();
        (word.status != EMPTY).then_some(u64::from(word.units) * UNIT)
    }

    /// Claims the end of space for a record of `units`. Returns false if another process has
    /// claimed it.
    fn claim_end(&self, units: u32, owner: OwnerId) -> bool {
        let claimed = Word { units, status: CLAIMED, owner: owner.bits() };
        self.swap(Word { units: 0, status: EMPTY, owner: 0 }, claimed)
    }

    /// Claims a freed record if `units` fit into it and it is at most twice as long. `room` is the
    /// number of units up to the end of the segment: a longer record is damaged.
    pub(crate) fn claim_free(&self, units: u32, room: u64, owner: OwnerId) -> bool {
        let word = self.load();
        word.status == FREE
            && (units..=units.saturating_mul(2)).contains(&word.units)
            && u64::from(word.units) <= room
            && self.swap(word, Word { status: CLAIMED, owner: owner.bits(), ..word })
    }

    /// Frees what `owner` claimed and did not publish.
    pub(crate) fn free(&self, owner: OwnerId) {
        self.set_status(owner, FREE);
    }

    /// Marks as LIVE what `owner` has published.
    fn set_live(&self, owner: OwnerId) {
        self.set_status(owner, LIVE);
    }

    /// Returns whether `owner` claimed it and has neither published nor freed it since.
    fn is_claimed_by(&self, owner: OwnerId) -> bool {
        let word = self.load();
        word.status == CLAIMED && word.owner == owner.bits()
    }

    /// Removes the name of a record that is in the directory. Returns false if another process has
    /// done so. If the creator has not marked the record LIVE yet, this does so.
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

    /// Returns whether its name was removed.
    pub(crate) fn is_removed(&self) -> bool {
        let word = self.load();
        word.status == LIVE && word.owner == REMOVED
    }

    fn set_status(&self, owner: OwnerId, status: u32) {
        let word = self.load();
        if word.status == CLAIMED && word.owner == owner.bits() {
            self.swap(word, Word { status, owner: 0, ..word });
        }
    }
}

/// Claims `units` at the end of space. `room` prepares an end of space before it is claimed: it
/// returns a record there that can be touched, or the reason why there is none. `next` returns the
/// end of the record that is there already.
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

/// Advances the end of space from `end` to the end of the record there.
pub(crate) fn help(space_end: &AtomicU64, end: u64, next: u64) {
    let _ = space_end.compare_exchange(end, next, Release, Relaxed); // pairs with claim_end()
}

/// Inserts a finished record at the front of the directory. `taken` returns whether the record's
/// name is among the records from the first offset up to but not including the second. If it is,
/// nothing is published, and this returns false.
pub(crate) fn publish<E>(
    directory: &AtomicU64,
    record: &Record,
    offset: u64,
    owner: OwnerId,
    mut taken: impl FnMut(u64, u64) -> Result<bool, E>,
) -> Result<bool, E> {
    let mut checked = 0;
    loop {
        let head = directory.load(Acquire); // pairs with the swap below in other processes
        if taken(head, checked)? {
            return Ok(false);
        }
        checked = head;
        record.next.store(head, Relaxed);
        // Pairs with the Acquire of every walk of the directory: a process that sees the record
        // sees all of it.
        if directory.compare_exchange(head, offset, AcqRel, Relaxed).is_ok() {
            record.set_live(owner);
            return Ok(true);
        }
    }
}

/// Finishes what `dead` was building. A record in the directory becomes LIVE. Any other has been
/// seen by nobody, so it becomes FREE, and this returns true.
pub(crate) fn recover(record: &Record, dead: OwnerId, is_listed: impl FnOnce() -> bool) -> bool {
    if !record.is_claimed_by(dead) {
        return false;
    }
    // The dead process publishes nothing more, so this answer stays true.
    if is_listed() {
        record.set_live(dead);
        return false;
    }
    record.free(dead);
    true
}

#[cfg(test)]
impl Record {
    /// Creates an end of space outside of a mapping.
    pub(crate) fn new() -> Record {
        Record {
            word: AtomicU64::new(0),
            next: AtomicU64::new(0),
            kind: AtomicU32::new(0),
            name_len: AtomicU32::new(0),
            schema_len: AtomicU32::new(0),
            _reserved: 0,
            object: AtomicU64::new(0),
            object_len: AtomicU64::new(0),
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

    /// The length may have been damaged after the walk that has found the record.
    #[test]
    fn a_freed_record_that_does_not_fit_into_the_segment_is_not_claimed() {
        let (record, me) = (Record::new(), OwnerId::new(3, 1).unwrap());
        record.word.store(Word { units: 12, status: FREE, owner: 0 }.into(), Relaxed);
        assert!(!record.claim_free(8, 11, me), "longer than the room");
        assert!(!record.claim_free(13, 100, me) && !record.claim_free(5, 100, me));
        assert!(record.claim_free(8, 12, me));
    }
}
