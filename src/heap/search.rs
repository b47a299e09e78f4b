//! The search for a free block in one arena, beyond the chunk that was allocated from last.
//!
//! The order of the steps is the same for a [heap](super::handle) of many arenas and for a
//! [store](super::store) of one: chunks of which blocks were freed, the newest chunk, a fresh one,
//! any, and one that is remade.

use super::arena::{Arena, BlockPos};
use super::class::{Class, CLASSES};
use super::remake::Shortage;
use crate::loom::atomic::Ordering::Relaxed;
use crate::segment::owner::OwnerId;

/// The number of chunks that are tried after the one that was allocated from last.
const NEXT: usize = 2;

/// A claimed block, with its generation.
pub(super) type Found = (BlockPos, u32);

impl Arena<'_> {
    /// Claims in one of the next chunks of the class after the one that begins here. Messages that
    /// are freed in the order in which they were sent leave room there.
    pub(super) fn claim_after(&self, first: usize, class: Class, me: OwnerId) -> Option<Found> {
        let is_next = |(at, found): &(usize, Class)| *at != first && *found == class;
        let after = self.table().chunks_from(first).filter(is_next);
        let wrapped = self.table().chunks().filter(is_next);
        after.chain(wrapped).take(NEXT).find_map(|(first, _)| self.claim(first, class, me))
    }

    /// Claims in a chunk of which a block was freed.
    pub(super) fn claim_freed(&self, class: Class, me: OwnerId) -> Option<Found> {
        if self.hint(class).load(Relaxed) == 0 {
            return None;
        }
        self.hint(class).store(0, Relaxed);
        for (first, _) in self.table().chunks().filter(|(_, found)| *found == class) {
            if self.table().take_freed(first) {
                if let Some(found) = self.claim(first, class, me) {
                    self.hint(class).store(1, Relaxed); // there may be more
                    return Some(found);
                }
            }
        }
        None
    }

    /// Claims in the newest chunk of the class, whichever process carved it, because a new process
    /// may need only this one block. Later each process has chunks of its own, and does not disturb
    /// others.
    pub(super) fn claim_newest(&self, class: Class, me: OwnerId) -> Option<Found> {
        self.claim(self.table().last(class)?, class, me)
    }

    /// Claims in a chunk that is carved for this.
    pub(super) fn claim_fresh(&self, class: Class, me: OwnerId) -> Option<Found> {
        let most = self.carved().1 as usize; // each takes a unit at least
        let mut carved = std::iter::from_fn(|| self.table().carve(class)).take(most);
        carved.find_map(|first| self.claim(first, class, me))
    }

    /// Claims in any chunk, whatever the hints say.
    pub(super) fn claim_anywhere(&self, class: Class, me: OwnerId) -> Option<Found> {
        let mut chunks = self.table().chunks().filter(|(_, found)| *found == class);
        chunks.find_map(|(first, _)| self.claim(first, class, me))
    }

    /// Claims in a chunk that is made out of empty ones of any class.
    pub(super) fn claim_remade(&self, class: Class, me: OwnerId) -> Result<Found, Shortage> {
        // If the new chunk has no free block, others were faster.
        self.claim(self.remake(class, me)?, class, me).ok_or(Shortage::Busy)
    }

    /// Carves everything that is left, so that it can be remade together with what is before it.
    /// Returns whether something was left.
    pub(super) fn carve_rest(&self) -> bool {
        let (end, units) = self.carved();
        if end == units {
            return false;
        }
        let classes = (0..CLASSES as u64).rev().filter_map(Class::from_number);
        let single = classes.filter(|class| class.blocks() == 1);
        let most = units as usize; // each takes a unit at least
        let carve = |class| std::iter::from_fn(move || self.table().carve(class));
        single.flat_map(carve).take(most).count() > 0
    }
}
