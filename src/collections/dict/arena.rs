//! A small heap in an array, for models and unit tests. Blocks have one size, and every wrong free
//! panics.

use crate::heap::Block;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::{Error, ErrorKind, Result};

use super::store::{Store, Words};

/// Words of a block.
const WORDS: usize = if cfg!(loom) { 6 } else { 64 };
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const LIVE: u64 = 2;
/// Claimed by a process that will die.
const DOOMED: u64 = 3;

/// Returns the state of a block.
fn state(generation: u32, status: u64) -> u64 {
    u64::from(generation) << 2 | status
}

fn generation(state: u64) -> u32 {
    (state >> 2) as u32
}

/// The array. A block's state is `generation << 2 | status`, and a claim increments the generation.
#[derive(Debug)]
pub(crate) struct Arena {
    states: Vec<AtomicU64>,
    words: Vec<AtomicU64>,
}

impl Arena {
    pub(crate) fn new(blocks: usize) -> Arena {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arena { states: zeros(blocks), words: zeros(blocks * WORDS) }
    }

    fn state(&self, at: u64) -> &AtomicU64 {
        &self.states[at as usize / 8 / WORDS - 1]
    }

    /// Frees the blocks that the dead process has claimed.
    pub(crate) fn reap(&self) {
        for state in &self.states {
            let seen = state.load(Acquire);
            if seen & 3 == DOOMED {
                let freed = state.compare_exchange(seen, seen & !3 | FREE, AcqRel, Relaxed);
                assert!(freed.is_ok());
            }
        }
    }

    fn claim(&self, count: usize, status: u64) -> Result<Block> {
        for (index, word) in self.states.iter().enumerate().filter(|_| count <= WORDS) {
            let seen = word.load(Relaxed);
            let next = generation(seen) + 1;
            if seen & 3 == FREE && word.compare_exchange(seen, state(next, status), AcqRel, Relaxed).is_ok() {
                return Ok(Block { at: ((index + 1) * WORDS * 8) as u64, generation: next });
            }
        }
        Err(Error::new(ErrorKind::OutOfMemory, "the arena is full"))
    }

    /// Returns the number of blocks that are not free.
    pub(crate) fn in_use(&self) -> usize {
        self.states.iter().filter(|state| state.load(Acquire) & 3 != FREE).count()
    }
}

impl Words for Arena {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        let first = (at as usize / 8).checked_sub(WORDS)?;
        self.words.get(first..first.checked_add(count)?)
    }

    fn generation(&self, at: u64) -> Option<u32> {
        let word = self.states.get((at as usize / 8 / WORDS).checked_sub(1)?)?;
        Some(generation(word.load(Acquire)))
    }
}

impl Store for Arena {
    fn alloc(&self, count: usize) -> Result<Block> {
        self.claim(count, CLAIMED)
    }

    fn publish(&self, block: Block) {
        let word = self.state(block.at);
        let seen = word.load(Relaxed);
        assert!(generation(seen) == block.generation && [CLAIMED, DOOMED].contains(&(seen & 3)));
        assert!(word.compare_exchange(seen, state(block.generation, LIVE), AcqRel, Relaxed).is_ok());
    }

    fn identify(&self, at: u64) -> Option<Block> {
        let seen = self.state(at).load(Acquire);
        assert_eq!(seen & 3, LIVE);
        Some(Block { at, generation: generation(seen) })
    }

    fn free(&self, block: Block) {
        let word = self.state(block.at);
        let seen = word.load(Acquire);
        if seen == state(block.generation, LIVE) {
            assert!(word.compare_exchange(seen, seen & !3 | FREE, AcqRel, Relaxed).is_ok());
        }
    }

    fn retire(&self, block: Block) {
        self.free(block); // nobody reads in place here
    }
}

/// The arena of a process that dies after `steps` steps.
#[derive(Debug)]
pub(crate) struct Mortal<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) steps: std::cell::Cell<usize>,
}

impl Words for Mortal<'_> {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        self.arena.words(at, count)
    }

    fn generation(&self, at: u64) -> Option<u32> {
        self.arena.generation(at)
    }
}

impl Store for Mortal<'_> {
    fn alloc(&self, count: usize) -> Result<Block> {
        self.arena.claim(count, DOOMED)
    }

    fn publish(&self, block: Block) {
        self.arena.publish(block);
    }

    fn identify(&self, at: u64) -> Option<Block> {
        self.arena.identify(at)
    }

    fn free(&self, block: Block) {
        self.arena.free(block);
    }

    fn retire(&self, block: Block) {
        self.arena.retire(block);
    }

    fn has_died(&self) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left == 0
    }
}
