//! The word that says which process a membership belongs to, and whether that process takes part.
//!
//! Threads of one process share the word. A copy of the process has a copy of the word.
//!
//! # State
//!
//! | high half | low half | meaning |
//! |---|---|---|
//! | another process's epoch, or 0 | any | this process does not take part |
//! | this process's epoch | 0 | one of its threads is joining |
//! | this process's epoch | owner id | it takes part |
//!
//! Zero is the fresh state. A copy of the process finds the state of the first row, whatever the
//! original was doing, because its epoch differs (see `sys::fork`). It replaces whatever it
//! finds there, so it waits for no thread that it does not have.
//!
//! # Memory ordering
//!
//! The id is stored with Release, after what the joining thread has stored beside the word, and
//! loaded with Acquire by [`take`](Word::take). The id alone needs no order, because what it names
//! is in the segment.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::segment::owner::OwnerId;

/// The answer to a thread that is about to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The process takes part.
    In(OwnerId),
    /// Another of its threads is joining.
    Others,
    /// The caller joins: [`finish`](Word::finish) or [`give_up`](Word::give_up) follows.
    Mine,
}

/// Epoch and owner id.
#[derive(Debug)]
pub(crate) struct Word(AtomicU64);

fn word(epoch: u32, owner: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(owner)
}

fn epoch_of(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Word {
    /// Creates the word of a process that does not take part.
    pub(crate) fn new() -> Word {
        Word(AtomicU64::new(0))
    }

    /// Returns the id of the process of this epoch, if it takes part.
    #[inline]
    pub(crate) fn owner(&self, epoch: u32) -> Option<OwnerId> {
        let seen = self.0.load(Relaxed);
        // An epoch of 0 has an owner of 0.
        if epoch_of(seen) != epoch {
            return None;
        }
        OwnerId::from_bits(seen as u32)
    }

    /// Makes it the caller's turn to join, unless the process takes part or another of its threads
    /// is joining.
    pub(crate) fn begin(&self, epoch: u32) -> Turn {
        let mut seen = self.0.load(Relaxed);
        loop {
            if epoch_of(seen) == epoch {
                return OwnerId::from_bits(seen as u32).map_or(Turn::Others, Turn::In);
            }
            match self.0.compare_exchange(seen, word(epoch, 0), AcqRel, Relaxed) {
                Ok(_) => return Turn::Mine,
                Err(now) => seen = now,
            }
        }
    }

    /// Records that the process takes part from here on.
    pub(crate) fn finish(&self, epoch: u32, owner: OwnerId) {
        self.0.store(word(epoch, owner.bits()), Release); // pairs with take()
    }

    /// Records that the caller could not join: the next thread may try.
    pub(crate) fn give_up(&self) {
        self.0.store(0, Release);
    }

    /// Ends the membership and returns its id, if the process takes part. For the last user.
    pub(crate) fn take(&self, epoch: u32) -> Option<OwnerId> {
        let seen = self.0.load(Acquire); // pairs with finish()
        let owner = OwnerId::from_bits(seen as u32).filter(|_| epoch_of(seen) == epoch)?;
        self.0.compare_exchange(seen, 0, AcqRel, Relaxed).ok()?;
        Some(owner)
    }

    /// Copies the word as a `fork` at this moment would.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> Word {
        Word(AtomicU64::new(self.0.load(Relaxed)))
    }
}
