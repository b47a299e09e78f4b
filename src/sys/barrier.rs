//! The dear side of an asymmetric barrier: makes every running thread of every pagemate process pass a full barrier.
//!
//! A wait-free producer must look, after each publication, whether somebody sleeps. A fence there would cost more than
//! the whole push. So the sleeper pays instead: before its last look it asks the kernel to run a barrier on all cores
//! that execute a registered process (`MEMBARRIER_CMD_GLOBAL_EXPEDITED`, Linux 4.16), a few microseconds in front of a
//! sleep of tens. Where the kernel refuses, [`heavy`] is a plain fence, and a wake-up lost in the window is healed by
//! the slice of the waiting shape.

#[cfg(not(loom))]
pub(crate) use real::{heavy, register};

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};
    use std::sync::atomic::{fence, AtomicBool};

    use rustix::thread::{membarrier, MembarrierCommand};

    /// Registers this process as one whose threads [`heavy`] of any process reaches. Idempotent; inherited by `fork`.
    pub(crate) fn register() {
        // No Once: a child that was forked while another thread is inside of it would wait for that thread for ever.
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.load(Relaxed) {
            let _ = membarrier(MembarrierCommand::RegisterGlobalExpedited);
            REGISTERED.store(true, Relaxed);
        }
    }

    /// A full barrier on all cores that run registered processes. Pairs with [`crate::loom::light_fence`].
    pub(crate) fn heavy() {
        fence(SeqCst);
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
    }
}

/// Under loom both sides are the fence that the pair stands for.
#[cfg(loom)]
pub(crate) fn heavy() {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}

/// Nothing to register under loom.
#[cfg(loom)]
pub(crate) fn register() {}
