//! The expensive side of an asymmetric barrier: makes every running thread of every pagemate
//! process pass a full barrier.
//!
//! A wait-free producer must check, after each publication, whether a consumer sleeps. A fence
//! there would cost more than the whole push. So the sleeper pays instead: before its last check it
//! asks the kernel to run a barrier on all cores that execute a registered process
//! (`MEMBARRIER_CMD_GLOBAL_EXPEDITED`, Linux 4.16). That takes a few microseconds, before a sleep
//! that takes tens. The sleeper pays once, and not again while its announcement stays set (see
//! [`crate::wait::Waiters`]). Only processes that have a handle of such a ring are registered, so
//! others are not interrupted. If the kernel refuses, [`heavy`] is a plain fence, and the slice of
//! the waiting shape bounds the delay of a lost wake-up.

#[cfg(not(loom))]
pub(crate) use real::{heavy, register};

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};
    use std::sync::atomic::{fence, AtomicBool};

    use rustix::thread::{membarrier, MembarrierCommand};

    /// Registers this process, so that [`heavy`] of any process reaches its threads. Call it before
    /// creating the first handle that uses [`crate::loom::light_fence`]. Idempotent; inherited by
    /// `fork`. Once a process has several threads the kernel waits for a grace period of RCU, ten
    /// milliseconds (`sync_runqueues_membarrier_state` in kernel/sched/membarrier.c).
    pub(crate) fn register() {
        // No Once, because a child that was forked while another thread is inside of it would wait
        // for that thread for ever.
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.load(Relaxed) {
            let _ = membarrier(MembarrierCommand::RegisterGlobalExpedited);
            REGISTERED.store(true, Relaxed);
        }
    }

    /// Runs a full barrier on all cores that run registered processes. Pairs with
    /// [`crate::loom::light_fence`].
    pub(crate) fn heavy() {
        fence(SeqCst);
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
    }
}

/// Runs a SeqCst fence. Under loom both sides of the pair do.
#[cfg(loom)]
pub(crate) fn heavy() {
    crate::loom::atomic::fence(crate::loom::atomic::Ordering::SeqCst);
}

/// Does nothing under loom.
#[cfg(loom)]
pub(crate) fn register() {}
