//! The publishers of a topic: how many each participant has, and the end of a topic that ends with
//! them.
//!
//! # State
//!
//! A word for each participant:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..20 | generation of the participant at this index that has, or had, publishers |
//! | 20..32 | their number; 4,095 stays until the participant ends |
//!
//! And one for the topic:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..63 | joins: the number of publishers that were ever made |
//! | 63 | ended: all of them had left, and no later one counts |
//!
//! Zero is the fresh state of both.
//!
//! A publisher joins by its count first, and then by the joins. Whoever finds that a publisher has
//! left loads the joins, scans the counts, and swaps the bit `ended` in if the joins are still the
//! same. So this one word decides between a publisher that joins and the end: either the swap fails
//! because of the join, or the join finds the topic ended. The topic is closed after the swap.
//!
//! # Memory ordering
//!
//! - The joins are AcqRel: a scan that has loaded a join (Acquire) sees its count.
//! - Of two publishers that leave at once, one must see that the other has left. Each changes its
//!   count, passes a SeqCst fence and loads the other's.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | as a publisher, or having counted a join | a waiter, reapers | `recover` ends the topic | nothing |
//! | count lowered, counts not scanned | the same | the same | nothing |
//! | ended, not closed | the same, and who joins | the same | nothing |
//! | stopped in one of these windows | a subscriber, after its slice | it ends the topic | 50 ms |

use super::descriptor::COUNTS;
use super::ring::{Ring, SWAPS_MAX};
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{fence, AtomicU32};
use crate::segment::owner::{OwnerId, MAX_GENERATION};

const ENDED: u64 = 1 << 63;
const COUNT_SHIFT: u32 = 20;
const COUNT_MAX: u32 = u32::MAX >> COUNT_SHIFT;

/// Returns the number of publishers in a word.
fn count(word: u32) -> u32 {
    word >> COUNT_SHIFT
}

/// Returns the number of publishers of a participant in the word of its index.
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

impl Ring {
    fn count_word(&self, id: OwnerId) -> &AtomicU32 {
        &self.descriptor().publishers.counts[id.index() % COUNTS]
    }

    /// Changes the number of publishers of a participant; returns the new one.
    fn change_count(&self, id: OwnerId, change: impl Fn(u32) -> u32) -> u32 {
        let cell = self.count_word(id);
        let mut word = cell.load(Relaxed);
        for _ in 0..SWAPS_MAX {
            // A word of another generation is of one that was reaped, or damaged.
            let next = change(count_of(word, id));
            // Pairs with has_publishers().
            match cell.compare_exchange(word, word_of(id, next), SeqCst, Relaxed) {
                Ok(_) => return next,
                Err(now) => word = now,
            }
        }
        COUNT_MAX
    }

    /// Counts a new publisher of `me`, which was enlisted before.
    pub(crate) fn join_publisher(&self, me: OwnerId) {
        self.change_count(me, |count| (count + 1).min(COUNT_MAX));
        // Pairs with end_if_left().
        if self.descriptor().publishers.joins.fetch_add(1, AcqRel) & ENDED != 0 {
            self.close();
        }
    }

    /// Counts a publisher of `me` less.
    pub(crate) fn leave_publisher(&self, me: OwnerId) {
        let lower = |count: u32| if count == COUNT_MAX { count } else { count.saturating_sub(1) };
        if self.change_count(me, lower) == 0 {
            self.end_if_left();
        }
    }

    /// Takes the publishers of `dead` back.
    pub(super) fn recover_publishers(&self, dead: OwnerId) {
        let cell = self.count_word(dead);
        let word = cell.load(Relaxed);
        if count_of(word, dead) != 0 {
            // Only the dead one changes a word of its generation, and other reapers.
            let _ = cell.compare_exchange(word, word_of(dead, 0), SeqCst, Relaxed);
        }
        self.end_if_left();
    }

    /// Closes the topic if it ends with its publishers, had some, and all have left.
    pub(crate) fn end_if_left(&self) {
        if !self.shape.ends {
            return;
        }
        fence(SeqCst); // between the caller's count and those of others
        let cell = &self.descriptor().publishers.joins;
        let mut joins = cell.load(Acquire); // pairs with join_publisher()
        for _ in 0..SWAPS_MAX {
            if joins & ENDED != 0 {
                // Whoever has ended it may have died before it closed it.
                if !self.is_closed() {
                    self.close();
                }
                return;
            }
            if joins == 0 || self.has_publishers() {
                return;
            }
            // Pairs with join_publisher(). If it fails, a publisher has joined since the load, and
            // may have left again; or another process has ended the topic.
            match cell.compare_exchange(joins, joins | ENDED, AcqRel, Acquire) {
                Ok(_) => joins |= ENDED,
                Err(now) => joins = now,
            }
        }
    }

    fn has_publishers(&self) -> bool {
        // Pairs with change_count().
        self.descriptor().publishers.counts.iter().any(|word| count(word.load(SeqCst)) != 0)
    }

    /// Returns the number of publishers, for others to see.
    pub(crate) fn publishers(&self) -> u64 {
        self.descriptor().publishers.counts.iter().map(|word| u64::from(count(word.load(Relaxed)))).sum()
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
}
