//! A store: one arena that is a part of another object, such as a queue. It does not grow, so it is
//! the object's quota.
//!
//! Blocks are named by their offset in the arena. Everything else is as in the segment's heap: see
//! [`block`](super::block) for the states and the deaths, [`arena`](super::arena) for the layout.
//! What is recovered from a death, and when a block becomes LIVE, is up to the object.
//!
//! Any bytes are an arena, so a store is never refused: what does not fit is an error where it is
//! used.

use super::arena::{len_for, Arena};
use super::block::{self, generation, state, Block, State};
use super::class::{Class, CLASSES, UNIT};
use super::remake::Shortage;
use super::search::Found;
use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::segment::owner::OwnerId;

/// The number of units of the smallest store: that of the largest chunk with several blocks.
const UNITS_MIN: u64 = 4;
/// The number of units of the largest store: 128 GiB. So the offset of a block fits into 38 bits.
pub(crate) const UNITS_MAX: u64 = 1 << 23;

/// The arena of an object as a process uses it.
#[derive(Debug)]
pub(crate) struct Store {
    base: *mut u8,
    units: u64,
    /// For each class the chunk that was allocated from last: its first unit, plus 1. 0: none.
    current: [AtomicU32; CLASSES],
}

// SAFETY: the pointer is to an arena, whose words are atomics and whose blocks belong to processes,
// not to threads.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Returns the number of units that hold `quota` bytes: 0 for 0 bytes, else at least four, so
    /// that every small class has a chunk. `None` if that is more than half of the largest segment.
    pub(crate) fn units_for(quota: u64) -> Option<u64> {
        let least = if quota == 0 { 0 } else { UNITS_MIN };
        Some(quota.div_ceil(UNIT).max(least)).filter(|units| *units <= UNITS_MAX)
    }

    /// Returns the length in bytes of a store of this number of units.
    pub(crate) fn len_for(units: u64) -> u64 {
        len_for(units)
    }

    /// Creates the view of a process.
    ///
    /// # Safety
    ///
    /// `base` is a multiple of 128, `units` is at least 1, and [`len_for`](Store::len_for)`(units)`
    /// bytes stay mapped as long as the result or anything made of it is used.
    pub(crate) unsafe fn new(base: *mut u8, units: u64) -> Store {
        Store { base, units, current: [(); CLASSES].map(|()| AtomicU32::new(0)) }
    }

    fn arena(&self) -> Arena<'_> {
        // SAFETY: promised to new().
        unsafe { Arena::new(self.base, self.units) }
    }

    /// Returns the number of bytes of all units.
    pub(crate) fn quota(&self) -> u64 {
        self.units * UNIT
    }

    /// Returns the class of a block of `len` bytes.
    ///
    /// # Errors
    ///
    /// It does not fit, even if the store is empty. The error is the number of bytes that it takes.
    pub(crate) fn class_for(&self, len: u64) -> Result<Class, u64> {
        Class::for_len_within(len, self.units)
            .ok_or_else(|| Class::for_len(len).map_or(u64::MAX, |class| class.units() * UNIT))
    }

    /// Allocates a block, whose contents may be anything. It is freed if this process dies before
    /// [`publish`](Store::publish).
    #[inline]
    pub(crate) fn alloc(&self, class: Class, me: OwnerId) -> Result<Block, Shortage> {
        let arena = self.arena();
        let current = self.current[class.number()].load(Relaxed).checked_sub(1);
        let found = current.and_then(|first| arena.claim(first as usize, class, me));
        let (pos, generation) = match found {
            Some(found) => found,
            None => match self.alloc_elsewhere(class, current, me) {
                Ok(found) => found,
                Err(shortage) => return self.alloc_in_smaller_chunk(class, me).ok_or(shortage),
            },
        };
        Ok(Block { at: arena.offset(pos), generation })
    }

    /// Allocates a block like [`alloc`](Store::alloc), but only where one of this class was freed.
    /// So it takes less time if there is none.
    pub(crate) fn alloc_freed(&self, class: Class, me: OwnerId) -> Option<Block> {
        let arena = self.arena();
        let current = self.current[class.number()].load(Relaxed).checked_sub(1);
        let found = current.and_then(|first| arena.claim(first as usize, class, me));
        let (pos, generation) = found.or_else(|| arena.claim_freed(class, me))?;
        self.current[class.number()].store(pos.first as u32 + 1, Relaxed);
        Some(Block { at: arena.offset(pos), generation })
    }

    #[cold]
    fn alloc_in_smaller_chunk(&self, class: Class, me: OwnerId) -> Option<Block> {
        self.alloc(class.in_smaller_chunks()?, me).ok()
    }

    #[cold]
    fn alloc_elsewhere(&self, class: Class, current: Option<u32>, me: OwnerId) -> Result<Found, Shortage> {
        let arena = self.arena();
        let found = current
            .and_then(|first| arena.claim_after(first as usize, class, me))
            .or_else(|| arena.claim_freed(class, me))
            .or_else(|| current.is_none().then(|| arena.claim_newest(class, me))?)
            .or_else(|| arena.claim_fresh(class, me))
            .or_else(|| arena.claim_anywhere(class, me));
        let found = match found {
            Some(found) => found,
            None => arena.claim_remade(class, me).or_else(|shortage| {
                // The rest can be remade together with what is before it.
                if arena.carve_rest() {
                    arena.claim_remade(class, me)
                } else {
                    Err(shortage)
                }
            })?,
        };
        self.current[class.number()].store(found.0.first as u32 + 1, Relaxed);
        Ok(found)
    }

    /// Makes the block LIVE, so that it survives this process. Returns false if this process has
    /// not claimed it.
    #[inline]
    pub(crate) fn publish(&self, block: Block, me: OwnerId) -> bool {
        let arena = self.arena();
        let is_mine = block::publish(arena.word(block.at - 8), block.generation, me);
        arena.claim_log(me).erase(block.at, me);
        is_mine
    }

    /// Frees the block at `at` if it is LIVE, or claimed by `me`, and `is_this` accepts its
    /// generation. Idempotent; any number of processes may do it at once.
    #[inline]
    pub(crate) fn free(&self, at: u64, me: Option<OwnerId>, is_this: impl FnOnce(u32) -> bool) -> bool {
        let arena = self.arena();
        let Some(pos) = arena.block_pos(at) else { return false };
        let slot = arena.slot(pos);
        let seen = slot.word.load(Relaxed);
        let is_claimed = match state(seen) {
            State::Live => false,
            State::Claimed(owner) if Some(owner) == me => true,
            _ => return false,
        };
        if !is_this(generation(seen)) || !slot.set_free(seen) {
            return false;
        }
        if let Some(me) = me.filter(|_| is_claimed) {
            arena.claim_log(me).erase(at, me);
        }
        arena.note_freed(pos);
        true
    }

    /// Returns the address of the bytes of a block that this process has allocated.
    #[inline]
    pub(crate) fn address(&self, block: Block) -> *mut u8 {
        self.base.wrapping_add(block.at as usize)
    }

    /// Returns the bytes of the LIVE block at `at`, if `is_this` accepts its generation, and their
    /// number. Nobody but the block's owner may use them.
    #[inline]
    pub(crate) fn bytes(&self, at: u64, is_this: impl FnOnce(u32) -> bool) -> Option<(*mut u8, u64)> {
        let arena = self.arena();
        let pos = arena.block_pos(at)?;
        let word = arena.slot(pos).word.load(Acquire); // pairs with publish()
        let is_there = state(word) == State::Live && is_this(generation(word));
        is_there.then(|| (self.base.wrapping_add(at as usize), pos.class.len()))
    }

    /// Frees what `dead` had claimed and not published.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.arena().recover(dead);
    }

    /// Returns the number of bytes of the blocks that are not free. Inspects all of them.
    pub(crate) fn in_use(&self) -> u64 {
        let taken = self.arena().blocks().filter(|(_, word)| state(*word) != State::Free);
        taken.map(|(pos, _)| pos.class.len()).sum()
    }

    /// Returns the word that names the participant that remakes.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn keeper(&self) -> &crate::loom::atomic::AtomicU64 {
        self.arena().keeper()
    }
}
