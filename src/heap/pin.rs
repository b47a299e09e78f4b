//! Pins: who reads a block in place says so, and until it says no more the block is not used again.
//!
//! A block that nothing leads to any more is first RETIRED ([`super::block`]), and freed by whoever finds after that that nobody has it
//! pinned: the one who retired it, or the last who lets go of it. These are hazard pointers (Michael, "Hazard Pointers: Safe Memory
//! Reclamation for Lock-Free Objects", 2004), for processes: a pin says whose it is, and is found by who reaps it.
//!
//! # State of a pin
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of who has it; 0: it is being let go of |
//! | 30..64 | which block: its offset in the arena in units of 16 bytes; 0: there is no pin, the fresh state |
//!
//! | owner | block | meaning | who moves it on |
//! |---|---|---|---|
//! | 0 | 0 | free | who pins: CAS to (me, block) |
//! | p | block | p reads the block, or is about to look whether it may | p, or a reaper of p: CAS to (0, block) |
//! | 0 | block | let go of; the block, if RETIRED and pinned by nobody, is to be freed | anybody: frees it, then CAS to (0, 0) |
//!
//! `used` has a bit for each line of eight words in which there was ever a pin, so who looks for pins need not look at all.
//!
//! # Memory ordering
//!
//! One side pins, then looks whether the block is still LIVE. The other retires it, then looks for pins. All four are SeqCst, so at least
//! one sees the other. Letting go and looking whether the block is RETIRED are SeqCst for the same reason: the last of several who let
//! go, and who retires, cannot all overlook each other. What was read comes before letting go (Release), and that before
//! whatever is written there later, by the Acquire of who looks for pins, and its freeing of the block.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | pinned | reaping | [`Pins::recover`] lets go in its place | nothing |
//! | let go, the block not yet looked at, or not yet freed | reaping, of anybody | goes on from there | nothing |
//! | retired, not yet looked for pins | whoever may free the block again | it retires it again | nothing |
//! | a reaper dies or stops | the next reaper | each step is done once, whoever does it | nothing |
//! | let go of the same block by the same pin as another before, whose reaper comes late and says that all is done; then dies before it has looked at the block, which was retired in between | nobody | | the block |

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Relaxed, SeqCst};
use crate::owner::OwnerId;

/// How many pins there can be at once.
pub(crate) const PINS: usize = if cfg!(loom) { 2 } else { 127 };

/// The memory side.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pins {
    used: AtomicU64,
    pins: [AtomicU64; PINS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Pins>() == 1024);

/// The line of a pin's word, as a bit of `used`.
fn line(index: usize) -> u64 {
    1 << ((index + 1) / 8)
}

fn pack(at: u64, owner: u32) -> u64 {
    (at / 16) << OwnerId::BITS | u64::from(owner)
}

fn place(pin: u64) -> u64 {
    (pin >> OwnerId::BITS) * 16
}

fn owner(pin: u64) -> u32 {
    pin as u32 & ((1 << OwnerId::BITS) - 1)
}

/// loom takes SeqCst for AcqRel, but in fences.
fn in_one_order() {
    #[cfg(loom)]
    crate::loom::atomic::fence(SeqCst);
}

impl Pins {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Pins {
        Pins { used: AtomicU64::new(0), pins: [(); PINS].map(|()| AtomicU64::new(0)) }
    }

    /// Pins what stands at `at`; which pin that is. Then the caller must look whether the block is LIVE, and let go if it is not.
    /// `None`: there are as many pins as there can be.
    pub(crate) fn pin(&self, at: u64, me: OwnerId) -> Option<usize> {
        // Each participant begins in a line of its own, so that they do not write into the same.
        let first = me.index() * 8 % PINS;
        let index = (0..PINS).map(|step| (first + step) % PINS).find(|&index| {
            let pin = &self.pins[index];
            if pin.load(Relaxed) != 0 {
                return false;
            }
            if self.used.load(SeqCst) & line(index) == 0 {
                self.used.fetch_or(line(index), SeqCst);
            }
            pin.compare_exchange(0, pack(at, me.bits()), SeqCst, Relaxed).is_ok()
        });
        in_one_order();
        index
    }

    /// Whether somebody has pinned what stands at `at`, or is about to. For who has retired it before.
    pub(crate) fn is_pinned(&self, at: u64) -> bool {
        in_one_order();
        let used = self.used.load(SeqCst);
        used != 0
            && self
                .pins
                .iter()
                .enumerate()
                .filter(|(index, _)| used & line(*index) != 0)
                .map(|(_, pin)| pin.load(SeqCst))
                .any(|pin| pin != 0 && place(pin) == at && owner(pin) != 0)
    }

    /// Lets go of a pin of `me`. `free` frees the block at its place if it is RETIRED and [pinned](Pins::is_pinned) by nobody.
    pub(crate) fn let_go(&self, index: usize, at: u64, me: OwnerId, free: impl FnOnce(u64)) {
        // Fails if somebody has reaped this process, or writes into the memory.
        if self.pins[index].compare_exchange(pack(at, me.bits()), pack(at, 0), SeqCst, Relaxed).is_ok() {
            self.finish(&self.pins[index], at, free);
        }
    }

    /// The rest of letting go. Any number of processes may do it at once.
    fn finish(&self, pin: &AtomicU64, at: u64, free: impl FnOnce(u64)) {
        in_one_order();
        free(at);
        // Only now: if this process dies before, somebody else does it again.
        _ = pin.compare_exchange(pack(at, 0), 0, SeqCst, Relaxed);
    }

    /// Lets go of what `dead` had pinned, and finishes what others have begun.
    pub(crate) fn recover(&self, dead: OwnerId, mut free: impl FnMut(u64)) {
        for pin in &self.pins {
            let seen = pin.load(SeqCst);
            let at = place(seen);
            let is_let_go = match owner(seen) {
                0 => seen != 0,
                owner if owner == dead.bits() => {
                    pin.compare_exchange(seen, pack(at, 0), SeqCst, Relaxed).is_ok()
                }
                _ => false,
            };
            if is_let_go {
                self.finish(pin, at, &mut free);
            }
        }
    }
}
