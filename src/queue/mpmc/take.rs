//! The consumers' side of the held-slot ring: receiving in place, skipping, the end of a queue.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::backoff::{changes, is_other, Backoff};
use super::bound::SWAPS_MAX;
use super::descriptor::{CLOSING, RETURNS};
use super::ring::{Claim, Ring};
use super::slot::{age, Age, Position, Status, Word};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::loom::OrderedChange;
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

impl Ring {
    /// Receives the next message. The slot is `me`'s to read until [`free`](Ring::free).
    #[inline]
    pub(crate) fn try_take(&self, me: OwnerId) -> Result<Claim, Blocked> {
        let notice = self.descriptor().notices.word.load(Acquire); // pairs with close() and announce_return()
        if !cfg!(loom) && notice & RETURNS == 0 {
            // The first step of search_and_take(), without what its loop needs. A model needs it
            // once.
            let head = self.head(Acquire); // pairs with advance()
            let slot = self.slot_at(head)?;
            let word = Word(slot.load(Acquire)); // pairs with publish()
            if word == Word::new(head.lap(), Status::Full, None) {
                if let Some(claim) = self.take_at(head, slot, word, me) {
                    return Ok(claim);
                }
            }
        }
        self.search_and_take(me, notice)
    }

    /// Receives the next message, in as many steps as it takes.
    #[cold]
    fn search_and_take(&self, me: OwnerId, notice: u64) -> Result<Claim, Blocked> {
        if notice & RETURNS != 0 {
            if let Some(claim) = self.take_returned(me, notice) {
                return Ok(claim);
            }
        }
        let (mut backoff, mut steps, mut behind) = (Backoff::default(), self.steps(), None);
        while steps.take() {
            let head = self.head(Acquire); // pairs with advance()
            let slot = self.slot_at(head)?;
            let word = Word(slot.load(Acquire)); // pairs with publish()
            if word == Word::new(head.lap(), Status::Full, None) {
                if let Some(claim) = self.take_at(head, slot, word, me) {
                    return Ok(claim);
                }
                backoff.spin();
            } else if self.is_due(head, word) {
                if let Some(claim) = self.take_due(head, slot, word, me) {
                    return Ok(claim);
                }
                backoff.spin();
            } else {
                let closing = notice & CLOSING != 0;
                self.skip_or_stop(head, slot, word, closing, &mut backoff, &mut behind)?;
            }
        }
        Err(self.diagnose())
    }

    /// Receives the message of the position that `head` has. `None` if another consumer has
    /// received it.
    #[inline(always)]
    fn take_at(&self, head: Position, slot: &AtomicU64, word: Word, me: OwnerId) -> Option<Claim> {
        let mine = Word::new(head.lap(), Status::Reading, Some(me));
        // This swap is the receive. It is SeqCst on success (see OrderedChange): before pass_on()
        // checks the waiters. So it is also an Acquire that pairs with publish().
        let change = slot.exchange_ordered(word.0, mine.0, Relaxed).ok()?;
        self.advance(&self.descriptor().head, head);
        // Producers blocked by this slot can now skip it.
        self.pass_on(change);
        Some(Claim { index: head.index(), lap: head.lap() })
    }

    /// Handles a position without a message: helps `head` on, skips a producer, or reports that
    /// nothing is there. `Ok` means to try again. `behind` caches where a message was found, so
    /// that skipping many producers takes one search.
    #[cold]
    fn skip_or_stop(
        &self,
        head: Position,
        slot: &AtomicU64,
        word: Word,
        closing: bool,
        backoff: &mut Backoff,
        behind: &mut Option<Position>,
    ) -> Result<(), Blocked> {
        match (age(word, head), word.status()) {
            (Age::Here, Status::Writing) => return self.revoke_writer(head, slot, word, closing, behind),
            (Age::Here, Status::Empty | Status::Sealed) if word.owner_bits() == 0 => {}
            // The slot still has an owner, so the position has not been claimed.
            (Age::Behind, _) if word.skipped().is_some() => {}
            (Age::Here, Status::Empty | Status::Full | Status::Sealed) | (Age::Behind | Age::Far, _) => {
                let is_stable = self.is_at_head(head) && !is_other(slot, word);
                return if is_stable { Err(Blocked::Corrupted) } else { Ok(()) };
            }
            (Age::Here | Age::Ahead, _) => {
                self.help(&self.descriptor().head, head, word, backoff);
                return Ok(());
            }
        }
        // The position was not claimed when its word was read, and everything before it was over,
        // so there was no message.
        if closing {
            self.end(head, slot, word)
        } else {
            Err(Blocked::Later)
        }
    }

    /// Skips a producer that has claimed the position and not published, if there is a message
    /// behind it or the queue is closed.
    fn revoke_writer(
        &self,
        head: Position,
        slot: &AtomicU64,
        word: Word,
        closing: bool,
        behind: &mut Option<Position>,
    ) -> Result<(), Blocked> {
        let closed = closing && self.is_closed();
        // The first skipped producer was given time to publish; the others had the same time.
        let is_known = behind.is_some_and(|position| self.is_sent(position));
        if !closed && !is_known {
            *behind = self.message_after(head);
            if behind.is_none() {
                return if self.is_at_head(head) { Err(Blocked::Later) } else { Ok(()) };
            }
        }
        if is_known || !changes(slot, word, self.write_spins) {
            // Its publish fails, and it claims another position or finds the queue closed. Pairs
            // with the failed swap of publish().
            let _ = slot.compare_exchange(word.0, word.with(Status::Held).0, AcqRel, Relaxed);
        }
        Ok(())
    }

    /// Returns whether the message of this position can be received.
    fn is_sent(&self, position: Position) -> bool {
        let word = Word(self.slot(position.index()).load(Acquire)); // pairs with publish()
        word == Word::new(position.lap(), Status::Full, None)
    }

    /// Returns the first position after `head` with a message. `None` means that there was none
    /// when `head`'s slot was read either, or that `head` has moved since.
    pub(super) fn message_after(&self, head: Position) -> Option<Position> {
        let mut position = head;
        for _ in 1..self.capacity {
            position = position.next(self.capacity);
            let word = Word(self.slot(position.index()).load(Acquire)); // pairs with publish()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Full) => return Some(position),
                // Not claimed, so no later position is.
                (Age::Here, Status::Empty | Status::Sealed) | (Age::Behind | Age::Far, _) => return None,
                _ if self.is_passed(position, word) => return Some(position),
                (Age::Here | Age::Ahead, _) => {}
            }
        }
        None
    }

    fn is_at_head(&self, position: Position) -> bool {
        self.head(Acquire) == position // pairs with move_on()
    }

    /// Decides whether the queue has ended, when nothing is at `head`. It has when nobody can claim
    /// the position any more; a producer that read `tail` before the close still could.
    #[cold]
    fn end(&self, head: Position, slot: &AtomicU64, word: Word) -> Result<(), Blocked> {
        let tail = self.tail(Acquire); // pairs with close()
        if !tail.is_closed() {
            return Err(Blocked::Later);
        }
        let last = tail.open();
        self.slot_at(last)?;
        if head == last.next(self.capacity) || word.status() == Status::Sealed {
            return Err(Blocked::Closed);
        }
        if head != last {
            // Otherwise a position before `tail` would be free.
            return if self.is_at_head(head) && !is_other(slot, word) {
                Err(Blocked::Corrupted)
            } else {
                Ok(())
            };
        }
        let over = word.skipped().unwrap_or(Word::new(head.lap(), Status::Sealed, None));
        // Pairs with try_claim(): a producer that read `tail` before the close cannot claim the
        // position any more.
        match slot.compare_exchange(word.0, over.0, AcqRel, Relaxed) {
            Ok(_) => Err(Blocked::Closed),
            Err(_) => Ok(()),
        }
    }

    /// Takes a message that came back from a dead consumer, from any slot. Clears the notice if
    /// there is none.
    #[cold]
    fn take_returned(&self, me: OwnerId, notice: u64) -> Option<Claim> {
        if self.withdraws() {
            return self.take_oldest(me, notice);
        }
        for index in 0..self.capacity {
            let slot = self.slot(index);
            let mut word = Word(slot.load(Acquire)); // pairs with recover()
            for _ in 0..SWAPS_MAX {
                if word.status() != Status::Returned {
                    break;
                }
                let mine = Word::new(word.lap(), Status::Reading, Some(me));
                // Pairs with recover(). A failed swap pairs with skip_or_help(), which has moved
                // the word to its next lap.
                match slot.compare_exchange(word.0, mine.0, AcqRel, Acquire) {
                    Ok(_) => return Some(Claim { index, lap: word.lap() }),
                    Err(now) => word = Word(now),
                }
            }
            if word.status() == Status::Returned {
                return None; // its word keeps changing, so the notice stays
            }
        }
        self.clear_notice(notice);
        None
    }

    /// Takes the message that was sent first, in a ring that withdraws, if there is one that came
    /// back. Clears the notice if there is none.
    fn take_oldest(&self, me: OwnerId, notice: u64) -> Option<Claim> {
        for _ in 0..SWAPS_MAX {
            let Some((index, word)) = self.oldest() else {
                self.clear_notice(notice);
                return None;
            };
            let mine = Word::new(word.lap(), Status::Reading, Some(me));
            // As above.
            if self.slot(index).compare_exchange(word.0, mine.0, AcqRel, Relaxed).is_ok() {
                return Some(Claim { index, lap: word.lap() });
            }
        }
        None
    }

    /// Receives like [`try_take`](Ring::try_take), but blocks until a message, the end, or the
    /// deadline.
    pub(crate) fn take(
        &self,
        me: OwnerId,
        deadline: Deadline,
        reap_dead: impl FnMut(),
    ) -> Result<Claim, Blocked> {
        let attempt = || match self.try_take(me) {
            Err(Blocked::Later) => None,
            done => Some(done),
        };
        self.receivers().wait(deadline, reap_dead, attempt).unwrap_or(Err(Blocked::Later))
    }
}
