//! A worker: takes what is next in the line, runs it, says so, and waits for more.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::OnceLock;

use crate::kind::Kind;
use crate::pool::chunk::{Runner, Turn, Verdict};
use crate::pool::desk::{Bench, Desk, RETIRES, WORKS};
use crate::process::{Argument, Packer, Unpacker};
use crate::sync::wait::wait;
use crate::sys::clock::Deadline;
use crate::sys::image::Image;
use crate::Result;

/// What a worker is told when it is started.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) desk: Desk,
    /// An eventfd that wakes the pool's thread.
    pub(crate) bell: OwnedFd,
    pub(crate) index: usize,
    pub(crate) pool: String,
    /// How many tasks it does before it ends; 0: as many as come.
    pub(crate) limit: u64,
    /// The processor that it runs on, plus 1; 0: any.
    pub(crate) processor: usize,
}

impl Argument for Orders {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let owner = packer.object(self.desk.object())?;
        if let Some(bench) = self.desk.bench(self.index) {
            // For the pool, which is this process; the worker does not look at it.
            bench.owner.store(owner.bits(), Relaxed);
        }
        packer.file(self.bell)?;
        (self.index, self.pool, self.limit, self.processor).pack(packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Orders> {
        let desk = Desk::of(unpacker.object(Kind::Pool)?)?;
        let bell = unpacker.file()?;
        let (index, pool, limit, processor) = <_>::unpack(unpacker)?;
        Ok(Orders { desk, bell, index, pool, limit, processor })
    }
}

static THIS: OnceLock<This> = OnceLock::new();

#[derive(Debug)]
struct This {
    index: usize,
    pool: String,
    tasks: AtomicU64,
}

/// The worker of a [`Pool`](crate::Pool) that this process is.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    this: &'static This,
}

/// Which worker of which pool this process is; `None` if it is none.
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
    /// Its number in the pool, from 0. One that takes a dead one's place has the same.
    pub fn index(&self) -> usize {
        self.this.index
    }

    /// The pool's name.
    pub fn pool(&self) -> &'static str {
        &self.this.pool
    }

    /// How many tasks this process has completed: at the end of a chunk all of its tasks are counted.
    pub fn tasks_done(&self) -> u64 {
        self.this.tasks.load(Relaxed)
    }
}

/// The function of a worker's process: `initialize` first, then tasks until the pool is closed.
pub(crate) fn work<I, A>((orders, arguments): (Orders, A))
where
    I: Fn(A) + Copy + Send + 'static,
    A: Argument,
{
    const { assert!(size_of::<I>() == 0) };
    let Some(bench) = orders.desk.bench(orders.index) else { return };
    bench.pid.store(std::process::id(), Relaxed);
    let this = This { index: orders.index, pool: orders.pool.clone(), tasks: AtomicU64::new(0) };
    let this = THIS.get_or_init(|| this);
    if let Some(processor) = orders.processor.checked_sub(1) {
        bind(processor);
    }
    // SAFETY: I has no bytes, so any aligned pointer will do; it is Copy, and the pool had one of it.
    let initialize: I = unsafe { std::ptr::NonNull::<I>::dangling().read() };
    initialize(arguments);
    bench.stage.store(WORKS, Release); // pairs with the pool's look at it
    orders.serve(bench, this);
}

/// Fails if the processor is not there (any more); then it runs anywhere.
fn bind(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    if processor < rustix::thread::CpuSet::MAX_CPU {
        set.set(processor);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// What a worker finds when it looks.
enum Found {
    Task(u64, usize),
    Closed,
}

impl Orders {
    fn serve(&self, bench: &Bench, this: &This) {
        let head = self.desk.head();
        let hands = Hands::new(&self.desk, self.index);
        let attempt = || match hands.take() {
            Some((ticket, slot)) => Some(Found::Task(ticket, slot)),
            None => (head.closed.load(Acquire) != 0).then_some(Found::Closed),
        };
        let tend = || self.desk.object().tend();
        loop {
            let found = wait(head.work.futex(), Deadline::Never, tend, attempt, || head.work.announce());
            let (ticket, index) = match found {
                Some(Found::Task(ticket, index)) => (ticket, index),
                Some(Found::Closed) | None => return,
            };
            let before = this.tasks.load(Relaxed);
            let limit = if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(before) };
            let Some((tasks, is_well)) = hands.run(ticket, index, limit) else { continue };
            this.tasks.store(before + tasks, Relaxed);
            // One that cannot carry arguments and results, since a task has closed its descriptors, say, is no use any more.
            let retires = self.limit != 0 && before + tasks >= self.limit || !is_well;
            if retires {
                bench.stage.store(RETIRES, Release); // pairs with the pool's look at it
            }
            if hands.finish(ticket, index) || retires {
                // Fails only if the counter is full, and then the pool's thread is awake.
                let _ = rustix::io::write(self.bell.as_fd(), &1u64.to_ne_bytes());
            }
            if retires {
                return;
            }
        }
    }
}

/// What a worker does with a task.
pub(crate) struct Hands<'a> {
    desk: &'a Desk,
    worker: usize,
    image: Image,
    /// The function that was called last, and where in the program it is.
    known: Cell<(u64, Option<Runner>)>,
}

impl<'a> Hands<'a> {
    pub(crate) fn new(desk: &'a Desk, worker: usize) -> Hands<'a> {
        Hands { desk, worker, image: Image::of_this_program(), known: Cell::new((0, None)) }
    }

    /// Takes what is first in the line: its ticket and its slot.
    #[inline]
    pub(crate) fn take(&self) -> Option<(u64, usize)> {
        self.desk.line().take(self.worker, |slot| self.desk.word(slot))
    }

    /// Runs what is in the slot, `limit` tasks at most; says how many that were, and whether all could be carried.
    pub(crate) fn run(&self, ticket: u64, index: usize, limit: u64) -> Option<(u64, bool)> {
        let (slot, bench) = (self.desk.slot(index)?, self.desk.bench(self.worker)?);
        bench.busy.store(index as u32 + 1, Relaxed);
        // It is, unless it was damaged; and then there are no results that it could be true of.
        slot.done.store(0, Relaxed);
        let (brief, seal) = slot.brief();
        let turn = Turn { desk: self.desk, slot, brief, limit };
        let is_whole = seal == self.desk.seal(&brief, ticket);
        let verdict = match is_whole.then(|| self.runner(brief.runner)).flatten() {
            Some(runner) => runner(&turn),
            None => turn.say(Verdict::Failed, "the task's slot is damaged: it names no function"),
        };
        turn.judge(verdict);
        // The task that failed was one, too.
        let failed = u64::from(matches!(verdict, Verdict::Panicked | Verdict::Failed));
        let tasks = u64::from(turn.done()) + failed;
        bench.tasks.store(bench.tasks.load(Relaxed).wrapping_add(tasks), Relaxed);
        bench.busy.store(0, Relaxed);
        Some((tasks, verdict != Verdict::Failed))
    }

    /// Gives the results. True: the pool's thread is to be woken.
    #[must_use]
    pub(crate) fn finish(&self, ticket: u64, index: usize) -> bool {
        let (Some(slot), Some(bench)) = (self.desk.slot(index), self.desk.bench(self.worker)) else {
            return false;
        };
        // Once the word is DONE the slot is not this worker's any more.
        let calls = slot.calls.load(Relaxed) != 0;
        let is_waited_for = slot.word.finish(ticket, self.worker);
        bench.finished.report(index);
        if is_waited_for {
            self.desk.head().results.notify_all();
        }
        calls
    }

    /// The function that stands there in the program; a seal has said that it is one.
    fn runner(&self, offset: u64) -> Option<Runner> {
        if let (place, Some(runner)) = self.known.get() {
            if place == offset {
                return Some(runner);
            }
        }
        let address = self.image.address_of(offset)?;
        // SAFETY: the pool, which is the same program, has written the offset of a Runner there: the seal says so.
        let runner = unsafe { std::mem::transmute::<usize, Runner>(address) };
        self.known.set((offset, Some(runner)));
        Some(runner)
    }
}
