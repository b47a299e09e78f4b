//! Batches: tasks of one function that were submitted together, and their results.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::error::TaskError;
use crate::pool::layout::Call;
use crate::pool::packed_chunk::AnyBatch;
use crate::process::{Argument, Unpacker};
use crate::Result;

/// A callback. It takes all results, and puts them back. It does not panic.
type Callback<R> = Box<dyn FnOnce(&mut Results<R>) + Send>;

/// The results of a batch, as they arrive.
pub(crate) struct Results<R> {
    /// The value of task `base + i` at index `i`; `None` if it has not arrived, or if the task
    /// failed.
    items: VecDeque<Option<R>>,
    /// Number of the first task whose result has not been removed.
    base: usize,
    /// The errors, by task.
    errors: BTreeMap<usize, TaskError>,
    /// In an unordered batch: all results in the order of their arrival, instead of `items` and
    /// `errors`.
    unordered: Option<VecDeque<Result<R, TaskError>>>,
    /// Number of results that have arrived.
    pub(crate) done: usize,
    /// Number of tasks; unknown while tasks are still being submitted.
    pub(crate) total: Option<usize>,
    callback: Option<Callback<R>>,
    /// Whether the callback is running.
    calling: bool,
}

impl<R> Results<R> {
    fn is_complete(&self) -> bool {
        self.total == Some(self.done)
    }

    /// Returns whether all results have arrived, and the callback has returned.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_complete() && !self.has_callback()
    }

    /// Returns whether there is a callback that has not returned.
    pub(crate) fn has_callback(&self) -> bool {
        self.callback.is_some() || self.calling
    }

    fn add(&mut self, index: usize, value: R) {
        if let Some(unordered) = &mut self.unordered {
            return unordered.push_back(Ok(value));
        }
        let at = index - self.base;
        if at == self.items.len() {
            return self.items.push_back(Some(value));
        }
        if at > self.items.len() {
            self.items.resize_with(at + 1, || None);
        }
        self.items[at] = Some(value);
    }

    /// Adds the results of the tasks from `first` on.
    fn add_all(&mut self, first: usize, values: Vec<R>) {
        if let Some(unordered) = &mut self.unordered {
            return unordered.extend(values.into_iter().map(Ok));
        }
        let at = first - self.base;
        if at == self.items.len() {
            return self.items.extend(values.into_iter().map(Some));
        }
        let end = at + values.len();
        if end > self.items.len() {
            self.items.resize_with(end, || None);
        }
        self.items.range_mut(at..end).zip(values).for_each(|(place, value)| *place = Some(value));
    }

    fn add_error(&mut self, index: usize, error: TaskError) {
        match &mut self.unordered {
            Some(unordered) => unordered.push_back(Err(error)),
            None => drop(self.errors.insert(index, error)),
        }
    }

    /// Removes the next result in the order of the tasks, or of arrival if the batch is unordered.
    /// Returns `None` if it has not arrived.
    pub(crate) fn next(&mut self) -> Option<Result<R, TaskError>> {
        if let Some(unordered) = &mut self.unordered {
            return unordered.pop_front();
        }
        let next = match self.items.front_mut().and_then(Option::take) {
            Some(value) => Ok(value),
            None => Err(self.errors.remove(&self.base)?),
        };
        self.items.pop_front();
        self.base += 1;
        Some(next)
    }

    /// Puts the result of a batch of one task back.
    pub(crate) fn put_back(&mut self, result: Result<R, TaskError>) {
        self.start_again(vec![result]);
    }

    /// Puts the results of all tasks back.
    pub(crate) fn start_again(&mut self, all: Vec<Result<R, TaskError>>) {
        self.base = 0;
        for (index, result) in all.into_iter().enumerate() {
            match result {
                Ok(value) => self.add(index, value),
                Err(error) => self.add_error(index, error),
            }
        }
    }

    /// Returns the first error, with the number of its task.
    pub(crate) fn first_error(&self) -> Option<(usize, TaskError)> {
        self.errors.first_key_value().map(|(index, error)| (*index, error.clone()))
    }

    /// Removes the results up to the first that has not arrived, in the order of the tasks.
    pub(crate) fn take_all(&mut self) -> Vec<Result<R, TaskError>> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Removes all values. Only for a batch without errors.
    pub(crate) fn take_values(&mut self) -> Vec<R> {
        let mut values = Vec::with_capacity(self.items.len());
        values.extend(std::mem::take(&mut self.items).into_iter().flatten());
        values
    }
}

/// The results of a batch, shared by the pool and the waiters.
pub(crate) struct Outcome<R> {
    /// Identifies the batch.
    pub(crate) id: u64,
    results: Mutex<Results<R>>,
}

// A panic leaves nothing half-done behind the lock, because callbacks run without it.
impl<R> UnwindSafe for Outcome<R> {}
impl<R> RefUnwindSafe for Outcome<R> {}

impl<R> Outcome<R> {
    pub(crate) fn new(
        total: Option<usize>,
        unordered: bool,
        callback: Option<Callback<R>>,
    ) -> Arc<Outcome<R>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let results = Results {
            items: VecDeque::new(),
            base: 0,
            errors: BTreeMap::new(),
            unordered: unordered.then(VecDeque::new),
            done: 0,
            total,
            callback,
            calling: false,
        };
        Arc::new(Outcome { id: COUNT.fetch_add(1, Relaxed), results: Mutex::new(results) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Results<R>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the results of `count` tasks. Returns whether the callback is due.
    fn add(&self, count: usize, add: impl FnOnce(&mut Results<R>)) -> bool {
        let mut results = self.lock();
        add(&mut results);
        results.done += count;
        results.is_complete() && results.callback.is_some()
    }
}

/// A batch of tasks of one function.
pub(crate) struct Batch<A, R> {
    pub(crate) outcome: Arc<Outcome<R>>,
    pub(crate) call: Call,
    pub(crate) retries: u32,
    pub(crate) needs_monitor: bool,
    pub(crate) arguments: PhantomData<fn(A)>,
}

impl<A: Argument, R: Argument + Send> AnyBatch for Batch<A, R> {
    fn id(&self) -> u64 {
        self.outcome.id
    }

    fn function_call(&self) -> Call {
        self.call
    }

    fn retries(&self) -> u32 {
        self.retries
    }

    fn needs_monitor(&self) -> bool {
        self.needs_monitor
    }

    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool {
        if let Ok(values) = R::unpack_all(count, &mut Unpacker::new(bytes)) {
            return self.outcome.add(count, |results| results.add_all(first, values));
        }
        // At least one result is damaged. If results have a fixed size, those after it can still be
        // read. Otherwise nobody knows where they begin, so they get the same error.
        let mut unpacker = Unpacker::new(bytes);
        let mut lost = None;
        self.outcome.add(count, |results| {
            for index in first..first + count {
                let result = match &lost {
                    Some(error) if !R::HAS_FIXED_SIZE => Err(TaskError::clone(error)),
                    _ => R::unpack_item(&mut unpacker).map_err(|error| TaskError::Lost(error.to_string())),
                };
                match result {
                    Ok(value) => results.add(index, value),
                    Err(error) => results.add_error(index, lost.insert(error).clone()),
                }
            }
        })
    }

    fn failed(&self, first: usize, count: usize, error: &TaskError) -> bool {
        self.outcome.add(count, |results| {
            (first..first + count).for_each(|index| results.add_error(index, error.clone()));
        })
    }

    fn skip(&self, bytes: &[u8], count: usize) -> Result<usize> {
        let mut unpacker = Unpacker::new(bytes);
        for _ in 0..count {
            A::unpack_item(&mut unpacker)?;
        }
        Ok(bytes.len() - unpacker.left())
    }

    fn run_callback(&self) {
        let mut results = self.outcome.lock();
        let Some(callback) = results.callback.take() else { return };
        results.calling = true;
        // The callback may inspect the task, which takes the lock. So the callback runs without the
        // lock.
        let mut lent = Results {
            items: std::mem::take(&mut results.items),
            base: results.base,
            errors: std::mem::take(&mut results.errors),
            unordered: None,
            done: results.done,
            total: results.total,
            callback: None,
            calling: false,
        };
        drop(results);
        callback(&mut lent);
        let mut results = self.outcome.lock();
        (results.items, results.errors, results.calling) = (lent.items, lent.errors, false);
        results.base = lent.base;
    }
}
