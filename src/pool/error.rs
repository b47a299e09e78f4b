//! Why a task gave no result.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::{Error, ErrorKind};

/// Why a task gave no result. It says so of this task only: the others of the pool go on, unless the pool itself has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked: the message, and where. The worker goes on.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// Its worker was killed, or ended, while it ran. Another worker has taken that one's place.
    #[error("the task's worker (pid {pid}) died: {}", ended(.exit))]
    WorkerDied {
        /// The worker's process id.
        pid: u32,
        /// How it ended, unless something else in this program took its exit status.
        exit: Option<ExitStatus>,
    },
    /// It ran for longer than the pool allows; its worker was killed.
    #[error("the task ran for more than {0:?}, so its worker was killed")]
    TimedOut(Duration),
    /// The pool was terminated, or dropped, before it was done.
    #[error("the pool was terminated before the task was done")]
    Terminated,
    /// The initialisers of as many workers in a row as the pool has failed: this is how the last one did.
    #[error("the pool is broken, because its workers cannot begin: {0}")]
    Broken(String),
    /// Its argument or its result could not be carried: there was no memory, or what came was damaged. As an [`Error`] its
    /// kind is `OutOfMemory`, which is nearly always why; the text says it.
    #[error("the task's argument or result was lost: {0}")]
    Lost(String),
    /// The pool did not take it: it is closed, or in another process.
    #[error("the pool did not take the task: {text}")]
    Refused {
        /// What kind of thing was wrong.
        kind: ErrorKind,
        /// What was wrong.
        text: String,
    },
}

fn ended(exit: &Option<ExitStatus>) -> String {
    exit.map_or("how is unknown".to_owned(), |exit| exit.to_string())
}

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

/// What came of many tasks of which at least one gave no result.
pub struct MapError<R> {
    first: (usize, TaskError),
    results: Vec<Result<R, TaskError>>,
}

impl<R> MapError<R> {
    pub(crate) fn new(index: usize, error: TaskError, results: Vec<Result<R, TaskError>>) -> MapError<R> {
        MapError { first: (index, error), results }
    }

    /// The error of the first task, in the order of the input, that gave no result.
    pub fn error(&self) -> &TaskError {
        &self.first.1
    }

    /// Which task that was, from 0.
    pub fn index(&self) -> usize {
        self.first.0
    }

    /// What came of each task, in the order of the input; empty if the pool took none.
    pub fn results(&self) -> &[Result<R, TaskError>] {
        &self.results
    }

    /// [`results`](MapError::results), to keep.
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
            "{failed} of {} tasks gave no result; the first, number {index}: {error}",
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
