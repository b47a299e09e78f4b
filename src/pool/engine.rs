//! The pool in its own process: the one lock, and how threads wait for results.
//!
//! A thread that waits for a result does the work: it collects what workers have finished, for
//! every thread, and fills free slots. The monitor (`monitor`) does the same when no thread waits.

use std::collections::VecDeque;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::loom::Ordered;
use crate::pool::callbacks::Callbacks;
use crate::pool::error::TaskError;
use crate::pool::packed_chunk::{AnyBatch, PackedChunk};
use crate::pool::scheduler::Scheduler;
use crate::pool::shared::{Plan, Shared};
use crate::pool::shared_pool::SharedPool;
use crate::sys::clock::Deadline;
use crate::sys::descriptor::Own;
use crate::wait::{wait_by, Pace};
use crate::{Error, ErrorKind, Result};

/// How long a killed worker may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// One check for results takes as long as this many checks of a word.
const CHECK_COST: u32 = 4;

/// The part of a pool that all its handles share.
pub(crate) struct Engine {
    /// An `Arc` for the callback thread, which must not keep the rest.
    pub(crate) shared: Arc<Shared>,
    /// The process that created the pool. No other can use it.
    process: u32,
    scheduler: Mutex<Scheduler>,
    /// The callback thread, once there is a callback.
    callbacks: OnceLock<Callbacks>,
}

// A panic leaves nothing half-done behind the lock, because the scheduler calls nothing of the
// program's, and callbacks run without the lock.
impl UnwindSafe for Engine {}
impl RefUnwindSafe for Engine {}

/// A call that is still submitting tasks: the pool counts it as outstanding until this is dropped.
pub(crate) struct Submission<'a>(&'a Engine);

impl Drop for Submission<'_> {
    fn drop(&mut self) {
        let mut scheduler = self.0.lock();
        scheduler.submitting -= 1;
        if scheduler.closed {
            drop(scheduler);
            // A thread that joins the pool may wait for this.
            self.0.notify_waiters();
        }
    }
}

impl Engine {
    pub(crate) fn new(memory: SharedPool, plan: Plan, wakeup: Own, depth: usize) -> Engine {
        let scheduler = Scheduler::new(plan.workers, depth);
        Engine {
            shared: Arc::new(Shared { memory, plan, wakeup }),
            process: std::process::id(),
            scheduler: Mutex::new(scheduler),
            callbacks: OnceLock::new(),
        }
    }

    /// Returns whether this process created the pool, and is not a fork of the one that did.
    pub(crate) fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an error unless this process created the pool.
    pub(crate) fn check_own(&self) -> Result<()> {
        if self.is_own() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotInThisProcess,
            "a pool belongs to the process that created it, not to a fork of that process",
        ))
    }

    /// Locks the scheduler, if tasks can be submitted.
    fn admit(&self) -> Result<MutexGuard<'_, Scheduler>, TaskError> {
        self.check_own()?;
        let scheduler = self.lock();
        match &scheduler.table.over {
            Some(error @ (TaskError::Broken(_) | TaskError::Refused { .. })) => Err(error.clone()),
            Some(_) => Err(Error::new(ErrorKind::Closed, "the pool was terminated").into()),
            None if scheduler.closed => Err(Error::new(ErrorKind::Closed, "the pool is closed").into()),
            None => Ok(scheduler),
        }
    }

    /// Returns an error unless tasks can be submitted.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        self.admit().map(drop)
    }

    /// Begins to submit tasks. All that is submitted until the guard is dropped will be run, also
    /// if the pool is closed meanwhile.
    pub(crate) fn begin(&self) -> Result<Submission<'_>, TaskError> {
        self.admit()?.submitting += 1;
        Ok(Submission(self))
    }

    /// Collects finished chunks, and submits those of `chunks` for which there is room. Returns
    /// whether it has done anything.
    pub(crate) fn collect_and_submit(&self, chunks: &mut VecDeque<PackedChunk>) -> bool {
        let mut scheduler = self.lock();
        let collected = scheduler.table.collect(&self.shared.memory);
        let submitted = scheduler.submit(&self.shared, chunks);
        let due_callbacks = scheduler.table.take_due_callbacks();
        drop(scheduler);
        self.run_callbacks(due_callbacks);
        if collected {
            // Others may wait for what was collected here.
            self.notify_waiters();
        }
        collected || submitted
    }

    /// Wakes all threads that wait for results.
    pub(crate) fn notify_waiters(&self) {
        self.shared.memory.header().results.notify_all(Ordered::by_fence());
    }

    /// Has the callback thread run these callbacks.
    pub(crate) fn run_callbacks(&self, due_callbacks: Vec<Arc<dyn AnyBatch>>) {
        // Without the thread (see `start_callbacks`) there are none.
        if let Some(callbacks) = self.callbacks.get() {
            due_callbacks.into_iter().for_each(|batch| callbacks.push(batch));
        }
    }

    /// Starts the callback thread, unless it runs.
    pub(crate) fn start_callbacks(&self) -> Result<()> {
        if self.callbacks.get().is_none() {
            // If two are started at once, one has nothing to do and ends.
            let _ = self.callbacks.set(Callbacks::start(Arc::downgrade(&self.shared))?);
        }
        Ok(())
    }

    /// Returns whether there is a callback left that the calling thread can wait for. The callback
    /// thread cannot wait for any.
    pub(crate) fn has_pending_callbacks(&self) -> bool {
        !self.is_callback_thread() && self.callbacks.get().is_some_and(Callbacks::are_pending)
    }

    /// Returns whether the calling thread is the pool's callback thread.
    pub(crate) fn is_callback_thread(&self) -> bool {
        self.callbacks.get().is_some_and(Callbacks::are_called_here)
    }

    /// Blocks until `attempt` returns a value for results of the batch `id`, or the deadline
    /// passes.
    pub(crate) fn wait<T>(
        &self,
        id: u64,
        deadline: Deadline,
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let Shared { memory, plan, .. } = &*self.shared;
        let results = &memory.header().results;
        // While more chunks are queued than workers can take, nothing will be over soon.
        let is_busy = memory.run_queue().len() > 2 * plan.workers as u64;
        let pace = Pace::of(if is_busy { 0 } else { CHECK_COST });
        let announce = || {
            let seen = results.announce();
            self.lock().table.wait_for(memory, id, plan.workers);
            seen
        };
        wait_by(
            deadline,
            pace,
            || self.reap_and_audit(),
            attempt,
            announce,
            |seen, end| results.futex().wait(seen, end),
        )
    }

    /// Blocks until `attempt` returns a value for any results, or the deadline passes.
    pub(crate) fn wait_all<T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            let oldest = self.lock().table.oldest();
            // Without tasks it waits for callbacks.
            let id = oldest.unwrap_or(u64::MAX);
            let mut found = None;
            let turned = self.wait(id, deadline, || {
                found = attempt();
                (found.is_some() || self.lock().table.oldest() != oldest).then_some(())
            });
            if found.is_some() || turned.is_none() {
                return found;
            }
        }
    }

    /// Reaps ended workers, and checks every slot for what nobody has reported.
    pub(crate) fn reap_and_audit(&self) {
        let mut scheduler = self.lock();
        scheduler.reap(&self.shared);
        scheduler.audit(&self.shared.memory);
        let due_callbacks = scheduler.table.take_due_callbacks();
        let has_news = scheduler.table.take_news();
        drop(scheduler);
        self.run_callbacks(due_callbacks);
        if has_news {
            self.notify_waiters();
        }
    }

    /// Returns whether shared memory cannot say when a task ends: the pool is over, or more than
    /// `lost` slots are out of use, so a worker may still be in one of them. In the second case
    /// this breaks the pool, and kills its workers.
    pub(crate) fn is_over_or_damaged(&self, lost: usize) -> bool {
        let mut scheduler = self.lock();
        if scheduler.table.over.is_none() && scheduler.table.lost > lost {
            let text = "a task's slot was damaged while its worker wrote into an array";
            scheduler.break_off(&self.shared.memory, text);
        }
        if matches!(scheduler.table.over, Some(TaskError::Broken(_))) {
            scheduler.supervisor.kill(); // also those that were well when all slots were damaged
        }
        scheduler.table.over.is_some()
    }

    /// Returns the number of slots out of use.
    pub(crate) fn lost(&self) -> usize {
        self.lock().table.lost
    }

    /// Blocks until no killed worker is left that might still be in a task. Returns `false` if one
    /// is left after [`KILL_WAIT`], because its tracer or the kernel keeps it.
    ///
    /// Asks the kernel about the processes, because shared memory may be what is damaged.
    pub(crate) fn wait_until_alone(&self) -> bool {
        let deadline = Deadline::after(KILL_WAIT);
        while self.lock().supervisor.is_any_left() {
            if deadline.has_passed() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
