//! Reading a block in place: it is pinned, and who frees it meanwhile retires it only ([`super::pin`]).

use std::sync::atomic::Ordering::SeqCst;

use super::arena::Arena;
use super::block::{generation, state, State};
use super::handle::{not_a_block, Block, Heap};
use crate::owner::OwnerId;
use crate::Result;

impl Heap {
    /// Frees this block, which lasts, once nobody reads it in place any more. Only for who alone may free it; may be done again by who comes
    /// after one that died in it.
    ///
    /// # Errors
    ///
    /// Those of [`free`](Heap::free).
    #[inline]
    pub(crate) fn retire(&self, block: Block) -> Result<()> {
        let (arena, start, spot) = self.locate(block.at).ok_or_else(|| not_a_block(block.at))?;
        let slot = arena.slot(spot);
        if !slot.retire(block.generation) {
            return Err(not_a_block(block.at));
        }
        if slot.free_retired(|| arena.pins().is_pinned(block.at - start)) {
            arena.note_freed(spot);
        }
        Ok(())
    }

    /// Keeps this block as it is, if it lasts, until what comes out is dropped: who frees it meanwhile does not free it really.
    /// `None`: it does not last any more, or too much is read in place already.
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
        let word = self.word(block.at).ok_or_else(|| not_a_block(block.at))?.load(SeqCst); // see `pin`
        Ok((state(word) == State::Live && generation(word) == block.generation).then_some(pinned))
    }
}

/// A block that is kept as it is until this is dropped.
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
        // In a child of a fork it is the parent's.
        if self.heap.attachment.owner().is_ok_and(|me| me == self.me) {
            self.arena.pins().let_go(self.index, self.at, self.me, |at| self.arena.free_retired(at));
        }
    }
}
