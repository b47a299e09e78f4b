//! The pool's memory: one object in a segment of its own, and the segment's heap.
//!
//! | bytes | content |
//! |---|---|
//! | 0.. | [`PoolHeader`]: number of workers, whether it is closed, the waiters |
//! | then | the [`RunQueue`] |
//! | then | [`SLOTS`] slots of 256 bytes, each with a word ([`super::slot`]) |
//! | then | a [`WorkerSlot`] for each worker: its stage, and the slots it has finished |
//!
//! Arguments and results up to 64 bytes are stored in their slot. Longer ones are stored in a block
//! of the heap, which the pool frees when it has read it. A slot names its blocks with their
//! generations, so a free never hits a later block at the same place.

use crate::heap::Block;
use crate::loom::atomic::Ordering::{Relaxed, Release};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::loom::Ordered;
use crate::pool::completions::Completions;
use crate::pool::run_queue::{RunQueue, SLOTS};
use crate::pool::slot::SlotWord;
use crate::wait::Waiters;

/// Bytes of arguments, and of results, that fit into a slot.
pub(crate) const INLINE: usize = 64;

/// The first bytes of the object. Any bytes are a valid header.
#[repr(C, align(128))]
pub(crate) struct PoolHeader {
    pub(crate) workers: AtomicU32,
    /// Not 0: workers that find the run queue empty exit.
    pub(crate) closed: AtomicU32,
    /// Mixed into the seals: see [`SharedPool::seal`](super::shared_pool::SharedPool::seal).
    pub(crate) secret: AtomicU64,
    _apart: [u8; 112],
    /// Workers that wait for a task.
    pub(crate) work: Waiters,
    _apart2: [u8; 124],
    /// Threads of the pool's process that wait for a result.
    pub(crate) results: Waiters,
    _apart3: [u8; 124],
}

/// One task, or a chunk of them.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Slot {
    pub(crate) word: SlotWord,
    /// Number of finished tasks, whose results are stored at `output`.
    pub(crate) done: AtomicU32,
    count: AtomicU32,
    runner: AtomicU64,
    function: AtomicU64,
    seal: AtomicU64,
    input: AtomicU64,
    input_len: AtomicU64,
    /// The names of the blocks of this run; 0: none. Blocks 0 and 1 double-buffer the results;
    /// block 2 holds the error text.
    pub(crate) blocks: [AtomicU64; 3],
    /// Where the results are: 0: inline; n: in `blocks[n - 1]`.
    pub(crate) output: AtomicU32,
    pub(crate) ended: AtomicU32,
    pub(crate) text_len: AtomicU64,
    /// Not 0: the worker that finishes it wakes the monitor.
    pub(crate) needs_monitor: AtomicU32,
    /// Keeps short arguments in the cache line of the fields before.
    _apart: [u8; 20],
    /// The bytes of short arguments, then those of short results.
    pub(crate) inline: [AtomicU64; 2 * INLINE / 8],
}

/// The index in `blocks` of the error text.
pub(crate) const TEXT: usize = 2;

/// A call in a worker: the offsets in the program of the runner and of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) runner: u64,
    pub(crate) function: u64,
}

/// How a chunk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ChunkEnd {
    /// All of its tasks are done. The initial value in a slot.
    Done = 0,
    /// The task after the finished ones panicked.
    Panicked = 1,
    /// Its argument could not be read, or its result could not be stored.
    Failed = 2,
    /// The worker has reached its task limit; the other tasks are left to another worker.
    Retired = 3,
}

impl ChunkEnd {
    pub(crate) fn from_number(number: u32) -> ChunkEnd {
        let all = [ChunkEnd::Done, ChunkEnd::Panicked, ChunkEnd::Retired];
        all.into_iter().find(|end| *end as u32 == number).unwrap_or(ChunkEnd::Failed)
    }
}

/// The description of a run in a slot, protected by a seal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// The function, and the runner of its type.
    pub(crate) call: Call,
    /// Offset of the arguments in the segment, and their length in bytes.
    pub(crate) input: u64,
    pub(crate) input_len: u64,
    /// Number of tasks.
    pub(crate) count: u32,
}

const _: () = assert!(size_of::<Slot>() == 256 && size_of::<PoolHeader>() == 384);

/// The state of one worker.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct WorkerSlot {
    pub(crate) pid: AtomicU32,
    /// [`BEGINS`], [`WORKS`] or [`RETIRES`]: a worker retires when it has reached its task limit.
    pub(crate) stage: AtomicU32,
    /// The slot in progress, plus 1; 0: none.
    pub(crate) busy: AtomicU32,
    _reserved: AtomicU32,
    pub(crate) tasks: AtomicU64,
    _apart: [u8; 104],
    pub(crate) completions: Completions,
}

pub(crate) const BEGINS: u32 = 0;
pub(crate) const WORKS: u32 = 1;
pub(crate) const RETIRES: u32 = 2;

pub(crate) const RUN_QUEUE_AT: usize = size_of::<PoolHeader>();
pub(crate) const SLOTS_AT: usize = RUN_QUEUE_AT + size_of::<RunQueue>();
pub(crate) const WORKER_SLOTS_AT: usize = SLOTS_AT + SLOTS * size_of::<Slot>();

/// Returns the name of a block, which is one word: its offset in units of 16 bytes, and its
/// generation.
pub(crate) fn name_of(block: Block) -> u64 {
    ((block.at / 16) << 32) | u64::from(block.generation)
}

/// Returns the block of this name.
pub(crate) fn block_of(name: u64) -> Block {
    Block { at: (name >> 32) * 16, generation: name as u32 }
}

impl Slot {
    /// Creates a free slot.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Slot {
        let (half, word) = (|| AtomicU32::new(0), || AtomicU64::new(0));
        Slot {
            word: SlotWord::new(),
            done: half(),
            count: half(),
            runner: word(),
            function: word(),
            seal: word(),
            input: word(),
            input_len: word(),
            blocks: std::array::from_fn(|_| word()),
            output: half(),
            ended: half(),
            text_len: word(),
            needs_monitor: half(),
            _apart: [0; 20],
            inline: std::array::from_fn(|_| word()),
        }
    }

    /// Returns the job and its seal. Until the seal is checked, the job may be anything.
    pub(crate) fn job(&self) -> (Job, u64) {
        let job = Job {
            call: Call { runner: self.runner.load(Relaxed), function: self.function.load(Relaxed) },
            input: self.input.load(Relaxed),
            input_len: self.input_len.load(Relaxed),
            count: self.count.load(Relaxed),
        };
        (job, self.seal.load(Relaxed))
    }

    /// Stores the job and its seal. Published with the word.
    pub(crate) fn set_job(&self, job: Job, seal: u64) {
        self.runner.store(job.call.runner, Relaxed);
        self.function.store(job.call.function, Relaxed);
        self.input.store(job.input, Relaxed);
        self.input_len.store(job.input_len, Relaxed);
        self.count.store(job.count, Relaxed);
        self.seal.store(seal, Relaxed);
    }

    /// Raises the number of finished tasks. Only for the slot's worker.
    #[inline]
    pub(crate) fn raise(&self, done: u32) {
        self.done.store(done, Release); // pairs with the pool's Acquire: the result is there
    }

    /// Names a block of the slot, before it is published. Only for the slot's worker.
    pub(crate) fn name_block(&self, index: usize, block: Block) {
        self.blocks[index].store(name_of(block), Release); // pairs with block_bytes() and free()
    }

    /// Makes `blocks[number - 1]` the place of the results. Only for the slot's worker.
    pub(crate) fn set_output(&self, number: u32) {
        self.output.store(number, Release); // pairs with output()
    }

    /// Hands over the results of this slot, whose index is `index`. Only for `worker`, which has
    /// taken it. Returns whether the monitor is to be woken.
    #[must_use]
    pub(crate) fn hand_over(
        &self,
        (ticket, index): (u64, usize),
        worker: usize,
        completions: &Completions,
        results: &Waiters,
    ) -> bool {
        // Once the word is DONE the slot is not this worker's any more.
        let needs_monitor = self.needs_monitor.load(Relaxed) != 0;
        let is_waited_for = self.word.finish(ticket, worker);
        completions.report(index);
        if is_waited_for {
            results.notify_all(Ordered::by_fence());
        }
        needs_monitor
    }
}
