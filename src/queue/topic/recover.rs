//! Recovery of a topic: the slots, pins and lines of a dead participant are freed, and its
//! publishers no longer count.
//!
//! Every change is a compare-and-swap from a word that names the dead participant. So any number of
//! reapers may run at once, and one that wakes up late changes nothing. See [`ring`](super::ring)
//! for the states.

use super::descriptor::is_pin_by;
use super::ring::{Ring, SWAPS_MAX};
use super::word::Word;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::loom::Ordered;
use crate::segment::owner::OwnerId;

impl Ring {
    /// Takes every slot, line and publisher from `dead`. Idempotent. One step if `dead` has never
    /// used the topic, else one for each slot and line.
    pub(crate) fn recover(&self, dead: OwnerId) {
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
}
