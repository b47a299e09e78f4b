//! A bounded semaphore: one owner word for each permit, so that the permits of the dead come back.
//!
//! Not fair: who comes by at the right moment gets a permit before those who sleep. Taking a permit looks for a free word,
//! first where this handle found the last one; so the bound is small, 4,096.
//!
//! # State
//!
//! Of each permit's word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | who holds the permit; 0 for nobody |
//! | 30 | kept: held without a guard, so that anybody may give it back |
//!
//! | owner | kept | meaning | who moves it on |
//! |---|---|---|---|
//! | 0 | 0 | free, the fresh state | whoever takes it: swap to its id |
//! | id | 0 | a guard has it | the guard frees it or keeps it; a reaper frees it |
//! | id | 1 | held, without a guard | whoever calls `release`; a reaper |
//! | 1..1024 | any | damage: no id is so small | counts as free |
//!
//! # Memory ordering
//!
//! Taking is Acquire and freeing is Release: who takes a permit sees what its last holder did. A waiter announces itself and
//! then looks at the words, who frees one looks for waiters afterwards: both are `SeqCst`, so one of them sees the other.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies, with a guard or without | a waiter's tend, at the end of its slice; reapers | [`recover`](Permits::recover) frees the word and wakes all | nothing |
//! | holder dies between freeing and waking | sleepers, at the end of their slice | themselves | up to 50 ms |
//! | waiter dies announced or asleep | the next that frees, whose wake reaches nobody | it clears the bit | nothing |
//! | waiter dies woken, before it took the permit | another sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | reaper dies or stops between its swap and its wake | sleepers, at the end of their slice | themselves | up to 50 ms |

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{Relaxed, SeqCst};
use crate::owner::OwnerId;
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// Held without a guard.
const KEPT: u32 = 1 << 30;

/// Who holds the permit, if anybody can.
#[inline]
fn holder(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

fn is_kept(word: u32) -> bool {
    word & KEPT != 0 && holder(word).is_some()
}

/// The memory side: where to wait, and a word for each permit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permits<'a> {
    pub(crate) waiters: &'a Waiters,
    pub(crate) words: &'a [AtomicU32],
}

impl Permits<'_> {
    /// Takes a free permit, looking from `hint` on; gives which.
    #[inline]
    pub(crate) fn try_acquire(&self, me: OwnerId, hint: usize) -> Option<usize> {
        // Pairs with free() and recover().
        let is_there = |word: &AtomicU32| word.compare_exchange(0, me.bits(), SeqCst, SeqCst).is_ok();
        if self.words.get(hint).is_some_and(is_there) {
            return Some(hint);
        }
        self.search(me, hint)
    }

    #[cold]
    fn search(&self, me: OwnerId, hint: usize) -> Option<usize> {
        let take = |index: &usize| {
            let word = &self.words[*index];
            // SeqCst: after the announcement of who waits; pairs with free() and recover().
            let seen = word.load(SeqCst);
            holder(seen).is_none() && word.compare_exchange(seen, me.bits(), SeqCst, Relaxed).is_ok()
        };
        self.from(hint).find(take)
    }

    /// All indices, from `hint` on.
    fn from(&self, hint: usize) -> impl Iterator<Item = usize> {
        let hint = if hint < self.words.len() { hint } else { 0 };
        (hint..self.words.len()).chain(0..hint)
    }

    /// Waits for a permit; `None` if none came until the deadline.
    #[cold]
    pub(crate) fn acquire_contended(
        &self,
        me: OwnerId,
        hint: usize,
        deadline: Deadline,
        tend: impl FnMut(),
    ) -> Option<usize> {
        self.waiters.wait(deadline, tend, || self.try_acquire(me, hint))
    }

    /// Gives the permit `index` back, which a guard of `me` has.
    #[inline]
    pub(crate) fn free(&self, index: usize, me: OwnerId) -> bool {
        // Pairs with try_acquire(). SeqCst: before the look at the waiters.
        let is_mine = |word: &AtomicU32| word.compare_exchange(me.bits(), 0, SeqCst, Relaxed).is_ok();
        let freed = self.words.get(index).is_some_and(is_mine);
        if freed {
            self.waiters.notify_one();
        }
        freed
    }

    /// From now on the permit `index`, which is the caller's, is anybody's to give back.
    pub(crate) fn keep(&self, index: usize) {
        if let Some(word) = self.words.get(index) {
            word.fetch_or(KEPT, Relaxed); // who gives it back sees no more than that
        }
    }

    /// Gives back a permit that was kept: one of `me` if there is any, else anybody's. False: nobody has kept one.
    pub(crate) fn free_kept(&self, me: OwnerId, hint: usize) -> bool {
        let free = |index: usize, is_meant: &dyn Fn(u32) -> bool| {
            let word = &self.words[index];
            let seen = word.load(Relaxed);
            // As in free().
            is_meant(seen) && word.compare_exchange(seen, 0, SeqCst, Relaxed).is_ok()
        };
        let freed = self.from(hint).any(|index| free(index, &|word| word == me.bits() | KEPT))
            || self.from(hint).any(|index| free(index, &is_kept));
        if freed {
            self.waiters.notify_one();
        }
        freed
    }

    /// How many are free.
    pub(crate) fn available(&self) -> usize {
        self.words.iter().filter(|word| holder(word.load(Relaxed)).is_none()).count()
    }

    /// Frees the permits of `dead`. Idempotent; any number of processes may do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut has_freed = false;
        for word in self.words {
            let mut seen = word.load(Relaxed);
            while holder(seen) == Some(dead) {
                // Pairs with try_acquire(). SeqCst: before the look at the waiters.
                match word.compare_exchange(seen, 0, SeqCst, Relaxed) {
                    Ok(_) => {
                        has_freed = true;
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
        }
        if has_freed {
            self.waiters.notify_all();
        }
    }

    /// Frees the permits of everybody who is not `alive`: the dead, and those who never were, of damaged bytes.
    pub(crate) fn expel(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let mut last = None;
        for word in self.words {
            let Some(id) = holder(word.load(Relaxed)) else { continue };
            // Each call is a system call, and neighbours are often of one process.
            if last != Some(id) && !alive(id) {
                self.recover(id);
            }
            last = Some(id);
        }
    }
}

#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};
#[cfg(not(loom))]
pub use handle::{BoundedSemaphore, Permit};

#[cfg(not(loom))]
mod handle;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

    fn words(count: usize) -> (Waiters, Vec<AtomicU32>) {
        (Waiters::new(), (0..count).map(|_| AtomicU32::new(0)).collect())
    }

    #[test]
    fn each_permit_has_a_holder() {
        let (waiters, words) = words(3);
        let permits = Permits { waiters: &waiters, words: &words };
        let (a, b) = (id(1), id(2));
        assert_eq!(permits.try_acquire(a, 2), Some(2));
        assert_eq!(permits.try_acquire(b, 2), Some(0));
        assert_eq!(permits.try_acquire(a, 77), Some(1), "a hint out of range is none");
        assert_eq!((permits.try_acquire(b, 0), permits.available()), (None, 0));
        assert!(!permits.free(2, b) && !permits.free(9, a) && permits.free(2, a) && !permits.free(2, a));
        permits.recover(b);
        permits.recover(b);
        assert_eq!(permits.available(), 2);
    }

    #[test]
    fn what_is_kept_is_anybodys_to_give_back() {
        let (waiters, words) = words(2);
        let permits = Permits { waiters: &waiters, words: &words };
        let (a, b) = (id(1), id(2));
        permits.try_acquire(a, 0).unwrap();
        assert!(!permits.free_kept(a, 0) && !permits.free_kept(b, 0), "a guard has it");
        permits.keep(0);
        assert!(!permits.free(0, a), "no guard has it any more");
        permits.try_acquire(b, 1).unwrap();
        permits.keep(1);
        assert!(permits.free_kept(b, 0) && holder(words[0].load(Relaxed)) == Some(a), "its own first");
        assert!(permits.free_kept(b, 0) && !permits.free_kept(b, 0));
        assert_eq!(permits.available(), 2);
    }

    #[test]
    fn nobody_holds_a_damaged_word_for_ever() {
        let (waiters, words) = words(3);
        let permits = Permits { waiters: &waiters, words: &words };
        words[0].store(1023 | KEPT, Relaxed);
        words[1].store(id(9).bits(), Relaxed);
        words[2].store(id(9).bits() | 1 << 31, Relaxed);
        assert_eq!(permits.available(), 1);
        permits.expel(|owner| owner != id(9));
        assert_eq!(permits.available(), 3);
        assert!((0..3).all(|_| permits.try_acquire(id(1), 0).is_some()));
    }
}
