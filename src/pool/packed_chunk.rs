//! Batches and chunks as the scheduler stores them: without the types of their function.

use std::sync::Arc;
use std::time::Instant;

use crate::heap::Block;
use crate::pool::error::TaskError;
use crate::pool::layout::Call;
use crate::Result;

/// A batch of any types, as the scheduler stores it.
pub(crate) trait AnyBatch: Send + Sync {
    fn id(&self) -> u64;
    /// Returns the call of its function in a worker.
    fn function_call(&self) -> Call;
    /// Returns how many times a task is run again after its worker died.
    fn retries(&self) -> u32;
    /// Returns whether the monitor must collect its results, also if no thread waits.
    fn needs_monitor(&self) -> bool;
    /// Takes the results of `count` tasks from `first` on. Returns whether the callback is due.
    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool;
    /// Takes the error of `count` tasks from `first` on. Returns whether the callback is due.
    fn failed(&self, first: usize, count: usize, error: &TaskError) -> bool;
    /// Returns the length of the first `count` arguments in bytes.
    fn skip(&self, bytes: &[u8], count: usize) -> Result<usize>;
    /// Runs its callback. The caller holds no lock of the pool.
    fn run_callback(&self);
}

/// A chunk that has no slot yet.
pub(crate) struct PackedChunk {
    pub(crate) batch: Arc<dyn AnyBatch>,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) bytes: Vec<u8>,
    /// The expected size of the results in bytes.
    pub(crate) room: usize,
}

/// The contents of a slot, as far as only the pool's process needs to know them.
pub(super) struct SlottedChunk {
    pub(super) batch: Arc<dyn AnyBatch>,
    /// The number of its first task in the batch, and the number of its tasks.
    pub(super) first: usize,
    pub(super) count: usize,
    /// How often a worker died in its first task.
    pub(super) tries: u32,
    pub(super) ticket: u64,
    /// The block of the arguments; `None` if they are in the slot.
    pub(super) block: Option<Block>,
    /// Offset of the arguments in the segment, and their length in bytes.
    pub(super) input: u64,
    pub(super) input_len: u64,
    /// The number of finished tasks, and when it was first seen; `None` if it has not been seen
    /// running yet.
    pub(super) progress: Option<(u32, Instant)>,
}
