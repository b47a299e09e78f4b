//! Tasks that were submitted together, and what came of them, in the types of their function.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::error::TaskError;
use crate::process::{Argument, Unpacker};
use crate::Result;

/// What a callback gets: all results, which it puts back. It does not panic.
type Callback<R> = Box<dyn FnOnce(&mut Results<R>) + Send>;

/// Results as they come.
pub(crate) struct Results<R> {
    /// Those of the tasks from `base` on, as far as they have come and been values.
    items: VecDeque<Option<R>>,
    base: usize,
    /// Those that were none.
    errors: BTreeMap<usize, TaskError>,
    /// In the order in which they come, instead of in `items` and `errors`.
    loose: Option<VecDeque<Result<R, TaskError>>>,
    /// How many there have been.
    pub(crate) done: usize,
    /// How many there will be; unknown while tasks are still being submitted.
    pub(crate) total: Option<usize>,
    callback: Option<Callback<R>>,
    /// A thread runs the callback.
    calling: bool,
}

impl<R> Results<R> {
    fn is_complete(&self) -> bool {
        self.total == Some(self.done)
    }

    /// Whether everything is there, and the callback has returned.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_complete() && !self.has_callback()
    }

    /// Whether there is a callback that has not returned.
    pub(crate) fn has_callback(&self) -> bool {
        self.callback.is_some() || self.calling
    }

    fn add(&mut self, index: usize, value: R) {
        if let Some(loose) = &mut self.loose {
            return loose.push_back(Ok(value));
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

    /// Those of the tasks from `first` on.
    fn add_all(&mut self, first: usize, values: Vec<R>) {
        if let Some(loose) = &mut self.loose {
            return loose.extend(values.into_iter().map(Ok));
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
        match &mut self.loose {
            Some(loose) => loose.push_back(Err(error)),
            None => drop(self.errors.insert(index, error)),
        }
    }

    /// The next one, in order or, of loose results, any.
    pub(crate) fn next(&mut self) -> Option<Result<R, TaskError>> {
        if let Some(loose) = &mut self.loose {
            return loose.pop_front();
        }
        let next = match self.items.front_mut().and_then(Option::take) {
            Some(value) => Ok(value),
            None => Err(self.errors.remove(&self.base)?),
        };
        self.items.pop_front();
        self.base += 1;
        Some(next)
    }

    /// Puts the only one back.
    pub(crate) fn put_back(&mut self, result: Result<R, TaskError>) {
        self.start_again(vec![result]);
    }

    /// Puts all back, from the first on.
    pub(crate) fn start_again(&mut self, all: Vec<Result<R, TaskError>>) {
        self.base = 0;
        for (index, result) in all.into_iter().enumerate() {
            match result {
                Ok(value) => self.add(index, value),
                Err(error) => self.add_error(index, error),
            }
        }
    }

    /// The first that is none, and which.
    pub(crate) fn first_error(&self) -> Option<(usize, TaskError)> {
        self.errors.first_key_value().map(|(index, error)| (*index, error.clone()))
    }

    /// All that have come, in order.
    pub(crate) fn take_all(&mut self) -> Vec<Result<R, TaskError>> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// All of them, if none is an error.
    pub(crate) fn take_values(&mut self) -> Vec<R> {
        let mut values = Vec::with_capacity(self.items.len());
        values.extend(std::mem::take(&mut self.items).into_iter().flatten());
        values
    }
}

/// The results of a batch, for whoever waits for them.
pub(crate) struct Outcome<R> {
    /// Tells batches apart.
    pub(crate) id: u64,
    results: Mutex<Results<R>>,
}

impl<R> Outcome<R> {
    pub(crate) fn new(total: Option<usize>, loose: bool, callback: Option<Callback<R>>) -> Arc<Outcome<R>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let results = Results {
            items: VecDeque::new(),
            base: 0,
            errors: BTreeMap::new(),
            loose: loose.then(VecDeque::new),
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

    /// Adds what came of some tasks. True: the callback is to be called.
    fn add(&self, count: usize, add: impl FnOnce(&mut Results<R>)) -> bool {
        let mut results = self.lock();
        add(&mut results);
        results.done += count;
        results.is_complete() && results.callback.is_some()
    }
}

/// A batch as the pool has it, which does not know its types.
pub(crate) trait Job: Send + Sync {
    fn id(&self) -> u64;
    /// Where in the program the runner of its function is.
    fn runner(&self) -> u64;
    /// How often a task whose worker died is given to another.
    fn retries(&self) -> u32;
    /// Whether somebody is to look for its results even if nobody waits for them.
    fn calls(&self) -> bool;
    /// Takes the results of `count` tasks from `first` on. True: it wants its callback to be called.
    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool;
    /// These tasks gave none, and why. True: it wants its callback to be called.
    fn failed(&self, first: usize, count: usize, error: &TaskError) -> bool;
    /// How many bytes the first `count` arguments have.
    fn skip(&self, bytes: &[u8], count: usize) -> Result<usize>;
    /// Calls its callback. Without any lock of the pool.
    fn call(&self);
}

/// A batch of tasks of one function.
pub(crate) struct Batch<A, R> {
    pub(crate) outcome: Arc<Outcome<R>>,
    pub(crate) runner: u64,
    pub(crate) retries: u32,
    pub(crate) calls: bool,
    pub(crate) arguments: PhantomData<fn(A)>,
}

impl<A: Argument, R: Argument + Send> Job for Batch<A, R> {
    fn id(&self) -> u64 {
        self.outcome.id
    }

    fn runner(&self) -> u64 {
        self.runner
    }

    fn retries(&self) -> u32 {
        self.retries
    }

    fn calls(&self) -> bool {
        self.calls
    }

    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool {
        if let Ok(values) = R::unpack_all(count, &mut Unpacker::new(bytes)) {
            return self.outcome.add(count, |results| results.add_all(first, values));
        }
        // At least one is damaged: each tells of itself, unless one must be read to know where the next begins.
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

    fn call(&self) {
        let mut results = self.outcome.lock();
        let Some(callback) = results.callback.take() else { return };
        results.calling = true;
        // It may look at the task, so it gets the results without the lock.
        let mut lent = Results {
            items: std::mem::take(&mut results.items),
            base: results.base,
            errors: std::mem::take(&mut results.errors),
            loose: None,
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
