//! The word of a task slot: who may touch what stands beside it.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..3 | what it is |
//! | 3 | somebody waits for the end of this run |
//! | 4..16 | which worker; only of RUNNING and DONE |
//! | 16..64 | ticket: the how-manieth run of the pool this is |
//!
//! | state | meaning | who moves it on |
//! |---|---|---|
//! | FREE | the fresh state; nobody's | the pool: fills the slot, stores QUEUED |
//! | QUEUED(t) | filled, waiting for a worker | a worker, CAS to RUNNING(t, w): this CAS *is* the taking |
//! | RUNNING(t, w) | w works on it | w, swap to DONE; when w is dead, the pool, to FREE or QUEUED(t') |
//! | DONE(t, w) | what came of it stands there | the pool, to FREE or QUEUED(t') |
//!
//! "The pool" is the one process that made it, under a lock of its own; workers are many.
//!
//! # Memory ordering
//!
//! Who takes acquires what the pool has written before its Release of QUEUED; DONE is AcqRel and the pool acquires it. A waiter
//! sets bit 3 in the same word, so the worker's swap sees it, or the waiter sees DONE; then nobody will wake it, and it must
//! take what is there.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | worker dies before the CAS to RUNNING | the pool, from its pidfd | nothing to do | nothing |
//! | between RUNNING and DONE | the same | the pool keeps the results that are there, gives the task in hand its error or another try, and queues the rest | the task in hand |
//! | after DONE | the same | the pool looks at all slots of the dead | nothing |
//! | the pool dies | the workers, from its pidfd | they end | everything, with the pool |

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

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Or damaged: the pool writes it anew before it uses it.
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
pub(crate) struct Word(AtomicU64);

impl Word {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Word {
        Word(AtomicU64::new(FREE))
    }

    pub(crate) fn state(&self) -> State {
        state(self.0.load(Acquire)) // pairs with queue() and finish()
    }

    /// What the pool has filled in can be taken from now on.
    pub(crate) fn queue(&self, ticket: u64) {
        self.0.store(pack(QUEUED, ticket, 0), Release); // pairs with take()
    }

    /// Takes it for `worker`, if it is queued with this ticket.
    pub(crate) fn take(&self, ticket: u64, worker: usize) -> bool {
        let mut seen = self.0.load(Relaxed);
        while state(seen) == State::Queued(ticket) {
            let taken = pack(RUNNING, ticket, worker) | seen & WAITED;
            // Pairs with queue(): what the pool has filled in is there. It fails only if somebody else took it or waits.
            match self.0.compare_exchange_weak(seen, taken, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Says that `worker` is through with it. True: somebody waits for that.
    #[must_use]
    pub(crate) fn finish(&self, ticket: u64, worker: usize) -> bool {
        // Pairs with state() and wait_for(): only this worker moves it on while it lives.
        self.0.swap(pack(DONE, ticket, worker), AcqRel) & WAITED != 0
    }

    /// Says that somebody is about to wait for the end of this run. False: there is nothing to wait for.
    pub(crate) fn wait_for(&self, ticket: u64) -> bool {
        let seen = self.0.fetch_or(WAITED, AcqRel); // pairs with finish()
        matches!(state(seen), State::Queued(now) | State::Running(now, _) if now == ticket)
    }

    /// Nobody's again.
    pub(crate) fn clear(&self) {
        self.0.store(FREE, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_taken_once_and_by_its_ticket() {
        let word = Word::new();
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
        assert!(word.take((1 << 48) - 1, 0) && word.finish((1 << 48) - 1, 0), "who waits stays");
    }
}
