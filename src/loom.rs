//! The facade: std's atomics, or loom's under `--cfg loom`. Every word that processes share goes through it.
//!
//! loom checks `SeqCst` fences but treats `SeqCst` *accesses* as `AcqRel`. Where an algorithm needs "my store is seen,
//! or I see yours", it is written with `SeqCst` accesses (free after a locked instruction on x86) followed by
//! [`sc_fence`], which costs nothing outside of loom and is a real fence inside of it.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

#[cfg(loom)]
pub(crate) use ::loom::sync::atomic;

/// Stands for the order that `SeqCst` accesses already give. Call it between a `SeqCst` read-modify-write and the
/// `SeqCst` load that must not pass it, on both sides.
#[inline(always)]
pub(crate) fn sc_fence() {
    #[cfg(loom)]
    atomic::fence(atomic::Ordering::SeqCst);
}

/// The cheap side of an asymmetric barrier: orders this thread's earlier stores before its later loads as seen by
/// whoever calls [`crate::sys::barrier::heavy`]. Only the compiler is held back; the other side pays.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(loom)]
    atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(not(loom))]
    atomic::compiler_fence(atomic::Ordering::SeqCst);
}

/// A pause inside a bounded spin.
#[inline(always)]
pub(crate) fn spin_loop() {
    #[cfg(loom)]
    ::loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
