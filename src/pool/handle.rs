//! The pool as its user has it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{eventfd, EventfdFlags};

use crate::pool::core::Core;
use crate::pool::crew::{see_off, watch, Plan, Start, END_WAIT};
use crate::pool::desk::Desk;
use crate::pool::error::{MapError, TaskError};
use crate::pool::imap::Imap;
use crate::pool::line::SLOTS;
use crate::pool::options::Options;
use crate::pool::slot::MAX_WORKERS;
use crate::pool::task::{MapTask, Task};
use crate::pool::worker::{work, worker, Orders};
use crate::process::{Argument, Process};
use crate::sys::clock::Deadline;
use crate::sys::process::inheritable;
use crate::{Error, ErrorKind, Result};

/// Worker processes that run functions of this program, and do not take the work with them when they die.
///
/// Functions are those of [`Process::spawn`](crate::Process::spawn): functions, or closures that capture nothing, with one
/// parameter (several values go as a tuple). Arguments and results are what processes can be given, but no handles: give those to
/// the workers' [initialiser](PoolBuilder::initializer).
///
/// A task that panics, or whose worker is killed, gets its error; no other task is concerned, not even one of the same
/// chunk, and the pool has all its workers again at once. Workers end with this process, however it ends. Dropping the
/// pool [terminates](Pool::terminate) it.
///
/// It refuses to be given to another process, to be used after a `fork`, and to be made inside of a worker (unless
/// [allowed](PoolBuilder::nested)).
///
/// # Examples
///
/// ```
/// use pagemate::Pool;
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pagemate::init();
///     let pool = Pool::new(2)?;
///     assert_eq!(pool.apply(square, 7)?, 49);
///     assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
///     let endless = pool.imap(square, 1..);
///     assert_eq!(endless.take(3).collect::<Result<Vec<_>, _>>()?, [1, 4, 9]);
///
///     let error = pool.map(|n: i32| 12 / n, [1, 0, 3]).unwrap_err();
///     assert!(error.to_string().contains("number 1: the task panicked: attempt to divide by zero"), "{error}");
///     assert_eq!(error.results()[2], Ok(4));
///     Ok(())
/// }
/// ```
///
/// What a closure captures does not exist in a worker:
///
/// ```compile_fail
/// # use pagemate::Pool;
/// # let pool = Pool::new(1).unwrap();
/// let n = 5_u64;
/// pool.apply(move |()| n, ());
/// ```
pub struct Pool {
    core: Arc<Core>,
    /// Disconnected when the pool's thread has let go of `core`; there is none before it is started.
    watched: Option<Mutex<Receiver<()>>>,
}

/// Says how a pool is to be: [`Pool::builder`].
#[must_use = "it starts nothing before `build`"]
pub struct PoolBuilder {
    workers: usize,
    name: Option<String>,
    start: Start,
    tasks_per_worker: u64,
    timeout: Option<Duration>,
    retries: u32,
    depth: usize,
    processors: Vec<usize>,
    nested: bool,
}

impl Pool {
    /// A pool of so many workers. They are started, and not waited for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (no workers, or more than 4,096), `NotInitialised`, `Unsupported` (in a worker of another pool, and what
    /// [`Process::spawn`](crate::Process::spawn) says), `OutOfMemory`, `System`.
    pub fn new(workers: usize) -> Result<Pool> {
        Pool::builder().workers(workers).build()
    }

    /// A pool with a name, an initialiser, limits. As many workers as the machine has processors, unless said.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// use std::sync::OnceLock;
    ///
    /// static FACTOR: OnceLock<u64> = OnceLock::new();
    ///
    /// let pool = pagemate::Pool::builder()
    ///     .workers(2)
    ///     .initializer(|factor| FACTOR.set(factor).unwrap(), 10)
    ///     .retries(3)
    ///     .build()?;
    /// assert_eq!(pool.map(|n: u64| n * FACTOR.get().unwrap(), [1, 2])?, [10, 20]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            workers: std::thread::available_parallelism().map_or(1, |count| count.get()),
            name: None,
            start: starter(|()| (), ()),
            tasks_per_worker: 0,
            timeout: None,
            retries: 0,
            depth: SLOTS,
            processors: Vec::new(),
            nested: false,
        }
    }
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
    /// [`TaskError::Broken`] with the last one's message.
    pub fn initializer<I, A>(mut self, initialize: I, arguments: A) -> PoolBuilder
    where
        I: Fn(A) + Copy + Send + Sync + 'static,
        A: Argument + Clone + Send + Sync + 'static,
    {
        self.start = starter(initialize, arguments);
        self
    }

    /// After so many tasks a worker ends and another takes its place: against what tasks leave behind in their process. Tasks
    /// are counted, not chunks. Must not be 0.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> PoolBuilder {
        self.tasks_per_worker = tasks;
        if tasks == 0 {
            self.tasks_per_worker = u64::MAX;
        }
        self
    }

    /// How often a task whose worker died, or was killed for it took too long, is given to another; 0 unless said, since a task may
    /// have done half of its work. One that panics is not tried again. See also [`Options::retries`].
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// A worker that is in one task for longer than this is killed, and the task gets [`TaskError::TimedOut`]. It takes up to a
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
        if !(1..MAX_WORKERS).contains(&self.workers) {
            return invalid(format!(
                "a pool of {} workers is not possible: 1 to {} are",
                self.workers,
                MAX_WORKERS - 1
            ));
        }
        if !(1..=SLOTS).contains(&self.depth) {
            return invalid(format!("a queue depth of {} is not possible: 1 to {SLOTS} are", self.depth));
        }
        if self.tasks_per_worker == u64::MAX {
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
        let core = Arc::new(Core::new(desk, plan, inheritable(bell)?, self.depth));
        let mut pool = Pool { core, watched: None };
        // If this fails, dropping the pool ends those that were started.
        pool.core.lock().crew.fill(&pool.core)?;
        pool.watched = Some(Mutex::new(watch(&pool.core)?));
        Ok(pool)
    }
}

impl Pool {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// How tasks are to be submitted: chunk size, retries, progress.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let mut seen = 0;
    /// let halves = pool.options().chunk_size(10).progress(|done, _| seen = done).map(|n: u32| n / 2, 0..1000)?;
    /// assert_eq!((halves[999], seen), (499, 1000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(&self) -> Options<'_> {
        Options::new(self)
    }

    /// Runs `function` with `argument` in a worker, and waits for the result.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: why there is none.
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> Result<R, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.apply_async(function, argument)?.get()
    }

    /// Runs `function` with `argument` in a worker. Waits only if [`queue_depth`](PoolBuilder::queue_depth) tasks are on their
    /// way.
    ///
    /// # Errors
    ///
    /// [`TaskError::Refused`], [`TaskError::Broken`]: the pool does not take it.
    pub fn apply_async<F, A, R>(&self, function: F, argument: A) -> Result<Task<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.options().apply_async(function, argument)
    }

    /// Runs `function` for each of `items`, in chunks, and gives the results in the order of the items. All tasks are run, also if
    /// one fails. Of what is not said about its length (a `filter`, say) all items are taken first.
    ///
    /// # Errors
    ///
    /// [`MapError`]: which task was the first that gave no result, why, and all other results.
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>, MapError<R>>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.options().map(function, items)
    }

    /// [`map`](Pool::map) without waiting.
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async).
    pub fn map_async<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.options().map_async(function, items)
    }

    /// Runs `function` for each of `items`, which may be endless, and gives results in their order while it goes on. Takes no more
    /// of the items ahead of what was asked for than [`Options::look_ahead`] says.
    ///
    /// Errors are items: the next ones come after them.
    pub fn imap<F, A, R, I>(&self, function: F, items: I) -> Imap<'_, I::IntoIter, A, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().imap(function, items)
    }

    /// [`imap`](Pool::imap), with the results in the order in which they come.
    pub fn imap_unordered<F, A, R, I>(&self, function: F, items: I) -> Imap<'_, I::IntoIter, A, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.options().imap_unordered(function, items)
    }

    /// The pool's name, `pool` if it was given none.
    pub fn name(&self) -> &str {
        &self.core.plan.name
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.core.plan.workers
    }

    /// The process ids of the workers that run at this moment: fewer than [`workers`](Pool::workers) for a moment after a death.
    pub fn pids(&self) -> Vec<u32> {
        if self.core.is_own() {
            self.core.lock().crew.pids()
        } else {
            Vec::new()
        }
    }

    /// Takes no more tasks. Those that it has are done. Closing it again does nothing.
    pub fn close(&self) {
        if self.core.is_own() {
            self.core.lock().closed = true;
        }
    }

    /// Waits until everything is done and the workers have ended. The pool must have been [closed](Pool::close) or
    /// [terminated](Pool::terminate).
    ///
    /// # Errors
    ///
    /// `InvalidInput`: it was neither. `NotInThisProcess`. `Broken`, with the failure of the workers' initialiser.
    pub fn join(&self) -> Result<()> {
        let core = &self.core;
        if !core.is_own() {
            return Err(Error::new(
                ErrorKind::NotInThisProcess,
                "a pool can be joined only where it was made",
            ));
        }
        {
            let state = core.lock();
            if !state.closed && state.over.is_none() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "joining a pool that takes tasks would never end: `close` it first, or `terminate` it",
                ));
            }
        }
        let drained = || {
            core.turn(&mut Default::default());
            let state = core.lock();
            (state.outstanding() == 0 || state.over.is_some()).then_some(())
        };
        core.wait_all(Deadline::Never, drained);
        core.desk.head().closed.store(1, Relaxed);
        let workers = core.lock().crew.dismiss();
        core.desk.head().work.notify_all();
        core.ring();
        let over = core.lock().over.clone();
        see_off(workers, over.is_some());
        match over {
            Some(error @ TaskError::Broken(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills the workers, at once. Tasks that are not done get [`TaskError::Terminated`]. It returns when the workers are gone, after
    /// two seconds at most.
    pub fn terminate(&self) {
        let core = &self.core;
        if !core.is_own() {
            return;
        }
        let (workers, callers) = {
            let mut state = core.lock();
            let workers = state.crew.dismiss();
            workers.iter().for_each(|worker| drop(worker.kill()));
            if state.over.is_none() {
                state.end(&core.desk, TaskError::Terminated);
            }
            (workers, state.take_callers())
        };
        core.desk.head().closed.store(1, Relaxed);
        core.ring();
        core.call(callers);
        core.desk.head().results.notify_all();
        see_off(workers, true);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        if let (Some(watched), true) = (&mut self.watched, self.core.is_own()) {
            // The program may end after this, and what the thread still has of a segment would stay behind under its name. A
            // callback that drops the pool is in this very thread: it waits in vain.
            let watched = watched.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = watched.recv_timeout(END_WAIT);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}
