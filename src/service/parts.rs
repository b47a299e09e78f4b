//! Answers in parts: a ring of places in the slot of a call, from its server to its caller.
//!
//! # State
//!
//! One word says which places are in use. It is also the futex on which the server sleeps while
//! there is no place.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..14 | the number of parts that were sent, wrapping |
//! | 14..28 | the number of parts that were taken, wrapping |
//! | 28 | the caller takes an answer in parts |
//! | 29 | a part was sent |
//! | 30 | the server may be asleep |
//!
//! Part `n` is in place `n` modulo the number of places, which is a power of two. The server writes
//! the next place if not all are in use, and then counts the part as sent. The caller reads the
//! oldest one, and then counts it as taken. The call's outcome ends the answer: ENDED if the server
//! has sent all parts. The caller takes those that were sent before it frees the slot. Any other
//! answer is ANSWERED, and has one part, in the first place, which the word does not count.
//!
//! # Memory ordering
//!
//! Each count is a SeqCst swap, which releases the place and acquires those of the other side.
//!
//! The caller sleeps on the outcome, as for any answer. It sets the bit there, passes a fence and
//! looks for a part; the server counts a part and then loads the outcome. So one of them sees the
//! other. The server sleeps on this word. What it waits for is in the same word, or it is the
//! outcome: it sets the bit here, passes a fence and loads the outcome; a caller that gives up
//! swaps the outcome, passes a fence and loads this word.
//!
//! # Death
//!
//! | window | repaired by |
//! |---|---|
//! | a part was written and not sent | the end of the call: its block belongs to the slot |
//! | sent, the caller not woken | the caller, after its slice of 50 ms |
//! | the server dies, no part was sent | its reaper: DIED, or another server gets the request |
//! | the server dies, some were sent | its reaper: DIED. The caller takes those that were sent |
//! | a part was taken, the server not woken | the server, after its slice |
//! | the caller dies | its reaper: CANCELLED; the server notices when it sends, and frees the slot |
//!
//! A request of which parts were sent does not go to another server, because its caller would get
//! them twice.

use super::table::Table;
use super::word::Outcome;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::{Ordered, OrderedChange};
use crate::sys::futex::Futex;

/// The largest number of places. The numbers of parts sent and taken differ by at most that.
pub(crate) const PLACES_MAX: usize = 1 << 12;

const BITS: u32 = 14;
const COUNT: u32 = (1 << BITS) - 1;
const IN_PARTS: u32 = 1 << 28;
const BEGUN: u32 = 1 << 29;
const SLEEPING: u32 = 1 << 30;

/// Swaps of one word: only the other side makes one fail, and once for each place.
const SWAPS_MAX: u32 = 1 << 16;

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts(u32);

impl Parts {
    /// Returns the word of a call that begins.
    #[inline]
    pub(crate) fn new(is_in_parts: bool) -> Parts {
        Parts(if is_in_parts { IN_PARTS } else { 0 })
    }

    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether the caller takes an answer in parts.
    #[inline]
    pub(crate) fn is_in_parts(self) -> bool {
        self.0 & IN_PARTS != 0
    }

    /// Returns whether a part was sent.
    pub(crate) fn has_begun(self) -> bool {
        self.0 & BEGUN != 0
    }

    fn is_slept_on(self) -> bool {
        self.0 & SLEEPING != 0
    }

    /// Returns the number of the part that is sent next.
    pub(crate) fn next_sent(self) -> usize {
        (self.0 & COUNT) as usize
    }

    /// Returns the number of the part that is taken next.
    pub(crate) fn next_taken(self) -> usize {
        (self.0 >> BITS & COUNT) as usize
    }

    /// Returns how many parts were sent and not taken.
    pub(crate) fn number(self) -> usize {
        self.next_sent().wrapping_sub(self.next_taken()) & COUNT as usize
    }

    fn sent(self) -> Parts {
        Parts(self.0 & !COUNT | self.0.wrapping_add(1) & COUNT | BEGUN)
    }

    fn taken(self) -> Parts {
        let taken = (self.next_taken() as u32).wrapping_add(1) & COUNT;
        Parts(self.0 & !(COUNT << BITS) | taken << BITS).awake()
    }

    fn slept_on(self) -> Parts {
        Parts(self.0 | SLEEPING)
    }

    fn awake(self) -> Parts {
        Parts(self.0 & !SLEEPING)
    }
}

impl Table {
    /// Returns the word of the call in this slot.
    #[inline]
    pub(crate) fn parts(&self, index: u32) -> Parts {
        Parts(self.call(index).parts.word.load(Acquire)) // pairs with each count, and with begin()
    }

    /// Returns the word on which a server sleeps that waits for a place.
    pub(crate) fn parts_futex(&self, index: u32) -> &Futex {
        &self.call(index).parts
    }

    /// Counts the part that this server has written in the next place as sent, and wakes the caller.
    pub(crate) fn send_part(&self, index: u32, call: Outcome) {
        if let Some((_, change)) = self.count(index, Parts::sent) {
            self.wake_caller(index, call, change);
        }
    }

    /// Wakes the caller of `call` if it sleeps, after a part was counted.
    #[inline]
    fn wake_caller(&self, index: u32, call: Outcome, _change: Ordered) {
        let futex = self.futex(index);
        let seen = Outcome(futex.word.load(SeqCst)); // pairs with announce()
        if !seen.is_slept_on() || !seen.is_of_same_call(call) {
            return;
        }
        // The bit is cleared, so a caller that has yet to sleep does not. A swap that fails has met
        // a caller that gives up.
        if futex.word.compare_exchange(seen.0, seen.awake().0, AcqRel, Relaxed).is_ok() {
            futex.wake(u32::MAX);
        }
    }

    /// Counts the oldest part as taken, and wakes the server.
    pub(crate) fn take_part(&self, index: u32) {
        if self.count(index, Parts::taken).is_some_and(|(before, _)| before.is_slept_on()) {
            self.parts_futex(index).wake(u32::MAX);
        }
    }

    /// Changes the word. Returns what it was. `None`: it was overwritten again and again.
    fn count(&self, index: u32, change: impl Fn(Parts) -> Parts) -> Option<(Parts, Ordered)> {
        let word = &self.parts_futex(index).word;
        let mut seen = word.load(Relaxed);
        for _ in 0..SWAPS_MAX {
            // A failed swap pairs with the other side's.
            match word.exchange_ordered(seen, change(Parts(seen)).0, Acquire) {
                Ok(ordered) => return Some((Parts(seen), ordered)),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Announces that the server is about to sleep; returns the value to sleep on. It must look for
    /// a place and for the outcome afterwards.
    pub(crate) fn announce_server(&self, index: u32) -> u32 {
        let (before, _) = self.parts_futex(index).word.set_ordered(SLEEPING);
        Ordered::by_fence(); // the loads that follow are not SeqCst; pairs with wake_server()
        Parts(before).slept_on().0
    }

    /// Wakes the server if it sleeps, after its caller has given up.
    pub(super) fn wake_server(&self, index: u32, _change: Ordered) {
        let futex = self.parts_futex(index);
        if Parts(futex.word.load(Relaxed)).is_slept_on() {
            futex.word.fetch_and(!SLEEPING, AcqRel);
            futex.wake(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_wrap() {
        let mut parts = Parts::new(true);
        assert!(parts.is_in_parts() && !parts.has_begun() && !Parts::new(false).is_in_parts());
        for n in 0..3 * (1 << BITS) {
            assert_eq!((parts.next_sent(), parts.next_taken()), (n % (1 << BITS), n % (1 << BITS)));
            assert_eq!(parts.number(), 0);
            parts = parts.sent().slept_on();
            assert!(parts.number() == 1 && parts.is_slept_on());
            parts = parts.taken();
            assert!(parts.is_in_parts() && parts.has_begun() && !parts.is_slept_on());
        }
        for n in 1..=PLACES_MAX {
            parts = parts.sent();
            assert_eq!(parts.number(), n);
        }
    }
}
