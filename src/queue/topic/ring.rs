//! The ring of a topic: many publishers, one order, read by any number of subscribers.
//!
//! Lock-free. A subscriber takes nothing from the ring, so publishers wait only for lossless
//! subscribers, which ask for it (see [`gate`](super::gate)). This file has the shared parts.
//! Publishers are in [`publish`](super::publish), subscribers in
//! [`receive`](super::receive), the search for a position in [`locate`](super::locate), lossless
//! subscribers in [`gate`](super::gate), messages of any length in [`floor`](super::floor),
//! recovery in [`recover`](super::recover), the words in [`descriptor`](super::descriptor),
//! [`word`](super::word) and [`line`](super::line).
//!
//! # Origin
//!
//! It is the held-slot ring of [`Queue`](crate::Queue) without its consumers: the swap of a slot's
//! word claims a position, the word names the publisher, and `tail` follows. A subscriber that
//! copies checks the word afterwards, as the readers of a sequence lock do (Lameter, 2005; Boehm,
//! 2012). A subscriber that reads in place publishes a pin, which is a hazard pointer (Michael,
//! 2004). A bit in the slot's word says that there may be a pin, so a publisher scans the pins only
//! where there was one.
//!
//! # State
//!
//! `tail` is the next position to claim. Position `p` is in slot `p % slots`. The invariants:
//!
//! 1. A slot is claimed only for the position that `tail` has, and `tail` moves past a position
//!    only after that.
//! 2. FULL and HOLE at a turn never change at that turn. So all subscribers agree on which
//!    positions have messages, and in which order.
//! 3. A publisher writes into a slot only while the word names it, without the bit `pinned`.
//! 4. Before `tail` moves from `p` to `p + 1`, the hole at `p - slots` is counted in `holes`, if it
//!    was one. So `p - slots - holes` is the number of messages before position `p - slots`, and
//!    what a subscriber has lost is known exactly, long after it was overwritten.
//!
//! # Memory ordering
//!
//! - The swap to FULL releases the message; a subscriber's load of the word acquires it.
//! - After its claim a publisher passes a Release fence and then writes. A subscriber copies,
//!   passes an Acquire fence and loads the word again. If it has copied a byte of a later message,
//!   it sees the later turn.
//! - A pin is stored, then a SeqCst fence, then the word is checked. A publisher changes the word,
//!   then a SeqCst fence, then it loads the pins. One of them sees the other.
//! - Every store to a pin is Release, and the publisher's loads of the pins acquire it: it writes
//!   after the reading has ended, also if it sees the pin of the next message.
//! - `tail` and `holes` are loaded Acquire and moved AcqRel. The swap to FULL is SeqCst, because a
//!   subscriber may be asleep for it: see [`crate::wait`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | slot claimed, `tail` not moved | the next publisher | it counts and moves `tail` | nothing |
//! | hole counted, `tail` not moved | the next publisher | it moves `tail` | nothing |
//! | WRITING, pins not checked | subscribers, reapers | skipped; a pinned hole | its message |
//! | WRITING or HELD | subscribers, reapers | skipped; a hole by `recover` | its message |
//! | FULL, nobody woken | a sleeper at the end of its slice | itself | up to 50 ms |
//! | pin stored, word not marked | publishers, reapers | a hole meanwhile; `recover` | nothing |
//! | reading in place | publishers, reapers | a hole at each turn; `recover` | nothing |
//! | line taken | a subscriber that finds the table full | `recover` | nothing |
//! | lossless subscriber | publishers that wait for it | see [`gate`](super::gate) | nothing |
//! | publisher made | subscribers, reapers | see [`publishers`](super::publishers) | nothing |
//! | reaper between two swaps | the next reaper | it starts over | nothing |
//! | closed, position not sealed | a subscriber that reads `tail` | it seals it | nothing |

use std::ptr::NonNull;

use super::descriptor::{is_pin_of, Descriptor, Line, Slot, CLOSED, NUMBER, USERS};
use super::policy::Policy;
use super::word::{age, Age, Holes, Position, Status, Word};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::{spin_loop, OrderedChange};
use crate::queue::payload::header::Header;
use crate::segment::owner::OwnerId;
use crate::wait::Waiters;

/// Attempts to change a word that others change too. The first succeeds, unless they do so at that
/// moment.
pub(super) const SWAPS_MAX: u32 = 1 << 16;
/// The least number of steps of one call.
const STEPS_MIN: u64 = 1 << 12;
/// Polls of a word whose publisher is at work, before its position is taken away. Under loom none.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// The steps that a call has left. Damaged words could keep a loop going for ever.
#[derive(Debug)]
pub(crate) struct Steps {
    left: u64,
    /// Polls of the next word whose publisher is at work.
    spins: u32,
}

impl Steps {
    /// Uses one step; returns false if none was left.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// The sizes of a topic, checked when it was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The number of messages that are kept.
    pub(crate) capacity: u32,
    /// The number of slots; more than the capacity, and below `u32::MAX`.
    pub(crate) slots: u32,
    /// The number of lines for subscribers.
    pub(crate) lines: u32,
    /// The length of a slot in bytes.
    pub(crate) stride: usize,
    /// The offset of a message in its slot.
    pub(crate) offset: usize,
    /// The length of a message in words, the last of which it may fill in part; or of the longest
    /// one that fits into a slot.
    pub(crate) words: usize,
    /// Whether messages differ in length: then each slot has a header.
    pub(crate) is_varied: bool,
    pub(crate) policy: Policy,
    /// Whether the topic ends when its last publisher has left.
    pub(crate) ends: bool,
}

/// A view of a topic's words, in a mapping or in an `Arc` of a model.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    descriptor: NonNull<Descriptor>,
    lines: NonNull<Line>,
    slots: NonNull<u8>,
    pub(super) shape: Shape,
}

// SAFETY: the pointers are to atomics that any thread may use (promised to Ring::new); the rest is
// plain values.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Creates a view of a topic.
    ///
    /// # Safety
    ///
    /// As long as this value or a copy of it is used, `descriptor` points to a `Descriptor`, and
    /// `lines` to `shape.lines` lines. For each `i` below `shape.slots`, `slots + i * stride`
    /// points to a `Slot`, which a `Header` follows if `shape.is_varied`, and `shape.words` words
    /// follow at `offset` in it. Plain accesses overlap the words only while the slot is claimed or
    /// pinned by their process.
    pub(crate) unsafe fn new(
        descriptor: NonNull<Descriptor>,
        lines: NonNull<Line>,
        slots: NonNull<u8>,
        shape: Shape,
    ) -> Ring {
        Ring { descriptor, lines, slots, shape }
    }

    #[inline(always)]
    pub(super) fn descriptor(&self) -> &Descriptor {
        // SAFETY: promised to Ring::new. Any bytes are a Descriptor, which is atomics only.
        unsafe { self.descriptor.as_ref() }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn lines(&self) -> &[Line] {
        // SAFETY: promised to Ring::new; any bytes are lines, which are atomics only.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr(), self.shape.lines as usize) }
    }

    /// Returns the line with this index; an index out of range wraps.
    #[inline(always)]
    pub(super) fn line(&self, index: u32) -> &Line {
        &self.lines()[(index % self.shape.lines) as usize]
    }

    /// Returns the slot `index`, which is below the number of slots.
    #[inline(always)]
    pub(super) fn slot(&self, index: u32) -> &Slot {
        debug_assert!(index < self.shape.slots);
        // SAFETY: promised to Ring::new for every index below the number of slots.
        unsafe { self.slots.add(index as usize * self.shape.stride).cast::<Slot>().as_ref() }
    }

    /// Returns the header of a slot, if messages differ in length.
    #[inline(always)]
    pub(crate) fn header(&self, index: u32) -> &Header {
        debug_assert!(self.shape.is_varied);
        let slot = std::ptr::from_ref(self.slot(index));
        // SAFETY: promised to Ring::new. Any bytes are a Header, which is atomics only.
        unsafe { &*slot.add(1).cast::<Header>() }
    }

    #[inline(always)]
    pub(super) fn word(&self, index: u32) -> &AtomicU64 {
        &self.slot(index).word
    }

    /// Returns the address of a slot's message.
    #[inline(always)]
    pub(crate) fn message(&self, index: u32) -> *mut u8 {
        debug_assert!(index < self.shape.slots);
        self.slots.as_ptr().wrapping_add(index as usize * self.shape.stride + self.shape.offset)
    }

    /// Returns the words of a slot's message.
    #[inline(always)]
    pub(crate) fn words(&self, index: u32) -> &[AtomicU64] {
        // SAFETY: promised to Ring::new.
        unsafe { std::slice::from_raw_parts(self.message(index).cast::<AtomicU64>(), self.shape.words) }
    }

    #[inline(always)]
    pub(super) fn position(&self, number: u64) -> Position {
        Position::new(number, self.shape.slots)
    }

    #[inline(always)]
    pub(super) fn next(&self, position: Position) -> Position {
        position.plus(1, self.shape.slots)
    }

    /// Returns whether the slot of a position had a position one turn earlier.
    fn has_earlier(&self, position: Position) -> bool {
        position.number >= u64::from(self.shape.slots)
    }

    /// Returns the word by which `me` claims `position`, whose slot has `word`.
    #[inline]
    pub(super) fn claimed(&self, word: Word, position: Position, me: OwnerId) -> Word {
        word.claimed(me, self.has_earlier(position))
    }

    /// Returns the word that skips `position`, whose slot has `word`.
    pub(super) fn skipped(&self, word: Word, position: Position) -> Word {
        word.skipped(self.has_earlier(position))
    }

    pub(crate) fn sleepers(&self) -> &Waiters {
        &self.descriptor().sleepers
    }

    #[inline(always)]
    pub(super) fn tail(&self) -> u64 {
        self.descriptor().end.tail.load(Acquire) // pairs with advance(), close() and announce()
    }

    pub(super) fn holes(&self) -> Holes {
        Holes(self.descriptor().end.holes.load(Acquire)) // pairs with count()
    }

    /// Returns the steps of one call: enough to pass all slots eight times.
    #[inline]
    pub(crate) fn steps(&self) -> Steps {
        // Writing 32 bytes is faster than a poll, so a publisher that runs is done by then.
        let spins = if cfg!(loom) { 0 } else { SPINS + (self.shape.stride / 32).min(1 << 16) as u32 };
        Steps { left: STEPS_MIN + 8 * u64::from(self.shape.slots), spins }
    }

    /// Moves `tail` past a position that was claimed or skipped: its slot has `word`. The bits of
    /// `tail` stay.
    #[inline]
    pub(super) fn advance(&self, tail: u64, word: Word) {
        if self.holes().after(tail, word.is_gap()).is_some() {
            self.count(tail, word.is_gap());
        }
        // Damage can have put the last number there.
        let next = tail & !NUMBER | tail.wrapping_add(1) & NUMBER;
        // Pairs with tail(). A lost swap means that another participant has done it, or has set a
        // bit; then the next publisher does it.
        let _ = self.descriptor().end.tail.compare_exchange(tail, next, AcqRel, Relaxed);
    }

    /// Counts the hole that leaves the ring when `tail` moves on, if it is one.
    #[cold]
    fn count(&self, tail: u64, is_gap: bool) {
        for _ in 0..SWAPS_MAX {
            let holes = self.holes();
            let Some(next) = holes.after(tail, is_gap) else { return };
            // The count was loaded before this. If `tail` was still here then, the position was not
            // counted, or its tag would say so.
            if self.tail() != tail {
                return;
            }
            // Pairs with holes(). The count only grows, and a change of the tag changes the word,
            // so a swap that comes too late fails.
            let cell = &self.descriptor().end.holes;
            if cell.compare_exchange(holes.0, next.0, AcqRel, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Returns the next position, and the number of messages before the oldest position of the
    /// ring. `None` if publishers moved on meanwhile.
    pub(super) fn snapshot(&self) -> Option<(Position, u64)> {
        let tail = self.tail();
        let holes = self.holes();
        let next = self.position(tail & NUMBER);
        let word = Word(self.word(next.index).load(Acquire)); // pairs with try_claim()
        let oldest = next.number.saturating_sub(u64::from(self.shape.slots));
        let counted = match age(word, next) {
            // Not claimed when this was read, so not counted when `holes` was read.
            Age::Behind => holes.count(),
            Age::Here if tail & CLOSED == 0 => {
                self.advance(tail, word);
                return None;
            }
            // A publisher claimed it at the moment of the closing. It may have been counted.
            Age::Here if word.is_gap() && holes.after(next.number, true).is_none() => {
                holes.count().wrapping_sub(1)
            }
            Age::Here => holes.count(),
            Age::Next | Age::Ahead | Age::Far => return None,
        };
        Some((next, oldest.wrapping_sub(counted)))
    }

    /// Returns whether a line pins the slot. The caller has passed a SeqCst fence since it changed
    /// the slot's word.
    pub(super) fn is_pinned(&self, index: u32) -> bool {
        self.lines().iter().any(|line| is_pin_of(line.pin.load(Acquire), index))
        // pairs with unpin()
    }

    /// Polls a word whose publisher is at work; returns whether it has changed. Once in a call this
    /// takes as long as writing a message, however many publishers it meets, and is short later.
    pub(super) fn changes(&self, index: u32, word: Word, steps: &mut Steps) -> bool {
        let spins = std::mem::replace(&mut steps.spins, SPINS);
        #[cfg(all(test, not(loom)))]
        super::tests::note_polls(spins);
        (0..spins).any(|_| {
            spin_loop();
            self.word(index).load(Relaxed) != word.0
        })
    }

    /// Closes the topic: publishers get `Closed` from now on, subscribers once they have received
    /// everything. Returns whether it was open before.
    pub(crate) fn close(&self) -> bool {
        // Pairs with tail().
        let (before, change) = self.descriptor().end.tail.set_ordered(CLOSED);
        self.seal();
        self.sleepers().notify_all(change);
        self.room().notify_all(change);
        before & CLOSED == 0
    }

    /// Skips the next position of a closed topic, so that a subscriber that polls its slot sees the
    /// end, and need not read `tail`.
    pub(crate) fn seal(&self) {
        for _ in 0..SWAPS_MAX {
            let tail = self.tail();
            let at = self.position(tail & NUMBER);
            let slot = self.word(at.index);
            let word = Word(slot.load(Acquire)); // pairs with try_claim()
            match (age(word, at), word.status()) {
                (Age::Behind, _) => {
                    let next = self.skipped(word, at);
                    // Pairs with find().
                    if slot.compare_exchange(word.0, next.0, AcqRel, Relaxed).is_ok() {
                        return;
                    }
                }
                // Claimed at the moment of the closing.
                (Age::Here, Status::Writing | Status::Full) => self.advance(tail, word),
                _ => return,
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail() & CLOSED != 0
    }

    /// Returns the number of the next position.
    pub(crate) fn end(&self) -> u64 {
        self.tail() & NUMBER
    }

    fn user(&self, id: OwnerId) -> (&AtomicU64, u64) {
        let bit = id.index() % USERS;
        (&self.descriptor().geometry.users[bit / 64], 1 << (bit % 64))
    }

    /// Registers `me` as a participant that the words may name. Call it before the first claim, and
    /// before a line is taken.
    #[cold]
    pub(crate) fn enlist(&self, me: OwnerId) {
        let (word, bit) = self.user(me);
        word.fetch_or(bit, Release); // pairs with may_name()
    }

    /// Returns whether words may name `dead`. The kernel reports a death after everything that the
    /// dead participant did.
    pub(super) fn may_name(&self, dead: OwnerId) -> bool {
        let (word, bit) = self.user(dead);
        word.load(Acquire) & bit != 0 // pairs with enlist()
    }

    /// Counts the slots that publishers are in.
    pub(crate) fn held(&self) -> usize {
        (0..self.shape.slots).filter(|index| Word(self.word(*index).load(Relaxed)).is_held()).count()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = (0..self.shape.slots.min(8)).map(|index| Word(self.word(index).load(Relaxed)));
        let mut out = f.debug_struct("Ring");
        out.field("tail", &self.end()).field("holes", &self.holes().count());
        out.field("slots", &words.collect::<Vec<_>>());
        out.field("publishers_wait", &self.room().is_waited_on());
        out.field("subscribers_wait", &self.sleepers().is_waited_on()).finish()
    }
}
