//! What comes of deaths, stops and damage at moments that no test with processes can choose.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::batch::{Batch, Job, Outcome};
use super::desk::{name_of, Slot, TEXT};
use super::error::TaskError;
use super::line::SLOTS;
use super::rehearsal::{Rehearsal, LIMIT};
use super::sweep::InHand;
use super::worker::Hands;
use crate::process::Packer;

fn texts(n: u64) -> Vec<u8> {
    vec![n as u8; 60]
}

/// A pool whose tasks are 0, 1, 2 .., so many in each chunk.
fn pool(chunks: &[usize], retries: u32) -> Rehearsal<Vec<u8>> {
    let mut next = 0..;
    let chunks = chunks.iter().map(|count| next.by_ref().take(*count).collect()).collect();
    Rehearsal::new(texts, chunks, retries).unwrap()
}

impl<R: crate::Argument + Send + 'static> Rehearsal<R> {
    fn hands(&self, worker: usize) -> Hands<'_> {
        Hands::new(&self.core.desk, worker)
    }

    fn slot(&self, index: usize) -> &Slot {
        self.core.desk.slot(index).unwrap()
    }

    /// Works until everything has come.
    fn rest(&self) -> Vec<Result<R, TaskError>> {
        for _ in 0..100 {
            if let Some(results) = self.results() {
                return results;
            }
            while self.work(1) {}
        }
        panic!("some results never come: {}", self.words());
    }
}

/// A worker dies when its slot names a block that it has not published. It is reaped, and somebody else has its place by now.
#[test]
fn a_block_that_has_another_owner_by_now_is_not_freed() {
    for index in 1..=TEXT {
        let pool = pool(&[3], 1);
        let hands = pool.hands(0);
        hands.take().unwrap();
        let heap = &pool.core.desk.heap;
        let lost = heap.alloc(1000).unwrap();
        pool.slot(0).blocks[index].store(name_of(lost), Relaxed);
        // What a reaper does.
        heap.free(lost).unwrap();
        let theirs = heap.alloc(1000).unwrap();
        assert_eq!(theirs.at, lost.at);
        heap.publish(theirs).unwrap();
        pool.bury(0);
        assert_eq!(heap.identify(theirs.at), Some(theirs), "block {index}");
        assert!(pool.rest().iter().all(Result::is_ok));
        assert_eq!(heap.identify(theirs.at), Some(theirs), "block {index}");
        heap.free(theirs).unwrap();
        assert_eq!(pool.blocks(), 0);
    }
}

/// A worker is killed for a task, and has begun the next when the signal comes.
#[test]
fn an_innocent_task_is_not_told_that_it_took_too_long() {
    for retries in [0, 1] {
        let pool = pool(&[2], retries);
        let hands = pool.hands(0);
        let (ticket, slot) = hands.take().unwrap();
        let overdue = InHand { ticket, done: 0 };
        let now = Instant::now();
        let late = |later| pool.core.lock().late(&pool.core.desk, now + later, Duration::from_secs(1));
        assert_eq!(late(Duration::ZERO), []);
        assert_eq!(late(Duration::from_millis(500)), []);
        assert_eq!(late(Duration::from_secs(2)), [(0, overdue)]);
        // It is through with the first, and in the second.
        hands.run(ticket, slot, 1).unwrap();
        pool.core.lock().bury(&pool.core, 0, 0, None, Some(overdue), None);
        assert_eq!(pool.rest(), [Ok(texts(0)), Ok(texts(1))]);
    }
}

#[test]
fn a_task_that_took_too_long_is_told_so() {
    let pool = pool(&[2], 0);
    let hands = pool.hands(0);
    let (ticket, slot) = hands.take().unwrap();
    hands.run(ticket, slot, 1).unwrap();
    pool.core.lock().bury(&pool.core, 0, 0, None, Some(InHand { ticket, done: 1 }), None);
    assert_eq!(pool.rest(), [Ok(texts(0)), Err(TaskError::TimedOut(LIMIT))]);
}

/// Nor does it count as a try of the task.
#[test]
fn a_death_by_mistake_is_no_try() {
    let pool = pool(&[1], 1);
    for round in 0..5 {
        let (ticket, _) = pool.hands(0).take().unwrap();
        let other = InHand { ticket: ticket + 7, done: 0 };
        pool.core.lock().bury(&pool.core, 0, 0, None, Some(other), None);
        assert_eq!(pool.done(), 0, "round {round}");
    }
    pool.hands(0).take().unwrap();
    pool.bury(0);
    assert_eq!(pool.rest(), [Ok(texts(0))]);
}

/// Stopped when the word says DONE and the hint does not stand there yet.
#[test]
fn a_result_without_a_hint_is_seen() {
    for waits in [false, true] {
        let pool = pool(&[2], 0);
        let hands = pool.hands(0);
        let (ticket, slot) = hands.take().unwrap();
        hands.run(ticket, slot, 9).unwrap();
        assert!(!pool.slot(slot).word.finish(ticket, 0));
        let seen = pool.core.desk.head().results.announce();
        assert!(!pool.core.turn(&mut VecDeque::new()), "there is no hint");
        if waits {
            // Who is about to sleep takes it itself, and tells those who sleep.
            pool.core.lock().wait_for(&pool.core.desk, pool.outcome.id, 2);
            assert_eq!(pool.outcome.lock().done, 2);
            assert!(pool.core.turn(&mut VecDeque::new()));
            assert_ne!(pool.core.desk.head().results.announce(), seen);
        }
        assert_eq!(pool.results().unwrap(), [Ok(texts(0)), Ok(texts(1))]);
        assert_eq!(pool.blocks(), 0);
    }
}

/// Many wait, and each looks at the end of its slice: that alone is no reason to wake the others.
#[test]
fn a_look_that_finds_nothing_wakes_nobody() {
    let pool = pool(&[1], 0);
    let results = &pool.core.desk.head().results;
    let seen = results.announce();
    pool.core.tend();
    assert_eq!(results.announce(), seen);
    let (ticket, slot) = pool.hands(0).take().unwrap();
    pool.hands(0).run(ticket, slot, 9).unwrap();
    assert!(!pool.slot(slot).word.finish(ticket, 0));
    pool.core.tend();
    assert_ne!(results.announce(), seen);
}

/// Stopped between taking and saying that it is busy, or between no more saying so and the end.
#[test]
fn a_worker_at_the_edge_of_a_task_is_late_too() {
    let pool = pool(&[2], 0);
    let hands = pool.hands(0);
    let (ticket, slot) = hands.take().unwrap();
    assert_eq!(pool.late(), [0]);
    hands.run(ticket, slot, 9).unwrap();
    assert_eq!(pool.core.desk.bench(0).unwrap().busy.load(Relaxed), 0);
    assert_eq!((pool.late(), pool.running()), (vec![0], vec![0]));
    let _ = hands.finish(ticket, slot);
    assert_eq!(pool.late(), []);
}

/// It comes to an end.
fn in_time(body: impl FnOnce() + Send + 'static) {
    let (sender, over) = channel::<()>();
    let thread = std::thread::spawn(move || {
        // It goes with the thread, however that ends.
        let _sender = sender;
        body();
    });
    let end = over.recv_timeout(Duration::from_secs(60));
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "it does not come to an end");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The numbers of the words in the sense of [`Rehearsal::damage`].
const TAIL: usize = 0;
const HEAD: usize = 3 * 16;
const ORDER: usize = 3 * 32;
const WORD: usize = 1;

#[test]
fn a_damaged_line_is_written_again() {
    in_time(|| {
        for value in [0, 1, 5, 1 << 47, 1 << 48, 1 << 63, u64::MAX - 1, u64::MAX] {
            for place in [TAIL, HEAD, ORDER, ORDER + 3] {
                for (before, after) in [(0, 0), (1, 0), (0, 6), (2, 6)] {
                    damage_the_line(place, value, before, after);
                }
            }
        }
    });
}

/// Damage after so many chunks, and so many looks for more before the pool looks.
fn damage_the_line(place: usize, value: u64, before: usize, after: usize) {
    let pool = pool(&[2, 1, 1, 4], 0);
    (0..before).for_each(|_| assert!(pool.work(0)));
    pool.damage(place, |_| value);
    (0..after).for_each(|_| _ = pool.work(0));
    let expected: Vec<_> = (0..8).map(|n| Ok(texts(n))).collect();
    assert_eq!(pool.rest(), expected, "place {place}, value {value:#x}, {before}, {after}");
    assert_eq!(pool.blocks(), 0);
}

#[test]
fn a_damaged_word_loses_its_tasks_only() {
    let pool = pool(&[2, 2], 0);
    pool.damage(WORD, |_| 0x1234_5678_9abc_def0);
    let results = pool.rest();
    assert!(results[..2].iter().all(|result| matches!(result, Err(TaskError::Lost(_)))), "{results:?}");
    assert_eq!(results[2..], [Ok(texts(2)), Ok(texts(3))]);
}

/// A slot out of use is one less; when none is left, the pool says so.
#[test]
fn a_pool_without_slots_is_broken() {
    let pool = pool(&[1; SLOTS], 0);
    (0..SLOTS).for_each(|index| pool.slot(index).word.clear());
    assert!(pool.rest().iter().all(|result| matches!(result, Err(TaskError::Lost(_)))));
    assert!(matches!(pool.core.check(), Err(TaskError::Broken(_))));
}

/// Nothing of what a slot says makes anybody read or write more than there is.
#[test]
fn a_damaged_slot_is_an_error() {
    for word in 0..14 {
        for value in [1, 3, 8 << 30, 1 << 32, u64::MAX] {
            for done in [false, true] {
                let pool = pool(&[2, 2], 0);
                let hands = pool.hands(0);
                let work = || {
                    let (ticket, slot) = hands.take().unwrap();
                    hands.run(ticket, slot, 9).unwrap();
                    (ticket, slot)
                };
                let ran = done.then(work);
                // Not the slot's word, which is its first.
                pool.damage(1 + 3 * (word + 1), |_| value);
                let (ticket, slot) = ran.unwrap_or_else(work);
                let _ = hands.finish(ticket, slot);
                for (n, result) in pool.rest().into_iter().enumerate() {
                    match result {
                        Ok(bytes) => assert_eq!(bytes, texts(n as u64), "word {word}, value {value:#x}"),
                        Err(error) => assert!(matches!(error, TaskError::Lost(_)) && n < 2, "{error}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_damaged_count_is_not_believed() {
    let pool: Rehearsal<u64> = Rehearsal::new(|()| 7, vec![vec![(); 3]], 0).unwrap();
    // The upper half of the second word.
    pool.damage(1 + 3, |word| word | 0xffff_ffff << 32);
    let results = pool.rest();
    assert!(matches!(results[0], Err(TaskError::Lost(_))) && results[1..] == [Ok(7), Ok(7)], "{results:?}");
}

/// Any values anywhere, at any time: everything comes to an end, without a panic.
#[test]
fn random_damage() {
    in_time(|| {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        (0..3000).for_each(|_| damage_at_random(&mut next));
    });
}

fn damage_at_random(mut next: impl FnMut() -> u64) {
    let pool = pool(&[3, 1, 5, 1], 0);
    for _ in 0..next() % 12 {
        let (place, value) = (next() as usize, next());
        match next() % 8 {
            0 => _ = pool.work(0),
            1 => _ = pool.work(1),
            2 => _ = pool.done(),
            3 => pool.damage(place, |_| value),
            4 => pool.damage(place, |_| value % 16),
            5 => pool.damage(place, |word| word ^ 1 << (value % 64)),
            6 => pool.damage(place, |word| word.wrapping_add(value % 3).wrapping_sub(1)),
            _ => pool.damage(place, |_| if value % 2 == 0 { u64::MAX } else { 1 << 63 }),
        }
    }
    // A word that says that a worker has it is believed until that one ends.
    (0..2).for_each(|worker| pool.bury(worker));
    assert_eq!(pool.rest().len(), 10);
}

fn batch<R: crate::Argument + Send>(count: usize, bytes: &[u8]) -> Vec<Result<R, TaskError>> {
    let outcome = Outcome::new(Some(count), false, None);
    let arguments = PhantomData::<fn(u64)>;
    let batch = Batch { outcome: outcome.clone(), runner: 0, retries: 0, calls: false, arguments };
    batch.results(0, count, bytes);
    let all = outcome.lock().take_all();
    all
}

fn packed<R: crate::Argument>(values: Vec<R>) -> Vec<u8> {
    let mut packer = Packer::for_parent();
    R::pack_all(values, &mut packer).unwrap();
    packer.finish().bytes
}

/// Behind a damaged result nobody knows where the next one begins.
#[test]
fn after_a_damaged_result_none_is_made_up() {
    // Each is a 1, its length, and what reads as the same again.
    let mut bytes = packed(vec![packed(vec![vec![3u8]; 4]); 3]);
    assert!(batch::<Vec<u8>>(3, &bytes).iter().all(Result::is_ok));
    bytes[1..9].copy_from_slice(&u64::MAX.to_le_bytes());
    let results = batch::<Vec<u8>>(3, &bytes);
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Lost(_)))), "{results:?}");
    // Those of one size are found.
    let results = batch::<bool>(3, &[1, 7, 0]);
    assert!(results[0] == Ok(true) && results[1].is_err() && results[2] == Ok(false), "{results:?}");
}

/// The pool has no more blocks than its slots name, whatever the results needed.
#[test]
fn results_that_grow_leave_nothing() {
    let grow = |n: u64| vec![n as u8; 1 << n];
    let pool: Rehearsal<Vec<u8>> = Rehearsal::new(grow, vec![(0..16).collect()], 0).unwrap();
    let hands = pool.hands(0);
    let (ticket, slot) = hands.take().unwrap();
    hands.run(ticket, slot, 99).unwrap();
    assert!(pool.slot(slot).output.load(Acquire) > 0 && pool.blocks() > 0);
    let _ = hands.finish(ticket, slot);
    assert_eq!(pool.rest(), (0..16).map(|n| Ok(grow(n))).collect::<Vec<_>>());
    assert_eq!(pool.blocks(), 0);
}
