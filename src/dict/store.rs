//! Where a dict's tables and entries come from: the shared heap, or, in models and unit tests, a small array of words.

use crate::loom::atomic::AtomicU64;
#[cfg(not(loom))]
use crate::loom::atomic::Ordering::Acquire;
use crate::Result;

/// A block, and which of the blocks that stood there one after the other it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Offset of its first byte, a multiple of 16.
    pub(crate) at: u64,
    pub(crate) generation: u64,
}

/// Memory that can be looked at, also at what has been freed: all that a reader needs.
pub(crate) trait Words {
    /// The `count` words at offset `at`; `None` if they are not inside of the memory.
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]>;

    /// Which of the blocks that stand at `at` one after the other it is now, whatever became of it; `None` as above.
    fn generation(&self, at: u64) -> Option<u64>;
}

/// Memory in blocks of 64-bit words, which any number of processes may look at.
pub(crate) trait Store: Words {
    /// A block of at least `count` words. If this process dies before [`publish`](Store::publish), it is freed.
    /// What this process writes into it comes after everything that those who freed it before had done.
    fn alloc(&self, count: usize) -> Result<Block>;

    /// Makes the block last, whoever dies.
    fn publish(&self, block: Block);

    /// The block that lasts at `at`; `None`: none does.
    fn identify(&self, at: u64) -> Option<Block>;

    /// Frees the block if it lasts still, and is this one. Only for who alone may free it, and if nobody ever saw it.
    fn free(&self, block: Block);

    /// Likewise, if others may read it, be it in place: then it is freed when they have done with it.
    fn retire(&self, block: Block);

    /// Whether this process has come to its end. Only models answer yes, between two steps of a change.
    fn has_died(&self) -> bool {
        false
    }
}

#[cfg(not(loom))]
impl Words for crate::heap::Heap {
    #[inline]
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        crate::heap::Heap::words(self, at, count)
    }

    #[inline]
    fn generation(&self, at: u64) -> Option<u64> {
        let word = self.words(at.checked_sub(8)?, 1)?.first()?;
        Some(crate::heap::block::generation(word.load(Acquire)).into()) // pairs with Slot::claim()
    }
}

#[cfg(not(loom))]
impl Words for crate::heap::Look<'_> {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        crate::heap::Look::words(self, at, count)
    }

    fn generation(&self, at: u64) -> Option<u64> {
        let word = self.words(at.checked_sub(8)?, 1)?.first()?;
        Some(crate::heap::block::generation(word.load(Acquire)).into()) // pairs with Slot::claim()
    }
}

#[cfg(not(loom))]
impl Store for crate::heap::Heap {
    #[inline]
    fn alloc(&self, count: usize) -> Result<Block> {
        let block = crate::heap::Heap::alloc(self, 8 * count)?;
        Ok(Block { at: block.at, generation: block.generation.into() })
    }

    #[inline]
    fn publish(&self, block: Block) {
        // Fails only if somebody writes into the memory; then the block is freed with this process, which is detected.
        let _ = crate::heap::Heap::publish(self, block.into());
    }

    #[inline]
    fn identify(&self, at: u64) -> Option<Block> {
        let block = crate::heap::Heap::identify(self, at)?;
        Some(Block { at, generation: block.generation.into() })
    }

    #[inline]
    fn free(&self, block: Block) {
        // Freed already, by the one whose change is finished, or its reaper's to free.
        let _ = crate::heap::Heap::free(self, block.into());
    }

    #[inline]
    fn retire(&self, block: Block) {
        // As above.
        let _ = crate::heap::Heap::retire(self, block.into());
    }
}

#[cfg(not(loom))]
impl From<Block> for crate::heap::Block {
    fn from(block: Block) -> crate::heap::Block {
        crate::heap::Block { at: block.at, generation: block.generation as u32 }
    }
}
