//! A process's knowledge of a segment's heap: its arenas, and the chunks from which it allocated
//! last.
//!
//! An attachment has one of these, in its [`Local`](crate::segment::local::Local), created at first
//! use and shared by all handles of the attachment. Arenas are only ever added, and all threads
//! find the same ones. So each thread writes what it has found, and the first write is right.
//!
//! # Memory ordering
//!
//! `add` raises `reach` before the arena with Release; `arena` is Acquire. So a thread that knows
//! an arena finds its words within `reach`. A thread that finds the words within `reach` need not
//! know the arena yet, and searches for it.

use super::class::{Class, CLASSES};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};

/// An upper bound: more arenas than a segment has space for.
pub(crate) const MAX_ARENAS: usize = if cfg!(loom) { 1 } else { 2048 };

/// The arenas and chunks of a heap that a process knows.
#[derive(Debug)]
pub(crate) struct Known {
    /// The arenas in the order in which they were added: position in units of 128 bytes (bits
    /// 0..32), and number of units (32..64). Checked before they were written, and written once. 0:
    /// no more.
    arenas: Box<[AtomicU64]>,
    /// The end, in bytes, of the arena with the highest position. Below it everything is committed.
    reach: AtomicU64,
    /// For each class the chunk that was allocated from last: arena (bits 32..64) and first unit
    /// (0..32), plus 1. 0: none.
    current: [AtomicU64; CLASSES],
}

impl Known {
    pub(crate) fn new() -> Known {
        Known {
            arenas: (0..MAX_ARENAS).map(|_| AtomicU64::new(0)).collect(),
            reach: AtomicU64::new(0),
            current: [(); CLASSES].map(|()| AtomicU64::new(0)),
        }
    }

    /// Returns the position of the arena with this number, and its number of units.
    #[inline]
    pub(crate) fn arena(&self, number: usize) -> Option<(u64, u64)> {
        let packed = self.arenas.get(number)?.load(Acquire); // pairs with add()
        (packed != 0).then_some(((packed & u64::from(u32::MAX)) * 128, packed >> 32))
    }

    pub(crate) fn count(&self) -> usize {
        (0..MAX_ARENAS).take_while(|&number| self.arena(number).is_some()).count()
    }

    /// Records the arena with this number, which has been checked. Other threads may do it at the
    /// same time.
    pub(crate) fn add(&self, number: usize, at: u64, units: u64, end: u64) {
        // In this order, because a thread that finds the arena here does not search further, and
        // must find its words as well.
        self.reach.fetch_max(end, Relaxed);
        let packed = (units << 32) | (at / 128);
        _ = self.arenas[number].compare_exchange(0, packed, Release, Relaxed); // pairs with arena()
    }

    #[inline]
    pub(crate) fn reach(&self) -> u64 {
        self.reach.load(Relaxed)
    }

    /// Returns the chunk that was allocated from last: the arena's number, and the chunk's first
    /// unit.
    #[inline]
    pub(crate) fn current(&self, class: Class) -> Option<(usize, usize)> {
        let chunk = self.current[class.number()].load(Relaxed).checked_sub(1)?;
        Some(((chunk >> 32) as usize, chunk as u32 as usize))
    }

    pub(crate) fn set_current(&self, class: Class, number: usize, first: usize) {
        self.current[class.number()].store(((number as u64) << 32 | first as u64) + 1, Relaxed);
    }
}
