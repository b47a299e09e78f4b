//! The words of the held-slot ring: a slot's word and a position, as plain integers.
//!
//! # State of a slot
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner: the participant that uses the slot; 0: nobody |
//! | 30..33 | status |
//! | 33..64 | lap, wrapping |
//!
//! | status at lap L | position (L, i) is | the slot holds | owner |
//! |---|---|---|---|
//! | EMPTY | free | nothing | 0 |
//! | WRITING | claimed | a message that its producer writes | producer |
//! | FULL | sent | a message | 0 |
//! | READING | received or skipped | a message that its consumer uses | consumer |
//! | HELD | skipped | nothing yet: its producer claimed it at lap L or earlier | producer |
//! | KEPT | skipped | a message of an earlier lap that its consumer uses | consumer |
//! | RETURNED | received or skipped | a message whose consumer died; anybody may take it | 0 |
//! | SEALED | never to be claimed | nothing: the queue was closed here | 0 |
//!
//! The word of a slot only moves forward: its lap never falls. Within a lap the status goes EMPTY,
//! WRITING, FULL, READING. Instead, WRITING can become HELD, and EMPTY can become SEALED. READING
//! and KEPT become RETURNED if the consumer dies and the queue redelivers, and RETURNED becomes
//! READING again. A lap whose position is skipped begins with HELD, KEPT or RETURNED. A lap that
//! the slot's owner claims begins with WRITING: HELD, READING and KEPT can become WRITING of the
//! next lap. Zero is the fresh state: free for lap 0.
//!
//! # State of a position
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | index of the slot |
//! | 32..63 | lap, wrapping |
//! | 63 | closed (in `tail` only) |

use crate::segment::owner::OwnerId;

const LAP_BITS: u32 = 31;
pub(super) const LAP_MASK: u32 = (1 << LAP_BITS) - 1;
const STATUS_SHIFT: u32 = OwnerId::BITS;
const LAP_SHIFT: u32 = 64 - LAP_BITS;
const OWNER_MASK: u64 = (1 << OwnerId::BITS) - 1;
/// Up to this distance a lap counts as ahead; beyond it, as behind or far.
pub(super) const AHEAD_MAX: u32 = LAP_MASK / 2;
const CLOSED: u64 = 1 << 63;

/// The status of a slot. All eight values of the three bits are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Free for this lap.
    Empty = 0,
    /// The owner writes its message.
    Writing = 1,
    /// Holds a message.
    Full = 2,
    /// Received; the owner uses the message in place.
    Reading = 3,
    /// Skipped; the owner is a producer that was too late.
    Held = 4,
    /// Skipped; the owner uses a message of an earlier lap.
    Kept = 5,
    /// Holds a message that is delivered out of order.
    Returned = 6,
    /// Nobody can claim this position.
    Sealed = 7,
}

use Status::{Empty, Full, Held, Kept, Reading, Returned, Sealed, Writing};

/// The word of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    #[inline]
    pub(crate) fn new(lap: u32, status: Status, owner: Option<OwnerId>) -> Word {
        let owner = owner.map_or(0, OwnerId::bits);
        Word(u64::from(lap & LAP_MASK) << LAP_SHIFT | (status as u64) << STATUS_SHIFT | u64::from(owner))
    }

    #[inline]
    pub(crate) fn lap(self) -> u32 {
        (self.0 >> LAP_SHIFT) as u32
    }

    #[inline]
    pub(crate) fn status(self) -> Status {
        const ALL: [Status; 8] = [Empty, Writing, Full, Reading, Held, Kept, Returned, Sealed];
        ALL[(self.0 >> STATUS_SHIFT) as usize & 7]
    }

    /// Returns whether `id` owns the slot.
    #[inline]
    pub(crate) fn names(self, id: OwnerId) -> bool {
        self.0 & OWNER_MASK == u64::from(id.bits())
    }

    /// Returns the owner's bits.
    pub(crate) fn owner_bits(self) -> u32 {
        (self.0 & OWNER_MASK) as u32
    }

    /// Returns the same lap and owner with another status.
    #[inline]
    pub(crate) fn with(self, status: Status) -> Word {
        Word(self.0 & !(7 << STATUS_SHIFT) | (status as u64) << STATUS_SHIFT)
    }

    /// Returns the word that skips the position at the slot's next lap, if it can be skipped now.
    /// The owner stays in the slot. A producer that has not published loses its position.
    pub(crate) fn skipped(self) -> Option<Word> {
        let status = match self.status() {
            Reading | Kept => Kept,
            Writing | Held => Held,
            Returned => Returned,
            Empty | Full | Sealed => return None,
        };
        let next = Word::new(self.lap().wrapping_add(1), status, None);
        Some(Word(next.0 | self.0 & OWNER_MASK))
    }

    /// Returns the word of a slot that is free for the next lap.
    #[inline]
    pub(crate) fn freed(self) -> Word {
        Word::new(self.lap().wrapping_add(1), Empty, None)
    }

    /// Returns whether a producer owns the slot. Then its death leaves no message.
    pub(crate) fn is_producers(self) -> bool {
        matches!(self.status(), Writing | Held)
    }

    /// Returns whether a consumer owns the slot. Then its death leaves a message.
    pub(crate) fn is_consumers(self) -> bool {
        matches!(self.status(), Reading | Kept)
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{lap {}, {:?}, owner {:#x}}}", self.lap(), self.status(), self.owner_bits())
    }
}

/// A position of the ring: the value of `head` or `tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Position(pub(crate) u64);

impl Position {
    pub(crate) fn new(lap: u32, index: u32) -> Position {
        Position(u64::from(lap & LAP_MASK) << 32 | u64::from(index))
    }

    #[inline]
    pub(crate) fn lap(self) -> u32 {
        (self.0 >> 32) as u32 & LAP_MASK
    }

    #[inline]
    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// The bit that closes a queue.
    pub(crate) const CLOSED: u64 = CLOSED;

    /// Returns the position without the closing bit.
    pub(crate) fn open(self) -> Position {
        Position(self.0 & !CLOSED)
    }

    /// Returns the number of positions before this one, skipped ones included. Starts again at 0
    /// when the laps wrap.
    pub(crate) fn passed(self, capacity: u32) -> u64 {
        u64::from(self.lap()) * u64::from(capacity) + u64::from(self.index())
    }

    /// Returns where `head` may move from here in a ring of `capacity` slots, if this slot's `word`
    /// shows that the position is over: nothing can be received there any more.
    ///
    /// If the slot is more than one lap ahead, nothing was received for a long time, and the claims
    /// of that time were abandoned. Then `tail` is at (lap - 1, index) at least, where lap is that
    /// of `word`, so it is beyond every position of lap - 2. All positions before (lap - 2, index)
    /// are over, because `tail` has also passed the next position of each of their slots.
    pub(crate) fn beyond(self, word: Word, capacity: u32) -> Position {
        let ahead = word.lap().wrapping_sub(self.lap()) & LAP_MASK;
        let here = if ahead > 2 { Position::new(word.lap().wrapping_sub(2), self.index()) } else { self };
        here.next(capacity)
    }

    /// Returns the position that follows in a ring of `capacity` slots.
    #[inline]
    pub(crate) fn next(self, capacity: u32) -> Position {
        let index = self.index();
        if index + 1 < capacity {
            return Position(self.0 + 1);
        }
        Position((u64::from(self.lap().wrapping_add(1) & LAP_MASK)) << 32)
    }
}

/// The lap of a slot's word, relative to a position of the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// One lap behind: the position has not been claimed.
    Behind,
    /// At the position's lap.
    Here,
    /// One lap or more ahead: the position is over.
    Ahead,
    /// Impossibly old: the words are corrupted, or the position was read too long ago.
    Far,
}

/// Compares the lap of `word` with that of `position`.
#[inline]
pub(crate) fn age(word: Word, position: Position) -> Age {
    match word.lap().wrapping_sub(position.lap()) & LAP_MASK {
        0 => Age::Here,
        1..=AHEAD_MAX => Age::Ahead,
        LAP_MASK => Age::Behind,
        _ => Age::Far,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u32 = LAP_MASK;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, (1 << 20) - 1).unwrap()
    }

    #[test]
    fn packing() {
        assert_eq!(Word(0), Word::new(0, Empty, None));
        let word = Word::new(LAST, Reading, Some(id(1023)));
        assert_eq!((word.lap(), word.status(), word.owner_bits()), (LAST, Reading, (1 << 30) - 1));
        assert!(word.names(id(1023)) && !word.names(id(1022)));
        assert_eq!(word.with(Returned).lap(), LAST);
        assert_eq!(word.freed(), Word(0), "the lap wraps");
        for status in [Empty, Writing, Full, Reading, Held, Kept, Returned, Sealed] {
            assert_eq!(Word::new(5, status, None).status(), status);
        }
    }

    #[test]
    fn skipped_positions() {
        let at = |lap, status| Word::new(lap, status, Some(id(1)));
        assert_eq!(at(LAST, Reading).skipped(), Some(at(0, Kept)));
        assert_eq!(at(4, Kept).skipped(), Some(at(5, Kept)));
        assert_eq!(at(4, Held).skipped(), Some(at(5, Held)));
        assert_eq!(Word::new(4, Returned, None).skipped(), Some(Word::new(5, Returned, None)));
        assert_eq!(at(4, Writing).skipped(), Some(at(5, Held)));
        assert!([Empty, Full, Sealed].into_iter().all(|status| at(4, status).skipped().is_none()));
    }

    #[test]
    fn positions() {
        assert_eq!(Position(0), Position::new(0, 0));
        assert_eq!(Position::new(0, 0).next(3), Position::new(0, 1));
        assert_eq!(Position::new(0, 2).next(3), Position::new(1, 0));
        assert_eq!(Position::new(LAST, 0).next(1), Position::new(0, 0));
        let beyond = |lap| Position::new(4, 1).beyond(Word::new(lap, Empty, None), 3);
        assert_eq!([beyond(4), beyond(5), beyond(6)], [Position::new(4, 2); 3]);
        assert_eq!(beyond(9), Position::new(7, 2));
        let closed = Position(Position::new(7, 1).0 | CLOSED);
        assert!(closed.is_closed() && !closed.open().is_closed());
        assert_eq!((closed.lap(), closed.index()), (7, 1));
    }

    #[test]
    fn ages() {
        let word = |lap| Word::new(lap, Full, None);
        assert_eq!(age(word(3), Position::new(3, 0)), Age::Here);
        assert_eq!(age(word(0), Position::new(LAST, 0)), Age::Ahead);
        assert_eq!(age(word(LAST), Position::new(0, 0)), Age::Behind);
        assert_eq!(age(word(5), Position::new(3, 0)), Age::Ahead);
        assert_eq!(age(word(1), Position::new(3, 0)), Age::Far);
    }
}
