//! Chunks on their way: packed, in a slot, finished, and what is left of one that gave no result.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::Arc;
use std::time::Instant;

use crate::heap::Block;
use crate::pool::batch::Job;
use crate::pool::chunk::Verdict;
use crate::pool::core::Core;
use crate::pool::crew::Crew;
use crate::pool::desk::{name_of, Brief, Desk, Slot, INLINE, TEXT};
use crate::pool::error::TaskError;
use crate::pool::line::SLOTS;
use crate::pool::slot::State as Is;
use crate::process::{Argument, Packer};
use crate::{Error, ErrorKind, Result};

pub(crate) struct State {
    pub(crate) crew: Crew,
    /// What is in each slot.
    pub(super) chunks: Vec<Option<Chunk>>,
    free: Vec<usize>,
    /// How many slots are out of use, as their words were damaged while a worker may have been in them.
    pub(super) lost: usize,
    /// The next ticket: what stands in the line is for the workers.
    pub(super) tail: u64,
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
    pub(super) callers: Vec<Arc<dyn Job>>,
    /// There are results that those who wait have not been told of.
    pub(super) has_news: bool,
}

/// What stands in a slot, as far as only the pool needs to know.
pub(super) struct Chunk {
    pub(super) job: Arc<dyn Job>,
    /// The number of its first task in the batch, and how many there are.
    pub(super) first: usize,
    pub(super) count: usize,
    /// How often a worker died in its first task.
    tries: u32,
    pub(super) ticket: u64,
    block: Option<Block>,
    /// Where its arguments are, and how many bytes.
    input: u64,
    input_len: u64,
    /// How many tasks were done when somebody first saw it so, and when that was; `None`: nobody has seen it run.
    pub(super) progress: Option<(u32, Instant)>,
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
            lost: 0,
            tail: 0,
            backlog: VecDeque::new(),
            depth,
            submitting: 0,
            closed: false,
            over: None,
            callers: Vec::new(),
            has_news: false,
        }
    }

    /// How many chunks are in slots.
    fn in_slots(&self) -> usize {
        SLOTS - self.free.len() - self.lost
    }

    /// How many chunks are on their way, and calls that may have more.
    pub(crate) fn outstanding(&self) -> usize {
        self.in_slots() + self.backlog.len() + self.submitting
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
        let was_idle = self.in_slots() == 0;
        let first = self.tail;
        while !self.free.is_empty() && self.in_slots() < self.depth || self.over.is_some() {
            let Some(chunk) = self.backlog.pop_front().or_else(|| chunks.pop_front()) else { break };
            if let Some(error) = &self.over {
                if chunk.job.failed(chunk.first, chunk.count, error) {
                    self.callers.push(chunk.job);
                }
                continue;
            }
            self.fill(&core.desk, chunk);
        }
        core.desk.line().publish(self.tail);
        match self.tail - first {
            0 => return false,
            1 => core.desk.head().work.notify_one(),
            _ => core.desk.head().work.notify_all(),
        }
        if was_idle && core.plan.timeout.is_some() {
            core.ring();
        }
        true
    }

    /// Puts a chunk into a slot. Without memory for it its tasks fail.
    fn fill(&mut self, desk: &Desk, chunk: Packed) {
        let Packed { job, first, count, bytes, room } = chunk;
        let Some(index) = self.free.pop() else { return };
        let Some(slot) = desk.slot(index) else { return };
        let block = match place(desk, &bytes, desk.inline(slot)) {
            Ok(block) => block,
            Err(error) => {
                self.free.push(index);
                if job.failed(first, count, &TaskError::Lost(error.to_string())) {
                    self.callers.push(job);
                }
                return;
            }
        };
        let input = block.map_or(desk.inline(slot), |block| block.at);
        let input_len = bytes.len() as u64;
        let (tries, ticket, progress) = (0, self.tail, None);
        let chunk = Chunk { job, first, count, tries, ticket, block, input, input_len, progress };
        self.queue(desk, index, slot, chunk, room);
    }

    /// Queues a slot whose arguments are in place.
    fn queue(&mut self, desk: &Desk, index: usize, slot: &Slot, mut chunk: Chunk, room: usize) {
        chunk.ticket = self.tail;
        chunk.progress = None;
        self.tail += 1;
        // Without a large block the worker makes room by itself.
        let block = if room > INLINE { reserve(desk, room) } else { None };
        slot.blocks[0].store(block.map_or(0, name_of), Relaxed); // this and what follows is published with the word
        slot.blocks[1..].iter().for_each(|block| block.store(0, Relaxed));
        slot.output.store(u32::from(block.is_some()), Relaxed);
        slot.done.store(0, Relaxed);
        slot.verdict.store(Verdict::Done as u32, Relaxed);
        slot.calls.store(u32::from(chunk.job.calls()), Relaxed);
        let (runner, count) = (chunk.job.runner(), chunk.count as u32);
        let brief = Brief { runner, input: chunk.input, input_len: chunk.input_len, count };
        slot.set_brief(brief, desk.seal(&brief, chunk.ticket));
        desk.line().push(chunk.ticket, index, &slot.word);
        self.chunks[index] = Some(chunk);
    }

    /// Takes what workers have finished. True: those who wait are to be told, of this or of something before.
    pub(crate) fn collect(&mut self, desk: &Desk) -> bool {
        let mut more = Vec::new();
        for worker in 0..self.crew.len() {
            if let Some(bench) = desk.bench(worker) {
                bench.finished.take(|slot| self.gather(desk, slot, &mut more));
            }
        }
        self.queue_again(desk, more);
        std::mem::take(&mut self.has_news)
    }

    /// Takes what is in this slot, if it is finished.
    pub(super) fn gather(&mut self, desk: &Desk, index: usize, more: &mut Vec<usize>) {
        let (Some(slot), Some(Some(chunk))) = (desk.slot(index), self.chunks.get(index)) else {
            return;
        };
        if !matches!(slot.word.state(), Is::Done(ticket, _) if ticket == chunk.ticket) {
            return;
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
    }

    /// Takes the results of a slot that nobody works on, and frees the slot. With an `error` for the task after those that
    /// are done, unless it is to be tried again; if its worker died and there is none, the task is not to blame for that, and
    /// this was no try. True: it is to be queued again, for what is left.
    pub(super) fn settle(
        &mut self,
        desk: &Desk,
        index: usize,
        slot: &Slot,
        error: Option<TaskError>,
        died: bool,
    ) -> bool {
        let Some(mut chunk) = self.chunks[index].take() else { return false };
        self.has_news = true;
        let count = chunk.count;
        let done = (slot.done.load(Acquire) as usize).min(count); // pairs with the worker's Release
        let job = chunk.job.clone();
        let mut wants_call = false;
        if done > 0 {
            wants_call |= match desk.output(slot) {
                Some((at, len)) => {
                    // SAFETY: mapped, and nobody writes there: the worker is through with it, or dead.
                    let bytes = unsafe { std::slice::from_raw_parts(at, len) };
                    job.results(chunk.first, done, bytes)
                }
                None => job.failed(chunk.first, done, &TaskError::Lost("the task's slot is damaged".into())),
            };
        }
        let mut gone = done;
        let tries = if done == 0 { chunk.tries } else { 0 };
        let is_to_blame = error.is_some();
        let again = died && done < count && (tries < job.retries() || !is_to_blame);
        if let (Some(error), false, true) = (error, again, done < count) {
            wants_call |= job.failed(chunk.first + done, 1, &error);
            gone += 1;
        }
        (0..slot.blocks.len()).for_each(|index| desk.free(slot, index));
        if gone < count {
            match self.advance(desk, &mut chunk, gone) {
                Ok(()) => {
                    chunk.tries = if again { tries + u32::from(is_to_blame) } else { 0 };
                    self.chunks[index] = Some(chunk);
                    if wants_call {
                        self.callers.push(job);
                    }
                    return true;
                }
                Err(error) => wants_call |= job.failed(chunk.first + gone, count - gone, &error),
            }
        }
        if let Some(block) = chunk.block {
            let _ = desk.heap.free(block);
        }
        slot.word.clear();
        self.free.push(index);
        if wants_call {
            self.callers.push(job);
        }
        false
    }

    /// Makes the chunk begin with its task number `gone`.
    fn advance(&self, desk: &Desk, chunk: &mut Chunk, gone: usize) -> Result<(), TaskError> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let lost = || TaskError::Lost("the task's arguments are damaged".into());
        let start = desk.bytes(chunk.input, chunk.input_len).ok_or_else(lost)?;
        // SAFETY: mapped; only the pool writes there.
        let bytes = unsafe { std::slice::from_raw_parts(start, chunk.input_len as usize) };
        let skipped = chunk.job.skip(bytes, gone).map_err(|_| lost())? as u64;
        chunk.input += skipped;
        chunk.input_len -= skipped;
        chunk.first += gone;
        chunk.count -= gone;
        Ok(())
    }

    /// Queues slots again of whose chunks something is left.
    pub(super) fn queue_again(&mut self, desk: &Desk, slots: Vec<usize>) {
        if slots.is_empty() {
            return;
        }
        for index in slots {
            let (Some(slot), Some(chunk)) = (desk.slot(index), self.chunks[index].take()) else {
                continue;
            };
            let room = INLINE.max(chunk.count.saturating_mul(16));
            self.queue(desk, index, slot, chunk, room);
        }
        desk.line().publish(self.tail);
        desk.head().work.notify_all();
    }

    /// Nothing more will be done: all tasks that are not done have this error.
    pub(crate) fn end(&mut self, desk: &Desk, error: TaskError) {
        self.collect(desk);
        self.has_news = true;
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
        (self.free, self.lost) = ((0..SLOTS).collect(), 0);
        self.over = Some(error);
    }

    /// Whoever finishes one of the later chunks of this batch is to wake who waits for it. What is finished is taken, as nobody
    /// will wake anybody for that: whoever waits is to look again after this.
    pub(crate) fn wait_for(&mut self, desk: &Desk, id: u64, workers: usize) {
        let chunks = self.chunks.iter().enumerate();
        let mut own: Vec<(u64, usize)> = chunks
            .filter_map(|(index, chunk)| chunk.as_ref().map(|chunk| (index, chunk)))
            .filter(|(_, chunk)| chunk.job.id() == id)
            .map(|(index, chunk)| (chunk.ticket, index))
            .collect();
        own.sort_unstable();
        // Of many the second half: to wake for each would cost more than the tasks.
        let skipped = if own.len() > 2 * workers { own.len() / 2 } else { 0 };
        let mut more = Vec::new();
        for &(ticket, index) in &own[skipped..] {
            if desk.word(index).is_some_and(|word| !word.wait_for(ticket)) {
                self.gather(desk, index, &mut more);
            }
        }
        self.queue_again(desk, more);
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

/// A block for so many bytes of results.
fn reserve(desk: &Desk, room: usize) -> Option<Block> {
    let block = desk.heap.alloc(room).ok()?;
    desk.heap.publish(block).ok()?;
    Some(block)
}

/// What the worker said.
fn text(desk: &Desk, slot: &Slot) -> String {
    let len = slot.text_len.load(Relaxed);
    match desk.held(slot, TEXT) {
        Some((start, room)) if len <= room as u64 => {
            // SAFETY: mapped, and nobody writes there any more: the worker is through with it.
            let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => "the worker could not say why".to_owned(),
    }
}
