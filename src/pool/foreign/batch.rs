//! The results of the tasks of one call, as bytes.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::heap::Block;
use crate::pool::error::TaskError;
use crate::pool::foreign::news::News;
use crate::pool::layout::{name_of, Call};
use crate::pool::packed_chunk::AnyBatch;
use crate::pool::shared_pool::SharedPool;
use crate::pool::slot_table::SlotMemory;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Returns the length in bytes of the first arguments or results, as many as the number says;
/// `None` if the bytes are damaged.
pub(super) type Skip = fn(&[u8], usize) -> Option<usize>;

/// Results longer than this keep the bytes in which they arrived, so that these need not be copied
/// as more arrive.
const LONG: usize = 16 << 10;

/// Where the results of a chunk are, or why it has none.
#[derive(Debug)]
enum Outcome {
    /// In the bytes that all short results share.
    Short(Range<usize>),
    Long(Vec<u8>),
    Failed(TaskError),
}

#[derive(Debug, Default)]
struct Arrived {
    parts: Vec<(usize, usize, Outcome)>,
    bytes: Vec<u8>,
    /// Number of tasks whose outcome has arrived.
    done: usize,
    /// Number of tasks; unknown while tasks are still being submitted.
    total: Option<usize>,
    /// Whether the waiter is to be told, or has been told, of what is here.
    is_listed: bool,
}

/// What the pool and the handles of a batch share.
#[derive(Debug)]
pub(super) struct Shared {
    id: u64,
    call: Call,
    /// The block with the function's bytes.
    function: Option<Block>,
    memory: SharedPool,
    /// The process that created the batch, and no fork of it.
    epoch: u32,
    skip: Skip,
    is_stream: bool,
    news: Arc<News>,
    arrived: Mutex<Arrived>,
}

/// The tasks of one call, and their results as they arrive.
#[derive(Debug, Clone)]
pub struct ForeignBatch(pub(super) Arc<Shared>);

impl ForeignBatch {
    /// Creates a batch whose function is `function`, which workers read, and whose chunks have
    /// `kind`, which they are told.
    pub(super) fn new(
        memory: &SharedPool,
        news: &Arc<News>,
        skip: Skip,
        kind: u64,
        function: &[u8],
        is_stream: bool,
        total: Option<usize>,
    ) -> Result<ForeignBatch> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let block = if function.is_empty() { None } else { Some(store(memory, function)?) };
        Ok(ForeignBatch(Arc::new(Shared {
            id: COUNT.fetch_add(1, Relaxed),
            call: Call { runner: kind, function: block.map_or(0, name_of) },
            function: block,
            memory: memory.clone(),
            epoch: fork::epoch(),
            skip,
            is_stream,
            news: news.clone(),
            arrived: Mutex::new(Arrived { total, ..Arrived::default() }),
        })))
    }

    /// Returns a number that no other batch of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Says that no more than `total` tasks are submitted.
    pub(super) fn set_total(&self, total: usize) {
        self.0.change(|arrived| arrived.total = Some(total));
    }

    /// Returns whether the outcomes of all tasks have arrived.
    pub fn is_complete(&self) -> bool {
        self.0.lock().is_complete()
    }

    /// Removes what has arrived.
    pub fn take(&self) -> Results {
        let mut arrived = self.0.lock();
        arrived.is_listed = false;
        Results { parts: std::mem::take(&mut arrived.parts), bytes: std::mem::take(&mut arrived.bytes) }
    }
}

fn store(memory: &SharedPool, bytes: &[u8]) -> Result<Block> {
    let block = memory.heap.alloc(bytes.len().max(1))?;
    let damaged = || Error::new(ErrorKind::Corrupted, "the pool's memory is damaged");
    let to = memory.bytes(block.at, bytes.len() as u64).ok_or_else(damaged)?;
    // SAFETY: mapped, and ours by the allocation.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    memory.heap.publish(block)?;
    Ok(block)
}

impl Arrived {
    fn is_complete(&self) -> bool {
        self.total == Some(self.done)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what has arrived, and lists the batch if that is of interest.
    fn change(&self, change: impl FnOnce(&mut Arrived)) {
        let mut arrived = self.lock();
        change(&mut arrived);
        let is_new = self.is_stream || arrived.is_complete();
        if is_new && !std::mem::replace(&mut arrived.is_listed, true) {
            self.news.add(self.id);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A fork has a copy of the batch, and the block is not its own.
        if let Some(block) = self.function.filter(|_| self.epoch == fork::epoch()) {
            self.memory.free(block);
        }
    }
}

impl AnyBatch for Shared {
    fn id(&self) -> u64 {
        self.id
    }

    fn function_call(&self) -> Call {
        self.call
    }

    fn retries(&self) -> u32 {
        0
    }

    fn needs_monitor(&self) -> bool {
        false
    }

    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool {
        // These are all bytes that the worker has room for, not only those that it has used.
        let Some(bytes) = (self.skip)(bytes, count).and_then(|len| bytes.get(..len)) else {
            return self.failed(first, count, &TaskError::Lost("the task's results are damaged".into()));
        };
        self.change(|arrived| {
            let outcome = if bytes.len() > LONG {
                Outcome::Long(bytes.to_vec())
            } else {
                let start = arrived.bytes.len();
                arrived.bytes.extend_from_slice(bytes);
                Outcome::Short(start..arrived.bytes.len())
            };
            arrived.parts.push((first, count, outcome));
            arrived.done += count;
        });
        false
    }

    fn failed(&self, first: usize, count: usize, error: &TaskError) -> bool {
        self.change(|arrived| {
            arrived.parts.push((first, count, Outcome::Failed(error.clone())));
            arrived.done += count;
        });
        false
    }

    fn skip(&self, bytes: &[u8], count: usize) -> Result<usize> {
        let damaged = || Error::new(ErrorKind::Corrupted, "the task's arguments are damaged");
        (self.skip)(bytes, count).filter(|skipped| *skipped <= bytes.len()).ok_or_else(damaged)
    }

    fn run_callback(&self) {}
}

/// What has arrived for a batch, in the order of arrival.
pub struct Results {
    parts: Vec<(usize, usize, Outcome)>,
    bytes: Vec<u8>,
}

/// The outcome of some tasks that follow each other.
#[derive(Debug)]
pub struct Part<'a> {
    /// The number of the first one in the batch.
    pub first: usize,
    /// The number of tasks.
    pub count: usize,
    /// Their results, one after the other, or the error that each of them got.
    pub outcome: Result<&'a [u8], &'a TaskError>,
}

impl Results {
    /// Returns the parts, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = Part<'_>> {
        self.parts.iter().map(|(first, count, outcome)| {
            let outcome = match outcome {
                Outcome::Short(range) => Ok(&self.bytes[range.clone()]),
                Outcome::Long(bytes) => Ok(&bytes[..]),
                Outcome::Failed(error) => Err(error),
            };
            Part { first: *first, count: *count, outcome }
        })
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}
