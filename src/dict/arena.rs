//! A small heap in an array, for models and unit tests: blocks of one size, and every wrong free is a panic.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::{Error, ErrorKind, Result};

use super::store::{Block, Store, Words};

/// Words of a block.
const WORDS: usize = if cfg!(loom) { 6 } else { 64 };
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const LIVE: u64 = 2;
/// Claimed by who will die.
const DOOMED: u64 = 3;

/// The array. A block's state is `generation << 2 | status`, and the generation goes up when it is claimed.
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

    /// Frees what the dead one has claimed.
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
        for (index, state) in self.states.iter().enumerate().filter(|_| count <= WORDS) {
            let seen = state.load(Relaxed);
            let claimed = (seen >> 2) + 1;
            if seen & 3 == FREE
                && state.compare_exchange(seen, claimed << 2 | status, AcqRel, Relaxed).is_ok()
            {
                return Ok(Block { at: ((index + 1) * WORDS * 8) as u64, generation: claimed });
            }
        }
        Err(Error::new(ErrorKind::OutOfMemory, "the arena is full"))
    }

    /// How many blocks are not free.
    pub(crate) fn in_use(&self) -> usize {
        self.states.iter().filter(|state| state.load(Acquire) & 3 != FREE).count()
    }
}

impl Words for Arena {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        let first = (at as usize / 8).checked_sub(WORDS)?;
        self.words.get(first..first.checked_add(count)?)
    }

    fn generation(&self, at: u64) -> Option<u64> {
        let state = self.states.get((at as usize / 8 / WORDS).checked_sub(1)?)?;
        Some(state.load(Acquire) >> 2)
    }
}

impl Store for Arena {
    fn alloc(&self, count: usize) -> Result<Block> {
        self.claim(count, CLAIMED)
    }

    fn publish(&self, block: Block) {
        let state = self.state(block.at);
        let seen = state.load(Relaxed);
        assert!(seen >> 2 == block.generation && [CLAIMED, DOOMED].contains(&(seen & 3)));
        assert!(state.compare_exchange(seen, block.generation << 2 | LIVE, AcqRel, Relaxed).is_ok());
    }

    fn identify(&self, at: u64) -> Option<Block> {
        let seen = self.state(at).load(Acquire);
        assert_eq!(seen & 3, LIVE);
        Some(Block { at, generation: seen >> 2 })
    }

    fn free(&self, block: Block) {
        let state = self.state(block.at);
        let seen = state.load(Acquire);
        if seen == block.generation << 2 | LIVE {
            assert!(state.compare_exchange(seen, seen & !3 | FREE, AcqRel, Relaxed).is_ok());
        }
    }

    fn retire(&self, block: Block) {
        self.free(block); // nobody reads in place here
    }
}

/// The arena for one who dies after so many steps.
#[derive(Debug)]
pub(crate) struct Mortal<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) steps: std::cell::Cell<usize>,
}

impl Words for Mortal<'_> {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        self.arena.words(at, count)
    }

    fn generation(&self, at: u64) -> Option<u64> {
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
