//! How a producer or a consumer of the held-slot ring waits without sleeping: it spins, a bounded
//! number of times.
//!
//! Three occasions, none longer than some microseconds:
//!
//! - A compare-and-swap was lost: [`Backoff::spin`], each time twice as long as the last.
//! - Another participant is in the middle of a step: [`changes`] polls its slot, [`SPINS`] times
//!   or, for a large message, once as long as writing it takes ([`Backoff::write_spins`]).
//! - The queue is full and the caller polls: [`pause`] leaves the cache lines to the consumers.
//!
//! [`sys::clock::Backoff`](crate::sys::clock) is for slow paths, because it sleeps for at least a
//! microsecond, which is longer than all that is waited for here.

use super::slot::Word;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Acquire;
use crate::loom::spin_loop;

/// Spins before helping another participant or skipping it.
pub(super) const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };
/// The longest backoff after a lost compare-and-swap: 2^6 spins.
const EXPONENT_MAX: u32 = 6;

/// The backoff of one call: grows with each lost compare-and-swap, so that the winner can run on in
/// its own cache. Two participants that take turns pay for moving the lines each time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The next backoff is two to this power.
    exponent: u32,
    /// Whether the call has waited for another participant's write before.
    has_waited: bool,
}

impl Backoff {
    /// Spins after a lost compare-and-swap.
    pub(super) fn spin(&mut self) {
        if cfg!(loom) {
            return;
        }
        (0..1 << self.exponent).for_each(|_| spin_loop());
        self.exponent = (self.exponent + 1).min(EXPONENT_MAX);
    }

    /// Returns how many times to poll whether another's write is over: `spins` once in a call,
    /// however many writes it meets, and 0 afterwards.
    pub(super) fn write_spins(&mut self, spins: u32) -> u32 {
        if std::mem::replace(&mut self.has_waited, true) {
            0
        } else {
            spins
        }
    }
}

/// Returns how many times to poll a slot whose message is being written, for slots of `stride`
/// bytes. Writing 32 bytes is faster than a poll, so a producer that runs is done by then.
pub(super) fn spins_for(stride: usize) -> u32 {
    if cfg!(loom) {
        0
    } else {
        SPINS + (stride / 32).min(1 << 16) as u32
    }
}

/// Spins after a `try_send` that found no room, a microsecond at most, because a producer that
/// polls would take the cache lines from the consumers again and again.
pub(super) fn pause() {
    (0..SPINS).for_each(|_| spin_loop());
}

/// Returns whether the word of `slot` becomes another than `word` within `spins` polls.
pub(super) fn changes(slot: &AtomicU64, word: Word, spins: u32) -> bool {
    (0..spins).any(|_| {
        spin_loop();
        is_other(slot, word)
    })
}

/// Returns whether the word of `slot` is another than `word` now.
pub(super) fn is_other(slot: &AtomicU64, word: Word) -> bool {
    slot.load(Acquire) != word.0 // pairs with every swap of a slot
}
