//! Errors of tasks and batches.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::{Error, ErrorKind};

/// Why a task returned no result. It concerns this task only: the others run, unless the pool
/// itself has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The task panicked: the message, and where. Its worker runs on.
    Panicked(String),
    /// The task's worker was killed, or ended, during the task. Another worker has taken its place.
    WorkerDied {
        /// The worker's process id.
        pid: u32,
        /// How the worker ended, unless something else in this program took its exit status.
        exit: Option<ExitStatus>,
    },
    /// The task ran for longer than the pool allows, and its worker was killed.
    TimedOut(Duration),
    /// The pool was terminated, or dropped, before the task was done.
    Terminated,
    /// The pool is broken, because its workers cannot begin: initialisers failed as often in a row
    /// as the pool has workers. The text says how the last one failed.
    Broken(String),
    /// The argument or the result was lost, because memory ran out or the bytes that arrived were
    /// damaged. As an [`Error`] its kind is `OutOfMemory`, which is nearly always the reason; the
    /// text says which.
    Lost(String),
    /// The pool did not take the task: it is closed, or in another process.
    Refused {
        /// The kind of error.
        kind: ErrorKind,
        /// The description of the error.
        text: String,
    },
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked(text) => write!(f, "the task panicked: {text}"),
            TaskError::WorkerDied { pid, exit: Some(exit) } => {
                write!(f, "the task's worker (pid {pid}) died: {exit}")
            }
            TaskError::WorkerDied { pid, exit: None } => {
                write!(f, "the task's worker (pid {pid}) died in an unknown way")
            }
            TaskError::TimedOut(limit) => {
                write!(f, "the task ran for more than {limit:?}, so its worker was killed")
            }
            TaskError::Terminated => f.write_str("the pool was terminated before the task was done"),
            TaskError::Broken(text) => {
                write!(f, "the pool is broken, because its workers cannot begin: {text}")
            }
            TaskError::Lost(text) => write!(f, "the task's argument or result was lost: {text}"),
            TaskError::Refused { text, .. } => write!(f, "the pool did not take the task: {text}"),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<Error> for TaskError {
    fn from(error: Error) -> TaskError {
        TaskError::Refused { kind: error.kind(), text: error.to_string() }
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Error {
        let kind = match &error {
            TaskError::Panicked(_) | TaskError::WorkerDied { .. } => ErrorKind::ChildFailed,
            TaskError::TimedOut(_) => ErrorKind::TimedOut,
            TaskError::Terminated => ErrorKind::Closed,
            TaskError::Broken(_) => ErrorKind::Broken,
            TaskError::Lost(_) => ErrorKind::OutOfMemory,
            TaskError::Refused { kind, .. } => *kind,
        };
        Error::new(kind, error.to_string())
    }
}

/// The results of a batch of which at least one task returned none.
pub struct MapError<R> {
    first: (usize, TaskError),
    results: Vec<Result<R, TaskError>>,
}

impl<R> MapError<R> {
    pub(crate) fn new(index: usize, error: TaskError, results: Vec<Result<R, TaskError>>) -> MapError<R> {
        MapError { first: (index, error), results }
    }

    /// Returns the error of the first task, in the order of the input, without a result.
    pub fn error(&self) -> &TaskError {
        &self.first.1
    }

    /// Returns the number of that task, from 0.
    pub fn index(&self) -> usize {
        self.first.0
    }

    /// Returns the result or error of each task, in the order of the input; empty if the pool took
    /// none.
    pub fn results(&self) -> &[Result<R, TaskError>] {
        &self.results
    }

    /// Returns the [`results`](MapError::results) by value.
    pub fn into_results(self) -> Vec<Result<R, TaskError>> {
        self.results
    }
}

impl<R> fmt::Display for MapError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, error) = &self.first;
        if self.results.is_empty() {
            return write!(f, "{error}");
        }
        let failed = self.results.iter().filter(|result| result.is_err()).count();
        write!(
            f,
            "{failed} of {} tasks returned no result; the first, number {index}: {error}",
            self.results.len()
        )
    }
}

impl<R> fmt::Debug for MapError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<R> std::error::Error for MapError<R> {}

impl<R> From<MapError<R>> for Error {
    fn from(error: MapError<R>) -> Error {
        let text = error.to_string();
        Error::new(Error::from(error.first.1).kind(), text)
    }
}
