//! The benches, one file each.

use crate::contender::Bench;

pub mod alone;
pub mod barrier;
pub mod call;
pub mod condvar;
pub mod dict;
pub mod event;
pub mod fan_out;
pub mod latency;
pub mod list;
pub mod lock;
pub mod many;
pub mod pool;
pub mod pool_start;
pub mod publish;
pub mod rwlock;
pub mod semaphore;
pub mod size;
pub mod stream;
pub mod throughput;
pub mod timed;
pub mod value;
pub mod wake;

/// All benches, in the order in which they run.
pub const ALL: &[Bench] = &[
    latency::BENCH,
    throughput::BENCH,
    many::BENCH,
    fan_out::BENCH,
    publish::BENCH,
    call::BUSY,
    call::BLOCKING,
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
    value::GET,
    value::SET,
    dict::GET,
    dict::INSERT,
    dict::REPLACE,
    dict::REMOVE,
    list::PUSH,
    list::GET,
    pool::CHUNKS,
    pool::SINGLE,
    pool::MICROSECOND,
    pool_start::BENCH,
];
