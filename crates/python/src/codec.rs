//! Objects as bytes: small values of built-in types directly, all others as pickles.
//!
//! # Format
//!
//! An item is a tag and what follows it; lengths and numbers are little-endian.
//!
//! | tag | item | what follows |
//! |---|---|---|
//! | 0 | it is elsewhere | nothing |
//! | 1, 2, 3 | `None`, `True`, `False` | nothing |
//! | 4 | `int` of 64 bits | 8 bytes |
//! | 5 | `float` | 8 bytes |
//! | 6, 7 | `str` (UTF-8), `bytes` | 4 bytes: the length; then the bytes |
//! | 8 | `tuple` of such values | 1 byte: the length; then its items |
//! | 9 | a pickle | 8 bytes: the length; then the pickle |
//! | 10 | the exception of a task, as `pack_error` has packed it | as for 9 |
//! | 11 | nothing: the task was not run, because one before it in its chunk raised | nothing |
//! | 12 | a pickle with proxies of managed objects | 4 bytes: their number; their ids, 8 bytes each; then as for 9 |
//!
//! The types of the direct values are exactly these, and not subclasses. Pickle does the same with
//! them whatever reducers are registered. They cannot change, so it makes no difference that two
//! references to one object become two objects.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

pub(crate) const ELSEWHERE: u8 = 0;
pub(crate) const NONE: u8 = 1;
const TRUE: u8 = 2;
const FALSE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const BYTES: u8 = 7;
const TUPLE: u8 = 8;
pub(crate) const PICKLE: u8 = 9;
pub(crate) const ERROR: u8 = 10;
pub(crate) const NOT_RUN: u8 = 11;
pub(crate) const LINKED: u8 = 12;

/// Tuples in tuples: deeper ones are pickled.
const DEPTH_MAX: usize = 4;
/// Longer strings and bytes are pickled.
const LEN_MAX: usize = u32::MAX as usize;

#[cold]
pub(crate) fn damaged() -> PyErr {
    PyRuntimeError::new_err("the shared bytes contradict each other")
}

/// Appends a value of a built-in type. Returns false, and leaves `out` longer than it was, if it is
/// none.
pub(crate) fn encode_plain(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> bool {
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

/// Appends bytes of any length: a pickle, or a packed exception.
pub(crate) fn put_long(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a pickle with the ids of the managed objects whose proxies are in it.
pub(crate) fn put_linked(out: &mut Vec<u8>, ids: &[u64], pickle: &[u8]) {
    out.push(LINKED);
    out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    out.extend_from_slice(&(pickle.len() as u64).to_le_bytes());
    out.extend_from_slice(pickle);
}

/// Bytes that are read from the start.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads bytes with their length before them, of 4 bytes.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.bytes(len as usize)
    }

    /// Reads bytes with their length before them, of 8 bytes.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let len = u64::from_le_bytes(self.array()?);
        self.bytes(usize::try_from(len).ok()?)
    }

    /// Reads the ids of a pickle with proxies.
    pub(crate) fn ids(&mut self) -> Option<&'a [u8]> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        self.bytes(count.checked_mul(8)?)
    }

    pub(crate) fn skip(&mut self, depth: usize) -> Option<()> {
        match self.byte()? {
            ELSEWHERE | NONE | TRUE | FALSE | NOT_RUN => {}
            INT | FLOAT => drop(self.array::<8>()?),
            STR | BYTES => drop(self.short()?),
            PICKLE | ERROR => drop(self.long()?),
            LINKED => drop((self.ids()?, self.long()?)),
            TUPLE if depth < DEPTH_MAX => {
                for _ in 0..self.byte()? {
                    self.skip(depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn value<'py>(&mut self, py: Python<'py>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let tag = self.byte().ok_or_else(damaged)?;
        self.value_of(py, tag, depth)
    }

    pub(crate) fn value_of<'py>(&mut self, py: Python<'py>, tag: u8, depth: usize) -> PyResult<Bound<'py, PyAny>> {
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
