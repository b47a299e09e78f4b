//! The check for the dead, and their recovery.
//!
//! Dead is a positive statement: the kernel said of the right file that the byte is not locked, or
//! the table names another participant. A process that cannot ask calls nobody dead, and leaves the
//! turn to check to others.

use std::sync::atomic::Ordering::Relaxed;

use super::Attachment;
use crate::loom::note_reaping;
use crate::segment::owner::OwnerId;
use crate::sys::backing::{ofd_lock, BorrowedFd};
use crate::sys::clock::now;

/// Shortest time between two checks of one segment for the dead, over all processes of the machine.
const REAP_NANOS: u64 = 40_000_000;
/// Longest time that one check takes: a hundredth of the interval. The next check continues where
/// it stopped.
///
/// The kernel walks all locks of a file to find one, so asking for each of `n` participants costs
/// n². docs/liveness.md says how soon a death is therefore noticed.
const SWEEP_NANOS: u64 = REAP_NANOS / 100;
/// Number of participants that are checked between two readings of the clock.
pub(super) const SWEEP_STEP: usize = 16;

impl Attachment {
    /// Returns whether `id` is attached and its process exists. Some system calls. In doubt true,
    /// because a participant that is wrongly called dead loses what it holds.
    pub(crate) fn is_alive(&self, id: OwnerId) -> bool {
        // Read before the lock is checked: see the module doc of `participant`.
        if self.view().line(id.index()).occupant(id.index()) != Some(id) {
            return false;
        }
        self.membership.owner() == Some(id)
            || !self.file().is_ok_and(|file| self.is_unlocked(file, id.index()))
    }

    /// Returns whether the byte is certainly not locked. `file` was proved to be the segment's
    /// before.
    fn is_unlocked(&self, file: BorrowedFd<'_>, index: usize) -> bool {
        // Proved once more, because another thread may have closed the descriptor and opened
        // another file in between.
        matches!(ofd_lock::held_by_others(file, index, 1), Ok(0)) && self.file.get().is_some()
    }

    /// Checks for the dead and reaps them, unless a process did so in the last 40 ms. Waiters call
    /// this regularly.
    pub(crate) fn reap_dead(&self) {
        self.reap_dead_for(SWEEP_NANOS);
    }

    pub(super) fn reap_dead_for(&self, nanos: u64) {
        let last_check = &self.view().header().last_check;
        let (last, now) = (last_check.load(Relaxed), now());
        // A time ahead of ours is of another boot or of damaged bytes.
        if last <= now && now - last < REAP_NANOS {
            return;
        }
        // A process that cannot ask must not take the turn from one that can.
        let Ok(file) = self.file() else { return };
        if last_check.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            let swept = &self.view().header().swept;
            let next = self.reap_unlocked(file, swept.load(Relaxed) as usize, now + nanos);
            swept.store(next as u32, Relaxed);
        }
    }

    /// Reaps all dead participants now.
    pub(crate) fn reap_all(&self) {
        if let Ok(file) = self.file() {
            self.reap_unlocked(file, 0, u64::MAX);
        }
    }

    /// Reaps the dead from index `first` on, round the table, until the clock reads `end` or all
    /// have been checked. Returns the index to continue at. `file` was proved to be the segment's
    /// just now.
    fn reap_unlocked(&self, file: BorrowedFd<'_>, first: usize, end: u64) -> usize {
        let (me, high) = (self.membership.owner(), self.view().high().max(1));
        for step in 0..high {
            let index = (first + step) % high;
            if step > 0 && step % SWEEP_STEP == 0 && now() >= end {
                return index;
            }
            // Read before the lock is checked: see the module doc of `participant`.
            let Some(id) = self.view().line(index).occupant(index) else { continue };
            if me != Some(id) && self.is_unlocked(file, index) {
                self.reap(id);
                note_reaping();
            }
        }
        0
    }

    /// Clears every word that names `dead`, which must be dead or leaving. Any number of processes
    /// may do it at once.
    pub(crate) fn reap(&self, dead: OwnerId) {
        self.recover_records(dead);
        self.view().line(dead.index()).retire(dead);
    }
}
