//! The word of a subscriber's line, and the word of the gate, as plain integers.
//!
//! # State of a line
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner: the participant that subscribes; 0: the line is free |
//! | 30..32 | mode |
//! | 32..64 | takes: the number of subscribers that had the line, wrapping |
//!
//! | mode | publishers | moved on by |
//! |---|---|---|
//! | LOSSY | overwrite what it has not received | its owner: LOSSLESS, or free |
//! | LOSSLESS | wait for its cursor | a publisher: EVICTED; its owner, or a reaper: free |
//! | EVICTED | as LOSSY | its owner: LOSSLESS if it has yet to begin, else free |
//!
//! The number of takes distinguishes the subscribers that one participant had in a line, so a
//! publisher evicts only the one that it has found lagging.
//!
//! # State of the gate
//!
//! | bits | meaning |
//! |---|---|
//! | 0..34 | limit: the lowest bits of the first position that may not be claimed without a scan |
//! | 34..64 | joins: the number of lossless subscribers that have begun, wrapping |
//!
//! Zero is the fresh state of both words.

use crate::segment::owner::OwnerId;

const OWNER_MASK: u64 = (1 << OwnerId::BITS) - 1;
const MODE_SHIFT: u32 = OwnerId::BITS;
const TAKE: u64 = 1 << 32;
const TAKES_MASK: u64 = !(TAKE - 1);

const LIMIT_BITS: u32 = 34;
const LIMIT_MASK: u64 = (1 << LIMIT_BITS) - 1;
const JOIN: u64 = 1 << LIMIT_BITS;
/// Up to this distance a limit counts as ahead of a position. No ring has this number of slots.
pub(super) const AHEAD_MAX: u64 = 1 << (LIMIT_BITS - 1);

/// The mode of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    Lossy = 0,
    Lossless = 1,
    /// It was lossless, and lagged at the deadline of a publisher.
    Evicted = 2,
}

/// The word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineWord(pub(super) u64);

impl LineWord {
    /// Returns the owner. `None`: the line is free, or damaged.
    pub(super) fn owner(self) -> Option<OwnerId> {
        OwnerId::from_bits((self.0 & OWNER_MASK) as u32)
    }

    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.0 & OWNER_MASK == 0
    }

    #[inline]
    pub(super) fn names(self, id: OwnerId) -> bool {
        self.0 & OWNER_MASK == u64::from(id.bits())
    }

    pub(super) fn mode(self) -> Mode {
        match self.0 >> MODE_SHIFT & 3 {
            0 => Mode::Lossy,
            1 => Mode::Lossless,
            _ => Mode::Evicted,
        }
    }

    #[inline]
    pub(super) fn is_lossless(self) -> bool {
        self.0 >> MODE_SHIFT & 3 == Mode::Lossless as u64 && !self.is_free()
    }

    /// Returns the word by which `me` takes the free line.
    pub(super) fn taken(self, me: OwnerId) -> LineWord {
        LineWord((self.0 & TAKES_MASK).wrapping_add(TAKE) | u64::from(me.bits()))
    }

    pub(super) fn freed(self) -> LineWord {
        LineWord(self.0 & TAKES_MASK)
    }

    pub(super) fn with(self, mode: Mode) -> LineWord {
        LineWord(self.0 & !(3 << MODE_SHIFT) | (mode as u64) << MODE_SHIFT)
    }
}

/// The word of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate(pub(super) u64);

impl Gate {
    /// Returns whether the limit is ahead of this position.
    #[inline]
    pub(super) fn admits(self, number: u64) -> bool {
        let ahead = self.0.wrapping_sub(number) & LIMIT_MASK;
        ahead != 0 && ahead <= AHEAD_MAX
    }

    pub(super) fn with_limit(self, limit: u64) -> Gate {
        Gate(self.0 & !LIMIT_MASK | limit & LIMIT_MASK)
    }

    /// Returns the word after another lossless subscriber has joined. It admits no position from
    /// `next` on, so each publisher scans the lines before its next claim.
    pub(super) fn joined(self, next: u64) -> Gate {
        Gate(self.0.wrapping_add(JOIN)).with_limit(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_line() {
        let (one, other) = (OwnerId::new(3, 1).unwrap(), OwnerId::new(1023, (1 << 20) - 1).unwrap());
        assert!(LineWord(0).is_free() && LineWord(0).owner().is_none());
        let taken = LineWord(0).taken(other);
        assert!(taken.names(other) && !taken.names(one) && !taken.is_lossless());
        assert_eq!((taken.mode(), taken.owner()), (Mode::Lossy, Some(other)));
        let lossless = taken.with(Mode::Lossless);
        assert!(lossless.is_lossless() && lossless.names(other));
        let evicted = lossless.with(Mode::Evicted);
        assert!(!evicted.is_lossless() && evicted.mode() == Mode::Evicted && evicted.names(other));
        assert!(evicted.freed().is_free());
        let again = evicted.freed().taken(other).with(Mode::Lossless);
        assert_ne!(again, lossless, "another subscriber of the same participant");
        assert!(LineWord(u64::MAX << 32).taken(one).names(one), "the takes wrap");
        assert!(!LineWord(1 << MODE_SHIFT).is_lossless(), "a free line");
    }

    #[test]
    fn the_limit_of_the_gate() {
        for next in [0, 7, LIMIT_MASK - 1, LIMIT_MASK, LIMIT_MASK + 1, 1 << 61] {
            let closed = Gate(0).joined(next);
            assert!(!closed.admits(next) && !closed.admits(next + 1) && !closed.admits(next + 1000));
            let open = closed.with_limit(next + 5);
            assert!(open.admits(next) && open.admits(next + 4));
            assert!(!open.admits(next + 5) && !open.admits(next + 6));
            assert!(closed.with_limit(next + AHEAD_MAX).admits(next));
            assert_ne!(open.joined(next).with_limit(next + 5), open, "a swap by an older scan fails");
        }
    }
}
