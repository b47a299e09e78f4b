//! The handles on one side of a queue or topic: how many each participant has, and the end when all
//! of them have left.
//!
//! # State
//!
//! A word for each participant:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..20 | generation of the participant at this index that has, or had, handles |
//! | 20..32 | their number; 4,095 stays until the participant ends |
//!
//! And one for all:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..63 | joins: the number of handles that were ever made |
//! | 63 | ended: all of them had left, and no later one counts |
//!
//! Zero is the fresh state of both.
//!
//! A handle joins by its count first, and then by the joins. A process that finds that a handle has
//! left loads the joins, scans the counts, and swaps the bit `ended` in if the joins are still the
//! same. So this one word decides between a handle that joins and the end: either the swap fails
//! because of the join, or the join finds that it has ended. The queue or topic is closed after the
//! swap.
//!
//! # Memory ordering
//!
//! - The joins are AcqRel, so a scan that has loaded a join (Acquire) sees its count.
//! - Of two handles that leave at once, one must see that the other has left. Each changes its
//!   count, passes a SeqCst fence and loads the other's.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | with handles, or a join counted | a waiter, reapers | `recover`, then the end | nothing |
//! | count lowered, counts not scanned | the same | the same | nothing |
//! | ended, not closed | the same, and a join | the same | nothing |
//! | stopped in one of these windows | a waiter, after its slice | it ends what is over | 50 ms |

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{fence, AtomicU32, AtomicU64};
use crate::segment::owner::{OwnerId, MAX_GENERATION, MAX_PARTICIPANTS};
use crate::sys::fork;

const ENDED: u64 = 1 << 63;
const COUNT_SHIFT: u32 = 20;
const COUNT_MAX: u32 = u32::MAX >> COUNT_SHIFT;
/// The number of counts: one for each participant. Under loom as many as a model has.
const COUNTS: usize = if cfg!(loom) { 4 } else { MAX_PARTICIPANTS };
/// Swaps of one word in a call: more than well-behaved participants can make fail.
const SWAPS_MAX: u32 = 1 << 10;

/// What a participant has in a queue or topic, and a `fork` of its process has not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenure {
    pub(crate) me: OwnerId,
    epoch: u32,
}

impl Tenure {
    pub(crate) fn new(me: OwnerId) -> Tenure {
        Tenure { me, epoch: fork::epoch() }
    }

    /// Returns whether this is the process that got it.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.epoch == fork::epoch()
    }
}

/// The counts of one side.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Holders {
    /// The number of handles that were ever made, and the bit that says that all have left.
    joins: AtomicU64,
    /// For each participant its number of handles.
    counts: [AtomicU32; COUNTS],
}

const _: () = assert!(size_of::<Holders>() == (8 + 4 * COUNTS).next_multiple_of(128));

/// Returns the number of handles in a word.
fn count(word: u32) -> u32 {
    word >> COUNT_SHIFT
}

/// Returns the number of handles of a participant in the word of its index.
fn count_of(word: u32, id: OwnerId) -> u32 {
    if word & MAX_GENERATION == id.generation() {
        count(word)
    } else {
        0
    }
}

fn word_of(id: OwnerId, count: u32) -> u32 {
    count << COUNT_SHIFT | id.generation()
}

impl Holders {
    /// Creates the fresh state outside of shared memory, for models.
    #[cfg(test)]
    pub(crate) fn new() -> Holders {
        Holders { joins: AtomicU64::new(0), counts: [(); COUNTS].map(|()| AtomicU32::new(0)) }
    }

    fn count_word(&self, id: OwnerId) -> &AtomicU32 {
        &self.counts[id.index() % COUNTS]
    }

    /// Changes the number of handles of a participant; returns the new one.
    fn change_count(&self, id: OwnerId, change: impl Fn(u32) -> u32) -> u32 {
        let cell = self.count_word(id);
        let mut word = cell.load(Relaxed);
        for _ in 0..SWAPS_MAX {
            // A word of another generation is of one that was reaped, or damaged.
            let next = change(count_of(word, id));
            // Pairs with has_any().
            match cell.compare_exchange(word, word_of(id, next), SeqCst, Relaxed) {
                Ok(_) => return next,
                Err(now) => word = now,
            }
        }
        COUNT_MAX
    }

    /// Counts a new handle of `id`. Returns whether all had left before: then the caller closes the
    /// queue, because the process that ended it may have died before it did.
    #[must_use]
    pub(crate) fn join(&self, id: OwnerId) -> bool {
        self.change_count(id, |count| (count + 1).min(COUNT_MAX));
        self.joins.fetch_add(1, AcqRel) & ENDED != 0 // pairs with have_left()
    }

    /// Counts a handle of `me` less. Returns whether that was its last one: then the caller checks
    /// whether all [have left](Holders::have_left).
    #[must_use]
    pub(crate) fn leave(&self, me: OwnerId) -> bool {
        let lower = |count: u32| if count == COUNT_MAX { count } else { count.saturating_sub(1) };
        self.change_count(me, lower) == 0
    }

    /// Takes the handles of `dead` back. The caller checks afterwards whether all
    /// [have left](Holders::have_left).
    pub(crate) fn recover(&self, dead: OwnerId) {
        let cell = self.count_word(dead);
        let word = cell.load(Relaxed);
        if count_of(word, dead) != 0 {
            // Only the dead participant and other reapers change a word of its generation.
            let _ = cell.compare_exchange(word, word_of(dead, 0), SeqCst, Relaxed);
        }
    }

    /// Returns whether there were handles, and all have left. Once true, always true.
    pub(crate) fn have_left(&self) -> bool {
        fence(SeqCst); // between the caller's count and those of others
        let mut joins = self.joins.load(Acquire); // pairs with join()
        for _ in 0..SWAPS_MAX {
            if joins & ENDED != 0 {
                return true;
            }
            if joins == 0 || self.has_any() {
                return false;
            }
            // Pairs with join(). If it fails, a handle was created since the load, and may be gone
            // again; or another process was quicker.
            match self.joins.compare_exchange(joins, joins | ENDED, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => joins = now,
            }
        }
        false
    }

    fn has_any(&self) -> bool {
        self.counts.iter().any(|word| count(word.load(SeqCst)) != 0) // pairs with change_count()
    }

    /// Returns the index of a participant that has handles, `first` if that is one. `None`: there
    /// are no handles.
    #[inline]
    pub(crate) fn find(&self, first: usize) -> Option<usize> {
        let has = |index: &usize| count(self.counts[*index % COUNTS].load(SeqCst)) != 0; // as has_any()
        Some(first).filter(has).or_else(|| self.search())
    }

    #[cold]
    fn search(&self) -> Option<usize> {
        self.counts.iter().position(|word| count(word.load(SeqCst)) != 0) // as has_any()
    }

    /// Returns the number of handles, for others to see.
    pub(crate) fn number(&self) -> u64 {
        self.counts.iter().map(|word| u64::from(count(word.load(Relaxed)))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_a_participant() {
        let (one, next) = (OwnerId::new(3, 7).unwrap(), OwnerId::new(3, 8).unwrap());
        assert_eq!((count(0), count_of(0, one)), (0, 0));
        let word = word_of(one, 5);
        assert_eq!((count(word), count_of(word, one), count_of(word, next)), (5, 5, 0));
        let last = OwnerId::new(1, MAX_GENERATION).unwrap();
        assert_eq!(count_of(word_of(last, COUNT_MAX), last), COUNT_MAX);
    }

    #[cfg(not(loom))]
    #[test]
    fn all_have_left_only_once_there_was_one() {
        let holders = Holders::new();
        let [a, b] = [1, 2].map(|index| OwnerId::new(index, 1).unwrap());
        assert!(!holders.have_left(), "there was none");
        assert!(!holders.join(a) && !holders.join(a) && !holders.join(b));
        assert_eq!(holders.number(), 3);
        assert!(!holders.leave(a) && holders.leave(a) && !holders.have_left());
        holders.recover(a);
        assert!(!holders.have_left());
        holders.recover(b);
        assert!(holders.have_left() && holders.number() == 0);
        assert!(holders.join(a) && holders.have_left(), "too late");
    }
}
