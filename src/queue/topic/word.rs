//! The word of a topic's slot, and a position, as plain integers.
//!
//! # State of a slot
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner: the participant that writes into the slot; 0: nobody |
//! | 30..32 | status |
//! | 32 | pinned: a subscriber may read a message in place |
//! | 33 | gap: the slot's position one turn earlier was a hole |
//! | 34..64 | turn, wrapping |
//!
//! | status at turn T | position (T, i) is | the slot holds | owner |
//! |---|---|---|---|
//! | HOLE | skipped | nothing, or with `pinned` a message of an earlier turn | 0 |
//! | WRITING | claimed | a message that its publisher writes; see below for `pinned` | publisher |
//! | FULL | published | a message | 0 |
//! | HELD | skipped | a publisher that claimed it at turn T or earlier | publisher |
//!
//! WRITING with `pinned` means that the publisher has yet to check the pins, and does not write.
//!
//! The word only moves forward: its turn never falls. Within a turn it goes from WRITING to FULL,
//! HELD or HOLE, and from HELD to HOLE. FULL and HOLE at a turn are final. A position's first turn
//! is 1, so zero is the fresh state: a hole of turn 0, which is not a position.

use crate::segment::owner::OwnerId;

const TURN_BITS: u32 = 30;
const TURN_MASK: u32 = (1 << TURN_BITS) - 1;
const STATUS_SHIFT: u32 = OwnerId::BITS;
const PINNED: u64 = 1 << 32;
const GAP: u64 = 1 << 33;
const TURN_SHIFT: u32 = 34;
const OWNER_MASK: u64 = (1 << OwnerId::BITS) - 1;
/// Up to this distance a turn counts as ahead, beyond it as behind.
const AHEAD_MAX: u32 = TURN_MASK / 2;

/// The status of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    /// The position was skipped.
    Hole = 0,
    /// The owner writes the message.
    Writing = 1,
    /// Holds the message.
    Full = 2,
    /// The position was skipped, but its publisher is still in the slot.
    Held = 3,
}

use Status::{Full, Held, Hole, Writing};

/// The word of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    #[inline]
    fn new(turn: u32, status: Status, flags: u64) -> Word {
        Word(u64::from(turn & TURN_MASK) << TURN_SHIFT | (status as u64) << STATUS_SHIFT | flags)
    }

    #[inline]
    pub(super) fn turn(self) -> u32 {
        (self.0 >> TURN_SHIFT) as u32
    }

    #[inline]
    pub(super) fn status(self) -> Status {
        [Hole, Writing, Full, Held][(self.0 >> STATUS_SHIFT) as usize & 3]
    }

    /// Returns whether `id` owns the slot.
    #[inline]
    pub(super) fn names(self, id: OwnerId) -> bool {
        self.0 & OWNER_MASK == u64::from(id.bits())
    }

    /// Returns whether a publisher is in the slot.
    #[inline]
    pub(super) fn is_held(self) -> bool {
        matches!(self.status(), Writing | Held)
    }

    #[inline]
    pub(super) fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// Returns whether the slot's position one turn earlier was a hole.
    #[inline]
    pub(super) fn is_gap(self) -> bool {
        self.0 & GAP != 0
    }

    #[inline]
    pub(super) fn pinned(self) -> Word {
        Word(self.0 | PINNED)
    }

    #[inline]
    pub(super) fn unpinned(self) -> Word {
        Word(self.0 & !PINNED)
    }

    /// Returns the flags of the next turn: the bit of the pins stays, and the gap is this turn's.
    /// `has_earlier`: the slot had a position before.
    #[inline]
    fn next_flags(self, has_earlier: bool) -> u64 {
        // A publisher that loses its position makes it a hole.
        let is_gap = self.status() != Full && has_earlier;
        self.0 & PINNED | if is_gap { GAP } else { 0 }
    }

    /// Returns the word by which `me` claims the slot for its next turn.
    #[inline]
    pub(super) fn claimed(self, me: OwnerId, has_earlier: bool) -> Word {
        let next = Word::new(self.turn().wrapping_add(1), Writing, self.next_flags(has_earlier));
        Word(next.0 | u64::from(me.bits()))
    }

    /// Returns the word that skips the position of the slot's next turn. An owner stays.
    pub(super) fn skipped(self, has_earlier: bool) -> Word {
        let status = if self.is_held() { Held } else { Hole };
        let next = Word::new(self.turn().wrapping_add(1), status, self.next_flags(has_earlier));
        Word(next.0 | self.0 & OWNER_MASK)
    }

    fn with(self, status: Status) -> Word {
        Word(self.0 & !(3 << STATUS_SHIFT) | (status as u64) << STATUS_SHIFT)
    }

    /// Returns the word that takes the position from a publisher. The publisher stays in the slot.
    pub(super) fn revoked(self) -> Word {
        self.with(Held)
    }

    /// Returns the word of a slot that its publisher leaves without a message.
    #[inline]
    pub(super) fn freed(self) -> Word {
        Word(self.with(Hole).0 & !OWNER_MASK)
    }

    /// Returns the word of a slot whose message is published.
    #[inline]
    pub(super) fn published(self) -> Word {
        Word(self.with(Full).0 & !OWNER_MASK)
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pinned, gap) =
            (if self.is_pinned() { ", pinned" } else { "" }, if self.is_gap() { ", gap" } else { "" });
        write!(
            f,
            "{{turn {}, {:?}{pinned}{gap}, owner {:#x}}}",
            self.turn(),
            self.status(),
            self.0 & OWNER_MASK
        )
    }
}

/// A position, with the slot and the turn that it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of positions before it. Never wraps, because 2^62 positions take centuries.
    pub(crate) number: u64,
    /// The index of the slot.
    pub(crate) index: u32,
    turn: u32,
}

impl Position {
    /// Returns the position with this number in a ring of `slots` slots.
    #[inline]
    pub(crate) fn new(number: u64, slots: u32) -> Position {
        let slots = u64::from(slots);
        // A division takes much longer than a shift.
        let (turn, index) = if slots.is_power_of_two() {
            (number >> slots.trailing_zeros(), number & (slots - 1))
        } else {
            (number / slots, number % slots)
        };
        Position { number, index: index as u32, turn: (turn as u32).wrapping_add(1) & TURN_MASK }
    }

    /// Returns the position that is `count` later; `count` is at most `slots`.
    #[inline]
    pub(super) fn plus(self, count: u32, slots: u32) -> Position {
        let index = u64::from(self.index) + u64::from(count);
        let is_next = index >= u64::from(slots);
        Position {
            number: self.number.wrapping_add(u64::from(count)),
            index: if is_next { index - u64::from(slots) } else { index } as u32,
            turn: self.turn.wrapping_add(u32::from(is_next)) & TURN_MASK,
        }
    }
}

/// The turn of a slot's word, relative to a position of the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// One turn behind: the position has not been claimed.
    Behind,
    /// At the position's turn.
    Here,
    /// One turn ahead: the position is over, and the gap of the word says how it ended.
    Next,
    /// More than one turn ahead.
    Ahead,
    /// Impossibly old: the words are corrupted, or the position was read too long ago.
    Far,
}

/// Compares the turn of `word` with that of `position`.
#[inline]
pub(super) fn age(word: Word, position: Position) -> Age {
    match word.turn().wrapping_sub(position.turn) & TURN_MASK {
        0 => Age::Here,
        1 => Age::Next,
        2..=AHEAD_MAX => Age::Ahead,
        TURN_MASK => Age::Behind,
        _ => Age::Far,
    }
}

/// The count of the holes that have left the ring, and the position at which the last was counted.
///
/// | bits | meaning |
/// |---|---|
/// | 0..44 | the number of holes before position `tail - slots` |
/// | 44..64 | tag: the lowest bits of the `tail` at which the last one was counted |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holes(pub(super) u64);

const COUNT_BITS: u32 = 44;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl Holes {
    pub(super) fn count(self) -> u64 {
        self.0 & COUNT_MASK
    }

    /// Returns whether the tag is that of this position.
    #[inline]
    fn is_at(self, tail: u64) -> bool {
        self.0 >> COUNT_BITS == tail & (u64::MAX >> COUNT_BITS)
    }

    /// Returns the count after `tail` has passed a position whose slot has this word; `None` if
    /// that is the count already. The tag tells whether the position was counted. So before `tail`
    /// comes to a position with the same lowest bits, the tag is changed.
    #[inline]
    pub(super) fn after(self, tail: u64, is_gap: bool) -> Option<Holes> {
        let tag = tail << COUNT_BITS;
        match is_gap {
            true if !self.is_at(tail) => Some(Holes(tag | (self.count() + 1) & COUNT_MASK)),
            false if self.is_at(tail.wrapping_add(1)) => Some(Holes(tag | self.count())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u32 = TURN_MASK;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, (1 << 20) - 1).unwrap()
    }

    #[test]
    fn the_turns_of_a_slot() {
        let claimed = Word(0).claimed(id(1023), false);
        assert_eq!((claimed.turn(), claimed.status(), claimed.is_gap()), (1, Writing, false));
        assert!(claimed.names(id(1023)) && !claimed.names(id(1022)) && claimed.is_held());
        let full = claimed.published();
        assert_eq!((full.turn(), full.status(), full.0 & OWNER_MASK), (1, Full, 0));
        assert_eq!(full.pinned().unpinned(), full);
        let next = full.pinned().claimed(id(3), true);
        assert!(next.is_pinned() && !next.is_gap() && next.turn() == 2);
        let held = next.revoked();
        assert!(held.names(id(3)) && held.status() == Held && held.is_pinned());
        let skipped = held.skipped(true);
        assert_eq!((skipped.turn(), skipped.status(), skipped.is_gap()), (3, Held, true));
        assert!(skipped.names(id(3)));
        assert_eq!(skipped.freed().status(), Hole);
        assert!(skipped.freed().claimed(id(4), true).is_gap());
        assert_eq!(Word::new(LAST, Full, 0).claimed(id(1), true).turn(), 0, "the turn wraps");
        assert!(!Word::new(LAST, Full, 0).skipped(true).is_gap());
        let wrapped = Word::new(LAST, Full, 0).skipped(true);
        assert_eq!((wrapped.turn(), wrapped.status()), (0, Hole));
        assert!(wrapped.claimed(id(1), true).is_gap(), "a hole at turn 0 after the wrap counts");
    }

    #[test]
    fn positions() {
        for slots in [4, 5, 8, 13] {
            let mut position = Position::new(0, slots);
            for number in 0..50 {
                assert_eq!(position, Position::new(number, slots));
                assert_eq!(position.plus(slots, slots), Position::new(number + u64::from(slots), slots));
                position = position.plus(1, slots);
            }
        }
        assert_eq!(age(Word(0), Position::new(0, 4)), Age::Behind);
        assert_eq!(age(Word::new(1, Full, 0), Position::new(3, 4)), Age::Here);
        assert_eq!(age(Word::new(2, Full, 0), Position::new(3, 4)), Age::Next);
        assert_eq!(age(Word::new(3, Full, 0), Position::new(3, 4)), Age::Ahead);
        assert_eq!(age(Word::new(LAST - 5, Full, 0), Position::new(3, 4)), Age::Far);
    }

    #[test]
    fn each_hole_is_counted_once() {
        let pass = |holes: Holes, tail, gap| holes.after(tail, gap).unwrap_or(holes);
        let one = pass(Holes(0), 7, true);
        assert_eq!((one.count(), one.after(7, true)), (1, None));
        // Every position passes twice, as with two helpers. The lowest bits come round.
        let (mut holes, mut expected) = (one, 1);
        for tail in 8..3 * (1 << 20) {
            let gap = tail % (1 << 20) == 7 || tail % 1000 == 3;
            expected += u64::from(gap);
            holes = pass(pass(holes, tail, gap), tail, gap);
            assert_eq!(holes.count(), expected, "at {tail}");
        }
    }
}
