//! The held-slot ring: many producers, many consumers, one order, messages in place.
//!
//! Refuses nothing but more than 2^32 - 1 slots. Lock-free: whoever stops or dies between any two
//! instructions blocks nobody who does not need the slot it holds. This file has what both sides share;
//! producers are in [`claim`](super::claim), consumers in [`take`](super::take), the dead in
//! [`recover`](super::recover), and the words in [`slot`](super::slot).
//!
//! # State
//!
//! `tail` is the next position to claim, `head` the next to receive. A position is claimed, and a message is
//! received, by a swap of its *slot's* word; `tail` and `head` follow, and anybody helps them on. So:
//!
//! 1. `tail` stands beyond a position only if that position is not free any more (and never comes back);
//! 2. `head` stands beyond a position only if nothing can be received there any more;
//! 3. a slot is claimed only for the position where `tail` stands;
//! 4. a slot has one holder at a time, and its word names it. Only the holder frees it; what others do to the
//!    word of a slot that is held keeps the owner and moves status or lap: a consumer makes WRITING to HELD,
//!    to go past a producer that has messages behind it; a producer gives a held slot the next lap, to go
//!    past its position, and one that is WRITING loses the position that it had.
//!
//! So the word of a slot is at most a lap ahead of `tail`. It may be many ahead of `head`: where nothing is
//! sent, slots are claimed and given up round and round, and nobody comes to receive. `head` catches up in
//! leaps ([`Position::beyond`]).
//!
//! A closed `tail` never moves again, so all claimed positions are before it, or it.
//!
//! # Memory ordering
//!
//! `head` and `tail` are loaded Acquire and moved AcqRel: who sees a position beyond some slot sees that
//! slot's word as it was found when the position moved, or a later one. Slot words are loaded Acquire and
//! swapped AcqRel at least, which hands the message from the producer ([`publish`](Ring::publish)) to the
//! consumer, and the slot back from the consumer ([`free`](Ring::free)) to the next producer. Swaps that
//! somebody may be asleep for are SeqCst, because of the waiter words: see [`crate::sync::wait`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | slot claimed, `tail` not moved | the next producer | it moves `tail` | nothing |
//! | WRITING, or HELD | consumers with something behind it go past; reapers | `recover` frees the slot | what was not sent |
//! | FULL, nobody woken | a sleeper at the end of its slice | itself | up to 50 ms |
//! | slot taken, `head` not moved | the next consumer | it moves `head` | nothing |
//! | READING, or KEPT | reapers; producers go past | `recover` frees the slot, or gives the message to another | one message, counted; or nothing |
//! | closing, before `tail` is marked | nobody needs to | the queue stays open | nothing |
//! | reaper between two of its swaps | another reaper, of either dead | starts over | the count of one lost message, at most |

use std::ptr::NonNull;

use super::slot::{age, Age, Position, Status, Word};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::message::CachePadded;
use crate::owner::OwnerId;
use crate::sync::wait::Waiters;

/// How often one looks again before making somebody else's step, or going past somebody who is about to be
/// done.
pub(super) const MOMENT: u32 = if cfg!(loom) { 0 } else { 64 };

/// Somewhere there may be a RETURNED slot.
pub(super) const RETURNS: u64 = 1;
/// The queue is closed, or about to be: look at `tail`.
pub(super) const CLOSING: u64 = 2;
/// A producer sleeps that has a slot of its own. What is room for it need not be room for others, so all must
/// be woken.
pub(super) const PICKY: u64 = 4;
/// One more time that RETURNS was set.
pub(super) const RETURN: u64 = 8;

/// Everything of a queue but its slots. Zero is the fresh state, but for the geometry.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    /// Read once, when a handle is made.
    pub(crate) geometry: CachePadded<Geometry>,
    pub(super) head: CachePadded<AtomicU64>,
    pub(super) tail: CachePadded<AtomicU64>,
    /// Consumers that wait for messages.
    pub(super) receivers: CachePadded<Waiters>,
    pub(super) notices: CachePadded<Notices>,
}

/// What is seldom written and looked at by consumers all the time.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Notices {
    /// Producers that wait for room.
    pub(super) senders: Waiters,
    _reserved: u32,
    /// RETURNS, CLOSING, PICKY, and a count of RETURN.
    pub(super) word: AtomicU64,
    /// Messages that went with their consumers.
    pub(super) lost: AtomicU64,
}

/// What the creator of a queue has decided.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Geometry {
    pub(crate) capacity: AtomicU64,
    pub(crate) stride: AtomicU64,
    /// Where in a slot the message is.
    pub(crate) offset: AtomicU64,
    /// How long a message is.
    pub(crate) size: AtomicU64,
    pub(crate) options: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Control>() == 5 * 128 && align_of::<Control>() == 128);

/// Why an attempt gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No room, or no message; or the deadline has passed.
    Wait,
    /// The queue is closed, and empty for who receives.
    Closed,
    /// The words contradict each other.
    Corrupted,
}

/// Why a message could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// A consumer went past the position. The slot is still held.
    Revoked,
    /// The slot is not held any more: somebody wrote over its word.
    Corrupted,
}

/// A slot that is held, and since which lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) index: u32,
    pub(crate) lap: u32,
}

/// How often one has come second. The longer it lasts the longer one stays away, some microseconds at most,
/// so that the winner can run on in its own cache: two who take turns pay for moving the lines each time.
#[derive(Debug, Default)]
pub(super) struct Losses(u32);

/// A producer that found no room leaves the consumers alone for a moment (a microsecond at most): one that
/// polls would take the lines from them again and again.
pub(super) fn leave_alone() {
    (0..MOMENT).for_each(|_| crate::loom::spin_loop());
}

impl Losses {
    pub(super) fn stay_away(&mut self) {
        if cfg!(loom) {
            return;
        }
        (0..1 << self.0).for_each(|_| crate::loom::spin_loop());
        self.0 = (self.0 + 1).min(6);
    }
}

/// Control and slots, wherever they are: in a mapping, or in an `Arc` of a model.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(super) control: NonNull<Control>,
    slots: NonNull<u8>,
    stride: usize,
    pub(super) capacity: u32,
    /// How often a consumer looks again before it goes past a producer: the longer the message, the longer.
    pub(super) patience: u32,
    /// What a dead consumer held is delivered again.
    pub(super) redeliver: bool,
}

// SAFETY: the pointers are to atomics that any thread may use (promised to Ring::new); the rest is plain
// values.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Control {
    /// The fresh state outside of shared memory, for models.
    #[cfg(test)]
    pub(crate) fn new() -> Control {
        let word = || AtomicU64::new(0);
        Control {
            geometry: CachePadded::new(Geometry {
                capacity: word(),
                stride: word(),
                offset: word(),
                size: word(),
                options: word(),
            }),
            head: CachePadded::new(word()),
            tail: CachePadded::new(word()),
            receivers: CachePadded::new(Waiters::new()),
            notices: CachePadded::new(Notices {
                senders: Waiters::new(),
                _reserved: 0,
                word: word(),
                lost: word(),
            }),
        }
    }
}

impl Ring {
    /// A view of a queue.
    ///
    /// # Safety
    ///
    /// As long as this value or a copy of it is used: `control` points to a `Control`; for each `i` below
    /// `capacity`, `slots + i * stride` points to an `AtomicU64`, with nobody's plain reads or writes
    /// overlapping it.
    pub(crate) unsafe fn new(
        control: NonNull<Control>,
        slots: NonNull<u8>,
        stride: usize,
        capacity: u32,
        redeliver: bool,
    ) -> Ring {
        // A write of 32 bytes is quicker than a look, so a producer that runs is done by then.
        let patience = if cfg!(loom) { 0 } else { MOMENT + (stride / 32).min(1 << 16) as u32 };
        Ring { control, slots, stride, capacity, patience, redeliver }
    }

    #[inline(always)]
    pub(super) fn control(&self) -> &Control {
        // SAFETY: promised to Ring::new. Any bytes are a Control, which is atomics only.
        unsafe { self.control.as_ref() }
    }

    /// The slot of a position that was read from memory.
    #[inline(always)]
    pub(super) fn slot_at(&self, position: Position) -> Result<&AtomicU64, Stop> {
        if position.index() < self.capacity {
            Ok(self.slot(position.index()))
        } else {
            Err(Stop::Corrupted)
        }
    }

    /// The slot `index`, which must be below the capacity.
    #[inline(always)]
    pub(super) fn slot(&self, index: u32) -> &AtomicU64 {
        debug_assert!(index < self.capacity);
        // SAFETY: promised to Ring::new for every index below the capacity.
        unsafe { self.slots.add(index as usize * self.stride).cast::<AtomicU64>().as_ref() }
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn senders(&self) -> &Waiters {
        &self.control().notices.senders
    }

    pub(crate) fn receivers(&self) -> &Waiters {
        &self.control().receivers
    }

    /// Moves `head` or `tail` past a position whose slot one has just swapped. Losing means that somebody
    /// helped.
    #[inline]
    pub(super) fn advance(&self, cell: &AtomicU64, from: Position) {
        self.move_on(cell, from, from.next(self.capacity));
    }

    #[inline]
    fn move_on(&self, cell: &AtomicU64, from: Position, to: Position) {
        // Pairs with the Acquire of try_claim() and try_take().
        let _ = cell.compare_exchange(from.0, to.0, AcqRel, Relaxed);
    }

    /// Moves `head` or `tail` past a position that is over, as `word` of its slot shows, unless somebody else
    /// is about to.
    pub(super) fn help(&self, cell: &AtomicU64, from: Position, word: Word, losses: &mut Losses) {
        if matches!(word.status(), Status::Writing | Status::Full | Status::Reading) {
            losses.stay_away();
            if cell.load(Relaxed) != from.0 {
                return;
            }
        }
        self.move_on(cell, from, from.beyond(word, self.capacity));
    }

    /// Ends what `me` does in a slot: a message was read, or will not be sent. The slot is free for its next
    /// lap.
    #[inline]
    pub(crate) fn free(&self, me: OwnerId, claim: Claim) {
        let slot = self.slot(claim.index);
        let mut seen = Word::new(claim.lap, Status::Reading, Some(me));
        // A failed swap shows a word of a later lap, or the one of a producer: others move it on, but only we
        // leave. A word that does not name us was written over by somebody.
        while seen.names(me) && (seen.is_consumers() || seen.is_producers()) {
            // Pairs with the Acquire of try_claim(): the next producer writes after we have read. SeqCst:
            // before the look at the waiters.
            match slot.compare_exchange(seen.0, seen.freed().0, SeqCst, Acquire) {
                Ok(_) => return self.wake_sender(),
                Err(now) => seen = Word(now),
            }
        }
    }

    /// Wakes a producer that waits for room. After a SeqCst swap that may have made some.
    #[inline]
    pub(super) fn wake_sender(&self) {
        crate::loom::sc_fence();
        // Pairs with the announcement in claim().
        if self.control().notices.word.load(SeqCst) & PICKY != 0 {
            return self.wake_senders();
        }
        self.senders().notify_one();
    }

    #[cold]
    fn wake_senders(&self) {
        // Those who still find no room say so again before they sleep.
        self.control().notices.word.fetch_and(!PICKY, SeqCst);
        self.senders().notify_all();
    }

    /// No more messages: producers get Closed from now on, consumers as soon as what was sent has been
    /// received.
    pub(crate) fn close(&self) {
        // First, so that a consumer that finds nothing knows when to look at `tail`.
        self.control().notices.word.fetch_or(CLOSING, AcqRel);
        self.control().tail.fetch_or(Position::CLOSED, SeqCst); // before the looks at the waiters
        self.receivers().notify_all();
        self.senders().notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail(Acquire).is_closed() // pairs with close()
    }

    /// Messages that went with their consumers.
    pub(crate) fn lost(&self) -> u64 {
        self.control().notices.lost.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn tail(&self, order: crate::loom::atomic::Ordering) -> Position {
        Position(self.control().tail.load(order))
    }

    #[inline(always)]
    pub(super) fn head(&self, order: crate::loom::atomic::Ordering) -> Position {
        Position(self.control().head.load(order))
    }

    /// Messages that somebody could receive, slot by slot; stops counting at `enough`.
    pub(crate) fn count(&self, enough: usize) -> usize {
        let waits = |index: &u32| {
            let word = Word(self.slot(*index).load(Acquire)); // pairs with publish()
            matches!(word.status(), Status::Full | Status::Returned)
        };
        (0..self.capacity).filter(waits).take(enough).count()
    }

    /// Slots in which somebody is at work.
    pub(crate) fn held(&self) -> usize {
        let held = |index: &u32| {
            let word = Word(self.slot(*index).load(Relaxed));
            word.is_producers() || word.is_consumers()
        };
        (0..self.capacity).filter(held).count()
    }

    pub(crate) fn redelivers(&self) -> bool {
        self.redeliver
    }

    /// Where the message of a slot is, `offset` bytes from its word.
    #[inline(always)]
    pub(crate) fn message(&self, index: u32, offset: usize) -> *mut u8 {
        debug_assert!(index < self.capacity && offset < self.stride);
        self.slots.as_ptr().wrapping_add(index as usize * self.stride + offset)
    }

    /// Whether a consumer would not have to wait now: for a message, or to be told of the end or of damage.
    pub(crate) fn is_receivable(&self) -> bool {
        let notice = self.control().notices.word.load(Acquire); // pairs with close() and announce_return()
        notice & CLOSING != 0 && self.is_closed()
            || notice & RETURNS != 0 && self.count(1) > 0
            || self.slot_at(self.head(Acquire)).is_err()
            || self.peek().is_some()
    }

    /// Whether a producer would not have to wait now: for room, or to be told of the end or of damage.
    pub(crate) fn is_sendable(&self) -> bool {
        let tail = self.tail(Acquire); // pairs with close()
        tail.is_closed() || self.slot_at(tail).is_err() || self.has_room()
    }

    /// The message that would be received next, if there is one, and its word; for looking only.
    pub(crate) fn peek(&self) -> Option<(u32, u64)> {
        let mut position = self.head(Acquire);
        // `head` may lag; from the first jump on by two laps at most.
        for _ in 0..3 * u64::from(self.capacity) {
            let word = Word(self.slot_at(position).ok()?.load(Acquire)); // pairs with publish()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Full) => return Some((position.index(), word.0)),
                (Age::Here, Status::Empty | Status::Sealed) | (Age::Behind | Age::Far, _) => return None,
                (Age::Here | Age::Ahead, _) => position = position.beyond(word, self.capacity),
            }
        }
        None
    }

    /// Whether the word of a slot is this one now.
    pub(crate) fn is_still(&self, index: u32, word: u64) -> bool {
        self.slot(index).load(Acquire) == word
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = (0..self.capacity.min(8)).map(|index| Word(self.slot(index).load(Relaxed)));
        let mut out = f.debug_struct("Ring");
        out.field("head", &self.head(Relaxed)).field("tail", &self.tail(Relaxed));
        out.field("slots", &words.collect::<Vec<_>>());
        out.field("receivers_wait", &self.receivers().is_waited_on());
        out.field("senders_wait", &self.senders().is_waited_on()).finish()
    }
}
