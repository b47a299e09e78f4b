//! One task, or a batch of them, that runs while its submitter does something else.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::batch::{Outcome, Results};
use crate::pool::core::Core;
use crate::pool::error::{MapError, TaskError};
use crate::sys::clock::Deadline;

/// What is on its way: [`Task`] and [`MapTask`] differ in what they make of the results.
struct Pending<R> {
    core: Arc<Core>,
    outcome: Arc<Outcome<R>>,
}

impl<R> Pending<R> {
    fn is_ready(&self) -> bool {
        let ready = || self.outcome.lock().is_ready();
        ready() || (self.core.is_own() && self.core.turn(&mut VecDeque::new()) && ready())
    }

    fn wait(&self, deadline: Deadline) -> bool {
        if !self.core.is_own() {
            return self.outcome.lock().is_ready();
        }
        let attempt = || {
            self.core.turn(&mut VecDeque::new());
            self.outcome.lock().is_ready().then_some(())
        };
        self.core.wait(self.outcome.id, deadline, attempt).is_some()
    }
}

/// A task that was submitted with [`Pool::apply_async`](crate::Pool::apply_async). Dropping it does not stop the task.
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
        self.pending.wait(Deadline::Never);
    }

    /// Waits until the result is there, for `timeout` at most. False: it is not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout))
    }

    /// [`wait_timeout`](Task::wait_timeout), until `deadline`.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.pending.wait(Deadline::at(deadline))
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: why there is none.
    pub fn get(self) -> Result<R, TaskError> {
        self.pending.wait(Deadline::Never);
        self.take()
    }

    /// Waits for the result, for `timeout` at most: then it gives itself back.
    ///
    /// # Errors
    ///
    /// The task itself if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, Task<R>> {
        match self.pending.wait(Deadline::after(timeout)) {
            true => Ok(self.take()),
            false => Err(self),
        }
    }

    fn take(&self) -> Result<R, TaskError> {
        one(&mut self.pending.outcome.lock())
    }
}

/// The result of a batch of one.
pub(crate) fn one<R>(results: &mut Results<R>) -> Result<R, TaskError> {
    results.next().unwrap_or(Err(TaskError::Terminated))
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("is_ready", &self.pending.outcome.lock().is_ready())
            .finish_non_exhaustive()
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
        self.pending.outcome.lock().done
    }

    /// Waits until all results are there.
    pub fn wait(&self) {
        self.pending.wait(Deadline::Never);
    }

    /// Waits until all results are there, for `timeout` at most. False: they are not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.pending.wait(Deadline::after(timeout))
    }

    /// Waits for the results, in the order of the input.
    ///
    /// # Errors
    ///
    /// [`MapError`], if there is a task without a result: which, why, and all other results.
    pub fn get(self) -> Result<Vec<R>, MapError<R>> {
        self.pending.wait(Deadline::Never);
        all(&mut self.pending.outcome.lock())
    }

    /// Waits for the results, for `timeout` at most: then it gives itself back.
    ///
    /// # Errors
    ///
    /// The batch itself if it is not ready yet.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<Vec<R>, MapError<R>>, MapTask<R>> {
        match self.pending.wait(Deadline::after(timeout)) {
            true => Ok(all(&mut self.pending.outcome.lock())),
            false => Err(self),
        }
    }
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
        f.debug_struct("MapTask").field("done", &self.pending.outcome.lock().done).finish_non_exhaustive()
    }
}
