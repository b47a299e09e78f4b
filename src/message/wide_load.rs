//! Copies words that others may write to meanwhile, two at once.
//!
//! The compiler emits one load for each atomic, but the processor can load two words at once. Only
//! for readers that check afterwards whether a writer was active, because the copy may be half old
//! and half new, as with one Relaxed load after the other.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Relaxed;

/// Loads two words as Relaxed loads would.
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
#[inline(always)]
fn load_two(from: &[AtomicU64; 2]) -> std::arch::x86_64::__m128i {
    let two;
    // SAFETY: sixteen bytes are readable. Others may write to them, but a load of the machine
    // is not a data race of the language. The machine performs its loads in program order, as it
    // does those of atomics. No flags, no stack, no stores.
    unsafe {
        std::arch::asm!(
            "movups {two}, [{from}]",
            from = in(reg) from.as_ptr(),
            two = out(xmm_reg) two,
            options(readonly, nostack, preserves_flags),
        );
    }
    two
}

/// Copies the words to `to` as Relaxed loads would.
///
/// # Safety
///
/// `to` is writable for `from.len()` words, and nobody else uses them.
#[inline(always)]
pub(crate) unsafe fn copy_words(from: &[AtomicU64], to: *mut u64) {
    #[cfg_attr(any(not(target_arch = "x86_64"), loom, miri), allow(unused_mut))]
    let mut done = 0;
    // Plain stores, so that the compiler sees where the copy is used next. Another copy would wait
    // for the stores.
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    while let Some(two) = from.get(done..).and_then(<[AtomicU64]>::first_chunk) {
        // SAFETY: `to` is writable for all words of `from`.
        unsafe { to.add(done).cast::<std::arch::x86_64::__m128i>().write_unaligned(load_two(two)) };
        done += 2;
    }
    for (index, word) in from.iter().enumerate().skip(done) {
        // SAFETY: `to` is writable for all words of `from`.
        unsafe { to.add(index).write_unaligned(word.load(Relaxed)) };
    }
}
