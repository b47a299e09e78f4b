//! The pool's memory: one object in a segment of its own, and the segment's heap.
//!
//! | bytes | content |
//! |---|---|
//! | 0.. | [`Head`]: how many workers, whether it is closed, who sleeps |
//! | then | the [`Line`] of queued slots |
//! | then | [`SLOTS`] slots of 256 bytes, each with the word of [`super::slot`] |
//! | then | a [`Bench`] for each worker: what it is doing, and which slots it has finished |
//!
//! Arguments and results up to 64 bytes stand in their slot; what is longer stands in a block of the heap, which the pool frees
//! when it has read it. A slot names its blocks with their generations, so what is freed is never somebody else's block that
//! stands at the same place by now.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::heap::{Block, Heap};
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Place, Shape};
use crate::pool::finished::Finished;
use crate::pool::line::{Line, SLOTS};
use crate::pool::slot::{Word, MAX_WORKERS};
use crate::sync::wait::Waiters;
use crate::{Error, ErrorKind, Result};

/// So many bytes of arguments, and so many of results, have room in a slot.
pub(crate) const INLINE: usize = 64;

/// The first bytes of the object. Any bytes are a Head.
#[repr(C, align(128))]
pub(crate) struct Head {
    workers: AtomicU32,
    /// Not 0: workers that find nothing in the line end.
    pub(crate) closed: AtomicU32,
    /// Mixed into the places of functions: see [`Desk::seal`].
    secret: AtomicU64,
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
    pub(crate) word: Word,
    /// So many of its tasks are done, and their results stand at `output`.
    pub(crate) done: AtomicU32,
    count: AtomicU32,
    runner: AtomicU64,
    seal: AtomicU64,
    input: AtomicU64,
    input_len: AtomicU64,
    /// The names of blocks that go with this run; 0: none. The first two take turns at having the results: the other one is about
    /// to, or had them and is free. The third is why a task gave none.
    pub(crate) blocks: [AtomicU64; 3],
    /// Where the results stand: 0: in the slot; else so many-th of `blocks`.
    pub(crate) output: AtomicU32,
    pub(crate) verdict: AtomicU32,
    pub(crate) text_len: AtomicU64,
    /// Not 0: who finishes it wakes the pool's thread.
    pub(crate) calls: AtomicU32,
    /// So few that short arguments stand in the cache line of what is before.
    _apart: [u8; 28],
    inline: [AtomicU64; 2 * INLINE / 8],
}

/// Which of a slot's blocks is why a task gave no result.
pub(crate) const TEXT: usize = 2;

/// What the pool says of a run, under its seal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brief {
    /// Where in the program the function's runner is.
    pub(crate) runner: u64,
    /// Where in the segment the arguments are, and how many bytes.
    pub(crate) input: u64,
    pub(crate) input_len: u64,
    /// How many tasks it is.
    pub(crate) count: u32,
}

const _: () = assert!(size_of::<Slot>() == 256 && size_of::<Head>() == 384);

/// What a worker is doing.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Bench {
    pub(crate) pid: AtomicU32,
    /// 0: it begins; 1: it works; 2: it ends, because it has done as many tasks as it was to.
    pub(crate) stage: AtomicU32,
    /// The slot that it works on, plus 1; 0: none.
    pub(crate) busy: AtomicU32,
    /// Its owner id.
    pub(crate) owner: AtomicU32,
    pub(crate) tasks: AtomicU64,
    _apart: [u8; 104],
    pub(crate) finished: Finished,
}

pub(crate) const BEGINS: u32 = 0;
pub(crate) const WORKS: u32 = 1;
pub(crate) const RETIRES: u32 = 2;

pub(crate) const LINE_AT: usize = size_of::<Head>();
pub(crate) const SLOTS_AT: usize = LINE_AT + size_of::<Line>();
pub(crate) const BENCHES_AT: usize = SLOTS_AT + SLOTS * size_of::<Slot>();

/// Blocks below this have names.
const NAMED_MAX: u64 = 1 << 36;

/// A block in one word: where it begins, in units of 16 bytes, and its generation.
pub(crate) fn name_of(block: Block) -> u64 {
    ((block.at / 16) << 32) | u64::from(block.generation)
}

fn block_of(name: u64) -> Block {
    Block { at: (name >> 32) * 16, generation: name as u32 }
}

fn len_for(workers: usize) -> usize {
    BENCHES_AT + workers * size_of::<Bench>()
}

/// One process's view of the pool's memory.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    object: ObjectRef,
    pub(crate) heap: Heap,
    workers: usize,
    size: u64,
    secret: u64,
}

impl Desk {
    /// Memory for so many workers, under a name or without.
    pub(crate) fn create(name: Option<&str>, workers: usize, secret: u64) -> Result<Desk> {
        let shape = Shape { kind: Kind::Pool, schema: String::new(), len: len_for(workers) };
        let init = |base: *mut u8| {
            // SAFETY: an object of this shape, zeroed and aligned, that nobody else can see; any bytes are a Head.
            let head = unsafe { &*base.cast::<Head>() };
            head.workers.store(workers as u32, Relaxed); // published with the object
            head.secret.store(secret, Relaxed);
        };
        let object = match name {
            None => Place::anonymous_growing(&shape, init)?,
            Some(name) => Place::from(name).growing().create(&shape, init)?,
        };
        Desk::of(object)
    }

    pub(crate) fn of(object: ObjectRef) -> Result<Desk> {
        let damaged = || Error::new(ErrorKind::Corrupted, "the pool's memory is not as long as it says");
        let head = head_at(object.base(), object.len()).ok_or_else(damaged)?;
        let workers = head.workers.load(Relaxed) as usize;
        if workers > MAX_WORKERS || object.len() < len_for(workers) {
            return Err(damaged());
        }
        let secret = head.secret.load(Relaxed);
        let heap = Heap::of(object.attachment());
        let size = object.attachment().facts().size;
        if size > NAMED_MAX {
            return Err(damaged());
        }
        Ok(Desk { object, heap, workers, size, secret })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(crate) fn head(&self) -> &Head {
        // SAFETY: `of` has checked that the object is long enough; it is aligned to 128 and mapped as long as `object` lives;
        // all that stands there is atomic, so any bytes are a Head.
        unsafe { &*self.object.base().cast() }
    }

    pub(crate) fn line(&self) -> &Line {
        // SAFETY: as in head().
        unsafe { &*self.object.base().add(LINE_AT).cast() }
    }

    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: as in head(), and there are so many.
        (index < SLOTS).then(|| unsafe { &*self.object.base().add(SLOTS_AT).cast::<Slot>().add(index) })
    }

    pub(crate) fn word(&self, index: usize) -> Option<&Word> {
        self.slot(index).map(|slot| &slot.word)
    }

    pub(crate) fn bench(&self, worker: usize) -> Option<&Bench> {
        if worker >= self.workers {
            return None;
        }
        // SAFETY: as in head(), and there are so many.
        Some(unsafe { &*self.object.base().add(BENCHES_AT).cast::<Bench>().add(worker) })
    }

    /// Where in the segment a slot's own bytes for arguments begin; those for results follow.
    pub(crate) fn inline(&self, slot: &Slot) -> u64 {
        let at = std::ptr::from_ref(&slot.inline).addr();
        (at - self.object.attachment().base().addr()) as u64
    }

    /// The `len` bytes at `at` of the segment, if they are mapped. Whose they are the slot's word says.
    pub(crate) fn bytes(&self, at: u64, len: u64) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        (end <= self.size).then(|| self.object.attachment().base().wrapping_add(at as usize))
    }

    /// What stands beside a brief, so that damage does not call something else, nor the same with what is no argument.
    pub(crate) fn seal(&self, brief: &Brief, ticket: u64) -> u64 {
        let words = [brief.runner, brief.input, brief.input_len, brief.count.into(), ticket];
        let mix = |seal: u64, word: u64| (seal ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        words.into_iter().fold(self.secret, mix)
    }

    /// Where the slot's results stand, and how many bytes have room there.
    pub(crate) fn output(&self, slot: &Slot) -> Option<(*mut u8, usize)> {
        match slot.output.load(Acquire) as usize {
            // pairs with make_room()
            0 => Some((self.bytes(self.inline(slot) + INLINE as u64, INLINE as u64)?, INLINE)),
            number => self.held(slot, number - 1),
        }
    }

    /// The bytes of a block that goes with the slot, if it lasts.
    pub(crate) fn held(&self, slot: &Slot, index: usize) -> Option<(*mut u8, usize)> {
        let block = block_of(slot.blocks.get(index)?.load(Acquire)); // pairs with make_room() and say()
        if self.heap.identify(block.at)? != block {
            return None;
        }
        let len = self.heap.len(block.at).ok()?;
        Some((self.bytes(block.at, len)?, len as usize))
    }

    /// Frees a block that goes with the slot, unless it has been already.
    pub(crate) fn free(&self, slot: &Slot, index: usize) {
        let name = slot.blocks[index].load(Acquire); // pairs with make_room() and say()
        if name != 0 {
            // It fails if nothing is there to free: the generation keeps it from whoever has the place now.
            let _ = self.heap.free(block_of(name));
        }
    }
}

impl Slot {
    /// What is to be done. Without a look at the seal it may be anything.
    pub(crate) fn brief(&self) -> (Brief, u64) {
        let brief = Brief {
            runner: self.runner.load(Relaxed),
            input: self.input.load(Relaxed),
            input_len: self.input_len.load(Relaxed),
            count: self.count.load(Relaxed),
        };
        (brief, self.seal.load(Relaxed))
    }

    /// Says what is to be done. Published with the word.
    pub(crate) fn set_brief(&self, brief: Brief, seal: u64) {
        self.runner.store(brief.runner, Relaxed);
        self.input.store(brief.input, Relaxed);
        self.input_len.store(brief.input_len, Relaxed);
        self.count.store(brief.count, Relaxed);
        self.seal.store(seal, Relaxed);
    }
}

impl Bench {
    /// Which participant the worker is.
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        OwnerId::from_bits(self.owner.load(Relaxed))
    }
}

fn head_at<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    (len >= BENCHES_AT).then(|| unsafe { &*base.cast::<Head>() })
}

/// What `pagemate show` says about a pool.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(head) = head_at(base, len) else { return Vec::new() };
    let workers = (head.workers.load(Relaxed) as usize).min((len - BENCHES_AT) / size_of::<Bench>());
    // SAFETY: as in head_at, and so many have room in `len` bytes.
    let benches = unsafe { std::slice::from_raw_parts(base.add(BENCHES_AT).cast::<Bench>(), workers) };
    // SAFETY: as in head_at.
    let line = unsafe { &*base.add(LINE_AT).cast::<Line>() };
    let count = |what: fn(&Bench) -> bool| benches.iter().filter(|bench| what(bench)).count().to_string();
    let tasks: u64 = benches.iter().map(|bench| bench.tasks.load(Relaxed)).fold(0, u64::wrapping_add);
    vec![
        ("workers", workers.to_string()),
        ("working", count(|bench| bench.stage.load(Relaxed) == WORKS)),
        ("busy", count(|bench| bench.busy.load(Relaxed) != 0)),
        ("queued", line.len().min(SLOTS as u64).to_string()),
        ("tasks done", tasks.to_string()),
        ("closed", (head.closed.load(Relaxed) != 0).to_string()),
    ]
}
