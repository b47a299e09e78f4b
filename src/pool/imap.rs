//! Iterators over results that arrive while tasks run.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::batch::Outcome;
use crate::pool::chunker::Chunker;
use crate::pool::engine::Engine;
use crate::pool::error::TaskError;
use crate::process::Argument;
use crate::sys::clock::Deadline;

/// An iterator over the results of [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered). It yields the result or the error of each
/// task.
///
/// It takes items from its input only when a result is requested, so an endless input needs little
/// memory. Between requests, the workers run the tasks that were submitted, and then wait. Dropping
/// the iterator lets these tasks finish.
///
/// If the pool is closed or broken from the beginning, the iterator yields one error and ends. If
/// the pool is joined, terminated or broken later, the iterator takes no more items, and yields a
/// result or an error for each item that it has taken.
#[must_use = "it submits nothing until results are asked for"]
pub struct Imap<'a, I, A, R> {
    chunker: Option<Chunker<I>>,
    /// The reason why there is no chunker.
    refused: Option<TaskError>,
    outcome: Arc<Outcome<R>>,
    /// Maximum number of tasks that are submitted, or done but not yet returned.
    ahead: usize,
    returned: usize,
    engine: &'a Engine,
    arguments: PhantomData<fn(A)>,
}

impl<'a, I, A, R> Imap<'a, I, A, R> {
    pub(crate) fn new(
        engine: &'a Engine,
        chunker: Result<Chunker<I>, TaskError>,
        outcome: Arc<Outcome<R>>,
        ahead: usize,
    ) -> Self {
        let (chunker, refused) = match chunker {
            Ok(chunker) => (Some(chunker), None),
            Err(error) => (None, Some(error)),
        };
        Imap { chunker, refused, outcome, ahead, returned: 0, engine, arguments: PhantomData }
    }
}

/// The outcome of a check for the next result.
enum Next<R> {
    Result(Result<R, TaskError>),
    End,
}

impl<A: Argument, R, I: Iterator<Item = A>> Imap<'_, I, A, R> {
    /// Returns the next result if it has arrived; `None` at the end. Does not block, but takes
    /// items from the input.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let mut results = pool.imap(|n: u64| n + 1, [1, 2]);
    /// let first = loop {
    ///     match results.try_next() {
    ///         Ok(result) => break result,
    ///         Err(pagemate::pool::NextTimedOut) => {} // do something else
    ///     }
    /// };
    /// assert_eq!((first, results.next(), results.next()), (Some(Ok(2)), Some(Ok(3)), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NextTimedOut`]: the result has not arrived. Ask for it again.
    pub fn try_next(&mut self) -> Result<Option<Result<R, TaskError>>, NextTimedOut> {
        self.next_until(Deadline::At(0)).ok_or(NextTimedOut)
    }

    /// Returns the next result; `None` at the end. Blocks for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`NextTimedOut`]: the result has not arrived. Ask for it again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Result<R, TaskError>>, NextTimedOut> {
        self.next_until(Deadline::after(timeout)).ok_or(NextTimedOut)
    }

    /// Like [`next_timeout`](Imap::next_timeout), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`next_timeout`](Imap::next_timeout).
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<Result<R, TaskError>>, NextTimedOut> {
        self.next_until(Deadline::at(deadline)).ok_or(NextTimedOut)
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<Option<Result<R, TaskError>>> {
        if let Some(error) = self.refused.take() {
            return Some(Some(Err(error)));
        }
        let Some(chunker) = &mut self.chunker else { return Some(None) };
        let engine = self.engine;
        let (outcome, ahead, returned) = (&self.outcome, self.ahead, self.returned);
        if !engine.is_own() {
            self.chunker = None;
            return Some(engine.check().err().map(Err));
        }
        chunker.fill::<R>(ahead, returned);
        outcome.lock().total = chunker.total();
        let mut attempt = || {
            let mut results = outcome.lock();
            if let Some(result) = results.next() {
                return Some(Next::Result(result));
            }
            if results.is_ready() {
                return Some(Next::End);
            }
            drop(results);
            engine.collect_and_submit(&mut chunker.chunks);
            None
        };
        let found = match attempt().or_else(&mut attempt) {
            Some(found) => found,
            None => engine.wait(outcome.id, deadline, attempt)?,
        };
        match found {
            Next::Result(result) => {
                self.returned += 1;
                if matches!(
                    result,
                    Err(TaskError::Terminated | TaskError::Broken(_) | TaskError::Refused { .. })
                ) {
                    // The pool runs nothing any more, so an endless input would cause endless
                    // errors.
                    chunker.stop();
                }
                Some(Some(result))
            }
            Next::End => {
                self.chunker = None;
                Some(None)
            }
        }
    }
}

impl<A: Argument, R, I: Iterator<Item = A>> Iterator for Imap<'_, I, A, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Result<R, TaskError>> {
        self.next_until(Deadline::Never).flatten()
    }
}

impl<A: Argument, R, I: Iterator<Item = A>> FusedIterator for Imap<'_, I, A, R> {}

/// The error if the next result has not arrived in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimedOut;

impl fmt::Display for NextTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the next result has not arrived in time: ask for it again")
    }
}

impl std::error::Error for NextTimedOut {}

impl<I, A, R> fmt::Debug for Imap<'_, I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("returned", &self.returned).finish_non_exhaustive()
    }
}
