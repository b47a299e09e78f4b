//! The producers' side of the held-slot ring: claiming a slot, publishing what was written there.
//!
//! See [`ring`](super::ring) for the states, the orderings and the deaths.

use super::ring::{Claim, Late, Losses, Ring, Stop, MOMENT, PICKY};
use super::slot::{age, Age, Position, Status, Word};
use crate::fault::{is_planted, Fault};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::{sc_fence, spin_loop};
use crate::owner::OwnerId;
use crate::sys::clock::Deadline;

/// What a producer finds from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// A slot that can be claimed, perhaps after making holes.
    Room,
    /// No slot that can be reached.
    Full,
    /// Words that do not go with this position: `tail` has moved on, or memory is corrupted.
    Other,
}

impl Ring {
    /// Claims a slot for `me` to write into. A loan that lost its position but not its slot names the slot as
    /// `own`, and may get it again.
    #[inline]
    pub(crate) fn try_claim(&self, me: OwnerId, own: Option<u32>) -> Result<Claim, Stop> {
        let mut losses = Losses::default();
        loop {
            let tail = self.tail(Acquire); // pairs with advance()
            if tail.is_closed() {
                return Err(Stop::Closed);
            }
            let slot = self.slot_at(tail)?;
            let word = Word(slot.load(Acquire)); // pairs with free(): its last user is done
            if word == Word::new(tail.lap(), Status::Empty, None) {
                let mine = Word::new(tail.lap(), Status::Writing, writer(me));
                // SeqCst: before pass_on() looks at the waiters.
                if slot.compare_exchange(word.0, mine.0, SeqCst, Relaxed).is_ok() {
                    self.advance(&self.control().tail, tail);
                    return Ok(Claim { index: tail.index(), lap: tail.lap() });
                }
                losses.stay_away();
            } else {
                let own = own.map(|index| (index, me));
                if let Some(claim) = self.get_past(tail, slot, word, me, own, &mut losses)? {
                    return Ok(claim);
                }
            }
        }
    }

    /// What to do about a position that is not free: help `tail` on, make a hole, report no room. `Ok(None)`:
    /// look again.
    #[cold]
    fn get_past(
        &self,
        tail: Position,
        slot: &AtomicU64,
        word: Word,
        me: OwnerId,
        own: Option<(u32, OwnerId)>,
        losses: &mut Losses,
    ) -> Result<Option<Claim>, Stop> {
        match (age(word, tail), word.status()) {
            (Age::Here, Status::Empty) if !is_other(slot, word) => return Err(Stop::Corrupted),
            (Age::Here, Status::Empty) => {}
            (Age::Here | Age::Ahead, _) => self.help(&self.control().tail, tail, word, losses),
            (Age::Behind, Status::Full) => {
                return if self.is_at_tail(tail) { Err(Stop::Wait) } else { Ok(None) };
            }
            (Age::Behind, Status::Held) if own == Some((tail.index(), me)) && word.names(me) => {
                let mine = Word::new(tail.lap(), Status::Writing, Some(me));
                if slot.compare_exchange(word.0, mine.0, SeqCst, Relaxed).is_ok() {
                    self.advance(&self.control().tail, tail);
                    return Ok(Some(Claim { index: tail.index(), lap: tail.lap() }));
                }
            }
            (Age::Behind, status) => {
                // Whoever reads or writes is about to be done, most of the time.
                let looks = match status {
                    Status::Reading => MOMENT,
                    Status::Writing => self.patience,
                    _ => 0,
                };
                if changes(slot, word, looks) {
                    return Ok(None);
                }
                match (self.outlook(tail.next(self.capacity), self.capacity - 1, own), word.hole()) {
                    (Outlook::Room, Some(hole)) => {
                        // Positions are not burnt for nothing: there is room behind this one.
                        if slot.compare_exchange(word.0, hole.0, AcqRel, Relaxed).is_ok() {
                            self.advance(&self.control().tail, tail);
                        }
                    }
                    _ if !self.is_at_tail(tail) || is_other(slot, word) => {}
                    (Outlook::Full, Some(_)) => return Err(Stop::Wait),
                    _ => return Err(Stop::Corrupted),
                }
            }
            (Age::Far, _) if self.is_at_tail(tail) => return Err(Stop::Corrupted),
            (Age::Far, _) => {}
        }
        Ok(None)
    }

    /// Whether `tail` still stands there. A closed one does not: producers have to look again.
    fn is_at_tail(&self, position: Position) -> bool {
        self.tail(Acquire) == position
    }

    /// Whether there is a free slot in the next `count` positions from `position` on, with nothing before it
    /// but what can be made holes.
    fn outlook(&self, mut position: Position, count: u32, own: Option<(u32, OwnerId)>) -> Outlook {
        for _ in 0..count {
            let index = position.index();
            let word = Word(self.slot(index).load(Acquire)); // pairs with free()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Empty) => return Outlook::Room,
                (Age::Behind, Status::Held)
                    if own.is_some_and(|(own, me)| own == index && word.names(me)) =>
                {
                    return Outlook::Room;
                }
                (Age::Behind, Status::Full) => return Outlook::Full,
                (Age::Behind, _) if word.hole().is_some() => position = position.next(self.capacity),
                _ => return Outlook::Other,
            }
        }
        Outlook::Full
    }

    /// Whether a producer would find room now.
    pub(crate) fn has_room(&self) -> bool {
        let tail = self.tail(Acquire).open();
        // Other: `tail` lags, so somebody is at work there.
        tail.index() < self.capacity && self.outlook(tail, self.capacity, None) != Outlook::Full
    }

    /// Like [`try_claim`](Ring::try_claim), and sleeps until there is room or the queue is closed or the
    /// deadline passes.
    pub(crate) fn claim(
        &self,
        me: OwnerId,
        own: Option<u32>,
        deadline: Deadline,
        tend: impl FnMut(),
    ) -> Result<Claim, Stop> {
        let attempt = || {
            if own.is_some() {
                // Before the look, as the announcement of a waiter: pairs with wake_sender().
                self.control().notices.word.fetch_or(PICKY, SeqCst);
                sc_fence();
            }
            match self.try_claim(me, own) {
                Err(Stop::Wait) => None,
                done => Some(done),
            }
        };
        let claim = self.senders().wait(deadline, tend, attempt).unwrap_or(Err(Stop::Wait))?;
        self.pass_on();
        Ok(claim)
    }

    /// Wakes the next producer if there is room for it too. Slots come free in any order, so a producer may
    /// have been woken for one that it could not reach then, and can now.
    #[inline]
    pub(super) fn pass_on(&self) {
        sc_fence();
        if self.senders().is_waited_on() {
            self.wake_if_room();
        }
    }

    #[cold]
    fn wake_if_room(&self) {
        if self.has_room() || self.control().notices.word.load(SeqCst) & PICKY != 0 {
            self.wake_sender();
        }
    }

    /// Makes what was written into the claimed slot a message.
    #[inline]
    pub(crate) fn publish(&self, me: OwnerId, claim: Claim) -> Result<(), Late> {
        let mine = Word::new(claim.lap, Status::Writing, writer(me));
        let full = Word::new(claim.lap, Status::Full, None);
        // Pairs with the Acquire of try_take(): the consumer sees the message. SeqCst: before the look at the
        // waiters.
        match self.slot(claim.index).compare_exchange(mine.0, full.0, SeqCst, Acquire) {
            Ok(_) => {
                self.receivers().notify_one();
                Ok(())
            }
            Err(now) if Word(now).names(me) && Word(now).status() == Status::Held => Err(Late::Revoked),
            Err(_) => Err(Late::Corrupted),
        }
    }

    /// Sends what `write` puts into the slot that it is told.
    #[inline]
    pub(crate) fn try_send(&self, me: OwnerId, write: impl FnMut(u32)) -> Result<(), Stop> {
        self.send_by(me, || self.try_claim(me, None), write)
    }

    /// Like [`try_send`](Ring::try_send), and sleeps until there is room.
    pub(crate) fn send(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut tend: impl FnMut(),
        write: impl FnMut(u32),
    ) -> Result<(), Stop> {
        self.send_by(me, || self.claim(me, None, deadline, &mut tend), write)
    }

    #[inline]
    fn send_by(
        &self,
        me: OwnerId,
        mut find: impl FnMut() -> Result<Claim, Stop>,
        mut write: impl FnMut(u32),
    ) -> Result<(), Stop> {
        loop {
            let claim = find()?;
            let early = is_planted(Fault::PublishBeforeWrite).then(|| self.publish(me, claim));
            write(claim.index);
            match early.unwrap_or_else(|| self.publish(me, claim)) {
                Ok(()) => return Ok(()),
                Err(Late::Corrupted) => return Err(Stop::Corrupted),
                // A consumer went past. Its slot must be free before we look for another, or we might wait
                // for ourselves.
                Err(Late::Revoked) => self.free(me, claim),
            }
        }
    }

    /// Sends what was written into a claimed slot. If the position was lost, `find` claims another for who
    /// holds this slot, and `copy` copies the message from slot to slot. On failure the slot that is still
    /// held comes back.
    pub(crate) fn send_claimed(
        &self,
        me: OwnerId,
        mut claim: Claim,
        mut find: impl FnMut(u32) -> Result<Claim, Stop>,
        mut copy: impl FnMut(u32, u32),
    ) -> Result<(), (Stop, Claim)> {
        loop {
            match self.publish(me, claim) {
                Ok(()) => return Ok(()),
                Err(Late::Corrupted) => return Err((Stop::Corrupted, claim)),
                Err(Late::Revoked) => {
                    let other = find(claim.index).map_err(|stop| (stop, claim))?;
                    if other.index != claim.index {
                        copy(claim.index, other.index);
                        self.free(me, claim);
                    }
                    claim = other;
                }
            }
        }
    }
}

/// Whom a slot names that `me` claims at `tail`.
#[inline(always)]
fn writer(me: OwnerId) -> Option<OwnerId> {
    (!is_planted(Fault::ForgetOwner)).then_some(me)
}

/// Whether the word of `slot` becomes another than `word` in so many looks.
pub(super) fn changes(slot: &AtomicU64, word: Word, looks: u32) -> bool {
    (0..looks).any(|_| {
        spin_loop();
        is_other(slot, word)
    })
}

/// Whether the word of `slot` is another than `word` now.
pub(super) fn is_other(slot: &AtomicU64, word: Word) -> bool {
    slot.load(Acquire) != word.0
}
