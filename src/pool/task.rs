//! Handles of submitted tasks: one task, or a batch.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::batch::{Outcome, Results};
use crate::pool::engine::Engine;
use crate::pool::error::{MapError, TaskError};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind};

/// Unfinished work. [`Task`] and [`MapTask`] differ in how they return its results.
struct Pending<R> {
    engine: Arc<Engine>,
    outcome: Arc<Outcome<R>>,
}

impl<R> Pending<R> {
    fn is_ready(&self) -> bool {
        let ready = || self.outcome.lock().is_ready();
        self.engine.is_own() && (ready() || self.engine.collect_and_submit(&mut VecDeque::new()) && ready())
    }

    /// Blocks until the results are ready. Returns `false` if the deadline passed, and an error if
    /// they can never be ready here.
    fn wait(&self, deadline: Deadline) -> Result<bool, TaskError> {
        // A fork has copies of the locks, which another thread may have held.
        self.engine.check_own()?;
        if self.engine.is_callback_thread() && self.outcome.lock().has_callback() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a callback cannot wait for a task that has a callback: that is called \
                 only when this one has returned",
            )
            .into());
        }
        let attempt = || {
            self.engine.collect_and_submit(&mut VecDeque::new());
            self.outcome.lock().is_ready().then_some(())
        };
        Ok(self.engine.wait(self.outcome.id, deadline, attempt).is_some())
    }
}

/// A task that was submitted with [`Pool::apply_async`](crate::Pool::apply_async). Dropping it does
/// not stop the task.
///
/// For results as they arrive use [`Pool::imap_unordered`](crate::Pool::imap_unordered). A task
/// cannot be in a [`WaitSet`](crate::WaitSet): to wait for it and for other things at once, give it
/// a callback that sets an [`Event`](crate::Event) or sends into a channel.
///
/// In a fork of the process that submitted it, a task is never ready. A callback of the pool cannot
/// wait for a task whose own [callback](crate::pool::TaskOptions::apply_async_with) has not
/// returned.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let pool = pagemate::Pool::new(2)?;
/// let task = pool.apply_async(|n: u64| (1..=n).product::<u64>(), 10)?;
/// assert_eq!(task.get()?, 3628800);
/// # Ok(())
/// # }
/// ```
#[must_use = "the result is lost if nobody gets it"]
pub struct Task<R> {
    pending: Pending<R>,
}

impl<R> Task<R> {
    pub(crate) fn new(engine: Arc<Engine>, outcome: Arc<Outcome<R>>) -> Task<R> {
        Task { pending: Pending { engine, outcome } }
    }

    /// Returns whether the result has arrived and the callback has returned.
    pub fn is_ready(&self) -> bool {
        self.pending.is_ready()
    }

    /// Blocks until the result has arrived.
    pub fn wait(&self) {
        let _ = self.pending.wait(Deadline::Never);
    }

    /// Blocks until the result has arrived, for `timeout` at most. Returns whether it has.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout)).unwrap_or(false)
    }

    /// Like [`wait_timeout`](Task::wait_timeout), but blocks until `deadline` at the latest.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.pending.wait(Deadline::at(deadline)).unwrap_or(false)
    }

    /// Blocks until the result has arrived, and returns it.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: the reason why there is no result. `Refused`: this thread cannot wait for it
    /// (see [`Task`]).
    pub fn get(self) -> Result<R, TaskError> {
        self.pending.wait(Deadline::Never)?;
        one(&mut self.pending.outcome.lock())
    }

    /// Returns the result if it has arrived, without blocking; otherwise returns the task.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(1)?;
    /// let mut task = pool.apply_async(|n: u64| n + 1, 1)?;
    /// let result = loop {
    ///     match task.try_get() {
    ///         Ok(result) => break result,
    ///         Err(back) => task = back, // do something else
    ///     }
    /// };
    /// assert_eq!(result?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The task, if it is not ready yet.
    pub fn try_get(self) -> Result<Result<R, TaskError>, Task<R>> {
        self.get_until(Deadline::At(0))
    }

    /// Blocks until the result has arrived, for `timeout` at most; then returns the task.
    ///
    /// # Errors
    ///
    /// The task, if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, Task<R>> {
        self.get_until(Deadline::after(timeout))
    }

    /// Like [`get_timeout`](Task::get_timeout), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// The task, if it is not ready yet.
    pub fn get_deadline(self, deadline: Instant) -> Result<Result<R, TaskError>, Task<R>> {
        self.get_until(Deadline::at(deadline))
    }

    fn get_until(self, deadline: Deadline) -> Result<Result<R, TaskError>, Task<R>> {
        match self.pending.wait(deadline) {
            Ok(true) => Ok(one(&mut self.pending.outcome.lock())),
            Ok(false) => Err(self),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Returns the result of a batch of one.
pub(crate) fn one<R>(results: &mut Results<R>) -> Result<R, TaskError> {
    results.next().unwrap_or(Err(TaskError::Terminated))
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("batch", &self.pending.outcome.id).finish_non_exhaustive()
    }
}

/// A batch of tasks that was submitted with [`Pool::map_async`](crate::Pool::map_async). Dropping
/// it does not stop the tasks.
#[must_use = "the results are lost if nobody gets them"]
pub struct MapTask<R> {
    pending: Pending<R>,
}

impl<R> MapTask<R> {
    pub(crate) fn new(engine: Arc<Engine>, outcome: Arc<Outcome<R>>) -> MapTask<R> {
        MapTask { pending: Pending { engine, outcome } }
    }

    /// Returns whether all results are there and the callback has returned.
    pub fn is_ready(&self) -> bool {
        self.pending.is_ready()
    }

    /// Returns the number of finished tasks.
    pub fn done(&self) -> usize {
        self.pending.is_ready();
        if self.pending.engine.is_own() {
            self.pending.outcome.lock().done
        } else {
            0
        }
    }

    /// Blocks until all results are there.
    pub fn wait(&self) {
        let _ = self.pending.wait(Deadline::Never);
    }

    /// Blocks until all results are there, for `timeout` at most. Returns whether they are.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout)).unwrap_or(false)
    }

    /// Like [`wait_timeout`](MapTask::wait_timeout), but blocks until `deadline` at the latest.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.pending.wait(Deadline::at(deadline)).unwrap_or(false)
    }

    /// Blocks until all results are there, and returns them in the order of the input.
    ///
    /// # Errors
    ///
    /// [`MapError`]: the first task without a result, the reason, and all other results. It has no
    /// results if this thread cannot wait for the batch (see [`Task`]).
    pub fn get(self) -> Result<Vec<R>, MapError<R>> {
        self.pending.wait(Deadline::Never).map_err(refused)?;
        all(&mut self.pending.outcome.lock())
    }

    /// Returns the results if they are there, without blocking; otherwise returns the batch.
    ///
    /// # Errors
    ///
    /// The batch, if it is not ready yet.
    pub fn try_get(self) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        self.get_until(Deadline::At(0))
    }

    /// Blocks until all results are there, for `timeout` at most; then returns the batch.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let batch = pool.map_async(std::thread::sleep, [Duration::from_secs(3600), Duration::ZERO])?;
    /// let batch = batch.get_timeout(Duration::from_millis(10)).unwrap_err();
    /// pool.terminate();
    /// assert!(batch.get().is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The batch, if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        self.get_until(Deadline::after(timeout))
    }

    /// Like [`get_timeout`](MapTask::get_timeout), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// The batch, if it is not ready yet.
    pub fn get_deadline(self, deadline: Instant) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        self.get_until(Deadline::at(deadline))
    }

    fn get_until(self, deadline: Deadline) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        match self.pending.wait(deadline) {
            Ok(true) => Ok(all(&mut self.pending.outcome.lock())),
            Ok(false) => Err(self),
            Err(error) => Ok(Err(refused(error))),
        }
    }
}

/// Returns the error of a whole batch.
pub(crate) fn refused<R>(error: TaskError) -> MapError<R> {
    MapError::new(0, error, Vec::new())
}

/// Removes all results of a batch. The error contains them if a task failed.
pub(crate) fn all<R>(results: &mut Results<R>) -> Result<Vec<R>, MapError<R>> {
    match results.first_error() {
        Some((index, error)) => Err(MapError::new(index, error, results.take_all())),
        None => Ok(results.take_values()),
    }
}

impl<R> fmt::Debug for MapTask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapTask").field("batch", &self.pending.outcome.id).finish_non_exhaustive()
    }
}
