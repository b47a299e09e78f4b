//! The pool's memory as one process has it mapped: the object, and the segment's heap.

use crate::heap::{Block, Heap};
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::pool::completions::Completions;
use crate::pool::layout::{
    block_of, Job, PoolHeader, Slot, WorkerSlot, INLINE, RUN_QUEUE_AT, SLOTS_AT, TEXT, WORKER_SLOTS_AT, WORKS,
};
use crate::pool::run_queue::{RunQueue, SLOTS};
use crate::pool::slot::{SlotWord, State, MAX_WORKERS};
use crate::pool::slot_table::SlotMemory;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::wait::Waiters;
use crate::{Error, ErrorKind, Result};

/// Blocks at offsets below this have names.
const NAMED_MAX: u64 = 1 << 36;

const fn len_for(workers: usize) -> usize {
    WORKER_SLOTS_AT + workers * size_of::<WorkerSlot>()
}

/// One process's view of the pool's memory.
#[derive(Debug, Clone)]
pub(crate) struct SharedPool {
    object: ObjectRef,
    pub(crate) heap: Heap,
    workers: usize,
    size: u64,
    secret: u64,
}

/// What the memory of a new pool depends on.
pub(crate) struct Initial {
    pub(crate) workers: usize,
    pub(crate) secret: u64,
}

impl Object for SharedPool {
    const KIND: Kind = Kind::Pool;
    const LEN: usize = len_for(0);
    type Initial = Initial;

    fn len_for(initial: &Initial) -> Result<usize> {
        Ok(len_for(initial.workers))
    }

    unsafe fn init(base: *mut u8, initial: &Initial) {
        // SAFETY: as the caller promises; any bytes are a valid header.
        let header = unsafe { &*base.cast::<PoolHeader>() };
        header.workers.store(initial.workers as u32, Relaxed); // published with the object
        header.secret.store(initial.secret, Relaxed);
    }

    fn attach(object: ObjectRef) -> Result<SharedPool> {
        let damaged = || Error::new(ErrorKind::Corrupted, "the pool's memory is not as long as it says");
        let header = header_at(object.base(), object.len()).ok_or_else(damaged)?;
        let workers = header.workers.load(Relaxed) as usize;
        if workers > MAX_WORKERS || object.len() < len_for(workers) {
            return Err(damaged());
        }
        let secret = header.secret.load(Relaxed);
        let heap = Heap::of(object.attachment());
        let size = object.attachment().facts().size;
        if size > NAMED_MAX {
            return Err(damaged());
        }
        Ok(SharedPool { object, heap, workers, size, secret })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl SharedPool {
    pub(crate) fn header(&self) -> &PoolHeader {
        // SAFETY: attach() has checked that the object is long enough. It is aligned to 128 and
        // mapped while `object` lives. Every field is atomic, so any bytes are a valid header.
        unsafe { &*self.object.base().cast() }
    }

    pub(crate) fn run_queue(&self) -> &RunQueue {
        // SAFETY: as in header().
        unsafe { &*self.object.base().add(RUN_QUEUE_AT).cast() }
    }

    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: as in header(), and `index` is below the number of slots.
        (index < SLOTS).then(|| unsafe { &*self.object.base().add(SLOTS_AT).cast::<Slot>().add(index) })
    }

    pub(crate) fn word(&self, index: usize) -> Option<&SlotWord> {
        self.slot(index).map(|slot| &slot.word)
    }

    /// Returns whether worker number `worker` has taken a slot and not finished it.
    pub(crate) fn has_running_slot(&self, worker: usize) -> bool {
        let mut states = (0..SLOTS).filter_map(|index| self.word(index)).map(SlotWord::state);
        states.any(|state| matches!(state, State::Running(_, owner) if owner == worker))
    }

    pub(crate) fn worker_slot(&self, worker: usize) -> Option<&WorkerSlot> {
        if worker >= self.workers {
            return None;
        }
        // SAFETY: as in header(), and `worker` is below the number of workers.
        Some(unsafe { &*self.object.base().add(WORKER_SLOTS_AT).cast::<WorkerSlot>().add(worker) })
    }

    /// Returns the offset in the segment of a slot's inline bytes for arguments; those for results
    /// follow.
    pub(crate) fn inline(&self, slot: &Slot) -> u64 {
        let at = std::ptr::from_ref(&slot.inline).addr();
        (at - self.object.attachment().base().addr()) as u64
    }

    /// Returns the `len` bytes at `at` of the segment, if they are mapped. The slot's word says
    /// which process owns them.
    pub(crate) fn bytes(&self, at: u64, len: u64) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        (end <= self.size).then(|| self.object.attachment().base().wrapping_add(at as usize))
    }

    /// Returns the checksum that protects a job, with the pool's secret. After damage a worker
    /// neither calls another function nor passes it other bytes.
    pub(crate) fn seal(&self, job: &Job, ticket: u64) -> u64 {
        let words = [job.call.runner, job.call.function, job.input, job.input_len, job.count.into(), ticket];
        let mix = |seal: u64, word: u64| (seal ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        words.into_iter().fold(self.secret, mix)
    }

    /// Returns where the slot's results are stored, and the number of bytes there.
    pub(crate) fn output(&self, slot: &Slot) -> Option<(*mut u8, usize)> {
        match slot.output.load(Acquire) as usize {
            // pairs with grow_output()
            0 => Some((self.bytes(self.inline(slot) + INLINE as u64, INLINE as u64)?, INLINE)),
            number => self.block_bytes(slot, number - 1),
        }
    }

    /// Returns the bytes of a block of the slot, if it is still allocated.
    pub(crate) fn block_bytes(&self, slot: &Slot, index: usize) -> Option<(*mut u8, usize)> {
        // Pairs with grow_output() and leave_text().
        let block = block_of(slot.blocks.get(index)?.load(Acquire));
        if self.heap.identify(block.at)? != block {
            return None;
        }
        let len = self.heap.len(block.at).ok()?;
        Some((self.bytes(block.at, len)?, len as usize))
    }
}

impl SlotMemory for SharedPool {
    fn run_queue(&self) -> &RunQueue {
        SharedPool::run_queue(self)
    }

    fn slot(&self, index: usize) -> Option<&Slot> {
        SharedPool::slot(self, index)
    }

    fn completions(&self, worker: usize) -> Option<&Completions> {
        self.worker_slot(worker).map(|worker_slot| &worker_slot.completions)
    }

    fn work(&self) -> &Waiters {
        &self.header().work
    }

    fn seal(&self, job: &Job, ticket: u64) -> u64 {
        SharedPool::seal(self, job, ticket)
    }

    fn store(&self, slot: &Slot, bytes: &[u8]) -> Result<(u64, Option<Block>)> {
        let block = if bytes.len() > INLINE { Some(self.heap.alloc(bytes.len())?) } else { None };
        let at = block.map_or(self.inline(slot), |block| block.at);
        let to = self.bytes(at, bytes.len() as u64);
        let to = to.ok_or_else(|| Error::new(ErrorKind::Corrupted, "the pool's memory is damaged"))?;
        // SAFETY: mapped, and ours: by the allocation, or because the slot is free.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        if let Some(block) = block {
            self.heap.publish(block)?;
        }
        Ok((at, block))
    }

    fn arguments<R>(&self, at: u64, len: u64, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let start = self.bytes(at, len)?;
        // SAFETY: mapped; only the pool writes there.
        Some(read(unsafe { std::slice::from_raw_parts(start, len as usize) }))
    }

    fn results<R>(&self, slot: &Slot, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (start, len) = self.output(slot)?;
        // SAFETY: mapped, and nobody writes there, because the worker has finished the slot, or is
        // dead.
        Some(read(unsafe { std::slice::from_raw_parts(start, len) }))
    }

    fn error_text(&self, slot: &Slot) -> String {
        let len = slot.text_len.load(Relaxed);
        match self.block_bytes(slot, TEXT) {
            Some((start, room)) if len <= room as u64 => {
                // SAFETY: mapped, and nobody writes there any more, because the worker has finished
                // the slot.
                let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => "the worker could not say why".to_owned(),
        }
    }

    fn reserve(&self, room: usize) -> Option<Block> {
        let block = self.heap.alloc(room).ok()?;
        self.heap.publish(block).ok()?;
        Some(block)
    }

    fn free(&self, block: Block) {
        // Fails if the block is not allocated. The generation protects a later block at the same
        // place.
        let _ = self.heap.free(block);
    }
}

fn header_at<'a>(base: *const u8, len: usize) -> Option<&'a PoolHeader> {
    // SAFETY: the caller has mapped the object for the time of the call, aligned to 128; any bytes
    // are a valid header.
    (len >= WORKER_SLOTS_AT).then(|| unsafe { &*base.cast::<PoolHeader>() })
}

/// Describes a pool for `pagemate show`.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(header) = header_at(base, len) else { return Vec::new() };
    let workers =
        (header.workers.load(Relaxed) as usize).min((len - WORKER_SLOTS_AT) / size_of::<WorkerSlot>());
    let first = base.wrapping_add(WORKER_SLOTS_AT).cast::<WorkerSlot>();
    // SAFETY: as in header_at, and `workers` of them fit into `len` bytes.
    let worker_slots = unsafe { std::slice::from_raw_parts(first, workers) };
    // SAFETY: as in header_at.
    let run_queue = unsafe { &*base.add(RUN_QUEUE_AT).cast::<RunQueue>() };
    let count = |what: fn(&WorkerSlot) -> bool| {
        worker_slots.iter().filter(|worker_slot| what(worker_slot)).count().to_string()
    };
    let tasks: u64 =
        worker_slots.iter().map(|worker_slot| worker_slot.tasks.load(Relaxed)).fold(0, u64::wrapping_add);
    vec![
        ("workers", workers.to_string()),
        ("working", count(|worker_slot| worker_slot.stage.load(Relaxed) == WORKS)),
        ("busy", count(|worker_slot| worker_slot.busy.load(Relaxed) != 0)),
        ("queued", run_queue.len().min(SLOTS as u64).to_string()),
        ("tasks done", tasks.to_string()),
        ("closed", (header.closed.load(Relaxed) != 0).to_string()),
    ]
}
