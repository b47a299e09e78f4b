//! An event: a flag that processes wait for, on one futex word.
//!
//! Stricter than Python's `multiprocessing.Event`: a wait that has begun returns true once the
//! event was set, even if it was cleared again before the waiter ran. Setting never blocks.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set |
//! | 1 | a waiter may be asleep |
//! | 2..32 | number of times that bit 0 was changed to set, wrapping |
//!
//! Zero is the fresh state: not set, no waiters.
//!
//! # Memory ordering
//!
//! `set` is a Release read-modify-write, even if the flag is already set, so that it synchronises
//! with every later `clear`. `is_set`, `wait` and `clear` are Acquire. The flag and the waiter bit
//! share the word, so no wake-up is lost.
//!
//! # Death
//!
//! - **Waiter dies.** Noticed by: nobody. Repair: the next `set` clears its bit. Lost: nothing.
//! - **Setter dies between the swap and the wake.** Noticed by: sleepers, at the end of their
//!   slice. Repair: they retry. Lost: up to 50 ms.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;
use crate::wait::wait;

const SET: u32 = 1;
const WAITING: u32 = 2;
const STEP: u32 = 4;

fn is_set(word: u32) -> bool {
    word & SET != 0
}

/// Returns true if a wait that began when the word was `start` is over at `word`.
fn was_set_since(start: u32, word: u32) -> bool {
    is_set(word) || word / STEP != start / STEP
}

/// Returns the word after `set`: the flag set, the count incremented, the waiter bit cleared.
fn after_set(word: u32) -> u32 {
    (word & !WAITING).wrapping_add(STEP) | SET
}

/// The memory side of an event.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Flag {
    futex: Futex,
}

impl Flag {
    /// Creates a flag that is not set.
    #[cfg(any(test, loom, feature = "raw_sync"))]
    pub(crate) fn new() -> Flag {
        Flag { futex: Futex::new(0) }
    }

    /// Sets the flag. Async-signal-safe: a compare-and-swap loop and, if a waiter may be asleep,
    /// one system call.
    pub(crate) fn set(&self) {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        loop {
            let next = if is_set(seen) { seen } else { after_set(seen) };
            // Pairs with the Acquire of is_set(), wait() and clear().
            match word.compare_exchange_weak(seen, next, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & WAITING != 0 && !is_set(seen) {
            self.futex.wake(u32::MAX);
        }
    }

    pub(crate) fn clear(&self) {
        self.futex.word.fetch_and(!SET, AcqRel); // pairs with set(): the caller sees what preceded it
    }

    pub(crate) fn is_set(&self) -> bool {
        is_set(self.futex.word.load(Acquire)) // pairs with set()
    }

    /// Returns true if a waiter may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Blocks until the flag is set or the deadline passes. Returns true if the flag was set at any
    /// moment since the call began.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let start = self.now();
        let attempt = || self.was_set_since(start).then_some(());
        wait(&self.futex, deadline, || (), attempt, || self.announce()).is_some()
    }

    /// Returns the word, for the beginning of a wait.
    pub(crate) fn now(&self) -> u32 {
        self.futex.word.load(Acquire) // pairs with set()
    }

    /// Returns true if a wait that began at `start` is over.
    pub(crate) fn was_set_since(&self, start: u32) -> bool {
        was_set_since(start, self.futex.word.load(Acquire)) // pairs with set()
    }

    /// Sets the waiter bit before the caller sleeps. Returns the value to sleep on. An earlier
    /// `set` has changed the word's count, which a check after this call sees.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, AcqRel) | WAITING
    }

    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Blocks until the flag is set, and clears it. Returns false if the deadline passes first. If
    /// several threads wait, each set releases one of them.
    #[cfg(feature = "raw_sync")]
    pub(crate) fn take(&self, deadline: Deadline) -> bool {
        let word = &self.futex.word;
        let attempt = || {
            let seen = word.load(Relaxed);
            // Pairs with set(). Fails if the flag is no longer set: another waiter has taken it, or
            // it was cleared.
            let taken =
                || word.fetch_update(AcqRel, Relaxed, |now| is_set(now).then_some(now & !SET)).is_ok();
            (is_set(seen) && taken()).then_some(())
        };
        wait(&self.futex, deadline, || (), attempt, || word.fetch_or(WAITING, AcqRel) | WAITING).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert!(is_set(after_set(0)) && !is_set(0));
        assert_eq!(after_set(WAITING) & WAITING, 0);
        assert!(was_set_since(0, after_set(0) & !SET), "set and cleared again");
        assert!(!was_set_since(0, WAITING));
        assert!(was_set_since(!3, after_set(!3) & !SET), "the count wraps");
    }
}
