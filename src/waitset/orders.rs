//! Between a set and one helper thread: whose the list of words is, and when to sleep on them.
//!
//! # State
//!
//! | word | whose the list is | who moves it on |
//! |---|---|---|
//! | IDLE | the set's | the set: arms it, or ends it |
//! | ARMED | the helper's, which sleeps on its words and on this one | the helper, woken by any of them; or the set: dismisses it |
//! | DISMISSED | the helper's; the set waits to have it back | the helper |
//! | OVER | nobody's: the helper ends | nobody |
//!
//! Zero is the fresh state. The set arms and dismisses within one sleep of its own, so outside of a wait all are IDLE.
//!
//! # Memory ordering
//!
//! The list goes over with the Release of [`arm`](Orders::arm) to the Acquire of [`next`](Orders::next), and comes back
//! with that of [`done`](Orders::done) to [`settle`](Orders::settle).
//!
//! # Death
//!
//! Both are threads of one process and die together.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sys::clock::Deadline;
use crate::sys::futex::{Futex, Spot};

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const DISMISSED: u32 = 2;
const OVER: u32 = 3;

/// What a helper is to do.
#[derive(Debug)]
pub(crate) struct Orders {
    futex: Futex,
}

impl Orders {
    /// Nothing, so far.
    pub(crate) fn new() -> Orders {
        Orders { futex: Futex::new(IDLE) }
    }

    /// The set: the list is complete. Only when idle.
    pub(crate) fn arm(&self) {
        self.futex.word.store(ARMED, Release); // pairs with next()
        self.futex.wake(u32::MAX);
    }

    /// The set: enough. The helper may have been woken already.
    pub(crate) fn dismiss(&self) {
        if self.futex.word.compare_exchange(ARMED, DISMISSED, Relaxed, Relaxed).is_ok() {
            self.futex.wake(u32::MAX);
        }
    }

    /// The set, after [`dismiss`](Orders::dismiss): waits until the list is its own again and nobody sleeps on its words.
    pub(crate) fn settle(&self) {
        // Pairs with done().
        while self.futex.word.load(Acquire) == DISMISSED {
            self.futex.wait(DISMISSED, Deadline::Never);
        }
    }

    /// The set: no more orders. Only when idle.
    pub(crate) fn end(&self) {
        self.futex.word.store(OVER, Release);
        self.futex.wake(u32::MAX);
    }

    /// The helper: waits for a list. False: it is over.
    pub(crate) fn next(&self) -> bool {
        loop {
            match self.futex.word.load(Acquire) {
                IDLE => _ = self.futex.wait(IDLE, Deadline::Never),
                OVER => return false,
                _ => return true, // pairs with arm()
            }
        }
    }

    /// What the helper sleeps on beside its list, so that it can be dismissed.
    pub(crate) fn spot(&self) -> Spot {
        Spot::new(&self.futex, ARMED)
    }

    /// The helper: whether the set still sleeps. May be out of date: it then rings once too often, before it is done, and
    /// the set silences the bell after that.
    pub(crate) fn is_armed(&self) -> bool {
        self.futex.word.load(Relaxed) == ARMED
    }

    /// The helper: does not sleep any more.
    pub(crate) fn done(&self) {
        // AcqRel: a dismissal that it overwrites came before it. Pairs with settle().
        if self.futex.word.swap(IDLE, AcqRel) == DISMISSED {
            self.futex.wake(u32::MAX);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let orders = Orders::new();
        orders.arm();
        assert!(orders.next() && orders.is_armed());
        orders.dismiss();
        assert!(!orders.is_armed());
        orders.done();
        orders.settle();
        orders.arm();
        assert!(orders.next());
        orders.done();
        orders.dismiss();
        orders.settle();
        orders.end();
        assert!(!orders.next());
    }
}
