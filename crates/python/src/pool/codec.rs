//! Arguments and results of tasks as bytes: the items of [`crate::codec`].
//!
//! If an argument of a chunk is no direct value, the chunk is pickled as one list, so that an object
//! which several arguments refer to travels once. Before the pickle there is an item of tag 0 for
//! each argument. So the first arguments of a chunk can be skipped without unpickling anything.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::codec::{damaged, encode_plain, put_long, Reader, ELSEWHERE, ERROR, NOT_RUN, PICKLE};

/// Appends a result.
pub(crate) fn encode(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, dumps: &Bound<'_, PyAny>) -> PyResult<()> {
    let start = out.len();
    if !encode_plain(value, out, 0) {
        out.truncate(start);
        put_long(out, PICKLE, dumps.call1((value,))?.cast::<PyBytes>()?.as_bytes());
    }
    Ok(())
}

/// Appends the bytes of an exception.
pub(crate) fn encode_error(error: &[u8], out: &mut Vec<u8>) {
    put_long(out, ERROR, error);
}

/// Returns the bytes of a chunk's arguments.
pub(crate) fn encode_chunk(items: &[Bound<'_, PyAny>], dumps: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(items.len().saturating_mul(9));
    if items.iter().all(|item| encode_plain(item, &mut out, 0)) {
        return Ok(out);
    }
    let pickle = dumps.call1((PyList::new(dumps.py(), items)?,))?;
    let pickle = pickle.cast::<PyBytes>()?.as_bytes();
    out.clear();
    out.resize(items.len(), ELSEWHERE);
    out.extend_from_slice(pickle);
    Ok(out)
}

/// Returns the length in bytes of the first `count` items; `None` if they are damaged.
pub(crate) fn skip(bytes: &[u8], count: usize) -> Option<usize> {
    let mut reader = Reader(bytes);
    for _ in 0..count {
        reader.skip(0)?;
    }
    Some(bytes.len() - reader.0.len())
}

/// Returns the arguments of the `count` tasks of a chunk.
pub(crate) fn decode_chunk<'py>(
    py: Python<'py>,
    bytes: &[u8],
    count: usize,
    loads: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if bytes.first() != Some(&ELSEWHERE) {
        let mut reader = Reader(bytes);
        return (0..count).map(|_| reader.value(py, 0)).collect();
    }
    let pickle = bytes.get(count..).ok_or_else(damaged)?;
    let items = loads.call1((PyBytes::new(py, pickle),))?;
    let items = items.cast::<PyList>()?;
    // Those before are done.
    let first = items.len().checked_sub(count).ok_or_else(damaged)?;
    Ok(items.iter().skip(first).collect())
}

/// A result that has arrived.
pub(crate) enum Decoded<'py> {
    Value(Bound<'py, PyAny>),
    /// The exception of the task, or one that says why the result cannot be decoded.
    Error(Bound<'py, PyAny>),
    NotRun,
}

/// How objects become bytes and come back, in Python.
pub(crate) struct Decoder<'a, 'py> {
    pub(crate) loads: &'a Bound<'py, PyAny>,
    /// Returns the exception of the bytes that `encode_error` has returned in the worker.
    pub(crate) error: &'a Bound<'py, PyAny>,
}

impl<'py> Decoder<'_, 'py> {
    /// Calls `each` with the number and the outcome of each of the `count` results in `bytes`.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        count: usize,
        mut each: impl FnMut(usize, Decoded<'py>) -> PyResult<()>,
    ) -> PyResult<()> {
        let py = self.loads.py();
        let mut reader = Reader(bytes);
        for number in 0..count {
            let outcome = match reader.byte().ok_or_else(damaged)? {
                tag @ (PICKLE | ERROR) => {
                    let bytes = PyBytes::new(py, reader.long().ok_or_else(damaged)?);
                    let call = if tag == PICKLE { self.loads } else { self.error };
                    match call.call1((bytes,)) {
                        Ok(value) if tag == PICKLE => Decoded::Value(value),
                        Ok(value) => Decoded::Error(value),
                        Err(error) => Decoded::Error(error.into_value(py).into_bound(py).into_any()),
                    }
                }
                NOT_RUN => Decoded::NotRun,
                tag => Decoded::Value(reader.value_of(py, tag, 0)?),
            };
            each(number, outcome)?;
        }
        Ok(())
    }
}
