//! The facade: std's atomics, or loom's under `--cfg loom`. Every word that processes share goes
//! through it.
//!
//! Some algorithms need "my write is seen, or I see yours" across two words. There the write
//! returns an [`Ordered`], and the load that must not come before the write takes one. loom models
//! `SeqCst` fences but treats `SeqCst` *accesses* as `AcqRel`. So under loom such a write is
//! followed by a fence. Outside of loom the access itself has that effect (a fence after a locked
//! instruction is free on x86). A write that returns no [`Ordered`] has no such fence in the model
//! either.
//!
//! The whole crate compiles under `--cfg loom`, and its objects work inside of a model: on memory
//! from the heap, shared by processes that are threads of the model (`pagemate::model`). What
//! differs there is small: counts, so that a model ends, and what only a kernel has.
//!
//! | module under loom | what |
//! |---|---|
//! | `atomic` | std's module, with its sizes |
//! | `twin` | the loom object of a word |
//! | `word` | a word: its twin, its sleepers, its latest value |
//! | `execution` | where the words are, mapped memory, time |
//! | `process` | processes and their deaths |
//! | `sleepers` | the threads that sleep on a word |
//! | `trace` | what is printed if a model fails |

#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

#[cfg(loom)]
pub(crate) mod atomic;
#[cfg(loom)]
pub(crate) mod execution;
#[cfg(loom)]
pub(crate) mod process;
#[cfg(loom)]
pub(crate) mod sleepers;
#[cfg(loom)]
mod trace;
#[cfg(loom)]
mod twin;
#[cfg(loom)]
mod word;

/// Restrains the compiler only, so a model needs none.
pub(crate) use std::sync::atomic::compiler_fence;

/// The proof that the caller's last write is ordered before its next `SeqCst` load, with respect to
/// all threads that order theirs likewise: by a `SeqCst` read-modify-write, or by a fence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ordered(());

impl Ordered {
    /// Orders writes of any kind by a fence. For slow paths, since it takes as long as a locked
    /// instruction.
    #[inline]
    pub(crate) fn by_fence() -> Ordered {
        atomic::fence(atomic::Ordering::SeqCst);
        Ordered(())
    }

    /// Returns the proof for the `SeqCst` read-modify-write that the caller has just made.
    #[inline(always)]
    fn by_access() -> Ordered {
        #[cfg(loom)]
        atomic::fence(atomic::Ordering::SeqCst);
        Ordered(())
    }
}

/// `SeqCst` read-modify-writes that return the proof of their order.
pub(crate) trait OrderedChange<T> {
    /// `compare_exchange`: SeqCst on success, which includes Release and Acquire. A failure has the
    /// order `failure`, and proves nothing.
    fn exchange_ordered(&self, from: T, to: T, failure: atomic::Ordering) -> Result<Ordered, T>;
    /// `fetch_add`. Returns the previous value.
    fn add_ordered(&self, count: T) -> (T, Ordered);
    /// `fetch_sub`. Returns the previous value.
    fn sub_ordered(&self, count: T) -> (T, Ordered);
    /// `fetch_or`. Returns the previous value.
    fn set_ordered(&self, bits: T) -> (T, Ordered);
}

macro_rules! ordered_change {
    ($atomic:ident, $word:ty) => {
        impl OrderedChange<$word> for atomic::$atomic {
            #[inline(always)]
            fn exchange_ordered(
                &self,
                from: $word,
                to: $word,
                failure: atomic::Ordering,
            ) -> Result<Ordered, $word> {
                self.compare_exchange(from, to, atomic::Ordering::SeqCst, failure)
                    .map(|_| Ordered::by_access())
            }

            #[inline(always)]
            fn add_ordered(&self, count: $word) -> ($word, Ordered) {
                (self.fetch_add(count, atomic::Ordering::SeqCst), Ordered::by_access())
            }

            #[inline(always)]
            fn sub_ordered(&self, count: $word) -> ($word, Ordered) {
                (self.fetch_sub(count, atomic::Ordering::SeqCst), Ordered::by_access())
            }

            #[inline(always)]
            fn set_ordered(&self, bits: $word) -> ($word, Ordered) {
                (self.fetch_or(bits, atomic::Ordering::SeqCst), Ordered::by_access())
            }
        }
    };
}

ordered_change!(AtomicU32, u32);
ordered_change!(AtomicU64, u64);

/// Passes the cheap side of an asymmetric barrier: orders this thread's earlier stores before its
/// later loads as seen by a caller of [`crate::sys::membarrier::heavy`]. Only the compiler is
/// restrained; the other side pays.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(loom)]
    atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(not(loom))]
    atomic::compiler_fence(atomic::Ordering::SeqCst);
}

/// Notes that a dead participant was reaped. In a model, whose clock does not move, this is a time
/// at which waiters check for themselves.
#[inline(always)]
pub(crate) fn note_reaping() {
    #[cfg(loom)]
    execution::note_reaping();
}

/// Pauses inside a bounded spin.
#[inline(always)]
pub(crate) fn spin_loop() {
    #[cfg(loom)]
    if !std::thread::panicking() {
        ::loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
