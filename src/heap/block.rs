//! A block: one word that holds its owner and status, and a bit elsewhere that guides the search
//! for free blocks.
//!
//! # State of the word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | CLAIMED: owner id of its claimant; else 0 |
//! | 30..32 | FREE, CLAIMED, LIVE, RETIRED |
//! | 32..64 | generation: incremented by every claim and adoption |
//!
//! | status | meaning | changed by (CAS) |
//! |---|---|---|
//! | FREE | may be claimed; zero is the fresh state | a claimant, to CLAIMED, generation + 1 |
//! | CLAIMED(p) | p has claimed it, or owns it | p, to LIVE or FREE; a reaper, to FREE; an adopter c, to CLAIMED(c) |
//! | LIVE | it belongs to an object, and survives processes | its only owner, to FREE or RETIRED; an adopter c, to CLAIMED(c) |
//! | RETIRED | unreachable, but perhaps read in place | a process that finds no pin, to FREE |
//!
//! For reading in place see [`crate::heap::hazard`], for owning and adopting [`crate::heap::owned`].
//!
//! The bit of a block is 1 when the block is known to be taken. Invariant: **the bit of a FREE
//! block is 0.** Only the claimant of the block sets it, while the block is CLAIMED, and it is
//! cleared before the word becomes FREE. So a search that checks only blocks with bit 0 misses
//! none. The bit of a block that is taken may be 0 (a death, a late reaper). Then the search checks
//! the block in vain, until the block is claimed the next time.
//!
//! A participant names a block in its [`ClaimLog`] before it claims it, so a reaper need not
//! search. A log has seven places. The eighth word counts blocks without a place, and names a
//! participant that ever needed it, or ever owned a block; when that one dies, its reaper searches
//! all blocks.
//!
//! # Memory ordering
//!
//! Freeing is Release and claiming is Acquire, so the new owner's writes come after the old
//! owner's. A claim is followed by a Release fence. So a reader that has read bytes written after
//! the claim, and then passes an Acquire fence and loads the word, sees the new generation. Readers
//! without a lock validate in this way, as with a sequence lock. The generation repeats after 2^32
//! claims of the same block; a reader would have to sleep through exactly that number.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | named in the log, not claimed | reaping | the log is cleared | nothing |
//! | claimed, its bit set or not | reaping | bit cleared, then FREE | the block, which nobody saw |
//! | published, still in the log | reaping | the log is cleared; LIVE stays | nothing |
//! | freeing: bit cleared, still LIVE | nobody needs to | a process that frees it again | nothing |
//! | a reaper dies | the next reaper | this one starts over | nothing |
//! | a reaper is late | nobody needs to | its swaps fail | a bit may be 0 for a while |
//!
//! A wrong bit is harmless, because bits only guide a search. A reaper clears a place of the log
//! after it has freed the block, so the next one can start over. The swaps of a late reaper fail
//! because they find other generations.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::{Ordered, OrderedChange};
use crate::segment::owner::OwnerId;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const RETIRED: u32 = 3;

/// A block that was allocated, with the generation that tells it from others at the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The offset of its bytes in the segment; a multiple of 16, and never 0.
    pub(crate) at: u64,
    pub(crate) generation: u32,
}

/// The status of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// This participant has claimed it.
    Claimed(OwnerId),
    Live,
    /// Nothing leads to it, but a process may read it in place.
    Retired,
    /// A value that no process can have written.
    Damaged,
}

fn pack(generation: u32, status: u32, owner: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(status << OwnerId::BITS | owner)
}

/// Returns the word of a free block whose last claim had this generation.
pub(super) fn free_word(generation: u32) -> u64 {
    pack(generation, FREE, 0)
}

/// Returns whether `this` generation comes after `that` one; they wrap around.
pub(super) fn is_later(this: u32, that: u32) -> bool {
    (this.wrapping_sub(that) as i32) > 0
}

/// Returns the generation, which distinguishes the successive blocks at one position.
pub(crate) fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Decodes the word.
pub(crate) fn state(word: u64) -> State {
    let owner = word as u32 & ((1 << OwnerId::BITS) - 1);
    match (word as u32 >> OwnerId::BITS, OwnerId::from_bits(owner)) {
        (FREE, _) if owner == 0 => State::Free,
        (CLAIMED, Some(owner)) => State::Claimed(owner),
        (LIVE, _) if owner == 0 => State::Live,
        (RETIRED, _) if owner == 0 => State::Retired,
        _ => State::Damaged,
    }
}

/// Returns the generation of a block that may be read: LIVE or RETIRED. `None` if it is in another
/// state, or this is no block's word at all. For readers without a lock, since a former block's
/// word may be bytes of a larger block now.
#[inline]
pub(crate) fn lasting(word: u64) -> Option<u32> {
    matches!(state(word), State::Live | State::Retired).then_some(generation(word))
}

/// Makes the block of this word LIVE, so that it survives its owner. Returns false if it is not
/// this block, claimed by `me`.
#[inline]
pub(crate) fn publish(word: &AtomicU64, expected: u32, me: OwnerId) -> bool {
    let claimed = pack(expected, CLAIMED, me.bits());
    word.compare_exchange(claimed, pack(expected, LIVE, 0), Release, Relaxed).is_ok()
}

/// Makes the block of this word `me`'s own; returns its new generation. `None` if it is not this
/// block, or neither LIVE nor claimed.
pub(crate) fn adopt(word: &AtomicU64, expected: u32, me: OwnerId) -> Option<u32> {
    let next = expected.wrapping_add(1);
    // Its last owner may release it meanwhile. Nothing else changes the word of such a block twice.
    for _ in 0..3 {
        let seen = word.load(Relaxed);
        if generation(seen) != expected || !matches!(state(seen), State::Live | State::Claimed(_)) {
            return None;
        }
        // Acquire pairs with publish(). Release: the mark in the log is stored before the word.
        if word.compare_exchange(seen, pack(next, CLAIMED, me.bits()), AcqRel, Relaxed).is_ok() {
            return Some(next);
        }
    }
    None
}

/// The word of a block, and its bit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) bits: &'a AtomicU64,
    pub(crate) mask: u64,
}

impl Slot<'_> {
    /// Claims the block, which `me` has named in its log, if it is free; returns its generation.
    #[inline]
    pub(crate) fn claim(&self, me: OwnerId) -> Option<u32> {
        let seen = self.word.load(Relaxed);
        if state(seen) != State::Free {
            return None;
        }
        let next = generation(seen).wrapping_add(1);
        // Acquire pairs with free(); Release: the name in the log is stored before the word.
        self.word.compare_exchange(seen, pack(next, CLAIMED, me.bits()), AcqRel, Relaxed).ok()?;
        fence(Release); // pairs with the Acquire fence of a reader that validates
        self.bits.fetch_or(self.mask, Relaxed);
        Some(next)
    }

    /// Frees the block, if it is this one, and LIVE or claimed by `me`. Returns false if it is not.
    #[inline]
    pub(crate) fn free(&self, expected: u32, me: OwnerId) -> bool {
        let seen = self.word.load(Relaxed);
        let may_free = match state(seen) {
            State::Live => true,
            State::Claimed(owner) => owner == me,
            State::Free | State::Retired | State::Damaged => false,
        };
        may_free && generation(seen) == expected && self.set_free(seen)
    }

    /// Retires the block, if it is this one, and LIVE or retired already. Then the caller must
    /// check whether it is pinned. Returns false if it is not.
    #[inline]
    pub(crate) fn retire(&self, expected: u32) -> bool {
        let [live, retired] = [LIVE, RETIRED].map(|status| pack(expected, status, 0));
        // SeqCst: see `hazard`.
        self.word
            .compare_exchange(live, retired, SeqCst, Relaxed)
            .map_or_else(|seen| seen == retired, |_| true)
    }

    /// Frees the block if it is RETIRED and `is_pinned`, which is called after that check, returns
    /// false.
    pub(crate) fn free_retired(&self, is_pinned: impl FnOnce() -> bool) -> bool {
        let seen = self.word.load(SeqCst);
        state(seen) == State::Retired && !is_pinned() && self.set_free(seen)
    }

    /// Frees the block if `dead` had claimed it. Idempotent; any number of processes may do it at
    /// once.
    pub(crate) fn recover(&self, dead: OwnerId) -> bool {
        let seen = self.word.load(Acquire); // pairs with claim()
        state(seen) == State::Claimed(dead) && self.set_free(seen)
    }

    /// Frees the block if its word is still `seen`, which the caller has checked.
    pub(super) fn set_free(&self, seen: u64) -> bool {
        self.bits.fetch_and(!self.mask, Relaxed);
        // Pairs with claim(). AcqRel: what the next claimant does comes after what the last owner
        // did.
        self.word.compare_exchange(seen, pack(generation(seen), FREE, 0), AcqRel, Relaxed).is_ok()
    }
}

/// The number of blocks that a participant can name.
const PLACES: usize = 7;

/// The blocks that one participant has claimed and not published, or is about to claim.
///
/// | bits of a place | meaning |
/// |---|---|
/// | 0..20 | generation of the participant; 0: the place is empty |
/// | 20..64 | the block: its offset in units of 16 bytes |
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ClaimLog {
    places: [AtomicU64; PLACES],
    /// Bits 0..32: generation of a participant that may have claimed more blocks than there are
    /// places. Bits 32..64: the number of blocks, claimed or about to be claimed, that found no
    /// place.
    more: AtomicU64,
}

const _: () = assert!(size_of::<ClaimLog>() == 64);

const PARTICIPANT: u64 = (1 << 20) - 1;
const UNNAMED: u64 = 1 << 32;
const UNNAMED_ALL: u64 = !(UNNAMED - 1);

fn named(at: u64, me: OwnerId) -> u64 {
    (at / 16) << 20 | u64::from(me.generation())
}

impl ClaimLog {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> ClaimLog {
        ClaimLog { places: [(); PLACES].map(|_| AtomicU64::new(0)), more: AtomicU64::new(0) }
    }

    /// Names the block at `at`, before its chunk is checked to be open and the block is claimed. If
    /// there is no place, counts it. Returns the proof that the check comes after it.
    #[inline]
    pub(crate) fn record(&self, at: u64, me: OwnerId) -> Ordered {
        for place in &self.places {
            let seen = place.load(Relaxed);
            // A name of another generation belongs to a dead participant, which was reaped before
            // this one attached.
            let is_mine = seen & PARTICIPANT == u64::from(me.generation());
            if !is_mine {
                // SeqCst: before the chunk is checked. Pairs with may_name().
                if let Ok(change) = place.exchange_ordered(seen, named(at, me), Relaxed) {
                    return change;
                }
            }
        }
        // The mark first: if this participant dies between the two, the reaper knows whose the word
        // is, and resets both.
        self.mark(me);
        self.more.add_ordered(UNNAMED).1 // pairs with may_name()
    }

    /// Makes a reaper of `me` search all blocks, because there may be some that are not named here.
    #[inline]
    pub(crate) fn mark(&self, me: OwnerId) {
        if self.more.load(Relaxed) & !UNNAMED_ALL != u64::from(me.generation()) {
            self.more.fetch_or(me.generation().into(), SeqCst);
        }
    }

    /// Returns whether a participant may be about to claim a block in this range of the arena. If
    /// it named a block before and does not any more, the block's word shows what became of it.
    pub(crate) fn may_name(&self, range: &std::ops::Range<u64>) -> bool {
        let is_in_range = |place: &AtomicU64| {
            let seen = place.load(SeqCst); // pairs with record() and erase()
            seen & PARTICIPANT != 0 && range.contains(&((seen >> 20).saturating_mul(16)))
        };
        // After the places, because a thread that clears the name of another thread leaves its own
        // count for that thread.
        self.places.iter().any(is_in_range) || self.more.load(SeqCst) & UNNAMED_ALL != 0
    }

    /// Removes the block's name, once the block is published or free, or was not claimed. Exactly
    /// once for each [`record`](ClaimLog::record).
    ///
    /// Names and counts are kept together. A thread that has counted the block may clear the name
    /// that another thread wrote for it, and then that one decrements the count. So neither thread
    /// is without a name or a count before it is done.
    #[inline]
    pub(crate) fn erase(&self, at: u64, me: OwnerId) {
        let name = named(at, me);
        for place in &self.places {
            // A swap, because two threads of a participant may have named the same block, and the
            // place that one of them has cleared may be a third one's already. Release: what became
            // of the block comes before. Acquire pairs with that: a thread whose place another one
            // has cleared sees where the other named the block.
            let is_here = place.load(Acquire) == name;
            if is_here && place.compare_exchange(name, 0, Release, Acquire).is_ok() {
                return;
            }
        }
        if self.more.load(Relaxed) & UNNAMED_ALL != 0 {
            self.more.fetch_sub(UNNAMED, Release); // pairs with may_name(): what became of the block is seen
        }
    }

    /// Passes each block that `dead` has named to `recover`, then removes the name. Returns true if
    /// `dead` may have claimed more than that.
    pub(crate) fn recover(&self, dead: OwnerId, mut recover: impl FnMut(u64)) -> bool {
        for place in &self.places {
            let seen = place.load(Acquire);
            if seen & PARTICIPANT == u64::from(dead.generation()) {
                recover((seen >> 20).saturating_mul(16));
                // Fails if another reaper has done the same.
                _ = place.compare_exchange(seen, 0, AcqRel, Relaxed);
            }
        }
        self.more.load(Acquire) & !UNNAMED_ALL == u64::from(dead.generation())
    }

    /// Records that everything has been searched for blocks of `dead`.
    pub(crate) fn forget_more(&self, dead: OwnerId) {
        let seen = self.more.load(Relaxed);
        if seen & !UNNAMED_ALL == u64::from(dead.generation()) {
            _ = self.more.compare_exchange(seen, 0, AcqRel, Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let me = OwnerId::new(1023, (1 << 20) - 1).unwrap();
        let word = pack(u32::MAX, CLAIMED, me.bits());
        assert_eq!((generation(word), state(word)), (u32::MAX, State::Claimed(me)));
        assert_eq!((state(0), state(pack(7, LIVE, 0))), (State::Free, State::Live));
        for damaged in [1, pack(1, CLAIMED, 5), pack(1, LIVE, me.bits()), pack(1, RETIRED, 5), u64::MAX] {
            assert_eq!(state(damaged), State::Damaged);
        }
    }

    #[test]
    fn a_block_is_freed_once_and_by_its_owner() {
        let [me, other] = [1, 2].map(|generation| OwnerId::new(3, generation).unwrap());
        let (word, bits) = (AtomicU64::new(0), AtomicU64::new(0));
        let slot = Slot { word: &word, bits: &bits, mask: 4 };
        assert_eq!((slot.claim(me), slot.claim(other)), (Some(1), None));
        assert_eq!(bits.load(Relaxed), 4);
        assert!(!slot.free(1, other) && !slot.recover(other) && !publish(&word, 1, other));
        assert!(publish(&word, 1, me) && !publish(&word, 1, me) && !slot.recover(me));
        assert!(!slot.free(2, other) && slot.free(1, other) && !slot.free(1, other));
        assert_eq!((bits.load(Relaxed), slot.claim(other)), (0, Some(2)));
        assert!(slot.recover(other) && !slot.recover(other) && bits.load(Relaxed) == 0);
    }

    #[test]
    fn a_log_without_room_says_so() {
        let me = OwnerId::new(3, 9).unwrap();
        let log = ClaimLog::new();
        (1..=PLACES as u64).for_each(|block| _ = log.record(block * 16, me));
        let mut found = Vec::new();
        assert!(!log.recover(OwnerId::new(3, 8).unwrap(), |at| found.push(at)) && found.is_empty());
        log.erase(48, me);
        log.record(1 << 37, me);
        log.record(160, me);
        assert!(log.may_name(&(0..0)), "it may be anywhere");
        log.erase(160, me);
        assert!(!log.may_name(&(0..0)));
        log.record(160, me);
        assert!(log.recover(me, |at| found.push(at)));
        assert_eq!(found, [16, 32, 1 << 37, 64, 80, 96, 112]);
        log.forget_more(me);
        assert!(!log.recover(me, |_| panic!("it has been forgotten")));
    }
}
