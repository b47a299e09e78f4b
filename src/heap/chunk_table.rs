//! Carving: chunks in sequence in an arena, each claimed by one compare-and-swap.
//!
//! A table has one word for each unit of an arena. To carve a chunk, a process swaps its class into
//! the word of its first unit, where the arena's carved part ends. The end is advanced afterwards,
//! by any process. Fresh bytes are a chunk of free blocks, so nothing has to be built, and nothing
//! can be half-built.
//!
//! # State of a unit's word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..8 | what begins here, see below |
//! | 8 | a block of the chunk was freed since the last check: a hint |
//! | 9 | the chunk is closed: nobody claims in it |
//! | 10..40 | of a closed chunk: owner id of its closer, which remakes it ([`super::remake`]) |
//! | 32..64 | of a vacant piece: its units |
//!
//! Bits 0..8 are 0, the fresh state, if no chunk begins here. They are the chunk's class plus 1 if
//! one does, 255 if a vacant piece begins here, and 254 inside of what was remade.
//!
//! Below the end, pieces (chunks, and vacant ones) follow each other without a gap, even while a
//! process remakes, and if it dies. The words of units inside of a chunk are 0, or 254 if it was
//! remade. Those inside of a vacant piece may be old, and mean nothing. A word that was the end
//! once is never 0 again. So a process that carves late, where the end was when it loaded it, finds
//! that the end has moved.
//!
//! # Memory ordering
//!
//! All that others must see of a chunk is its word, so Relaxed would suffice except for the hint.
//! The hint is set after a block is free with Release, and cleared with Acquire before the blocks
//! are checked. A missed hint hides a free block only until the next one of its chunk is freed, or
//! until all chunks are checked, which happens before an arena is added. Above the hints of the
//! chunks is one for each class of an arena. If that is missed, the block is hidden until the next
//! one of the class is freed there.
//!
//! If a process that carves finds a word that is not a chunk's, it checks whether the end has
//! moved. Values that overwrite a chunk's word are stored with Release, after the end has moved
//! past it, and loaded with Acquire. So the check does not find the old end.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | stopped between the load of the end and the swap | itself | it loads the end again | nothing |
//! | carved, the end not yet moved | the next that carves | it advances the end | nothing |
//! | a hint cleared, not everything checked | see below | the hint is set; all is found | nothing |
//! | carved, no block of it claimed | a check of all chunks | its blocks are free | nothing |
//!
//! In the first window the unit may be carved, emptied and remade; the stopped process finds that
//! the word is not 0. A lost hint is noticed by the next process that frees there, or that checks
//! all chunks.

use super::class::{Class, SHARED_UNITS_MAX};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::segment::owner::OwnerId;

const CLASS: u64 = 0xff;
const FREED: u64 = 1 << 8;
const CLOSED: u64 = 1 << 9;
const KEEPER_SHIFT: u32 = 10;
const KEEPER: u64 = ((1 << OwnerId::BITS) - 1) << KEEPER_SHIFT;
const VACANT: u64 = CLASS;
/// Nothing begins here, in a remade piece. The end may have been here once. Not 0, so that a late
/// process does not carve here.
const INSIDE: u64 = CLASS - 1;
/// Limit of tries to close or open a chunk. The hint changes at most once meanwhile, unless words
/// are damaged.
const SWAPS_MAX: u32 = 64;
const UNITS_SHIFT: u32 = 32;
/// A vacant piece has fewer units than this.
pub(crate) const VACANT_MAX: u64 = 1 << 32;

/// Returns the class in a unit's word, closed or not; `None` if no chunk begins there, or the word
/// is damaged.
#[inline]
pub(crate) fn class_of(word: u64) -> Option<Class> {
    let rest = word & !(CLASS | FREED);
    if rest != 0 && (rest & CLOSED == 0 || rest & !(CLOSED | KEEPER) != 0) {
        return None;
    }
    Class::from_number((word & CLASS).checked_sub(1)?)
}

/// The kind of the piece that begins at a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Chunk(Class),
    /// A chunk in which nobody claims, because the participant with these owner bits remakes it.
    Closed(Class, u32),
    /// A number of units without blocks.
    Vacant(u64),
}

impl Piece {
    /// Decodes a unit's word; `None` if nothing begins there, or it is damaged.
    fn of(word: u64) -> Option<Piece> {
        if word & CLASS == VACANT {
            let units = word >> UNITS_SHIFT;
            return (units > 0 && word & ((1 << UNITS_SHIFT) - 1) == VACANT).then_some(Piece::Vacant(units));
        }
        let class = class_of(word)?;
        Some(match word & CLOSED {
            0 => Piece::Chunk(class),
            _ => Piece::Closed(class, ((word & KEEPER) >> KEEPER_SHIFT) as u32),
        })
    }

    pub(crate) fn units(self) -> u64 {
        match self {
            Piece::Chunk(class) | Piece::Closed(class, _) => class.units(),
            Piece::Vacant(units) => units,
        }
    }
}

/// An arena's table, in words that all processes share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    /// Where the carved part ends, in units. It lags; any process advances it.
    pub(crate) end: &'a AtomicU64,
    pub(crate) units: &'a [AtomicU64],
}

impl<'a> Table<'a> {
    /// Carves a chunk; returns its first unit. `None` if it does not fit any more, or the table is
    /// damaged.
    pub(crate) fn carve(&self, class: Class) -> Option<usize> {
        // Each step finds a chunk that did not exist in the step before.
        for _ in 0..=self.units.len() {
            let end = self.end.load(Acquire);
            let first = usize::try_from(end).ok()?;
            let room = self.units.len().checked_sub(first)? as u64;
            let word = self.units.get(first)?;
            let fits = class.units() <= room;
            let fresh = class.number() as u64 + 1;
            let (current, is_mine) = match word.load(Acquire) {
                0 if !fits => return None,
                0 => match word.compare_exchange(0, fresh, AcqRel, Acquire) {
                    Ok(_) => (fresh, true),
                    Err(now) => (now, false),
                },
                seen => (seen, false),
            };
            let Some(class) = class_of(current) else {
                // At the current end there is a chunk, or nothing yet. All remade chunks are below
                // it.
                if self.end.load(Acquire) == end {
                    return None;
                }
                continue;
            };
            let next = end + class.units();
            _ = self.end.compare_exchange(end, next, AcqRel, Relaxed);
            if is_mine {
                return Some(first);
            }
        }
        None
    }

    /// Returns the chunk that this unit belongs to: its first unit and its class.
    #[inline]
    pub(crate) fn chunk(&self, unit: usize) -> Option<(usize, Class)> {
        let word = self.units.get(unit)?.load(Relaxed);
        if word != 0 && word != INSIDE {
            return Some((unit, class_of(word)?));
        }
        // In a chunk of several units, blocks may begin after the first unit.
        let begins = |unit: &usize| !matches!(self.units[*unit].load(Relaxed), 0 | INSIDE);
        let first = (unit.saturating_sub(SHARED_UNITS_MAX - 1)..unit).rev().find(begins)?;
        let class = class_of(self.units[first].load(Relaxed))?;
        (((unit - first) as u64) < class.units()).then_some((first, class))
    }

    /// Returns the first unit of the last carved chunk of this class.
    pub(crate) fn last(&self, class: Class) -> Option<usize> {
        self.units.iter().rposition(|word| Piece::of(word.load(Acquire)) == Some(Piece::Chunk(class)))
    }

    /// Returns whether a chunk of this class begins here in which blocks may be claimed.
    #[inline]
    pub(crate) fn is_open(&self, first: usize, class: Class) -> bool {
        // Pairs with close(), and with remaking.
        let word = self.units.get(first).map_or(0, |word| word.load(SeqCst));
        word & !FREED == class.number() as u64 + 1
    }

    /// Closes this chunk. Returns false if there is none, or if it is closed already.
    pub(crate) fn close(&self, first: usize, me: OwnerId) -> bool {
        self.change(first, |word| {
            matches!(Piece::of(word)?, Piece::Chunk(_))
                .then_some(word | CLOSED | u64::from(me.bits()) << KEEPER_SHIFT)
        })
    }

    /// Opens this chunk if `owner` has closed it.
    pub(crate) fn open(&self, first: usize, owner: OwnerId) {
        self.change(first, |word| {
            matches!(Piece::of(word)?, Piece::Closed(_, bits) if bits == owner.bits())
                .then_some(word & !(CLOSED | KEEPER))
        });
    }

    /// Replaces the word of a unit by the result of `change`. Nothing but a hint may change it
    /// meanwhile.
    fn change(&self, first: usize, change: impl Fn(u64) -> Option<u64>) -> bool {
        let Some(word) = self.units.get(first) else { return false };
        let mut seen = word.load(Relaxed);
        for _ in 0..SWAPS_MAX {
            let Some(next) = change(seen) else { return false };
            // SeqCst: before the check of the claim logs. Pairs with is_open().
            match word.compare_exchange(seen, next, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Turns `units` units from `first` on into a vacant piece. Only for the process that remakes.
    pub(crate) fn set_vacant(&self, first: usize, units: u64) {
        debug_assert!((1..VACANT_MAX).contains(&units));
        // A swap, so that a hint which is set at this moment comes before it. Pairs with pieces().
        self.units[first].swap(units << UNITS_SHIFT | VACANT, AcqRel);
    }

    /// Marks these units as inside of a piece. Only for the process that remakes.
    pub(crate) fn set_inside(&self, units: std::ops::Range<usize>) {
        // Release: a process that carves late and finds this sees that the end has moved. Pairs
        // with carve().
        units.for_each(|unit| self.units[unit].store(INSIDE, Release));
    }

    /// Records that a block of this chunk was freed. A compare-and-swap, since there may be no
    /// chunk any more.
    #[inline]
    pub(crate) fn set_freed(&self, first: usize) {
        let Some(word) = self.units.get(first) else { return };
        let seen = word.load(Relaxed);
        if seen & FREED == 0 && class_of(seen).is_some() {
            // Release pairs with take_freed(). If it fails, another process has set the hint, or
            // the chunk is being remade.
            _ = word.compare_exchange(seen, seen | FREED, Release, Relaxed);
        }
    }

    /// Returns whether a block of this chunk was freed, and clears the hint, because the caller
    /// checks now.
    pub(crate) fn take_freed(&self, first: usize) -> bool {
        self.units.get(first).is_some_and(|word| {
            word.load(Relaxed) & FREED != 0 && word.fetch_and(!FREED, Acquire) & FREED != 0
            // pairs with set_freed()
        })
    }

    /// Returns the chunks in the order of their positions: first unit and class.
    pub(crate) fn chunks(self) -> impl Iterator<Item = (usize, Class)> + 'a {
        self.chunks_from(0)
    }

    /// Returns the chunks from this unit on, where a piece began at some time.
    pub(crate) fn chunks_from(self, first: usize) -> impl Iterator<Item = (usize, Class)> + 'a {
        // The last one may be carved before the end has moved.
        let end = self.last_end().saturating_add(1);
        self.pieces_from(first, end).filter_map(|(first, piece)| match piece {
            Piece::Chunk(class) | Piece::Closed(class, _) => Some((first, class)),
            Piece::Vacant(_) => None,
        })
    }

    /// Returns the pieces below the end. The process that remakes sees their current state, others
    /// perhaps an older one.
    pub(crate) fn pieces_before_end(self) -> impl Iterator<Item = (usize, Piece)> + 'a {
        let end = self.last_end();
        self.pieces(end).take_while(move |(first, piece)| *first as u64 + piece.units() <= end as u64)
    }

    fn last_end(&self) -> usize {
        usize::try_from(self.end.load(Acquire)).map_or(0, |end| end.min(self.units.len()))
        // pairs with carve()
    }

    /// Returns the pieces that begin below `end`. Where one was remade meanwhile, its units are
    /// skipped one by one up to the next.
    fn pieces(self, end: usize) -> impl Iterator<Item = (usize, Piece)> + 'a {
        self.pieces_from(0, end)
    }

    /// Returns the pieces from this unit on, where a piece began at some time, that begin below
    /// `end`.
    pub(crate) fn pieces_from(self, first: usize, end: usize) -> impl Iterator<Item = (usize, Piece)> + 'a {
        let mut next = first;
        std::iter::from_fn(move || loop {
            let first = next;
            if first >= end {
                return None;
            }
            #[cfg(all(test, not(loom)))]
            tests::STEPS.set(tests::STEPS.get() + 1);
            let word = self.units.get(first)?.load(Acquire); // pairs with carve() and set_vacant()
            if word == 0 || word == INSIDE {
                next += 1;
                continue;
            }
            let piece = Piece::of(word)?;
            next = first.saturating_add(usize::try_from(piece.units()).ok()?);
            return (next <= self.units.len()).then_some((first, piece));
        })
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;

    thread_local! {
        /// The number of units that walks of this thread have come to.
        pub(crate) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    #[test]
    fn chunks_follow_one_another() {
        let [one, four] = [40, 2000].map(|len| Class::for_len(len).unwrap());
        let end = AtomicU64::new(0);
        let units: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(0)).collect();
        let table = Table { end: &end, units: &units };
        assert_eq!((table.carve(one), table.carve(four), table.carve(four)), (Some(0), Some(1), None));
        assert_eq!((table.carve(one), table.carve(one)), (Some(5), None));
        assert_eq!(table.chunks().collect::<Vec<_>>(), [(0, one), (1, four), (5, one)]);
        assert_eq!((table.chunk(0), table.chunk(4), table.chunk(6)), (Some((0, one)), Some((1, four)), None));
        // Carved by a process that died before it moved the end.
        end.store(1, Relaxed);
        units[5].store(0, Relaxed);
        assert_eq!(table.carve(one), Some(5));
        assert_eq!((table.last(one), table.last(four)), (Some(5), Some(1)));
        assert!(!table.take_freed(1));
        (0..2).for_each(|_| table.set_freed(1));
        assert!(table.take_freed(1) && !table.take_freed(1) && table.last(four) == Some(1));
    }

    #[test]
    fn a_process_with_an_old_end_carves_nothing_that_was_remade() {
        let one = Class::for_len(40).unwrap();
        let end = AtomicU64::new(0);
        let units: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let table = Table { end: &end, units: &units };
        (0..3).for_each(|unit| assert_eq!(table.carve(one), Some(unit)));
        table.set_vacant(0, 3);
        table.set_inside(1..3);
        assert_eq!(table.pieces_before_end().collect::<Vec<_>>(), [(0, Piece::Vacant(3))]);
        // An old end, as a late process has loaded it.
        for late in 0..3 {
            assert_eq!((Table { end: &AtomicU64::new(late), units: &units }.carve(one)), None);
        }
        assert_eq!((table.carve(one), table.chunk(2)), (Some(3), None));
    }

    #[test]
    fn damage_ends_a_search() {
        let one = Class::for_len(40).unwrap();
        for damage in [u64::MAX, 1 << 9, 255] {
            let end = AtomicU64::new(damage);
            let units: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(damage)).collect();
            let table = Table { end: &end, units: &units };
            assert_eq!((table.carve(one), table.chunks().count(), table.chunk(3)), (None, 0, None));
            end.store(0, Relaxed);
            assert_eq!(table.carve(one), None);
        }
    }
}
