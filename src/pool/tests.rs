//! Deaths, stops and damage at moments that no test with processes can choose.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::batch::{Batch, Outcome};
use super::error::TaskError;
use super::layout::Call;
use super::packed_chunk::AnyBatch;
use super::worker::Executor;
use crate::pool::layout::{name_of, Slot, TEXT};
use crate::pool::run_queue::SLOTS;
use crate::pool::slot::RunningTask;
use crate::pool::supervisor::Ended;
use crate::process::Packer;
use crate::testing::pool::{Rehearsal, LIMIT};

fn texts(n: u64) -> Vec<u8> {
    vec![n as u8; 60]
}

/// Creates a pool whose tasks are 0, 1, 2 .., with these numbers of tasks in its chunks.
fn pool(chunks: &[usize], retries: u32) -> Rehearsal<Vec<u8>> {
    let mut next = 0..;
    let chunks = chunks.iter().map(|count| next.by_ref().take(*count).collect()).collect();
    Rehearsal::new(texts, chunks, retries).unwrap()
}

impl<R: crate::process::Argument + Send + 'static> Rehearsal<R> {
    fn executor(&self, worker: usize) -> Executor<'_> {
        Executor::new(&self.engine.shared.memory, worker)
    }

    fn slot(&self, index: usize) -> &Slot {
        self.engine.shared.memory.slot(index).unwrap()
    }

    /// Reaps worker number 0, which the pool has killed for this task.
    fn reap_overdue(&self, task: RunningTask) {
        let ended = Ended { index: 0, pid: 0, exit: None, overdue: Some(task), text: None };
        self.engine.lock().reap_worker(&self.engine.shared, ended);
    }

    /// Works until all results have arrived.
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

/// A worker dies when its slot names a block that it has not published. The block is reaped, and
/// its place has another owner by now.
#[test]
fn a_block_that_has_another_owner_by_now_is_not_freed() {
    for index in 1..=TEXT {
        let pool = pool(&[3], 1);
        let executor = pool.executor(0);
        executor.take().unwrap();
        let heap = &pool.engine.shared.memory.heap;
        let lost = heap.alloc(1000).unwrap();
        pool.slot(0).blocks[index].store(name_of(lost), Relaxed);
        // As a reaper does.
        heap.free(lost).unwrap();
        let theirs = heap.alloc(1000).unwrap();
        assert_eq!(theirs.at, lost.at);
        heap.publish(theirs).unwrap();
        pool.reap_worker(0);
        assert_eq!(heap.identify(theirs.at), Some(theirs), "block {index}");
        assert!(pool.rest().iter().all(Result::is_ok));
        assert_eq!(heap.identify(theirs.at), Some(theirs), "block {index}");
        heap.free(theirs).unwrap();
        assert_eq!(pool.blocks(), 0);
    }
}

/// A worker is killed for a task, and has begun the next when the signal arrives.
#[test]
fn an_innocent_task_is_not_told_that_it_took_too_long() {
    for retries in [0, 1] {
        let pool = pool(&[2], retries);
        let executor = pool.executor(0);
        let (ticket, slot) = executor.take().unwrap();
        let overdue = RunningTask { ticket, done: 0 };
        let now = Instant::now();
        let late = |later| {
            pool.engine.lock().table.overdue(&pool.engine.shared.memory, now + later, Duration::from_secs(1))
        };
        assert_eq!(late(Duration::ZERO), []);
        assert_eq!(late(Duration::from_millis(500)), []);
        assert_eq!(late(Duration::from_secs(2)), [(0, overdue)]);
        // It has finished the first task, and is in the second.
        executor.run(ticket, slot, 1).unwrap();
        pool.reap_overdue(overdue);
        assert_eq!(pool.rest(), [Ok(texts(0)), Ok(texts(1))]);
    }
}

#[test]
fn a_task_that_took_too_long_is_told_so() {
    let pool = pool(&[2], 0);
    let executor = pool.executor(0);
    let (ticket, slot) = executor.take().unwrap();
    executor.run(ticket, slot, 1).unwrap();
    pool.reap_overdue(RunningTask { ticket, done: 1 });
    assert_eq!(pool.rest(), [Ok(texts(0)), Err(TaskError::TimedOut(LIMIT))]);
}

/// Nor does the death count as a try of the task.
#[test]
fn a_death_by_mistake_is_not_a_try() {
    let pool = pool(&[1], 1);
    for round in 0..5 {
        let (ticket, _) = pool.executor(0).take().unwrap();
        let other = RunningTask { ticket: ticket + 7, done: 0 };
        pool.reap_overdue(other);
        assert_eq!(pool.done(), 0, "round {round}");
    }
    pool.executor(0).take().unwrap();
    pool.reap_worker(0);
    assert_eq!(pool.rest(), [Ok(texts(0))]);
}

/// The worker is stopped when the word says DONE, before it reports the completion.
#[test]
fn a_result_without_a_hint_is_seen() {
    for waits in [false, true] {
        let pool = pool(&[2], 0);
        let executor = pool.executor(0);
        let (ticket, slot) = executor.take().unwrap();
        executor.run(ticket, slot, 9).unwrap();
        assert!(!pool.slot(slot).word.finish(ticket, 0));
        let seen = pool.engine.shared.memory.header().results.announce();
        assert!(!pool.engine.collect_and_submit(&mut VecDeque::new()), "there is no hint");
        if waits {
            // A thread that is about to sleep collects the result itself, and wakes the sleeping
            // ones.
            pool.engine.lock().table.wait_for(&pool.engine.shared.memory, pool.outcome.id, 2);
            assert_eq!(pool.outcome.lock().done, 2);
            assert!(pool.engine.collect_and_submit(&mut VecDeque::new()));
            assert_ne!(pool.engine.shared.memory.header().results.announce(), seen);
        }
        assert_eq!(pool.results().unwrap(), [Ok(texts(0)), Ok(texts(1))]);
        assert_eq!(pool.blocks(), 0);
    }
}

/// Every waiter checks at the end of its slice, so that alone is no reason to wake the others.
#[test]
fn a_check_that_finds_nothing_wakes_nobody() {
    let pool = pool(&[1], 0);
    let results = &pool.engine.shared.memory.header().results;
    let seen = results.announce();
    pool.engine.reap_and_audit();
    assert_eq!(results.announce(), seen);
    let (ticket, slot) = pool.executor(0).take().unwrap();
    pool.executor(0).run(ticket, slot, 9).unwrap();
    assert!(!pool.slot(slot).word.finish(ticket, 0));
    pool.engine.reap_and_audit();
    assert_ne!(results.announce(), seen);
}

/// The worker is stopped between taking the slot and setting `busy`, or between clearing it and the
/// end.
#[test]
fn a_worker_at_the_edge_of_a_task_is_late_too() {
    let pool = pool(&[2], 0);
    let executor = pool.executor(0);
    let (ticket, slot) = executor.take().unwrap();
    assert_eq!(pool.overdue(), [0]);
    executor.run(ticket, slot, 9).unwrap();
    assert_eq!(pool.engine.shared.memory.worker_slot(0).unwrap().busy.load(Relaxed), 0);
    assert_eq!((pool.overdue(), pool.running()), (vec![0], vec![0]));
    let _ = executor.finish(ticket, slot);
    assert_eq!(pool.overdue(), []);
}

/// Fails if `body` does not end.
fn in_time(body: impl FnOnce() + Send + 'static) {
    let (sender, over) = channel::<()>();
    let thread = std::thread::spawn(move || {
        // Dropped with the thread, however that ends.
        let _sender = sender;
        body();
    });
    let end = over.recv_timeout(Duration::from_secs(60));
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "it never ends");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The numbers of the words as [`Rehearsal::damage`] counts them.
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

/// Damages a word after `before` chunks; then a worker tries to take `after` more before the pool
/// checks.
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

/// Each damaged slot is one less; when none is left, the pool is broken.
#[test]
fn a_pool_without_slots_is_broken() {
    let pool = pool(&[1; SLOTS], 0);
    (0..SLOTS).for_each(|index| pool.slot(index).word.clear());
    assert!(pool.rest().iter().all(|result| matches!(result, Err(TaskError::Lost(_)))));
    assert!(matches!(pool.engine.check(), Err(TaskError::Broken(_))));
}

/// No value in a slot makes anybody read or write out of bounds.
#[test]
fn a_damaged_slot_is_an_error() {
    for word in 0..14 {
        for value in [1, 3, 8 << 30, 1 << 32, u64::MAX] {
            for done in [false, true] {
                let pool = pool(&[2, 2], 0);
                let executor = pool.executor(0);
                let work = || {
                    let (ticket, slot) = executor.take().unwrap();
                    executor.run(ticket, slot, 9).unwrap();
                    (ticket, slot)
                };
                let ran = done.then(work);
                // Not the slot's word, which is the first.
                pool.damage(1 + 3 * (word + 1), |_| value);
                let (ticket, slot) = ran.unwrap_or_else(work);
                let _ = executor.finish(ticket, slot);
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

/// Any values anywhere, at any time: all tasks end, without a panic.
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
    // A word that names a worker is believed until that worker ends.
    (0..2).for_each(|worker| pool.reap_worker(worker));
    assert_eq!(pool.rest().len(), 10);
}

fn batch<R: crate::process::Argument + Send>(count: usize, bytes: &[u8]) -> Vec<Result<R, TaskError>> {
    let outcome = Outcome::new(Some(count), false, None);
    let arguments = PhantomData::<fn(u64)>;
    let batch = Batch {
        outcome: outcome.clone(),
        call: Call { runner: 0, function: 0 },
        retries: 0,
        needs_monitor: false,
        arguments,
    };
    batch.results(0, count, bytes);
    outcome.lock().take_all()
}

fn packed<R: crate::process::Argument>(values: Vec<R>) -> Vec<u8> {
    let mut packer = Packer::for_parent();
    R::pack_all(values, &mut packer).unwrap();
    packer.finish().bytes
}

/// After a damaged result nobody knows where the next one begins.
#[test]
fn after_a_damaged_result_none_is_made_up() {
    // Each is a 1, its length, and bytes that read as the same again.
    let mut bytes = packed(vec![packed(vec![vec![3u8]; 4]); 3]);
    assert!(batch::<Vec<u8>>(3, &bytes).iter().all(Result::is_ok));
    bytes[1..9].copy_from_slice(&u64::MAX.to_le_bytes());
    let results = batch::<Vec<u8>>(3, &bytes);
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Lost(_)))), "{results:?}");
    // Values of a fixed size are found.
    let results = batch::<bool>(3, &[1, 7, 0]);
    assert!(results[0] == Ok(true) && results[1].is_err() && results[2] == Ok(false), "{results:?}");
}

/// All blocks of the pool are named by its slots, whatever the results needed.
#[test]
fn results_that_grow_leave_nothing() {
    let grow = |n: u64| vec![n as u8; 1 << n];
    let pool: Rehearsal<Vec<u8>> = Rehearsal::new(grow, vec![(0..16).collect()], 0).unwrap();
    let executor = pool.executor(0);
    let (ticket, slot) = executor.take().unwrap();
    executor.run(ticket, slot, 99).unwrap();
    assert!(pool.slot(slot).output.load(Acquire) > 0 && pool.blocks() > 0);
    let _ = executor.finish(ticket, slot);
    assert_eq!(pool.rest(), (0..16).map(|n| Ok(grow(n))).collect::<Vec<_>>());
    assert_eq!(pool.blocks(), 0);
}
