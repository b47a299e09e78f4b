//! Reading a block in place: it is pinned, and freeing it meanwhile only retires it
//! ([`crate::heap::hazard`]).

use crate::loom::atomic::Ordering::SeqCst;

use super::arena::Arena;
use super::block::{generation, state, Block, State};
use super::handle::{not_a_block, Heap};
use crate::segment::owner::OwnerId;
use crate::Result;

impl Heap {
    /// Retires a LIVE block, which is freed once nobody reads it in place any more. Only its owner
    /// may retire it. May be repeated by a process that recovers the owner.
    ///
    /// # Errors
    ///
    /// Those of [`free`](Heap::free).
    #[inline]
    pub(crate) fn retire(&self, block: Block) -> Result<()> {
        let (arena, start, pos) = self.locate(block.at).ok_or_else(|| not_a_block(block.at))?;
        let slot = arena.slot(pos);
        if !slot.retire(block.generation) {
            return Err(not_a_block(block.at));
        }
        if slot.free_retired(|| arena.pins().is_pinned(block.at - start)) {
            arena.note_freed(pos);
        }
        Ok(())
    }

    /// Pins this block, if it is LIVE: until the result is dropped, freeing it is deferred. `None`
    /// if it is not LIVE any more, or all pins are in use.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub(crate) fn pin(&self, block: Block) -> Result<Option<Pinned<'_>>> {
        let me = self.attachment.owner()?;
        let (arena, start) = self.arena_of(block.at).ok_or_else(|| not_a_block(block.at))?;
        let at = block.at - start;
        let Some(index) = arena.pins().pin(at, me) else { return Ok(None) };
        let pinned = Pinned { heap: self, arena, at, index, me };
        let word = self.word(block.at).ok_or_else(|| not_a_block(block.at))?.load(SeqCst); // see `hazard`
        Ok((state(word) == State::Live && generation(word) == block.generation).then_some(pinned))
    }
}

/// A pin: the block is not reused until this is dropped.
#[derive(Debug)]
pub(crate) struct Pinned<'a> {
    heap: &'a Heap,
    arena: Arena<'a>,
    at: u64,
    index: usize,
    me: OwnerId,
}

// SAFETY: the arena is a place in a mapping that the heap keeps, whose words are atomics.
unsafe impl Send for Pinned<'_> {}
// SAFETY: as above.
unsafe impl Sync for Pinned<'_> {}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        // In a forked child the pin is the parent's.
        if self.heap.attachment.owner().is_ok_and(|me| me == self.me) {
            self.arena.pins().release(self.index, self.at, self.me, |at| self.arena.free_retired(at));
        }
    }
}
