//! The memory of a list's blocks: the segment's heap, or an array of words in models.

use crate::heap::{Block, State};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Acquire;
use crate::Result;

/// Blocks of words that any number of processes read. [`Heap`](crate::heap::Heap) implements it by
/// its methods of the same names.
pub(crate) trait ListMemory {
    /// Returns the `count` words at `at`; `None` if they are outside the memory. The range may be
    /// no block, or no longer one: the reader checks that after it has read.
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]>;

    /// Returns the length of the memory in bytes.
    fn size(&self) -> u64;

    /// Returns the state word of the block at `at`. It changes whenever the block is claimed,
    /// published or freed.
    fn word(&self, at: u64) -> Option<&AtomicU64>;

    /// Returns the number of bytes of the block at `at`.
    fn len(&self, at: u64) -> Result<u64>;

    /// Returns the block at `at`, free or not, with its state.
    fn state(&self, at: u64) -> Result<(Block, State)>;

    /// Allocates a block of at least `len` bytes. It is freed if this process dies before
    /// [`publish`](ListMemory::publish).
    fn alloc(&self, len: usize) -> Result<Block>;

    /// Makes the block live, so that it survives this process.
    fn publish(&self, block: Block) -> Result<()>;

    /// Frees this block, which is live, or claimed by this process and not published.
    fn free(&self, block: Block) -> Result<()>;

    /// Returns the block at `at`, if it is live.
    #[inline]
    fn identify(&self, at: u64) -> Option<Block> {
        let word = self.word(at)?.load(Acquire); // pairs with publish()
        let generation = crate::heap::block::generation(word);
        (crate::heap::block::state(word) == State::Live).then_some(Block { at, generation })
    }
}

impl ListMemory for crate::heap::Heap {
    #[inline]
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        crate::heap::Heap::words(self, at, count)
    }

    fn size(&self) -> u64 {
        crate::heap::Heap::size(self)
    }

    #[inline]
    fn word(&self, at: u64) -> Option<&AtomicU64> {
        crate::heap::Heap::word(self, at)
    }

    #[inline]
    fn len(&self, at: u64) -> Result<u64> {
        crate::heap::Heap::len(self, at)
    }

    #[inline]
    fn state(&self, at: u64) -> Result<(Block, State)> {
        crate::heap::Heap::state(self, at)
    }

    #[inline]
    fn alloc(&self, len: usize) -> Result<Block> {
        crate::heap::Heap::alloc(self, len)
    }

    #[inline]
    fn publish(&self, block: Block) -> Result<()> {
        crate::heap::Heap::publish(self, block)
    }

    #[inline]
    fn free(&self, block: Block) -> Result<()> {
        crate::heap::Heap::free(self, block)
    }
}
