//! A worker's side: takes chunks, and hands their results over one by one.

use std::fmt;
use std::time::Duration;

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::pool::chunk::ChunkRun;
use crate::pool::layout::{block_of, ChunkEnd, Slot, WorkerSlot, WORKS};
use crate::pool::shared_pool::SharedPool;
use crate::process::Packer;
use crate::segment::object::Object;
use crate::segment::place::Place;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::wait::wait;
use crate::{Error, ErrorKind, Result};

/// A worker of a [`ForeignPool`](super::ForeignPool), in its own process.
pub struct ForeignWorker {
    memory: SharedPool,
    index: usize,
}

/// The answer to a worker that wants a task.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is matched at once")]
pub enum Found<'a> {
    /// A chunk, which is this worker's now.
    Chunk(RunningChunk<'a>),
    /// There are no tasks, and the pool is closed.
    Closed,
}

#[cold]
fn no_worker() -> Error {
    Error::new(ErrorKind::InvalidInput, "the pool has no worker of this number")
}

impl ForeignWorker {
    /// Opens the pool at `place` as its worker number `index`.
    ///
    /// # Errors
    ///
    /// Those of opening an object; `InvalidInput`: there is no such number.
    pub fn open(place: impl Into<Place>, index: usize) -> Result<ForeignWorker> {
        let memory = SharedPool::open(place)?;
        memory.worker_slot(index).ok_or_else(no_worker)?;
        Ok(ForeignWorker { memory, index })
    }

    fn slot(&self) -> Result<&WorkerSlot> {
        self.memory.worker_slot(self.index).ok_or_else(no_worker)
    }

    /// Says that the worker is ready.
    ///
    /// # Errors
    ///
    /// None that a handle from [`open`](ForeignWorker::open) could have.
    pub fn begin(&self) -> Result<()> {
        let slot = self.slot()?;
        slot.pid.store(std::process::id(), Relaxed);
        slot.stage.store(WORKS, Release); // pairs with ForeignPool::has_begun()
        Ok(())
    }

    /// Takes the next chunk. Returns `None` if there was none in time.
    pub fn take(&self, timeout: Duration) -> Option<Found<'_>> {
        let (memory, header) = (&self.memory, self.memory.header());
        let attempt = || match memory.run_queue().take(self.index, |slot| memory.word(slot)) {
            Some((ticket, slot)) => Some(Some((ticket, slot))),
            None => (header.closed.load(Acquire) != 0).then_some(None),
        };
        let reap_dead = || memory.object().reap_dead();
        let announce = || header.work.announce();
        let found = wait(header.work.futex(), Deadline::after(timeout), reap_dead, attempt, announce)?;
        match found {
            Some((ticket, index)) => self.running(ticket, index).map(Found::Chunk),
            None => Some(Found::Closed),
        }
    }

    fn running(&self, ticket: u64, index: usize) -> Option<RunningChunk<'_>> {
        let memory = &self.memory;
        let (slot, worker_slot) = (memory.slot(index)?, memory.worker_slot(self.index)?);
        worker_slot.busy.store(index as u32 + 1, Relaxed);
        // It is 0, unless it was damaged, and then there are no results that it could describe.
        slot.done.store(0, Relaxed);
        let (job, seal) = slot.job();
        let is_whole = seal == memory.seal(&job, ticket);
        let run = ChunkRun { memory, slot, job, limit: u64::MAX };
        let output = None;
        Some(RunningChunk {
            worker: self,
            ticket,
            index,
            slot,
            run,
            is_whole,
            output,
            used: 0,
            done: 0,
            epoch: fork::ensure_epoch(),
            is_finished: false,
        })
    }
}

impl fmt::Debug for ForeignWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignWorker").field("index", &self.index).finish_non_exhaustive()
    }
}

/// A chunk that this worker runs. Dropping it hands over what was pushed; tasks that are left go to
/// another worker.
#[derive(Debug)]
pub struct RunningChunk<'a> {
    worker: &'a ForeignWorker,
    ticket: u64,
    index: usize,
    slot: &'a Slot,
    run: ChunkRun<'a>,
    /// Whether the seal confirms the job.
    is_whole: bool,
    output: Option<Packer>,
    /// The length of the results so far.
    used: usize,
    done: u32,
    epoch: u32,
    is_finished: bool,
}

// SAFETY: it has no thread's own data; the packer's memory is this worker's while it has the slot.
unsafe impl Send for RunningChunk<'_> {}

#[cold]
fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the task's slot is damaged")
}

impl RunningChunk<'_> {
    /// Returns the kind of the batch, and a number that identifies its function.
    pub fn call(&self) -> (u64, u64) {
        (self.run.job.call.runner, self.run.job.call.function)
    }

    /// Returns the number of tasks.
    pub fn count(&self) -> usize {
        self.run.job.count as usize
    }

    /// Returns the arguments of the tasks.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn arguments(&self) -> Result<&[u8]> {
        if !self.is_whole {
            return Err(damaged());
        }
        self.run.input()
    }

    /// Returns the bytes of the function. More bytes may follow.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn function(&self) -> Result<&[u8]> {
        if !self.is_whole {
            return Err(damaged());
        }
        let (memory, block) = (&self.worker.memory, block_of(self.run.job.call.function));
        if memory.heap.identify(block.at).ok_or_else(damaged)? != block {
            return Err(damaged());
        }
        let len = memory.heap.len(block.at)?;
        let start = memory.bytes(block.at, len).ok_or_else(damaged)?;
        // SAFETY: mapped; the pool wrote it before it queued the slot, and frees it after the
        // batch's last chunk is finished.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }

    /// Hands over the result of the next task. It is kept whatever becomes of this process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `Corrupted`; then the task has no result yet. `InvalidInput`: all tasks have
    /// a result.
    pub fn push(&mut self, result: &[u8]) -> Result<()> {
        self.end_if_forked();
        if self.done >= self.run.job.count {
            return Err(Error::new(ErrorKind::InvalidInput, "every task of the chunk has a result"));
        }
        let mut output = match self.output.take() {
            Some(output) => output,
            None => self.run.output(self.used)?,
        };
        output.bytes(result);
        if !output.spilled().is_empty() {
            output = self.run.grow_output(&output)?;
        }
        self.output = Some(output);
        self.used += result.len();
        self.done += 1;
        self.slot.raise(self.done);
        Ok(())
    }

    /// Ends the chunk because the next task's result cannot be handed over: the task gets an error
    /// with this text.
    pub fn fail(mut self, text: &str) {
        let end = self.run.leave_text(ChunkEnd::Failed, text);
        self.finish(end);
    }

    /// Ends this process if a task has forked and this is the child, because the slot is its
    /// parent's.
    fn end_if_forked(&self) {
        if fork::epoch() != self.epoch {
            // SAFETY: ends the process; nothing is used after it.
            unsafe { libc::_exit(0) }
        }
    }

    fn finish(&mut self, end: ChunkEnd) {
        self.end_if_forked();
        self.is_finished = true;
        let Ok(worker_slot) = self.worker.slot() else { return };
        self.run.set_end(end);
        let tasks = u64::from(self.done) + u64::from(end == ChunkEnd::Failed);
        worker_slot.tasks.store(worker_slot.tasks.load(Relaxed).wrapping_add(tasks), Relaxed);
        worker_slot.busy.store(0, Relaxed);
        let results = &self.worker.memory.header().results;
        let _ = self.slot.hand_over(
            (self.ticket, self.index),
            self.worker.index,
            &worker_slot.completions,
            results,
        );
    }
}

impl Drop for RunningChunk<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if !self.is_whole {
            let end = self.run.leave_text(ChunkEnd::Failed, "the task's slot is damaged");
            return self.finish(end);
        }
        let end = if self.done < self.run.job.count { ChunkEnd::Retired } else { ChunkEnd::Done };
        self.finish(end);
    }
}
