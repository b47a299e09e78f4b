//! Once: something is initialised once, by one of many processes, and if that one dies, by the next.
//!
//! Not recursive: an initialiser that begins again waits for itself. Not fair: who comes may begin before those who wait.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | who initialises; 0 for nobody, 1 for complete |
//! | 30 | somebody may be asleep |
//! | 31 | an initialiser has failed: died, panicked or given up |
//!
//! | owner | failed | meaning | who moves it on |
//! |---|---|---|---|
//! | 0 | 0 | nobody has begun, the fresh state | whoever begins: swap to its id |
//! | 0 | 1 | begun, and not completed | whoever begins, and is told |
//! | id | 0 or 1 | somebody initialises | it: to complete, or gives up: to 0; a reaper: to 0 |
//! | 1 | 0 | complete, for ever | nobody; who was asleep or about to be may set bit 30 |
//! | 2..1024 | any | damage: no id is so small | counts as failed |
//!
//! # Memory ordering
//!
//! Completing and giving up are Release; beginning, and seeing that it is complete, are Acquire: everybody sees what the initialiser
//! did, also what one that failed did. Owner and waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | initialiser dies | a waiter's tend, at the end of its slice; reapers | [`recover`](State::recover) marks the failure and wakes all: one of them begins | what it had done by half may be there |
//! | initialiser dies between completing and waking | sleepers, at the end of their slice | themselves | up to 50 ms |
//! | waiter dies | nobody needs to | a wake that reaches nobody | nothing |
//! | waiter dies woken after a failure | all were woken | another one begins | nothing |
//! | reaper dies or stops between its swap and its wake | sleepers, at the end of their slice | themselves | up to 50 ms |

#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod value;

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::owner::OwnerId;
use crate::sync::wait::wait;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;

#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};
#[cfg(not(loom))]
pub use handle::{Initialiser, Once, OnceError};
#[cfg(not(loom))]
pub use value::{OnceValue, SetError};

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// In the owner's place.
const COMPLETE: u32 = 1;
/// Somebody may be asleep.
const WAITING: u32 = 1 << 30;
/// An initialiser has failed.
const FAILED: u32 = 1 << 31;

fn is_complete(word: u32) -> bool {
    word & OWNER == COMPLETE
}

/// Who initialises, if anybody can.
fn initialiser(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

/// The word once `me` has begun; `None` if it is complete or somebody else has.
fn begun(word: u32, me: OwnerId) -> Option<u32> {
    if is_complete(word) || initialiser(word).is_some() {
        return None;
    }
    let is_damaged = word & OWNER != 0;
    Some(me.bits() | word & (WAITING | FAILED) | if is_damaged { FAILED } else { 0 })
}

/// The word once its initialiser has failed. Keeps the waiter bit: who reaps too wakes too.
fn failed(word: u32) -> u32 {
    word & WAITING | FAILED
}

/// How things stood when somebody wanted to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// There is nothing to do.
    Complete,
    /// The caller initialises.
    Mine {
        /// Somebody before it has failed.
        after_failure: bool,
    },
}

/// The memory side. Zero is the fresh state.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct State {
    futex: Futex,
}

impl State {
    /// Nobody has begun.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> State {
        State { futex: Futex::new(0) }
    }

    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        is_complete(self.futex.word.load(Acquire)) // pairs with complete()
    }

    /// Begins, unless that is not needed any more. `None`: somebody else is at it.
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

    /// Begins, or waits until that is not needed any more; `None` if neither happened before the deadline. At the end of each
    /// slice `tend` gets whoever initialises, to have a look whether it is alive.
    #[cold]
    pub(crate) fn begin(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut tend: impl FnMut(Option<OwnerId>),
    ) -> Option<Begun> {
        let tend = || tend(self.initialiser());
        wait(&self.futex, deadline, tend, || self.try_begin(me), || self.announce())
    }

    /// Waits until it is complete, whoever does that. False: not before the deadline.
    #[cold]
    pub(crate) fn wait(&self, deadline: Deadline, mut tend: impl FnMut(Option<OwnerId>)) -> bool {
        let tend = || tend(self.initialiser());
        let attempt = || self.is_complete().then_some(());
        wait(&self.futex, deadline, tend, attempt, || self.announce()).is_some()
    }

    /// Says that somebody is about to sleep; gives the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed) | WAITING
    }

    /// Ends what `me` has begun, and wakes all. False: it had not, which only damage can bring about.
    pub(crate) fn complete(&self, me: OwnerId) -> bool {
        self.end(me, |_| COMPLETE)
    }

    /// Likewise, without having done it: somebody else may begin.
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

    /// Lets somebody else begin if `dead` has. Idempotent; any number of processes may do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut seen = self.futex.word.load(Relaxed);
        while initialiser(seen) == Some(dead) {
            // Pairs with try_begin(). Acquire: what the dead one did is passed on.
            match self.futex.word.compare_exchange_weak(seen, failed(seen), AcqRel, Relaxed) {
                Ok(_) => seen = failed(seen),
                Err(now) => seen = now,
            }
        }
        // Ours, or that of a reaper that may not have come to wake.
        if initialiser(seen).is_none() && seen & (WAITING | FAILED) == WAITING | FAILED {
            self.futex.wake(u32::MAX);
        }
    }

    /// Who is at it. Racy.
    pub(crate) fn initialiser(&self) -> Option<OwnerId> {
        initialiser(self.futex.word.load(Relaxed))
    }

    /// Whether somebody has failed, and nobody has completed it since.
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
        assert_eq!(state.initialiser(), Some(b), "who is not dead is not robbed");
        state.recover(b);
        state.recover(b);
        assert_eq!(state.try_begin(a), Some(Begun::Mine { after_failure: true }));
        assert!(!state.wait(Deadline::At(0), |_| ()) && state.complete(a) && !state.complete(a));
        assert_eq!((state.try_begin(b), state.has_failed()), (Some(Begun::Complete), false));
        assert!(state.is_complete() && state.wait(Deadline::Never, |_| ()));
    }
}
