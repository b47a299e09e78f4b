//! How a pool is to be, and how its workers are started.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use rustix::event::{eventfd, EventfdFlags};

use crate::owner::MAX_PARTICIPANTS;
use crate::pool::core::Core;
use crate::pool::crew::{Plan, Start};
use crate::pool::desk::Desk;
use crate::pool::handle::Pool;
use crate::pool::line::SLOTS;
use crate::pool::worker::{work, worker, Orders};
use crate::process::{Argument, Process};
use crate::sys::process::inheritable;
use crate::{Error, ErrorKind, Result};

/// Says how a pool is to be: [`Pool::builder`].
#[must_use = "it starts nothing before `build`"]
pub struct PoolBuilder {
    workers: usize,
    name: Option<String>,
    start: Start,
    tasks_per_worker: Option<u64>,
    timeout: Option<Duration>,
    retries: u32,
    depth: usize,
    processors: Vec<usize>,
    nested: bool,
}

/// Starts workers that call `initialize` first.
fn starter<I, A>(initialize: I, arguments: A) -> Start
where
    I: Fn(A) + Copy + Send + Sync + 'static,
    A: Argument + Clone + Send + Sync + 'static,
{
    const {
        assert!(
            size_of::<I>() == 0,
            "the initialiser of a pool must be a function item or a closure that captures nothing: give it what it needs as \
             an argument"
        )
    };
    // It has no bytes: its type says all.
    let _: I = initialize;
    Box::new(move |name, orders: Orders| {
        Process::builder().name(name).daemon(true).spawn(work::<I, A>, (orders, arguments.clone()))
    })
}

impl PoolBuilder {
    pub(crate) fn new() -> PoolBuilder {
        PoolBuilder {
            workers: std::thread::available_parallelism().map_or(1, |count| count.get()),
            name: None,
            start: starter(|()| (), ()),
            tasks_per_worker: None,
            timeout: None,
            retries: 0,
            depth: SLOTS,
            processors: Vec::new(),
            nested: false,
        }
    }

    /// How many workers.
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = workers;
        self
    }

    /// What error messages and `ps` call it. A pool with a name lives in a segment of that name, so that `pagemate top` and
    /// `pagemate show` find it; the others in anonymous memory.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// What each worker calls before its first task, also one that takes another's place: for what tasks need and cannot be given,
    /// such as handles. Put it into a `static`.
    ///
    /// If as many initialisers in a row as there are workers panic or end the process, the pool is broken: its tasks get
    /// [`TaskError::Broken`](crate::pool::TaskError::Broken) with the last one's message.
    pub fn initializer<I, A>(mut self, initialize: I, arguments: A) -> PoolBuilder
    where
        I: Fn(A) + Copy + Send + Sync + 'static,
        A: Argument + Clone + Send + Sync + 'static,
    {
        self.start = starter(initialize, arguments);
        self
    }

    /// After so many tasks a worker ends and another takes its place: against what tasks leave behind in their process. Tasks
    /// are counted, not chunks. Must not be 0. One that does not end in two seconds (for a handler of `atexit`, say) is killed.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> PoolBuilder {
        self.tasks_per_worker = Some(tasks);
        self
    }

    /// How often a task whose worker died, or was killed for it took too long, is given to another; 0 unless said, since a task may
    /// have done half of its work. One that panics is not tried again. See also [`Options::retries`](crate::pool::Options::retries).
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// A worker that is in one task for longer than this is killed, and the task gets [`TaskError::TimedOut`](crate::pool::TaskError::TimedOut). It takes up to a
    /// quarter of the time, or 50 ms, to be noticed.
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.timeout = Some(timeout);
        self
    }

    /// So many chunks may be with the workers at once: who submits more with [`Pool::apply_async`] waits. 1 to 1,024, which it is
    /// unless said.
    pub fn queue_depth(mut self, chunks: usize) -> PoolBuilder {
        self.depth = chunks;
        self
    }

    /// On which processors the workers run, in turn: worker n on the one at n, modulo their number. One that does not exist
    /// has no effect.
    pub fn processors(mut self, processors: impl IntoIterator<Item = usize>) -> PoolBuilder {
        self.processors = processors.into_iter().collect();
        self
    }

    /// Whether it may be made in a worker of another pool. Not unless said: n workers with n workers each are soon too many.
    pub fn nested(mut self, allowed: bool) -> PoolBuilder {
        self.nested = allowed;
        self
    }

    /// Makes the pool, and starts its workers.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::new`], and `AlreadyExists`: something has the name already.
    pub fn build(self) -> Result<Pool> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
        if !(1..MAX_PARTICIPANTS).contains(&self.workers) {
            return invalid(format!(
                "a pool of {} workers is not possible: 1 to {} are",
                self.workers,
                MAX_PARTICIPANTS - 1
            ));
        }
        if !(1..=SLOTS).contains(&self.depth) {
            return invalid(format!("a queue depth of {} is not possible: 1 to {SLOTS} are", self.depth));
        }
        if self.tasks_per_worker == Some(0) {
            return invalid(
                "workers that end after 0 tasks would do none: max_tasks_per_child must be at least 1".into(),
            );
        }
        if let (Some(worker), false) = (worker(), self.nested) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "this process is a worker of the pool {:?}: a pool in a worker must be allowed with \
                     `Pool::builder().nested(true)`",
                    worker.pool()
                ),
            ));
        }
        let secret = RandomState::new().build_hasher().finish();
        let desk = Desk::create(self.name.as_deref(), self.workers, secret)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|cause| Error::system("cannot create an eventfd", cause))?;
        let plan = Plan {
            name: self.name.unwrap_or_else(|| "pool".into()),
            workers: self.workers,
            tasks_per_worker: self.tasks_per_worker,
            timeout: self.timeout,
            retries: self.retries,
            processors: self.processors,
            start: self.start,
        };
        Pool::start(Core::new(desk, plan, inheritable(bell)?, self.depth))
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}
