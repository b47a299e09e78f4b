//! The table of the pool's slots: queues chunks in them, collects their results once, and recovers
//! those of dead workers.
//!
//! Only the pool's process has a table, and uses it under the engine's lock. The table accesses
//! memory by the trait [`SlotMemory`], so models can run it over plain values, beside workers that
//! die.
//!
//! # Damage
//!
//! - The run queue's words: the audit repairs them once per slice. A worker that reads them before
//!   that finds no task, and tries again.
//! - A slot's word that is not a possible state: the audit finds it. Its tasks are `Lost`, and the
//!   slot is out of use, because a worker may be in it.
//! - A slot's word that is a possible RUNNING state: nobody can detect that it is damaged. The
//!   table waits until the worker that it names ends.
//! - A slot's job: the worker finds it, by the seal or while it decodes the arguments. The task is
//!   `Lost`.
//! - A worker's completion bits: they are hints, and the audit does without them.

mod waiting;

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::heap::Block;
use crate::loom::Ordered;
use crate::pool::completions::Completions;
use crate::pool::error::TaskError;
use crate::pool::layout::{block_of, name_of, ChunkEnd, Job, Slot, INLINE};
use crate::pool::packed_chunk::{AnyBatch, PackedChunk, SlottedChunk};
use crate::pool::run_queue::{RunQueue, SLOTS};
use crate::pool::slot::{RunningTask, State};
use crate::wait::Waiters;
use crate::Result;

/// The pool's memory as the table sees it: mapped, or plain values in models.
pub(crate) trait SlotMemory {
    fn run_queue(&self) -> &RunQueue;

    fn slot(&self, index: usize) -> Option<&Slot>;

    /// Returns the completions of worker number `worker`.
    fn completions(&self, worker: usize) -> Option<&Completions>;

    /// Returns the word that workers without a task wait for.
    fn work(&self) -> &Waiters;

    /// Returns the checksum that protects a job.
    fn seal(&self, job: &Job, ticket: u64) -> u64;

    /// Stores the arguments of a free slot. Returns where, and in which block; `None` if in the
    /// slot.
    fn store(&self, slot: &Slot, bytes: &[u8]) -> Result<(u64, Option<Block>)>;

    /// Reads the `len` bytes of arguments at `at`, if they are mapped.
    fn arguments<R>(&self, at: u64, len: u64, read: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// Reads the results in a slot that no worker is in, if they are mapped.
    fn results<R>(&self, slot: &Slot, read: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// Returns the error text that the worker has left in the slot.
    fn error_text(&self, slot: &Slot) -> String;

    /// Allocates a block for `room` bytes of results.
    fn reserve(&self, room: usize) -> Option<Block>;

    /// Frees a block, unless it has been freed already.
    fn free(&self, block: Block);

    /// Frees a block of the slot, unless it has been freed already.
    fn free_block(&self, slot: &Slot, index: usize) {
        let name = slot.blocks[index].load(Acquire); // pairs with name_block()
        if name != 0 {
            self.free(block_of(name));
        }
    }
}

/// The chunk in each slot, and what is known of it.
pub(crate) struct SlotTable {
    chunks: Vec<Option<SlottedChunk>>,
    free: Vec<usize>,
    /// The slot of each of the last tickets.
    recent: Vec<usize>,
    /// The number of slots that are out of use, because their words were damaged and a worker may
    /// still be in them.
    pub(super) lost: usize,
    /// The length of the arguments of all chunks in slots, in bytes.
    pub(super) stored: u64,
    /// The next ticket.
    pub(crate) tail: u64,
    /// The number of workers.
    workers: usize,
    /// Why the pool has ended; `None` if it runs.
    pub(crate) over: Option<TaskError>,
    /// Batches whose callbacks are to be run once the lock is released.
    due_callbacks: Vec<Arc<dyn AnyBatch>>,
    /// Whether there are results that waiters have not been told of.
    has_news: bool,
}

impl SlotTable {
    pub(crate) fn new(workers: usize) -> SlotTable {
        SlotTable {
            chunks: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS).rev().collect(),
            recent: vec![0; SLOTS],
            lost: 0,
            stored: 0,
            tail: 0,
            workers,
            over: None,
            due_callbacks: Vec::new(),
            has_news: false,
        }
    }

    /// Returns the number of chunks in slots.
    pub(crate) fn len(&self) -> usize {
        SLOTS - self.free.len() - self.lost
    }

    /// Returns whether no slot is free.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Returns the id of the batch whose chunk has the lowest ticket.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.chunks.iter().flatten().min_by_key(|chunk| chunk.ticket).map(|chunk| chunk.batch.id())
    }

    pub(crate) fn take_due_callbacks(&mut self) -> Vec<Arc<dyn AnyBatch>> {
        std::mem::take(&mut self.due_callbacks)
    }

    /// Returns whether there are results that waiters have not been told of, and resets that.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Fails `count` tasks of a batch, from number `first` on.
    pub(super) fn fail(&mut self, batch: Arc<dyn AnyBatch>, first: usize, count: usize, error: &TaskError) {
        self.has_news = true;
        if batch.failed(first, count, error) {
            self.due_callbacks.push(batch);
        }
    }

    /// Puts a chunk into a slot, and returns which. Its tasks fail if there is no memory for it.
    pub(crate) fn fill(&mut self, memory: &impl SlotMemory, chunk: PackedChunk) -> Option<usize> {
        let PackedChunk { batch, first, count, bytes, room } = chunk;
        let index = self.free.pop()?;
        let slot = memory.slot(index)?;
        let (input, block) = match memory.store(slot, &bytes) {
            Ok(stored) => stored,
            Err(error) => {
                self.free.push(index);
                self.fail(batch, first, count, &TaskError::Lost(error.to_string()));
                return None;
            }
        };
        let input_len = bytes.len() as u64;
        self.stored += input_len;
        let (tries, ticket, progress) = (0, self.tail, None);
        let chunk = SlottedChunk { batch, first, count, tries, ticket, block, input, input_len, progress };
        self.queue(memory, index, slot, chunk, room);
        Some(index)
    }

    /// Queues a slot whose arguments are in place.
    fn queue(
        &mut self,
        memory: &impl SlotMemory,
        index: usize,
        slot: &Slot,
        mut chunk: SlottedChunk,
        room: usize,
    ) {
        chunk.ticket = self.tail;
        chunk.progress = None;
        self.tail += 1;
        // Without a block the worker allocates one by itself.
        let block = if room > INLINE { memory.reserve(room) } else { None };
        slot.blocks[0].store(block.map_or(0, name_of), Relaxed); // published with the word, like all below
        slot.blocks[1..].iter().for_each(|block| block.store(0, Relaxed));
        slot.output.store(u32::from(block.is_some()), Relaxed);
        slot.done.store(0, Relaxed);
        slot.ended.store(ChunkEnd::Done as u32, Relaxed);
        slot.needs_monitor.store(u32::from(chunk.batch.needs_monitor()), Relaxed);
        // The tasks beyond that number are run later, as those that a worker leaves are.
        let count = u32::try_from(chunk.count).unwrap_or(u32::MAX);
        let call = chunk.batch.function_call();
        let job = Job { call, input: chunk.input, input_len: chunk.input_len, count };
        slot.set_job(job, memory.seal(&job, chunk.ticket));
        self.recent[chunk.ticket as usize % SLOTS] = index;
        memory.run_queue().push(chunk.ticket, index, &slot.word);
        self.chunks[index] = Some(chunk);
    }

    /// Collects the slots that workers have reported. Returns whether waiters are to be told, of
    /// this or of something earlier.
    pub(crate) fn collect(&mut self, memory: &impl SlotMemory) -> bool {
        let mut more = Vec::new();
        for completions in (0..self.workers).filter_map(|worker| memory.completions(worker)) {
            completions.take(|slot| self.collect_slot(memory, slot, &mut more));
        }
        self.queue_again(memory, more);
        self.take_news()
    }

    /// Collects this slot, if it is finished.
    fn collect_slot(&mut self, memory: &impl SlotMemory, index: usize, more: &mut Vec<usize>) {
        let (Some(slot), Some(Some(chunk))) = (memory.slot(index), self.chunks.get(index)) else {
            return;
        };
        if !matches!(slot.word.state(), State::Done(ticket, _) if ticket == chunk.ticket) {
            return;
        }
        let end = ChunkEnd::from_number(slot.ended.load(Relaxed));
        let error = match end {
            ChunkEnd::Done | ChunkEnd::Retired => None,
            ChunkEnd::Panicked => Some(TaskError::Panicked(memory.error_text(slot))),
            ChunkEnd::Failed => Some(TaskError::Lost(memory.error_text(slot))),
        };
        if self.complete(memory, index, slot, error, false) {
            more.push(index);
        }
    }

    /// Takes the results of a slot that no worker is in, and frees the slot. Returns whether it is
    /// to be queued again, for the tasks that are left.
    ///
    /// `error` belongs to the first task that is not finished. It is dropped if that task is tried
    /// again. `died` says that the worker died; a death without an error does not use up a retry.
    fn complete(
        &mut self,
        memory: &impl SlotMemory,
        index: usize,
        slot: &Slot,
        error: Option<TaskError>,
        died: bool,
    ) -> bool {
        let Some(mut chunk) = self.chunks[index].take() else { return false };
        self.has_news = true;
        let count = chunk.count;
        let done = (slot.done.load(Acquire) as usize).min(count); // pairs with the worker's Release
        let batch = chunk.batch.clone();
        let mut wants_call = false;
        if done > 0 {
            let taken = memory.results(slot, |bytes| batch.results(chunk.first, done, bytes));
            wants_call |= taken.unwrap_or_else(|| {
                batch.failed(chunk.first, done, &TaskError::Lost("the task's slot is damaged".into()))
            });
        }
        let mut gone = done;
        let tries = if done == 0 { chunk.tries } else { 0 };
        let is_to_blame = error.is_some();
        let again = died && done < count && (tries < batch.retries() || !is_to_blame);
        if let (Some(error), false, true) = (error, again, done < count) {
            wants_call |= batch.failed(chunk.first + done, 1, &error);
            gone += 1;
        }
        (0..slot.blocks.len()).for_each(|index| memory.free_block(slot, index));
        if gone < count {
            match self.advance(memory, &mut chunk, gone) {
                Ok(()) => {
                    chunk.tries = if again { tries + u32::from(is_to_blame) } else { 0 };
                    self.chunks[index] = Some(chunk);
                    if wants_call {
                        self.due_callbacks.push(batch);
                    }
                    return true;
                }
                Err(error) => wants_call |= batch.failed(chunk.first + gone, count - gone, &error),
            }
        }
        self.stored -= chunk.input_len;
        if let Some(block) = chunk.block {
            memory.free(block);
        }
        slot.word.clear();
        self.free.push(index);
        if wants_call {
            self.due_callbacks.push(batch);
        }
        false
    }

    /// Makes the chunk begin with its task number `gone`.
    fn advance(
        &mut self,
        memory: &impl SlotMemory,
        chunk: &mut SlottedChunk,
        gone: usize,
    ) -> Result<(), TaskError> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let lost = || TaskError::Lost("the task's arguments are damaged".into());
        let skip = |bytes: &[u8]| chunk.batch.skip(bytes, gone);
        let skipped = memory.arguments(chunk.input, chunk.input_len, skip).ok_or_else(lost)?;
        let skipped = skipped.map_err(|_| lost())? as u64;
        chunk.input += skipped;
        chunk.input_len -= skipped;
        self.stored -= skipped;
        chunk.first += gone;
        chunk.count -= gone;
        Ok(())
    }

    /// Queues slots again whose chunks have tasks left.
    fn queue_again(&mut self, memory: &impl SlotMemory, slots: Vec<usize>) {
        if slots.is_empty() {
            return;
        }
        for index in slots {
            let (Some(slot), Some(chunk)) = (memory.slot(index), self.chunks[index].take()) else {
                continue;
            };
            let room = INLINE.max(chunk.count.saturating_mul(16));
            self.queue(memory, index, slot, chunk, room);
        }
        memory.run_queue().publish(self.tail);
        memory.work().notify_all(Ordered::by_fence());
    }

    /// Checks every slot's word: collects finished slots that nobody has reported, and repairs
    /// damage.
    pub(crate) fn audit(&mut self, memory: &impl SlotMemory) {
        let mut oldest = self.tail;
        let mut more = Vec::new();
        for index in 0..SLOTS {
            let (Some(slot), Some(chunk)) = (memory.slot(index), &self.chunks[index]) else { continue };
            match slot.word.state() {
                State::Queued(ticket) if ticket == chunk.ticket => {
                    memory.run_queue().place(ticket, index);
                    oldest = oldest.min(ticket);
                }
                State::Running(ticket, worker) if ticket == chunk.ticket && worker < self.workers => {}
                State::Done(ticket, _) if ticket == chunk.ticket => {
                    self.collect_slot(memory, index, &mut more)
                }
                _ => self.abandon_slot(index),
            }
        }
        memory.run_queue().repair(oldest, self.tail);
        self.queue_again(memory, more);
    }

    /// Takes a slot out of use, because its word is damaged.
    #[cold]
    fn abandon_slot(&mut self, index: usize) {
        let Some(chunk) = self.chunks[index].take() else { return };
        self.lost += 1;
        self.stored -= chunk.input_len;
        self.has_news = true;
        let error = TaskError::Lost("the word of the task's slot is damaged".into());
        self.fail(chunk.batch, chunk.first, chunk.count, &error);
        // A worker may still be in the slot, so its blocks live until the pool is dropped.
    }

    /// Recovers the chunks that the dead worker number `worker` was running. `blame` returns the
    /// error of the task; `None` if the task is not to blame for the death.
    pub(crate) fn recover_chunks(
        &mut self,
        memory: &impl SlotMemory,
        worker: usize,
        blame: impl Fn(RunningTask) -> Option<TaskError>,
    ) {
        let mut more = Vec::new();
        for index in 0..SLOTS {
            let (Some(slot), Some(chunk)) = (memory.slot(index), &self.chunks[index]) else { continue };
            match slot.word.state() {
                State::Running(ticket, owner) if (ticket, owner) == (chunk.ticket, worker) => {
                    let error = blame(RunningTask { ticket, done: slot.done.load(Relaxed) });
                    if self.complete(memory, index, slot, error, true) {
                        more.push(index);
                    }
                }
                State::Done(_, owner) if owner == worker => self.collect_slot(memory, index, &mut more),
                _ => {}
            }
        }
        self.queue_again(memory, more);
    }

    /// Restarts the clock of every task, because it cannot be trusted after this process was
    /// stopped.
    pub(crate) fn forget_progress(&mut self) {
        self.chunks.iter_mut().flatten().for_each(|chunk| chunk.progress = None);
    }

    /// Returns the workers that have been in one task for longer than `limit`, with that task.
    pub(crate) fn overdue(
        &mut self,
        memory: &impl SlotMemory,
        now: Instant,
        limit: Duration,
    ) -> Vec<(usize, RunningTask)> {
        let mut overdue = Vec::new();
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            let (Some(slot), Some(chunk)) = (memory.slot(index), chunk) else { continue };
            // The word is checked, not the worker's `busy`, because the worker is RUNNING from its
            // first instruction of the task to its last.
            let State::Running(ticket, worker) = slot.word.state() else { continue };
            if ticket != chunk.ticket {
                continue;
            }
            let done = slot.done.load(Relaxed);
            match chunk.progress {
                Some((seen, since)) if seen == done => {
                    if now.saturating_duration_since(since) > limit {
                        overdue.push((worker, RunningTask { ticket, done }));
                    }
                }
                _ => chunk.progress = Some((done, now)),
            }
        }
        overdue
    }

    /// Fails all chunks in slots. Their blocks live until the pool is dropped, because workers may
    /// still be in the slots.
    pub(super) fn fail_all(&mut self, error: &TaskError) {
        self.has_news = true;
        for index in 0..SLOTS {
            if let Some(chunk) = self.chunks[index].take() {
                self.fail(chunk.batch, chunk.first, chunk.count, error);
            }
        }
        (self.free, self.lost, self.stored) = ((0..SLOTS).collect(), 0, 0);
    }
}
