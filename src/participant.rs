//! The table of participants: who is attached to a segment, one line each.
//!
//! The table names; the kernel decides. A participant is alive exactly while the byte of its index is locked by its own
//! open file description ([`crate::sys::lock`]), however it ends. No pids, no clocks: a stopped process stays alive, and a
//! reused pid fools nobody.
//!
//! # State of [`Line::word`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0..20 | generation of the last participant here; 0: there was none |
//! | 31 | attached: until this is cleared, words in the segment may name that participant |
//!
//! Zero is the fresh state. A line is changed to attached only by who holds its byte, and back by whoever has cleared all
//! words that named its participant: any number of processes may do that at once, since all of it is compare-and-swap
//! from the dead one's id.
//!
//! # Memory ordering
//!
//! `retire` is Release and `occupy` is Acquire, so a newcomer at an index sees the segment cleared of its predecessor.
//! The lock itself orders nothing: `occupant` is read *before* the lock is looked at, so a free byte proves that the
//! participant just read is dead, not that an earlier one is.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | byte locked, line not yet written | nobody needs to | the kernel drops the lock | nothing |
//! | attached | a waiter's `tend`, within 90 ms, or the next to take the byte | `reap`: each object recovers, then `retire` | what the objects document |
//! | reaper dies in the middle | the same as before: the line still says attached | the next reaper starts over | nothing |
//! | reaper is stopped in the middle | nobody needs to | others reap without it; its late swaps find other words | nothing |
//! | newcomer is stopped holding the byte | nobody needs to | it has reaped its predecessor before it took that | nothing |
//!
//! The last row has an exception: the predecessor died between the newcomer's look and its lock. Then the newcomer gives the
//! byte back and reaps first, and if it is stopped in between, the dead one counts as alive for so long. It also does where
//! all 1024 lines stand attached and somebody opens the segment: an opener must hold a byte before it can reap.

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::owner::{OwnerId, MAX_GENERATION};

const ATTACHED: u32 = 1 << 31;

/// Whether words in the segment may name somebody. Not so for a word that nobody can have written.
pub(crate) fn is_attached(word: u32) -> bool {
    word & ATTACHED != 0 && !is_damaged(word)
}

fn is_damaged(word: u32) -> bool {
    word & !(ATTACHED | MAX_GENERATION) != 0 || word == ATTACHED
}

fn generation(word: u32) -> u32 {
    word & MAX_GENERATION
}

/// One line of the table. 16 bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Line {
    word: AtomicU32,
    /// Process id at the time of attaching, for people to read; 0 while a child is being started. Decides nothing.
    pid: AtomicU32,
    /// Unix time of attaching in seconds, likewise.
    since: AtomicU32,
    _reserved: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 16);

impl Line {
    /// A line that nobody has used.
    #[cfg(test)]
    pub(crate) fn new() -> Line {
        let [word, pid, since, _reserved] = [(); 4].map(|_| AtomicU32::new(0));
        Line { word, pid, since, _reserved }
    }

    /// Who stands here, if anybody. Racy: check the lock *after* it.
    pub(crate) fn occupant(&self, index: usize) -> Option<OwnerId> {
        let word = self.word.load(Acquire); // pairs with occupy()
        is_attached(word).then(|| OwnerId::new(index, generation(word)))?
    }

    /// Takes the line. Only for who holds the byte. If an earlier owner still stands here, it is dead: the error names it,
    /// reap it and try again.
    pub(crate) fn occupy(&self, index: usize, pid: u32, since: u32) -> Result<OwnerId, OwnerId> {
        let mut word = self.word.load(Acquire); // pairs with retire()
        loop {
            if is_attached(word) {
                // Never None: the index came from a lock on this table, and the generation is not 0.
                if let Some(dead) = OwnerId::new(index, generation(word)) {
                    return Err(dead);
                }
            }
            let id = OwnerId::first_after(index, generation(word));
            match self.word.compare_exchange(word, ATTACHED | id.generation(), AcqRel, Acquire) {
                Ok(_) => {
                    self.pid.store(pid, Relaxed);
                    self.since.store(since, Relaxed);
                    return Ok(id);
                }
                Err(now) => word = now,
            }
        }
    }

    /// Clears the line of `id`, all of whose words have been cleared before. True for exactly one of those who try.
    pub(crate) fn retire(&self, id: OwnerId) -> bool {
        let attached = ATTACHED | id.generation();
        self.word.compare_exchange(attached, id.generation(), Release, Relaxed).is_ok()
        // pairs with occupy()
    }

    /// Says whose line it is, once the process that was started for it knows its own pid.
    pub(crate) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Relaxed);
    }

    /// Process id and Unix time of attaching, for people to read.
    pub(crate) fn label(&self) -> (u32, u32) {
        (self.pid.load(Relaxed), self.since.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert!(is_attached(ATTACHED | 1) && !is_attached(1) && !is_attached(0));
        assert!([ATTACHED, 1 << 20, u32::MAX].into_iter().all(is_damaged));
        let line = Line::new();
        let first = line.occupy(3, 10, 0).unwrap();
        assert_eq!(line.occupy(3, 11, 0), Err(first), "it must be reaped first");
        assert!(line.retire(first) && !line.retire(first));
        let second = line.occupy(3, 11, 0).unwrap();
        assert_ne!(first, second);
        line.word.store(u32::MAX, Relaxed);
        assert_eq!(line.occupant(3), None);
        assert!(line.occupy(3, 12, 0).is_ok(), "damage does not last");
    }
}
