//! One task, or a batch of them, that runs while its submitter does something else.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::batch::{Outcome, Results};
use crate::pool::core::Core;
use crate::pool::error::{MapError, TaskError};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind};

/// What is on its way: [`Task`] and [`MapTask`] differ in what they make of the results.
struct Pending<R> {
    core: Arc<Core>,
    outcome: Arc<Outcome<R>>,
}

impl<R> Pending<R> {
    fn is_ready(&self) -> bool {
        let ready = || self.outcome.lock().is_ready();
        self.core.is_own() && (ready() || self.core.turn(&mut VecDeque::new()) && ready())
    }

    /// Whether it is ready in time; an error if it can never be here.
    fn wait(&self, deadline: Deadline) -> Result<bool, TaskError> {
        // A fork has the locks as they were: somebody may have held them.
        self.core.check_own()?;
        if self.core.is_caller() && self.outcome.lock().has_callback() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a callback cannot wait for a task that has a callback: that is called only when this one has returned",
            )
            .into());
        }
        let attempt = || {
            self.core.turn(&mut VecDeque::new());
            self.outcome.lock().is_ready().then_some(())
        };
        Ok(self.core.wait(self.outcome.id, deadline, attempt).is_some())
    }
}

/// A task that was submitted with [`Pool::apply_async`](crate::Pool::apply_async). Dropping it does not stop the task.
///
/// For results as they come there is [`Pool::imap_unordered`](crate::Pool::imap_unordered). To wait for a task and for other things at
/// once, give it a callback that sets an [`Event`](crate::Event) or sends into a channel: it cannot be in a
/// [`WaitSet`](crate::WaitSet) itself.
///
/// In a fork of the process that submitted it, it is never ready. In a callback of its pool a task with a
/// [callback](crate::pool::Options::apply_async_with) that has not returned cannot be waited for.
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
    pub(crate) fn new(core: Arc<Core>, outcome: Arc<Outcome<R>>) -> Task<R> {
        Task { pending: Pending { core, outcome } }
    }

    /// Whether the result is there, and its callback has returned.
    pub fn is_ready(&self) -> bool {
        self.pending.is_ready()
    }

    /// Waits until the result is there.
    pub fn wait(&self) {
        let _ = self.pending.wait(Deadline::Never);
    }

    /// Waits until the result is there, for `timeout` at most. False: it is not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout)).unwrap_or(false)
    }

    /// [`wait_timeout`](Task::wait_timeout), until `deadline`.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.pending.wait(Deadline::at(deadline)).unwrap_or(false)
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: why there is none. `Refused`: it cannot be waited for here (see [`Task`]).
    pub fn get(self) -> Result<R, TaskError> {
        self.pending.wait(Deadline::Never)?;
        one(&mut self.pending.outcome.lock())
    }

    /// The result if it is there, without waiting: otherwise it gives itself back.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(1)?;
    /// let mut task = pool.apply_async(|n: u64| n + 1, 1)?;
    /// let result = loop {
    ///     match task.try_get() {
    ///         Ok(result) => break result,
    ///         Err(back) => task = back, // something else
    ///     }
    /// };
    /// assert_eq!(result?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The task itself if it is not ready yet.
    pub fn try_get(self) -> Result<Result<R, TaskError>, Task<R>> {
        self.get_until(Deadline::At(0))
    }

    /// Waits for the result, for `timeout` at most: then it gives itself back.
    ///
    /// # Errors
    ///
    /// The task itself if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, Task<R>> {
        self.get_until(Deadline::after(timeout))
    }

    /// [`get_timeout`](Task::get_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// The task itself if it is not ready yet.
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

/// The result of a batch of one.
pub(crate) fn one<R>(results: &mut Results<R>) -> Result<R, TaskError> {
    results.next().unwrap_or(Err(TaskError::Terminated))
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("batch", &self.pending.outcome.id).finish_non_exhaustive()
    }
}

/// Tasks that were submitted with [`Pool::map_async`](crate::Pool::map_async). Dropping it does not stop them.
#[must_use = "the results are lost if nobody gets them"]
pub struct MapTask<R> {
    pending: Pending<R>,
}

impl<R> MapTask<R> {
    pub(crate) fn new(core: Arc<Core>, outcome: Arc<Outcome<R>>) -> MapTask<R> {
        MapTask { pending: Pending { core, outcome } }
    }

    /// Whether all results are there, and the callback has returned.
    pub fn is_ready(&self) -> bool {
        self.pending.is_ready()
    }

    /// How many tasks are done.
    pub fn done(&self) -> usize {
        self.pending.is_ready();
        if self.pending.core.is_own() {
            self.pending.outcome.lock().done
        } else {
            0
        }
    }

    /// Waits until all results are there.
    pub fn wait(&self) {
        let _ = self.pending.wait(Deadline::Never);
    }

    /// Waits until all results are there, for `timeout` at most. False: they are not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout)).unwrap_or(false)
    }

    /// [`wait_timeout`](MapTask::wait_timeout), until `deadline`.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.pending.wait(Deadline::at(deadline)).unwrap_or(false)
    }

    /// Waits for the results, in the order of the input.
    ///
    /// # Errors
    ///
    /// [`MapError`], if there is a task without a result: which, why, and all other results. Without any results if it cannot
    /// be waited for here (see [`Task`]).
    pub fn get(self) -> Result<Vec<R>, MapError<R>> {
        self.pending.wait(Deadline::Never).map_err(refused)?;
        all(&mut self.pending.outcome.lock())
    }

    /// The results if they are there, without waiting: otherwise it gives itself back.
    ///
    /// # Errors
    ///
    /// The batch itself if it is not ready yet.
    pub fn try_get(self) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        self.get_until(Deadline::At(0))
    }

    /// Waits for the results, for `timeout` at most: then it gives itself back.
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
    /// The batch itself if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        self.get_until(Deadline::after(timeout))
    }

    /// [`get_timeout`](MapTask::get_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// The batch itself if it is not ready yet.
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

/// The error of a whole batch.
pub(crate) fn refused<R>(error: TaskError) -> MapError<R> {
    MapError::new(0, error, Vec::new())
}

/// All results of a batch, if all tasks gave one.
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
