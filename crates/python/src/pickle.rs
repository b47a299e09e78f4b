//! Pickling, as `ForkingPickler` does it, but with protocol 5, and buffers beside the pickle.
//!
//! To make a pickler takes much longer than to pickle a small object with it. So picklers are kept
//! and used again.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use crate::buffer::Bytes;

/// The most picklers that are kept: one for each thread that pickles at the same time.
const KEPT: usize = 8;

/// Picklers that nobody uses. Locked for some instructions, but for ever in a child that another
/// thread's `fork` has made meanwhile: so nobody waits for it.
static PICKLERS: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

struct Pickler {
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    /// What the pickler writes.
    parts: Py<PyList>,
    buffers: Py<PyList>,
}

impl Pickler {
    fn take(py: Python<'_>) -> PyResult<Pickler> {
        let kept = PICKLERS.try_lock().ok().and_then(|mut picklers| picklers.pop());
        kept.map_or_else(|| Pickler::new(py), Ok)
    }

    fn new(py: Python<'_>) -> PyResult<Pickler> {
        let (parts, buffers) = (PyList::empty(py), PyList::empty(py));
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let pickler = MAKE
            .import(py, "pagemate.multiprocessing.pickling", "new_pickler")?
            .call1((parts.getattr("append")?, buffers.getattr("append")?))?;
        Ok(Pickler {
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            parts: parts.unbind(),
            buffers: buffers.unbind(),
        })
    }
}

/// A pickled object. It refers to what it was pickled from.
pub(crate) struct Pickled<'py> {
    /// `None` once it was given back.
    pickler: Option<Pickler>,
    parts: Vec<Bytes<'py>>,
    buffers: Vec<Bytes<'py>>,
    py: Python<'py>,
}

impl<'py> Pickled<'py> {
    /// Pickles an object.
    pub(crate) fn new(object: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
        let py = object.py();
        let pickler = Pickler::take(py)?;
        // After an error it is not used again.
        pickler.dump.bind(py).call1((object,))?;
        let bytes = |list: &Py<PyList>| list.bind(py).iter().map(|item| Bytes::of(&item)).collect();
        let (parts, buffers): (PyResult<_>, PyResult<_>) = (bytes(&pickler.parts), bytes(&pickler.buffers));
        Ok(Pickled { pickler: Some(pickler), parts: parts?, buffers: buffers?, py })
    }

    /// Returns the pickle, if it is one piece and all there is.
    pub(crate) fn only_part(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            [part] if self.buffers.is_empty() => Some(part.as_slice()),
            _ => None,
        }
    }

    /// Returns the pickle, in pieces.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.parts.iter().map(Bytes::as_slice)
    }

    /// Returns the buffers that belong to it.
    pub(crate) fn buffers(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.buffers.iter().map(Bytes::as_slice)
    }

    fn give_back(&mut self) -> PyResult<()> {
        self.parts.clear();
        self.buffers.clear();
        let Some(pickler) = self.pickler.take() else { return Ok(()) };
        pickler.clear_memo.bind(self.py).call0()?;
        for list in [&pickler.parts, &pickler.buffers] {
            let list = list.bind(self.py);
            if !list.is_empty() {
                list.del_slice(0, list.len())?;
            }
        }
        if let Ok(mut picklers) = PICKLERS.try_lock() {
            if picklers.len() < KEPT {
                picklers.push(pickler);
            }
        }
        Ok(())
    }
}

impl Drop for Pickled<'_> {
    fn drop(&mut self) {
        // If it cannot be used again, the next one is new.
        _ = self.give_back();
    }
}

/// Unpickles bytes, with the buffers that belong to them.
pub(crate) fn loads<'py>(
    pickle: &Bound<'py, PyAny>,
    buffers: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = pickle.py();
    let loads = LOADS.import(py, "pickle", "loads")?;
    if buffers.is_empty() {
        return loads.call1((pickle,));
    }
    let options = PyDict::new(py);
    options.set_item("buffers", PyList::new(py, buffers)?)?;
    loads.call((pickle,), Some(&options))
}
