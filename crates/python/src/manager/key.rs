//! Keys of a dict as bytes, so that equal keys have equal bytes.
//!
//! Python compares keys by hash and equality: `1`, `1.0` and `True` are one key. Hashes of strings
//! differ between processes, so a dict in shared memory cannot use them. Instead each key has
//! canonical bytes:
//!
//! | first byte | key | what follows |
//! |---|---|---|
//! | `i` | integer of 64 bits: `int`, `bool`, `float` without a fraction | 8 bytes |
//! | `f` | other `float`; all NaNs are one key | 8 bytes |
//! | `s`, `b`, `n` | `str`, `bytes`, `None` | its bytes |
//! | `t` | `tuple` | for each item: 4 bytes, its length; then its canonical bytes |
//! | `x` | anything else, by `key_of` in Python | what that returns |

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

use crate::codec::damaged;

/// Integers beyond this are not exact as `float`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends the canonical bytes of a key. Returns whether [`decode`] makes an object of the same type
/// of them.
pub(crate) fn encode(key: &Bound<'_, PyAny>, out: &mut Vec<u8>, key_of: &Py<PyAny>) -> PyResult<bool> {
    if let Ok(key) = key.cast_exact::<PyString>() {
        if let Ok(text) = key.to_str() {
            out.push(b's');
            out.extend_from_slice(text.as_bytes());
            return Ok(true);
        }
    } else if key.is_exact_instance_of::<PyInt>() {
        if let Ok(number) = key.extract::<i64>() {
            put_int(out, number);
            return Ok(true);
        }
    } else if let Ok(key) = key.cast_exact::<PyTuple>() {
        out.push(b't');
        let mut is_exact = true;
        for item in key.iter_borrowed() {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            is_exact &= encode(&item, out, key_of)?;
            let len = (out.len() - at - 4) as u32;
            out[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        return Ok(is_exact);
    } else if let Ok(key) = key.cast_exact::<PyBytes>() {
        out.push(b'b');
        out.extend_from_slice(key.as_bytes());
        return Ok(true);
    } else if key.is_none() {
        out.push(b'n');
        return Ok(true);
    } else if let Ok(key) = key.cast_exact::<PyBool>() {
        put_int(out, key.is_true().into());
        return Ok(false);
    } else if let Ok(key) = key.cast_exact::<PyFloat>() {
        let number = key.value();
        if number.fract() == 0.0 && number.abs() < EXACT_MAX {
            put_int(out, number as i64);
            return Ok(false);
        }
        if number.fract() != 0.0 {
            let number = if number.is_nan() { f64::NAN } else { number };
            out.push(b'f');
            out.extend_from_slice(&number.to_le_bytes());
            return Ok(true);
        }
    }
    let bytes = key_of.bind(key.py()).call1((key,))?;
    out.extend_from_slice(bytes.cast::<PyBytes>()?.as_bytes());
    Ok(false)
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    out.push(b'i');
    out.extend_from_slice(&number.to_le_bytes());
}

/// Returns the key of canonical bytes for which [`encode`] has returned true.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (&tag, mut rest) = bytes.split_first().ok_or_else(damaged)?;
    Ok(match tag {
        b'i' => i64::from_le_bytes(rest.try_into()?).into_pyobject(py)?.into_any(),
        b'f' => PyFloat::new(py, f64::from_le_bytes(rest.try_into()?)).into_any(),
        b's' => PyString::new(py, std::str::from_utf8(rest)?).into_any(),
        b'b' => PyBytes::new(py, rest).into_any(),
        b'n' => py.None().into_bound(py),
        b't' => {
            let mut items = Vec::new();
            while !rest.is_empty() {
                let (len, after) = rest.split_at_checked(4).ok_or_else(damaged)?;
                let len = u32::from_le_bytes(len.try_into()?) as usize;
                let (item, after) = after.split_at_checked(len).ok_or_else(damaged)?;
                items.push(decode(py, item)?);
                rest = after;
            }
            PyTuple::new(py, items)?.into_any()
        }
        _ => return Err(damaged()),
    })
}
