//! Options of submission: chunk size, retries, progress, callbacks.

use std::fmt;
use std::sync::Arc;

use crate::pool::batch::{Outcome, Results};
use crate::pool::engine::Engine;
use crate::pool::error::{MapError, TaskError};
use crate::pool::function::Spread;
use crate::pool::imap::Imap;
use crate::pool::submission::guarded;
use crate::pool::task::{one, MapTask, Task};
use crate::process::Argument;

/// A progress callback: the number of finished tasks, and of all tasks if that is known.
type Progress<'a> = Box<dyn FnMut(usize, Option<usize>) + 'a>;

/// Options for submitting tasks: [`Pool::task_options`](crate::Pool::task_options).
#[must_use = "it submits nothing by itself"]
pub struct TaskOptions<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) chunk_size: Option<usize>,
    pub(super) look_ahead: Option<usize>,
    pub(super) retries: u32,
    pub(crate) progress: Option<Progress<'a>>,
}

impl<'a> TaskOptions<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>) -> TaskOptions<'a> {
        let retries = engine.shared.plan.retries;
        TaskOptions { engine, chunk_size: None, look_ahead: None, retries, progress: None }
    }

    /// Sets how many tasks are handed over together. They do not fail together: a death affects one
    /// task. By default `map` makes four chunks for each worker, and `imap` chunks of one. With 0
    /// the submission fails.
    pub fn chunk_size(mut self, tasks: usize) -> TaskOptions<'a> {
        self.chunk_size = Some(tasks);
        self
    }

    /// Sets the number of chunks that `imap` may have unfinished, or finished but not yet
    /// requested. The default is 16 for each worker. With 0 the submission fails.
    pub fn look_ahead(mut self, chunks: usize) -> TaskOptions<'a> {
        self.look_ahead = Some(chunks);
        self
    }

    /// Sets how many times a task is run again after its worker died, instead of the pool's
    /// setting.
    pub fn retries(mut self, retries: u32) -> TaskOptions<'a> {
        self.retries = retries;
        self
    }

    /// Sets a function that [`map`](TaskOptions::map) calls in the calling thread whenever more
    /// tasks are done: with their number, and the total if it is known.
    pub fn progress(mut self, progress: impl FnMut(usize, Option<usize>) + 'a) -> TaskOptions<'a> {
        self.progress = Some(Box::new(progress));
        self
    }

    /// See [`Pool::apply_async`](crate::Pool::apply_async).
    ///
    /// # Errors
    ///
    /// Those of [`Pool::apply_async`](crate::Pool::apply_async).
    pub fn apply_async<A, R>(self, function: fn(A) -> R, argument: A) -> Result<Task<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let _submission = self.begin()?;
        let outcome = Outcome::new(Some(1), false, None);
        let batch = self.batch(function, &outcome, false)?;
        self.submit_one::<A, R>(batch, outcome, argument)
    }

    /// Like [`apply_async`](TaskOptions::apply_async), with a callback that receives the result. It
    /// runs before the task is ready, in the pool's callback thread, one callback after the other.
    /// The first callback starts that thread, with the signal mask of the submitting thread. A
    /// panic of a callback is printed, and goes no further.
    ///
    /// A callback must not wait for a task that has a callback itself, because that one can run
    /// only after this one has returned: there [`get`](Task::get) of such a task returns an error
    /// (`InvalidInput`), and [`wait`](Task::wait) returns at once. A callback may wait for other
    /// tasks, submit tasks, and close and [join](crate::Pool::join) the pool, which then does not
    /// wait for callbacks.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::apply_async`](crate::Pool::apply_async).
    pub fn apply_async_with<A, R>(
        self,
        function: fn(A) -> R,
        argument: A,
        callback: impl FnOnce(Result<&R, &TaskError>) + Send + 'static,
    ) -> Result<Task<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let call = move |results: &mut Results<R>| {
            let result = one(results);
            guarded(|| callback(result.as_ref()));
            results.put_back(result);
        };
        let _submission = self.begin()?;
        let outcome = Outcome::new(Some(1), false, Some(Box::new(call)));
        self.engine.start_callbacks()?;
        let batch = self.batch(function, &outcome, true)?;
        self.submit_one::<A, R>(batch, outcome, argument)
    }

    /// See [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map`](crate::Pool::map).
    pub fn map<A, R>(
        self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map_by(function, items)
    }

    /// See [`Pool::starmap`](crate::Pool::starmap).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// assert_eq!(pool.starmap(u64::pow, [(2, 3), (3, 2)])?, [8, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map`](crate::Pool::map).
    pub fn starmap<A, B, R>(
        self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        A: Argument + 'static,
        B: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map_by(Spread(function), items)
    }

    /// See [`Pool::map_async`](crate::Pool::map_async). All items are taken before it returns.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`](crate::Pool::map_async).
    pub fn map_async<A, R>(
        self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map_async_by(function, items)
    }

    /// See [`Pool::starmap_async`](crate::Pool::starmap_async).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let powers = pool.task_options().chunk_size(1).starmap_async(u64::pow, [(2, 3), (3, 2)])?;
    /// assert_eq!(powers.get()?, [8, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`](crate::Pool::map_async).
    pub fn starmap_async<A, B, R>(
        self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<MapTask<R>, TaskError>
    where
        A: Argument + 'static,
        B: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map_async_by(Spread(function), items)
    }

    /// Like [`map_async`](TaskOptions::map_async), with a callback that receives the results in
    /// order. It runs before the batch is ready, like that of
    /// [`apply_async_with`](TaskOptions::apply_async_with).
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`](crate::Pool::map_async).
    pub fn map_async_with<A, R>(
        self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
        callback: impl FnOnce(&[Result<R, TaskError>]) + Send + 'static,
    ) -> Result<MapTask<R>, TaskError>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let call = move |results: &mut Results<R>| {
            let all = results.take_all();
            guarded(|| callback(&all));
            results.start_again(all);
        };
        let _submission = self.begin()?;
        let outcome = Outcome::new(None, false, Some(Box::new(call)));
        self.engine.start_callbacks()?;
        let batch = self.batch(function, &outcome, true)?;
        self.submit_all(batch, outcome, items)
    }

    /// See [`Pool::imap`](crate::Pool::imap).
    pub fn imap<A, R, I>(self, function: fn(A) -> R, items: I) -> Imap<'a, I::IntoIter, A, R>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.imap_by(function, items, false)
    }

    /// See [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    pub fn imap_unordered<A, R, I>(self, function: fn(A) -> R, items: I) -> Imap<'a, I::IntoIter, A, R>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.imap_by(function, items, true)
    }
}

impl fmt::Debug for TaskOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TaskOptions");
        out.field("chunk_size", &self.chunk_size).field("look_ahead", &self.look_ahead);
        out.field("retries", &self.retries).finish_non_exhaustive()
    }
}
