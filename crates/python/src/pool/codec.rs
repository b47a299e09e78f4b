//! Arguments and results as bytes: small values of built-in types directly, all others as pickles.
//!
//! # Format
//!
//! An item is a tag and what follows it; lengths and numbers are little-endian.
//!
//! | tag | item | what follows |
//! |---|---|---|
//! | 0 | an argument of a chunk that is pickled as a whole | nothing |
//! | 1, 2, 3 | `None`, `True`, `False` | nothing |
//! | 4 | `int` of 64 bits | 8 bytes |
//! | 5 | `float` | 8 bytes |
//! | 6, 7 | `str` (UTF-8), `bytes` | 4 bytes: the length; then the bytes |
//! | 8 | `tuple` of such values | 1 byte: the length; then its items |
//! | 9 | a pickle | 8 bytes: the length; then the pickle |
//! | 10 | the exception of a task, as `encode_error` has packed it | as for 9 |
//! | 11 | nothing: the task was not run, because one before it in its chunk raised | nothing |
//!
//! The types of the direct values are exactly these, and not subclasses. Pickle does the same with
//! them whatever reducers are registered. They cannot change, so it makes no difference that two
//! references to one object become two objects.
//!
//! If an argument of a chunk has another type, the chunk is pickled as one list, so that an object
//! which several arguments refer to travels once. Before the pickle there is one byte 0 for each
//! argument. So the first arguments of a chunk can be skipped without unpickling anything.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

const IN_PICKLE: u8 = 0;
const NONE: u8 = 1;
const TRUE: u8 = 2;
const FALSE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const BYTES: u8 = 7;
const TUPLE: u8 = 8;
const PICKLE: u8 = 9;
const ERROR: u8 = 10;
pub(crate) const NOT_RUN: u8 = 11;

/// Tuples in tuples: deeper ones are pickled.
const DEPTH_MAX: usize = 4;
/// Longer strings and bytes are pickled.
const LEN_MAX: usize = u32::MAX as usize;

#[cold]
fn damaged() -> PyErr {
    PyRuntimeError::new_err("the shared bytes of the pool contradict each other")
}

/// Appends a value of a built-in type. Returns false, and leaves `out` longer than it was, if it is
/// none.
fn encode_plain(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> bool {
    if value.is_exact_instance_of::<PyInt>() {
        let Ok(number) = value.extract::<i64>() else { return false };
        out.push(INT);
        out.extend_from_slice(&number.to_le_bytes());
    } else if value.is_none() {
        out.push(NONE);
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        out.push(if value.is_true() { TRUE } else { FALSE });
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        out.push(FLOAT);
        out.extend_from_slice(&value.value().to_le_bytes());
    } else if let Ok(value) = value.cast_exact::<PyString>() {
        // Fails for text with lone surrogates.
        let Ok(text) = value.to_str() else { return false };
        return put_bytes(out, STR, text.as_bytes());
    } else if let Ok(value) = value.cast_exact::<PyBytes>() {
        return put_bytes(out, BYTES, value.as_bytes());
    } else if let Ok(value) = value.cast_exact::<PyTuple>() {
        let Ok(len) = u8::try_from(value.len()) else { return false };
        if depth == DEPTH_MAX {
            return false;
        }
        out.extend_from_slice(&[TUPLE, len]);
        return value.iter_borrowed().all(|item| encode_plain(&item, out, depth + 1));
    } else {
        return false;
    }
    true
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> bool {
    if bytes.len() > LEN_MAX {
        return false;
    }
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// Appends a pickle, or what `encode_error` has returned.
fn put_long(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

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
    out.resize(items.len(), IN_PICKLE);
    out.extend_from_slice(pickle);
    Ok(out)
}

/// Bytes that are read from the start.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads bytes with their length before them, of 4 bytes.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.bytes(len as usize)
    }

    /// Reads bytes with their length before them, of 8 bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let len = u64::from_le_bytes(self.array()?);
        self.bytes(usize::try_from(len).ok()?)
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.byte()? {
            IN_PICKLE | NONE | TRUE | FALSE | NOT_RUN => {}
            INT | FLOAT => drop(self.array::<8>()?),
            STR | BYTES => drop(self.short()?),
            PICKLE | ERROR => drop(self.long()?),
            TUPLE if depth < DEPTH_MAX => {
                for _ in 0..self.byte()? {
                    self.skip(depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn value<'py>(&mut self, py: Python<'py>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let tag = self.byte().ok_or_else(damaged)?;
        self.value_of(py, tag, depth)
    }

    fn value_of<'py>(&mut self, py: Python<'py>, tag: u8, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        Ok(match tag {
            NONE => py.None().into_bound(py),
            TRUE | FALSE => PyBool::new(py, tag == TRUE).to_owned().into_any(),
            INT => i64::from_le_bytes(self.array().ok_or_else(damaged)?).into_pyobject(py)?.into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.array().ok_or_else(damaged)?)).into_any(),
            STR => {
                let text = std::str::from_utf8(self.short().ok_or_else(damaged)?);
                PyString::new(py, text.map_err(|_| damaged())?).into_any()
            }
            BYTES => PyBytes::new(py, self.short().ok_or_else(damaged)?).into_any(),
            TUPLE if depth < DEPTH_MAX => {
                let len = self.byte().ok_or_else(damaged)?;
                let items: PyResult<Vec<_>> = (0..len).map(|_| self.value(py, depth + 1)).collect();
                PyTuple::new(py, items?)?.into_any()
            }
            _ => return Err(damaged()),
        })
    }
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
    if bytes.first() != Some(&IN_PICKLE) {
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
