//! The run queue: the queued slots, in the order of their tickets.
//!
//! # State
//!
//! | word | meaning | written by |
//! |---|---|---|
//! | tail | the next ticket | the pool |
//! | head | all tickets below it have been taken | workers: any of them advances it |
//! | order\[t % N\] | the slot of ticket t, for the last N tickets | the pool, before the tail |
//!
//! # Memory ordering
//!
//! The tail is stored with Release and read with Acquire, so a worker that sees a ticket sees its
//! slot. The head may lag behind, because a worker takes a slot by its word ([`super::slot`]), and
//! any worker that finds a ticket gone advances the head past it. So a worker that dies or stops
//! between the two steps blocks no other. A ticket's entry in `order` is overwritten N tickets
//! later; by then it has been taken, because there are N slots, and tickets are taken in order.
//!
//! # Damage
//!
//! The pool has its own copy of the tail. Once per slice it stores the tail and the order again,
//! and lowers a head that is too far ahead ([`RunQueue::repair`]). A worker that finds an
//! impossible head (past the tail, or more than N tickets before it) continues at the first
//! possible ticket, because those before it have been taken. So one call checks about N tickets at
//! most.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::pool::slot::SlotWord;

/// The number of slots of a pool.
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 1024 };

/// The words of the run queue.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct RunQueue {
    tail: AtomicU64,
    _apart: [u8; 120],
    head: AtomicU64,
    _apart2: [u8; 120],
    order: [AtomicU32; SLOTS],
}

impl RunQueue {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> RunQueue {
        let order = std::array::from_fn(|_| AtomicU32::new(0));
        RunQueue {
            tail: AtomicU64::new(0),
            _apart: [0; 120],
            head: AtomicU64::new(0),
            _apart2: [0; 120],
            order,
        }
    }

    /// Appends `slot`, which is filled and whose word is `word`. Only for the pool, and only if not
    /// all slots are queued. Workers see it after [`publish`](RunQueue::publish).
    pub(crate) fn push(&self, ticket: u64, slot: usize, word: &SlotWord) {
        self.place(ticket, slot);
        word.queue(ticket);
    }

    /// Stores the slot of a ticket. Only for the pool.
    pub(crate) fn place(&self, ticket: u64, slot: usize) {
        self.order[ticket as usize % SLOTS].store(slot as u32, Relaxed); // published with the tail
    }

    /// Repairs damage. `tail` is the next ticket; `oldest` is the first queued ticket, or `tail` if
    /// there is none. Only for the pool.
    pub(crate) fn repair(&self, oldest: u64, tail: u64) {
        self.publish(tail);
        // The head is past `oldest` only after damage, or if that ticket has just been taken. In
        // the second case the next worker advances the head again.
        if self.head.load(Relaxed) > oldest {
            self.head.store(oldest, Release); // pairs with take()
        }
    }

    /// Makes all tickets below `tail` available. Only for the pool.
    pub(crate) fn publish(&self, tail: u64) {
        self.tail.store(tail, Release); // pairs with take()
    }

    /// Returns an upper bound on the number of tickets that have not been taken. Racy.
    pub(crate) fn len(&self) -> u64 {
        self.tail.load(Relaxed).saturating_sub(self.head.load(Relaxed))
    }

    /// Takes the first queued slot for `worker`. Returns the slot's ticket and index.
    pub(crate) fn take<'a>(
        &self,
        worker: usize,
        word: impl Fn(usize) -> Option<&'a SlotWord>,
    ) -> Option<(u64, usize)> {
        // Pairs with the exchanges below and repair(): the tail that is read next is not before
        // this head.
        let mut head = self.head.load(Acquire);
        loop {
            let tail = self.tail.load(Acquire); // pairs with publish()
            let oldest = tail.saturating_sub(SLOTS as u64);
            let (slot, next) = match head {
                head if head == tail => return None,
                head if head < oldest || head > tail => (None, oldest),
                head => (Some(self.order[head as usize % SLOTS].load(Relaxed) as usize), head + 1),
            };
            let taken = slot.filter(|slot| word(*slot).is_some_and(|word| word.take(head, worker)));
            // Taken here, or gone already, or damaged: in each case the head moves on.
            let now = self.head.compare_exchange(head, next, AcqRel, Acquire);
            if let Some(slot) = taken {
                return Some((head, slot));
            }
            head = now.err().unwrap_or(next);
        }
    }
}
