//! Where a subscriber begins, and where one that lags goes on: positions, and the number of
//! messages before them.
//!
//! The number of messages before the oldest position of the ring is known: see
//! [`snapshot`](Ring::snapshot). From there this counts, position by position. A position whose
//! publisher is still at work is taken away, because it must be decided whether it counts. That
//! concerns only positions before the start, so a publisher at work is disturbed by a new
//! subscriber, or by one that lags far behind it, and by no other. Positions that were overwritten
//! meanwhile count too: the bit `gap` of a slot's word says what was there one turn earlier. So the
//! count must start over only if publishers go once round the ring meanwhile.
//!
//! The states, the orderings and the deaths are those of [`ring`](super::ring).

use super::descriptor::Line;
use super::line::LineWord;
use super::receive::{Cursor, Polls};
use super::ring::{Ring, Steps, SWAPS_MAX};
use super::word::{age, Age, Position, Status, Word};
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::Ordered;
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;

/// Up to this capacity a subscriber that lags counts back from the newest message, because a hole
/// should not cost it one. In a larger topic it goes by positions.
const COUNTED_MAX: u32 = 64;

/// A position, and the number of messages before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) at: Position,
    pub(crate) ordinal: u64,
}

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// Before this number of the newest messages.
    Last(u64),
    /// Before the message with this number of messages before it.
    Ordinal(u64),
}

impl Ring {
    /// Takes a free line for `me`. `None` if the table is full.
    pub(crate) fn take_line(&self, me: OwnerId) -> Option<u32> {
        // Pairs with free_line(): the line's last words were stored before.
        let take = |line: &Line| {
            let word = LineWord(line.state.load(Relaxed));
            word.is_free() && line.state.compare_exchange(word.0, word.taken(me).0, SeqCst, Relaxed).is_ok()
        };
        self.lines().iter().position(take).map(|index| index as u32)
    }

    /// Gives the line back.
    pub(crate) fn leave(&self, me: OwnerId, line: u32) {
        self.unpin(line);
        if self.free_line(self.line(line), me) {
            self.room().notify_all(Ordered::by_fence());
        }
    }

    /// Frees the line if it is that of `id`. Returns whether publishers may have waited for it.
    pub(super) fn free_line(&self, line: &Line, id: OwnerId) -> bool {
        let mut word = LineWord(line.state.load(Relaxed));
        for _ in 0..SWAPS_MAX {
            if !word.names(id) {
                return false;
            }
            // Pairs with take_line() and lossless(). A failed swap pairs with evict(), or with
            // another reaper.
            match line.state.compare_exchange(word.0, word.freed().0, AcqRel, Relaxed) {
                Ok(_) => return word.is_lossless(),
                Err(now) => word = LineWord(now),
            }
        }
        false
    }

    /// Returns the cursor of a new subscriber that has taken `line`. `None` if it wants to begin
    /// with a message that is not published yet.
    pub(crate) fn begin_at(&self, wanted: Wanted, line: u32) -> Result<Option<Cursor>, Blocked> {
        let (start, owed) = match wanted {
            Wanted::Last(count) => (self.locate(count, true)?, 0),
            Wanted::Ordinal(ordinal) => {
                let oldest = self.locate(u64::MAX, true)?;
                if ordinal <= oldest.ordinal {
                    (oldest, oldest.ordinal - ordinal)
                } else {
                    match self.locate_ordinal(ordinal)? {
                        Some(found) => found,
                        None => return Ok(None),
                    }
                }
            }
        };
        Ok(Some(self.place(line, start, owed)))
    }

    /// Returns the cursor of a new subscriber like [`begin_at`](Ring::begin_at), which begins at
    /// the position `first` or later.
    pub(super) fn begin_from(
        &self,
        first: u64,
        wanted: Wanted,
        line: u32,
    ) -> Result<Option<Cursor>, Blocked> {
        match self.begin_at(wanted, line)? {
            Some(cursor) if cursor.at.number < first => {
                let start = self.locate_position(first)?;
                let owed = match wanted {
                    Wanted::Last(_) => 0,
                    Wanted::Ordinal(ordinal) => start.ordinal.saturating_sub(ordinal),
                };
                Ok(Some(self.place(line, start, owed)))
            }
            begun => Ok(begun),
        }
    }

    /// Stores where a subscriber begins, and returns its cursor.
    fn place(&self, line: u32, start: Start, owed: u64) -> Cursor {
        let words = self.line(line);
        words.lost.store(0, Relaxed);
        words.owes.store(u32::from(owed != 0), Relaxed);
        words.cursor.store(start.at.number, Release); // pairs with limit()
        let Start { at, ordinal } = start;
        let polls = Polls::NONE;
        Cursor { at, ordinal, lost: 0, owed, granted: u64::MAX, line, is_lossless: false, polls }
    }

    /// Returns where a subscriber that lags goes on.
    pub(super) fn oldest(&self) -> Result<Start, Blocked> {
        self.locate(u64::from(self.shape.capacity), self.shape.capacity <= COUNTED_MAX)
    }

    /// Returns the position before the last `count` messages, `capacity` at most. If `is_counted`,
    /// holes do not count.
    fn locate(&self, count: u64, is_counted: bool) -> Result<Start, Blocked> {
        let count = count.min(u64::from(self.shape.capacity));
        let (mut steps, begun) = (self.steps(), self.tail());
        while steps.take() {
            let Some((next, before)) = self.snapshot() else { continue };
            let first = next.number.saturating_sub(u64::from(self.shape.slots));
            let kept = self.floor().clamp(first, next.number);
            let start = if is_counted {
                self.back(kept, next.number, count, &mut steps)
            } else {
                Some(next.number.saturating_sub(count).max(kept))
            };
            let Some(start) = start else { continue };
            if let Some(messages) = self.messages(first, start, &mut steps) {
                return Ok(Start { at: self.position(start), ordinal: before.wrapping_add(messages) });
            }
        }
        Err(self.diagnose(begun))
    }

    /// Returns a position with the number of messages before it; the oldest one, if that is later.
    fn locate_position(&self, number: u64) -> Result<Start, Blocked> {
        let (mut steps, begun) = (self.steps(), self.tail());
        while steps.take() {
            let Some((next, before)) = self.snapshot() else { continue };
            let first = next.number.saturating_sub(u64::from(self.shape.slots));
            let start = number.clamp(first, next.number);
            if let Some(messages) = self.messages(first, start, &mut steps) {
                return Ok(Start { at: self.position(start), ordinal: before.wrapping_add(messages) });
            }
        }
        Err(self.diagnose(begun))
    }

    /// Returns why all steps were used since `tail` was `begun`. If no publisher was faster, the
    /// words contradict each other.
    fn diagnose(&self, begun: u64) -> Blocked {
        if self.tail() == begun {
            Blocked::Corrupted
        } else {
            Blocked::Later
        }
    }

    /// Returns the position of the last message but `count - 1` before `next`, or `first`.
    fn back(&self, first: u64, next: u64, count: u64, steps: &mut Steps) -> Option<u64> {
        let (mut number, mut left) = (next, count);
        while left > 0 && number > first && steps.take() {
            let at = self.position(number - 1);
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match age(word, at) {
                Age::Here => left -= u64::from(word.status() == Status::Full),
                // Overwritten, as are all before it.
                Age::Next | Age::Ahead => break,
                Age::Behind | Age::Far => return None,
            }
            number -= 1;
        }
        Some(number)
    }

    /// Counts the messages of the positions from `first` up to `end`, each of which it decides.
    /// `None` if publishers went once round meanwhile.
    fn messages(&self, first: u64, end: u64, steps: &mut Steps) -> Option<u64> {
        let (mut at, mut messages) = (self.position(first), 0);
        while at.number < end {
            messages += u64::from(self.is_message(at, steps)?);
            at = self.next(at);
        }
        Some(messages)
    }

    /// Returns whether a claimed position has or had a message; decides it if necessary. `None` if
    /// publishers went once round meanwhile.
    fn is_message(&self, at: Position, steps: &mut Steps) -> Option<bool> {
        while steps.take() {
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match (age(word, at), word.status()) {
                (Age::Here, Status::Writing) => self.revoke(at, word, steps),
                (Age::Here, status) => return Some(status == Status::Full),
                (Age::Next, _) => return Some(!word.is_gap()),
                (Age::Behind | Age::Ahead | Age::Far, _) => return None,
            }
        }
        None
    }

    /// Returns the position with `ordinal` messages before it, or the oldest one, and the number of
    /// messages between the two. `None` if fewer are published.
    fn locate_ordinal(&self, ordinal: u64) -> Result<Option<(Start, u64)>, Blocked> {
        let (mut steps, begun) = (self.steps(), self.tail());
        'again: while steps.take() {
            let Some((next, mut before)) = self.snapshot() else { continue };
            let mut at = self.position(next.number.saturating_sub(u64::from(self.shape.slots)));
            if before > ordinal {
                return Ok(Some((Start { at, ordinal: before }, before - ordinal)));
            }
            while before < ordinal {
                if at.number >= next.number {
                    return Ok(None);
                }
                let Some(is_message) = self.is_message(at, &mut steps) else { continue 'again };
                before = before.wrapping_add(u64::from(is_message));
                at = self.next(at);
            }
            return Ok(Some((Start { at, ordinal }, 0)));
        }
        Err(self.diagnose(begun))
    }
}
