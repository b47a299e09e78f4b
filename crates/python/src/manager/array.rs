//! `Manager().Array()`: bytes of a fixed number, which are read and written under a lock.
//!
//! # Death
//!
//! A process that dies while it writes leaves each byte as before or as after. The array is free
//! again within 100 ms.

use std::time::Duration;

use pagemate::collections::array::ArrayGuard;
use pagemate::sync::LockError;
use pagemate::Array;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::manager::memory::ManagerMemory;
use crate::wait::SLICE;

/// Bytes in the memory of a manager.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct ManagedArray {
    bytes: Array<u8>,
    memory: Py<ManagerMemory>,
}

#[pymethods]
impl ManagedArray {
    /// Opens the array of this name in the memory, or creates one of `len` bytes.
    #[new]
    #[pyo3(signature = (memory, name, create, len))]
    fn new(
        memory: &Bound<'_, ManagerMemory>,
        name: &str,
        create: bool,
        len: usize,
    ) -> PyResult<ManagedArray> {
        let place = memory.get().segment().at(name);
        let bytes = if create { Array::create(place, len, 0) } else { Array::open(place) };
        Ok(ManagedArray { bytes: bytes.map_err(raise)?, memory: memory.clone().unbind() })
    }

    /// Returns the `len` bytes at `at`.
    fn _read<'py>(&self, py: Python<'py>, at: usize, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |bytes| at.checked_add(len).and_then(|end| bytes.get(at..end)).map(Vec::from))?;
        Ok(PyBytes::new(py, &bytes.ok_or_else(outside)?))
    }

    /// Replaces the bytes at `at`.
    fn _write(&self, py: Python<'_>, at: usize, new: &[u8]) -> PyResult<()> {
        let written = self.with(py, |bytes| {
            let place = bytes.get_mut(at..at.checked_add(new.len())?)?;
            place.copy_from_slice(new);
            Some(())
        })?;
        written.ok_or_else(outside)
    }
}

#[cold]
fn outside() -> PyErr {
    PyIndexError::new_err("array index out of range")
}

impl ManagedArray {
    fn with<R: Send>(&self, py: Python<'_>, mut body: impl FnMut(&mut [u8]) -> R + Send) -> PyResult<R> {
        self.memory.bind(py).get().check()?;
        let mut attempt = |slice: Duration| {
            let mut guard = match self.bytes.lock_timeout(slice) {
                Ok(guard) => guard,
                // Any bytes are valid.
                Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                    ArrayGuard::mark_consistent(&mut guard);
                    guard
                }
                Err(LockError::NotAcquired) => return Ok(None),
                Err(error) => return Err(raise(error.map(drop))),
            };
            Ok(Some(body(&mut guard)))
        };
        if let Some(done) = attempt(Duration::ZERO)? {
            return Ok(done);
        }
        loop {
            if let Some(done) = py.detach(|| attempt(SLICE))? {
                return Ok(done);
            }
            py.check_signals()?;
        }
    }
}
