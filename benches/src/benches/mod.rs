//! The benches, one file each.

use crate::contender::Bench;

pub mod latency;
pub mod many;
pub mod size;
pub mod stream;
pub mod throughput;
pub mod wake;

/// All of them, in the order in which they run.
pub const ALL: &[Bench] =
    &[latency::BENCH, throughput::BENCH, many::BENCH, wake::IDLE, wake::BUSY, size::BENCH, stream::BENCH];
