//! The memory of a manager: one segment, which processes attach to by a descriptor.

use std::os::fd::RawFd;

use pagemate::{Dict, Segment, Value};
use pyo3::exceptions::PyBrokenPipeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::manager::value::{write, Timed};
use crate::object::{Room, Shared, Source};

/// Address space of a manager. Memory is taken only as it is used.
const SIZE: u64 = 64 << 30;

/// How objects become bytes and come back, in Python.
pub(crate) struct Tools {
    /// Returns the pickle of an object, or a pair of it and the ids of the managed objects whose
    /// proxies are in it.
    pub(crate) dumps: Py<PyAny>,
    /// Unpickles what has no proxies in it.
    pub(crate) loads: Py<PyAny>,
    /// Unpickles what has.
    pub(crate) loads_linked: Py<PyAny>,
    /// Returns the canonical bytes of a key that is not of a built-in type.
    pub(crate) key_of: Py<PyAny>,
}

struct Parts {
    segment: Segment,
    /// The next number for whatever needs one.
    next: Value<u64>,
    /// Not 0: the manager was shut down.
    closed: Value<u64>,
}

/// The memory of a manager, in one process.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct ManagerMemory {
    parts: Shared<Parts>,
    tools: Tools,
}

impl ManagerMemory {
    pub(crate) fn segment(&self) -> &Segment {
        &self.parts.segment
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Returns an error if the manager was shut down.
    #[inline]
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.parts.closed.load() == 0 {
            return Ok(());
        }
        Err(PyBrokenPipeError::new_err("the manager has been shut down"))
    }

    /// Returns a number that nobody else gets.
    pub(crate) fn next(&self) -> u64 {
        self.parts.next.fetch_add(1)
    }
}

#[pymethods]
impl ManagerMemory {
    #[new]
    #[pyo3(signature = (dumps, loads, loads_linked, key_of, *, source = None))]
    fn new(
        dumps: Py<PyAny>,
        loads: Py<PyAny>,
        loads_linked: Py<PyAny>,
        key_of: Py<PyAny>,
        source: Option<Source<'_>>,
    ) -> PyResult<ManagerMemory> {
        let create = |room: &Room| {
            let (next, closed) = (Value::create(room.at("next"), 1)?, Value::create(room.at("closed"), 0)?);
            Ok(Parts { segment: room.segment().clone(), next, closed })
        };
        let open = |room: &Room| {
            let (next, closed) = (Value::open(room.at("next"))?, Value::open(room.at("closed"))?);
            Ok(Parts { segment: room.segment().clone(), next, closed })
        };
        let parts = Shared::new(source, SIZE, create, open)?;
        Ok(ManagerMemory { parts, tools: Tools { dumps, loads, loads_linked, key_of } })
    }

    /// Returns the number of a descriptor of the memory, which stays open as long as this.
    fn descriptor(&self) -> PyResult<RawFd> {
        self.parts.descriptor()
    }

    /// Returns a number that nobody else gets.
    fn number(&self) -> u64 {
        self.next()
    }

    /// Raises an exception if the manager was shut down.
    fn check_open(&self) -> PyResult<()> {
        self.check()
    }

    /// Ends the use of all objects.
    fn close(&self) {
        self.parts.closed.store(1);
    }
}

/// A dict of bytes, for what a manager knows about its objects.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct ManagerBytes(Timed<Dict<[u8], [u8]>>);

#[pymethods]
impl ManagerBytes {
    /// Opens the dict of this name, or creates it.
    #[new]
    fn new(memory: &Bound<'_, ManagerMemory>, name: &str) -> PyResult<ManagerBytes> {
        let dict = Dict::open_or_create(memory.get().segment().at(name)).map_err(raise)?.0;
        Ok(ManagerBytes(Timed::of_dict(dict)))
    }

    fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = self.0.quick.get(key).map_err(raise)?;
        Ok(found.map(|value| PyBytes::new(py, &value)))
    }

    fn set(&self, py: Python<'_>, key: &[u8], value: &[u8]) -> PyResult<()> {
        write(py, &self.0, |dict| dict.insert(key, value).map(drop))
    }

    /// Removes a key. Returns whether it was there.
    fn remove(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        Ok(write(py, &self.0, |dict| dict.remove(key))?.is_some())
    }

    /// Returns all keys.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        self.0.quick.keys().map(|key| key.map(|key| PyBytes::new(py, &key)).map_err(raise)).collect()
    }

    /// Returns the number of keys.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        write(py, &self.0, Dict::len)
    }
}
