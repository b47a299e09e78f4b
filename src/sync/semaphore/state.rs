//! A semaphore: a count of permits on one futex word.
//!
//! It is for signals, not for ownership: any participant may release, and the count has no owners.
//! So the permits of a process that is killed between `acquire` and `release` are lost. Unfair: a
//! caller that arrives at the right moment can overtake sleeping waiters.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..31 | permits |
//! | 31 | a waiter may be asleep |
//!
//! Zero is a fresh state too: no permits, no waiters. A waiter sleeps only while the word is
//! exactly "no permits, and a waiter may be asleep", so every release finds the bit or keeps the
//! waiter awake.
//!
//! # Memory ordering
//!
//! `release` is a Release read-modify-write and `try_acquire` an Acquire one. So an acquirer sees
//! what came before the release that made its permit. The count and the waiter bit share the word,
//! so no wake-up is lost.
//!
//! # Death
//!
//! - **Holder of a permit dies.** Noticed by: nobody can. Repair: none. Lost: the permit.
//! - **Waiter dies announced or asleep.** Noticed by: the next release, with a wake that reaches no
//!   waiter. Repair: it clears the bit. Lost: nothing.
//! - **Waiter dies woken, before it took the permit.** Noticed by: another sleeper, at the end of
//!   its slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Releaser dies between the swap and the wake.** Noticed by: a sleeper, at the end of its
//!   slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Releaser dies between clearing the bit and the wake after it.** Noticed by: the same.
//!   Repair: the same. Lost: up to 50 ms.

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;
use crate::wait::wait;

/// The largest count.
pub(super) const MAX_PERMITS: u32 = WAITING - 1;
/// A waiter may be asleep.
const WAITING: u32 = 1 << 31;

fn permits(word: u32) -> u32 {
    word & MAX_PERMITS
}

/// Returns the word with one permit less; `None` if there is none.
#[inline]
fn after_acquire(word: u32) -> Option<u32> {
    (permits(word) > 0).then(|| word - 1)
}

/// Returns the word with `count` permits more; `None` if they are too many.
#[inline]
fn after_release(word: u32, count: u32) -> Option<u32> {
    (count <= MAX_PERMITS - permits(word)).then(|| word + count)
}

/// The memory side.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Counter {
    pub(super) futex: Futex,
}

impl Counter {
    /// Creates a counter with `permits` permits.
    #[cfg(any(test, loom))]
    pub(crate) fn new(permits: u32) -> Counter {
        Counter { futex: Futex::new(permits) }
    }

    pub(crate) fn permits(&self) -> u32 {
        permits(self.futex.word.load(Relaxed))
    }

    /// Returns true if a waiter may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        while let Some(next) = after_acquire(seen) {
            match word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) => return true, // pairs with release()
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Blocks until it has acquired a permit. Returns false at the deadline.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> bool {
        self.try_acquire() || self.acquire_contended(deadline)
    }

    #[cold]
    fn acquire_contended(&self, deadline: Deadline) -> bool {
        let attempt = || self.try_acquire().then_some(());
        wait(&self.futex, deadline, || (), attempt, || self.announce()).is_some()
    }

    /// Sets the waiter bit before the caller sleeps. Returns the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed);
        WAITING // and no permits: if there is one, try again instead of sleeping
    }

    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Wakes another waiter in place of the caller, which slept here, may have been woken for a
    /// permit, and does not take it.
    pub(crate) fn pass_on(&self) {
        if self.is_waited_on() {
            self.wake(1);
        }
    }

    /// Adds `count` permits. Returns false if the count would be too large; then nothing has
    /// changed.
    #[inline]
    pub(crate) fn release(&self, count: u32) -> bool {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        while let Some(next) = after_release(seen, count) {
            match word.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => {
                    // pairs with try_acquire()
                    if seen & WAITING != 0 {
                        self.wake(count);
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    #[cold]
    fn wake(&self, count: u32) {
        if self.futex.wake(count) < count {
            // No sleeper is left, so the bit is stale. A waiter that fell asleep since the wake
            // above is woken here, and announces itself again.
            self.futex.word.fetch_and(!WAITING, Relaxed);
            self.futex.wake(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(after_acquire(0), None);
        assert_eq!(after_acquire(WAITING), None);
        assert_eq!(after_acquire(WAITING | 3), Some(WAITING | 2));
        assert_eq!(after_release(WAITING, MAX_PERMITS), Some(u32::MAX));
        assert_eq!(after_release(u32::MAX, 0), Some(u32::MAX));
        assert_eq!(after_release(1, MAX_PERMITS), None);
        assert_eq!(after_release(0, u32::MAX), None);
    }

    #[test]
    fn counting() {
        let counter = Counter::new(1);
        assert!(counter.try_acquire() && !counter.try_acquire());
        assert!(!counter.acquire(Deadline::At(0)));
        assert!(counter.release(2) && counter.permits() == 2);
        assert!(!counter.release(MAX_PERMITS - 1) && counter.permits() == 2);
        counter.futex.word.fetch_or(WAITING, Relaxed);
        assert!(counter.release(1) && !counter.is_waited_on(), "nobody was asleep");
        assert_eq!(counter.permits(), 3);
    }
}
