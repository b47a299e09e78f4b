//! An arena: one object of a segment, out of which chunks are carved.
//!
//! ```text
//! 0        ┌───────────────────────────────┐
//!          │ end of the carved part; hints │ one word a class: a block of it was freed somewhere here
//! 1024     ├───────────────────────────────┤
//!          │ hands                         │ one of 64 bytes for each participant that there can be
//! 66560    ├───────────────────────────────┤
//!          │ pins                          │ see `pin`
//! 67584    ├───────────────────────────────┤
//!          │ table                         │ 8 bytes a unit, see `carve`
//!          ├───────────────────────────────┤ on a multiple of 128
//!          │ units of 16 KiB               │ chunks, see `class`
//!          └───────────────────────────────┘
//! ```
//!
//! Zero is the fresh state of everything. How many units there are follows from the object's length, which stands in its
//! record; nothing in here says so again. Any bytes are an arena: what is read is checked where it is used.

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::block::{state, Hand, Slot, State};
use super::carve::Table;
use super::class::{Class, BIT_WORDS, CLASSES, UNIT};
use super::pin::Pins;
use crate::owner::{OwnerId, MAX_PARTICIPANTS};

const HINTS: u64 = 8;
const HANDS: u64 = 1024;
const PINS: u64 = HANDS + 64 * MAX_PARTICIPANTS as u64;
const TABLE: u64 = PINS + size_of::<Pins>() as u64;

const _: () = assert!(HINTS + 8 * CLASSES as u64 <= HANDS);

/// Where the units of an arena begin.
pub(crate) fn data_start(units: u64) -> u64 {
    (TABLE + 8 * units).next_multiple_of(128)
}

/// How long an arena of so many units is.
pub(crate) fn len_for(units: u64) -> u64 {
    data_start(units) + units * UNIT
}

/// How many units an arena of this length has; `None`: none is so long.
pub(crate) fn units_in(len: u64) -> Option<u64> {
    let units = len.checked_sub(TABLE)? / (UNIT + 8);
    (units > 0 && len_for(units) == len).then_some(units)
}

/// A mapped arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arena<'a> {
    base: *mut u8,
    units: u64,
    mapping: PhantomData<&'a ()>,
}

/// Where a block stands: the first unit of its chunk, the chunk's class, and which of its blocks it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) first: usize,
    pub(crate) class: Class,
    pub(crate) block: u64,
}

impl<'a> Arena<'a> {
    /// The arena at `base`.
    ///
    /// # Safety
    ///
    /// `base` is a multiple of 128, and as many bytes as [`len_for`] says for `units`, at least 1, stay mapped for `'a`.
    pub(crate) unsafe fn new(base: *mut u8, units: u64) -> Arena<'a> {
        Arena { base, units, mapping: PhantomData }
    }

    /// The arena that an object is, for as long as that is mapped.
    pub(super) fn in_object(base: *mut u8, len: usize) -> Option<Arena<'a>> {
        let units = units_in(len as u64)?;
        // SAFETY: objects are aligned to 128, and the directory has checked that all `len` bytes are mapped; the callers
        // use the arena only for as long as they were given the object.
        Some(unsafe { Arena::new(base, units) })
    }

    /// The word at this offset, a multiple of 8.
    #[inline]
    fn word(&self, offset: u64) -> &'a AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset + 8 <= len_for(self.units));
        // SAFETY: all callers compute the offset of a word inside of the arena, from its number of units and from places in
        // the table that were checked against it; the arena is mapped for 'a by the contract of new(), and aligned. What
        // others change in it is atomic here, or bytes of blocks, which this function is not used for.
        unsafe { &*self.base.add(offset as usize).cast::<AtomicU64>() }
    }

    /// Whether this offset in the segment lies in the arena, which begins at `start`.
    #[inline]
    pub(crate) fn reaches(&self, at: u64, start: u64) -> bool {
        at.checked_sub(start).is_some_and(|offset| offset < len_for(self.units))
    }

    pub(crate) fn table(&self) -> Table<'a> {
        // SAFETY: the table has one word for each unit, inside of the arena, see word().
        let units = unsafe {
            std::slice::from_raw_parts(self.base.add(TABLE as usize).cast::<AtomicU64>(), self.units as usize)
        };
        Table { end: self.word(0), units }
    }

    /// Not 0: a block of this class was freed in here since somebody looked in vain. A hint.
    pub(crate) fn hint(&self, class: Class) -> &'a AtomicU64 {
        self.word(HINTS + 8 * class.number() as u64)
    }

    pub(crate) fn hand(&self, owner: OwnerId) -> &'a Hand {
        // SAFETY: there are as many hands as indices, inside of the arena; a hand is atomics, and any bytes are one.
        unsafe { &*self.base.add(HANDS as usize).cast::<Hand>().add(owner.index()) }
    }

    #[inline]
    pub(crate) fn pins(&self) -> &'a Pins {
        // SAFETY: they stand inside of the arena, at a multiple of 8; pins are atomics, and any bytes are some.
        unsafe { &*self.base.add(PINS as usize).cast::<Pins>() }
    }

    /// Frees the block at this place in the arena if it is RETIRED and pinned by nobody.
    #[inline]
    pub(crate) fn free_retired(&self, at: u64) {
        if let Some(spot) = self.spot(at) {
            if self.slot(spot).free_retired(|| self.pins().is_pinned(at)) {
                self.note_freed(spot);
            }
        }
    }

    /// Where a chunk begins.
    #[inline]
    fn chunk_start(&self, first: usize) -> u64 {
        data_start(self.units) + first as u64 * UNIT
    }

    /// Where the bytes of this block begin, in the arena.
    #[inline]
    pub(crate) fn offset(&self, spot: Spot) -> u64 {
        self.chunk_start(spot.first) + spot.class.offset(spot.block)
    }

    /// The block whose bytes begin at this offset in the arena.
    #[inline]
    pub(crate) fn spot(&self, offset: u64) -> Option<Spot> {
        let unit = offset.checked_sub(data_start(self.units))? / UNIT;
        let (first, class) = self.table().chunk(usize::try_from(unit).ok()?)?;
        if class.units() > self.units - first as u64 {
            return None;
        }
        let block = class.block_at(offset - self.chunk_start(first))?;
        Some(Spot { first, class, block })
    }

    /// The word and the bit of this block, whose chunk lies inside of the arena.
    #[inline]
    pub(crate) fn slot(&self, spot: Spot) -> Slot<'a> {
        let bits = self.chunk_start(spot.first) + 8 * (spot.block / 64);
        Slot { word: self.word(self.offset(spot) - 8), bits: self.word(bits), mask: 1 << (spot.block % 64) }
    }

    /// Claims a block of this chunk, if one is free; gives it with its generation.
    #[inline]
    pub(crate) fn claim(&self, first: usize, class: Class, me: OwnerId) -> Option<(Spot, u32)> {
        if class.units() > self.units.checked_sub(first as u64)? {
            return None;
        }
        let hand = self.hand(me);
        let start = self.chunk_start(first);
        for index in 0..class.blocks().div_ceil(64).min(BIT_WORDS as u64) {
            let mut taken = self.word(start + 8 * index).load(Relaxed);
            let in_this = class.blocks() - 64 * index;
            if in_this < 64 {
                taken |= u64::MAX << in_this;
            }
            while taken != u64::MAX {
                let bit = taken.trailing_ones();
                let spot = Spot { first, class, block: 64 * index + u64::from(bit) };
                taken |= 1 << bit;
                let slot = self.slot(spot);
                if state(slot.word.load(Relaxed)) != State::Free {
                    continue;
                }
                let at = self.offset(spot);
                hand.take(at, me);
                if let Some(generation) = slot.claim(me) {
                    return Some((spot, generation));
                }
                hand.put_down(at, me);
            }
        }
        None
    }

    /// Says that this block was freed.
    #[inline]
    pub(crate) fn note_freed(&self, spot: Spot) {
        self.table().set_freed(spot.first);
        // Also if the chunk said so already: who has cleared the hint to look there may have died before it did.
        if self.hint(spot.class).load(Relaxed) == 0 {
            self.hint(spot.class).store(1, Relaxed);
        }
    }

    /// Frees what `dead` had in hand. Looks at its hand only, unless it may have had more than the hand says.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.pins().recover(dead, |at| self.free_retired(at));
        let hand = self.hand(dead);
        let free = |spot| {
            if self.slot(spot).recover(dead) {
                self.note_freed(spot);
            }
        };
        let had_more = hand.recover(dead, |at| {
            if let Some(spot) = self.spot(at) {
                free(spot);
            }
        });
        if had_more {
            for (first, class) in self.table().chunks() {
                (0..class.blocks()).for_each(|block| free(Spot { first, class, block }));
            }
            hand.forget_more(dead);
        }
    }

    /// How many units are carved, and how many there are.
    pub(crate) fn carved(&self) -> (u64, u64) {
        (self.word(0).load(Relaxed).min(self.units), self.units)
    }

    /// All blocks, and the words of them.
    pub(crate) fn blocks(self) -> impl Iterator<Item = (Spot, u64)> + 'a {
        let spots = move |(first, class): (usize, Class)| {
            (0..class.blocks()).map(move |block| Spot { first, class, block })
        };
        let spots = self.table().chunks().flat_map(spots);
        spots.map(move |spot| (spot, self.slot(spot).word.load(Relaxed)))
    }

    /// How many blocks are not free, and whether one is damaged. Looks at all of them.
    pub(crate) fn census(&self) -> (u64, bool) {
        let (mut used, mut damaged) = (0, false);
        for (_, word) in self.blocks() {
            match state(word) {
                State::Free => {}
                State::Damaged => damaged = true,
                State::Claimed(_) | State::Live | State::Retired => used += 1,
            }
        }
        (used, damaged)
    }
}

/// Frees what `dead` had in hand.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(arena) = Arena::in_object(base, len) {
        arena.recover(dead);
    }
}

/// What `pagemate show` says about an arena.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(arena) = Arena::in_object(base.cast_mut(), len) else { return Vec::new() };
    let (carved, units) = arena.carved();
    let (used, damaged) = arena.census();
    vec![
        ("blocks in use", used.to_string()),
        ("carved", format!("{} of {} KiB", carved * UNIT / 1024, units * UNIT / 1024)),
        ("damaged", damaged.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for units in [1, 2, 15, 16, 17, 1000, 1 << 14, 1 << 23] {
            assert_eq!(units_in(len_for(units)), Some(units));
            assert_eq!(units_in(len_for(units) + 128), None);
        }
        assert_eq!((units_in(0), units_in(TABLE)), (None, None));
    }
}
