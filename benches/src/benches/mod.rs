//! The benches, one file each.

use crate::contender::Bench;

pub mod alone;
pub mod barrier;
pub mod condvar;
pub mod event;
pub mod latency;
pub mod lock;
pub mod many;
pub mod pool;
pub mod pool_start;
pub mod rwlock;
pub mod semaphore;
pub mod size;
pub mod stream;
pub mod throughput;
pub mod wake;

/// All of them, in the order in which they run.
pub const ALL: &[Bench] = &[
    latency::BENCH,
    throughput::BENCH,
    many::BENCH,
    wake::IDLE,
    wake::BUSY,
    size::BENCH,
    stream::BENCH,
    lock::UNCONTENDED,
    lock::CONTENDED,
    semaphore::UNCONTENDED,
    semaphore::PING_PONG,
    condvar::BENCH,
    rwlock::BENCH,
    event::BENCH,
    barrier::BENCH,
    pool::CHUNKS,
    pool::SINGLE,
    pool::MICROSECOND,
    pool_start::BENCH,
];
