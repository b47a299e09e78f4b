//! The epoch of the current process of a model: see `sys/fork.rs`, whose twin this is. A process of
//! a model is made as `fork` makes one: it has all handles of its parent, and an epoch of its own.

use crate::loom::process;

/// Returns the epoch of the current process.
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    process::epoch()
}

/// Returns the [`epoch`]: every process of a model has one.
pub(crate) fn ensure_epoch() -> u32 {
    process::epoch()
}

/// Nothing: nobody forks while a model's thread is between two steps.
#[derive(Debug)]
pub(crate) struct Window(());

pub(crate) fn window() -> Window {
    Window(())
}
