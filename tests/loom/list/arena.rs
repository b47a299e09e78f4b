//! A small heap in an array, with the real words of blocks, for processes that die while they use
//! it.

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use crate::collections::list::memory::ListMemory;
use crate::heap::block::{self, Slot};
use crate::heap::{Block, State};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Acquire;
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

/// The array: the word of each block, and the block's own words behind it.
pub(super) struct Arena {
    words: Vec<AtomicU64>,
    bits: AtomicU64,
    /// Where each block begins, in words, and the number of its words.
    blocks: Vec<(usize, usize)>,
}

impl Arena {
    /// Creates an arena with blocks of these sizes, in words. They are odd, so that every block
    /// begins at an even word.
    pub(super) fn new(sizes: &[usize]) -> Arena {
        assert!(sizes.len() <= 64 && sizes.iter().all(|size| size % 2 == 1));
        // Nothing begins at 0.
        let mut next = 2;
        let mut place = |size: &usize| {
            next += size + 1;
            (next - size - 1, *size)
        };
        let blocks: Vec<_> = sizes.iter().map(&mut place).collect();
        Arena { words: (0..next).map(|_| AtomicU64::new(0)).collect(), bits: AtomicU64::new(0), blocks }
    }

    fn slot(&self, index: usize) -> Slot<'_> {
        let word = &self.words[self.blocks[index].0 - 1];
        Slot { word, bits: &self.bits, mask: 1 << index }
    }

    /// Returns the index of the block at `at`.
    fn find(&self, at: u64) -> Result<usize> {
        let is_here = |(first, _): &(usize, usize)| 8 * *first as u64 == at;
        self.blocks.iter().position(is_here).ok_or_else(|| Error::new(ErrorKind::Corrupted, "no such block"))
    }

    /// Frees what `dead` had claimed and not published.
    pub(super) fn reap(&self, dead: OwnerId) {
        (0..self.blocks.len()).for_each(|index| _ = self.slot(index).recover(dead));
    }

    /// Returns the number of blocks that are not free.
    pub(super) fn in_use(&self) -> usize {
        let is_used = |index: &usize| block::state(self.slot(*index).word.load(Acquire)) != State::Free;
        (0..self.blocks.len()).filter(is_used).count()
    }
}

/// One process's view of the array.
pub(super) struct Local<'a> {
    arena: &'a Arena,
    pub(super) me: OwnerId,
    /// The number of moments at which it may yet die, before it does.
    left: Cell<usize>,
}

/// The payload of the unwinding by which a process dies: it runs no more of its code.
struct Death;

impl<'a> Local<'a> {
    pub(super) fn new(arena: &'a Arena, me: OwnerId) -> Local<'a> {
        Local::mortal(arena, me, usize::MAX)
    }

    /// Creates the view of a process that dies at the moment with this number. The moments are
    /// before and after each use of memory.
    pub(super) fn mortal(arena: &'a Arena, me: OwnerId, moments: usize) -> Local<'a> {
        Local { arena, me, left: Cell::new(moments) }
    }

    /// Returns the number of moments that have passed for a process that never dies.
    pub(super) fn moments(&self) -> usize {
        usize::MAX - self.left.get()
    }

    fn moment(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => resume_unwind(Box::new(Death)),
        }
    }
}

/// Runs `life`, which may end early. Returns whether it did.
pub(super) fn dies(life: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(()) => false,
        Err(payload) if payload.is::<Death>() => true,
        Err(payload) => resume_unwind(payload),
    }
}

impl ListMemory for Local<'_> {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        self.moment();
        assert_eq!(at % 8, 0);
        let first = usize::try_from(at / 8).ok()?;
        self.arena.words.get(first..first.checked_add(count)?)
    }

    fn size(&self) -> u64 {
        8 * self.arena.words.len() as u64
    }

    fn word(&self, at: u64) -> Option<&AtomicU64> {
        self.arena.words.get(usize::try_from(at / 8).ok()?.checked_sub(1)?)
    }

    fn len(&self, at: u64) -> Result<u64> {
        self.arena.find(at).map(|index| 8 * self.arena.blocks[index].1 as u64)
    }

    fn state(&self, at: u64) -> Result<(Block, State)> {
        let word = self.arena.slot(self.arena.find(at)?).word.load(Acquire);
        Ok((Block { at, generation: block::generation(word) }, block::state(word)))
    }

    fn alloc(&self, len: usize) -> Result<Block> {
        self.moment();
        let fits = |index: &usize| 8 * self.arena.blocks[*index].1 >= len;
        let claim = |index| {
            let generation = self.arena.slot(index).claim(self.me)?;
            Some(Block { at: 8 * self.arena.blocks[index].0 as u64, generation })
        };
        let block = (0..self.arena.blocks.len()).filter(fits).find_map(claim);
        self.moment();
        block.ok_or_else(|| Error::new(ErrorKind::OutOfMemory, "the arena is full"))
    }

    fn publish(&self, block: Block) -> Result<()> {
        self.moment();
        let slot = self.arena.slot(self.arena.find(block.at)?);
        assert!(block::publish(slot.word, block.generation, self.me), "it is claimed by this process");
        self.moment();
        Ok(())
    }

    fn free(&self, block: Block) -> Result<()> {
        self.moment();
        assert!(self.arena.slot(self.arena.find(block.at)?).free(block.generation, self.me), "freed twice");
        self.moment();
        Ok(())
    }
}
