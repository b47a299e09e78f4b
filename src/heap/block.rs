//! A block: one word that says whose it is, and a bit elsewhere that says where to look for free ones.
//!
//! # State of the word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of who has it in hand (CLAIMED), else 0 |
//! | 30..32 | FREE, CLAIMED, LIVE, RETIRED |
//! | 32..64 | generation: up by one at every claim |
//!
//! | status | meaning | who moves it on |
//! |---|---|---|
//! | FREE | may be claimed; zero is the fresh state | whoever claims it, CAS to CLAIMED(me), generation + 1 |
//! | CLAIMED(p) | p has it in hand, and nobody else knows of it | p, CAS to LIVE, or back to FREE; a reaper of p, CAS to FREE |
//! | LIVE | it belongs to what is built on the heap, whoever dies | whoever frees it, CAS to FREE; or retires it, CAS to RETIRED |
//! | RETIRED | nothing leads to it any more, but some may read it in place ([`super::pin`]) | whoever finds nobody who does, CAS to FREE |
//!
//! The bit of a block is 1 when it is known to be taken. Invariant: **the bit of a FREE block is 0.** It is set only by who has
//! the block CLAIMED, and cleared before the word becomes FREE. So a search that looks at blocks with bit 0 only misses none.
//! The bit of a block that is taken may be 0 (a death, a reaper that comes late): the search then looks at it in vain, until
//! it is claimed the next time.
//!
//! What a participant is about to claim stands in its [`Hand`] first, so a reaper need not search. A hand has seven places;
//! who needs more says so in the eighth, and is searched for if it dies.
//!
//! # Memory ordering
//!
//! Freeing is Release and claiming is Acquire: the new owner's writes come after the old one's. A claim is followed by a
//! Release fence; so who reads bytes that were written after the claim, and then does an Acquire fence and looks at the word,
//! sees the new generation: readers without a lock validate so, as in a sequence lock. The generation comes back after 2^32
//! claims of the same block, which a reader would have to sleep through exactly.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | named in the hand, not claimed | reaping | the hand is cleared | nothing |
//! | claimed, its bit set or not | reaping | bit cleared, then FREE | the block, which nobody has seen |
//! | published, still in the hand | reaping | the hand is cleared; LIVE stays | nothing |
//! | freeing: bit cleared, still LIVE | nobody needs to | whoever frees it again; the bit is only a place to look | nothing |
//! | a reaper dies | the next reaper | it starts over: a place is cleared after its block | nothing |
//! | a reaper comes late | nobody needs to | its swaps find other generations | a bit may be 0 for a while |

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::atomic::{fence, AtomicU64};
use crate::owner::OwnerId;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const RETIRED: u32 = 3;

/// What a block's word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// In the hand of this participant.
    Claimed(OwnerId),
    Live,
    /// Nothing leads to it, but somebody may read it in place.
    Retired,
    /// What nobody can have written.
    Damaged,
}

fn pack(generation: u32, status: u32, owner: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(status << OwnerId::BITS | owner)
}

/// Which of the blocks that stood at a place one after the other it is.
pub(crate) fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The word, taken apart.
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

/// Makes the block of this word last, whoever dies. False: it is not this one's, claimed by `me`.
#[inline]
pub(crate) fn publish(word: &AtomicU64, expected: u32, me: OwnerId) -> bool {
    let claimed = pack(expected, CLAIMED, me.bits());
    word.compare_exchange(claimed, pack(expected, LIVE, 0), Release, Relaxed).is_ok()
}

/// The word of a block, and its bit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) bits: &'a AtomicU64,
    pub(crate) mask: u64,
}

impl Slot<'_> {
    /// Claims the block, which `me` has named in its hand, if it is free; gives its generation.
    #[inline]
    pub(crate) fn claim(&self, me: OwnerId) -> Option<u32> {
        let seen = self.word.load(Relaxed);
        if state(seen) != State::Free {
            return None;
        }
        let next = generation(seen).wrapping_add(1);
        // Acquire pairs with free(); Release: what the hand says stands there before the word does.
        self.word.compare_exchange(seen, pack(next, CLAIMED, me.bits()), AcqRel, Relaxed).ok()?;
        fence(Release); // pairs with the Acquire fence of who validates
        self.bits.fetch_or(self.mask, Relaxed);
        Some(next)
    }

    /// Frees the block, if it is this one, and LIVE or claimed by `me`. False: it is not.
    #[inline]
    pub(crate) fn free(&self, expected: u32, me: OwnerId) -> bool {
        let seen = self.word.load(Relaxed);
        let may = match state(seen) {
            State::Live => true,
            State::Claimed(owner) => owner == me,
            State::Free | State::Retired | State::Damaged => false,
        };
        may && generation(seen) == expected && self.set_free(seen)
    }

    /// Retires the block, if it is this one, and LIVE or retired already: then the caller must look whether it is pinned.
    /// False: it is not.
    #[inline]
    pub(crate) fn retire(&self, expected: u32) -> bool {
        let [live, retired] = [LIVE, RETIRED].map(|status| pack(expected, status, 0));
        // SeqCst: see `pin`.
        self.word
            .compare_exchange(live, retired, SeqCst, Relaxed)
            .map_or_else(|seen| seen == retired, |_| true)
    }

    /// Frees the block if it is RETIRED and `is_pinned`, which is asked after that, says no.
    pub(crate) fn free_retired(&self, is_pinned: impl FnOnce() -> bool) -> bool {
        let seen = self.word.load(SeqCst);
        state(seen) == State::Retired && !is_pinned() && self.set_free(seen)
    }

    /// Frees the block if `dead` had it in hand. Idempotent; any number of processes may do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) -> bool {
        let seen = self.word.load(Acquire); // pairs with claim()
        state(seen) == State::Claimed(dead) && self.set_free(seen)
    }

    fn set_free(&self, seen: u64) -> bool {
        self.bits.fetch_and(!self.mask, Relaxed);
        // Pairs with claim(). AcqRel: whoever claims it comes after what the one who had it did.
        self.word.compare_exchange(seen, pack(generation(seen), FREE, 0), AcqRel, Relaxed).is_ok()
    }
}

/// How many blocks a participant can name.
const PLACES: usize = 7;

/// What one participant has in hand, or is about to.
///
/// | bits of a place | meaning |
/// |---|---|
/// | 0..20 | generation of the participant; 0: nothing is here |
/// | 20..64 | which block: its offset in units of 16 bytes |
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Hand {
    places: [AtomicU64; PLACES],
    /// Generation of a participant that may have more in hand than there are places.
    more: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Hand>() == 64);

const PARTICIPANT: u64 = (1 << 20) - 1;

fn named(at: u64, me: OwnerId) -> u64 {
    (at / 16) << 20 | u64::from(me.generation())
}

impl Hand {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Hand {
        Hand { places: [(); PLACES].map(|_| AtomicU64::new(0)), more: AtomicU64::new(0) }
    }

    /// Names the block at `at`, before it is claimed.
    #[inline]
    pub(crate) fn take(&self, at: u64, me: OwnerId) {
        for place in &self.places {
            let seen = place.load(Relaxed);
            // What somebody else has left here is of the dead, who have been reaped before this one came.
            let is_mine = seen & PARTICIPANT == u64::from(me.generation());
            if !is_mine && place.compare_exchange(seen, named(at, me), Relaxed, Relaxed).is_ok() {
                return;
            }
        }
        self.more.store(me.generation().into(), Relaxed);
    }

    /// Forgets the block, once it is published or free.
    #[inline]
    pub(crate) fn put_down(&self, at: u64, me: OwnerId) {
        let name = named(at, me);
        for place in &self.places {
            // A swap: two threads of a participant may have named the same block, and the place that one of them has cleared
            // may be a third one's already. Release: what became of the block comes before. Acquire pairs with that: who finds
            // its own place cleared by the other one sees where that has named the block.
            let is_here = place.load(Acquire) == name;
            if is_here && place.compare_exchange(name, 0, Release, Acquire).is_ok() {
                return;
            }
        }
    }

    /// Gives what `dead` has named to `recover`, then forgets it; true if it may have had more in hand than that.
    pub(crate) fn recover(&self, dead: OwnerId, mut recover: impl FnMut(u64)) -> bool {
        for place in &self.places {
            let seen = place.load(Acquire);
            if seen & PARTICIPANT == u64::from(dead.generation()) {
                recover((seen >> 20).saturating_mul(16));
                // Fails if somebody else has done the same.
                _ = place.compare_exchange(seen, 0, AcqRel, Relaxed);
            }
        }
        self.more.load(Acquire) == u64::from(dead.generation())
    }

    /// Says that everything has been searched for what `dead` had.
    pub(crate) fn forget_more(&self, dead: OwnerId) {
        _ = self.more.compare_exchange(dead.generation().into(), 0, AcqRel, Relaxed);
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
    fn a_block_is_freed_once_and_by_who_may() {
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
    fn a_hand_that_is_too_small_says_so() {
        let me = OwnerId::new(3, 9).unwrap();
        let hand = Hand::new();
        (1..=PLACES as u64).for_each(|block| hand.take(block * 16, me));
        let mut found = Vec::new();
        assert!(!hand.recover(OwnerId::new(3, 8).unwrap(), |at| found.push(at)) && found.is_empty());
        hand.put_down(48, me);
        hand.take(1 << 37, me);
        hand.take(160, me);
        assert!(hand.recover(me, |at| found.push(at)));
        assert_eq!(found, [16, 32, 1 << 37, 64, 80, 96, 112]);
        hand.forget_more(me);
        assert!(!hand.recover(me, |_| panic!("it has been forgotten")));
    }
}
