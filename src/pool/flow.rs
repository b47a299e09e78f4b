//! Chunks on their way: packed, in a slot, finished, and what a death leaves of one.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::heap::Block;
use crate::pool::batch::Job;
use crate::pool::chunk::Verdict;
use crate::pool::core::Core;
use crate::pool::crew::Crew;
use crate::pool::desk::{Desk, Slot, INLINE};
use crate::pool::error::TaskError;
use crate::pool::line::SLOTS;
use crate::pool::slot::State as Is;
use crate::process::{Argument, Packer};
use crate::{Error, ErrorKind, Result};

pub(crate) struct State {
    pub(crate) crew: Crew,
    /// What is in each slot.
    chunks: Vec<Option<Chunk>>,
    free: Vec<usize>,
    /// Chunks of batches that nobody waits for, and for which there was no slot.
    backlog: VecDeque<Packed>,
    /// How many slots may be used at once.
    depth: usize,
    /// How many calls are submitting, and may have more than what is on its way.
    pub(crate) submitting: usize,
    pub(crate) closed: bool,
    /// Why it does nothing any more.
    pub(crate) over: Option<TaskError>,
    /// Batches whose callbacks are to be called, as soon as the lock is released.
    callers: Vec<Arc<dyn Job>>,
}

/// What stands in a slot, as far as only the pool needs to know.
struct Chunk {
    job: Arc<dyn Job>,
    /// The number of its first task in the batch, and how many there are.
    first: usize,
    count: usize,
    /// How often a worker died in its first task.
    tries: u32,
    ticket: u64,
    input: Option<Block>,
    /// How many tasks were done when somebody first saw it so, and when that was; `None`: nobody has seen it run.
    progress: Option<(u32, Instant)>,
}

/// A chunk that has no slot yet.
pub(crate) struct Packed {
    job: Arc<dyn Job>,
    first: usize,
    count: usize,
    bytes: Vec<u8>,
    /// How many bytes its results are likely to have.
    room: usize,
}

impl Packed {
    pub(crate) fn new<A: Argument, R>(job: Arc<dyn Job>, first: usize, items: Vec<A>) -> Result<Packed> {
        let count = items.len();
        let mut packer = Packer::for_parent();
        A::pack_all(items, &mut packer)?;
        let room = count.saturating_mul(size_of::<R>());
        Ok(Packed { job, first, count, bytes: packer.finish().bytes, room })
    }
}

impl State {
    pub(crate) fn new(workers: usize, depth: usize) -> State {
        State {
            crew: Crew::new(workers),
            chunks: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS).rev().collect(),
            backlog: VecDeque::new(),
            depth,
            submitting: 0,
            closed: false,
            over: None,
            callers: Vec::new(),
        }
    }

    /// How many chunks are on their way, and calls that may have more.
    pub(crate) fn outstanding(&self) -> usize {
        SLOTS - self.free.len() + self.backlog.len() + self.submitting
    }

    /// The batch of the chunk that was submitted first.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.chunks.iter().flatten().min_by_key(|chunk| chunk.ticket).map(|chunk| chunk.job.id())
    }

    pub(crate) fn take_callers(&mut self) -> Vec<Arc<dyn Job>> {
        std::mem::take(&mut self.callers)
    }

    /// Puts chunks behind those that have no slot yet.
    pub(crate) fn put_back(&mut self, chunks: &mut VecDeque<Packed>) {
        self.backlog.append(chunks);
    }

    /// Fills slots that are free: first from the backlog. True: at least one.
    pub(crate) fn submit(&mut self, core: &Core, chunks: &mut VecDeque<Packed>) -> bool {
        if self.backlog.is_empty() && chunks.is_empty() {
            return false;
        }
        let was_idle = self.free.len() == SLOTS;
        let line = core.desk.line();
        let first = line.next();
        let mut tail = first;
        while SLOTS - self.free.len() < self.depth || self.over.is_some() {
            let Some(chunk) = self.backlog.pop_front().or_else(|| chunks.pop_front()) else { break };
            if let Some(error) = &self.over {
                if chunk.job.failed(chunk.first, chunk.count, error) {
                    self.callers.push(chunk.job);
                }
                continue;
            }
            tail += u64::from(self.fill(&core.desk, chunk, tail));
        }
        line.publish(tail);
        match tail - first {
            0 => return false,
            1 => core.desk.head().work.notify_one(),
            _ => core.desk.head().work.notify_all(),
        }
        if was_idle && core.plan.timeout.is_some() {
            core.ring();
        }
        true
    }

    /// Puts a chunk into a slot. False: it could not, and its tasks have failed.
    fn fill(&mut self, desk: &Desk, chunk: Packed, ticket: u64) -> bool {
        let Packed { job, first, count, bytes, room } = chunk;
        let Some(index) = self.free.pop() else { return false };
        let Some(slot) = desk.slot(index) else { return false };
        let input = match place(desk, &bytes, desk.inline(slot)) {
            Ok(input) => input,
            Err(error) => {
                self.free.push(index);
                if job.failed(first, count, &TaskError::Lost(error.to_string())) {
                    self.callers.push(job);
                }
                return false;
            }
        };
        slot.input.store(input.map_or(desk.inline(slot), |block| block.at), Relaxed); // published with the word
        slot.input_len.store(bytes.len() as u64, Relaxed);
        slot.count.store(count as u32, Relaxed);
        let chunk = Chunk { job, first, count, tries: 0, ticket, input, progress: None };
        self.queue(desk, index, slot, chunk, room)
    }

    /// Queues a slot whose arguments are in place.
    fn queue(&mut self, desk: &Desk, index: usize, slot: &Slot, chunk: Chunk, room: usize) -> bool {
        let (at, len) = match room <= INLINE {
            true => (desk.inline(slot) + INLINE as u64, INLINE),
            // Without a large block the worker makes room by itself.
            false => reserve(desk, room).unwrap_or((desk.inline(slot) + INLINE as u64, INLINE)),
        };
        slot.output.store(at, Relaxed); // this and what follows is published with the word
        slot.output_len.store(len as u64, Relaxed);
        slot.done.store(0, Relaxed);
        slot.verdict.store(Verdict::Done as u32, Relaxed);
        slot.text.store(0, Relaxed);
        slot.calls.store(u32::from(chunk.job.calls()), Relaxed);
        let runner = chunk.job.runner();
        slot.runner.store(runner, Relaxed);
        slot.seal.store(desk.seal(runner, chunk.ticket), Relaxed);
        desk.line().push(chunk.ticket, index, &slot.word);
        self.chunks[index] = Some(chunk);
        true
    }

    /// Takes what workers have finished. True: there was something.
    pub(crate) fn collect(&mut self, desk: &Desk) -> bool {
        let mut any = false;
        let mut more = Vec::new();
        for worker in 0..self.crew.len() {
            if let Some(bench) = desk.bench(worker) {
                bench.take_finished(|slot| any |= self.gather(desk, slot, &mut more));
            }
        }
        self.queue_again(desk, more);
        any
    }

    /// Takes what is in this slot, if it is finished.
    fn gather(&mut self, desk: &Desk, index: usize, more: &mut Vec<usize>) -> bool {
        let (Some(slot), Some(Some(chunk))) = (desk.slot(index), self.chunks.get(index)) else {
            return false;
        };
        if !matches!(slot.word.state(), Is::Done(ticket, _) if ticket == chunk.ticket) {
            return false;
        }
        let verdict = Verdict::from_number(slot.verdict.load(Relaxed));
        let error = match verdict {
            Verdict::Done | Verdict::Retired => None,
            Verdict::Panicked => Some(TaskError::Panicked(text(desk, slot))),
            Verdict::Failed => Some(TaskError::Lost(text(desk, slot))),
        };
        if self.settle(desk, index, slot, error, false) {
            more.push(index);
        }
        true
    }

    /// Takes the results of a slot that nobody works on, and frees the slot. With an `error` for the task after those that
    /// are done, unless it is to be tried again. True: it is to be queued again, for what is left.
    fn settle(
        &mut self,
        desk: &Desk,
        index: usize,
        slot: &Slot,
        error: Option<TaskError>,
        died: bool,
    ) -> bool {
        let Some(mut chunk) = self.chunks[index].take() else { return false };
        let count = chunk.count;
        let done = (slot.done.load(Acquire) as usize).min(count); // pairs with the worker's Release
        let job = chunk.job.clone();
        let mut wants_call = false;
        if done > 0 {
            let len = slot.output_len.load(Relaxed);
            wants_call |= match desk.bytes(slot.output.load(Acquire), len) {
                Some(at) => {
                    // SAFETY: mapped, and nobody writes there: the worker is through with it, or dead.
                    let bytes = unsafe { std::slice::from_raw_parts(at, len as usize) };
                    job.results(chunk.first, done, bytes)
                }
                None => job.failed(chunk.first, done, &TaskError::Lost("the task's slot is damaged".into())),
            };
        }
        let mut gone = done;
        let tries = if done == 0 { chunk.tries } else { 0 };
        let again = died && done < count && tries < job.retries();
        if let (Some(error), false, true) = (error, again, done < count) {
            wants_call |= job.failed(chunk.first + done, 1, &error);
            gone += 1;
        }
        desk.free_spare(slot);
        desk.free(slot.output.load(Relaxed));
        desk.free(slot.text.load(Relaxed));
        if gone < count {
            match self.advance(desk, slot, &chunk, gone, count) {
                Ok(()) => {
                    chunk.first += gone;
                    chunk.count -= gone;
                    chunk.tries = if again { tries + 1 } else { 0 };
                    self.chunks[index] = Some(chunk);
                    if wants_call {
                        self.callers.push(job);
                    }
                    return true;
                }
                Err(error) => wants_call |= job.failed(chunk.first + gone, count - gone, &error),
            }
        }
        if let Some(input) = chunk.input {
            let _ = desk.heap.free(input);
        }
        slot.word.clear();
        self.free.push(index);
        if wants_call {
            self.callers.push(job);
        }
        false
    }

    /// Makes the slot begin with its task number `gone`.
    fn advance(
        &self,
        desk: &Desk,
        slot: &Slot,
        chunk: &Chunk,
        gone: usize,
        count: usize,
    ) -> Result<(), TaskError> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let (at, len) = (slot.input.load(Relaxed), slot.input_len.load(Relaxed));
        let lost = || TaskError::Lost("the task's slot is damaged".into());
        let start = desk.bytes(at, len).ok_or_else(lost)?;
        // SAFETY: mapped; only the pool writes there.
        let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
        let skipped = chunk.job.skip(bytes, gone).map_err(|_| lost())?;
        slot.input.store(at + skipped as u64, Relaxed);
        slot.input_len.store(len - skipped as u64, Relaxed);
        slot.count.store((count - gone) as u32, Relaxed);
        Ok(())
    }

    /// Queues slots again of whose chunks something is left.
    fn queue_again(&mut self, desk: &Desk, slots: Vec<usize>) {
        if slots.is_empty() {
            return;
        }
        let line = desk.line();
        let mut tail = line.next();
        for index in slots {
            let (Some(slot), Some(mut chunk)) = (desk.slot(index), self.chunks[index].take()) else {
                continue;
            };
            chunk.ticket = tail;
            chunk.progress = None;
            let room = INLINE.max(chunk.count.saturating_mul(16));
            self.queue(desk, index, slot, chunk, room);
            tail += 1;
        }
        line.publish(tail);
        desk.head().work.notify_all();
    }

    /// What worker number `worker`, which is dead, had in hand.
    pub(crate) fn inherit(&mut self, desk: &Desk, worker: usize, error: &TaskError) {
        let mut more = Vec::new();
        for index in 0..SLOTS {
            let (Some(slot), Some(chunk)) = (desk.slot(index), &self.chunks[index]) else { continue };
            let again = match slot.word.state() {
                Is::Running(ticket, who) if (ticket, who) == (chunk.ticket, worker) => {
                    self.settle(desk, index, slot, Some(error.clone()), true)
                }
                Is::Done(_, who) if who == worker => {
                    self.gather(desk, index, &mut more);
                    false
                }
                _ => false,
            };
            if again {
                more.push(index);
            }
        }
        self.queue_again(desk, more);
    }

    /// Nothing more will be done: all tasks that are not done have this error.
    pub(crate) fn end(&mut self, desk: &Desk, error: TaskError) {
        self.collect(desk);
        for index in 0..SLOTS {
            if let Some(chunk) = self.chunks[index].take() {
                if chunk.job.failed(chunk.first, chunk.count, &error) {
                    self.callers.push(chunk.job);
                }
                // A worker may still be in it, so what it holds goes with the pool.
            }
        }
        for chunk in std::mem::take(&mut self.backlog) {
            if chunk.job.failed(chunk.first, chunk.count, &error) {
                self.callers.push(chunk.job);
            }
        }
        self.free = (0..SLOTS).collect();
        self.over = Some(error);
    }

    /// Whoever finishes one of the later chunks of this batch is to wake who waits for it.
    pub(crate) fn wait_for(&self, desk: &Desk, id: u64, workers: usize) {
        let chunks = self.chunks.iter().enumerate();
        let mut own: Vec<(u64, usize)> = chunks
            .filter_map(|(index, chunk)| chunk.as_ref().map(|chunk| (index, chunk)))
            .filter(|(_, chunk)| chunk.job.id() == id)
            .map(|(index, chunk)| (chunk.ticket, index))
            .collect();
        own.sort_unstable();
        // Of many the second half: to wake for each would cost more than the tasks.
        let skipped = if own.len() > 2 * workers { own.len() / 2 } else { 0 };
        for (ticket, index) in &own[skipped..] {
            if let Some(word) = desk.word(*index) {
                word.wait_for(*ticket);
            }
        }
    }

    /// All tasks have run since now, and not longer: nobody has looked for a while, since this process was stopped.
    pub(crate) fn forget_progress(&mut self) {
        self.chunks.iter_mut().flatten().for_each(|chunk| chunk.progress = None);
    }

    /// The worker's task, if it has been in it for longer than `limit`: its ticket.
    pub(crate) fn overdue(&mut self, desk: &Desk, worker: usize, limit: Duration) -> Option<u64> {
        let index = desk.bench(worker)?.busy.load(Relaxed).checked_sub(1)? as usize;
        let (slot, chunk) = (desk.slot(index)?, self.chunks.get_mut(index)?.as_mut()?);
        if slot.word.state() != Is::Running(chunk.ticket, worker) {
            return None;
        }
        let done = slot.done.load(Relaxed);
        match chunk.progress {
            Some((seen, since)) if seen == done => (since.elapsed() > limit).then_some(chunk.ticket),
            _ => {
                chunk.progress = Some((done, Instant::now()));
                None
            }
        }
    }
}

/// Puts the bytes into a block of their own, or into the slot if they have room there (`None`).
fn place(desk: &Desk, bytes: &[u8], inline: u64) -> Result<Option<Block>> {
    let block = if bytes.len() > INLINE { Some(desk.heap.alloc(bytes.len())?) } else { None };
    let at = block.map_or(inline, |block| block.at);
    let to = desk.bytes(at, bytes.len() as u64);
    let to = to.ok_or_else(|| Error::new(ErrorKind::Corrupted, "the pool's memory is damaged"))?;
    // SAFETY: mapped, and ours: by the allocation, or because the slot is free.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    if let Some(block) = block {
        desk.heap.publish(block)?;
    }
    Ok(block)
}

/// A block for so many bytes of results: where it is, and how many have room.
fn reserve(desk: &Desk, room: usize) -> Option<(u64, usize)> {
    let block = desk.heap.alloc(room).ok()?;
    let len = desk.heap.len(block.at).ok()?;
    desk.heap.publish(block).ok()?;
    Some((block.at, len as usize))
}

/// What the worker said.
fn text(desk: &Desk, slot: &Slot) -> String {
    let (at, len) = (slot.text.load(Acquire), slot.text_len.load(Relaxed));
    let there = if at == 0 { 0 } else { desk.heap.len(at).unwrap_or(0) };
    match desk.bytes(at, len) {
        Some(start) if at != 0 && len <= there => {
            // SAFETY: mapped, and nobody writes there any more: the worker is through with it.
            let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => "the worker could not say why".to_owned(),
    }
}
