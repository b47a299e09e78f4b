//! The consumers' side of the held-slot ring: receiving in place, going past what is not sent, the end of a
//! closed queue.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::claim::{changes, is_other};
use super::ring::{Claim, Losses, Ring, Stop, CLOSING, RETURNS};
use super::slot::{age, Age, Position, Status, Word};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::owner::OwnerId;
use crate::sys::clock::Deadline;

impl Ring {
    /// Receives the next message: the slot is `me`'s to read until [`free`](Ring::free).
    #[inline]
    pub(crate) fn try_take(&self, me: OwnerId) -> Result<Claim, Stop> {
        let notice = self.control().notices.word.load(Acquire); // pairs with close() and announce_return()
        if notice & RETURNS != 0 {
            if let Some(claim) = self.take_returned(me, notice) {
                return Ok(claim);
            }
        }
        let mut losses = Losses::default();
        loop {
            let head = self.head(Acquire); // pairs with advance()
            let slot = self.slot_at(head)?;
            let word = Word(slot.load(Acquire)); // pairs with publish()
            if word == Word::new(head.lap(), Status::Full, None) {
                let mine = Word::new(head.lap(), Status::Reading, Some(me));
                // This is the receive. SeqCst: before pass_on() looks at the waiters.
                if slot.compare_exchange(word.0, mine.0, SeqCst, Relaxed).is_ok() {
                    self.advance(&self.control().head, head);
                    // A slot that producers could not get past they can now.
                    self.pass_on();
                    return Ok(Claim { index: head.index(), lap: head.lap() });
                }
                losses.stay_away();
            } else {
                self.look_beyond(head, slot, word, notice & CLOSING != 0, &mut losses)?;
            }
        }
    }

    /// What to do about a position without a message: help `head` on, go past a producer, report that there
    /// is nothing. `Ok`: look again.
    #[cold]
    fn look_beyond(
        &self,
        head: Position,
        slot: &AtomicU64,
        word: Word,
        closing: bool,
        losses: &mut Losses,
    ) -> Result<(), Stop> {
        match (age(word, head), word.status()) {
            (Age::Here, Status::Writing) => return self.meet_writer(head, slot, word, closing),
            (Age::Here, Status::Empty | Status::Sealed) if word.owner_bits() == 0 => {}
            // Somebody is still in the slot, so the position has not been claimed.
            (Age::Behind, _) if word.hole().is_some() => {}
            (Age::Here, Status::Empty | Status::Full | Status::Sealed) | (Age::Behind | Age::Far, _) => {
                let settled = self.is_at_head(head) && !is_other(slot, word);
                return if settled { Err(Stop::Corrupted) } else { Ok(()) };
            }
            (Age::Here | Age::Ahead, _) => {
                self.help(&self.control().head, head, word, losses);
                return Ok(());
            }
        }
        // The position was not claimed when its word was read, and everything before it was over: there was
        // no message.
        if closing {
            self.end(head, slot, word)
        } else {
            Err(Stop::Wait)
        }
    }

    /// A producer has claimed the position and not published. If others behind it have, it is gone past.
    fn meet_writer(&self, head: Position, slot: &AtomicU64, word: Word, closing: bool) -> Result<(), Stop> {
        let closed = closing && self.is_closed();
        if !closed && !self.is_message_behind(head) {
            return if self.is_at_head(head) { Err(Stop::Wait) } else { Ok(()) };
        }
        if !changes(slot, word, self.patience) {
            // Its publish fails, and it finds another position, or that the queue is closed.
            let _ = slot.compare_exchange(word.0, word.with(Status::Held).0, AcqRel, Relaxed);
        }
        Ok(())
    }

    /// Whether there is a message at a position after `head`. If not, there was none when `head`'s slot was
    /// read either, or `head` has moved since.
    fn is_message_behind(&self, head: Position) -> bool {
        let mut position = head;
        for _ in 1..self.capacity {
            position = position.next(self.capacity);
            let word = Word(self.slot(position.index()).load(Acquire)); // pairs with publish()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Full) => return true,
                // Not claimed, so nothing after it is.
                (Age::Here, Status::Empty | Status::Sealed) | (Age::Behind | Age::Far, _) => return false,
                (Age::Here | Age::Ahead, _) => {}
            }
        }
        false
    }

    fn is_at_head(&self, position: Position) -> bool {
        self.head(Acquire) == position
    }

    /// There is nothing at `head`, and the queue may be closed. It is over when nobody can claim the position
    /// any more: a producer that read `tail` before it was closed could.
    #[cold]
    fn end(&self, head: Position, slot: &AtomicU64, word: Word) -> Result<(), Stop> {
        let tail = self.tail(Acquire); // pairs with close()
        if !tail.is_closed() {
            return Err(Stop::Wait);
        }
        let last = tail.open();
        self.slot_at(last)?;
        if head == last.next(self.capacity) || word.status() == Status::Sealed {
            return Err(Stop::Closed);
        }
        if head != last {
            // Then a position before `tail` would be free.
            return if self.is_at_head(head) && !is_other(slot, word) {
                Err(Stop::Corrupted)
            } else {
                Ok(())
            };
        }
        let over = word.hole().unwrap_or(Word::new(head.lap(), Status::Sealed, None));
        match slot.compare_exchange(word.0, over.0, AcqRel, Relaxed) {
            Ok(_) => Err(Stop::Closed),
            Err(_) => Ok(()),
        }
    }

    /// Looks through all slots for a message that came back. Clears the notice if there is none.
    #[cold]
    fn take_returned(&self, me: OwnerId, notice: u64) -> Option<Claim> {
        for index in 0..self.capacity {
            let slot = self.slot(index);
            let mut word = Word(slot.load(Acquire)); // pairs with recover()
            while word.status() == Status::Returned {
                let mine = Word::new(word.lap(), Status::Reading, Some(me));
                match slot.compare_exchange(word.0, mine.0, AcqRel, Acquire) {
                    Ok(_) => return Some(Claim { index, lap: word.lap() }),
                    Err(now) => word = Word(now),
                }
            }
        }
        // Fails if a message may have come back since `notice` was read.
        let _ = self.control().notices.word.compare_exchange(notice, notice & !RETURNS, AcqRel, Relaxed);
        None
    }

    /// Like [`try_take`](Ring::try_take), and sleeps until there is a message or the end or the deadline.
    pub(crate) fn take(&self, me: OwnerId, deadline: Deadline, tend: impl FnMut()) -> Result<Claim, Stop> {
        let attempt = || match self.try_take(me) {
            Err(Stop::Wait) => None,
            done => Some(done),
        };
        self.receivers().wait(deadline, tend, attempt).unwrap_or(Err(Stop::Wait))
    }
}
