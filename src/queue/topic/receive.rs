//! The subscribers' side of a topic's ring: receiving by copy and in place, skipping, the end.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::descriptor::{pin, CLOSED, NUMBER};
use super::line::LineWord;
use super::ring::{Ring, Steps};
use super::word::{age, Age, Position, Status, Word};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::fence;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;

/// Below this capacity a message is out of reach as soon as `capacity` later ones are published. A
/// larger topic keeps some messages more, and a subscriber may receive them.
const STRICT_MAX: u32 = 16;

/// One poll in this number reads `tail`. Publishers write `tail`, so reading it at each poll would
/// make each publication wait for its cache line. A topic that is closed says so in the slot too.
const TAIL_EVERY: u32 = if cfg!(loom) { 2 } else { 16 };

/// The polls of a position without a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polls {
    /// The number of the last position that was found unclaimed.
    number: u64,
    /// The number of polls until `tail` is read.
    left: u32,
    /// The number of the last position whose publisher was given time to write.
    written: u64,
}

impl Polls {
    pub(super) const NONE: Polls = Polls { number: u64::MAX, left: 0, written: u64::MAX };

    /// Counts a poll of the unclaimed position with this number. Returns whether it reads `tail`.
    #[inline]
    fn is_due(&mut self, number: u64) -> bool {
        if self.number != number {
            (self.number, self.left) = (number, TAIL_EVERY);
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        self.left = TAIL_EVERY;
        true
    }

    /// Makes the next poll of the position with this number read `tail`.
    pub(super) fn make_due(&mut self, number: u64) {
        (self.number, self.left) = (number, 0);
    }

    /// Returns whether this is the first time that a publisher at work is found at the position
    /// with this number.
    fn meets_writer(&mut self, number: u64) -> bool {
        std::mem::replace(&mut self.written, number) != number
    }
}

/// Where a subscriber is in the order. It belongs to one subscriber; the line has a copy of parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    /// The position that is received next.
    pub(crate) at: Position,
    /// The number of messages before it.
    pub(crate) ordinal: u64,
    /// The number of messages that were overwritten before they were received.
    pub(crate) lost: u64,
    /// The number of messages that were overwritten before it began, and of which it has yet to be
    /// told.
    pub(crate) owed: u64,
    /// The number of the position that the last loss led to. It is received if it is still there,
    /// so that a subscriber of a small topic gets a message after each loss.
    pub(crate) granted: u64,
    /// The index of the subscriber's line.
    pub(crate) line: u32,
    /// Whether publishers wait for it. It may have been evicted since.
    pub(crate) is_lossless: bool,
    pub(super) polls: Polls,
}

/// The reason why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// This number of messages was overwritten. The cursor is at the oldest one that is there.
    Lagged(u64),
    /// As for a queue.
    Blocked(Blocked),
}

impl From<Blocked> for Unread {
    fn from(blocked: Blocked) -> Unread {
        Unread::Blocked(blocked)
    }
}

impl Ring {
    /// Receives the next message: `read` copies that of the slot with the given index. It may be
    /// called more than once, and only its last result counts.
    #[inline]
    pub(crate) fn try_copy<R>(
        &self,
        cursor: &mut Cursor,
        mut read: impl FnMut(u32) -> R,
    ) -> Result<R, Unread> {
        let mut steps = self.steps();
        while steps.take() {
            let word = self.find(cursor, &mut steps)?;
            let copy = read(cursor.at.index);
            let slot = self.slot(cursor.at.index);
            let number = slot.position.load(Relaxed);
            fence(Acquire); // pairs with the fence in begin(), and with that of a block's claimant
            let is_same = Word(slot.word.load(Relaxed)).unpinned() == word.unpinned();
            let is_whole = is_same && !self.is_discarded(cursor.at);
            if is_whole && number == cursor.at.number {
                self.step(cursor);
                return Ok(copy);
            }
            if !self.catch_up(cursor)? && is_whole {
                self.step(cursor); // so the messages behind it can be received
                return Err(Blocked::Corrupted.into());
            }
        }
        Err(Blocked::Later.into())
    }

    /// Receives the next message in place: returns the index of its slot. The message does not
    /// change until [`unpin`](Ring::unpin).
    #[inline]
    pub(crate) fn try_pin(&self, me: OwnerId, cursor: &mut Cursor) -> Result<u32, Unread> {
        let mut steps = self.steps();
        while steps.take() {
            let word = self.find(cursor, &mut steps)?;
            let index = cursor.at.index;
            let slot = self.slot(index);
            // Release: a publisher that loads this pin may write to the slot that was read in place
            // before. Pairs with is_pinned().
            self.line(cursor.line).pin.store(pin(me, index), Release);
            fence(SeqCst); // pairs with the fences in check_pins(), pass_oldest() and sweep()
            let mut now = Word(slot.word.load(Acquire)); // pairs with publish()
            if now == word.unpinned() {
                // Pairs with the swap of try_claim(), which sees the bit and so the pin, or fails
                // this one. A failed swap pairs with that, or with another subscriber's.
                now = match slot.word.compare_exchange(now.0, now.pinned().0, AcqRel, Acquire) {
                    Ok(_) => now.pinned(),
                    Err(other) => Word(other),
                };
            }
            let is_pinned = now == word.pinned() && !self.is_discarded(cursor.at);
            let is_whole = is_pinned && slot.position.load(Relaxed) == cursor.at.number;
            if is_whole || is_planted(Fault::PinUnchecked) {
                self.step(cursor);
                return Ok(index);
            }
            self.unpin(cursor.line);
            if !self.catch_up(cursor)? && is_pinned {
                self.step(cursor); // so the messages behind it can be received
                return Err(Blocked::Corrupted.into());
            }
        }
        Err(Blocked::Later.into())
    }

    /// Ends the reading in place.
    #[inline]
    pub(crate) fn unpin(&self, line: u32) {
        self.line(line).pin.store(0, Release); // pairs with is_pinned()
    }

    /// Ends the reading in place of a message that a publisher may need the memory of.
    #[inline]
    pub(crate) fn release(&self, line: u32) {
        self.unpin(line);
        if self.shape.is_varied {
            self.room().notify_all_light();
        }
    }

    /// Moves the cursor to the next position that has a message, and returns its word.
    #[inline]
    fn find(&self, cursor: &mut Cursor, steps: &mut Steps) -> Result<Word, Unread> {
        if cursor.owed != 0 {
            let lost = std::mem::take(&mut cursor.owed);
            self.line(cursor.line).owes.store(0, Relaxed);
            return Err(self.lag(cursor, lost));
        }
        if cursor.is_lossless && self.is_evicted(cursor) {
            self.note_eviction(cursor)?;
        }
        while steps.take() {
            let at = cursor.at;
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match (age(word, at), word.status()) {
                (Age::Here, Status::Full) if self.is_discarded(at) => {
                    if !self.catch_up(cursor)? {
                        return Err(Blocked::Corrupted.into());
                    }
                }
                (Age::Here, Status::Full) => {
                    let is_granted = cursor.granted == at.number || cursor.is_lossless;
                    if is_granted || !self.is_out_of_reach(at) || !self.catch_up(cursor)? {
                        return Ok(word);
                    }
                }
                (Age::Here, Status::Hole | Status::Held) => {
                    cursor.at = self.next(at);
                    // The hole may be the end of a closed topic.
                    cursor.polls.make_due(cursor.at.number);
                }
                (Age::Here, Status::Writing) => self.pass_writer(cursor, word, steps)?,
                (Age::Behind, _) => self.wait_or_end(cursor, word)?,
                // Overwritten, so the oldest message is a later one, or the words are damaged.
                (Age::Next | Age::Ahead | Age::Far, _) => {
                    if !self.catch_up(cursor)? {
                        return Err(Blocked::Corrupted.into());
                    }
                }
            }
        }
        Err(Blocked::Later.into())
    }

    /// Counts the message at the cursor as received.
    #[inline]
    fn step(&self, cursor: &mut Cursor) {
        cursor.at = self.next(cursor.at);
        cursor.ordinal = cursor.ordinal.wrapping_add(1);
        // Pairs with limit(): the message was read before.
        self.line(cursor.line).cursor.store(cursor.at.number, Release);
        if cursor.is_lossless {
            // Not every publisher can use the memory of one message.
            match self.shape.is_varied {
                true => self.room().notify_all_light(),
                false => self.room().notify_one_light(),
            }
        }
    }

    /// Goes on as a lossy subscriber, with the oldest of the last `capacity` messages.
    #[cold]
    fn note_eviction(&self, cursor: &mut Cursor) -> Result<(), Unread> {
        cursor.is_lossless = false;
        self.catch_up(cursor).map(drop)
    }

    /// Returns whether a small topic may have published its whole capacity behind this position.
    #[inline]
    fn is_out_of_reach(&self, at: Position) -> bool {
        let capacity = self.shape.capacity;
        if capacity >= STRICT_MAX {
            return false;
        }
        let last = at.plus(capacity, self.shape.slots);
        let word = Word(self.word(last.index).load(Acquire)); // pairs with publish()
        match age(word, last) {
            Age::Here => word.status() == Status::Full,
            Age::Next | Age::Ahead => true,
            Age::Behind | Age::Far => false,
        }
    }

    /// Handles a position whose publisher is at work: takes the position away if a later message is
    /// published or the topic is closed, else there is nothing to receive yet.
    #[cold]
    fn pass_writer(&self, cursor: &mut Cursor, word: Word, steps: &mut Steps) -> Result<(), Blocked> {
        let at = cursor.at;
        // Most likely it is about to be done.
        if cursor.polls.meets_writer(at.number) && self.changes(at.index, word, steps) {
            return Ok(());
        }
        if !self.is_closed() && !self.is_followed(at) {
            return Err(Blocked::Later);
        }
        self.revoke(at, word, steps);
        Ok(())
    }

    /// Takes the position from a publisher that stays WRITING. It publishes at a later one.
    pub(super) fn revoke(&self, at: Position, word: Word, steps: &mut Steps) {
        if !self.changes(at.index, word, steps) {
            // Pairs with the failed swaps of publish() and check_pins(). If this one fails, the
            // position was decided.
            let _ = self.word(at.index).compare_exchange(word.0, word.revoked().0, AcqRel, Relaxed);
        }
    }

    /// Returns whether a message behind this position is published.
    pub(super) fn is_followed(&self, mut at: Position) -> bool {
        for _ in 1..self.shape.slots {
            at = self.next(at);
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match (age(word, at), word.status()) {
                (Age::Here, Status::Full) | (Age::Next | Age::Ahead, _) => return true,
                (Age::Here, _) => {}
                (Age::Behind | Age::Far, _) => return false,
            }
        }
        false
    }

    /// Handles a position that was not claimed when `word` was read: there is nothing to receive,
    /// or never will be.
    #[inline]
    fn wait_or_end(&self, cursor: &mut Cursor, word: Word) -> Result<(), Unread> {
        match cursor.polls.is_due(cursor.at.number) {
            true => self.check_end(cursor, word),
            false => Err(Blocked::Later.into()),
        }
    }

    #[cold]
    fn check_end(&self, cursor: &mut Cursor, word: Word) -> Result<(), Unread> {
        let (tail, at) = (self.tail(), cursor.at);
        let end = tail & NUMBER;
        let is_closed = tail & CLOSED != 0;
        match at.number.checked_sub(end) {
            None => {}
            // A publisher that read `tail` before the closing could still claim the last position.
            // Pairs with try_claim().
            Some(0) if is_closed => {
                let slot = self.word(at.index);
                return match slot.compare_exchange(word.0, self.skipped(word, at).0, AcqRel, Relaxed) {
                    Ok(_) => Err(Blocked::Closed.into()),
                    Err(_) => Ok(()),
                };
            }
            Some(1) if is_closed => {
                cursor.polls.make_due(at.number);
                return Err(Blocked::Closed.into());
            }
            // One position can be a hole already while `tail` has yet to move past it.
            Some(0 | 1) => return Err(Blocked::Later.into()),
            Some(_) => return Err(Blocked::Corrupted.into()),
        }
        // Claimed meanwhile. Or the word is of another turn with the same lowest bits.
        if end - at.number > u64::from(self.shape.slots) {
            self.catch_up(cursor)?;
        } else if self.word(at.index).load(Acquire) == word.0 && self.tail() == tail {
            return Err(Blocked::Corrupted.into());
        }
        Ok(())
    }

    /// Moves the cursor to the oldest message that is there, if it is at an older position. Returns
    /// whether it moved; reports messages that were lost as an error.
    #[cold]
    fn catch_up(&self, cursor: &mut Cursor) -> Result<bool, Unread> {
        let oldest = self.oldest()?;
        if oldest.at.number <= cursor.at.number {
            return Ok(false);
        }
        let lost = oldest.ordinal.wrapping_sub(cursor.ordinal);
        cursor.at = oldest.at;
        cursor.granted = oldest.at.number;
        cursor.ordinal = oldest.ordinal;
        self.line(cursor.line).cursor.store(cursor.at.number, Release); // pairs with limit()
        match lost {
            0 => Ok(true),
            _ => Err(self.lag(cursor, lost)),
        }
    }

    /// Counts lost messages, and returns the error that tells the subscriber.
    #[cold]
    fn lag(&self, cursor: &mut Cursor, lost: u64) -> Unread {
        cursor.lost = cursor.lost.wrapping_add(lost);
        self.line(cursor.line).lost.store(cursor.lost, Relaxed);
        Unread::Lagged(lost)
    }

    /// Returns whether `me`, a subscriber at the position that its line has, would not block now:
    /// for a message, lost ones, the end, or damage. False if the line is not its own any more.
    pub(crate) fn is_receivable(&self, line: u32, me: OwnerId) -> bool {
        if !LineWord(self.line(line).state.load(Relaxed)).names(me) {
            return false;
        }
        if self.line(line).owes.load(Relaxed) != 0 {
            return true;
        }
        let mut at = self.position(self.line(line).cursor.load(Relaxed));
        for _ in 0..=self.shape.slots {
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match (age(word, at), word.status()) {
                (Age::Here, Status::Hole | Status::Held) => at = self.next(at),
                (Age::Here, Status::Writing) => return self.is_closed() || self.is_followed(at),
                // Otherwise the word is of another turn with the same lowest bits.
                (Age::Behind, _) => {
                    let tail = self.tail();
                    let ahead = (tail & NUMBER).saturating_sub(at.number);
                    return tail & CLOSED != 0 || ahead > u64::from(self.shape.slots);
                }
                _ => return true,
            }
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn tail_is_read_at_each_sixteenth_poll_and_when_it_is_asked_for() {
        let mut polls = Polls::NONE;
        let mut due = |number, count: u32| (0..count).filter(|_| polls.is_due(number)).count();
        assert_eq!((due(0, TAIL_EVERY - 1), due(0, 1), due(0, 3 * TAIL_EVERY)), (0, 1, 3));
        assert_eq!((due(1, TAIL_EVERY - 1), due(0, TAIL_EVERY - 1)), (0, 0), "another position begins anew");
        polls.make_due(7);
        assert!(polls.is_due(7) && !polls.is_due(7), "once");
        assert!(polls.meets_writer(7) && !polls.meets_writer(7) && polls.meets_writer(8));
    }
}
