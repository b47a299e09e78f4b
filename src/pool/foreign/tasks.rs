//! The pool's side: submits chunks, waits for results, and recovers what dead workers were running.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::Ordered;
use crate::pool::error::TaskError;
use crate::pool::foreign::batch::{ForeignBatch, Skip};
use crate::pool::foreign::news::News;
use crate::pool::layout::BEGINS;
use crate::pool::packed_chunk::{AnyBatch, PackedChunk};
use crate::pool::shared_pool::{Initial, SharedPool};
use crate::pool::slot_table::SlotTable;
use crate::segment::object::Object;
use crate::segment::place::Place;
use crate::sys::clock::{Deadline, Until};
use crate::sys::fork;
use crate::wait::{wait_by, Pace};
use crate::{Error, ErrorKind, Result};

/// One check for results takes as long as this many checks of a word.
const CHECK_COST: u32 = 4;
/// With more chunks than this for each worker there are many: their results are collected from time
/// to time, and not one by one.
const FEW: usize = 4;
/// How long the waiter sleeps then. Every result is seen by the end of that time.
const PAUSE_NANOS: u64 = 500_000;
/// Chunks are given slots while the arguments in slots are not longer than this, or there are few.
const STORED_MAX: u64 = 256 << 20;
/// There is room for more while the arguments of chunks without a slot are not longer than this.
const BACKLOG_MAX: usize = 64 << 20;
/// Expected bytes of a result.
const ROOM: usize = 10;

/// Tasks that follow each other, and that one worker runs in order.
#[derive(Debug)]
pub struct ForeignChunk {
    /// The number of the first task in the batch.
    pub first: usize,
    /// The number of tasks, at least 1.
    pub count: usize,
    /// Their arguments.
    pub bytes: Vec<u8>,
}

struct State {
    table: SlotTable,
    /// Chunks for which there was no slot.
    backlog: VecDeque<PackedChunk>,
    /// The length of their arguments.
    backlog_len: usize,
}

impl State {
    fn has_slot(&self, few: usize) -> bool {
        !self.table.is_full() && (self.table.stored < STORED_MAX || self.table.len() < few)
    }

    /// Fills free slots from the backlog. If the pool is over, all chunks fail. While there are few
    /// chunks, the workers that finish them wake the waiter, which may be asleep already.
    fn submit(&mut self, memory: &SharedPool, few: usize) -> bool {
        let first = self.table.tail;
        let mut has_moved = false;
        while self.has_slot(few) || self.table.over.is_some() {
            let Some(chunk) = self.backlog.pop_front() else { break };
            has_moved = true;
            self.backlog_len -= chunk.bytes.len();
            if let Some(error) = self.table.over.clone() {
                self.table.fail(chunk.batch, chunk.first, chunk.count, &error);
                continue;
            }
            let filled = self.table.fill(memory, chunk).and_then(|index| memory.word(index));
            if let Some(word) = filled.filter(|_| self.table.len() <= few) {
                // It is true: no worker can take the slot before its ticket is published.
                let _ = word.wait_for(self.table.tail - 1);
            }
        }
        memory.run_queue().publish(self.table.tail);
        match self.table.tail - first {
            0 => {}
            1 => memory.header().work.notify_one(Ordered::by_fence()),
            _ => memory.header().work.notify_all(Ordered::by_fence()),
        }
        has_moved
    }

    /// Collects what workers have finished, and fills the slots that become free. Returns whether
    /// there was anything to collect.
    fn collect_and_submit(&mut self, inner: &Inner) -> bool {
        let collected = self.table.collect(&inner.memory);
        let was_full = self.backlog_len > BACKLOG_MAX;
        self.submit(&inner.memory, inner.few);
        if was_full && self.backlog_len <= BACKLOG_MAX {
            inner.has_room.notify_all();
        }
        collected
    }
}

struct Inner {
    memory: SharedPool,
    /// The number of chunks up to which there are few.
    few: usize,
    skip: Skip,
    /// The process that created the pool, and no fork of it.
    epoch: u32,
    news: Arc<News>,
    state: Mutex<State>,
    has_room: Condvar,
}

/// The tasks of a pool, as the process sees them that submits them.
///
/// One thread calls [`wait`](ForeignPool::wait) all the time. It makes room for chunks that have no
/// slot yet, so nothing else blocks.
#[derive(Clone)]
pub struct ForeignPool(Arc<Inner>);

impl ForeignPool {
    /// Creates the tasks of a pool of `workers` workers. `skip` returns the length in bytes of the
    /// first arguments or results, as many as its second argument says; `None` if they are damaged.
    ///
    /// # Errors
    ///
    /// Those of creating an object.
    pub fn create(place: impl Into<Place>, workers: usize, skip: Skip) -> Result<ForeignPool> {
        let epoch = fork::ensure_epoch();
        let secret = RandomState::new().build_hasher().finish();
        let memory = SharedPool::create(place, Initial { workers, secret })?;
        let state = State { table: SlotTable::new(workers), backlog: VecDeque::new(), backlog_len: 0 };
        let (state, few, news) = (Mutex::new(state), FEW * workers, Arc::default());
        let has_room = Condvar::new();
        Ok(ForeignPool(Arc::new(Inner { memory, few, skip, epoch, news, state, has_room })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a batch of tasks, `total` of them if that is known. Its workers read `function` and
    /// are told `kind`. [`wait`] reports a stream at every result, and other batches when they are
    /// complete.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; `NotInThisProcess`: another process created the pool.
    ///
    /// [`wait`]: ForeignPool::wait
    pub fn batch(
        &self,
        kind: u64,
        function: &[u8],
        is_stream: bool,
        total: Option<usize>,
    ) -> Result<ForeignBatch> {
        let inner = &*self.0;
        if fork::epoch() != inner.epoch {
            let text = "a pool belongs to the process that created it, not to a fork of that process";
            return Err(Error::new(ErrorKind::NotInThisProcess, text));
        }
        ForeignBatch::new(&inner.memory, &inner.news, inner.skip, kind, function, is_stream, total)
    }

    /// Submits chunks of a batch. Never blocks.
    pub fn submit(&self, batch: &ForeignBatch, chunks: impl IntoIterator<Item = ForeignChunk>) {
        let packed = chunks.into_iter().map(|ForeignChunk { first, count, bytes }| {
            let batch: Arc<dyn AnyBatch> = batch.0.clone();
            PackedChunk { batch, first, count, bytes, room: count.saturating_mul(ROOM) }
        });
        let mut state = self.lock();
        for chunk in packed {
            state.backlog_len += chunk.bytes.len();
            state.backlog.push_back(chunk);
        }
        state.submit(&self.0.memory, self.0.few);
        let failed = state.table.take_news();
        drop(state);
        if failed {
            self.wake();
        }
    }

    /// Blocks until callers that submit very many bytes should go on. Returns false if that took
    /// longer than the timeout.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let is_full = |state: &mut State| state.backlog_len > BACKLOG_MAX;
        let waited = self.0.has_room.wait_timeout_while(self.lock(), timeout, is_full);
        let (_state, end) = waited.unwrap_or_else(PoisonError::into_inner);
        !end.timed_out()
    }

    /// Fails tasks of a batch that could not be submitted. The caller knows why.
    pub fn give_up(&self, batch: &ForeignBatch, first: usize, count: usize, why: &str) {
        batch.0.failed(first, count, &TaskError::Lost(why.to_owned()));
        self.wake();
    }

    /// Says that no more than `total` tasks of a batch are submitted.
    pub fn set_total(&self, batch: &ForeignBatch, total: usize) {
        batch.set_total(total);
        if batch.is_complete() {
            self.wake();
        }
    }

    /// Returns the number of unfinished chunks.
    pub fn outstanding(&self) -> usize {
        let state = self.lock();
        state.table.len() + state.backlog.len()
    }

    /// Blocks until batches have something new, until [`wake`](ForeignPool::wake), or until the
    /// timeout. Returns these batches' ids. Only for one thread.
    pub fn wait(&self, timeout: Duration) -> Vec<u64> {
        let Inner { memory, few, news, .. } = &*self.0;
        let results = &memory.header().results;
        let has_collected = Cell::new(false);
        let mut pauses = false;
        let attempt = || {
            if self.lock().collect_and_submit(&self.0) {
                has_collected.set(true);
            }
            news.take()
        };
        let announce = || {
            let seen = results.announce();
            let mut state = self.lock();
            // If a pause brought nothing, the tasks are long ones, and each is worth a wake-up.
            let is_slow = pauses && !has_collected.take();
            pauses = state.table.len() > *few && !is_slow;
            if !pauses {
                state.table.wait_for_oldest(memory, *few);
            }
            (seen, pauses)
        };
        let sleep = |(seen, pauses): (u32, bool), end: Until| {
            let word = results.futex();
            if pauses && end.nanos().is_none_or(|nanos| nanos > PAUSE_NANOS) {
                word.wait(seen, Until::After(PAUSE_NANOS));
                return true; // not the end of a slice
            }
            word.wait(seen, end)
        };
        let deadline = Deadline::after(timeout);
        let found = wait_by(deadline, Pace::of(CHECK_COST), || self.audit(), attempt, announce, sleep);
        found.unwrap_or_default()
    }

    /// Makes `wait` return.
    pub fn wake(&self) {
        self.0.news.wake();
        self.0.memory.header().results.notify_all(Ordered::by_fence());
    }

    /// Checks every slot for what nobody has reported, and reaps dead participants.
    fn audit(&self) {
        self.0.memory.object().reap_dead();
        self.lock().table.audit(&self.0.memory);
    }

    /// Prepares the place of a worker that is about to be started.
    pub fn reset_worker(&self, worker: usize) {
        let Some(slot) = self.0.memory.worker_slot(worker) else { return };
        slot.busy.store(0, Relaxed); // no worker is there
        slot.stage.store(BEGINS, Relaxed);
    }

    /// Returns whether a worker has begun to take tasks.
    pub fn has_begun(&self, worker: usize) -> bool {
        let slot = self.0.memory.worker_slot(worker);
        slot.is_some_and(|slot| slot.stage.load(Acquire) != BEGINS) // pairs with ForeignWorker::begin()
    }

    /// Recovers what a worker was running that has ended with this wait status.
    pub fn worker_ended(&self, worker: usize, pid: u32, status: i32) {
        let memory = &self.0.memory;
        // The blocks that it had claimed from the heap come back.
        memory.object().attachment().reap_all();
        let error = TaskError::WorkerDied { pid, exit: Some(ExitStatus::from_raw(status)) };
        self.lock().table.recover_chunks(memory, worker, |_| Some(error.clone()));
        self.wake();
    }

    /// Attaches this process, if it was forked. For tests.
    pub fn attach(&self) {
        let _ = self.0.memory.object().owner();
    }

    /// Returns the number of blocks in use in the pool's heap. For tests.
    pub fn blocks(&self) -> usize {
        self.0.memory.heap.in_use().map_or(usize::MAX, |blocks| blocks.len())
    }

    /// Lets workers exit that find no task.
    pub fn close(&self) {
        let header = self.0.memory.header();
        header.closed.store(1, Relaxed);
        header.work.notify_all(Ordered::by_fence());
    }

    /// Fails all tasks that are not done, and those that are submitted later.
    pub fn end(&self, error: TaskError) {
        let memory = &self.0.memory;
        let mut state = self.lock();
        state.table.collect(memory);
        let error = state.table.over.get_or_insert(error).clone();
        state.table.fail_all(&error);
        state.submit(memory, self.0.few);
        drop(state);
        self.0.has_room.notify_all();
        self.wake();
    }
}

impl std::fmt::Debug for ForeignPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignPool").field("few", &self.0.few).finish_non_exhaustive()
    }
}
