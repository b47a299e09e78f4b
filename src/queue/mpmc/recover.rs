//! Recovery of the held-slot ring: the slots of a dead participant are freed, or their messages
//! come back.
//!
//! Every change is a compare-and-swap from a word that names the dead participant. So any number of
//! reapers may run at once, and one that wakes up late changes nothing. See [`ring`](super::ring)
//! for the states.
//!
//! If messages differ in length, the block of a message is freed before its slot. A reaper reads
//! the slot's header, and then checks that the dead participant still holds the slot: see
//! [`header`](crate::queue::payload::header).

use super::bound::SWAPS_MAX;
use super::descriptor::{RETURN, RETURNS};
use super::ring::Ring;
use super::slot::{Status, Word};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::loom::Ordered;
use crate::queue::payload::header::Name;
use crate::segment::owner::OwnerId;

impl Ring {
    /// Takes every slot from `dead`. Idempotent. One step if `dead` has never used the queue, else
    /// one for each slot.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.recover_with(dead, None);
    }

    /// Takes every slot from `dead`, in a ring whose slots have headers if there is a function that
    /// frees a block by its name.
    pub(crate) fn recover_with(&self, dead: OwnerId, free: Option<&dyn Fn(Name)>) {
        if !self.may_hold(dead) {
            return;
        }
        for index in 0..self.capacity {
            let slot = self.slot(index);
            let mut word = Word(slot.load(Acquire)); // pairs with try_claim() and try_take()
            for _ in 0..SWAPS_MAX {
                if !word.names(dead) {
                    break;
                }
                let is_done = free.is_some() && word.is_consumers() && self.header(index).is_done();
                let is_returned = self.redeliver && word.is_consumers() && !is_done;
                if let (Some(free), false) = (free, is_returned) {
                    self.free_block(index, word, free);
                }
                let next = if word.is_producers() {
                    word.freed()
                } else if !word.is_consumers() || is_planted(Fault::KeepReading) {
                    break;
                } else if is_returned {
                    // Before the swap, so that the notice is there if we die after it; and again
                    // below.
                    if !is_planted(Fault::ReturnUnheard) {
                        self.announce_return();
                    }
                    Word::new(word.lap(), Status::Returned, None)
                } else {
                    word.freed()
                };
                // Pairs with the Acquire of try_claim() and take_returned(). SeqCst: before the
                // checks of the waiters. A failed swap pairs with the other reapers' and with
                // skip_or_help().
                match slot.compare_exchange(word.0, next.0, SeqCst, Acquire) {
                    Ok(_) => {
                        if word.is_consumers() && !self.redeliver {
                            self.descriptor().notices.lost.fetch_add(1, Relaxed);
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
            // The slot was returned by us, or by a reaper that may have died before it announced
            // that. A consumer that scanned between the first announcement and the swap has cleared
            // the notice.
            if word.status() == Status::Returned && !is_planted(Fault::ReturnUnheard) {
                self.announce_return();
            }
        }
        let changes = Ordered::by_fence();
        self.receivers().notify_all(changes);
        self.senders().notify_all(changes);
    }

    /// Frees the block that this slot's header names, if the slot's word is still `word`, which
    /// names the dead participant.
    fn free_block(&self, index: u32, word: Word, free: &dyn Fn(Name)) {
        let Some(name) = self.header(index).block() else { return };
        // After the name was read. Pairs with Header::set(): if the name is that of a later holder,
        // the word is too.
        if self.is_still(index, word.0) {
            free(name);
        }
    }

    /// Makes consumers scan for RETURNED slots.
    pub(crate) fn announce_return(&self) {
        let word = &self.descriptor().notices.word;
        // The count makes a consumer fail to clear the notice if its scan began before this. A
        // reaper that dies between the two steps is not done, so another one does both. Pairs with
        // try_take(), has_returned(), is_receivable() and clear_notice().
        word.fetch_add(RETURN, SeqCst);
        word.fetch_or(RETURNS, SeqCst);
    }
}
