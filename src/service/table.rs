//! The table of calls: a held-slot ring of requests, whose slots also take the answers.
//!
//! # State
//!
//! A call is one slot of the ring ([`queue::mpmc`](crate::queue::mpmc)) from its request to the end
//! of its answer. So there is one number of calls at a time, the capacity, and nothing else that
//! could run out or be lost. Two words say everything: the slot's, which names the process that has
//! the request; and the call's [`Outcome`], which is decided once.
//!
//! | slot | outcome | the slot belongs to | who moves it on, and to what |
//! |---|---|---|---|
//! | EMPTY | any | nobody | a caller: WRITING, outcome PENDING of the next generation |
//! | WRITING, HELD | PENDING | its caller | the caller: FULL, or EMPTY |
//! | FULL, RETURNED | PENDING | nobody | a server: READING; the caller: CANCELLED |
//! | FULL, RETURNED | CANCELLED | nobody | the caller, or a server: READING; a reaper: EMPTY |
//! | READING, KEPT | PENDING | the server | it: ANSWERED, ENDED, REFUSED, INVALID; the caller: CANCELLED |
//! | READING, KEPT | CANCELLED | the server, or the caller that took it back | it: EMPTY |
//! | READING, KEPT | any other | the caller | the caller: EMPTY |
//!
//! The server and the caller race for the outcome, and one swap decides. A server that loses frees
//! the slot, and its answer goes nowhere; a caller that loses has its answer. While a server has a
//! request, its slot has no other call, so it cannot answer the wrong one. The caller sleeps on the
//! outcome, so one answer wakes one thread.
//!
//! In the last row the slot's word goes on naming the server, which has handed the slot on to the
//! caller ([`withdraw`](crate::queue::mpmc)). RETURNED is a request that producers have skipped, or
//! whose server died and that another one is to have.
//!
//! An answer may also come in parts, through a ring of places in the slot: see
//! [`parts`](super::parts).
//!
//! # Memory ordering
//!
//! The request is handed over by the ring. The swap of the outcome is AcqRel: the answer comes
//! before it, and the caller's Acquire load comes after it (`settle`, `outcome`). The caller's id
//! and the new generation are stored with Release after the slot was claimed. A reaper loads both
//! with Acquire and then checks that the slot's word is still the same, so it never takes the words
//! of a later call for those of the one that it has found.
//!
//! # Death
//!
//! A reaper of `d` treats each slot by its two words, the caller's id, and the owner:
//!
//! | window | caller `d` | server `d` |
//! |---|---|---|
//! | WRITING, HELD | freed | |
//! | FULL, RETURNED, PENDING | CANCELLED | |
//! | FULL, RETURNED, CANCELLED | freed | freed, whoever the caller is |
//! | READING, PENDING | CANCELLED; the server frees the slot | DIED, or RETURNED with redelivery |
//! | READING, CANCELLED | the server frees the slot | freed |
//! | READING, decided | freed | the slot's word is made to name the caller |
//! | decided, the caller not woken | | the caller notices after its slice, 50 ms |
//! | EMPTY | | nothing is left |
//!
//! Each step is a swap from words that nobody but `d` or another reaper changes in another way, so
//! any number of reapers may do it at once, and a late one changes nothing.
//!
//! A server's reaper may return a request just when its caller gives up: the caller has found the
//! slot READING, and leaves it to the server. So a reaper that has returned a request loads the
//! outcome again. A SeqCst fence lies between its swap and that load, and between the caller's swap
//! of the outcome and its load of the slot's word.
//!
//! Both may be dead, in any order. If the caller is reaped first, the outcome is CANCELLED or the
//! slot is free, and the server's reaper frees the slot or finds nothing. If the server is reaped
//! first, the slot names the caller, or is RETURNED.
//!
//! The blocks of long messages belong to the slot: the process that frees the slot frees them
//! first. A reaper reads the names of the blocks, then checks the slot's word, then frees by name.
//! It cannot do so with a request that a server may take at any moment. So it frees that slot
//! first, and if it dies in between, the next caller in the slot finds the name and frees the
//! block.

use super::descriptor::Call;
use super::parts::Parts;
use super::word::{Outcome, Status};
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::Ordered;
use crate::queue::mpmc::ring::{Claim, Ring};
use crate::queue::mpmc::slot::Status as Slot;
use crate::segment::owner::OwnerId;
use crate::sys::futex::Futex;

/// Swaps of one outcome in a call: only a caller that falls asleep makes one fail.
const SWAPS_MAX: u32 = 1 << 10;

/// A view of the slots of a service, in a mapping or in an `Arc` of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) ring: Ring,
    /// The offset of a [`Call`] in its slot.
    call_at: usize,
}

impl Table {
    /// Creates a view.
    ///
    /// # Safety
    ///
    /// As long as this value or a copy of it is used, there is a `Call` at offset `call_at` of each
    /// slot of the ring, which no plain read or write overlaps.
    pub(crate) unsafe fn new(ring: Ring, call_at: usize) -> Table {
        // SAFETY: the word is a part of the call.
        let ring = unsafe { ring.withdrawing(call_at + std::mem::offset_of!(Call, lap)) };
        Table { ring, call_at }
    }

    /// Returns the words of the call in this slot, which is below the capacity.
    #[inline(always)]
    pub(super) fn call(&self, index: u32) -> &Call {
        // SAFETY: promised to new(). Any bytes are a Call, which is atomics only.
        unsafe { &*self.ring.message(index, self.call_at).cast() }
    }

    /// Begins a call in a slot that `me` has claimed and not sent.
    #[inline]
    pub(crate) fn begin(&self, claim: Claim, me: OwnerId, deadline: u64, parts: Parts) -> Outcome {
        let call = self.call(claim.index);
        self.ring.note_lap(claim);
        let next = Outcome(call.outcome.word.load(Relaxed)).next();
        call.deadline.store(deadline, Relaxed);
        call.parts.word.store(parts.bits(), Release); // these pair with the loads of a late reaper
        call.client.store(me.bits(), Release);
        call.outcome.word.store(next.0, Release);
        next
    }

    #[inline]
    pub(crate) fn outcome(&self, index: u32) -> Outcome {
        Outcome(self.call(index).outcome.word.load(Acquire)) // pairs with settle() and begin()
    }

    pub(crate) fn deadline(&self, index: u32) -> u64 {
        self.call(index).deadline.load(Relaxed)
    }

    /// Returns the caller; `None` if no participant can have this id.
    pub(crate) fn client(&self, index: u32) -> Option<OwnerId> {
        OwnerId::from_bits(self.call(index).client.load(Acquire)) // pairs with begin()
    }

    /// Returns the word on which the caller sleeps.
    pub(crate) fn futex(&self, index: u32) -> &Futex {
        &self.call(index).outcome
    }

    /// Announces that the caller of `call` is about to sleep; returns the value to sleep on. If the
    /// call has ended, that is not the word any more, or it is not slept on.
    pub(crate) fn announce(&self, index: u32, call: Outcome) -> u32 {
        let word = &self.call(index).outcome.word;
        let asleep = call.slept_on();
        // A failed swap pairs with settle(), or the bit is set already.
        let seen = match word.compare_exchange(call.0, asleep.0, SeqCst, Acquire) {
            Ok(_) => asleep.0,
            Err(now) => now,
        };
        Ordered::by_fence(); // before a load of `parts`: pairs with wake_caller()
        seen
    }

    /// Ends `call` in this slot, and wakes its caller. Fails with the outcome that it has already.
    #[inline]
    pub(crate) fn settle(&self, index: u32, call: Outcome, status: Status) -> Result<(), Outcome> {
        let futex = self.futex(index);
        let mut seen = call;
        for _ in 0..SWAPS_MAX {
            if !seen.is_of_same_call(call) || !seen.is_pending() {
                return Err(seen);
            }
            // Pairs with outcome(): the answer comes first. A failed swap pairs with announce(), or
            // with the other side's.
            match futex.word.compare_exchange(seen.0, seen.ended(status).0, AcqRel, Acquire) {
                Ok(_) if status == Status::Cancelled => {
                    // Before the loads of the slot's word that follow, and of `parts`. Pairs with
                    // the fence of a reaper that has returned the request, and announce_server().
                    self.wake_server(index, Ordered::by_fence());
                    return Ok(());
                }
                Ok(_) => {
                    if seen.is_slept_on() {
                        futex.wake(u32::MAX);
                    }
                    return Ok(());
                }
                Err(now) => seen = Outcome(now),
            }
        }
        Err(seen)
    }

    /// Returns whether a server, or nobody, has the request in this slot: false if it waits.
    pub(crate) fn is_taken(&self, index: u32) -> bool {
        !matches!(self.ring.word(index).status(), Slot::Full | Slot::Returned)
    }

    /// Cancels `call` of `me`. Fails with its outcome if it has one: then the slot is the caller's.
    /// Returns the slot if no server has the request: then it is the caller's too, and its word
    /// names it.
    pub(crate) fn cancel(&self, index: u32, me: OwnerId, call: Outcome) -> Result<Option<Claim>, Outcome> {
        self.settle(index, call, Status::Cancelled)?;
        Ok(self.take_back(index, me, call))
    }

    /// Takes back the request of `call`, which `me` has sent. `None`: a server has taken it.
    pub(crate) fn take_back(&self, index: u32, me: OwnerId, call: Outcome) -> Option<Claim> {
        // The word of a later call is sent after its generation was stored.
        self.ring.take_back(me, index, || {
            is_planted(Fault::TakeBackUnchecked) || self.outcome(index).is_of_same_call(call)
        })
    }
}
