//! Recovery of a topic: the slots, pins and lines of a dead participant are freed, and its
//! publishers no longer count.
//!
//! Every change is a compare-and-swap from a word that names the dead participant. So any number of
//! reapers may run at once, and one that wakes up late changes nothing. See [`ring`](super::ring)
//! for the states.
//!
//! If messages differ in length, the block of a message that is not published is freed before its
//! slot: see [`floor`](super::floor).

use super::descriptor::is_pin_by;
use super::floor::Free;
use super::ring::{Ring, SWAPS_MAX};
use super::word::Word;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::loom::Ordered;
use crate::segment::owner::OwnerId;

impl Ring {
    /// Takes every slot, line and publisher from `dead`. Idempotent. One step if `dead` has never
    /// used the topic, else one for each slot and line.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.recover_with(dead, None);
    }

    /// Takes everything from `dead`, in a ring whose slots have headers if there is a function that
    /// frees a block by its name.
    pub(crate) fn recover_with(&self, dead: OwnerId, free: Option<Free<'_>>) {
        if !self.may_name(dead) {
            return;
        }
        for line in self.lines() {
            // The pin before the line, so that the next subscriber of the line has no pin of the
            // dead participant. A pin names its participant, so a reaper that is late does not end
            // another's.
            let pin = line.pin.load(Acquire); // pairs with try_pin()
            if is_pin_by(pin, dead) {
                // Pairs with is_pinned().
                let _ = line.pin.compare_exchange(pin, 0, AcqRel, Relaxed);
            }
            self.free_line(line, dead);
        }
        for index in 0..self.shape.slots {
            let slot = self.word(index);
            let mut word = Word(slot.load(Acquire)); // pairs with try_claim()
            for _ in 0..SWAPS_MAX {
                if !word.names(dead) || !word.is_held() {
                    break;
                }
                if let Some(free) = free {
                    self.free_block_of_dead(index, word, free);
                }
                // Pairs with the Acquire of try_claim(). A failed swap pairs with skip() and
                // revoke(), which changed the word.
                match slot.compare_exchange(word.0, word.freed().0, AcqRel, Acquire) {
                    Ok(_) => break,
                    Err(now) => word = Word(now),
                }
            }
        }
        self.recover_publishers(dead);
        let change = Ordered::by_fence();
        self.sleepers().notify_all(change);
        self.room().notify_all(change);
    }

    /// Frees the block that this slot's header names, if the slot's word is still `word`, which
    /// names the dead.
    fn free_block_of_dead(&self, index: u32, word: Word, free: Free<'_>) {
        // Then it has not checked the pins, so it has not written to the header either. The next
        // claimant does both.
        if word.is_pinned() {
            return;
        }
        let Some(name) = self.header(index).block() else { return };
        // After the name was read. Pairs with Header::set(): if the name is that of a later holder,
        // the word is too.
        if Word(self.word(index).load(Relaxed)) == word {
            free(name);
        }
    }
}
