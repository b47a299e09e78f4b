//! The held-slot ring: many producers, many consumers, one order, messages in place.
//!
//! Holds up to 2^32 - 1 slots. Lock-free: a participant that stops or dies between any two
//! instructions blocks only processes that need the slot that it holds. This file has what both
//! sides share. Producers are in [`claim`](super::claim), consumers in [`take`](super::take),
//! recovery in [`recover`](super::recover), the shared words in [`descriptor`](super::descriptor)
//! and [`slot`](super::slot).
//!
//! # Origin
//!
//! The ring is Dmitry Vyukov's bounded MPMC queue, with a sequence number in each slot. His
//! producers and consumers reserve a position by moving `tail` or `head` and touch the slot
//! afterwards, so one that dies in between blocks the ring for good. Here the swap of the slot's
//! word is the reservation, the word names the owner, and any participant may then move `tail` or
//! `head`. A slot that is still held when its next lap comes is skipped, and the owner's id lets a
//! reaper free the slots of the dead. SCQ (Nikolaev, 2019) also skips slots, by a flag in the
//! entry, but its two rings of indices do not name the holder of an index, so an index held by a
//! dead process would be lost.
//!
//! # State
//!
//! `tail` is the next position to claim, `head` the next to receive. Swapping the word of a *slot*
//! claims a position or receives a message. `tail` and `head` follow, and any participant may move
//! them. The invariants:
//!
//! 1. `tail` is beyond a position only if that position is not free, and never will be again.
//! 2. `head` is beyond a position only if nothing can be received there any more.
//! 3. A slot is claimed only for the position that `tail` has.
//! 4. A slot has one owner at a time, and its word names it. Only the owner frees the slot. Others
//!    keep the owner in the word and change status or lap: a consumer turns WRITING into HELD, to
//!    skip a producer that has messages behind it; a producer stores the next lap in a held slot,
//!    to skip its position. A producer that was WRITING loses its position in both cases. An owner
//!    may claim its slot again, for the position that `tail` has: see `own` of
//!    [`try_claim`](Ring::try_claim).
//!
//! So the word of a slot is at most one lap ahead of `tail`. It may be many laps ahead of `head`:
//! if nothing is sent, slots are claimed and abandoned lap after lap, and nobody receives. `head`
//! catches up in jumps ([`Position::beyond`]), long before laps can no longer express the distance:
//! see [`bound`](super::bound), also for the maximum number of steps of a call.
//!
//! A message may be received before `tail` has moved past its position, but the slot is not claimed
//! again before that. A closed `tail` never moves again, so every claimed position is before it or
//! equal to it.
//!
//! # Memory ordering
//!
//! `head` and `tail` are loaded Acquire and moved AcqRel: a participant that sees a position beyond
//! some slot also sees the word of that slot at the time of the move, or a later one. Slot words
//! are loaded Acquire and swapped AcqRel at least. This passes the message from the producer
//! ([`publish`](Ring::publish)) to the consumer, and the slot from the consumer
//! ([`free`](Ring::free)) to the next producer. Swaps that a sleeper may wait for are SeqCst,
//! because of the waiter words: see [`crate::wait`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | slot claimed or FULL, `tail` not moved | the next producer | it moves `tail` | nothing |
//! | WRITING or HELD | consumers, reapers | skipped; freed by `recover` | what was not sent |
//! | FULL, nobody woken | a sleeper at the end of its slice | itself | up to 50 ms |
//! | slot taken, `head` not moved | the next consumer | it moves `head` | nothing |
//! | READING or KEPT | producers, reapers | skipped; freed or returned by `recover` | a message |
//! | replacing the oldest message | see [`force`](super::force) | the same | the same |
//! | closing, `tail` not marked | nobody | nobody: the queue stays open | nothing |
//! | reaper between two swaps | reapers of either dead | they start over | a count of a lost one |
//!
//! A consumer skips a WRITING slot only if there is a message behind it or the queue is closed. A
//! message lost with its consumer is counted; with redelivery it is returned and none is lost.

use std::ptr::NonNull;

use super::backoff::{spins_for, Backoff};
use super::bound::SWAPS_MAX;
use super::descriptor::{Descriptor, CLOSING, RETURNS, USERS, WAKE_ALL};
use super::slot::{age, Age, Position, Status, Word};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::{Ordered, OrderedChange};
use crate::queue::blocked::Blocked;
use crate::queue::payload::header::Header;
use crate::segment::owner::OwnerId;
use crate::wait::Waiters;

/// The reason why a message could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// A consumer skipped the position. The slot is still held.
    Revoked,
    /// The slot is not held any more: its word was overwritten.
    Corrupted,
}

/// A held slot, and the lap of its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) index: u32,
    pub(crate) lap: u32,
}

/// A view of a queue's descriptor and slots, in a mapping or in an `Arc` of a model.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(super) descriptor: NonNull<Descriptor>,
    slots: NonNull<u8>,
    stride: usize,
    pub(super) capacity: u32,
    /// Polls before a producer that is writing is skipped: more for larger messages.
    pub(super) write_spins: u32,
    /// Whether the messages that a dead consumer held are delivered again.
    pub(super) redeliver: bool,
    /// The offset of the lap of a message in its slot, if messages may be withdrawn, else 0: see
    /// [`withdraw`](super::withdraw).
    pub(super) sent_at: usize,
}

// SAFETY: the pointers are to atomics that any thread may use (promised to Ring::new); the rest is
// plain values.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Creates a view of a queue.
    ///
    /// # Safety
    ///
    /// As long as this value or a copy of it is used, `descriptor` points to a `Descriptor`, and
    /// for each `i` below `capacity`, `slots + i * stride` points to an `AtomicU64` that no plain
    /// read or write overlaps.
    pub(crate) unsafe fn new(
        descriptor: NonNull<Descriptor>,
        slots: NonNull<u8>,
        stride: usize,
        capacity: u32,
        redeliver: bool,
    ) -> Ring {
        let (write_spins, sent_at) = (spins_for(stride), 0);
        Ring { descriptor, slots, stride, capacity, write_spins, redeliver, sent_at }
    }

    #[inline(always)]
    pub(super) fn descriptor(&self) -> &Descriptor {
        // SAFETY: promised to Ring::new. Any bytes are a Descriptor, which is atomics only.
        unsafe { self.descriptor.as_ref() }
    }

    /// Returns the slot of a position that was read from shared memory.
    #[inline(always)]
    pub(super) fn slot_at(&self, position: Position) -> Result<&AtomicU64, Blocked> {
        if position.index() < self.capacity {
            Ok(self.slot(position.index()))
        } else {
            Err(Blocked::Corrupted)
        }
    }

    /// Returns the slot `index`, which is below the capacity.
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
        &self.descriptor().notices.senders
    }

    pub(crate) fn receivers(&self) -> &Waiters {
        &self.descriptor().receivers
    }

    /// Moves `head` or `tail` past a position whose slot the caller has just swapped. A lost
    /// compare-and-swap means that another participant has done it.
    #[inline]
    pub(super) fn advance(&self, cell: &AtomicU64, from: Position) {
        self.move_on(cell, from, from.next(self.capacity));
    }

    #[inline]
    fn move_on(&self, cell: &AtomicU64, from: Position, to: Position) {
        // Pairs with the Acquire of try_claim() and try_take().
        let _ = cell.compare_exchange(from.0, to.0, AcqRel, Relaxed);
        if to.is_boundary() {
            self.catch_up();
        }
    }

    /// Moves `head` or `tail` past a position that is over, as `word` of its slot shows, unless
    /// another participant is about to.
    pub(super) fn help(&self, cell: &AtomicU64, from: Position, word: Word, backoff: &mut Backoff) {
        if matches!(word.status(), Status::Writing | Status::Full | Status::Reading) {
            backoff.spin();
            if cell.load(Relaxed) != from.0 {
                return;
            }
        }
        self.move_on(cell, from, self.beyond(from, word));
    }

    /// Moves `head` past a position that is over, as `word` of its slot shows.
    pub(super) fn pass(&self, head: Position, word: Word) {
        self.move_on(&self.descriptor().head, head, self.beyond(head, word));
    }

    /// Frees the slot for its next lap: its message was read, or will not be sent.
    #[inline]
    pub(crate) fn free(&self, me: OwnerId, claim: Claim) {
        let seen = Word::new(claim.lap, Status::Reading, Some(me));
        // Pairs with the Acquire of try_claim(): the next producer writes after we have read.
        // SeqCst: before the check of the waiters.
        match self.slot(claim.index).exchange_ordered(seen.0, seen.freed().0, Acquire) {
            Ok(change) => self.wake_sender(change),
            Err(now) => self.free_changed(me, claim.index, Word(now)),
        }
    }

    /// Frees a slot whose word others have moved on: `seen` is a word of a later lap, or that of a
    /// producer. Only the owner may free it: a word that does not name `me` was overwritten.
    #[cold]
    fn free_changed(&self, me: OwnerId, index: u32, mut seen: Word) {
        for _ in 0..SWAPS_MAX {
            if !seen.names(me) || !(seen.is_consumers() || seen.is_producers()) {
                return;
            }
            // As in free(). A failed swap pairs with skip_or_help() and revoke_writer(), which have
            // changed the word.
            match self.slot(index).exchange_ordered(seen.0, seen.freed().0, Acquire) {
                Ok(change) => return self.wake_sender(change),
                Err(now) => seen = Word(now),
            }
        }
    }

    /// Frees a slot that was claimed and in which nothing is sent.
    pub(crate) fn free_unsent(&self, me: OwnerId, claim: Claim) {
        self.free(me, claim);
        self.catch_up();
    }

    /// Wakes a producer that waits for room, after a change that may have made some.
    #[inline]
    pub(super) fn wake_sender(&self, change: Ordered) {
        // Pairs with the announcement in claim().
        if self.descriptor().notices.word.load(SeqCst) & WAKE_ALL != 0 {
            return self.wake_senders();
        }
        self.senders().notify_one(change);
    }

    #[cold]
    fn wake_senders(&self) {
        // Producers that still find no room set the bit again before they sleep: pairs with
        // claim().
        self.descriptor().notices.word.fetch_and(!WAKE_ALL, SeqCst);
        self.senders().notify_all(Ordered::by_fence());
    }

    /// Closes the queue: producers get `Closed` from now on, consumers once everything sent has
    /// been received. Returns whether it was open before.
    pub(crate) fn close(&self) -> bool {
        // First, so that a consumer that finds nothing knows when to check `tail`. Pairs with
        // try_take() and is_receivable().
        self.descriptor().notices.word.fetch_or(CLOSING, AcqRel);
        // Pairs with try_claim(), is_closed(), is_sendable() and end().
        let (before, change) = self.descriptor().tail.set_ordered(Position::CLOSED);
        // A second call wakes too, because the first caller may have died before its wake.
        self.receivers().notify_all(change);
        self.senders().notify_all(change);
        !Position(before).is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail(Acquire).is_closed() // pairs with close()
    }

    /// Returns the number of messages lost with their consumers.
    pub(crate) fn lost(&self) -> u64 {
        self.descriptor().notices.lost.load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn tail(&self, order: crate::loom::atomic::Ordering) -> Position {
        Position(self.descriptor().tail.load(order))
    }

    #[inline(always)]
    pub(super) fn head(&self, order: crate::loom::atomic::Ordering) -> Position {
        Position(self.descriptor().head.load(order))
    }

    /// Counts the receivable messages, slot by slot, up to `enough`.
    pub(crate) fn count(&self, enough: usize) -> usize {
        let waits = |index: &u32| {
            let word = Word(self.slot(*index).load(Acquire)); // pairs with publish()
            matches!(word.status(), Status::Full | Status::Returned)
        };
        (0..self.capacity).filter(waits).take(enough).count()
    }

    /// Counts the slots that have an owner.
    pub(crate) fn held(&self) -> usize {
        let held = |index: &u32| {
            let word = Word(self.slot(*index).load(Relaxed));
            word.is_producers() || word.is_consumers()
        };
        (0..self.capacity).filter(held).count()
    }

    fn user(&self, id: OwnerId) -> (&AtomicU64, u64) {
        let bit = id.index() % USERS;
        (&self.descriptor().geometry.users[bit / 64], 1 << (bit % 64))
    }

    /// Registers `me` as a participant that may hold slots. Call it before the first claim or take.
    #[cold]
    pub(crate) fn enlist(&self, me: OwnerId) {
        let (word, bit) = self.user(me);
        word.fetch_or(bit, Release); // pairs with may_hold()
    }

    /// Returns whether `dead` may hold slots. The kernel reports a death after everything that the
    /// dead participant did.
    pub(crate) fn may_hold(&self, dead: OwnerId) -> bool {
        let (word, bit) = self.user(dead);
        word.load(Acquire) & bit != 0 // pairs with enlist()
    }

    pub(crate) fn redelivers(&self) -> bool {
        self.redeliver
    }

    /// Returns the header of a slot, in a ring whose slots have one behind the word.
    #[inline(always)]
    pub(crate) fn header(&self, index: u32) -> &Header {
        debug_assert!(index < self.capacity && self.stride >= size_of::<AtomicU64>() + size_of::<Header>());
        let at = self.slots.as_ptr().wrapping_add(index as usize * self.stride + size_of::<AtomicU64>());
        // SAFETY: inside of the slot, whose header is atomics like its word; any bytes are a
        // Header.
        unsafe { &*at.cast::<Header>() }
    }

    /// Returns the address of a slot's message, `offset` bytes from its word.
    #[inline(always)]
    pub(crate) fn message(&self, index: u32, offset: usize) -> *mut u8 {
        debug_assert!(index < self.capacity && offset <= self.stride);
        self.slots.as_ptr().wrapping_add(index as usize * self.stride + offset)
    }

    /// Returns whether a message of a dead consumer has come back.
    pub(super) fn has_returned(&self) -> bool {
        let notice = self.descriptor().notices.word.load(Acquire); // pairs with announce_return()
        notice & RETURNS != 0 && self.search_returned(notice)
    }

    /// Scans all slots for a RETURNED one. Clears the notice if there is none, so that repeated
    /// calls of `is_empty` do not scan again.
    #[cold]
    fn search_returned(&self, notice: u64) -> bool {
        // Pairs with recover().
        let is_returned = |index| Word(self.slot(index).load(Acquire)).status() == Status::Returned;
        let is_any = (0..self.capacity).any(is_returned);
        if !is_any {
            self.clear_notice(notice);
        }
        is_any
    }

    /// Clears the notice after a scan that found no message. Fails if a message may have come back
    /// since `notice` was read.
    pub(super) fn clear_notice(&self, notice: u64) {
        // Pairs with announce_return(), whose count makes this fail.
        let _ = self.descriptor().notices.word.compare_exchange(notice, notice & !RETURNS, AcqRel, Relaxed);
    }

    /// Returns whether a receive would not block now: for a message, the end, or damage.
    pub(crate) fn is_receivable(&self) -> bool {
        let notice = self.descriptor().notices.word.load(Acquire); // pairs with close() and announce_return()
        notice & CLOSING != 0 && self.is_closed()
            || notice & RETURNS != 0 && self.search_returned(notice)
            || self.slot_at(self.head(Acquire)).is_err() // pairs with move_on()
            || self.peek().is_some()
    }

    /// Returns whether a send would not block now: for room, the end, or damage.
    pub(crate) fn is_sendable(&self) -> bool {
        let tail = self.tail(Acquire); // pairs with close() and move_on()
        tail.is_closed() || self.slot_at(tail).is_err() || self.has_room()
    }

    /// Returns the slot and word of the message that is next in order, without receiving it.
    pub(crate) fn peek(&self) -> Option<(u32, u64)> {
        // Pairs with move_on(). `head` may lag: after the first jump by two laps at most.
        let mut position = self.head(Acquire);
        for _ in 0..3 * u64::from(self.capacity) {
            let word = Word(self.slot_at(position).ok()?.load(Acquire)); // pairs with publish()
            match (age(word, position), word.status()) {
                (Age::Here, Status::Full) => return Some((position.index(), word.0)),
                (Age::Here, Status::Empty | Status::Sealed) | (Age::Behind | Age::Far, _) => return None,
                _ if self.is_due(position, word) => return Some((position.index(), word.0)),
                (Age::Here | Age::Ahead, _) => position = self.beyond(position, word),
            }
        }
        None
    }

    /// Returns whether the word of a slot is unchanged.
    pub(crate) fn is_still(&self, index: u32, word: u64) -> bool {
        self.slot(index).load(Acquire) == word // pairs with every swap of a slot
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
