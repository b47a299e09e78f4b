//! A worker: takes chunks, calls the function with each of their items, and hands the results over
//! one by one.

use std::sync::{Mutex, PoisonError};

use pagemate::pool::foreign::{ForeignWorker, Found, RunningChunk};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::codec::NOT_RUN;
use crate::error::raise;
use crate::pool::codec::{decode_chunk, encode, encode_error};
use crate::pool::kind::{Call, Kind};
use crate::wait::{wait, Timeout};

/// Tasks between two checks for signals.
const SIGNALS_EVERY: usize = 64;

/// The function that was called last: the number that identifies it, and it.
type Known = Option<(u64, Py<PyAny>)>;

/// A worker in its own process.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct PoolWorker {
    worker: ForeignWorker,
    known: Mutex<Known>,
}

/// What a worker needs of Python.
struct Tools<'a, 'py> {
    loads: &'a Bound<'py, PyAny>,
    dumps: &'a Bound<'py, PyAny>,
    /// Returns the bytes of an exception, and of a result's that cannot be pickled.
    pack_error: &'a Bound<'py, PyAny>,
    pack_failure: &'a Bound<'py, PyAny>,
}

impl PoolWorker {
    pub(crate) fn new(worker: ForeignWorker) -> PoolWorker {
        PoolWorker { worker, known: Mutex::new(None) }
    }

    /// Returns the function of a chunk. It is unpickled once for all chunks if it is pickled by
    /// reference, and otherwise for each of them, because it may have a state.
    fn function<'py>(
        &self,
        chunk: &RunningChunk<'_>,
        loads: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = loads.py();
        let (_, number) = chunk.call();
        if let Some((known, function)) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            if *known == number {
                return Ok(function.bind(py).clone());
            }
        }
        let pickle = PyBytes::new(py, chunk.function().map_err(raise)?);
        let function = loads.call1((&pickle,))?;
        if loads.call1((&pickle,))?.is(&function) {
            let known = Some((number, function.clone().unbind()));
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        }
        Ok(function)
    }
}

#[pymethods]
impl PoolWorker {
    /// Says that the worker is ready.
    fn begin(&self) -> PyResult<()> {
        self.worker.begin().map_err(raise)
    }

    /// Waits for a chunk and runs it. Returns False if the pool is closed and has no more.
    fn run(
        &self,
        loads: &Bound<'_, PyAny>,
        dumps: &Bound<'_, PyAny>,
        pack_error: &Bound<'_, PyAny>,
        pack_failure: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let py = loads.py();
        let found = wait(py, Timeout::new(true, None), |slice| Ok(self.worker.take(slice)))?;
        let Some(Found::Chunk(mut chunk)) = found else { return Ok(false) };
        let tools = Tools { loads, dumps, pack_error, pack_failure };
        if let Err(error) = self.run_chunk(&mut chunk, &tools) {
            chunk.fail(&error.to_string());
        }
        Ok(true)
    }
}

impl PoolWorker {
    /// Runs the tasks of a chunk. Fails if a result, also that of a failure, cannot be handed over.
    fn run_chunk(&self, chunk: &mut RunningChunk<'_>, tools: &Tools<'_, '_>) -> PyResult<()> {
        let py = tools.loads.py();
        let (kind, _) = chunk.call();
        let kind = Kind::from_number(kind);
        let count = chunk.count();
        let prepared = (|| {
            let function = match kind.call {
                Call::Apply => None,
                _ => Some(self.function(chunk, tools.loads)?),
            };
            let bytes = chunk.arguments().map_err(raise)?;
            Ok((function, decode_chunk(py, bytes, count, tools.loads)?))
        })();
        let (function, items) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let bytes = tools.pack(error)?;
                return (0..count).try_for_each(|_| push_error(chunk, &bytes));
            }
        };
        let mut out = Vec::new();
        for (number, item) in items.into_iter().enumerate() {
            let mut result = call(kind.call, function.as_ref(), item);
            if number % SIGNALS_EVERY == SIGNALS_EVERY - 1 {
                result = py.check_signals().and(result);
            }
            out.clear();
            let error = match result {
                Ok(value) => match encode(&value, &mut out, tools.dumps) {
                    Ok(()) => None,
                    Err(error) => Some(tools.pack_result(error, value)?),
                },
                Err(error) => Some(tools.pack(error)?),
            };
            match error {
                None => chunk.push(&out).map_err(raise)?,
                Some(bytes) => {
                    push_error(chunk, &bytes)?;
                    if kind.stops {
                        return (number + 1..count).try_for_each(|_| chunk.push(&[NOT_RUN]).map_err(raise));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Tools<'_, '_> {
    /// Returns the bytes of the exception of a task.
    fn pack(&self, error: PyErr) -> PyResult<Vec<u8>> {
        let py = self.loads.py();
        let bytes = self.pack_error.call1((error.into_value(py),))?;
        Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
    }

    /// Returns the bytes of the exception of a task whose result cannot be pickled.
    fn pack_result(&self, error: PyErr, value: Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let py = self.loads.py();
        let bytes = self.pack_failure.call1((error.into_value(py), value))?;
        Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
    }
}

fn push_error(chunk: &mut RunningChunk<'_>, error: &[u8]) -> PyResult<()> {
    let mut out = Vec::with_capacity(error.len() + 9);
    encode_error(error, &mut out);
    chunk.push(&out).map_err(raise)
}

fn call<'py>(
    call: Call,
    function: Option<&Bound<'py, PyAny>>,
    item: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = item.py();
    match (call, function) {
        (Call::One, Some(function)) => function.call1((item,)),
        (Call::Star, Some(function)) => match item.cast_into_exact::<PyTuple>() {
            Ok(arguments) => function.call1(arguments),
            Err(error) => {
                function.call1(py.get_type::<PyTuple>().call1((error.into_inner(),))?.cast::<PyTuple>()?)
            }
        },
        _ => {
            let task = item.cast_into::<PyTuple>()?;
            let (function, arguments) = (task.get_item(0)?, task.get_item(1)?);
            let arguments = py.get_type::<PyTuple>().call1((arguments,))?;
            let keywords = py.get_type::<PyDict>().call1((task.get_item(2)?,))?;
            drop(task);
            function.call(arguments.cast::<PyTuple>()?, Some(keywords.cast::<PyDict>()?))
        }
    }
}
