//! One chunk of tasks in a worker: unpack, call, pack the result, say so; until the last, or one that fails.
//!
//! The pool looks up nothing: it writes where in the program the [`Runner`] of its function's type is, as
//! [`crate::Process::spawn`] does. So the loop is compiled for the function, and arguments and results are of its types.
//!
//! A chunk ends early at a task that gives no result, or if the worker dies in it. Those before it are done, and the pool
//! queues the rest: who is in the same chunk is not concerned.
//!
//! # Death
//!
//! | window | what stands there | the pool |
//! |---|---|---|
//! | in a task | `done` says which | gives it its error or another try, queues the rest |
//! | a result is packed, `done` not raised | the same | the same: the result does not count |
//! | a larger block for results is allocated, not named | nothing; it is in the worker's hand | reaps it |
//! | named, not published | one of `blocks`; `output` says where the results are still | reaps it; whoever has its place then has another generation |
//! | published, the results not said to be there | the same | frees both |
//! | `output` says so, the old block not freed | both in `blocks` | reads the new one, frees both |
//! | the old block freed | the same; it is named until the next takes its place | frees both, of which one fails |
//! | a text is named, published or not | the third of `blocks` | frees it, if it was published |
//!
//! Freeing by name is idempotent, so after a death all three are freed, whatever they were.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::pool::desk::{name_of, Brief, Desk, Slot, TEXT};
use crate::process::{panic_text, Argument, Packer, Unpacker};
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// How a chunk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Verdict {
    /// All of it was done. What a slot says while nobody has said otherwise.
    Done = 0,
    /// The task after those that are done panicked.
    Panicked = 1,
    /// Its argument could not be read, or its result not be stored.
    Failed = 2,
    /// The worker has done as many tasks as it was to; the others are for somebody else.
    Retired = 3,
}

impl Verdict {
    pub(crate) fn from_number(number: u32) -> Verdict {
        let all = [Verdict::Done, Verdict::Panicked, Verdict::Retired];
        all.into_iter().find(|verdict| *verdict as u32 == number).unwrap_or(Verdict::Failed)
    }
}

/// Runs a chunk of tasks of one function.
pub(crate) type Runner = fn(&Turn<'_>) -> Verdict;

/// A slot in the hands of a worker.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) desk: &'a Desk,
    pub(crate) slot: &'a Slot,
    /// As the seal says.
    pub(crate) brief: Brief,
    /// How many tasks at most.
    pub(crate) limit: u64,
}

/// The runner of the function whose type is `F`.
pub(crate) fn run<F, A, R>(turn: &Turn<'_>) -> Verdict
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: Argument,
    R: Argument,
{
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: F has no bytes, so any aligned pointer will do; it is Copy, and the pool had one of it.
    let function: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    let epoch = fork::epoch();
    let outcome = catch_unwind(AssertUnwindSafe(|| run_all(turn, function, epoch)));
    end_if_forked(epoch);
    match outcome {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => turn.say(Verdict::Failed, &error.to_string()),
        Err(payload) => {
            let text = panic_text(&*payload);
            // It may panic when it is dropped.
            std::mem::forget(payload);
            turn.say(Verdict::Panicked, &text)
        }
    }
}

fn run_all<A: Argument, R: Argument>(
    turn: &Turn<'_>,
    function: impl Fn(A) -> R,
    epoch: u32,
) -> Result<Verdict> {
    let slot = turn.slot;
    let mut input = Unpacker::new(turn.input()?);
    let mut output = turn.output(0)?;
    let count = turn.brief.count;
    let limit = u32::try_from(turn.limit).unwrap_or(u32::MAX).min(count);
    for done in 1..=limit {
        let result = function(A::unpack_item(&mut input)?);
        end_if_forked(epoch);
        result.pack_item(&mut output)?;
        if !output.spilled().is_empty() {
            output = turn.make_room(&output)?;
        }
        slot.done.store(done, Release); // pairs with the pool's Acquire: the result is there
    }
    Ok(if limit < count { Verdict::Retired } else { Verdict::Done })
}

/// A task has forked, and this is the child: the slot is its parent's.
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

impl<'a> Turn<'a> {
    fn input(&self) -> Result<&'a [u8]> {
        let len = self.brief.input_len;
        let start = self.desk.bytes(self.brief.input, len).ok_or_else(damaged)?;
        // SAFETY: mapped; the pool has written it before it queued the slot, and writes there again when the slot is done.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }

    /// A packer to the results' bytes, behind the first `used`.
    fn output(&self, used: usize) -> Result<Packer> {
        let (start, len) = self.desk.output(self.slot).ok_or_else(damaged)?;
        let room = len.checked_sub(used).ok_or_else(damaged)?;
        // SAFETY: mapped; they are this worker's as long as the slot is.
        Ok(unsafe { Packer::over(start.wrapping_add(used), room) })
    }

    /// Moves what `full` has packed to a larger block, and gives a packer that goes on there.
    #[cold]
    fn make_room(&self, full: &Packer) -> Result<Packer> {
        let (slot, desk) = (self.slot, self.desk);
        let spilled = full.spilled();
        let (from, len) = desk.output(slot).ok_or_else(damaged)?;
        let packed = full.end().addr().wrapping_sub(from.addr());
        if packed > len {
            return Err(damaged());
        }
        let used = packed + spilled.len();
        let new = desk.heap.alloc(used.saturating_mul(2))?;
        let room = desk.heap.len(new.at)?;
        let to = desk.bytes(new.at, room).ok_or_else(damaged)?;
        // SAFETY: both are mapped and this worker's: one by the slot, one by the allocation, which has `used` bytes at least.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, packed);
            std::ptr::copy_nonoverlapping(spilled.as_ptr(), to.add(packed), spilled.len());
        }
        // What stood in the other place is freed. In this order: see the table of deaths.
        let number = if slot.output.load(Relaxed) == 1 { 2 } else { 1 };
        slot.blocks[number - 1].store(name_of(new), Release); // pairs with held() and free()
        desk.heap.publish(new)?;
        slot.output.store(number as u32, Release); // pairs with output()
        desk.free(slot, 2 - number);
        self.output(used)
    }

    /// Leaves a text for the pool.
    #[cold]
    pub(crate) fn say(&self, verdict: Verdict, text: &str) -> Verdict {
        let heap = &self.desk.heap;
        // Without room it ends without words.
        if let Ok(block) = heap.alloc(text.len().max(1)) {
            if let Some(to) = self.desk.bytes(block.at, text.len() as u64) {
                // SAFETY: mapped, and this worker's by the allocation.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
                self.slot.text_len.store(text.len() as u64, Relaxed);
                self.slot.blocks[TEXT].store(name_of(block), Release); // pairs with held() and free()
                let _ = heap.publish(block);
            }
        }
        verdict
    }

    /// Says how it ended. Before the slot is finished.
    pub(crate) fn judge(&self, verdict: Verdict) {
        self.slot.verdict.store(verdict as u32, Relaxed); // published with the word
    }

    /// How many of its tasks are done.
    pub(crate) fn done(&self) -> u32 {
        self.slot.done.load(Acquire)
    }
}
