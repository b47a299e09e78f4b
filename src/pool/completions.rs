//! The slots that a worker has finished: a hint, so that the pool need not check all slots.
//!
//! # State
//!
//! Bit n: the worker has finished slot n, and the pool has not checked it since. Only the slot's
//! word ([`super::slot`]) is authoritative. A bit may be left over from a run that was collected
//! without it, and the bit of a finished run may be late, because the worker was stopped before it.
//!
//! # Memory ordering
//!
//! A worker moves the word to DONE, reports here, and wakes the waiter if the word said so. So a
//! woken waiter finds the bit. A waiter that finds the word at DONE must check the word itself,
//! because no worker will wake it; and so must every waiter at the end of a slice.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::pool::run_queue::SLOTS;

/// The bits of one worker.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Completions([AtomicU64; SLOTS.div_ceil(64)]);

impl Completions {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Completions {
        Completions(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Reports that `slot` is finished. Called after its word says so.
    pub(crate) fn report(&self, slot: usize) {
        self.0[slot / 64].fetch_or(1 << (slot % 64), AcqRel); // pairs with take()
    }

    /// Calls `f` with each slot that was reported since the last call.
    pub(crate) fn take(&self, mut f: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Acquire); // pairs with report()
            while bits != 0 {
                f(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}
