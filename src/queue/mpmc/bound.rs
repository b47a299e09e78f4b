//! The bounds of the held-slot ring: the steps of a call, and how far `head` falls behind.
//!
//! Every turn of a loop over the ring follows a step of another process, or helps `head` or `tail`
//! on. Damaged words can keep a loop going for ever, because laps are compared modulo 2^31: three
//! slots whose laps are a third of that apart are each ahead of the one before. So each call counts
//! its steps, and inspects the words when it has used them up.
//!
//! # Distance
//!
//! Laps are compared by their distance, which must stay below 2^30. The word of a slot is at most
//! one lap from `tail`. `head` moves when a message is received. If nothing is received, claimed
//! and abandoned slots carry `tail` away from `head`. So a participant that moves `tail` across a
//! multiple of 2^16 laps, or abandons a loan, moves `head` after it. After a death at that point,
//! the next such multiple does it.

use super::ring::Ring;
use super::slot::{age, Age, Position, Status, Word, AHEAD_MAX, LAP_MASK};
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::queue::blocked::Blocked;

/// Bounds of the steps of one call. 2^20 steps take some tens of milliseconds.
const STEPS_MIN: u32 = 1 << 12;
const STEPS_MAX: u32 = 1 << 20;
/// Attempts to free a held slot. The first succeeds, unless others move the slot's lap at that
/// moment.
pub(super) const SWAPS_MAX: u32 = 1 << 16;
/// Steps to bring `head` up to `tail`: a jump ([`Position::beyond`]), and one position more.
const CATCH_UP: u32 = 4;
/// `head` is moved after `tail` where these bits of the position are 0: the index and the lower 16
/// bits of the lap. Under loom that is every lap, so that the models reach it.
const BOUNDARY: u64 = if cfg!(loom) { (1 << 32) - 1 } else { (1 << (32 + 16)) - 1 };

/// The steps that a call has left.
#[derive(Debug)]
pub(super) struct Steps(u32);

impl Steps {
    /// Uses one step; returns false if none was left.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

impl Position {
    /// Returns whether `head` must be close when `tail` comes here.
    #[inline]
    pub(super) fn is_boundary(self) -> bool {
        self.0 & BOUNDARY == 0
    }
}

impl Ring {
    /// Returns the steps of one call: enough for `head` to pass all slots three times.
    #[inline]
    pub(super) fn steps(&self) -> Steps {
        Steps(self.capacity.saturating_mul(4).clamp(STEPS_MIN, STEPS_MAX))
    }

    /// Decides why a call has used up its steps: the words contradict each other, or other
    /// participants were always faster.
    #[cold]
    pub(super) fn diagnose(&self) -> Blocked {
        let first = self.tail(Acquire).lap().wrapping_sub(1);
        let start = self.head(Acquire).index();
        for step in 0..self.capacity.min(STEPS_MAX) {
            let index = (u64::from(start) + u64::from(step)) % u64::from(self.capacity);
            let word = Word(self.slot(index as u32).load(Acquire)); // pairs with every swap of a slot
            let last = self.tail(Acquire).lap().wrapping_add(1);
            // From one lap behind the former `tail` to one lap ahead of the present one.
            if word.lap().wrapping_sub(first) & LAP_MASK > last.wrapping_sub(first) & LAP_MASK {
                return Blocked::Corrupted;
            }
        }
        Blocked::Later
    }

    /// Moves `head` after `tail`, past positions that are over, if it has fallen behind. Takes a
    /// few steps.
    #[cold]
    pub(super) fn catch_up(&self) {
        for _ in 0..CATCH_UP {
            let head = self.head(Acquire); // pairs with move_on()
            let Ok(slot) = self.slot_at(head) else { return };
            let word = Word(slot.load(Acquire)); // pairs with free()
            let is_over = match age(word, head) {
                Age::Ahead => !self.is_due(head, word),
                Age::Here => matches!(word.status(), Status::Held | Status::Kept),
                Age::Behind | Age::Far => false,
            };
            if !is_over {
                return;
            }
            let to = self.beyond(head, word);
            // Pairs with the Acquire of try_take(). Fails if a consumer has moved it.
            let _ = self.descriptor().head.compare_exchange(head.0, to.0, AcqRel, Relaxed);
        }
    }

    /// Returns whether nothing can be received. Moves `head` past positions that are over, so the
    /// time depends on the claims abandoned since the last call and not on the number of slots.
    /// After the death of a consumer, one call scans all slots.
    pub(crate) fn is_empty(&self) -> bool {
        if self.has_returned() {
            return false;
        }
        let mut steps = self.steps();
        while steps.take() {
            let head = self.head(Acquire); // pairs with move_on()
            let Ok(slot) = self.slot_at(head) else { return true };
            let word = Word(slot.load(Acquire)); // pairs with publish()
            match (age(word, head), word.status()) {
                (Age::Here, Status::Full) => return false,
                _ if self.is_due(head, word) => return false,
                (Age::Here, Status::Writing) => match self.message_after(head) {
                    Some(_) => return false,
                    None if self.head(Acquire) == head => return true,
                    None => {}
                },
                (Age::Here, Status::Empty | Status::Sealed) | (Age::Behind | Age::Far, _) => {
                    if self.head(Acquire) == head {
                        return true;
                    }
                }
                (Age::Here | Age::Ahead, _) => self.pass(head, word),
            }
        }
        true
    }
}

const _: () = assert!((1 << 17) < AHEAD_MAX);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::queue::mpmc::descriptor::{Descriptor, RETURNS};
    use crate::segment::owner::OwnerId;

    const LAST: u32 = LAP_MASK;

    struct Queue {
        ring: Ring,
        slots: Box<[AtomicU64]>,
        _descriptor: Box<Descriptor>,
    }

    // SAFETY: atomics only, and the ring's pointers are to the other fields.
    unsafe impl Send for Queue {}

    fn me() -> OwnerId {
        OwnerId::new(1, 1).unwrap()
    }

    /// Creates a queue with these words.
    fn queue(head: Position, tail: Position, words: &[Word]) -> Queue {
        let descriptor = Box::new(Descriptor::new());
        descriptor.head.store(head.0, Relaxed);
        descriptor.tail.store(tail.0, Relaxed);
        let slots: Box<[AtomicU64]> = words.iter().map(|word| AtomicU64::new(word.0)).collect();
        let first = NonNull::from(&slots[..]).cast::<u8>();
        // SAFETY: descriptor and slots live as long as the ring, in the same struct; the stride is
        // that of the slots.
        let ring = unsafe {
            Ring::new(NonNull::from(&*descriptor), first, size_of::<AtomicU64>(), words.len() as u32, false)
        };
        Queue { ring, slots, _descriptor: descriptor }
    }

    fn fresh(lap: u32, capacity: usize) -> Queue {
        let at = Position::new(lap, 0);
        queue(at, at, &vec![Word::new(lap, Status::Empty, None); capacity])
    }

    impl Queue {
        fn send(&self) -> Result<u32, Blocked> {
            let mut sent = 0;
            self.ring.try_send(me(), |index| sent = index).map(|()| sent)
        }

        fn take(&self) -> Result<u32, Blocked> {
            let claim = self.ring.try_take(me())?;
            self.ring.free(me(), claim);
            Ok(claim.index)
        }
    }

    /// Runs `step` in a thread and returns its result. Fails if that takes long.
    fn ends<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || done.send(step()));
        ended.recv_timeout(Duration::from_secs(20)).expect("a call without waiting does not return")
    }

    #[test]
    fn laps_that_are_ahead_of_each_other_are_damage() {
        for capacity in [3, 300] {
            for status in [Status::Empty, Status::Full, Status::Reading, Status::Held, Status::Writing] {
                // Each is ahead of the one before, the first of the last.
                let words: Vec<Word> = (0..capacity)
                    .map(|i| Word::new((LAST / 3 + 1).wrapping_mul(i % 3), status, Some(me())))
                    .collect();
                let copy = words.clone();
                let found = ends(move || {
                    queue(Position(0), Position(0), &copy).ring.try_take(OwnerId::new(2, 1).unwrap())
                });
                assert!(matches!(found, Err(Blocked::Corrupted | Blocked::Later)), "{status:?}: {found:?}");
                let copy = words.clone();
                ends(move || queue(Position(0), Position(0), &copy).send().is_ok());
                ends(move || queue(Position(0), Position(0), &words).ring.is_empty());
            }
        }
        let words = [0, 0x55 << 23, 0x2a << 24].map(|lap| Word::new(lap + (2 << 23), Status::Empty, None));
        let (taken, sent) = ends(move || {
            let new = || queue(Position(0), Position(0), &words);
            (new().take(), new().send())
        });
        assert_eq!((taken, sent), (Err(Blocked::Corrupted), Err(Blocked::Corrupted)));
    }

    #[test]
    fn one_search_for_what_came_back_is_enough() {
        let queue = fresh(0, 3);
        let word = &queue.ring.descriptor().notices.word;
        word.fetch_or(RETURNS, Relaxed);
        assert!(queue.ring.is_empty());
        assert_eq!(word.load(Relaxed), 0, "the next call would search again");
        queue.send().unwrap();
        word.fetch_or(RETURNS, Relaxed);
        assert!(queue.ring.is_receivable() && !queue.ring.is_empty() && word.load(Relaxed) == 0);
    }

    #[test]
    fn laps_wrap() {
        for capacity in [1, 2, 5] {
            let queue = fresh(LAST - 2, capacity);
            for n in 0..6 * capacity {
                assert_eq!(queue.send(), Ok((n % capacity) as u32));
                assert_eq!(queue.take(), Ok((n % capacity) as u32));
                assert_eq!(queue.take(), Err(Blocked::Later));
                assert!(queue.ring.is_empty());
            }
            for _ in 0..6 {
                (0..capacity).for_each(|_| assert!(queue.send().is_ok()));
                assert_eq!(queue.send(), Err(Blocked::Later));
                assert!(!queue.ring.is_empty());
                (0..capacity).for_each(|_| assert!(queue.take().is_ok()));
            }
        }
    }

    #[test]
    fn a_slot_that_is_held_while_laps_wrap() {
        let queue = fresh(LAST - 2, 3);
        queue.send().unwrap();
        let held = queue.ring.try_take(OwnerId::new(2, 1).unwrap()).unwrap();
        for _ in 0..20 {
            queue.send().unwrap();
            queue.take().unwrap();
        }
        queue.ring.free(OwnerId::new(2, 1).unwrap(), held);
        (0..3).for_each(|_| assert!(queue.send().is_ok()));
        (0..3).for_each(|_| assert!(queue.take().is_ok()));
    }

    #[test]
    fn head_stays_close_where_nobody_receives() {
        // As after many abandoned loans. In the first case each loan moves `head`, in the second
        // the producer that reaches the boundary does.
        let capacity = 2;
        for (lap, gives_back) in [((1 << 30) - 5, true), ((1 << 16) - 3, false)] {
            let words = vec![Word::new(lap, Status::Empty, None); capacity];
            let queue = queue(Position(0), Position::new(lap, 0), &words);
            for _ in 0..10 * capacity {
                let claim = queue.ring.try_claim(me(), None).unwrap();
                if gives_back {
                    queue.ring.free_unsent(me(), claim);
                } else {
                    queue.ring.free(me(), claim);
                }
            }
            let distance = queue.ring.tail(Relaxed).lap() - queue.ring.head(Relaxed).lap();
            assert!(distance < 12, "head is {distance} laps behind tail");
            assert!(queue.send().is_ok() && queue.take().is_ok(), "{queue:?}");
        }
    }

    #[test]
    fn many_holes_take_as_many_steps() {
        // Held by consumers but the last: each skipped position was once a search through all that
        // follow.
        let capacity = 1 << 16;
        let mut words = vec![Word::new(0, Status::Reading, Some(OwnerId::new(2, 1).unwrap())); capacity];
        words[capacity - 1] = Word::new(1, Status::Empty, None);
        let queue = queue(Position::new(1, 0), Position::new(1, 0), &words);
        assert_eq!(ends(move || queue.send()), Ok(capacity as u32 - 1));
        // Held by producers, with one message behind them.
        let mut words = vec![Word::new(0, Status::Writing, Some(OwnerId::new(2, 1).unwrap())); capacity];
        words[capacity - 1] = Word::new(0, Status::Full, None);
        let queue = self::queue(Position(0), Position::new(1, 0), &words);
        assert_eq!(ends(move || queue.take()), Ok(capacity as u32 - 1));
    }

    impl std::fmt::Debug for Queue {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}, {} slots", self.ring, self.slots.len())
        }
    }
}
