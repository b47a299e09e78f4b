//! A pool without processes, whose workers are the callers: for tests that kill and stop a worker
//! at each instruction.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};

use crate::pool::batch::{Batch, Outcome};
use crate::pool::chunk::call_to;
use crate::pool::chunker::pack;
use crate::pool::engine::Engine;
use crate::pool::error::TaskError;
use crate::pool::layout::{RUN_QUEUE_AT, SLOTS_AT, WORKER_SLOTS_AT, WORKS};
use crate::pool::packed_chunk::AnyBatch;
use crate::pool::run_queue::SLOTS;
use crate::pool::shared::Plan;
use crate::pool::shared_pool::{Initial, SharedPool};
use crate::pool::slot::State;
use crate::pool::supervisor::Ended;
use crate::pool::worker::Executor;
use crate::process::Argument;
use crate::segment::object::Object;
use crate::segment::place::RESERVE;
use crate::sys::descriptor::Own;
use crate::{Error, ErrorKind, Result};

/// The time limit of a task: no test takes that long.
pub(crate) const LIMIT: Duration = Duration::from_secs(1000);

/// The pool's side, and executors for its workers.
#[doc(hidden)]
pub struct Rehearsal<R> {
    pub(crate) engine: Engine,
    pub(crate) outcome: Arc<Outcome<R>>,
}

impl<R: Argument + Send + 'static> Rehearsal<R> {
    /// Creates a pool of two workers, with these chunks of tasks.
    pub fn new<A>(function: fn(A) -> R, chunks: Vec<Vec<A>>, retries: u32) -> Result<Rehearsal<R>>
    where
        A: Argument + 'static,
    {
        let start = Box::new(|_, _| Err(Error::new(ErrorKind::Unsupported, "a rehearsal has no processes")));
        let plan = Plan {
            name: "rehearsal".into(),
            workers: 2,
            tasks_per_worker: None,
            timeout: Some(LIMIT),
            retries,
            processors: Vec::new(),
            start,
        };
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC)
            .and_then(Own::new)
            .map_err(|cause| Error::system("cannot create an eventfd", cause))?;
        let memory = SharedPool::new_reserving(RESERVE, Initial { workers: 2, secret: 1 })?;
        let engine = Engine::new(memory, plan, wakeup, 1024);
        let total = chunks.iter().map(Vec::len).sum();
        let outcome = Outcome::new(Some(total), false, None);
        let call = call_to::<fn(A) -> R, A, R>(function)?;
        let arguments = PhantomData::<fn(A)>;
        let batch: Arc<dyn AnyBatch> =
            Arc::new(Batch { outcome: outcome.clone(), call, retries, needs_monitor: false, arguments });
        let mut first = 0;
        let mut packed = VecDeque::new();
        for items in chunks {
            let count = items.len();
            packed.push_back(pack::<A, R>(batch.clone(), first, items)?);
            first += count;
        }
        // Workers are not replaced, and count as begun.
        engine.lock().supervisor.dismissed = true;
        (0..2)
            .filter_map(|worker| engine.shared.memory.worker_slot(worker))
            .for_each(|worker_slot| worker_slot.stage.store(WORKS, Relaxed));
        engine.collect_and_submit(&mut packed);
        Ok(Rehearsal { engine, outcome })
    }

    /// Attaches this process, if it was forked.
    pub fn attach(&self) {
        let _ = self.engine.shared.memory.object().owner();
    }

    /// Takes a chunk as worker number `worker`, runs it and finishes it. Returns `false` if there
    /// is none.
    pub fn work(&self, worker: usize) -> bool {
        let executor = Executor::new(&self.engine.shared.memory, worker);
        let Some((ticket, slot)) = executor.take() else { return false };
        if executor.run(ticket, slot, u64::MAX).is_some() {
            let _ = executor.finish(ticket, slot);
        }
        true
    }

    /// Reaps worker number `worker`, as the pool does.
    pub fn reap_worker(&self, worker: usize) {
        let ended = Ended { index: worker, pid: 0, exit: None, overdue: None, text: None };
        self.engine.lock().reap_worker(&self.engine.shared, ended);
    }

    /// Returns the results, as the pool does; `None` if not all have arrived.
    pub fn results(&self) -> Option<Vec<Result<R, TaskError>>> {
        self.poll();
        let mut results = self.outcome.lock();
        results.is_ready().then(|| results.take_all())
    }

    /// Returns the number of results that have arrived.
    pub fn done(&self) -> usize {
        self.poll();
        self.outcome.lock().done
    }

    /// Collects as a waiter does, and audits as at the end of a slice.
    fn poll(&self) {
        self.engine.collect_and_submit(&mut VecDeque::new());
        self.engine.reap_and_audit();
        // For chunks that were queued again, or had no slot.
        self.engine.collect_and_submit(&mut VecDeque::new());
    }

    /// Returns the workers that run a chunk, as the slots' words say.
    pub fn running(&self) -> Vec<usize> {
        let words = (0..SLOTS).filter_map(|index| self.engine.shared.memory.word(index));
        let workers = words.filter_map(|word| match word.state() {
            State::Running(_, worker) => Some(worker),
            _ => None,
        });
        workers.collect()
    }

    /// Returns the workers that are in the same task at two checks.
    pub fn overdue(&self) -> Vec<usize> {
        let mut state = self.engine.lock();
        let now = Instant::now();
        state.table.forget_progress();
        state.table.overdue(&self.engine.shared.memory, now, Duration::ZERO);
        let late =
            state.table.overdue(&self.engine.shared.memory, now + Duration::from_millis(1), Duration::ZERO);
        late.into_iter().map(|(worker, _)| worker).collect()
    }

    /// Returns the number of blocks in use in the pool's heap.
    pub fn blocks(&self) -> u64 {
        self.engine.shared.memory.heap.in_use().map_or(u64::MAX, |blocks| blocks.len() as u64)
    }

    /// Changes a word of the run queue, of the first slots or of the worker slots: `place` says
    /// which.
    pub fn damage(&self, place: usize, change: impl FnOnce(u64) -> u64) {
        let (at, words) = match place % 3 {
            0 => (RUN_QUEUE_AT, 48),
            1 => (SLOTS_AT, 4 * 256 / 8),
            _ => (WORKER_SLOTS_AT, 2 * 256 / 8),
        };
        let at = at + place / 3 % words * 8;
        // SAFETY: inside of the object, which is mapped and aligned, and whose words are atomic.
        let word = unsafe { &*self.engine.shared.memory.object().base().add(at).cast::<AtomicU64>() };
        word.store(change(word.load(Relaxed)), Relaxed);
    }

    /// Describes the state.
    pub fn words(&self) -> String {
        let object = self.engine.shared.memory.object();
        format!("{:?}", crate::pool::describe(object.base(), object.len()))
    }
}

impl<R> fmt::Debug for Rehearsal<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}
