//! Forks, results that cannot be stored, and chunks of very many tasks.

use std::time::Duration;

use super::{ForeignBatch, ForeignChunk, ForeignPool, ForeignWorker, Found, RunningChunk};
use crate::{ErrorKind, Segment};

#[path = "../../../tests/support/forked.rs"]
mod forked;
use forked::Forked;

/// The length of each argument and of each result.
const LEN: usize = 8;

/// Creates a pool and its only worker.
fn pool(segment: &Segment) -> (ForeignPool, ForeignWorker) {
    let skip = |_: &[u8], count: usize| count.checked_mul(LEN);
    let pool = ForeignPool::create(segment.at("pool"), 1, skip).unwrap();
    (pool, ForeignWorker::open(segment.at("pool"), 0).unwrap())
}

fn submit(pool: &ForeignPool, batch: &ForeignBatch, count: usize) {
    pool.submit(batch, [ForeignChunk { first: 0, count, bytes: vec![0; 2 * LEN] }]);
}

fn take(worker: &ForeignWorker) -> RunningChunk<'_> {
    match worker.take(Duration::ZERO) {
        Some(Found::Chunk(chunk)) => chunk,
        other => panic!("no chunk, but {other:?}"),
    }
}

#[test]
fn a_fork_that_drops_a_batch_takes_its_function_from_nobody() {
    let (pool, worker) = pool(&Segment::new(1 << 22).unwrap());
    let mut batch = Some(pool.batch(7, b"function", false, Some(2)).unwrap());
    let child = Forked::run(|| {
        drop(batch.take());
        0
    });
    assert_eq!(child.wait(), 0);
    submit(&pool, batch.as_ref().unwrap(), 2);
    assert!(take(&worker).function().unwrap().starts_with(b"function"));
}

#[test]
fn a_result_that_cannot_be_stored_changes_no_other() {
    let (pool, worker) = pool(&Segment::new(1 << 22).unwrap());
    let batch = pool.batch(7, b"", false, Some(2)).unwrap();
    submit(&pool, &batch, 2);
    let mut chunk = take(&worker);
    chunk.push(&[1; LEN]).unwrap();
    assert_eq!(chunk.push(&vec![2; 16 << 20]).unwrap_err().kind(), ErrorKind::OutOfMemory);
    chunk.push(&[3; LEN]).unwrap();
    drop(chunk);
    pool.wait(Duration::ZERO);
    let results = batch.take();
    let parts: Vec<_> = results.iter().map(|part| part.outcome.unwrap()).collect();
    assert_eq!(parts, [[[1; LEN], [3; LEN]].concat()]);
}

#[test]
fn a_chunk_of_more_tasks_than_a_slot_counts_has_some() {
    let (pool, worker) = pool(&Segment::new(1 << 22).unwrap());
    let count = 1 << 32;
    let batch = pool.batch(7, b"", false, Some(count)).unwrap();
    submit(&pool, &batch, count);
    assert_eq!(take(&worker).count(), u32::MAX as usize);
}
