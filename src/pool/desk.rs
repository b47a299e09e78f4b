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
//! when it has read it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::heap::{Block, Heap};
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::place::{Place, Shape};
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
    pub(crate) count: AtomicU32,
    pub(crate) runner: AtomicU64,
    pub(crate) seal: AtomicU64,
    pub(crate) input: AtomicU64,
    pub(crate) input_len: AtomicU64,
    pub(crate) output: AtomicU64,
    pub(crate) output_len: AtomicU64,
    /// A block that is about to become `output`, or was; 0: none. And which of those that stood there.
    spare: AtomicU64,
    spare_generation: AtomicU64,
    pub(crate) verdict: AtomicU32,
    /// Not 0: who finishes it wakes the pool's thread.
    pub(crate) calls: AtomicU32,
    /// Why a task gave no result; 0: it says nothing.
    pub(crate) text: AtomicU64,
    pub(crate) text_len: AtomicU64,
    _apart: [u8; 16],
    inline: [AtomicU64; 2 * INLINE / 8],
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
    _pad: u32,
    pub(crate) tasks: AtomicU64,
    _apart: [u8; 104],
    /// Bit n: it has finished slot n, and the pool has not looked since. A hint: the slot's word decides.
    finished: [AtomicU64; SLOTS / 64],
}

pub(crate) const BEGINS: u32 = 0;
pub(crate) const WORKS: u32 = 1;
pub(crate) const RETIRES: u32 = 2;

const LINE_AT: usize = size_of::<Head>();
const SLOTS_AT: usize = LINE_AT + size_of::<Line>();
const BENCHES_AT: usize = SLOTS_AT + SLOTS * size_of::<Slot>();

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
        // SAFETY: as in head(), and there are so many.
        (worker < self.workers)
            .then(|| unsafe { &*self.object.base().add(BENCHES_AT).cast::<Bench>().add(worker) })
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

    /// What stands beside the place of a function in a slot, so that damage does not call something else.
    pub(crate) fn seal(&self, runner: u64, ticket: u64) -> u64 {
        (runner ^ self.secret).wrapping_add(ticket).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The block at `at`, if it is one that lasts: a slot's own bytes are none.
    pub(crate) fn block(&self, at: u64) -> Option<Block> {
        let object = self.object.base().addr() - self.object.attachment().base().addr();
        let own = object as u64..(object + self.object.len()) as u64;
        (at != 0 && !own.contains(&at)).then(|| self.heap.identify(at))?
    }

    /// Frees the block at `at`, if it is one.
    pub(crate) fn free(&self, at: u64) {
        if let Some(block) = self.block(at) {
            // Cannot fail: the pool alone frees what slots hold. What is damaged stays where it is.
            let _ = self.heap.free(block);
        }
    }

    /// Frees the slot's spare block, if it has not been already.
    pub(crate) fn free_spare(&self, slot: &Slot) {
        let at = slot.spare.load(Acquire);
        if at != 0 {
            let generation = slot.spare_generation.load(Relaxed) as u32;
            // It fails if the one who died came as far as that; the generation keeps it from whoever has the block now.
            let _ = self.heap.free(Block { at, generation });
            slot.spare.store(0, Release);
        }
    }
}

impl Slot {
    pub(crate) fn set_spare(&self, block: Option<Block>) {
        let Some(block) = block else { return self.spare.store(0, Release) };
        self.spare_generation.store(block.generation.into(), Relaxed);
        self.spare.store(block.at, Release); // pairs with free_spare()
    }
}

impl Bench {
    /// Tells the pool that `slot` is finished.
    pub(crate) fn report(&self, slot: usize) {
        self.finished[slot / 64].fetch_or(1 << (slot % 64), AcqRel); // pairs with take_finished()
    }

    /// The slots that were finished since the last call.
    pub(crate) fn take_finished(&self, mut f: impl FnMut(usize)) {
        for (index, word) in self.finished.iter().enumerate() {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Acquire); // pairs with report()
            while bits != 0 {
                f(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
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
