//! A one-time initialisation by one of many processes. If the initialiser dies, the next one
//! begins.
//!
//! Not reentrant: an initialiser that begins again deadlocks. Not fair: a caller can overtake
//! waiters.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | the initialiser's id; 0 for none, 1 for complete |
//! | 30 | a waiter may be asleep |
//! | 31 | an initialiser has failed: it died, panicked or abandoned |
//!
//! | owner | failed | meaning | next |
//! |---|---|---|---|
//! | 0 | 0 | not begun, the fresh state | an initialiser swaps in its id |
//! | 0 | 1 | begun, and not completed | the same, and it learns of the failure |
//! | id | 0 or 1 | initialisation is under way | completing sets 1; abandoning or a reaper sets 0 |
//! | 1 | 0 | complete, for ever | none; a late waiter may set bit 30 |
//! | 2..1024 | any | damage: ids begin at 1024 | counts as failed |
//!
//! # Memory ordering
//!
//! Completing and abandoning are Release. Beginning, and reading that it is complete, are Acquire.
//! So all participants see what the initialiser did, including one that failed. The owner and the
//! waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! - **Initialiser dies.** Noticed by: a waiter at the end of its slice; reapers. Repair:
//!   [`recover`](State::recover) marks the failure and wakes all waiters, of which one begins.
//!   Lost: nothing; partial results may remain.
//! - **Initialiser dies between completing and waking.** Noticed by: sleepers, at the end of their
//!   slice. Repair: they retry. Lost: up to 50 ms.
//! - **Waiter dies.** Noticed by: nobody. Repair: none; a wake reaches no waiter. Lost: nothing.
//! - **Waiter dies woken after a failure.** Noticed by: the others, because all were woken. Repair:
//!   another one begins. Lost: nothing.
//! - **Reaper dies or stops between its swap and its wake.** Noticed by: sleepers, at the end of
//!   their slice. Repair: they retry. Lost: up to 50 ms.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;
use crate::wait::wait;

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// In place of the owner.
const COMPLETE: u32 = 1;
/// A waiter may be asleep.
const WAITING: u32 = 1 << 30;
/// An initialiser has failed.
const FAILED: u32 = 1 << 31;

fn is_complete(word: u32) -> bool {
    word & OWNER == COMPLETE
}

/// Returns the initialiser, if the id is a possible one.
fn initialiser(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

/// Returns the word after `me` has begun; `None` if it is complete or another participant has
/// begun.
fn begun(word: u32, me: OwnerId) -> Option<u32> {
    if is_complete(word) || initialiser(word).is_some() {
        return None;
    }
    let is_damaged = word & OWNER != 0;
    Some(me.bits() | word & (WAITING | FAILED) | if is_damaged { FAILED } else { 0 })
}

/// Returns the word after its initialiser has failed. Keeps the waiter bit, so that other reapers
/// wake too.
fn failed(word: u32) -> u32 {
    word & WAITING | FAILED
}

/// The outcome of an attempt to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Nothing is left to do.
    Complete,
    /// The caller is the initialiser.
    Mine {
        /// Whether an earlier initialiser has failed.
        after_failure: bool,
    },
}

/// The memory side of a `Once`. Zero is the fresh state.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct State {
    futex: Futex,
}

impl State {
    /// Creates the fresh state.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> State {
        State { futex: Futex::new(0) }
    }

    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        is_complete(self.futex.word.load(Acquire)) // pairs with complete()
    }

    /// Makes the caller the initialiser, unless the state is complete. `None` if another
    /// participant initialises.
    pub(crate) fn try_begin(&self, me: OwnerId) -> Option<Begun> {
        let mut seen = self.futex.word.load(Acquire); // pairs with complete()
        while let Some(next) = begun(seen, me) {
            // Pairs with give_up() and recover().
            match self.futex.word.compare_exchange_weak(seen, next, Acquire, Acquire) {
                Ok(_) => return Some(Begun::Mine { after_failure: next & FAILED != 0 }),
                Err(now) => seen = now,
            }
        }
        is_complete(seen).then_some(Begun::Complete)
    }

    /// Makes the caller the initialiser, or blocks until the state is complete; `None` at the
    /// deadline. At the end of each slice, calls `reap_dead` with the initialiser, so that it can
    /// check whether the initialiser is alive.
    #[cold]
    pub(crate) fn begin(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut reap_dead: impl FnMut(Option<OwnerId>),
    ) -> Option<Begun> {
        let reap_dead = || reap_dead(self.initialiser());
        wait(&self.futex, deadline, reap_dead, || self.try_begin(me), || self.announce())
    }

    /// Blocks until it is complete. Returns false at the deadline.
    #[cold]
    pub(crate) fn wait(&self, deadline: Deadline, mut reap_dead: impl FnMut(Option<OwnerId>)) -> bool {
        let reap_dead = || reap_dead(self.initialiser());
        let attempt = || self.is_complete().then_some(());
        wait(&self.futex, deadline, reap_dead, attempt, || self.announce()).is_some()
    }

    /// Sets the waiter bit before the caller sleeps. Returns the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed) | WAITING
    }

    /// Completes what `me` has begun, and wakes all waiters. Returns false if `me` had not begun,
    /// which only damage can cause.
    pub(crate) fn complete(&self, me: OwnerId) -> bool {
        self.end(me, |_| COMPLETE)
    }

    /// Abandons the initialisation of `me`, and wakes all waiters, so that another participant can
    /// begin. Returns like `complete`.
    pub(crate) fn give_up(&self, me: OwnerId) -> bool {
        self.end(me, failed)
    }

    fn end(&self, me: OwnerId, end: impl Fn(u32) -> u32) -> bool {
        let mut seen = self.futex.word.load(Relaxed);
        while initialiser(seen) == Some(me) {
            // Pairs with is_complete() and try_begin().
            match self.futex.word.compare_exchange_weak(seen, end(seen), Release, Relaxed) {
                Ok(_) => {
                    if seen & WAITING != 0 {
                        self.futex.wake(u32::MAX);
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Lets another participant begin if `dead` has begun. Idempotent; any number of processes may
    /// call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut seen = self.futex.word.load(Relaxed);
        while initialiser(seen) == Some(dead) {
            // Pairs with try_begin(). Acquire, so that what the dead one did is passed on.
            match self.futex.word.compare_exchange_weak(seen, failed(seen), AcqRel, Relaxed) {
                Ok(_) => seen = failed(seen),
                Err(now) => seen = now,
            }
        }
        // Our own mark, or that of a reaper that may have died before its wake.
        if initialiser(seen).is_none() && seen & (WAITING | FAILED) == WAITING | FAILED {
            self.futex.wake(u32::MAX);
        }
    }

    /// Returns the initialiser. Racy.
    pub(crate) fn initialiser(&self) -> Option<OwnerId> {
        initialiser(self.futex.word.load(Relaxed))
    }

    /// Returns true if an initialiser has failed, and none has completed since.
    pub(crate) fn has_failed(&self) -> bool {
        self.futex.word.load(Relaxed) & FAILED != 0
    }

    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

    #[test]
    fn words() {
        let me = id(3);
        assert_eq!(begun(0, me), Some(me.bits()));
        assert_eq!(begun(WAITING | FAILED, me), Some(me.bits() | WAITING | FAILED));
        assert_eq!(begun(700, me), Some(me.bits() | FAILED), "damage");
        assert_eq!((begun(COMPLETE | WAITING, me), begun(id(4).bits() | FAILED, me)), (None, None));
        assert_eq!(failed(me.bits() | WAITING), WAITING | FAILED);
        assert!(is_complete(COMPLETE | WAITING) && !is_complete(0) && !is_complete(me.bits() | COMPLETE));
    }

    #[test]
    fn begun_given_up_died_and_completed() {
        let (state, a, b) = (State::new(), id(1), id(2));
        assert_eq!(state.try_begin(a), Some(Begun::Mine { after_failure: false }));
        assert_eq!(state.try_begin(b), None);
        assert_eq!(state.begin(b, Deadline::At(0), |_| ()), None);
        assert!(!state.give_up(b) && !state.complete(b) && state.give_up(a));
        assert_eq!(state.try_begin(b), Some(Begun::Mine { after_failure: true }));
        state.recover(a);
        assert_eq!(state.initialiser(), Some(b), "an initialiser that is not dead keeps its role");
        state.recover(b);
        state.recover(b);
        assert_eq!(state.try_begin(a), Some(Begun::Mine { after_failure: true }));
        assert!(!state.wait(Deadline::At(0), |_| ()) && state.complete(a) && !state.complete(a));
        assert_eq!((state.try_begin(b), state.has_failed()), (Some(Begun::Complete), false));
        assert!(state.is_complete() && state.wait(Deadline::Never, |_| ()));
    }
}
