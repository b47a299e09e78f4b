//! One chunk of tasks in a worker: unpack, call, pack the result, raise `done`, for each task in
//! turn.
//!
//! The pool stores the offsets of the function and of the [`Runner`] of its type, as
//! [`crate::Process::spawn`] does. So the loop is compiled for the types of arguments and results.
//!
//! A chunk ends early at a task that fails, or if the worker dies in a task. The tasks before it
//! are done, and the pool queues the rest: the other tasks of the chunk are not affected.
//!
//! # Death
//!
//! "The pool frees" a block by its name, with its generation. That is idempotent, so after a death
//! the pool frees all three blocks of the slot, whatever they were.
//!
//! - In a task. `done` says in which. The pool stores its error or tries it again, and queues the
//!   rest.
//! - After a result is packed, before `done` is raised. The same: the result does not count.
//! - After a larger block for results is allocated, before it is named in the slot. The heap's
//!   reaper frees it.
//! - After it is named, before it is published. `output` still refers to the old block. The heap's
//!   reaper frees the new one; a block allocated at its place later has another generation.
//! - After it is published, before `output` refers to it. The pool frees both.
//! - After `output` refers to it, before the old block is freed. Both are in `blocks`: the pool
//!   reads the new one, and frees both.
//! - After the old block is freed. It stays named until the next one replaces it, so the pool frees
//!   both, and one of the two frees fails.
//! - After an error text is named in the third of `blocks`, published or not. The pool frees it if
//!   it was published, else the heap's reaper does.

use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::pool::function::Function;
use crate::pool::layout::{Call, ChunkEnd, Job, Slot, TEXT};
use crate::pool::shared_pool::SharedPool;
use crate::pool::slot_table::SlotMemory;
use crate::process::{panic_text, Argument, Packer, Unpacker};
use crate::sys::exe_image::Image;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Runs a chunk of tasks of the functions of one type; the second argument is the function's
/// address.
pub(crate) type Runner = fn(&ChunkRun<'_>, usize) -> ChunkEnd;

/// Returns the call of `function` in a worker.
pub(crate) fn call_to<F: Function<A, R>, A: Argument, R: Argument>(function: F) -> Result<Call> {
    thread_local! {
        static IMAGE: Image = Image::of_this_program();
    }
    let runner: Runner = run_chunk::<F, A, R>;
    let places =
        IMAGE.with(|image| image.offset_of(runner as usize).zip(image.offset_of(function.address())));
    let (runner, function) = places.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "the function is in a shared library, which a worker may have loaded elsewhere: it \
             must be in the main executable",
        )
    })?;
    Ok(Call { runner, function })
}

/// A slot that a worker is running.
#[derive(Debug)]
pub(crate) struct ChunkRun<'a> {
    pub(crate) memory: &'a SharedPool,
    pub(crate) slot: &'a Slot,
    /// As the seal confirms it.
    pub(crate) job: Job,
    /// Maximum number of tasks to run.
    pub(crate) limit: u64,
}

/// Runs a chunk of a function of type `F`.
fn run_chunk<F, A, R>(run: &ChunkRun<'_>, address: usize) -> ChunkEnd
where
    F: Function<A, R>,
    A: Argument,
    R: Argument,
{
    // SAFETY: the pool has put runner and function under one seal, in `call_to`, for a function of
    // this type.
    let function = unsafe { F::at(address) };
    let epoch = fork::epoch();
    let outcome = catch_unwind(AssertUnwindSafe(|| run_all(run, |argument| function.call(argument), epoch)));
    end_if_forked(epoch);
    match outcome {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => run.leave_text(ChunkEnd::Failed, &error.to_string()),
        Err(payload) => {
            let text = panic_text(&*payload);
            // Leaked, because dropping it may panic.
            std::mem::forget(payload);
            run.leave_text(ChunkEnd::Panicked, &text)
        }
    }
}

fn run_all<A: Argument, R: Argument>(
    run: &ChunkRun<'_>,
    function: impl Fn(A) -> R,
    epoch: u32,
) -> Result<ChunkEnd> {
    let slot = run.slot;
    let mut input = Unpacker::new(run.input()?);
    let mut output = run.output(0)?;
    let count = run.job.count;
    let limit = u32::try_from(run.limit).unwrap_or(u32::MAX).min(count);
    for done in 1..=limit {
        let result = function(A::unpack_item(&mut input)?);
        end_if_forked(epoch);
        result.pack_item(&mut output)?;
        if !output.spilled().is_empty() {
            output = run.grow_output(&output)?;
        }
        slot.raise(done);
    }
    Ok(if limit < count { ChunkEnd::Retired } else { ChunkEnd::Done })
}

/// Ends this process if a task has forked and this is the child, because the slot is its parent's.
#[inline]
fn end_if_forked(epoch: u32) {
    if fork::epoch() != epoch {
        // SAFETY: ends the process; nothing is used after it.
        unsafe { libc::_exit(0) }
    }
}

#[cold]
fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the task's slot is damaged")
}

impl<'a> ChunkRun<'a> {
    pub(super) fn input(&self) -> Result<&'a [u8]> {
        let len = self.job.input_len;
        let start = self.memory.bytes(self.job.input, len).ok_or_else(damaged)?;
        // SAFETY: mapped; the pool wrote it before it queued the slot, and does not write there
        // until the slot is done.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }

    /// Returns a packer into the results' bytes, after the first `used`.
    pub(super) fn output(&self, used: usize) -> Result<Packer> {
        let (start, len) = self.memory.output(self.slot).ok_or_else(damaged)?;
        let room = len.checked_sub(used).ok_or_else(damaged)?;
        // SAFETY: mapped; they are this worker's while it has the slot.
        Ok(unsafe { Packer::over(start.wrapping_add(used), room) })
    }

    /// Moves what `full` has packed to a larger block, and returns a packer that continues there.
    #[cold]
    pub(super) fn grow_output(&self, full: &Packer) -> Result<Packer> {
        let (slot, memory) = (self.slot, self.memory);
        let spilled = full.spilled();
        let (from, len) = memory.output(slot).ok_or_else(damaged)?;
        let packed = full.end().addr().wrapping_sub(from.addr());
        if packed > len {
            return Err(damaged());
        }
        let used = packed + spilled.len();
        let new = memory.heap.alloc(used.saturating_mul(2))?;
        let room = memory.heap.len(new.at)?;
        let to = memory.bytes(new.at, room).ok_or_else(damaged)?;
        // SAFETY: both are mapped and this worker's: one by the slot, one by the allocation, which
        // has `used` bytes at least.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, packed);
            std::ptr::copy_nonoverlapping(spilled.as_ptr(), to.add(packed), spilled.len());
        }
        // The order of these steps is that of the list of deaths. The old block is freed last.
        let number = if slot.output.load(Relaxed) == 1 { 2 } else { 1 };
        slot.name_block(number - 1, new);
        memory.heap.publish(new)?;
        slot.set_output(number as u32);
        memory.free_block(slot, 2 - number);
        self.output(used)
    }

    /// Stores an error text for the pool.
    #[cold]
    pub(crate) fn leave_text(&self, end: ChunkEnd, text: &str) -> ChunkEnd {
        let heap = &self.memory.heap;
        // Without memory the chunk ends without a text.
        if let Ok(block) = heap.alloc(text.len().max(1)) {
            if let Some(to) = self.memory.bytes(block.at, text.len() as u64) {
                // SAFETY: mapped, and this worker's by the allocation.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
                self.slot.text_len.store(text.len() as u64, Relaxed);
                self.slot.name_block(TEXT, block);
                let _ = heap.publish(block);
            }
        }
        end
    }

    /// Stores how the chunk ended. Called before the slot is finished.
    pub(crate) fn set_end(&self, end: ChunkEnd) {
        self.slot.ended.store(end as u32, Relaxed); // published with the word
    }

    /// Returns the number of finished tasks.
    pub(crate) fn done(&self) -> u32 {
        self.slot.done.load(Acquire)
    }
}
