//! The pool's side: its memory, its tasks, and their results.

use std::os::fd::RawFd;
use std::time::Duration;

use pagemate::pool::foreign::{ForeignBatch, ForeignChunk, ForeignPool, ForeignWorker, Part};
use pagemate::pool::TaskError;
use pagemate::{Dict, Segment};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::error::raise;
use crate::object::{Room, Shared, Source, NAME};
use crate::pool::codec::{encode_chunk, skip, Decoded, Decoder};
use crate::pool::kind::Kind;
use crate::pool::worker::PoolWorker;

/// Address space of a pool. Memory is taken only as it is used.
const SIZE: u64 = 64 << 30;
/// The name of the errors of initialisers, by worker.
const ERRORS: &str = "errors";

/// The memory of a pool, in its process and in its workers.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct PoolMemory(Shared<Segment>);

impl PoolMemory {
    fn errors(&self) -> PyResult<Dict<u64, [u8]>> {
        Dict::open_or_create(self.0.at(ERRORS)).map(|(errors, _)| errors).map_err(raise)
    }
}

#[pymethods]
impl PoolMemory {
    #[new]
    #[pyo3(signature = (*, source = None))]
    fn new(source: Option<Source<'_>>) -> PyResult<PoolMemory> {
        let same = |room: &Room| Ok(room.segment().clone());
        Shared::new(source, SIZE, same, same).map(PoolMemory)
    }

    fn _descriptor(&self) -> PyResult<RawFd> {
        self.0.descriptor()
    }

    /// Creates the tasks, for the pool's process.
    fn tasks(&self, workers: usize) -> PyResult<PoolTasks> {
        ForeignPool::create(self.0.at(NAME), workers, skip).map(PoolTasks).map_err(raise)
    }

    /// Opens the pool as its worker number `index`.
    fn worker(&self, index: usize) -> PyResult<PoolWorker> {
        ForeignWorker::open(self.0.at(NAME), index).map(PoolWorker::new).map_err(raise)
    }

    /// Leaves the pickled error of a worker's initialiser.
    fn leave_error(&self, worker: u64, error: &[u8]) -> PyResult<()> {
        self.errors()?.insert(&worker, error).map(drop).map_err(raise)
    }

    /// Takes the pickled error that a worker has left; None if there is none.
    fn take_error<'py>(&self, py: Python<'py>, worker: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let error = self.errors()?.remove(&worker).map_err(raise)?;
        Ok(error.map(|error| PyBytes::new(py, &error)))
    }
}

/// The tasks of a pool, in the process that created it.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct PoolTasks(ForeignPool);

#[pymethods]
impl PoolTasks {
    /// Creates a batch of tasks of a pickled function, `total` of them if that is known.
    fn batch(&self, kind: &str, function: &[u8], stream: bool, total: Option<usize>) -> PyResult<PoolBatch> {
        let kind = Kind::of(kind)?.number();
        self.0.batch(kind, function, stream, total).map(PoolBatch).map_err(raise)
    }

    /// Submits items, in chunks, as the tasks from number `first` on. Returns those that cannot be
    /// pickled: the first one of a chunk, their number, and the exception.
    fn submit<'py>(
        &self,
        batch: &PoolBatch,
        first: usize,
        items: &Bound<'py, PyList>,
        chunk_size: usize,
        dumps: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(usize, usize, Bound<'py, PyAny>)>> {
        let items: Vec<Bound<'py, PyAny>> = items.iter().collect();
        let (mut chunks, mut failed) = (Vec::new(), Vec::new());
        for (number, items) in items.chunks(chunk_size.max(1)).enumerate() {
            let (first, count) = (first + number * chunk_size, items.len());
            match encode_chunk(items, dumps) {
                Ok(bytes) => chunks.push(ForeignChunk { first, count, bytes }),
                Err(error) => {
                    failed.push((
                        first,
                        count,
                        error.into_value(dumps.py()).into_bound(dumps.py()).into_any(),
                    ));
                }
            }
        }
        self.0.submit(&batch.0, chunks);
        Ok(failed)
    }

    /// Fails tasks that `submit` has returned.
    fn give_up(&self, batch: &PoolBatch, first: usize, count: usize) {
        self.0.give_up(&batch.0, first, count, "the task could not be pickled");
    }

    /// Says that no more than `total` tasks of a batch are submitted.
    fn set_total(&self, batch: &PoolBatch, total: usize) {
        self.0.set_total(&batch.0, total);
    }

    /// Returns the number of unfinished chunks.
    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }

    /// Blocks until there is room for more bytes of arguments. Returns False if there was none in
    /// time.
    fn wait_for_room(&self, py: Python<'_>, timeout: f64) -> bool {
        py.detach(|| self.0.wait_for_room(Duration::from_secs_f64(timeout)))
    }

    /// Blocks until batches have something new. Returns their ids; also none, from time to time.
    fn wait(&self, py: Python<'_>, timeout: f64) -> Vec<u64> {
        py.detach(|| self.0.wait(Duration::from_secs_f64(timeout)))
    }

    /// Makes `wait` return.
    fn wake(&self) {
        self.0.wake();
    }

    /// Prepares the place of a worker that is about to be started.
    fn reset_worker(&self, worker: usize) {
        self.0.reset_worker(worker);
    }

    /// Returns whether a worker's initialiser has returned.
    fn has_begun(&self, worker: usize) -> bool {
        self.0.has_begun(worker)
    }

    /// Recovers what a worker was running that has ended.
    fn worker_ended(&self, py: Python<'_>, worker: usize, pid: u32, exit_code: i32) {
        let status = if exit_code < 0 { -exit_code } else { (exit_code & 0xff) << 8 };
        py.detach(|| self.0.worker_ended(worker, pid, status));
    }

    /// Lets workers exit that find no task.
    fn close(&self) {
        self.0.close();
    }

    /// Fails all tasks that are not done.
    fn end(&self) {
        self.0.end(TaskError::Terminated);
    }
}

/// The tasks of one call.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct PoolBatch(ForeignBatch);

type Failures<'py> = Vec<(usize, Bound<'py, PyAny>)>;

#[pymethods]
impl PoolBatch {
    /// A number that no other batch of this process has.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id()
    }

    /// Whether all results have arrived.
    #[getter]
    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Moves the results that have arrived to their places in `values`. Returns the tasks that have
    /// none: number and exception. `loads` unpickles a result, `error` what a worker packed of an
    /// exception, and `lost` makes an exception of a worker's pid, its exit code and a text.
    fn fill<'py>(
        &self,
        values: &Bound<'py, PyList>,
        loads: &Bound<'py, PyAny>,
        error: &Bound<'py, PyAny>,
        lost: &Bound<'py, PyAny>,
    ) -> PyResult<Failures<'py>> {
        let results = self.0.take();
        let mut failures = Vec::new();
        for part in results.iter() {
            let decoder = Decoder { loads, error };
            decode(&part, &decoder, lost, &mut failures, |number, value| values.set_item(number, value))?;
        }
        Ok(failures)
    }

    /// Takes the results that have arrived, as a list of triples: the number of the first task, the
    /// values, and the tasks that have none, as in `fill`.
    #[allow(clippy::type_complexity, reason = "it is what Python gets")]
    fn take<'py>(
        &self,
        loads: &Bound<'py, PyAny>,
        error: &Bound<'py, PyAny>,
        lost: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(usize, Vec<Option<Bound<'py, PyAny>>>, Failures<'py>)>> {
        let results = self.0.take();
        let mut parts = Vec::new();
        for part in results.iter() {
            let (mut values, mut failures) = (vec![None; part.count], Vec::new());
            let decoder = Decoder { loads, error };
            decode(&part, &decoder, lost, &mut failures, |number, value| {
                values[number - part.first] = Some(value);
                Ok(())
            })?;
            parts.push((part.first, values, failures));
        }
        Ok(parts)
    }
}

/// Calls `place` with the number and value of each task of a part, and lists those that have none.
fn decode<'py>(
    part: &Part<'_>,
    decoder: &Decoder<'_, 'py>,
    lost: &Bound<'py, PyAny>,
    failures: &mut Failures<'py>,
    mut place: impl FnMut(usize, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let Part { first, count, ref outcome } = *part;
    match outcome {
        Ok(bytes) => decoder.decode(bytes, count, |number, decoded| match decoded {
            Decoded::Value(value) => place(first + number, value),
            Decoded::Error(error) => {
                failures.push((first + number, error));
                Ok(())
            }
            Decoded::NotRun => Ok(()),
        }),
        Err(error) => {
            for number in first..first + count {
                failures.push((number, raised(error, lost)?));
            }
            Ok(())
        }
    }
}

/// Returns the exception of a task without a result.
fn raised<'py>(error: &TaskError, lost: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    use std::os::unix::process::ExitStatusExt;
    match error {
        TaskError::WorkerDied { pid, exit } => {
            let code = exit.map(|exit| exit.code().unwrap_or_else(|| -exit.signal().unwrap_or(0)));
            lost.call1((pid, code, error.to_string()))
        }
        TaskError::Lost(text) => lost.call1((0, 0, text)),
        error => lost.call1((0, None::<i32>, error.to_string())),
    }
}
