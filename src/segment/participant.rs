//! The table of participants: one line for each process that is attached to a segment.
//!
//! The table names a participant; the kernel says whether it is alive. It is alive exactly while
//! the byte of its index is locked by its own open file description ([`crate::sys::ofd_lock`]),
//! however it ends. There are no pids and no clocks, so a stopped process stays alive and a reused
//! pid fools nobody.
//!
//! # State of [`Line::word`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0..20 | generation of the last participant here; 0: there was none |
//! | 31 | attached: until this is cleared, words in the segment may name that participant |
//!
//! Zero is the fresh state. Only the process that holds a line's byte changes it to attached. It is
//! changed back by a process that has cleared all words that named its participant. Any number of
//! processes may do that at once, because each step is a compare-and-swap from the dead
//! participant's id.
//!
//! # Memory ordering
//!
//! `retire` is Release and `occupy` is Acquire, so a newcomer at an index sees the segment cleared
//! of its predecessor. The lock itself orders nothing. `occupant` is read *before* the lock is
//! checked, so a free byte proves that the participant just read is dead, not that an earlier one
//! is.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | byte locked, line not yet written | nobody needs to | the kernel drops the lock | nothing |
//! | attached | `reap_dead`, or the next to lock the byte | `reap` | see the objects |
//! | reaper dies midway | as above: still attached | the next reaper starts over | nothing |
//! | reaper is stopped midway | nobody needs to | other reapers | nothing |
//! | newcomer is stopped with the byte | nobody needs to | it has reaped already | nothing |
//!
//! - Attached: a waiter calls `reap_dead`, which notices the death within 90 ms among up to 200
//!   participants; see docs/liveness.md. In `reap` each object recovers, then `retire` clears the
//!   line.
//! - A reaper that was stopped resumes late: its swaps find other words and fail.
//! - A newcomer reaps its predecessor before it takes the byte. There is an exception: the
//!   predecessor died between the newcomer's check and its lock. Then the newcomer unlocks the byte
//!   and reaps first. If it is stopped in between, the dead participant counts as alive until the
//!   newcomer continues. The same happens where all 1,024 lines are attached and a process opens
//!   the segment, because an opener must hold a byte before it can reap.

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::segment::owner::{OwnerId, MAX_GENERATION};

const ATTACHED: u32 = 1 << 31;

/// Returns whether words in the segment may name a participant. False for a word that no
/// participant can have written.
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
    /// Process id at the time of attaching, for people to read; 0 while a child is being started.
    /// Decides nothing.
    pid: AtomicU32,
    /// Unix time of attaching in seconds, also for people to read.
    since: AtomicU32,
    /// Generation of the participant that is leaving, or whose process is ending normally. It no
    /// longer counts as using the segment.
    leaving: AtomicU32,
}

const _: () = assert!(size_of::<Line>() == 16);

impl Line {
    /// Creates a line that was never used.
    #[cfg(test)]
    pub(crate) fn new() -> Line {
        let [word, pid, since, leaving] = [(); 4].map(|_| AtomicU32::new(0));
        Line { word, pid, since, leaving }
    }

    /// Returns the participant of this line, if there is one. Racy: check the lock *after* it.
    pub(crate) fn occupant(&self, index: usize) -> Option<OwnerId> {
        let word = self.word.load(Acquire); // pairs with occupy()
        is_attached(word).then(|| OwnerId::new(index, generation(word)))?
    }

    /// Takes the line. The caller holds the byte. If an earlier owner is still in the line, it is
    /// dead, and the error names it: reap it and try again.
    pub(crate) fn occupy(&self, index: usize, pid: u32, since: u32) -> Result<OwnerId, OwnerId> {
        let mut word = self.word.load(Acquire); // pairs with retire()
        loop {
            if is_attached(word) {
                // Never None, because the index came from a lock on this table, and the generation
                // is not 0.
                if let Some(dead) = OwnerId::new(index, generation(word)) {
                    return Err(dead);
                }
            }
            // The caller holds the byte, and nobody else marks the line. An old mark would hit the
            // participant that has the same generation after all others.
            self.leaving.store(0, Relaxed); // published with the word
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

    /// Clears the line of `id`, all of whose words have been cleared before. Returns true to
    /// exactly one of its callers.
    pub(crate) fn retire(&self, id: OwnerId) -> bool {
        let attached = ATTACHED | id.generation();
        self.word.compare_exchange(attached, id.generation(), Release, Relaxed).is_ok()
        // pairs with occupy()
    }

    /// Stores the pid, once the process that was started for this line knows its own.
    pub(crate) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Relaxed);
    }

    /// Marks the participant `id` as leaving: it no longer counts as using the segment. It is alive
    /// until its lock is released.
    pub(crate) fn set_leaving(&self, id: OwnerId) {
        self.leaving.store(id.generation(), SeqCst);
    }

    /// Returns whether the participant `id` is leaving.
    pub(crate) fn is_leaving(&self, id: OwnerId) -> bool {
        self.leaving.load(SeqCst) == id.generation()
    }

    /// Returns process id and Unix time of attaching, for people to read.
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
        line.set_leaving(second);
        assert!(line.is_leaving(second) && line.retire(second));
        let third = line.occupy(3, 11, 0).unwrap();
        assert!(!line.is_leaving(second) && !line.is_leaving(third), "the mark does not stay");
        line.word.store(u32::MAX, Relaxed);
        assert_eq!(line.occupant(3), None);
        assert!(line.occupy(3, 12, 0).is_ok(), "damage does not last");
    }
}
