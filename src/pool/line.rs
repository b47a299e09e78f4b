//! The line at which tasks wait: which slots are queued, in the order of their tickets.
//!
//! # State
//!
//! | word | meaning | written by |
//! |---|---|---|
//! | tail | the next ticket | the pool |
//! | head | all tickets below it have been taken | workers: anybody helps it on |
//! | order\[t % N\] | the slot of ticket t, for the last N tickets | the pool, before the tail passes it |
//!
//! # Memory ordering
//!
//! The tail is Release and read with Acquire, so who sees a ticket sees its slot. The head only ever lags behind: the taking is
//! on the slot's word ([`super::slot`]), and whoever finds that a ticket is gone helps the head past it. So nobody's death or
//! stop between the two holds up anybody. A ticket's place in the order is written again N tickets later; by then it has been
//! taken, because there are N slots, and tickets are taken in order.
//!
//! # Damage
//!
//! The pool has a tail of its own, and once a slice it writes all of this again ([`Line::mend`]). Whoever finds a head that cannot be
//! (past the tail, or N tickets and more before it) goes on at the first ticket that can: those before it have been taken. So a
//! look at the line takes N steps at most.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::pool::slot::Word;

/// So many slots has a pool.
#[cfg(not(loom))]
pub(crate) const SLOTS: usize = 1024;
#[cfg(loom)]
pub(crate) const SLOTS: usize = 2;

/// The words of the line.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Line {
    tail: AtomicU64,
    _apart: [u8; 120],
    head: AtomicU64,
    _apart2: [u8; 120],
    order: [AtomicU32; SLOTS],
}

impl Line {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Line {
        let order = std::array::from_fn(|_| AtomicU32::new(0));
        Line { tail: AtomicU64::new(0), _apart: [0; 120], head: AtomicU64::new(0), _apart2: [0; 120], order }
    }

    /// Puts `slot` at the end, whose word is at `word`, filled. Only for the pool, and only if not all slots stand there;
    /// workers see it after [`publish`](Line::publish).
    pub(crate) fn push(&self, ticket: u64, slot: usize, word: &Word) {
        self.place(ticket, slot);
        word.queue(ticket);
    }

    /// Writes where the ticket's slot is. Only for the pool.
    pub(crate) fn place(&self, ticket: u64, slot: usize) {
        self.order[ticket as usize % SLOTS].store(slot as u32, Relaxed); // published with the tail
    }

    /// Undoes damage: `tail` is the next ticket, and `oldest` the first that is queued, if one is, or the tail. Only for the pool.
    pub(crate) fn mend(&self, oldest: u64, tail: u64) {
        self.publish(tail);
        // Past it only if it was damaged, or if somebody has just taken it: then the next who looks helps it on again.
        if self.head.load(Relaxed) > oldest {
            self.head.store(oldest, Release); // pairs with take()
        }
    }

    /// All tickets below `tail` can be taken. Only for the pool.
    pub(crate) fn publish(&self, tail: u64) {
        self.tail.store(tail, Release); // pairs with take()
    }

    /// How many have not been taken: at most, and racy.
    pub(crate) fn len(&self) -> u64 {
        self.tail.load(Relaxed).saturating_sub(self.head.load(Relaxed))
    }

    /// Takes the first that is queued, for `worker`; gives its ticket and its slot.
    pub(crate) fn take<'a>(
        &self,
        worker: usize,
        word: impl Fn(usize) -> Option<&'a Word>,
    ) -> Option<(u64, usize)> {
        // Pairs with the exchanges below and mend(): the tail that we see is not before the head.
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
            // Ours, or gone already, or damaged.
            let now = self.head.compare_exchange(head, next, AcqRel, Acquire);
            if let Some(slot) = taken {
                return Some((head, slot));
            }
            head = now.err().unwrap_or(next);
        }
    }
}
