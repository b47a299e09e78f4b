//! The publishers' side of a topic's ring: claiming a position and publishing its message.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::descriptor::{CLOSED, GATED, NUMBER};
use super::gate::Lack;
use super::ring::{Ring, SWAPS_MAX};
use super::word::{age, Age, Position, Status, Word};
use crate::loom::atomic::fence;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::{Ordered, OrderedChange};
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;

/// The number of positions that a call loses in a row before it reports `Later`.
const REVOKED_MAX: u32 = 1 << 10;

/// A claimed slot: the position, and the word of the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) position: Position,
    word: Word,
}

/// The reason why a message could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// The position was taken away. The slot is still held.
    Revoked,
    /// The slot is not held any more: its word was overwritten.
    Corrupted,
}

/// The reason why nothing can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Not before a lossless subscriber has received more.
    Gated(Lack),
    /// As for a queue. `Later`: all slots are in use in place, or the position was lost too often.
    Blocked(Blocked),
}

impl From<Blocked> for Unsent {
    #[inline]
    fn from(blocked: Blocked) -> Unsent {
        Unsent::Blocked(blocked)
    }
}

impl Ring {
    /// Claims the next position for `me` to write its message. Overwrites the oldest message. Skips
    /// positions whose slots are in use in place. `Later` means that all slots are.
    #[inline]
    pub(crate) fn try_claim(&self, me: OwnerId) -> Result<Claim, Unsent> {
        let (mut steps, mut skipped) = (self.steps(), 0);
        while steps.take() {
            let tail = self.tail();
            let position = self.position(tail & NUMBER);
            if tail & (CLOSED | GATED) != 0 {
                if tail & CLOSED != 0 {
                    return Err(Blocked::Closed.into());
                }
                // The gate does not concern a position that was claimed already. But if it does not
                // admit the position, nobody needs to move `tail` past it now.
                if !self.is_admitted(position, &mut steps) {
                    return Err(Unsent::Gated(Lack::Position));
                }
            }
            let slot = self.word(position.index);
            let word = Word(slot.load(Acquire)); // pairs with publish() and free()
            match age(word, position) {
                Age::Behind if word.is_held() => {
                    if skipped == self.shape.slots {
                        return Err(Blocked::Later.into());
                    }
                    // Most likely it is about to be done.
                    let is_at_work = word.status() == Status::Writing;
                    if !is_at_work || !self.changes(position.index, word, &mut steps) {
                        skipped += u32::from(self.skip(tail, position, word));
                    }
                }
                Age::Behind => {
                    let claimed = self.claimed(word, position, me);
                    // SeqCst: before the pins are checked.
                    let Ok(change) = slot.exchange_ordered(word.0, claimed.0, Relaxed) else { continue };
                    self.advance(tail, claimed);
                    let claim = Claim { position, word: claimed };
                    if !claimed.is_pinned() {
                        self.begin(claim);
                        return Ok(claim);
                    }
                    if let Some(claim) = self.check_pins(me, claim, change) {
                        return Ok(claim);
                    }
                    skipped += 1;
                    if skipped > self.shape.slots {
                        return Err(Blocked::Later.into());
                    }
                }
                Age::Here => self.advance(tail, word),
                Age::Next | Age::Ahead | Age::Far => {
                    if self.tail() == tail {
                        return Err(Blocked::Corrupted.into());
                    }
                }
            }
        }
        Err(Blocked::Later.into())
    }

    /// Skips a position whose slot a publisher is still in. If that publisher was WRITING, it loses
    /// its position too.
    #[cold]
    fn skip(&self, tail: u64, position: Position, word: Word) -> bool {
        let (slot, next) = (self.word(position.index), self.skipped(word, position));
        // Pairs with the Acquire of try_claim() and find().
        let is_mine = slot.compare_exchange(word.0, next.0, AcqRel, Relaxed).is_ok();
        if is_mine {
            self.advance(tail, next);
        }
        is_mine
    }

    /// Decides about a claimed slot in which a message may be read in place: it is ours, or the
    /// position becomes a hole.
    #[cold]
    fn check_pins(&self, me: OwnerId, claim: Claim, _change: Ordered) -> Option<Claim> {
        fence(SeqCst); // pairs with the fence in try_pin()
        let is_pinned = self.is_pinned(claim.position.index);
        let next = if is_pinned { claim.word.freed() } else { claim.word.unpinned() };
        // Pairs with find(). A failed swap pairs with revoke() and skip(), which took the position.
        match self.word(claim.position.index).compare_exchange(claim.word.0, next.0, AcqRel, Acquire) {
            Ok(_) if is_pinned => None,
            Ok(_) => {
                let claim = Claim { word: next, ..claim };
                self.begin(claim);
                Some(claim)
            }
            Err(_) => {
                self.free(me, claim);
                None
            }
        }
    }

    /// Begins to write: a subscriber that copies a byte from here on sees the claim afterwards.
    #[inline]
    fn begin(&self, claim: Claim) {
        fence(Release); // pairs with the fence in try_copy()
        self.slot(claim.position.index).position.store(claim.position.number, Relaxed);
    }

    /// Publishes the message of a claimed slot.
    #[inline]
    pub(crate) fn publish(&self, me: OwnerId, claim: Claim) -> Result<(), Late> {
        let full = claim.word.published();
        // This swap is the publication. SeqCst, so also a Release: it pairs with the Acquire load
        // of the word in find(). A failed swap pairs with skip() and revoke(), which took the
        // position.
        match self.word(claim.position.index).exchange_ordered(claim.word.0, full.0, Acquire) {
            Ok(change) => {
                self.sleepers().notify_all(change);
                Ok(())
            }
            Err(now) if Word(now).names(me) && Word(now).status() == Status::Held => Err(Late::Revoked),
            Err(_) => Err(Late::Corrupted),
        }
    }

    /// Leaves a claimed slot without a message. Its position becomes a hole.
    #[cold]
    pub(crate) fn free(&self, me: OwnerId, claim: Claim) {
        let slot = self.word(claim.position.index);
        let mut seen = claim.word;
        // A failed swap shows a word of HELD, perhaps of a later turn: others move it on, but only
        // the owner leaves. A word that does not name `me` was overwritten.
        for _ in 0..SWAPS_MAX {
            if !seen.names(me) || !seen.is_held() {
                return;
            }
            // Pairs with the Acquire of try_claim(): the next publisher writes after us.
            match slot.compare_exchange(seen.0, seen.freed().0, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => seen = Word(now),
            }
        }
    }

    /// Publishes the message that `write` puts into the slot with the given index.
    #[inline]
    pub(crate) fn send(&self, me: OwnerId, mut write: impl FnMut(u32)) -> Result<(), Unsent> {
        for _ in 0..REVOKED_MAX {
            let claim = self.try_claim(me)?;
            write(claim.position.index);
            match self.publish(me, claim) {
                Ok(()) => return Ok(()),
                Err(Late::Corrupted) => return Err(Blocked::Corrupted.into()),
                Err(Late::Revoked) => self.free(me, claim),
            }
        }
        Err(Blocked::Later.into())
    }

    /// Publishes the message of a claimed slot. If the position was taken away, `find` claims a new
    /// one, and `copy` copies the message from the first index to the second. On failure the slot
    /// that is still held is returned.
    #[inline]
    pub(crate) fn send_claimed<E: From<Blocked>>(
        &self,
        me: OwnerId,
        claim: Claim,
        find: impl FnMut() -> Result<Claim, E>,
        copy: impl FnMut(u32, u32),
    ) -> Result<(), (E, Claim)> {
        match self.publish(me, claim) {
            Ok(()) => Ok(()),
            Err(late) => self.send_again(me, (claim, late), find, copy),
        }
    }

    /// Publishes the message of a claimed slot after a first attempt that was too late.
    #[cold]
    fn send_again<E: From<Blocked>>(
        &self,
        me: OwnerId,
        (mut claim, mut late): (Claim, Late),
        mut find: impl FnMut() -> Result<Claim, E>,
        mut copy: impl FnMut(u32, u32),
    ) -> Result<(), (E, Claim)> {
        for _ in 1..REVOKED_MAX {
            if late == Late::Corrupted {
                return Err((Blocked::Corrupted.into(), claim));
            }
            // Another slot, because ours names us, and can only be skipped.
            let other = find().map_err(|error| (error, claim))?;
            copy(claim.position.index, other.position.index);
            self.free(me, claim);
            claim = other;
            match self.publish(me, claim) {
                Ok(()) => return Ok(()),
                Err(again) => late = again,
            }
        }
        Err((Blocked::Later.into(), claim))
    }
}

/// The steps before which the models let a publisher die.
#[cfg(test)]
impl Ring {
    /// Claims the next position, and dies before `tail` moves.
    pub(crate) fn die_claiming(&self, me: OwnerId) {
        let position = self.position(self.end());
        let word = Word(self.word(position.index).load(Acquire));
        if age(word, position) == Age::Behind {
            let slot = self.word(position.index);
            let _ = slot.compare_exchange(word.0, self.claimed(word, position, me).0, SeqCst, Relaxed);
        }
    }
}
