//! How tasks are submitted: in which chunks, tried how often, with whom watching.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use crate::pool::batch::{Batch, Job, Outcome, Results};
use crate::pool::chunk::{run, Runner};
use crate::pool::core::Submission;
use crate::pool::error::{MapError, TaskError};
use crate::pool::flow::Packed;
use crate::pool::handle::Pool;
use crate::pool::imap::Imap;
use crate::pool::source::{Items, Source};
use crate::pool::star::Star;
use crate::pool::task::{all, one, refused, MapTask, Task};
use crate::process::Argument;
use crate::sys::clock::Deadline;
use crate::sys::image::Image;
use crate::{Error, ErrorKind};

/// Of an input whose length is known each worker gets so many chunks: enough to even out what takes longer.
pub(crate) const CHUNKS_A_WORKER: usize = 4;
/// So many chunks are packed before any is submitted.
const AT_ONCE: usize = 64;

/// A callback for how far a batch is: how many tasks are done, and how many there are if that is known.
type Progress<'a> = Box<dyn FnMut(usize, Option<usize>) + 'a>;

/// How tasks are to be submitted: from [`Pool::options`].
#[must_use = "it submits nothing by itself"]
pub struct Options<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) chunk_size: Option<usize>,
    look_ahead: Option<usize>,
    retries: u32,
    pub(crate) progress: Option<Progress<'a>>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Options<'a> {
        let retries = pool.core().plan.retries;
        Options { pool, chunk_size: None, look_ahead: None, retries, progress: None }
    }

    /// How many tasks are handed over together. Not how many fail together: a death concerns one task. Unless said, `map` makes
    /// four chunks for each worker, and `imap` chunks of one. 0 is an error of what submits.
    pub fn chunk_size(mut self, tasks: usize) -> Options<'a> {
        self.chunk_size = Some(tasks);
        self
    }

    /// How many chunks `imap` may have on their way, or done and not yet asked for. Unless said, 16 for each worker. 0 is an error.
    pub fn look_ahead(mut self, chunks: usize) -> Options<'a> {
        self.look_ahead = Some(chunks);
        self
    }

    /// How often a task whose worker died is given to another, instead of what the pool says.
    pub fn retries(mut self, retries: u32) -> Options<'a> {
        self.retries = retries;
        self
    }

    /// Is called by [`map`](Options::map), in the calling thread, whenever more is done: how many tasks, and of how many if
    /// that is known already.
    pub fn progress(mut self, progress: impl FnMut(usize, Option<usize>) + 'a) -> Options<'a> {
        self.progress = Some(Box::new(progress));
        self
    }

    fn check(&self) -> Result<(), TaskError> {
        let what = match (self.chunk_size, self.look_ahead) {
            (Some(0), _) => "a chunk size of 0 would submit nothing: it must be at least 1",
            (_, Some(0)) => "a look-ahead of 0 would submit nothing: it must be at least 1",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, what).into())
    }

    /// Begins to submit: what comes until the end of what this gives is done.
    fn begin(&self) -> Result<Submission<'a>, TaskError> {
        self.check()?;
        self.pool.core().begin()
    }

    /// A batch for this function.
    fn batch<F, A, R>(
        &self,
        function: F,
        outcome: &Arc<Outcome<R>>,
        calls: bool,
    ) -> Result<Arc<dyn Job>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "the function of a task must be a function item or a closure that captures nothing: what a closure captures is \
                 in this process's memory; give it as an argument, or to the pool's initialiser"
            );
            assert!(
                !A::HAS_HANDLES && !R::HAS_HANDLES,
                "arguments and results of tasks cannot hold handles: give them to the pool's initialiser, or open them by name"
            );
        }
        // It has no bytes: its type says all.
        let _: F = function;
        let runner: Runner = run::<F, A, R>;
        let runner = place_of(runner)?;
        let (retries, outcome) = (self.retries, outcome.clone());
        Ok(Arc::new(Batch { outcome, runner, retries, calls, arguments: PhantomData::<fn(A)> }))
    }

    /// See [`Pool::apply_async`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::apply_async`].
    pub fn apply_async<F, A, R>(self, function: F, argument: A) -> Result<Task<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let _submission = self.begin()?;
        let outcome = Outcome::new(Some(1), false, None);
        let job = self.batch(function, &outcome, false)?;
        self.submit_one::<A, R>(job, outcome, argument)
    }

    /// [`apply_async`](Options::apply_async), with a callback that gets what came of the task. It is
    /// called before the task is ready, in a thread that the pool has for its callbacks, one after the other; that is started
    /// for the first of them, with the signal mask of who submits it. What a callback panics with is printed, and goes no
    /// further.
    ///
    /// It must not wait for a task that has a callback itself, which can be called only when this one has returned:
    /// [`get`](Task::get) of such a task is an error there (`InvalidInput`), and [`wait`](Task::wait) returns at once. It may wait
    /// for other tasks, submit some, and close and [join](Pool::join) the pool, which then waits for no callbacks.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::apply_async`].
    pub fn apply_async_with<F, A, R>(
        self,
        function: F,
        argument: A,
        callback: impl FnOnce(Result<&R, &TaskError>) + Send + 'static,
    ) -> Result<Task<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
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
        self.pool.core().expect_calls()?;
        let job = self.batch(function, &outcome, true)?;
        self.submit_one::<A, R>(job, outcome, argument)
    }

    fn submit_one<A: Argument, R>(
        self,
        job: Arc<dyn Job>,
        outcome: Arc<Outcome<R>>,
        argument: A,
    ) -> Result<Task<R>, TaskError> {
        let core = self.pool.core();
        let mut chunks = VecDeque::from([Packed::new::<A, R>(job, 0, vec![argument])?]);
        let submitted = || {
            core.turn(&mut chunks);
            chunks.is_empty().then_some(())
        };
        core.wait_all(Deadline::Never, submitted);
        Ok(Task::new(core.clone(), outcome))
    }

    /// See [`Pool::map`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map`].
    pub fn map<F, A, R>(
        mut self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let mut submission = Some(self.begin().map_err(refused)?);
        let outcome = Outcome::new(None, false, None);
        let job = self.batch(function, &outcome, false).map_err(refused)?;
        let mut progress = self.progress.take();
        let (items, size) = self.measured(items);
        let mut source = Source::new(items, job, size, self.pool.core().clone());
        let core = self.pool.core();
        loop {
            // All of a known number of chunks; of many so many at a time.
            source.pack::<R>(AT_ONCE);
            outcome.lock().total = source.total();
            let before = outcome.lock().done;
            let step = || {
                let moved = core.turn(&mut source.chunks);
                (moved || outcome.lock().is_ready()).then_some(())
            };
            core.wait(outcome.id, Deadline::Never, step);
            if source.is_submitted() {
                drop(submission.take());
            }
            let (done, total, ready) = {
                let results = outcome.lock();
                (results.done, results.total, results.is_ready())
            };
            if let Some(progress) = progress.as_mut().filter(|_| done > before) {
                progress(done, total);
            }
            if ready {
                return all(&mut outcome.lock());
            }
        }
    }

    /// See [`Pool::starmap`].
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
    /// Those of [`Pool::map`].
    pub fn starmap<F, A, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        F: Star<A, R> + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map(function.spread(), items)
    }

    /// See [`Pool::map_async`]. All items are taken before it returns.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`].
    pub fn map_async<F, A, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let _submission = self.begin()?;
        let outcome = Outcome::new(None, false, None);
        // Its chunks may be more than there are slots: somebody must bring the others, also if nobody waits.
        let job = self.batch(function, &outcome, true)?;
        self.submit_all(job, outcome, items)
    }

    /// See [`Pool::starmap_async`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let powers = pool.options().chunk_size(1).starmap_async(u64::pow, [(2, 3), (3, 2)])?;
    /// assert_eq!(powers.get()?, [8, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`].
    pub fn starmap_async<F, A, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Star<A, R> + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        self.map_async(function.spread(), items)
    }

    /// [`map_async`](Options::map_async), with a callback that gets what came of the tasks, in their order. It
    /// is called before the batch is ready, like that of [`apply_async_with`](Options::apply_async_with).
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_async`].
    pub fn map_async_with<F, A, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = A>,
        callback: impl FnOnce(&[Result<R, TaskError>]) + Send + 'static,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
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
        self.pool.core().expect_calls()?;
        let job = self.batch(function, &outcome, true)?;
        self.submit_all(job, outcome, items)
    }

    fn submit_all<A: Argument, R>(
        self,
        job: Arc<dyn Job>,
        outcome: Arc<Outcome<R>>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError> {
        let core = self.pool.core();
        let (items, size) = self.measured(items);
        let mut source = Source::new(items, job.clone(), size, core.clone());
        while source.total().is_none() {
            source.pack::<R>(AT_ONCE);
            core.turn(&mut source.chunks);
        }
        core.lock().put_back(&mut source.chunks);
        let complete = {
            let mut results = outcome.lock();
            results.total = source.total();
            results.total == Some(results.done)
        };
        if complete {
            // What came last came before anybody knew that it was the last.
            core.call(vec![job]);
        }
        Ok(MapTask::new(core.clone(), outcome))
    }

    /// See [`Pool::imap`].
    pub fn imap<F, A, R, I>(self, function: F, items: I) -> Imap<'a, I::IntoIter, A, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.imap_by(function, items, false)
    }

    /// See [`Pool::imap_unordered`].
    pub fn imap_unordered<F, A, R, I>(self, function: F, items: I) -> Imap<'a, I::IntoIter, A, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.imap_by(function, items, true)
    }

    fn imap_by<F, A, R, I>(self, function: F, items: I, loose: bool) -> Imap<'a, I::IntoIter, A, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let outcome = Outcome::new(None, loose, None);
        let core = self.pool.core().clone();
        let size = self.chunk_size.unwrap_or(1);
        let ahead = self.look_ahead.unwrap_or(16 * core.plan.workers).saturating_mul(size);
        let source = self
            .check()
            .and_then(|()| core.check())
            .and_then(|()| self.batch(function, &outcome, false))
            .map(|job| Source::new(items.into_iter(), job, size, core));
        Imap::new(source, outcome, ahead)
    }

    /// The items, and how many make a chunk.
    fn measured<'i, A: 'i, I: IntoIterator<Item = A>>(&self, items: I) -> (Items<I::IntoIter>, usize) {
        let items = items.into_iter();
        if let Some(size) = self.chunk_size {
            return (Items::Known(items), size);
        }
        let share = |len: usize| len.div_ceil(CHUNKS_A_WORKER * self.pool.workers()).max(1);
        match items.size_hint() {
            (low, Some(high)) if low == high => (Items::Known(items), share(low)),
            _ => {
                let all: Vec<A> = items.collect();
                let size = share(all.len());
                (Items::Taken(all.into_iter()), size)
            }
        }
    }
}

/// Runs a callback. What it panics with the hook has printed; dropping that may panic again.
fn guarded(callback: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
        std::mem::forget(payload);
    }
}

pub(crate) fn place_of(runner: Runner) -> Result<u64, TaskError> {
    thread_local! {
        static IMAGE: Image = Image::of_this_program();
    }
    IMAGE.with(|image| image.offset_of(runner as usize)).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "the function is in a shared library, which a worker may have loaded elsewhere: it must be in the main executable",
        )
        .into()
    })
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Options");
        out.field("chunk_size", &self.chunk_size).field("look_ahead", &self.look_ahead);
        out.field("retries", &self.retries).finish_non_exhaustive()
    }
}
