//! The builder of a pool.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use rustix::event::{eventfd, EventfdFlags};

use crate::pool::engine::Engine;
use crate::pool::handle::Pool;
use crate::pool::run_queue::SLOTS;
use crate::pool::shared::{Plan, Start};
use crate::pool::shared_pool::{Initial, SharedPool};
use crate::pool::worker::{work, worker, WorkerConfig};
use crate::process::{Argument, Process};
use crate::segment::object::Object;
use crate::segment::owner::MAX_PARTICIPANTS;
use crate::segment::place::{Place, RESERVE};
use crate::sys::descriptor::Own;
use crate::sys::exe_image::Image;
use crate::{Error, ErrorKind, Result};

/// The configuration of a pool to be created: [`Pool::builder`].
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
    reserve: u64,
}

/// Returns a function that starts workers which call `initialize` first.
fn starter<A>(initialize: fn(A), arguments: A) -> Start
where
    A: Argument + Clone + Send + Sync + 'static,
{
    let offset = Image::of_this_program().offset_of(initialize as usize);
    Box::new(move |name, config: WorkerConfig| {
        let offset = offset.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "the pool's initialiser is in a shared library, which a worker may have loaded elsewhere: it \
                 must be in the main executable",
            )
        })?;
        let arguments = (config, offset, arguments.clone());
        Process::builder().name(name).daemon(true).spawn(work::<A>, arguments)
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
            reserve: RESERVE,
        }
    }

    /// Sets the number of workers. The default is the number of processors.
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = workers;
        self
    }

    /// Sets the name for error messages and `ps`. A pool with a name lives in a segment of that
    /// name, where `pagemate top` and `pagemate show` find it; a pool without one lives in
    /// anonymous memory.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// Sets how much address space the pool reserves, in bytes: 16 GiB by default, 256 GiB at most.
    /// Lower it where address space is limited (`ulimit -v`). Memory is used only for arguments and
    /// results that wait and do not fit into a slot.
    pub fn reserve(mut self, bytes: u64) -> PoolBuilder {
        self.reserve = bytes;
        self
    }

    /// Sets a function that each worker calls before its first task, also a worker that replaces
    /// another. It prepares what tasks need and cannot be passed, such as handles: store it in a
    /// `static`.
    ///
    /// Workers ignore SIGINT, because Ctrl-C reaches them as well as the parent, and the parent
    /// answers it: they end when the parent does. An initialiser may set another handler.
    ///
    /// If as many initialisers in a row as there are workers panic or end the process, the pool is
    /// broken: its tasks return [`TaskError::Broken`](crate::pool::TaskError::Broken) with the last
    /// message.
    pub fn initializer<A>(mut self, initialize: fn(A), arguments: A) -> PoolBuilder
    where
        A: Argument + Clone + Send + Sync + 'static,
    {
        self.start = starter(initialize, arguments);
        self
    }

    /// Replaces each worker after `tasks` tasks, against leaks in the tasks' code. Tasks are
    /// counted, not chunks. Must not be 0. A worker that does not exit within two seconds (because
    /// of a handler of `atexit`, for example) is killed.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> PoolBuilder {
        self.tasks_per_worker = Some(tasks);
        self
    }

    /// Sets how many times a task is run again after its worker died, or was killed because the
    /// task took too long. The default is 0, because the task may have done half of its work. A
    /// task that panics is not run again. See also
    /// [`TaskOptions::retries`](crate::pool::TaskOptions::retries).
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// Sets the time limit of a task. A worker that is in one task for longer is killed, and the
    /// task returns [`TaskError::TimedOut`](crate::pool::TaskError::TimedOut). The pool checks
    /// this at intervals of a quarter of the limit, but of at least 5 ms and at most 50 ms.
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how many chunks may be unfinished at once: further calls of [`Pool::apply_async`]
    /// block. 1 to 1,024; the default is 1,024.
    pub fn queue_depth(mut self, chunks: usize) -> PoolBuilder {
        self.depth = chunks;
        self
    }

    /// Sets the processors on which the workers run, in turn: worker n runs on processor n, modulo
    /// the number of processors given. A processor that does not exist has no effect.
    pub fn processors(mut self, processors: impl IntoIterator<Item = usize>) -> PoolBuilder {
        self.processors = processors.into_iter().collect();
        self
    }

    /// Allows the pool to be created in a worker of another pool. The default is `false`, because n
    /// workers with n workers each are soon too many.
    pub fn nested(mut self, allowed: bool) -> PoolBuilder {
        self.nested = allowed;
        self
    }

    /// Creates the pool, and starts its workers.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::new`], and `AlreadyExists`: the name is taken.
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
        let initial = Initial { workers: self.workers, secret };
        let memory = match &self.name {
            None => SharedPool::new_reserving(self.reserve, initial)?,
            Some(name) => SharedPool::create(Place::from(name).reserve(self.reserve), initial)?,
        };
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .and_then(Own::new)
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
        Pool::start(Engine::new(memory, plan, wakeup, self.depth))
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}
