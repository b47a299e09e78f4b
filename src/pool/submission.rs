//! Submission: packs a call's arguments into chunks, as its options say, and submits them to the
//! engine.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use crate::pool::batch::{Batch, Outcome};
use crate::pool::chunk::call_to;
use crate::pool::chunker::{pack, Chunker, Items};
use crate::pool::engine::Submission;
use crate::pool::error::{MapError, TaskError};
use crate::pool::function::Function;
use crate::pool::imap::Imap;
use crate::pool::packed_chunk::AnyBatch;
use crate::pool::task::{all, refused, MapTask, Task};
use crate::pool::task_options::TaskOptions;
use crate::process::Argument;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind};

/// The number of chunks for each worker, if the number of items is known. Several, so that workers
/// with short tasks take more chunks.
pub(crate) const CHUNKS_A_WORKER: usize = 4;
/// The largest number of chunks that are packed and not yet submitted.
const AT_ONCE: usize = 64;

impl<'a> TaskOptions<'a> {
    /// Returns an error if an option would let nothing be submitted.
    fn check(&self) -> Result<(), TaskError> {
        let reason = match (self.chunk_size, self.look_ahead) {
            (Some(0), _) => "a chunk size of 0 would submit nothing: it must be at least 1",
            (_, Some(0)) => "a look-ahead of 0 would submit nothing: it must be at least 1",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, reason).into())
    }

    /// Registers the call as submitting. Its tasks are accepted even if the pool is closed before
    /// the guard is dropped.
    pub(super) fn begin(&self) -> Result<Submission<'a>, TaskError> {
        self.check()?;
        self.engine.begin()
    }

    /// Creates the batch of this function.
    pub(super) fn batch<F, A, R>(
        &self,
        function: F,
        outcome: &Arc<Outcome<R>>,
        needs_monitor: bool,
    ) -> Result<Arc<dyn AnyBatch>, TaskError>
    where
        F: Function<A, R>,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        const {
            assert!(
                !A::HAS_HANDLES && !R::HAS_HANDLES,
                "arguments and results of tasks cannot hold handles: give them to the pool's initialiser, \
                 or open them by name"
            );
        }
        let call = call_to::<F, A, R>(function)?;
        let (retries, outcome) = (self.retries, outcome.clone());
        Ok(Arc::new(Batch { outcome, call, retries, needs_monitor, arguments: PhantomData::<fn(A)> }))
    }

    /// Submits a task. Blocks while no slot is free.
    pub(super) fn submit_one<A: Argument, R>(
        self,
        batch: Arc<dyn AnyBatch>,
        outcome: Arc<Outcome<R>>,
        argument: A,
    ) -> Result<Task<R>, TaskError> {
        let engine = self.engine;
        let mut chunks = VecDeque::from([pack::<A, R>(batch, 0, vec![argument])?]);
        let submitted = || {
            engine.collect_and_submit(&mut chunks);
            chunks.is_empty().then_some(())
        };
        engine.wait_all(Deadline::Never, submitted);
        Ok(Task::new(engine.clone(), outcome))
    }

    /// Submits a task for each item, and returns the results when all are there.
    pub(crate) fn map_by<F, A, R>(
        mut self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError<R>>
    where
        F: Function<A, R>,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let mut submission = Some(self.begin().map_err(refused)?);
        let outcome = Outcome::new(None, false, None);
        let batch = self.batch(function, &outcome, false).map_err(refused)?;
        let mut progress = self.progress.take();
        let (items, size) = self.measured(items);
        let mut chunker = Chunker::new(items, batch, size);
        let engine = self.engine;
        loop {
            // Packs some chunks, and submits those that find a slot.
            chunker.pack::<R>(AT_ONCE);
            outcome.lock().total = chunker.total();
            let before = outcome.lock().done;
            let step = || {
                let moved = engine.collect_and_submit(&mut chunker.chunks);
                (moved || outcome.lock().is_ready()).then_some(())
            };
            engine.wait(outcome.id, Deadline::Never, step);
            if chunker.is_submitted() {
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

    /// Submits a task for each item, and does not wait for them.
    pub(super) fn map_async_by<F, A, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError>
    where
        F: Function<A, R>,
        A: Argument + 'static,
        R: Argument + Send + 'static,
    {
        let _submission = self.begin()?;
        let outcome = Outcome::new(None, false, None);
        // There may be more chunks than slots. The monitor submits the rest, because perhaps no
        // thread waits.
        let batch = self.batch(function, &outcome, true)?;
        self.submit_all(batch, outcome, items)
    }

    /// Submits the chunks that find a slot, and leaves the others to the monitor.
    pub(super) fn submit_all<A: Argument, R>(
        self,
        batch: Arc<dyn AnyBatch>,
        outcome: Arc<Outcome<R>>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapTask<R>, TaskError> {
        let engine = self.engine;
        let (items, size) = self.measured(items);
        let mut chunker = Chunker::new(items, batch.clone(), size);
        while chunker.total().is_none() {
            chunker.pack::<R>(AT_ONCE);
            engine.collect_and_submit(&mut chunker.chunks);
        }
        engine.lock().put_back(&mut chunker.chunks);
        let complete = {
            let mut results = outcome.lock();
            results.total = chunker.total();
            results.total == Some(results.done)
        };
        if complete {
            // The last result arrived before the total was known, so that result could not run the
            // callback.
            engine.run_callbacks(vec![batch]);
        }
        Ok(MapTask::new(engine.clone(), outcome))
    }

    pub(super) fn imap_by<A, R, I>(
        self,
        function: fn(A) -> R,
        items: I,
        unordered: bool,
    ) -> Imap<'a, I::IntoIter, A, R>
    where
        A: Argument + 'static,
        R: Argument + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let outcome = Outcome::new(None, unordered, None);
        let engine = self.engine;
        let size = self.chunk_size.unwrap_or(1);
        let ahead = self.look_ahead.unwrap_or(16 * engine.shared.plan.workers).saturating_mul(size);
        let chunker = self
            .check()
            .and_then(|()| engine.check())
            .and_then(|()| self.batch(function, &outcome, false))
            .map(|batch| Chunker::new(items.into_iter(), batch, size));
        Imap::new(engine, chunker, outcome, ahead)
    }

    /// Returns the items and the size of a chunk. If neither that size nor the number of items is
    /// known, takes all items first.
    fn measured<'i, A: 'i, I: IntoIterator<Item = A>>(&self, items: I) -> (Items<I::IntoIter>, usize) {
        let items = items.into_iter();
        if let Some(size) = self.chunk_size {
            return (Items::Known(items), size);
        }
        let share = |len: usize| len.div_ceil(CHUNKS_A_WORKER * self.engine.shared.plan.workers).max(1);
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

/// Runs a callback. If it panics, the panic hook has printed that. The payload is leaked, because
/// its drop may panic too.
pub(super) fn guarded(callback: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
        std::mem::forget(payload);
    }
}
