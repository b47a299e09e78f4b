//! A worker: takes the next chunk, runs it, reports it, and waits for more.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use std::cell::Cell;
use std::sync::OnceLock;

use crate::pool::chunk::{ChunkRun, Runner};
use crate::pool::layout::{ChunkEnd, WorkerSlot, RETIRES, WORKS};
use crate::pool::shared_pool::SharedPool;
use crate::process::{Argument, Packer, Unpacker};
use crate::segment::object::Object;
use crate::sys::clock::Deadline;
use crate::sys::descriptor::Own;
use crate::sys::exe_image::Image;
use crate::sys::process::leave_interrupts_to_parent;
use crate::wait::wait;
use crate::{Error, Result};

/// The configuration of a worker.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) memory: SharedPool,
    /// An eventfd that wakes the monitor.
    pub(crate) wakeup: Own,
    pub(crate) index: usize,
    pub(crate) pool: String,
    /// Number of tasks after which it retires; 0: no limit.
    pub(crate) limit: u64,
    /// The processor that it runs on, plus 1; 0: any.
    pub(crate) processor: usize,
}

impl Argument for WorkerConfig {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.object(self.memory.object())?;
        packer.file(self.wakeup.into_file()?)?;
        (self.index, self.pool, self.limit, self.processor).pack(packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<WorkerConfig> {
        let memory = unpacker.handle::<SharedPool>()?;
        let wakeup = Own::new(unpacker.file()?);
        let wakeup = wakeup.map_err(|cause| Error::system("cannot keep a pool's descriptor", cause))?;
        let (index, pool, limit, processor) = <_>::unpack(unpacker)?;
        Ok(WorkerConfig { memory, wakeup, index, pool, limit, processor })
    }
}

static THIS: OnceLock<This> = OnceLock::new();

#[derive(Debug)]
struct This {
    index: usize,
    pool: String,
    tasks: AtomicU64,
}

/// This process as a worker of a [`Pool`](crate::Pool).
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    this: &'static This,
}

/// Returns this process as a worker; `None` if it is not one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// use pagemate::pool::worker;
///
/// let pool = pagemate::Pool::new(2)?;
/// let index = pool.apply(|()| worker().map(|worker| worker.index()), ())?;
/// assert!(index.is_some_and(|index| index < 2) && worker().is_none());
/// # Ok(())
/// # }
/// ```
pub fn worker() -> Option<Worker> {
    THIS.get().map(|this| Worker { this })
}

impl Worker {
    /// Returns its number in the pool, from 0. A worker that replaces another has the same number.
    pub fn index(&self) -> usize {
        self.this.index
    }

    /// Returns the pool's name.
    pub fn pool(&self) -> &'static str {
        &self.this.pool
    }

    /// Returns the number of tasks that this process has completed. They are counted at the end of
    /// their chunk.
    pub fn tasks_done(&self) -> u64 {
        self.this.tasks.load(Relaxed)
    }
}

/// Runs a worker's process: calls the initialiser at this offset in the image, which takes an `A`,
/// and then runs tasks until the pool is closed.
pub(crate) fn work<A: Argument>((config, initializer, arguments): (WorkerConfig, u64, A)) {
    let Some(worker_slot) = config.memory.worker_slot(config.index) else { return };
    worker_slot.pid.store(std::process::id(), Relaxed);
    let this = This { index: config.index, pool: config.pool.clone(), tasks: AtomicU64::new(0) };
    let this = THIS.get_or_init(|| this);
    if let Some(processor) = config.processor.checked_sub(1) {
        bind(processor);
    }
    leave_interrupts_to_parent();
    let image = Image::of_this_program();
    let Some(address) = image.address_of(initializer) else {
        panic!("the pool's initialiser is not in this program")
    };
    // SAFETY: the pool has computed the offset from a function of this type, and this is the same
    // program: `init` has checked.
    let initialize = unsafe { std::mem::transmute::<usize, fn(A)>(address) };
    initialize(arguments);
    worker_slot.stage.store(WORKS, Release); // pairs with check_stages()
    config.serve(worker_slot, this);
}

/// Binds this thread to a processor. Fails if the processor does not exist; then the worker runs
/// anywhere.
fn bind(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    if processor < rustix::thread::CpuSet::MAX_CPU {
        set.set(processor);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// The answer of the run queue to a worker.
enum Found {
    Task(u64, usize),
    Closed,
}

impl WorkerConfig {
    fn serve(&self, worker_slot: &WorkerSlot, this: &This) {
        let header = self.memory.header();
        let executor = Executor::new(&self.memory, self.index);
        let attempt = || match executor.take() {
            Some((ticket, slot)) => Some(Found::Task(ticket, slot)),
            None => (header.closed.load(Acquire) != 0).then_some(Found::Closed),
        };
        let reap_dead = || self.memory.object().reap_dead();
        loop {
            let found =
                wait(header.work.futex(), Deadline::Never, reap_dead, attempt, || header.work.announce());
            let (ticket, index) = match found {
                Some(Found::Task(ticket, index)) => (ticket, index),
                Some(Found::Closed) | None => return,
            };
            let before = this.tasks.load(Relaxed);
            let limit = if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(before) };
            let Some((tasks, is_well)) = executor.run(ticket, index, limit) else { continue };
            this.tasks.store(before + tasks, Relaxed);
            // A worker that cannot carry arguments and results is of no use any more; a task may
            // have closed its descriptors.
            let retires = self.limit != 0 && before + tasks >= self.limit || !is_well;
            if retires {
                worker_slot.stage.store(RETIRES, Release); // pairs with check_stages()
            }
            if executor.finish(ticket, index) || retires {
                // Fails only if the counter is full, and then the monitor is awake.
                let _ = self.wakeup.get().map(|wakeup| rustix::io::write(wakeup, &1u64.to_ne_bytes()));
            }
            if retires {
                return;
            }
        }
    }
}

/// Takes and runs chunks for one worker.
pub(crate) struct Executor<'a> {
    memory: &'a SharedPool,
    worker: usize,
    image: Image,
    /// The runner that was called last, and its offset in the program.
    known: Cell<(u64, Option<Runner>)>,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(memory: &'a SharedPool, worker: usize) -> Executor<'a> {
        Executor { memory, worker, image: Image::of_this_program(), known: Cell::new((0, None)) }
    }

    /// Takes the first queued slot. Returns its ticket and its index.
    #[inline]
    pub(crate) fn take(&self) -> Option<(u64, usize)> {
        self.memory.run_queue().take(self.worker, |slot| self.memory.word(slot))
    }

    /// Runs the chunk in the slot, `limit` tasks at most. Returns their number, and whether all
    /// arguments and results could be carried.
    pub(crate) fn run(&self, ticket: u64, index: usize, limit: u64) -> Option<(u64, bool)> {
        let (slot, worker_slot) = (self.memory.slot(index)?, self.memory.worker_slot(self.worker)?);
        worker_slot.busy.store(index as u32 + 1, Relaxed);
        // It is 0, unless it was damaged, and then there are no results that it could describe.
        slot.done.store(0, Relaxed);
        let (job, seal) = slot.job();
        let run = ChunkRun { memory: self.memory, slot, job, limit };
        let is_whole = seal == self.memory.seal(&job, ticket);
        let called = || self.runner(job.call.runner).zip(self.image.address_of(job.call.function));
        let end = match is_whole.then(called).flatten() {
            Some((runner, function)) => runner(&run, function),
            None => run.leave_text(ChunkEnd::Failed, "the task's slot is damaged: it names no function"),
        };
        run.set_end(end);
        // The failed task counts, too.
        let failed = u64::from(matches!(end, ChunkEnd::Panicked | ChunkEnd::Failed));
        let tasks = u64::from(run.done()) + failed;
        worker_slot.tasks.store(worker_slot.tasks.load(Relaxed).wrapping_add(tasks), Relaxed);
        worker_slot.busy.store(0, Relaxed);
        Some((tasks, end != ChunkEnd::Failed))
    }

    /// Hands over the results. Returns whether the monitor is to be woken.
    #[must_use]
    pub(crate) fn finish(&self, ticket: u64, index: usize) -> bool {
        let (Some(slot), Some(worker_slot)) = (self.memory.slot(index), self.memory.worker_slot(self.worker))
        else {
            return false;
        };
        let results = &self.memory.header().results;
        slot.hand_over((ticket, index), self.worker, &worker_slot.completions, results)
    }

    /// Returns the runner at this offset in the program, which the seal has confirmed.
    fn runner(&self, offset: u64) -> Option<Runner> {
        if let (place, Some(runner)) = self.known.get() {
            if place == offset {
                return Some(runner);
            }
        }
        let address = self.image.address_of(offset)?;
        // SAFETY: the pool, which is the same program, has stored the offset of a Runner there: the
        // seal confirms it.
        let runner = unsafe { std::mem::transmute::<usize, Runner>(address) };
        self.known.set((offset, Some(runner)));
        Some(runner)
    }
}
