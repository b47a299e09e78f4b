//! A semaphore: a count of permits on one futex word.
//!
//! It is for signals, not for ownership: any participant may release, and the count has no owners.
//! So the permits of a process that is killed between `acquire` and `release` are lost. Unfair: a
//! caller that arrives at the right moment can overtake sleeping waiters.
//!
//! # State
//!
//! Of the word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..31 | permits |
//! | 31 | a waiter may be asleep |
//!
//! Zero is a fresh state too: no permits, no waiters. A waiter sleeps only while the word is
//! exactly "too few permits, and a waiter may be asleep", so every release finds the bit or keeps
//! the waiter awake.
//!
//! A second word, `several`, is 1 as soon as a waiter has ever asked for more than one permit. A
//! release of fewer permits may not suffice for that waiter but for another, and nobody knows which
//! of them a wake-up reaches. So from then on each release wakes all waiters. The word never
//! becomes 0 again, because the death of such a waiter would leave it set anyway.
//!
//! # Memory ordering
//!
//! `release` is a Release read-modify-write and `try_acquire` an Acquire one. So an acquirer sees
//! what came before the release that made its permit. The count and the waiter bit share the word,
//! so no wake-up is lost. `several` is stored before the waiter bit is set with Release
//! (`announce`). A release that finds the bit passes an Acquire fence and then loads `several`
//! (`wake`).
//!
//! # Death
//!
//! - **Holder of a permit dies.** Noticed by: no process. Repair: none. Lost: the permit.
//! - **Waiter dies announced or asleep.** Noticed by: the next release, with a wake that reaches no
//!   waiter. Repair: it clears the bit. Lost: nothing.
//! - **Waiter dies woken, before it took the permit.** Noticed by: another sleeper, at the end of
//!   its slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Releaser dies between the swap and the wake.** Noticed by: a sleeper, at the end of its
//!   slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Releaser dies between clearing the bit and the wake after it.** Noticed by: the same.
//!   Repair: the same. Lost: up to 50 ms.

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::atomic::{fence, AtomicU32};
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

/// Returns the word with `count` permits less; `None` if there are fewer.
#[inline]
fn after_acquire(word: u32, count: u32) -> Option<u32> {
    (permits(word) >= count).then(|| word - count)
}

/// Returns the value of the word at which a waiter for `count` permits may sleep, after it has set
/// the waiter bit of `word`. The value always has too few permits. If there are enough now, and
/// others take them and release them again, the waiter does not sleep.
fn to_sleep_on(word: u32, count: u32) -> u32 {
    permits(word).min(count.saturating_sub(1)) | WAITING
}

/// Returns the word with `count` permits more; `None` if they are too many.
#[inline]
fn after_release(word: u32, count: u32) -> Option<u32> {
    (count <= MAX_PERMITS - permits(word)).then(|| word + count)
}

/// The memory side of a semaphore.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Counter {
    pub(super) futex: Futex,
    /// Not 0 if a waiter has ever asked for more than one permit.
    several: AtomicU32,
}

const _: () = assert!(size_of::<Counter>() == 8);

impl Counter {
    /// Creates a counter with `permits` permits.
    #[cfg(any(test, loom))]
    pub(crate) fn new(permits: u32) -> Counter {
        Counter { futex: Futex::new(permits), several: AtomicU32::new(0) }
    }

    pub(crate) fn permits(&self) -> u32 {
        permits(self.futex.word.load(Relaxed))
    }

    /// Returns true if a waiter may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Acquires `count` permits, or none.
    #[inline]
    pub(crate) fn try_acquire(&self, count: u32) -> bool {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        while let Some(next) = after_acquire(seen, count) {
            match word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) => return true, // pairs with release()
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Blocks until it has acquired `count` permits at once. Returns false at the deadline; then it
    /// has acquired none.
    #[inline]
    pub(crate) fn acquire(&self, count: u32, deadline: Deadline) -> bool {
        self.try_acquire(count) || self.acquire_contended(count, deadline)
    }

    #[cold]
    fn acquire_contended(&self, count: u32, deadline: Deadline) -> bool {
        let attempt = || self.try_acquire(count).then_some(());
        wait(&self.futex, deadline, || (), attempt, || self.announce(count)).is_some()
    }

    /// Sets the waiter bit before a caller that wants `count` permits sleeps. Returns the value to
    /// sleep on.
    pub(crate) fn announce(&self, count: u32) -> u32 {
        if count > 1 && self.several.load(Relaxed) == 0 {
            self.several.store(1, Relaxed);
        }
        // Release: pairs with the fence in wake().
        to_sleep_on(self.futex.word.fetch_or(WAITING, Release), count)
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
        fence(Acquire); // pairs with announce()
        let count = if self.several.load(Relaxed) == 0 { count } else { u32::MAX };
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
        assert_eq!(after_acquire(0, 1), None);
        assert_eq!(after_acquire(WAITING, 1), None);
        assert_eq!(after_acquire(WAITING | 3, 1), Some(WAITING | 2));
        assert_eq!((after_acquire(WAITING | 3, 3), after_acquire(WAITING | 3, 4)), (Some(WAITING), None));
        assert_eq!((after_acquire(WAITING, 0), after_acquire(u32::MAX, u32::MAX)), (Some(WAITING), None));
        assert_eq!((to_sleep_on(2, 1), to_sleep_on(WAITING, 1)), (WAITING, WAITING));
        assert_eq!((to_sleep_on(2, 4), to_sleep_on(WAITING | 7, 4)), (WAITING | 2, WAITING | 3));
        assert_eq!(after_release(WAITING, MAX_PERMITS), Some(u32::MAX));
        assert_eq!(after_release(u32::MAX, 0), Some(u32::MAX));
        assert_eq!(after_release(1, MAX_PERMITS), None);
        assert_eq!(after_release(0, u32::MAX), None);
    }

    #[test]
    fn counting() {
        let counter = Counter::new(1);
        assert!(counter.try_acquire(1) && !counter.try_acquire(1));
        assert!(!counter.acquire(1, Deadline::At(0)));
        assert!(counter.release(2) && !counter.try_acquire(3) && counter.permits() == 2);
        assert!(!counter.release(MAX_PERMITS - 1) && counter.permits() == 2);
        counter.futex.word.fetch_or(WAITING, Relaxed);
        assert!(counter.release(1) && !counter.is_waited_on(), "nobody was asleep");
        assert_eq!(counter.permits(), 3);
    }
}
