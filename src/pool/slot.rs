//! The word of a task slot: it says which process may access the slot's other fields.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..3 | state |
//! | 3 | a thread waits for the end of this run |
//! | 4..16 | worker; only of RUNNING and DONE |
//! | 16..64 | ticket: sequence number of this run |
//!
//! - FREE: the fresh state. The pool fills the slot and stores QUEUED.
//! - QUEUED(t): filled, and waiting for a worker. A worker takes it by a CAS to RUNNING(t, w).
//! - RUNNING(t, w): worker w runs it. The worker swaps in DONE; if it is dead, the pool stores FREE
//!   or QUEUED(t').
//! - DONE(t, w): the results are in the slot. The pool stores FREE or QUEUED(t').
//!
//! "The pool" is the process that created it, under a lock of its own; there are many workers.
//!
//! # Memory ordering
//!
//! A worker that takes a slot acquires what the pool has written before its Release of QUEUED. DONE
//! is AcqRel and the pool acquires it. A waiter sets bit 3 in the same word: either the worker's
//! swap sees the bit, or the waiter sees DONE. In the second case no worker will wake it, and it
//! must collect the slot itself.
//!
//! # Death
//!
//! - The worker dies before its CAS to RUNNING. Its pidfd tells the pool. Nothing is to be
//!   repaired, and nothing is lost.
//! - The worker dies between RUNNING and DONE. Its pidfd tells the pool, which keeps the results
//!   that are there, stores the error of the running task or tries it again, and queues the rest.
//!   Lost: the running task.
//! - The worker dies after DONE. Its pidfd tells the pool, which checks all slots of the dead
//!   worker. Nothing is lost.
//! - The pool's process dies. Its pidfd tells the workers, which end. Everything is lost with the
//!   pool.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const KIND: u64 = 7;
const WAITED: u64 = 8;
const WORKER_SHIFT: u32 = 4;
const TICKET_SHIFT: u32 = 16;
/// Workers have numbers below this.
pub(crate) const MAX_WORKERS: usize = 1 << (TICKET_SHIFT - WORKER_SHIFT);

const FREE: u64 = 0;
const QUEUED: u64 = 1;
const RUNNING: u64 = 2;
const DONE: u64 = 3;

/// The task that a worker runs: the ticket of its chunk, and the number of tasks before it in the
/// chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunningTask {
    pub(crate) ticket: u64,
    pub(crate) done: u32,
}

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Or damaged: the pool stores the word anew before it uses the slot.
    Free,
    Queued(u64),
    Running(u64, usize),
    Done(u64, usize),
}

fn pack(kind: u64, ticket: u64, worker: usize) -> u64 {
    kind | (worker as u64) << WORKER_SHIFT | ticket << TICKET_SHIFT
}

fn state(word: u64) -> State {
    let ticket = word >> TICKET_SHIFT;
    let worker = (word >> WORKER_SHIFT) as usize % MAX_WORKERS;
    match word & KIND {
        QUEUED => State::Queued(ticket),
        RUNNING => State::Running(ticket, worker),
        DONE => State::Done(ticket, worker),
        _ => State::Free,
    }
}

/// The word itself.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct SlotWord(AtomicU64);

impl SlotWord {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> SlotWord {
        SlotWord(AtomicU64::new(FREE))
    }

    pub(crate) fn state(&self) -> State {
        state(self.0.load(Acquire)) // pairs with queue() and finish()
    }

    /// Makes the filled slot available to workers.
    pub(crate) fn queue(&self, ticket: u64) {
        self.0.store(pack(QUEUED, ticket, 0), Release); // pairs with take()
    }

    /// Takes the slot for `worker`, if it is queued with this ticket.
    pub(crate) fn take(&self, ticket: u64, worker: usize) -> bool {
        let mut seen = self.0.load(Relaxed);
        while state(seen) == State::Queued(ticket) {
            let taken = pack(RUNNING, ticket, worker) | seen & WAITED;
            // Pairs with queue(), so the pool's writes to the slot are visible. Fails only if
            // another worker took it, or a thread has begun to wait.
            match self.0.compare_exchange_weak(seen, taken, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Finishes the run of `worker`. Returns whether a thread waits for it.
    #[must_use]
    pub(crate) fn finish(&self, ticket: u64, worker: usize) -> bool {
        // Pairs with state() and wait_for(). No other process changes the state while this worker
        // lives.
        self.0.swap(pack(DONE, ticket, worker), AcqRel) & WAITED != 0
    }

    /// Announces a waiter for the end of this run. Returns `false` if there is nothing to wait for.
    pub(crate) fn wait_for(&self, ticket: u64) -> bool {
        let seen = self.0.fetch_or(WAITED, AcqRel); // pairs with finish()
        matches!(state(seen), State::Queued(now) | State::Running(now, _) if now == ticket)
    }

    /// Frees the slot.
    pub(crate) fn clear(&self) {
        self.0.store(FREE, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_taken_once_and_by_its_ticket() {
        let word = SlotWord::new();
        assert!(!word.take(0, 1) && word.state() == State::Free);
        word.queue(7);
        assert!(!word.take(6, 1) && word.take(7, 4095) && !word.take(7, 2));
        assert_eq!(word.state(), State::Running(7, 4095));
        assert!(word.wait_for(7) && word.finish(7, 4095));
        assert_eq!(word.state(), State::Done(7, 4095));
        assert!(!word.wait_for(7), "it is over");
        word.clear();
        word.queue((1 << 48) - 1);
        assert!(!word.wait_for(7) && word.wait_for((1 << 48) - 1));
        assert!(word.take((1 << 48) - 1, 0) && word.finish((1 << 48) - 1, 0), "the waiter bit stays");
    }
}
