//! What a process knows of a segment's heap: which arenas there are, and where it allocated last.
//!
//! One to an attachment, made on first use and shared by all handles that came from it; it stands above the attachment, which
//! keeps it. No lock, and no `OnceLock`: a child that was forked while another thread is inside of one would wait for that
//! thread for ever. Arenas are only ever added, and all threads find the same ones; so each writes what it has found, and
//! the first who does is right.
//!
//! # Memory ordering
//!
//! `add` raises `reach` before the arena with Release; `arena` is Acquire. So who knows an arena has its words within `reach`.
//! Who has its words need not know the arena yet, and looks for it.

use std::sync::atomic::AtomicPtr;
use std::sync::Arc;

use super::class::{Class, CLASSES};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// More arenas than a segment has place for.
pub(crate) const MAX_ARENAS: usize = if cfg!(loom) { 1 } else { 2048 };

/// What a process knows of a heap.
#[derive(Debug)]
pub(crate) struct Known {
    /// The arenas in the order in which they were added: where, in units of 128 bytes (bits 0..32), and how many units
    /// (32..64). Checked before they were written, written once. 0: no more.
    arenas: Box<[AtomicU64]>,
    /// Where the one that stands last ends, in bytes: below it everything is committed.
    reach: AtomicU64,
    /// The chunk of each class that was allocated from last: arena (bits 32..64) and first unit (0..32), plus 1. 0: none.
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

    /// Where the arena with this number begins, and how many units it has.
    #[inline]
    pub(crate) fn arena(&self, number: usize) -> Option<(u64, u64)> {
        let packed = self.arenas.get(number)?.load(Acquire); // pairs with add()
        (packed != 0).then_some(((packed & u64::from(u32::MAX)) * 128, packed >> 32))
    }

    pub(crate) fn count(&self) -> usize {
        (0..MAX_ARENAS).take_while(|&number| self.arena(number).is_some()).count()
    }

    /// Notes the arena with this number, which has been checked. Somebody else may do it at the same time.
    pub(crate) fn add(&self, number: usize, at: u64, units: u64, end: u64) {
        // In this order: whoever finds the arena here does not look further, and must find its words as well.
        self.reach.fetch_max(end, Relaxed);
        let packed = (units << 32) | (at / 128);
        _ = self.arenas[number].compare_exchange(0, packed, Release, Relaxed); // pairs with arena()
    }

    #[inline]
    pub(crate) fn reach(&self) -> u64 {
        self.reach.load(Relaxed)
    }

    /// The chunk that was allocated from last: the arena's number, and the chunk's first unit.
    #[inline]
    pub(crate) fn current(&self, class: Class) -> Option<(usize, usize)> {
        let chunk = self.current[class.number()].load(Relaxed).checked_sub(1)?;
        Some(((chunk >> 32) as usize, chunk as u32 as usize))
    }

    pub(crate) fn set_current(&self, class: Class, number: usize, first: usize) {
        self.current[class.number()].store(((number as u64) << 32 | first as u64) + 1, Relaxed);
    }
}

/// Where an attachment keeps what it knows. Empty until somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// From [`Arc::into_raw`], or null. Written once.
    known: AtomicPtr<Known>,
}

impl Keeper {
    pub(crate) fn get(&self) -> Arc<Known> {
        let mut known = self.known.load(Acquire); // pairs with the swap below
        if known.is_null() {
            let made = Arc::into_raw(Arc::new(Known::new())).cast_mut();
            match self.known.compare_exchange(known, made, AcqRel, Acquire) {
                Ok(_) => known = made,
                Err(quicker) => {
                    known = quicker;
                    // SAFETY: it is from into_raw() just above, and nobody else has seen it.
                    drop(unsafe { Arc::from_raw(made) });
                }
            }
        }
        // SAFETY: what stands there is from into_raw(), and its count is given back by nobody but Drop; so it is alive, and
        // there is one count more for the one that is given out.
        unsafe {
            Arc::increment_strong_count(known);
            Arc::from_raw(known)
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let known = *self.known.get_mut();
        if !known.is_null() {
            // SAFETY: it is from into_raw(), and this is the one time that its count is given back.
            drop(unsafe { Arc::from_raw(known) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_to_an_attachment() {
        let keeper = Keeper::default();
        let mut all: Vec<Arc<Known>> = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(|| keeper.get()));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|known| Arc::ptr_eq(known, &keeper.get())));
        drop(keeper);
        all.truncate(1);
        assert_eq!(Arc::strong_count(&all[0]), 1);
    }
}
