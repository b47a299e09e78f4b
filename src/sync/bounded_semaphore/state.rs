//! A bounded semaphore: one owner word for each permit, so that the permits of dead processes
//! return.
//!
//! Unfair: a caller that arrives at the right moment can overtake sleeping waiters. Acquiring scans
//! for a free word, first where this handle found the last one. So the bound is small, 4,096.
//!
//! # State
//!
//! Of each permit's word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | the holder's id; 0 for none |
//! | 30 | kept: held without a guard, so that any participant may release it |
//!
//! | owner | kept | meaning | next |
//! |---|---|---|---|
//! | 0 | 0 | free, the fresh state | the next holder swaps in its id |
//! | id | 0 | a guard has it | the guard frees or keeps it; a reaper frees it |
//! | id | 1 | held, without a guard | any caller of `release` frees it; a reaper frees it |
//! | 1..1024 | any | damage: ids begin at 1024 | counts as free |
//!
//! # Memory ordering
//!
//! Taking is Acquire and freeing is Release, so a holder sees what the previous one did. A waiter
//! announces itself and then reads the words; a releaser frees a word and then reads the waiters.
//! Both sides are `SeqCst`, so one of them sees the other.
//!
//! # Death
//!
//! - **Holder dies, with a guard or without.** Noticed by: a waiter at the end of its slice;
//!   reapers. Repair: [`recover`](Permits::recover) frees the word and wakes all waiters. Lost:
//!   nothing.
//! - **Holder dies between freeing and waking.** Noticed by: sleepers, at the end of their slice.
//!   Repair: they retry. Lost: up to 50 ms.
//! - **Waiter dies announced or asleep.** Noticed by: the next release, with a wake that reaches no
//!   waiter. Repair: it clears the bit. Lost: nothing.
//! - **Waiter dies woken, before it took the permit.** Noticed by: another sleeper, at the end of
//!   its slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Reaper dies or stops between its swap and its wake.** Noticed by: sleepers, at the end of
//!   their slice. Repair: they retry. Lost: up to 50 ms.

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{Relaxed, SeqCst};
use crate::loom::{Ordered, OrderedChange};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// Held without a guard.
const KEPT: u32 = 1 << 30;

/// Returns the holder of the permit, if the id is a possible one.
#[inline]
fn holder(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

fn is_kept(word: u32) -> bool {
    word & KEPT != 0 && holder(word).is_some()
}

/// The memory side: the waiters, and a word for each permit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permits<'a> {
    pub(crate) waiters: &'a Waiters,
    pub(crate) words: &'a [AtomicU32],
}

impl Permits<'_> {
    /// Takes a free permit. The scan begins at `hint`. Returns the permit's index.
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
            // SeqCst: after the waiter's announcement. Pairs with free() and recover().
            let seen = word.load(SeqCst);
            holder(seen).is_none() && word.compare_exchange(seen, me.bits(), SeqCst, Relaxed).is_ok()
        };
        self.from(hint).find(take)
    }

    /// Returns all indices, beginning at `hint`.
    fn from(&self, hint: usize) -> impl Iterator<Item = usize> + use<> {
        let hint = if hint < self.words.len() { hint } else { 0 };
        (hint..self.words.len()).chain(0..hint)
    }

    /// Blocks until it has taken a permit; `None` at the deadline.
    #[cold]
    pub(crate) fn acquire_contended(
        &self,
        me: OwnerId,
        hint: usize,
        deadline: Deadline,
        reap_dead: impl FnMut(),
    ) -> Option<usize> {
        self.waiters.wait(deadline, reap_dead, || self.try_acquire(me, hint))
    }

    /// Frees the permit `index`, which a guard of `me` has.
    #[inline]
    pub(crate) fn free(&self, index: usize, me: OwnerId) -> bool {
        let Some(word) = self.words.get(index) else { return false };
        // Pairs with try_acquire().
        match word.exchange_ordered(me.bits(), 0, Relaxed) {
            Ok(change) => self.waiters.notify_one(change),
            Err(_) => return false,
        }
        true
    }

    /// Lets any participant release the permit `index`, which is the caller's.
    pub(crate) fn keep(&self, index: usize) {
        if let Some(word) = self.words.get(index) {
            word.fetch_or(KEPT, Relaxed); // the one that releases it sees no more than that
        }
    }

    /// Frees a kept permit: one of `me` if there is one, else any. Returns false if there is none.
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
            self.waiters.notify_one(Ordered::by_fence());
        }
        freed
    }

    /// Returns the number of free permits.
    pub(crate) fn available(&self) -> usize {
        self.words.iter().filter(|word| holder(word.load(Relaxed)).is_none()).count()
    }

    /// Frees the permits of `dead`. Idempotent; any number of processes may call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut has_freed = false;
        for word in self.words {
            let mut seen = word.load(Relaxed);
            while holder(seen) == Some(dead) {
                // Pairs with try_acquire(). SeqCst: before the read of the waiters.
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
            self.waiters.notify_all(Ordered::by_fence());
        }
    }

    /// Frees the permits of every holder that is not `alive`: the dead, and ids from damaged bytes
    /// that never existed.
    pub(crate) fn recover_dead(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let mut last = None;
        for word in self.words {
            let Some(id) = holder(word.load(Relaxed)) else { continue };
            // Each call is a system call, and neighbours often belong to one process.
            if last != Some(id) && !alive(id) {
                self.recover(id);
            }
            last = Some(id);
        }
    }
}

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
        permits.recover_dead(|owner| owner != id(9));
        assert_eq!(permits.available(), 3);
        assert!((0..3).all(|_| permits.try_acquire(id(1), 0).is_some()));
    }
}
