//! The pool as its user has it.

use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use crate::array::Array;
use crate::message::Message;
use crate::pool::builder::PoolBuilder;
use crate::pool::core::Core;
use crate::pool::crew::watch;
use crate::pool::error::{MapError, TaskError};
use crate::pool::imap::Imap;
use crate::pool::options::Options;
use crate::pool::star::Star;
use crate::pool::task::{MapTask, Task};
use crate::process::Argument;
use crate::Result;

/// Worker processes that run functions of this program, and do not take the work with them when they die.
///
/// Functions are those of [`Process::spawn`](crate::Process::spawn): functions, or closures that capture nothing, with one
/// parameter (several values go as a tuple). Arguments and results are what processes can be given, but no handles: give those to
/// the workers' [initialiser](PoolBuilder::initializer). What a closure captures and has no bytes counts as nothing: a worker has one of
/// its own, so do not capture a token that promises something about this process's memory. Each argument and result is on
/// a thread's stack for a moment: what is larger than a few hundred KiB should be a `Vec`, or in shared memory.
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
    pub(super) core: Arc<Core>,
    /// Disconnected when the pool's thread has let go of `core`; there is none before it is started.
    pub(super) watched: Option<Mutex<Receiver<()>>>,
}

impl Pool {
    /// A pool of so many workers. They are started, and not waited for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (no workers, or more than 1,023), `NotInitialised`, `Unsupported` (in a worker of another pool, and what
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
        PoolBuilder::new()
    }
}

impl Pool {
    /// Starts the workers, and the thread that looks after them.
    pub(crate) fn start(core: Core) -> Result<Pool> {
        let mut pool = Pool { core: Arc::new(core), watched: None };
        // If this fails, dropping the pool ends those that were started.
        pool.core.lock().crew.fill(&pool.core)?;
        pool.watched = Some(Mutex::new(watch(&pool.core)?));
        Ok(pool)
    }

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

    /// Runs `function` with `argument` in a worker, and waits for the result; who waits for a limited time calls
    /// [`apply_async`](Pool::apply_async) and [`Task::get_timeout`].
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
    /// way; who must not wait even then gives [`map_async`](Pool::map_async) the one argument.
    ///
    /// A task that was submitted cannot be taken back.
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

    /// [`map`](Pool::map) for functions with several parameters: each item is a tuple of them, of two to eight.
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn starmap<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        F: Star<A, R> + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.options().starmap(function, items)
    }

    /// [`map`](Pool::map) without waiting: not for room either.
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

    /// [`starmap`](Pool::starmap) without waiting.
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async).
    pub fn starmap_async<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Star<A, R> + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.options().starmap_async(function, items)
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

    /// Runs `function` on pieces of a shared array, to fill the same pieces of another, which has as many elements: workers map
    /// both, and nothing is copied. Both are locked meanwhile.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let (numbers, roots) = (pagemate::Array::new(1000, 9.0_f64)?, pagemate::Array::new(1000, 0.0_f64)?);
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
    /// [`MapError`]: which piece was the first on which the function failed, and why; such a piece may be half filled. Pieces are
    /// numbered from 0, and have [`chunk_size`](Options::chunk_size) elements; unless said, each worker gets four.
    /// [`TaskError::Refused`]: the arrays differ in length or are one and the same, their locks say that a holder died
    /// or panicked, or the pool takes no tasks.
    pub fn map_slice<F, T, R>(
        &self,
        function: F,
        input: &Array<T>,
        output: &Array<R>,
    ) -> Result<(), MapError<()>>
    where
        F: Fn(&[T], &mut [R]) + Copy + Send + 'static,
        T: Message,
        R: Message,
    {
        self.options().map_slice(function, input, output)
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
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}
