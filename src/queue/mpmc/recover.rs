//! The held-slot ring after a death: what the dead one held is freed, or comes back.
//!
//! Everything is a compare-and-swap from a word that names the dead, so any number of reapers may be at it,
//! and one that wakes up late changes nothing. See [`ring`](super::ring) for the states.

use super::ring::{Ring, RETURN, RETURNS};
use super::slot::{Status, Word};
use crate::fault::{is_planted, Fault};
use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::owner::OwnerId;

impl Ring {
    /// Takes every slot from `dead`. Idempotent.
    pub(crate) fn recover(&self, dead: OwnerId) {
        for index in 0..self.capacity {
            let slot = self.slot(index);
            let mut word = Word(slot.load(Acquire));
            while word.names(dead) {
                let next = if word.is_producers() {
                    word.freed()
                } else if !word.is_consumers() || is_planted(Fault::KeepReading) {
                    break;
                } else if self.redeliver {
                    // Before the swap, so that it is known if we die after it, and again below.
                    if !is_planted(Fault::ReturnUnheard) {
                        self.announce_return();
                    }
                    Word::new(word.lap(), Status::Returned, None)
                } else {
                    word.freed()
                };
                // Pairs with the Acquire of try_claim() and take_returned(). SeqCst: before the looks at the
                // waiters.
                match slot.compare_exchange(word.0, next.0, SeqCst, Acquire) {
                    Ok(_) => {
                        if word.is_consumers() && !self.redeliver {
                            self.control().notices.lost.fetch_add(1, Relaxed);
                        }
                        word = next;
                        if is_planted(Fault::ReturnUnheard) {
                            self.announce_return();
                            break;
                        }
                    }
                    Err(now) => word = Word(now),
                }
            }
            // Ours, or that of a reaper that may not have come to say so: a consumer that looked between the
            // announcement before the swap and the swap has cleared the notice.
            if word.status() == Status::Returned && !is_planted(Fault::ReturnUnheard) {
                self.announce_return();
            }
        }
        self.receivers().notify_all();
        self.senders().notify_all();
    }

    /// Has consumers look for RETURNED slots.
    fn announce_return(&self) {
        let word = &self.control().notices.word;
        // The count makes a consumer that began to look before this fail to clear the notice.
        let _ = word.fetch_update(SeqCst, Relaxed, |seen| Some(seen.wrapping_add(RETURN) | RETURNS));
    }
}
