//! Results while the work goes on.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::batch::Outcome;
use crate::pool::error::TaskError;
use crate::pool::handle::Pool;
use crate::pool::source::Source;
use crate::process::Argument;
use crate::sys::clock::Deadline;

/// The results of [`Pool::imap`] and [`Pool::imap_unordered`]: each with what came of one task.
///
/// Items are taken from the input when results are asked for, so an endless input needs no memory; while nobody asks, workers do what was
/// taken ahead, and then wait. If the pool is closed or broken from the beginning, the only result says so; if it is joined,
/// terminated or broken later, no more items are taken, and each that was has its result or that error. Dropping it lets the
/// tasks that were submitted run to their ends.
#[must_use = "it submits nothing until results are asked for"]
pub struct Imap<'a, I, A, R> {
    source: Option<Source<I>>,
    /// Why there is no source.
    refused: Option<TaskError>,
    outcome: Arc<Outcome<R>>,
    /// How many tasks may be submitted, or done and not given away.
    ahead: usize,
    given: usize,
    pool: PhantomData<&'a Pool>,
    arguments: PhantomData<fn(A)>,
}

impl<I, A, R> Imap<'_, I, A, R> {
    pub(crate) fn new(source: Result<Source<I>, TaskError>, outcome: Arc<Outcome<R>>, ahead: usize) -> Self {
        let (source, refused) = match source {
            Ok(source) => (Some(source), None),
            Err(error) => (None, Some(error)),
        };
        Imap { source, refused, outcome, ahead, given: 0, pool: PhantomData, arguments: PhantomData }
    }
}

/// What a look for the next result gives.
enum Next<R> {
    Result(Result<R, TaskError>),
    End,
}

impl<A: Argument, R, I: Iterator<Item = A>> Imap<'_, I, A, R> {
    /// The next result if it is there; `None` at the end. Does not wait, but takes items from the input.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let mut results = pool.imap(|n: u64| n + 1, [1, 2]);
    /// let first = loop {
    ///     match results.try_next() {
    ///         Ok(result) => break result,
    ///         Err(pagemate::pool::NotYet) => {} // something else
    ///     }
    /// };
    /// assert_eq!((first, results.next(), results.next()), (Some(Ok(2)), Some(Ok(3)), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotYet`]: it has not come. It can be asked for again.
    pub fn try_next(&mut self) -> Result<Option<Result<R, TaskError>>, NotYet> {
        self.next_until(Deadline::At(0)).ok_or(NotYet)
    }

    /// The next result; `None` at the end. Waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`NotYet`]: it has not come. It can be asked for again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Result<R, TaskError>>, NotYet> {
        self.next_until(Deadline::after(timeout)).ok_or(NotYet)
    }

    /// [`next_timeout`](Imap::next_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// Those of [`next_timeout`](Imap::next_timeout).
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<Result<R, TaskError>>, NotYet> {
        self.next_until(Deadline::at(deadline)).ok_or(NotYet)
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<Option<Result<R, TaskError>>> {
        if let Some(error) = self.refused.take() {
            return Some(Some(Err(error)));
        }
        let Some(source) = &mut self.source else { return Some(None) };
        let core = source.core.clone();
        let (outcome, ahead, given) = (&self.outcome, self.ahead, self.given);
        if !core.is_own() {
            self.source = None;
            return Some(core.check().err().map(Err));
        }
        source.fill::<R>(ahead, given);
        outcome.lock().total = source.total();
        let mut attempt = || {
            let mut results = outcome.lock();
            if let Some(result) = results.next() {
                return Some(Next::Result(result));
            }
            if results.is_ready() {
                return Some(Next::End);
            }
            drop(results);
            core.turn(&mut source.chunks);
            None
        };
        let found = match attempt().or_else(&mut attempt) {
            Some(found) => found,
            None => core.wait(outcome.id, deadline, attempt)?,
        };
        match found {
            Next::Result(result) => {
                self.given += 1;
                if matches!(
                    result,
                    Err(TaskError::Terminated | TaskError::Broken(_) | TaskError::Refused { .. })
                ) {
                    // The pool does nothing any more: an endless input would give errors without end.
                    source.stop();
                }
                Some(Some(result))
            }
            Next::End => {
                self.source = None;
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

/// The next result has not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next result has not come in time: ask for it again")]
pub struct NotYet;

impl<I, A, R> fmt::Debug for Imap<'_, I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("given", &self.given).finish_non_exhaustive()
    }
}
