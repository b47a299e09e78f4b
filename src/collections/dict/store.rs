//! The memory of a dict's tables and entries: the shared heap, or a small array of words in models
//! and unit tests.

use crate::heap::Block;
use crate::heap::{block, Heap};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Acquire;
use crate::Result;

/// Memory that can be read, also where it has been freed. Readers need no more.
pub(crate) trait Words {
    /// Returns the `count` words at offset `at`; `None` if they are outside the memory.
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]>;

    /// Returns the generation of the live block at `at`; `None` if there is none, or `at` is
    /// outside the memory.
    fn generation(&self, at: u64) -> Option<u32>;

    /// Returns true if one block holds the `count` words at `at`, if this memory knows its blocks.
    /// Slower than [`words`](Words::words).
    fn is_block(&self, at: u64, count: usize) -> bool {
        self.words(at, count).is_some()
    }
}

/// Memory in blocks of 64-bit words, which any number of processes may read.
pub(crate) trait Store: Words {
    /// Allocates a block of at least `count` words. If this process dies before
    /// [`publish`](Store::publish), the block is freed. What this process writes into it happens
    /// after everything that the previous owners did before they freed it.
    fn alloc(&self, count: usize) -> Result<Block>;

    /// Makes the block live: it now outlives the process.
    fn publish(&self, block: Block);

    /// Returns the live block at `at`; `None` if there is none.
    fn identify(&self, at: u64) -> Option<Block>;

    /// Frees the block if it is still live and of this generation. The caller must be its only
    /// owner, and nobody else may have seen the block.
    fn free(&self, block: Block);

    /// Like `free`, for a block that others may read, also in place. It is freed once nobody reads
    /// it in place.
    fn retire(&self, block: Block);

    /// Returns true if this process has died. Only models return true, between two steps of a
    /// change.
    fn has_died(&self) -> bool {
        false
    }
}

impl Words for Heap {
    #[inline]
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        Heap::words(self, at, count)
    }

    #[inline]
    fn generation(&self, at: u64) -> Option<u32> {
        block::lasting(self.word(at)?.load(Acquire)) // pairs with Slot::claim()
    }

    fn is_block(&self, at: u64, count: usize) -> bool {
        self.len(at).is_ok_and(|len| len / 8 >= count as u64)
    }
}

impl Store for Heap {
    #[inline]
    fn alloc(&self, count: usize) -> Result<Block> {
        Heap::alloc(self, 8 * count)
    }

    #[inline]
    fn publish(&self, block: Block) {
        // Fails only if another program writes into the memory. Then the block is freed with this
        // process, which is detected.
        let _ = Heap::publish(self, block);
    }

    #[inline]
    fn identify(&self, at: u64) -> Option<Block> {
        Heap::identify(self, at)
    }

    #[inline]
    fn free(&self, block: Block) {
        // Freed already by the writer whose change is being completed, or its reaper frees it.
        let _ = Heap::free(self, block);
    }

    #[inline]
    fn retire(&self, block: Block) {
        // As above.
        let _ = Heap::retire(self, block);
    }
}
