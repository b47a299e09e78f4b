//! The gate: publishers wait for lossless subscribers.
//!
//! A lossless subscriber loses nothing because no position is claimed that is `capacity` or more
//! positions ahead of its cursor. The cursor is in its line. The gate is the minimum over all
//! lossless lines, kept in one word: publishers load that word, and scan the lines only when they
//! reach it. A topic that never had a lossless subscriber has no bit `GATED` in its `tail`, and its
//! publishers do not even load the word.
//!
//! Positions that were skipped count too, except those directly at the cursor. Otherwise a
//! subscriber that waits could seem to lag, with nothing to receive. For the same reason a
//! publisher takes the position at the cursor away from one that is still at work there, as
//! subscribers do.
//!
//! # State
//!
//! | step of a joining subscriber | publishers |
//! |---|---|
//! | 1. it finds its start, and stores it as its cursor | overwrite what they like |
//! | 2. the line becomes LOSSLESS | the same |
//! | 3. the gate admits no later position, and has another number of joins | scan, and may wait |
//! | 4. `tail`, at `t`, gets the bit `GATED` | those that claim `t + 1` or later have scanned |
//! | 5. if the start was overwritten by `t`, it finds another | wait for the first start |
//!
//! If messages differ in length, publishers that need memory discard messages also before they are
//! overwritten. A subscriber makes them check its line before step 4, and a start below the floor
//! counts as overwritten in step 5: see [`floor`](super::floor).
//!
//! After step 4 one publisher may still claim `t` without a scan, because it had loaded `tail`
//! before. So a start from `t + 1 - slots` on is safe. An older one may be overwritten. The
//! subscriber begins anew, at `t + 1 - slots` or later, and this time the ring does not move: the
//! publishers wait for its first start.
//!
//! # Memory ordering
//!
//! - Every position but the first is claimed after an Acquire load of the swap that moved `tail`
//!   there. Each change of `tail` is an AcqRel read-modify-write, so that swap comes after step 4,
//!   and the claimant sees steps 1 to 3.
//! - A scan loads the gate (Acquire), the lines, and swaps the gate. If a subscriber joins
//!   meanwhile, the number of joins has changed, and the swap fails.
//! - A cursor is stored Release after the message was read, and loaded Acquire by the scan.
//! - A subscriber stores its cursor, passes a light fence and loads the word of the publishers that
//!   wait. They announce themselves with a heavy barrier: see [`crate::wait`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | subscriber: line taken, not LOSSLESS | as of a lossy one | `recover` | nothing |
//! | subscriber: LOSSLESS, or later | a publisher that waits for it | it reaps it | nothing |
//! | subscriber: cursor stored, nobody woken | a publisher, after its slice | its attempt | 50 ms |
//! | subscriber: line freed, nobody woken | the same | the same | 50 ms |
//! | publisher: scanned, the gate not swapped | the next publisher | it scans | nothing |
//! | publisher: evicted one, claimed nothing | not needed | | nothing |
//!
//! A publisher checks at the end of each slice, and at its deadline, whether the subscribers that
//! it waits for are alive. So a dead one holds it up for 50 ms at most. One that is stopped is not
//! dead, and is treated by the topic's [`Policy`](super::Policy) like one that is slow.

use super::descriptor::{Line, CLOSED, GATED, NUMBER};
use super::line::{Gate, LineWord, Mode, AHEAD_MAX};
use super::locate::Wanted;
use super::publish::Unsent;
use super::receive::Cursor;
use super::ring::{Ring, Steps, SWAPS_MAX};
use super::word::{age, Age, Position, Status, Word};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::Ordered;
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;
use crate::wait::Waiters;

/// What a publisher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The next position.
    Position,
    /// Memory that messages have which a lossless subscriber has yet to receive.
    Memory,
}

/// Attempts to join of a subscriber that is evicted each time before it has begun.
const JOINS_MAX: u32 = 64;

impl Ring {
    /// Publishers that wait for lossless subscribers.
    pub(crate) fn room(&self) -> &Waiters {
        &self.descriptor().room.waiters
    }

    fn gate(&self) -> &AtomicU64 {
        &self.descriptor().end.gate
    }

    /// Returns whether the next position may be claimed, as far as the lossless subscribers are
    /// concerned. Called only if there was one.
    #[inline]
    pub(super) fn is_admitted(&self, next: Position, steps: &mut Steps) -> bool {
        // Pairs with raise() and announce().
        Gate(self.gate().load(Acquire)).admits(next.number) || self.raise(next, steps)
    }

    /// Returns whether a position may be claimed, for a publisher that has work to do before it
    /// claims one.
    pub(super) fn check_gate(&self) -> Result<(), Unsent> {
        let tail = self.tail();
        if tail & CLOSED != 0 {
            Err(Blocked::Closed.into())
        } else if tail & GATED != 0 && !self.is_admitted(self.position(tail & NUMBER), &mut self.steps()) {
            Err(Unsent::Gated(Lack::Position))
        } else {
            Ok(())
        }
    }

    /// Scans the lines, and raises the gate as far as they permit. Returns whether it admits the
    /// next position.
    #[inline(never)]
    fn raise(&self, next: Position, steps: &mut Steps) -> bool {
        for _ in 0..SWAPS_MAX {
            let gate = Gate(self.gate().load(Acquire)); // pairs with announce() and this function
            if gate.admits(next.number) {
                return true;
            }
            let limits = self.lossless().map(|(_, line, _)| self.limit(line, next, steps));
            let limit = limits.min().unwrap_or(next.number + AHEAD_MAX);
            if limit <= next.number {
                return false;
            }
            // Pairs with the load above.
            let raised = gate.with_limit(limit);
            if self.gate().compare_exchange(gate.0, raised.0, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// Returns the lossless subscribers: index, line, and the line's word.
    fn lossless(&self) -> impl Iterator<Item = (u32, &Line, LineWord)> {
        let may_be = self.descriptor().end.lossless.load(Acquire); // pairs with announce()
        let is_wanted = move |(index, _): &(usize, _)| may_be & 1 << (index % 64) != 0;
        self.lines().iter().enumerate().filter(is_wanted).filter_map(|(index, line)| {
            let word = LineWord(line.state.load(Acquire)); // pairs with announce()
            word.is_lossless().then_some((index as u32, line, word))
        })
    }

    /// Returns the first position that may not be claimed because of a lossless subscriber. The
    /// next position to claim is `next`.
    fn limit(&self, line: &Line, next: Position, steps: &mut Steps) -> u64 {
        let cursor = line.cursor.load(Acquire); // pairs with step() and begin_at()
        let capacity = u64::from(self.shape.capacity);
        let limit = cursor.saturating_add(capacity);
        if limit > next.number {
            return limit;
        }
        self.first_message(cursor, next, steps).saturating_add(capacity)
    }

    /// Returns the first position from `cursor` on that has a message, `next` at most.
    #[cold]
    fn first_message(&self, cursor: u64, next: Position, steps: &mut Steps) -> u64 {
        let slots = u64::from(self.shape.slots);
        if next.number.saturating_sub(cursor) > slots {
            return cursor; // overwritten, or damaged
        }
        let mut at = self.position(cursor);
        for _ in 0..2 * slots {
            if at.number >= next.number {
                break;
            }
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            match (age(word, at), word.status()) {
                (Age::Here, Status::Hole | Status::Held) => at = self.next(at),
                (Age::Here, Status::Writing) => self.revoke(at, word, steps),
                _ => break,
            }
        }
        at.number
    }

    /// Returns whether a lossless subscriber has yet to receive the message of this position, or an
    /// older one.
    pub(super) fn is_awaited(&self, number: u64, steps: &mut Steps) -> bool {
        self.lossless().any(|(_, line, _)| self.awaits(line, number, steps))
    }

    /// Returns whether the subscriber has yet to receive the message of this position, or an older
    /// one.
    fn awaits(&self, line: &Line, number: u64, steps: &mut Steps) -> bool {
        let cursor = line.cursor.load(Acquire); // pairs with step() and begin_at()
        cursor <= number && self.first_message(cursor, self.position(number + 1), steps) <= number
    }

    /// Returns the lossless subscribers for which the next publication has to wait: the index of
    /// the line, and its word.
    fn laggards(&self, lack: Lack) -> impl Iterator<Item = (u32, LineWord)> + '_ {
        let (next, oldest) = (self.position(self.end()), self.oldest_kept());
        let mut steps = self.steps();
        let mut lags = move |line: &Line| match lack {
            Lack::Position => self.limit(line, next, &mut steps) <= next.number,
            Lack::Memory => self.awaits(line, oldest, &mut steps),
        };
        self.lossless().filter(move |(_, line, _)| lags(line)).map(|(index, _, word)| (index, word))
    }

    /// Returns the participants for which the next publication has to wait.
    pub(crate) fn hindering(&self, lack: Lack) -> impl Iterator<Item = OwnerId> + '_ {
        self.laggards(lack).filter_map(|(_, word)| word.owner())
    }

    /// Makes the subscribers for which the next publication has to wait lossy. Returns whether
    /// there were any.
    pub(crate) fn evict(&self, lack: Lack) -> bool {
        let mut has_evicted = false;
        for (index, word) in self.laggards(lack) {
            // Pairs with is_evicted(). If it fails, the subscriber has left, or was evicted.
            let state = &self.line(index).state;
            let evicted = word.with(Mode::Evicted);
            has_evicted |= state.compare_exchange(word.0, evicted.0, AcqRel, Relaxed).is_ok();
        }
        if has_evicted {
            self.room().notify_all(Ordered::by_fence());
        }
        has_evicted
    }

    /// Returns the cursor of a new lossless subscriber that has taken `line`. `None` if it wants to
    /// begin with a message that is not published yet.
    pub(crate) fn begin_lossless(&self, wanted: Wanted, line: u32) -> Result<Option<Cursor>, Blocked> {
        for _ in 0..JOINS_MAX {
            let Some(mut cursor) = self.begin_at(wanted, line)? else { return Ok(None) };
            let (kept, word) = self.announce(line);
            if cursor.at.number < kept && !is_planted(Fault::JoinUnchecked) {
                // Publishers were faster. Now they wait.
                let Some(later) = self.begin_from(kept, wanted, line)? else { return Ok(None) };
                cursor = later;
                self.room().notify_all(Ordered::by_fence());
            }
            // Otherwise it was evicted before it had begun.
            if self.line(line).state.load(Acquire) == word.0 {
                return Ok(Some(Cursor { is_lossless: true, ..cursor }));
            }
        }
        Err(Blocked::Later)
    }

    /// Makes a line that was taken lossless: publishers wait for its cursor. Returns the number of
    /// the oldest position that all of them keep from now on, and the line's word.
    pub(crate) fn announce(&self, index: u32) -> (u64, LineWord) {
        let (line, end) = (self.line(index), &self.descriptor().end);
        let word = LineWord(line.state.load(Relaxed)).with(Mode::Lossless);
        line.state.store(word.0, Release); // pairs with lossless()
        end.lossless.fetch_or(1 << (index % 64), Release); // pairs with lossless()
        if !is_planted(Fault::JoinUngated) {
            // Pairs with is_admitted().
            let next = self.end();
            let _ = self.gate().fetch_update(AcqRel, Relaxed, |gate| Some(Gate(gate).joined(next).0));
        }
        let floor = self.join_floor();
        // Pairs with tail(): a process that loads a later position sees all of this.
        let next = end.tail.fetch_or(GATED, AcqRel) & NUMBER;
        // One publisher may still claim the next position before it knows.
        ((next + 1).saturating_sub(u64::from(self.shape.slots)).max(floor), word)
    }

    /// Wakes the next publisher that waits, if the gate admits it too: one receive can admit
    /// several positions, and it wakes one publisher.
    pub(crate) fn pass_on_room(&self) {
        let change = Ordered::by_fence(); // before the check of the waiters
        let next = self.position(self.end());
        if self.room().is_waited_on_after(change) && self.is_admitted(next, &mut self.steps()) {
            self.room().notify_one(change);
        }
    }

    /// Returns whether a subscriber that was lossless is not any more.
    #[inline]
    pub(crate) fn is_evicted(&self, cursor: &Cursor) -> bool {
        // Pairs with evict(): what was published since then may be missing.
        !LineWord(self.line(cursor.line).state.load(Acquire)).is_lossless()
    }
}
