//! The floor: how a topic whose messages differ in length makes memory free, although its
//! subscribers take nothing from it.
//!
//! A message that does not fit into its slot is in a block of the topic's store, and the header of
//! the slot names the block. The block belongs to the slot: the publisher that claims the slot next
//! frees it. So blocks come back at the pace at which positions are overwritten. A publisher that
//! finds no memory before that discards the oldest messages. It raises the *floor*, the number of
//! the oldest position whose message is there, and frees the block of the position that it has
//! passed. A message below the floor is overwritten: a subscriber that has yet to receive it has
//! lost it. The words of the slots below the floor stay, so what is lost is counted exactly.
//!
//! A message without a block is discarded too when its turn comes. Otherwise it could come after
//! one that is lost.
//!
//! # State of the floor
//!
//! | bits | meaning |
//! |---|---|
//! | 0..54 | number: every message of an older position is discarded |
//! | 54..64 | joins: the number of lossless subscribers that have begun, wrapping |
//!
//! Zero is the fresh state. The oldest position whose message is there is the floor, or `tail -
//! slots` if that is later. The floor is moved past this oldest position, and only
//!
//! 1. past a position that is decided: FULL, HOLE or HELD. If it is WRITING, and a message behind
//!    it is published, it is taken away, as subscribers do;
//! 2. past a position that every lossless subscriber has received. Otherwise the publisher waits,
//!    and the topic's [`Policy`](super::Policy) decides at its deadline, as for a position that the
//!    gate does not admit.
//!
//! | block named by the header of a slot that is | it belongs to | freed by |
//! |---|---|---|
//! | FULL, at the floor or later | the message | the publisher that claims or passes it |
//! | FULL, below the floor | the slot | the same, or a sweep: see below |
//! | HOLE | the slot: it was pinned when publishers came round | the next claimant, or a sweep |
//! | WRITING or HELD, with `pinned` | as before the claim | the next claimant; not `recover` |
//! | WRITING or HELD | the publisher in the slot | that publisher, or `recover` |
//!
//! A position can be passed while its message is read in place. Its block stays until the pin is
//! gone. Then the slot's next claimant frees it, or a publisher that finds nothing to discard, and
//! sweeps over all slots before it gives up.
//!
//! Everything is freed by the name in the header, which has the block's generation. So it does not
//! matter how many participants free the same block, or how late.
//!
//! # Memory ordering
//!
//! - A publisher raises the floor (AcqRel), passes a SeqCst fence, and loads the pins. A subscriber
//!   that reads in place stores its pin, passes a SeqCst fence, and then loads the floor. One of
//!   them sees the other.
//! - The floor is raised before a block is freed, freeing is Release, claiming the block is
//!   Acquire, and a Release fence lies between the claim and the first byte that is written there.
//!   A subscriber copies, passes an Acquire fence and loads the floor again. If it has copied a
//!   byte of a later message, it sees that the floor has passed its position, or that the slot was
//!   claimed.
//! - A name is stored Release after the claim of its slot. It is loaded Acquire, and then the
//!   slot's word is loaded again. So the name of a later message is not taken for that of this one.
//! - A lossless subscriber that joins makes its line LOSSLESS and then increments the joins
//!   (AcqRel). A publisher loads the floor (Acquire), then the lines, and then swaps the floor. If
//!   the swap succeeds, no subscriber has joined meanwhile. One that joins later sees the floor and
//!   begins there, or later.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | floor raised, block not freed | the next claimant, a sweep | it frees the block | nothing |
//! | slot claimed, its old block not freed | reapers | `recover` frees it | nothing |
//! | block of a message that is not published | reapers | see [`header`] | nothing |
//! | subscriber: pinned, floor not checked | publishers, reapers | `recover`; a sweep | nothing |
//! | subscriber: LOSSLESS, not in the joins | publishers that wait for it | it reaps it | nothing |
//!
//! [`header`]: crate::queue::payload::header

use super::descriptor::NUMBER as TAIL_NUMBER;
use super::gate::Lack;
use super::publish::Unsent;
use super::ring::{Ring, Steps};
use super::word::{age, Age, Position, Status, Word};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::loom::Ordered;
use crate::queue::blocked::Blocked;
use crate::queue::payload::header::Name;

const NUMBER_BITS: u32 = 54;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
const JOIN: u64 = 1 << NUMBER_BITS;

/// The word of the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor(u64);

impl Floor {
    #[inline]
    fn number(self) -> u64 {
        self.0 & NUMBER
    }

    /// Returns the word that is raised to this number.
    fn raised(self, number: u64) -> Floor {
        Floor(self.0 & !NUMBER | number & NUMBER)
    }

    /// Returns the word after another lossless subscriber has joined.
    fn joined(self) -> Floor {
        Floor(self.0.wrapping_add(JOIN))
    }
}

/// Frees the block with this name if it is LIVE, and returns the bytes that it takes, else 0.
pub(crate) type Free<'a> = &'a dyn Fn(Name) -> u64;

/// The outcome of an attempt to discard one position.
enum Step {
    /// It was passed, and this number of bytes was freed.
    Passed(u64),
    /// Others were faster.
    Again,
    /// It cannot be passed now.
    Stuck(Unsent),
}

impl Ring {
    fn floor_word(&self) -> &AtomicU64 {
        &self.descriptor().room.floor
    }

    /// Returns the number of the position below which all messages are discarded.
    #[inline]
    pub(crate) fn floor(&self) -> u64 {
        if !self.shape.is_varied {
            return 0;
        }
        Floor(self.floor_word().load(Acquire)).number() // pairs with pass_oldest()
    }

    /// Returns whether the message of a position was discarded.
    #[inline(always)]
    pub(super) fn is_discarded(&self, at: Position) -> bool {
        self.shape.is_varied && at.number < self.floor()
    }

    /// Returns the number of the oldest position that may have a message.
    pub(super) fn oldest_kept(&self) -> u64 {
        // The floor first: `tail` is never below it.
        self.floor().max(self.end().saturating_sub(u64::from(self.shape.slots)))
    }

    /// Makes publishers that are about to raise the floor check the lines once more. Returns the
    /// floor.
    pub(super) fn join_floor(&self) -> u64 {
        if !self.shape.is_varied || is_planted(Fault::JoinUngated) {
            return 0;
        }
        // Pairs with pass_oldest().
        let joined = self.floor_word().fetch_update(AcqRel, Relaxed, |floor| Some(Floor(floor).joined().0));
        Floor(joined.unwrap_or_else(|floor| floor)).number()
    }

    /// Discards the oldest messages until this number of bytes is freed, or no more can be
    /// discarded.
    ///
    /// # Errors
    ///
    /// Nothing was freed. `Gated`: before a lossless subscriber has received more. `Later`: all
    /// memory is being written or read in place.
    #[cold]
    pub(crate) fn discard(&self, steps: &mut Steps, wanted: u64, free: Free<'_>) -> Result<(), Unsent> {
        let (mut freed, mut stuck) = (0u64, Blocked::Later.into());
        while freed < wanted && steps.take() {
            match self.pass_oldest(steps, free) {
                Step::Passed(bytes) => freed = freed.saturating_add(bytes),
                Step::Again => {}
                Step::Stuck(reason) => {
                    stuck = reason;
                    break;
                }
            }
        }
        if freed > 0 || self.sweep(free) > 0 {
            Ok(())
        } else {
            Err(stuck)
        }
    }

    /// Raises the floor past one position, and frees the block of its message.
    fn pass_oldest(&self, steps: &mut Steps, free: Free<'_>) -> Step {
        // Pairs with this function and join_floor().
        let floor = Floor(self.floor_word().load(Acquire));
        let tail = self.tail();
        let end = tail & TAIL_NUMBER;
        let number = floor.number().max(end.saturating_sub(u64::from(self.shape.slots)));
        if number >= end {
            // The last position may be claimed while `tail` has yet to move past it.
            let last = self.position(end);
            let word = Word(self.word(last.index).load(Acquire)); // pairs with try_claim()
            if age(word, last) != Age::Here {
                return Step::Stuck(Blocked::Later.into());
            }
            self.advance(tail, word);
            return Step::Again;
        }
        let at = self.position(number);
        let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
        match (age(word, at), word.status()) {
            (Age::Here, Status::Writing) if self.is_followed(at) => {
                self.revoke(at, word, steps);
                return Step::Again;
            }
            (Age::Here, Status::Writing) => return Step::Stuck(Blocked::Later.into()),
            (Age::Here, Status::Full | Status::Hole | Status::Held) => {}
            // Publishers came round. Or the words are damaged: then all steps are used.
            _ => return Step::Again,
        }
        if self.is_awaited(number, steps) {
            return Step::Stuck(Unsent::Gated(Lack::Memory));
        }
        let raised = floor.raised(number + 1);
        // Pairs with floor() and join_floor().
        if self.floor_word().compare_exchange(floor.0, raised.0, AcqRel, Relaxed).is_err() {
            return Step::Again;
        }
        Step::Passed(self.free_block_of(at.index, word, Ordered::by_fence(), free))
    }

    /// Frees the block that the header of a slot names, if the slot's word was `word`, is the same,
    /// and nobody reads in place there. The caller has made sure that the message is discarded.
    fn free_block_of(&self, index: u32, word: Word, _raised: Ordered, free: Free<'_>) -> u64 {
        if word.is_held() {
            return 0; // the name may be that of the publisher's own block
        }
        let Some(name) = self.header(index).block() else { return 0 };
        // After the name was read: if it is that of a later message, the word is too. Pairs with
        // Header::set().
        let now = Word(self.word(index).load(Relaxed));
        let is_read = self.is_pinned(index) && !is_planted(Fault::FreeUnscanned);
        if now.unpinned() != word.unpinned() || is_read {
            return 0;
        }
        free(name)
    }

    /// Frees the blocks of messages that are discarded, and were read in place or not freed when
    /// the floor passed them. Returns the freed bytes.
    fn sweep(&self, free: Free<'_>) -> u64 {
        let (floor, mut freed) = (self.floor(), 0u64);
        let raised = Ordered::by_fence(); // pairs with the fence in try_pin()
        for index in 0..self.shape.slots {
            let word = Word(self.word(index).load(Acquire)); // pairs with publish()
            let is_over = match word.status() {
                Status::Hole => true,
                Status::Full => {
                    let at = self.position(self.slot(index).position.load(Relaxed));
                    at.index == index && age(word, at) == Age::Here && at.number < floor
                }
                Status::Writing | Status::Held => false,
            };
            if is_over {
                freed = freed.saturating_add(self.free_block_of(index, word, raised, free));
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_the_number_do_not_change_each_other() {
        let floor = Floor(0).joined().raised(7);
        assert_eq!((floor.number(), floor.joined().number()), (7, 7));
        assert_ne!(floor, floor.joined());
        assert_eq!(floor.joined().raised(NUMBER).number(), NUMBER);
        let last = Floor(u64::MAX);
        assert_eq!((last.joined().number(), last.joined().joined()), (NUMBER, floor.raised(NUMBER)));
    }
}
