//! The producers' side of the held-slot ring: claiming a slot and publishing its message.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::backoff::{changes, is_other, Backoff, SPINS};
use super::descriptor::WAKE_ALL;
use super::ring::{Claim, Late, Ring};
use super::slot::{age, Age, Position, Status, Word};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::{Ordered, OrderedChange};
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// A send checks its deadline each time it has lost this many positions in a row.
const REVOKED_MAX: u32 = 1 << 10;

/// The result of a search for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// A slot that can be claimed, perhaps after skipping positions.
    Room(Position),
    /// No slot can be reached.
    Full,
    /// The words do not fit the position: `tail` has moved, or memory is corrupted.
    Stale,
}

impl Ring {
    /// Claims a slot for `me` to write into. A caller that has a slot already passes it as `own`,
    /// and may get it again: a loan that lost its position, or a sender that has taken the message
    /// which it replaces.
    #[inline]
    pub(crate) fn try_claim(&self, me: OwnerId, own: Option<u32>) -> Result<Claim, Blocked> {
        let claim = self.claim_next(me, own)?;
        self.move_tail(claim);
        Ok(claim)
    }

    /// Claims like [`try_claim`](Ring::try_claim), and leaves `tail` where it is.
    #[inline]
    pub(crate) fn claim_next(&self, me: OwnerId, own: Option<u32>) -> Result<Claim, Blocked> {
        // The first step of search_and_claim(), without what its loop needs. A model needs it once.
        if !cfg!(loom) {
            let tail = self.tail(Acquire); // pairs with advance()
            if !tail.is_closed() {
                let slot = self.slot_at(tail)?;
                let word = Word(slot.load(Acquire)); // pairs with free(): its last user is done
                if word == Word::new(tail.lap(), Status::Empty, None) {
                    if let Some(claim) = self.claim_at(tail, slot, word, me) {
                        return Ok(claim);
                    }
                }
            }
        }
        self.search_and_claim(me, own)
    }

    /// Claims a slot, in as many steps as it takes.
    #[cold]
    fn search_and_claim(&self, me: OwnerId, own: Option<u32>) -> Result<Claim, Blocked> {
        let (mut backoff, mut steps, mut room) = (Backoff::default(), self.steps(), None);
        while steps.take() {
            let tail = self.tail(Acquire); // pairs with advance()
            if tail.is_closed() {
                return Err(Blocked::Closed);
            }
            let slot = self.slot_at(tail)?;
            let word = Word(slot.load(Acquire)); // pairs with free(): its last user is done
            if word == Word::new(tail.lap(), Status::Empty, None) {
                if let Some(claim) = self.claim_at(tail, slot, word, me) {
                    return Ok(claim);
                }
                backoff.spin();
            } else {
                let own = own.map(|index| (index, me));
                if let Some(claim) = self.skip_or_help(tail, slot, word, me, own, &mut backoff, &mut room)? {
                    return Ok(claim);
                }
            }
        }
        Err(self.diagnose())
    }

    /// Claims the slot of the position that `tail` has. `None` if its word is not `word` any more.
    #[inline(always)]
    fn claim_at(&self, tail: Position, slot: &AtomicU64, word: Word, me: OwnerId) -> Option<Claim> {
        let mine = Word::new(tail.lap(), Status::Writing, writer(me));
        // SeqCst: before pass_on() checks the waiters.
        slot.compare_exchange(word.0, mine.0, SeqCst, Relaxed).ok()?;
        Some(Claim { index: tail.index(), lap: tail.lap() })
    }

    /// Moves `tail` past a position that the caller has claimed, if nobody else has.
    #[inline]
    pub(crate) fn move_tail(&self, claim: Claim) {
        self.advance(&self.descriptor().tail, Position::new(claim.lap, claim.index));
    }

    /// Handles a position that is not free: helps `tail` on, skips the position, or reports that
    /// there is no room. `Ok(None)` means to try again. `room` caches where room was found, so that
    /// skipping many positions takes one search.
    #[cold]
    #[allow(clippy::too_many_arguments)]
    fn skip_or_help(
        &self,
        tail: Position,
        slot: &AtomicU64,
        word: Word,
        me: OwnerId,
        own: Option<(u32, OwnerId)>,
        backoff: &mut Backoff,
        room: &mut Option<Position>,
    ) -> Result<Option<Claim>, Blocked> {
        match (age(word, tail), word.status()) {
            (Age::Here, Status::Empty) if !is_other(slot, word) => return Err(Blocked::Corrupted),
            (Age::Here, Status::Empty) => {}
            (Age::Here | Age::Ahead, _) => self.help(&self.descriptor().tail, tail, word, backoff),
            (Age::Behind, Status::Full) if !self.withdraws() => {
                return if self.is_at_tail(tail) { Err(Blocked::Later) } else { Ok(None) };
            }
            (Age::Behind, _) if is_own(word, tail.index(), own) => {
                return Ok(self.claim_at(tail, slot, word, me));
            }
            (Age::Behind, status) => {
                let is_known = room.is_some_and(|position| self.is_free(position));
                // A reader or writer is about to be done, most of the time.
                let is_at_work = matches!(status, Status::Reading | Status::Writing);
                if !is_known && is_at_work && changes(slot, word, SPINS) {
                    return Ok(None);
                }
                let search = if is_known {
                    room.map_or(Search::Full, Search::Room)
                } else {
                    self.search_room(tail.next(self.capacity), self.capacity - 1, own)
                };
                match (search, self.skipped(tail.index(), word)) {
                    // Polls longer for a large message, but only with room behind it, because
                    // without room the caller waits by the clock.
                    (Search::Room(_), Some(_))
                        if !is_known
                            && status == Status::Writing
                            && changes(slot, word, backoff.write_spins(self.write_spins)) => {}
                    (Search::Room(position), Some(skipped)) => {
                        *room = Some(position);
                        // A position is skipped only if there is room behind it. Pairs with the
                        // Acquire of try_claim() and try_take(), which find the position over.
                        if slot.compare_exchange(word.0, skipped.0, AcqRel, Relaxed).is_ok() {
                            self.advance(&self.descriptor().tail, tail);
                        }
                    }
                    _ if !self.is_at_tail(tail) || is_other(slot, word) => {}
                    (Search::Full, Some(_)) => return Err(Blocked::Later),
                    _ => return Err(Blocked::Corrupted),
                }
            }
            (Age::Far, _) if self.is_at_tail(tail) => return Err(Blocked::Corrupted),
            (Age::Far, _) => {}
        }
        Ok(None)
    }

    /// Returns whether the slot of this position is free for it.
    fn is_free(&self, position: Position) -> bool {
        let word = Word(self.slot(position.index()).load(Acquire)); // pairs with free()
        word == Word::new(position.lap(), Status::Empty, None)
    }

    /// Returns whether `tail` is still at `position`. False for a closed one, so producers check
    /// again.
    fn is_at_tail(&self, position: Position) -> bool {
        self.tail(Acquire) == position // pairs with move_on()
    }

    /// Searches the next `count` positions from `position` on for a free slot, with only positions
    /// that can be skipped before it.
    fn search_room(&self, mut position: Position, count: u32, own: Option<(u32, OwnerId)>) -> Search {
        for _ in 0..count {
            let index = position.index();
            let word = Word(self.slot(index).load(Acquire)); // pairs with free()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Empty) => return Search::Room(position),
                (Age::Behind, _) if is_own(word, index, own) => return Search::Room(position),
                (Age::Behind, Status::Full) if !self.withdraws() => return Search::Full,
                (Age::Behind, _) if self.skipped(index, word).is_some() => {
                    position = position.next(self.capacity)
                }
                _ => return Search::Stale,
            }
        }
        Search::Full
    }

    /// Returns whether a producer would find room now.
    pub(crate) fn has_room(&self) -> bool {
        let tail = self.tail(Acquire).open();
        // The load pairs with move_on(). Stale: `tail` lags, so another participant is at work
        // there.
        tail.index() < self.capacity && self.search_room(tail, self.capacity, None) != Search::Full
    }

    /// Claims like [`try_claim`](Ring::try_claim), but blocks until there is room, the queue is
    /// closed, or the deadline passes.
    pub(crate) fn claim(
        &self,
        me: OwnerId,
        own: Option<u32>,
        deadline: Deadline,
        reap_dead: impl FnMut(),
    ) -> Result<Claim, Blocked> {
        let attempt = || {
            if own.is_some() {
                self.ask_to_wake_all();
            }
            match self.try_claim(me, own) {
                Err(Blocked::Later) => None,
                done => Some(done),
            }
        };
        let claim = self.senders().wait(deadline, reap_dead, attempt).unwrap_or(Err(Blocked::Later))?;
        self.pass_on_after_claim();
        Ok(claim)
    }

    /// Makes the next change wake all waiting producers, because they cannot all use the same room.
    /// The caller searches for room afterwards.
    pub(crate) fn ask_to_wake_all(&self) {
        // Before the search, as the announcement of a waiter: pairs with wake_sender().
        self.descriptor().notices.word.fetch_or(WAKE_ALL, SeqCst);
        Ordered::by_fence();
    }

    /// Like [`pass_on`](Ring::pass_on), for a producer that has waited.
    pub(crate) fn pass_on_after_claim(&self) {
        self.pass_on(Ordered::by_fence());
    }

    /// Wakes the next producer if there is room for it too. Slots become free in any order, so a
    /// producer may have been woken for a slot that it could not reach then, and can now.
    #[inline]
    pub(super) fn pass_on(&self, change: Ordered) {
        if self.senders().is_waited_on_after(change) {
            self.wake_if_room(change);
        }
    }

    #[cold]
    fn wake_if_room(&self, change: Ordered) {
        // Pairs with the announcement in claim().
        if self.has_room() || self.descriptor().notices.word.load(SeqCst) & WAKE_ALL != 0 {
            self.wake_sender(change);
        }
    }

    /// Publishes the message of a claimed slot.
    #[inline]
    pub(crate) fn publish(&self, me: OwnerId, claim: Claim) -> Result<(), Late> {
        let mine = Word::new(claim.lap, Status::Writing, writer(me));
        let full = Word::new(claim.lap, Status::Full, None);
        // This swap is the publication. It is SeqCst on success (see OrderedChange), so also a
        // Release: it pairs with the Acquire load of the slot's word in try_take(), and the
        // consumer sees the message. A failed swap pairs with skip_or_help() and revoke_writer(),
        // which skip the position.
        match self.slot(claim.index).exchange_ordered(mine.0, full.0, Acquire) {
            Ok(change) => {
                self.receivers().notify_one(change);
                Ok(())
            }
            Err(now) if Word(now).names(me) && Word(now).status() == Status::Held => Err(Late::Revoked),
            Err(_) => Err(Late::Corrupted),
        }
    }

    /// Sends the message that `write` puts into the slot with the given index.
    ///
    /// Moves `tail` after the publication. So the slot is WRITING for a few instructions only, and
    /// a consumer that polls it seldom takes its cache line from the producer in between.
    #[inline]
    pub(crate) fn try_send(&self, me: OwnerId, write: impl FnMut(u32)) -> Result<(), Blocked> {
        let claim = self.send_by(me, Deadline::At(0), || self.claim_next(me, None), write)?;
        self.move_tail(claim);
        Ok(())
    }

    /// Sends like [`try_send`](Ring::try_send), but blocks until there is room, the queue is
    /// closed, or the deadline passes.
    pub(crate) fn send(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut reap_dead: impl FnMut(),
        write: impl FnMut(u32),
    ) -> Result<(), Blocked> {
        self.send_by(me, deadline, || self.claim(me, None, deadline, &mut reap_dead), write).map(drop)
    }

    /// Sends a message by a claim that `find` returns, and returns that claim.
    #[inline]
    fn send_by(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut find: impl FnMut() -> Result<Claim, Blocked>,
        mut write: impl FnMut(u32),
    ) -> Result<Claim, Blocked> {
        // Each turn but the last loses its position to a consumer that skips it.
        for turn in (1..=REVOKED_MAX).cycle() {
            let claim = find()?;
            let early = is_planted(Fault::PublishBeforeWrite).then(|| self.publish(me, claim));
            write(claim.index);
            match early.unwrap_or_else(|| self.publish(me, claim)) {
                Ok(()) => return Ok(claim),
                Err(Late::Corrupted) => return Err(Blocked::Corrupted),
                // A consumer skipped the position. Its slot must be free before the next claim, or
                // we might wait for ourselves.
                Err(Late::Revoked) => self.free(me, claim),
            }
            if turn == REVOKED_MAX && deadline.has_passed() {
                break;
            }
        }
        Err(Blocked::Later)
    }

    /// Sends the message of a claimed slot. If the position was lost, `find` claims another slot,
    /// and `copy` copies the message there. Returns the slot in which it was sent, or, on failure,
    /// the slot that is still held.
    #[inline]
    pub(crate) fn send_claimed(
        &self,
        me: OwnerId,
        claim: Claim,
        deadline: Deadline,
        find: impl FnMut(u32) -> Result<Claim, Blocked>,
        copy: impl FnMut(u32, u32),
    ) -> Result<Claim, (Blocked, Claim)> {
        match self.publish(me, claim) {
            Ok(()) => Ok(claim),
            Err(late) => self.send_again(me, (claim, late), deadline, find, copy),
        }
    }

    /// Sends the message of a claimed slot after a first attempt that was too late.
    #[cold]
    fn send_again(
        &self,
        me: OwnerId,
        (mut claim, mut late): (Claim, Late),
        deadline: Deadline,
        mut find: impl FnMut(u32) -> Result<Claim, Blocked>,
        mut copy: impl FnMut(u32, u32),
    ) -> Result<Claim, (Blocked, Claim)> {
        for turn in (1..=REVOKED_MAX).cycle().skip(1) {
            if late == Late::Corrupted {
                return Err((Blocked::Corrupted, claim));
            }
            let other = find(claim.index).map_err(|blocked| (blocked, claim))?;
            if other.index != claim.index {
                copy(claim.index, other.index);
                self.free(me, claim);
            }
            claim = other;
            match self.publish(me, claim) {
                Ok(()) => return Ok(claim),
                Err(again) => late = again,
            }
            if turn == REVOKED_MAX && deadline.has_passed() {
                break;
            }
        }
        Err((Blocked::Later, claim))
    }
}

/// Returns whether a slot with this index and word is the caller's own, to be claimed again: HELD
/// after a lost position, READING or KEPT after a message was taken to be replaced.
fn is_own(word: Word, index: u32, own: Option<(u32, OwnerId)>) -> bool {
    let is_held = word.is_consumers() || word.status() == Status::Held;
    is_held && own.is_some_and(|(own, me)| own == index && word.names(me))
}

/// Returns the owner that a slot names when `me` claims it.
#[inline(always)]
fn writer(me: OwnerId) -> Option<OwnerId> {
    (!is_planted(Fault::ForgetOwner)).then_some(me)
}
