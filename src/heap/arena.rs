//! An arena: one object of a segment, out of which chunks are carved.
//!
//! ```text
//! 0        ┌───────────────────────────────┐
//!          │ end of the carved part; hints │ a hint for each class, see `Arena::hint`
//! 1064     │ keeper, floor, high, next     │ see `remake`
//! 1152     ├───────────────────────────────┤
//!          │ claim logs                    │ 64 bytes for each possible participant, see `block`
//! 66688    ├───────────────────────────────┤
//!          │ pins                          │ see `hazard`
//! 67712    ├───────────────────────────────┤
//!          │ table                         │ 8 bytes for each unit, see `chunk_table`
//!          ├───────────────────────────────┤ at a multiple of 128
//!          │ bits: taken, or not           │ 1,024 for each unit; a chunk uses its first unit's
//!          ├───────────────────────────────┤
//!          │ units of 16 KiB               │ chunks, see `class`
//!          └───────────────────────────────┘
//! ```
//!
//! Zero is the fresh state of everything. The number of units follows from the object's length,
//! which is stored in its record and not here. Any bytes are a valid arena, because each value is
//! checked where it is used.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Relaxed, SeqCst};
use std::marker::PhantomData;

use super::block::{state, ClaimLog, Slot, State};
use super::class::{Class, BIT_WORDS, CLASSES, UNIT};
use crate::heap::chunk_table::Table;
use crate::heap::hazard::Pins;
use crate::loom::Ordered;
use crate::segment::owner::{OwnerId, MAX_PARTICIPANTS};

const HINTS: u64 = 8;
/// The owner bits of the keeper, the participant that remakes chunks; or 0.
const KEEPER: u64 = HINTS + 8 * CLASSES as u64;
/// A generation: none of the blocks that were remade had a later one.
const FLOOR: u64 = KEEPER + 8;
/// No participant of this index or a higher one has ever claimed a block here.
const HIGH: u64 = FLOOR + 8;
/// The unit at which the next search for empty chunks begins: a hint.
const NEXT: u64 = HIGH + 8;
const CLAIM_LOGS: u64 = 1152;
/// Bytes of a unit's bits.
const BITS: u64 = 8 * BIT_WORDS as u64;
const PINS: u64 = CLAIM_LOGS + 64 * MAX_PARTICIPANTS as u64;
const TABLE: u64 = PINS + size_of::<Pins>() as u64;

const _: () = assert!(NEXT + 8 <= CLAIM_LOGS && CLAIM_LOGS % 64 == 0);

/// Returns where the units of an arena begin.
pub(crate) fn data_start(units: u64) -> u64 {
    bits_start(units) + BITS * units
}

fn bits_start(units: u64) -> u64 {
    (TABLE + 8 * units).next_multiple_of(128)
}

/// Returns the length of an arena of `units` units.
pub(crate) fn len_for(units: u64) -> u64 {
    data_start(units) + units * UNIT
}

/// Returns the number of units of an arena of this length; `None` if no arena has this length.
pub(crate) fn units_in(len: u64) -> Option<u64> {
    let units = len.checked_sub(TABLE)? / (UNIT + BITS + 8);
    (units > 0 && len_for(units) == len).then_some(units)
}

/// A mapped arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arena<'a> {
    base: *mut u8,
    units: u64,
    mapping: PhantomData<&'a ()>,
}

/// The position of a block: the first unit of its chunk, the chunk's class, and the block's index
/// in the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPos {
    pub(crate) first: usize,
    pub(crate) class: Class,
    pub(crate) block: u64,
}

impl<'a> Arena<'a> {
    /// Creates a view of the arena at `base`.
    ///
    /// # Safety
    ///
    /// `base` is a multiple of 128, `units` is at least 1, and [`len_for`]`(units)` bytes stay
    /// mapped for `'a`.
    pub(crate) unsafe fn new(base: *mut u8, units: u64) -> Arena<'a> {
        Arena { base, units, mapping: PhantomData }
    }

    /// Returns a view of the arena that an object consists of; `None` if no arena has this length.
    /// Callers use it only while the object is mapped.
    pub(crate) fn in_object(base: *mut u8, len: usize) -> Option<Arena<'a>> {
        let units = units_in(len as u64)?;
        // SAFETY: objects are aligned to 128, and the directory has checked that all `len` bytes
        // are mapped; callers use the arena only while the object is mapped.
        Some(unsafe { Arena::new(base, units) })
    }

    /// Returns the word at this offset, a multiple of 8.
    #[inline]
    pub(super) fn word(&self, offset: u64) -> &'a AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset + 8 <= len_for(self.units));
        // SAFETY: callers compute the offset of a word inside of the arena, from its number of
        // units and from positions in the table that were checked against that number; the arena is
        // mapped for 'a by the contract of new(), and aligned. Others change this memory by atomic
        // accesses only, except for the bytes of blocks, for which this function is not used.
        unsafe { &*self.base.add(offset as usize).cast::<AtomicU64>() }
    }

    /// Returns whether the offset `at` in the segment lies in this arena, which begins at `start`.
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

    /// Returns the hint of a class. It is not 0 if a block of this class was freed here since the
    /// last search that found none.
    pub(crate) fn hint(&self, class: Class) -> &'a AtomicU64 {
        self.word(HINTS + 8 * class.number() as u64)
    }

    /// Returns the word with the owner bits of the participant that remakes chunks here; 0 if there
    /// is none.
    pub(super) fn keeper(&self) -> &'a AtomicU64 {
        self.word(KEEPER)
    }

    /// Returns the word of a generation; none of the blocks that were remade had a later one.
    pub(super) fn floor(&self) -> &'a AtomicU64 {
        self.word(FLOOR)
    }

    /// Returns the word of the unit at which the next search for empty chunks begins.
    pub(super) fn next(&self) -> &'a AtomicU64 {
        self.word(NEXT)
    }

    /// Returns the claim logs that may name a block.
    pub(super) fn claim_logs(&self) -> impl Iterator<Item = &'a ClaimLog> + '_ {
        let high = self.word(HIGH).load(SeqCst).min(MAX_PARTICIPANTS as u64); // pairs with claim()
        (0..high as usize).map(|index| self.claim_log_at(index))
    }

    pub(crate) fn claim_log(&self, owner: OwnerId) -> &'a ClaimLog {
        self.claim_log_at(owner.index())
    }

    fn claim_log_at(&self, index: usize) -> &'a ClaimLog {
        debug_assert!(index < MAX_PARTICIPANTS);
        // SAFETY: there are as many logs as indices, inside of the arena; a log consists of
        // atomics, and any bytes are valid.
        unsafe { &*self.base.add(CLAIM_LOGS as usize).cast::<ClaimLog>().add(index) }
    }

    #[inline]
    pub(crate) fn pins(&self) -> &'a Pins {
        // SAFETY: the pins are inside of the arena, at a multiple of 8; they are atomics, and any
        // bytes are valid.
        unsafe { &*self.base.add(PINS as usize).cast::<Pins>() }
    }

    /// Frees the block at this offset in the arena if it is RETIRED and not pinned.
    #[inline]
    pub(crate) fn free_retired(&self, at: u64) {
        if let Some(pos) = self.block_pos(at) {
            if self.slot(pos).free_retired(|| self.pins().is_pinned(at)) {
                self.note_freed(pos);
            }
        }
    }

    /// Returns the offset of a chunk.
    #[inline]
    pub(super) fn chunk_start(&self, first: usize) -> u64 {
        data_start(self.units) + first as u64 * UNIT
    }

    /// Returns the offset of the block's bytes in the arena.
    #[inline]
    pub(crate) fn offset(&self, pos: BlockPos) -> u64 {
        self.chunk_start(pos.first) + pos.class.offset(pos.block)
    }

    /// Returns the block whose bytes begin at this offset in the arena.
    #[inline]
    pub(crate) fn block_pos(&self, offset: u64) -> Option<BlockPos> {
        let unit = offset.checked_sub(data_start(self.units))? / UNIT;
        let (first, class) = self.table().chunk(usize::try_from(unit).ok()?)?;
        if class.units() > self.units - first as u64 {
            return None;
        }
        let block = class.block_at(offset - self.chunk_start(first))?;
        Some(BlockPos { first, class, block })
    }

    /// Returns the word and the bit of this block. Its chunk must lie inside of the arena.
    #[inline]
    pub(crate) fn slot(&self, pos: BlockPos) -> Slot<'a> {
        let bits = self.bits(pos.first, pos.block / 64);
        Slot { word: self.word(self.offset(pos) - 8), bits, mask: 1 << (pos.block % 64) }
    }

    /// Returns a word of the bits of the chunk that begins at unit `first`.
    pub(super) fn bits(&self, first: usize, index: u64) -> &'a AtomicU64 {
        self.word(bits_start(self.units) + BITS * first as u64 + 8 * index)
    }

    /// Claims a free block of this chunk, if there is one. Returns it with its generation.
    #[inline]
    pub(crate) fn claim(&self, first: usize, class: Class, me: OwnerId) -> Option<(BlockPos, u32)> {
        if class.units() > self.units.checked_sub(first as u64)? || !self.table().is_open(first, class) {
            return None;
        }
        let log = self.claim_log(me);
        if self.word(HIGH).load(SeqCst) <= me.index() as u64 {
            // Raised before the log names a block; pairs with claim_logs().
            self.word(HIGH).fetch_max(me.index() as u64 + 1, SeqCst);
        }
        for index in 0..class.blocks().div_ceil(64).min(BIT_WORDS as u64) {
            let mut taken = self.bits(first, index).load(Relaxed);
            let in_this = class.blocks() - 64 * index;
            if in_this < 64 {
                taken |= u64::MAX << in_this;
            }
            while taken != u64::MAX {
                let bit = taken.trailing_ones();
                let pos = BlockPos { first, class, block: 64 * index + u64::from(bit) };
                taken |= 1 << bit;
                let slot = self.slot(pos);
                if state(slot.word.load(Relaxed)) != State::Free {
                    continue;
                }
                let at = self.offset(pos);
                let _: Ordered = log.record(at, me); // then the chunk's word: pairs with Arena::close()
                let is_open = self.table().is_open(first, class);
                let claimed = if is_open { slot.claim(me) } else { None };
                if let Some(generation) = claimed {
                    return Some((pos, generation));
                }
                log.erase(at, me);
                if !is_open {
                    return None;
                }
            }
        }
        None
    }

    /// Records that this block was freed.
    #[inline]
    pub(crate) fn note_freed(&self, pos: BlockPos) {
        self.table().set_freed(pos.first);
        // The hint is set even if the chunk's own hint was set already, because the process that
        // cleared it to search the chunks may have died before it searched them.
        if self.hint(pos.class).load(Relaxed) == 0 {
            self.hint(pos.class).store(1, Relaxed);
        }
    }

    /// Frees what `dead` had claimed. Inspects only the blocks in its log, unless `dead` may have
    /// claimed more.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.recover_keeper(dead);
        self.pins().recover(dead, |at| self.free_retired(at));
        let log = self.claim_log(dead);
        let free = |pos| {
            if self.slot(pos).recover(dead) {
                self.note_freed(pos);
            }
        };
        let had_more = log.recover(dead, |at| {
            if let Some(pos) = self.block_pos(at) {
                free(pos);
            }
        });
        if had_more {
            for (first, class) in self.table().chunks() {
                (0..class.blocks()).for_each(|block| free(BlockPos { first, class, block }));
            }
            log.forget_more(dead);
        }
    }

    /// Returns the number of units that are carved, and the number of all units.
    pub(crate) fn carved(&self) -> (u64, u64) {
        (self.word(0).load(Relaxed).min(self.units), self.units)
    }

    /// Returns all blocks with their words.
    pub(crate) fn blocks(self) -> impl Iterator<Item = (BlockPos, u64)> + 'a {
        let positions = move |(first, class): (usize, Class)| {
            (0..class.blocks()).map(move |block| BlockPos { first, class, block })
        };
        let positions = self.table().chunks().flat_map(positions);
        positions.map(move |pos| (pos, self.slot(pos).word.load(Relaxed)))
    }

    /// Returns the number of blocks in use, and whether a block is damaged. Inspects all blocks.
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

/// Frees what `dead` had claimed.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(arena) = Arena::in_object(base, len) {
        arena.recover(dead);
    }
}

/// Returns what `pagemate show` prints about an arena.
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
