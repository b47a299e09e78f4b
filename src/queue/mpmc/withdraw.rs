//! Messages that their senders take back, and slots that their consumers hand on.
//!
//! A ring of calls ([`crate::service`]) needs both: a caller withdraws a request that no server has
//! taken, and owns the slot of its request again once the server has answered there.
//!
//! # Withdrawn messages
//!
//! Consumers take messages in order, so in other rings no slot behind a message is free, and a
//! producer that comes round to a FULL slot has found the ring full. Withdrawn messages leave free
//! slots in between. So in a ring that withdraws, the position of a FULL slot is skipped like that
//! of a held one: FULL at lap L becomes RETURNED at lap L + 1, still with its message. Each slot
//! has a word for the lap at which its message was sent, which its producer stores before it
//! publishes. So each message keeps its place in the order, and there is one more invariant:
//!
//! 5. `head` is never beyond the position at which a message was sent that no consumer has taken.
//!
//! - `head` moves by one position if that is over (invariant 2). A position whose slot is RETURNED
//!   is not, unless the message was sent at a later lap.
//! - `head` jumps, as in [`Position::beyond`], but not past a position at which a message was sent:
//!   that takes a scan of all slots ([`Ring::beyond`]). A message that is sent during the scan was
//!   claimed for a position that the jump does not pass: producers that were before it have lost
//!   theirs, because `tail` has passed their slots again.
//!
//! A message that comes back from a dead consumer is the exception. Its return is announced, as in
//! every ring that redelivers, and consumers scan for the oldest message.
//!
//! A message is skipped at most [`PASSES_MAX`] times, because `head` waits for it and laps are
//! compared by their distance. Then the ring is full, until the message is taken.
//!
//! # Slots that are handed on
//!
//! By a word of their own, the consumer of a slot and the process that is to have it next agree
//! that the slot changes hands. The ring does not know of it: the word of the slot goes on naming
//! the consumer, in status READING or KEPT, and the new owner frees it, whichever participant the
//! word names ([`free_handed_on`](Ring::free_handed_on)). A reaper of the consumer must make the
//! word name the new owner instead.

use super::bound::SWAPS_MAX;
use super::ring::{Claim, Ring};
use super::slot::{age, Age, Position, Status, Word, AHEAD_MAX, LAP_MASK};
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::loom::OrderedChange;
use crate::segment::owner::OwnerId;

/// The most laps by which a message is skipped: half of the distance that laps may have.
const PASSES_MAX: u32 = 1 << 29;

const _: () = assert!(PASSES_MAX <= AHEAD_MAX / 2 + 1);

/// Returns whether lap `this` comes after lap `that`.
fn is_after(this: u32, that: u32) -> bool {
    matches!(this.wrapping_sub(that) & LAP_MASK, 1..=AHEAD_MAX)
}

impl Ring {
    /// Makes this a view of a ring whose messages may be withdrawn. All views of it must be.
    ///
    /// # Safety
    ///
    /// As for [`Ring::new`], for an `AtomicU32` at offset `sent_at` of each slot, behind its word.
    pub(crate) unsafe fn withdrawing(mut self, sent_at: usize) -> Ring {
        debug_assert!(sent_at > 0);
        self.sent_at = sent_at;
        self
    }

    #[inline(always)]
    pub(super) fn withdraws(&self) -> bool {
        self.sent_at > 0
    }

    /// Returns the word with the lap at which the message of a slot was sent.
    #[inline]
    fn sent(&self, index: u32) -> &AtomicU32 {
        // SAFETY: promised to withdrawing(). This is called for a ring that withdraws only.
        unsafe { &*self.message(index, self.sent_at).cast() }
    }

    /// Stores the lap of a claimed slot, before its message is published.
    #[inline]
    pub(crate) fn note_lap(&self, claim: Claim) {
        self.sent(claim.index).store(claim.lap, Release); // pairs with sent_position()
    }

    /// Returns the position at which the message in a slot of this word was sent. `None`: it has no
    /// message that can be received.
    fn sent_position(&self, index: u32, word: Word) -> Option<Position> {
        match word.status() {
            Status::Full => Some(Position::new(word.lap(), index)),
            Status::Returned => Some(Position::new(self.sent(index).load(Acquire), index)),
            _ => None,
        }
    }

    /// Returns the word of a slot that skips its position, if that can be skipped now.
    #[inline]
    pub(super) fn skipped(&self, index: u32, word: Word) -> Option<Word> {
        if !self.withdraws() || !matches!(word.status(), Status::Full | Status::Returned) {
            return word.skipped();
        }
        let passes = word.lap().wrapping_sub(self.sent_position(index, word)?.lap()) & LAP_MASK;
        (passes < PASSES_MAX).then_some(Word::new(word.lap().wrapping_add(1), Status::Returned, None))
    }

    /// Returns whether the slot of this position has a message that was skipped, or has come back,
    /// and that was sent here or before.
    #[inline]
    pub(super) fn is_due(&self, position: Position, word: Word) -> bool {
        self.is_passed(position, word) && !is_after(self.sent(position.index()).load(Acquire), position.lap())
        // pairs with note_lap()
    }

    /// Returns whether the slot of this position has a message that was skipped, or has come back.
    #[inline]
    pub(super) fn is_passed(&self, position: Position, word: Word) -> bool {
        let is_returned = self.withdraws() && word.status() == Status::Returned;
        is_returned && matches!(age(word, position), Age::Here | Age::Ahead)
    }

    /// Returns where `head` may move from a position that is over, as `word` of its slot shows.
    pub(super) fn beyond(&self, from: Position, word: Word) -> Position {
        let to = from.beyond(word, self.capacity);
        if !self.withdraws() || to == from.next(self.capacity) {
            return to;
        }
        let order = |position: Position| {
            let laps = position.lap().wrapping_sub(from.lap()) & LAP_MASK;
            (laps, position.index())
        };
        let waiting = (0..self.capacity).filter_map(|index| self.sent_position(index, self.word(index)));
        // Those from before have come back from dead consumers, and are announced.
        let later = waiting.filter(|sent| order(*sent).0 <= AHEAD_MAX && order(*sent) > order(from));
        later.chain([to]).min_by_key(|position| order(*position)).unwrap_or(to)
    }

    /// Receives the message of a slot that is RETURNED, at the position that `head` has. `None` if
    /// the slot has changed.
    pub(super) fn take_due(
        &self,
        head: Position,
        slot: &AtomicU64,
        word: Word,
        me: OwnerId,
    ) -> Option<Claim> {
        let mine = Word::new(word.lap(), Status::Reading, Some(me));
        // As in take_at(). The message was published before the slot was skipped, and a chain of
        // swaps leads here.
        slot.exchange_ordered(word.0, mine.0, Relaxed).ok()?;
        self.pass(head, mine);
        Some(Claim { index: head.index(), lap: word.lap() })
    }

    /// Returns the slot of the message that was sent first, with its word, if one of all is
    /// RETURNED.
    pub(super) fn oldest(&self) -> Option<(u32, Word)> {
        let (mut oldest, mut is_any) = (None::<(Position, Word)>, false);
        for index in 0..self.capacity {
            let word = self.word(index);
            let Some(sent) = self.sent_position(index, word) else { continue };
            is_any |= word.status() == Status::Returned;
            let is_first = oldest.is_none_or(|(first, _)| {
                is_after(first.lap(), sent.lap()) || first.lap() == sent.lap() && first.index() > index
            });
            if is_first {
                oldest = Some((sent, word));
            }
        }
        oldest.filter(|_| is_any).map(|(sent, word)| (sent.index(), word))
    }

    /// Takes back a message that the caller has sent, as if the caller received it. `is_mine`
    /// returns whether the slot holds that message still; it is called after the slot's word was
    /// read. `None`: it does not, or a consumer has taken it.
    pub(crate) fn take_back(
        &self,
        me: OwnerId,
        index: u32,
        mut is_mine: impl FnMut() -> bool,
    ) -> Option<Claim> {
        let mut word = self.word(index);
        for _ in 0..SWAPS_MAX {
            if !matches!(word.status(), Status::Full | Status::Returned) || !is_mine() {
                return None;
            }
            let mine = Word::new(word.lap(), Status::Reading, Some(me));
            // Pairs with try_take(). A failed swap pairs with skip_or_help(), which has moved the
            // word to its next lap, or with a consumer that takes the message.
            match self.slot(index).compare_exchange(word.0, mine.0, SeqCst, Acquire) {
                Ok(_) => return Some(Claim { index, lap: word.lap() }),
                Err(now) => word = Word(now),
            }
        }
        None
    }

    /// Frees a slot that its consumer has handed on to the caller.
    #[inline]
    pub(crate) fn free_handed_on(&self, index: u32) {
        let mut word = self.word(index);
        for _ in 0..SWAPS_MAX {
            if !word.is_consumers() {
                return; // it was overwritten
            }
            // As in free(). A failed swap pairs with skip_or_help(), which has changed the word, or
            // with a reaper that has made it name the caller.
            match self.slot(index).exchange_ordered(word.0, word.freed().0, Acquire) {
                Ok(change) => return self.wake_sender(change),
                Err(now) => word = Word(now),
            }
        }
    }

    /// Returns the word of a slot.
    #[inline]
    pub(crate) fn word(&self, index: u32) -> Word {
        Word(self.slot(index).load(Acquire)) // pairs with every swap of a slot
    }

    /// Swaps the word of a slot, for a reaper. Returns whether it was `from`.
    pub(crate) fn swap(&self, index: u32, from: Word, to: Word) -> bool {
        // Pairs with the Acquire of try_claim() and try_take(). SeqCst: before the checks of the
        // waiters.
        self.slot(index).compare_exchange(from.0, to.0, SeqCst, Relaxed).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ptr::NonNull;

    use super::*;
    use crate::queue::blocked::Blocked;
    use crate::queue::mpmc::descriptor::Descriptor;

    #[repr(C)]
    struct Slot {
        word: AtomicU64,
        sent: AtomicU32,
        _reserved: u32,
    }

    struct Queue {
        ring: Ring,
        _slots: Box<[Slot]>,
        _descriptor: Box<Descriptor>,
    }

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

    /// Creates a queue with these words, and the laps at which their messages were sent.
    fn queue(head: Position, tail: Position, slots: &[(Word, u32)]) -> Queue {
        let descriptor = Box::new(Descriptor::new());
        descriptor.head.store(head.0, Relaxed);
        descriptor.tail.store(tail.0, Relaxed);
        let slot = |(word, sent): &(Word, u32)| Slot {
            word: AtomicU64::new(word.0),
            sent: AtomicU32::new(*sent),
            _reserved: 0,
        };
        let slots: Box<[Slot]> = slots.iter().map(slot).collect();
        let first = NonNull::from(&slots[..]).cast::<u8>();
        // SAFETY: descriptor and slots live as long as the ring, in the same struct; the stride is
        // that of the slots, each of which has the two words.
        let ring = unsafe {
            Ring::new(NonNull::from(&*descriptor), first, size_of::<Slot>(), slots.len() as u32, false)
                .withdrawing(std::mem::offset_of!(Slot, sent))
        };
        Queue { ring, _slots: slots, _descriptor: descriptor }
    }

    impl Queue {
        fn send(&self) -> Result<Claim, Blocked> {
            let claim = self.ring.try_claim(id(1), None)?;
            self.ring.note_lap(claim);
            self.ring.publish(id(1), claim).unwrap();
            Ok(claim)
        }

        fn withdraw(&self, claim: Claim) {
            let claim = self.ring.take_back(id(1), claim.index, || true).unwrap();
            self.ring.free_unsent(id(1), claim);
        }

        fn take(&self) -> Result<u32, Blocked> {
            let claim = self.ring.try_take(id(2))?;
            self.ring.free(id(2), claim);
            Ok(claim.index)
        }
    }

    #[test]
    fn laps_in_order() {
        assert!(is_after(1, 0) && is_after(0, LAP_MASK) && is_after(AHEAD_MAX, 0));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(AHEAD_MAX + 1, 0));
    }

    #[test]
    fn a_jump_stops_at_each_message_in_the_order_of_sending() {
        for start in [0, LAP_MASK - 5] {
            let lap = |lap| start.wrapping_add(lap) & LAP_MASK;
            let returned = Word::new(lap(9), Status::Returned, None);
            let free = Word::new(lap(10), Status::Empty, None);
            let slots = [(free, 0), (returned, lap(2)), (returned, lap(0)), (returned, lap(2))];
            let queue = queue(Position::new(lap(0), 0), Position::new(lap(10), 0), &slots);
            assert!(!queue.ring.is_empty() && queue.ring.is_receivable());
            assert_eq!(queue.ring.peek().map(|(index, _)| index), Some(2));
            assert_eq!(queue.send().unwrap().index, 0);
            let order = [(); 4].map(|()| queue.take());
            assert_eq!(order, [Ok(2), Ok(1), Ok(3), Ok(0)]);
            assert_eq!(queue.take(), Err(Blocked::Later));
            assert!(queue.ring.is_empty());
            (0..4).for_each(|_| assert!(queue.send().is_ok()));
            assert_eq!(queue.send().unwrap_err(), Blocked::Later);
        }
    }

    #[test]
    fn a_message_keeps_its_place_while_others_come_and_go() {
        let fresh = (Word(0), 0);
        let queue = queue(Position(0), Position(0), &[fresh; 3]);
        let [first, second] = [queue.send().unwrap(), queue.send().unwrap()];
        for _ in 0..1000 {
            queue.withdraw(queue.send().unwrap());
        }
        let third = queue.send().unwrap();
        assert_eq!(queue.send().unwrap_err(), Blocked::Later);
        for expected in [first, second, third] {
            assert_eq!(queue.take(), Ok(expected.index));
        }
        assert_eq!(queue.take(), Err(Blocked::Later));
    }

    #[test]
    fn a_message_that_was_skipped_too_often_makes_the_ring_full() {
        for (passes, is_room) in [(PASSES_MAX - 1, true), (PASSES_MAX, false)] {
            let slots = [
                (Word::new(passes, Status::Returned, None), 0),
                (Word::new(passes + 1, Status::Empty, None), 0),
            ];
            let queue = queue(Position(0), Position::new(passes + 1, 0), &slots);
            assert_eq!(queue.send().is_ok(), is_room);
            assert_eq!(queue.take(), Ok(0), "it is received all the same");
            assert!(queue.send().is_ok());
        }
    }

    #[test]
    fn head_stays_close_where_nobody_receives() {
        // As in bound.rs, with a message that waits and those that come and go.
        let lap = (1 << 16) - 3;
        let free = (Word::new(lap, Status::Empty, None), 0);
        let queue = queue(Position::new(lap, 0), Position::new(lap, 0), &[free; 2]);
        (0..20).for_each(|_| queue.withdraw(queue.send().unwrap()));
        let distance = queue.ring.tail(Relaxed).lap() - queue.ring.head(Relaxed).lap();
        assert!(distance < 3, "head is {distance} laps behind tail");
        let waiting = queue.send().unwrap();
        (0..20).for_each(|_| queue.withdraw(queue.send().unwrap()));
        assert_eq!(queue.ring.head(Relaxed), Position::new(waiting.lap, waiting.index));
        assert_eq!(queue.take(), Ok(waiting.index));
        (0..20).for_each(|_| queue.withdraw(queue.send().unwrap()));
        let distance = queue.ring.tail(Relaxed).lap() - queue.ring.head(Relaxed).lap();
        assert!(distance < 3, "head is {distance} laps behind tail");
    }
}
