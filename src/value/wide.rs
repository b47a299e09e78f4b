//! Copying words out of memory that others may write to meanwhile, two at once.
//!
//! The compiler makes one load of each atomic; the processor can do with one for two words. Only for readers that look afterwards
//! whether somebody wrote: what is copied may be half the old and half the new, as with one Relaxed load after the other.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Relaxed;

/// Two words, as Relaxed loads give them.
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
#[inline(always)]
fn load_two(from: &[AtomicU64; 2]) -> std::arch::x86_64::__m128i {
    let two;
    // SAFETY: sixteen bytes are readable. That others may write to them is no race of the language, since this is a load of the
    // machine, which makes its loads in the order of the program, as it does those of atomics. No flags, no stack, no stores.
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

/// Copies the words, as Relaxed loads give them, to `to`.
///
/// # Safety
///
/// `to` is writable for as many words, and nobody else's.
#[inline(always)]
pub(crate) unsafe fn copy_words(from: &[AtomicU64], to: *mut u64) {
    let mut done = 0;
    // Stored by the compiler, which sees where the copy goes on to: copying it once more would wait for the stores.
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    while let Some(two) = from.get(done..).and_then(<[AtomicU64]>::first_chunk) {
        // SAFETY: as many words are writable as there are.
        unsafe { to.add(done).cast::<std::arch::x86_64::__m128i>().write_unaligned(load_two(two)) };
        done += 2;
    }
    for (index, word) in from.iter().enumerate().skip(done) {
        // SAFETY: as many words are writable as there are.
        unsafe { to.add(index).write_unaligned(word.load(Relaxed)) };
    }
}
