//! Pins: a process that reads a block in place pins it first, and until it unpins it the block is
//! not reused.
//!
//! A block that nothing leads to any more is first RETIRED ([`super::block`]). Then it is freed by
//! the process that finds it unpinned: the one that retired it, or the last that unpins it. These
//! are hazard pointers (Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects",
//! 2004), for processes. A pin names its owner, so a reaper finds it.
//!
//! # State of a pin
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id; 0: it is being released |
//! | 30..64 | the block: its offset in the arena in units of 16 bytes; 0: no pin, the fresh state |
//!
//! | owner | block | meaning | changed by (CAS) |
//! |---|---|---|---|
//! | 0 | 0 | free | a process that pins: to (me, block) |
//! | p | block | p reads the block, or will check whether it may | p or its reaper: to (0, block) |
//! | 0 | block | released; the block may have to be freed | any process: to (0, 0), see below |
//!
//! Before the last change the process frees the block, if it is RETIRED and not pinned.
//!
//! `used` has a bit for each line of eight words that ever contained a pin, so a search for pins
//! need not read all lines.
//!
//! # Memory ordering
//!
//! One side pins, then checks whether the block is still LIVE. The other retires it, then checks
//! for pins. All four are SeqCst, so at least one sees the other. Releasing a pin and checking
//! whether the block is RETIRED are SeqCst for the same reason: among the processes that release
//! pins and the one that retires, at least one finds the block RETIRED and unpinned. Reads of the
//! block come before the release of its pin (Release). That comes before anything that is written
//! there later, by the Acquire of the process that checks for pins and then frees the block.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | pinned | reaping | [`Pins::recover`] releases the pin | nothing |
//! | released, block not yet checked or freed | any reaper | it continues from there | nothing |
//! | retired, pins not yet checked | the block's owner | it retires the block again | nothing |
//! | a reaper dies or stops | the next reaper | it does the rest, each step once | nothing |
//! | a late reaper takes one use of a pin for another | nobody | nobody | the block |
//!
//! The last row has its steps in docs/deaths.md, "The block that can be lost".

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Relaxed, SeqCst};
use crate::segment::owner::OwnerId;

/// The number of pins that can exist at once.
pub(crate) const PINS: usize = if cfg!(loom) { 2 } else { 127 };

/// The memory side of the pins of an arena.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pins {
    used: AtomicU64,
    pins: [AtomicU64; PINS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Pins>() == 1024);

/// Returns the line of a pin's word, as a bit of `used`.
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

/// Orders SeqCst accesses under loom, which treats them as AcqRel, except in fences.
fn in_one_order() {
    #[cfg(loom)]
    crate::loom::atomic::fence(SeqCst);
}

impl Pins {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Pins {
        Pins { used: AtomicU64::new(0), pins: [(); PINS].map(|()| AtomicU64::new(0)) }
    }

    /// Pins the block at `at`; returns the index of the pin. Then the caller must check whether the
    /// block is LIVE, and release the pin if it is not. `None` if all pins are in use.
    pub(crate) fn pin(&self, at: u64, me: OwnerId) -> Option<usize> {
        // Participants with adjacent indices begin at different lines, so that they seldom write
        // into the same line.
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

    /// Returns whether a process has pinned the block at `at`, or is about to read it. For a
    /// process that has retired the block before.
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

    /// Releases a pin of `me`. `free` frees the block at its offset if it is RETIRED and not
    /// [pinned](Pins::is_pinned).
    pub(crate) fn release(&self, index: usize, at: u64, me: OwnerId, free: impl FnOnce(u64)) {
        // Fails if this process was reaped, or the memory is damaged.
        if self.pins[index].compare_exchange(pack(at, me.bits()), pack(at, 0), SeqCst, Relaxed).is_ok() {
            self.finish(&self.pins[index], at, free);
        }
    }

    /// Completes a release. Any number of processes may do it at once.
    fn finish(&self, pin: &AtomicU64, at: u64, free: impl FnOnce(u64)) {
        in_one_order();
        free(at);
        // Only now, so that another process repeats the step if this one dies before.
        _ = pin.compare_exchange(pack(at, 0), 0, SeqCst, Relaxed);
    }

    /// Releases the pins of `dead`, and completes releases that others have begun.
    pub(crate) fn recover(&self, dead: OwnerId, mut free: impl FnMut(u64)) {
        for pin in &self.pins {
            let seen = pin.load(SeqCst);
            let at = place(seen);
            let is_released = match owner(seen) {
                0 => seen != 0,
                owner if owner == dead.bits() => {
                    pin.compare_exchange(seen, pack(at, 0), SeqCst, Relaxed).is_ok()
                }
                _ => false,
            };
            if is_released {
                self.finish(pin, at, &mut free);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

    use super::*;

    /// Executes the numbered steps of docs/deaths.md, "The block that can be lost". A change that
    /// closes the leak removes both.
    #[test]
    fn the_one_leak_takes_these_steps() {
        const B: u64 = 16;
        // The same index in the table, so all begin their search at the same pin.
        let [a, c, other] = [1, 2, 3].map(|generation| OwnerId::new(7, generation).unwrap());
        let (pins, is_retired, frees) = (Pins::new(), Cell::new(false), Cell::new(0));
        let free = |at| {
            if is_retired.get() && !pins.is_pinned(at) {
                frees.set(frees.get() + 1);
            }
        };
        let pin = pins.pin(B, a); // 1: A reads B in place, and is killed
        let reap_a = |at| {
            free(at); // 2: R reaps A, finds B LIVE, and stops before its last swap
            pins.recover(other, free); // 3: S completes what it finds
            assert_eq!(pins.pin(B, c), pin); // 4: C reads B in place
            is_retired.set(true); // 5: W retires B, and leaves it to C
            free(B);
            let release = || pins.release(pin.unwrap(), B, c, |_| resume_unwind(Box::new(())));
            assert!(catch_unwind(AssertUnwindSafe(release)).is_err()); // 6: C releases the pin, and is killed
        };
        pins.recover(a, reap_a); // 7: R continues
        pins.recover(c, free); // 8: C is reaped
        assert_eq!(frees.get(), 0, "the leak is closed: remove this test and the section of docs/deaths.md");
        assert!(pins.pins.iter().all(|pin| pin.load(Relaxed) == 0));
    }
}
