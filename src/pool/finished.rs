//! Which slots a worker has finished, so that the pool need not look at all of them.
//!
//! # State
//!
//! Bit n: the worker has finished slot n, and the pool has not looked since. It is a hint. What is so is on the slot's word
//! ([`super::slot`]): a bit may stand there for a run that was seen without it, and the bit of a finished one may come late, since
//! the worker was stopped before it.
//!
//! # Memory ordering
//!
//! A worker moves the word to DONE, reports, and wakes who waits, if the word said so. So who was woken finds the bit. Who comes to
//! wait when the word is DONE already must look at the word, as nobody will wake it; and so must everybody at the end of a
//! slice.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::pool::line::SLOTS;

/// The bits of one worker.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Finished([AtomicU64; SLOTS.div_ceil(64)]);

impl Finished {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Finished {
        Finished(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Tells the pool that `slot` is finished. After its word says so.
    pub(crate) fn report(&self, slot: usize) {
        self.0[slot / 64].fetch_or(1 << (slot % 64), AcqRel); // pairs with take()
    }

    /// The slots that were reported since the last call.
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
