//! The handoff between a set and one helper thread: which of them owns the list of words, and when
//! the helper sleeps on them.
//!
//! # State
//!
//! | word | owner of the list | changed by |
//! |---|---|---|
//! | IDLE | the set | the set: arms it, or ends it |
//! | ARMED | the helper, which sleeps on its words and on this one | helper or set, see below |
//! | DISMISSED | the helper; the set waits to get it back | the helper |
//! | OVER | nobody: the helper ends | nobody |
//!
//! ARMED ends when the helper is woken by any of its words, or when the set dismisses it.
//!
//! Zero is the fresh state. The set arms and dismisses within one sleep of its own, so outside of a
//! wait all words are IDLE.
//!
//! # Memory ordering
//!
//! The list passes to the helper with the Release of [`arm`](Orders::arm) and the Acquire of
//! [`next`](Orders::next). It returns with those of [`done`](Orders::done) and
//! [`wait_idle`](Orders::wait_idle).
//!
//! # Death
//!
//! Both are threads of one process and die together.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sys::clock::Until;
use crate::sys::futex::{Futex, WaitTarget};

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const DISMISSED: u32 = 2;
const OVER: u32 = 3;

/// The orders of a set to one helper.
#[derive(Debug)]
pub(crate) struct Orders {
    futex: Futex,
}

impl Orders {
    /// Creates orders that are idle.
    pub(crate) fn new() -> Orders {
        Orders { futex: Futex::new(IDLE) }
    }

    /// Hands over the list, which is complete. Only the set calls this, when idle.
    pub(crate) fn arm(&self) {
        self.futex.word.store(ARMED, Release); // pairs with next()
        self.futex.wake(u32::MAX);
    }

    /// Ends the helper's sleep. Only the set calls this. The helper may have been woken already.
    pub(crate) fn dismiss(&self) {
        if self.futex.word.compare_exchange(ARMED, DISMISSED, Relaxed, Relaxed).is_ok() {
            self.futex.wake(u32::MAX);
        }
    }

    /// Blocks until the list belongs to the set again and the helper does not sleep on its words.
    pub(crate) fn wait_idle(&self) {
        // Pairs with done().
        while self.futex.word.load(Acquire) == DISMISSED {
            self.futex.wait(DISMISSED, Until::Never);
        }
    }

    /// Ends the helper. Only the set calls this, when idle.
    pub(crate) fn end(&self) {
        self.futex.word.store(OVER, Release);
        self.futex.wake(u32::MAX);
    }

    /// Blocks until the helper, which calls this, gets a list. Returns false if it is to end.
    pub(crate) fn next(&self) -> bool {
        loop {
            match self.futex.word.load(Acquire) {
                IDLE => _ = self.futex.wait(IDLE, Until::Never),
                OVER => return false,
                _ => return true, // pairs with arm()
            }
        }
    }

    /// Returns the word that the helper sleeps on beside its list, so that it can be dismissed.
    pub(crate) fn target(&self) -> WaitTarget {
        WaitTarget::new(&self.futex, ARMED)
    }

    /// Returns whether the set still sleeps. Only the helper calls this. The answer may be stale.
    /// Then the helper rings once needlessly before `done`, and the set silences the bell after
    /// that.
    pub(crate) fn is_armed(&self) -> bool {
        self.futex.word.load(Relaxed) == ARMED
    }

    /// Returns the list. Only the helper calls this. It does not sleep on it any more.
    pub(crate) fn done(&self) {
        // AcqRel: a dismissal that this overwrites happened before it. Pairs with wait_idle().
        if self.futex.word.swap(IDLE, AcqRel) == DISMISSED {
            self.futex.wake(u32::MAX);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_list_goes_to_the_helper_and_back() {
        let orders = Orders::new();
        orders.arm();
        assert!(orders.next() && orders.is_armed());
        orders.dismiss();
        assert!(!orders.is_armed());
        orders.done();
        orders.wait_idle();
        orders.arm();
        assert!(orders.next());
        orders.done();
        orders.dismiss();
        orders.wait_idle();
        orders.end();
        assert!(!orders.next());
    }
}
