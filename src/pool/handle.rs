//! The pool's public handle.

use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use crate::collections::array::Array;
use crate::message::Message;
use crate::pool::builder::PoolBuilder;
use crate::pool::engine::Engine;
use crate::pool::error::{MapError, TaskError};
use crate::pool::imap::Imap;
use crate::pool::monitor;
use crate::pool::task::{MapTask, Task};
use crate::pool::task_options::TaskOptions;
use crate::process::Argument;
use crate::Result;

/// A pool of worker processes that run functions of this program, and survive the death of any of
/// them.
///
/// A function is a function pointer, as for [`Process::spawn`](crate::Process::spawn): a function,
/// or a closure that captures nothing. It has one parameter; several values go as a tuple.
/// Arguments and results are [`Argument`](crate::process::Argument)s without handles: pass handles
/// to the workers' [initialiser](PoolBuilder::initializer). Each argument and result is on a
/// thread's stack for a moment, so values above a few hundred KiB should be a `Vec`, or in shared
/// memory.
///
/// A task that panics, or whose worker is killed, returns its error. No other task is affected, not
/// even one of the same chunk, and another worker takes the place at once. Workers end with this
/// process, however it ends. Dropping the pool [terminates](Pool::terminate) it.
///
/// A pool cannot be passed to another process, used after a `fork`, or created in a worker (unless
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
///     let text = error.to_string();
///     assert!(text.contains("number 1: the task panicked: attempt to divide by zero"), "{text}");
///     assert_eq!(error.results()[2], Ok(4));
///     Ok(())
/// }
/// ```
///
/// A closure that captures anything is not a function pointer, because what it captures does not
/// exist in a worker. That includes values without bytes:
///
/// ```compile_fail,E0308
/// # use pagemate::Pool;
/// # let pool = Pool::new(1).unwrap();
/// let n = 5_u64;
/// pool.apply(move |()| n, ());
/// ```
///
/// ```compile_fail,E0308
/// # use pagemate::Pool;
/// #[derive(Clone, Copy)]
/// struct Token;
///
/// impl Token {
///     fn get(self) {}
/// }
///
/// # let pool = Pool::new(1).unwrap();
/// let token = Token;
/// pool.apply(move |()| token.get(), ());
/// ```
pub struct Pool {
    pub(super) engine: Arc<Engine>,
    /// Disconnected when the monitor has released `engine`; `None` before the monitor is started.
    pub(super) watched: Option<Mutex<Receiver<()>>>,
}

impl Pool {
    /// Creates a pool of `workers` workers. It starts them, and does not wait until they have
    /// begun.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (no workers, or more than 1,023), `NotInitialised`, `Unsupported` (in a
    /// worker of another pool, and for the reasons of [`Process::spawn`](crate::Process::spawn)),
    /// `OutOfMemory`, `System`.
    pub fn new(workers: usize) -> Result<Pool> {
        Pool::builder().workers(workers).build()
    }

    /// Returns a builder, for a pool with a name, an initialiser or limits. The default number of
    /// workers is that of the processors.
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
        PoolBuilder::new()
    }
}

impl Pool {
    /// Starts the workers and the monitor.
    pub(crate) fn start(engine: Engine) -> Result<Pool> {
        let mut pool = Pool { engine: Arc::new(engine), watched: None };
        // If this fails, dropping the pool ends the workers that were started.
        pool.engine.lock().supervisor.fill(&pool.engine.shared)?;
        pool.watched = Some(Mutex::new(monitor::start(&pool.engine)?));
        Ok(pool)
    }

    /// Returns options for submitting tasks: chunk size, retries, progress.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let mut seen = 0;
    /// let halves = pool
    ///     .task_options()
    ///     .chunk_size(10)
    ///     .progress(|done, _| seen = done)
    ///     .map(|n: u32| n / 2, 0..1000)?;
    /// assert_eq!((halves[999], seen), (499, 1000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_options(&self) -> TaskOptions<'_> {
        TaskOptions::new(&self.engine)
    }

    /// Runs `function` with `argument` in a worker, and blocks until the result has arrived. To
    /// wait for a limited time, call [`apply_async`](Pool::apply_async) and [`Task::get_timeout`].
    ///
    /// # Errors
    ///
    /// [`TaskError`]: the reason why there is no result.
    pub fn apply<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<R, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.apply_async(function, argument)?.get()
    }

    /// Submits `function` with `argument`, and returns a handle of the task. Blocks only if
    /// [`queue_depth`](PoolBuilder::queue_depth) tasks are unfinished;
    /// [`map_async`](Pool::map_async) with one item does not block even then.
    ///
    /// Short for `task_options().apply_async(..)`. A submitted task cannot be withdrawn.
    ///
    /// # Errors
    ///
    /// [`TaskError::Refused`], [`TaskError::Broken`]: the pool does not accept the task.
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<Task<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.task_options().apply_async(function, argument)
    }

    /// Runs `function` for each of `items`, in chunks, and returns the results in the order of the
    /// items. All tasks run, also if one fails. If the iterator does not know its length (a
    /// `filter`, for example), all items are taken first. Short for `task_options().map(..)`.
    ///
    /// # Errors
    ///
    /// [`MapError`]: the first task without a result, the reason, and all other results.
    pub fn map<A, R>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.task_options().map(function, items)
    }

    /// Like [`map`](Pool::map), for functions of two parameters: each item is a pair. For more
    /// parameters, take a tuple apart in a closure. Short for `task_options().starmap(..)`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// assert_eq!(pool.starmap(u64::pow, [(2, 3), (3, 2)])?, [8, 9]);
    /// let clamped = pool.map(|(n, low, high)| u64::clamp(n, low, high), [(7, 1, 5), (3, 1, 5)])?;
    /// assert_eq!(clamped, [5, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn starmap<A, B, R>(
        &self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        A: Argument + 'static,
        B: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.task_options().starmap(function, items)
    }

    /// Submits what [`map`](Pool::map) would run, without blocking, even if the queue is full.
    /// Short for `task_options().map_async(..)`.
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async).
    pub fn map_async<A, R>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.task_options().map_async(function, items)
    }

    /// Submits what [`starmap`](Pool::starmap) would run, without blocking. Short for
    /// `task_options().starmap_async(..)`.
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async).
    pub fn starmap_async<A, B, R>(
        &self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<MapTask<R>, TaskError>
    where
        A: Argument + 'static,
        B: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.task_options().starmap_async(function, items)
    }

    /// Returns an iterator over the results of `function` for each of `items`, in their order.
    /// `items` may be endless: at most [`TaskOptions::look_ahead`] chunks are taken ahead of the
    /// results that were requested. Short for `task_options().imap(..)`.
    ///
    /// Errors are items; the following results come after them.
    pub fn imap<A, R, I>(&self, function: fn(A) -> R, items: I) -> Imap<'_, I::IntoIter, A, R>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task_options().imap(function, items)
    }

    /// Like [`imap`](Pool::imap), with the results in the order in which they arrive. Short for
    /// `task_options().imap_unordered(..)`.
    pub fn imap_unordered<A, R, I>(&self, function: fn(A) -> R, items: I) -> Imap<'_, I::IntoIter, A, R>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task_options().imap_unordered(function, items)
    }

    /// Runs `function` on pieces of a shared array, to fill the same pieces of another array of the
    /// same length. Workers map both arrays, and nothing is copied. Both are locked meanwhile.
    /// Short for `task_options().map_slice(..)`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let numbers = pagemate::Array::new(1000, 9.0_f64)?;
    /// let roots = pagemate::Array::new(1000, 0.0_f64)?;
    /// let root = |numbers: &[f64], roots: &mut [f64]| {
    ///     roots.iter_mut().zip(numbers).for_each(|(root, number)| *root = number.sqrt());
    /// };
    /// pool.map_slice(root, &numbers, &roots)?;
    /// assert_eq!(roots.get(999)?, Some(3.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError`]: the first piece on which the function failed, and the reason. Such a piece may
    /// be half filled. Pieces are numbered from 0 and have [`chunk_size`](TaskOptions::chunk_size)
    /// elements; the default is four pieces for each worker.
    ///
    /// [`TaskError::Refused`]: the arrays differ in length or are the same array, a lock reports
    /// that its holder died or panicked, or the pool accepts no tasks.
    pub fn map_slice<T, R>(
        &self,
        function: fn(&[T], &mut [R]),
        input: &Array<T>,
        output: &Array<R>,
    ) -> Result<(), MapError<()>>
    where
        T: Message,
        R: Message,
    {
        self.task_options().map_slice(function, input, output)
    }

    /// Returns the pool's name; the default is `pool`.
    pub fn name(&self) -> &str {
        &self.engine.shared.plan.name
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.engine.shared.plan.workers
    }

    /// Returns the process ids of the running workers. For a moment after a death there are fewer
    /// than [`workers`](Pool::workers).
    pub fn pids(&self) -> Vec<u32> {
        if self.engine.is_own() {
            self.engine.lock().supervisor.pids()
        } else {
            Vec::new()
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
