//! Values in containers, and writes that wait for others.

use std::time::Duration;

use pagemate::{Dict, Error, ErrorKind, List};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::codec::{damaged, encode_plain, put_linked, put_long, Reader, LINKED, PICKLE};
use crate::error::raise;
use crate::manager::memory::Tools;
use crate::wait::SLICE;

/// Two handles to a container: one whose writes do not wait, and one whose writes wait for a slice.
pub(crate) struct Timed<T> {
    pub(crate) quick: T,
    pub(crate) slow: T,
}

impl Timed<Dict<[u8], [u8]>> {
    pub(crate) fn of_dict(dict: Dict<[u8], [u8]>) -> Self {
        Timed { quick: dict.with_write_timeout(Duration::ZERO), slow: dict.with_write_timeout(SLICE) }
    }
}

impl Timed<List<[u8]>> {
    pub(crate) fn of_list(list: List<[u8]>) -> Self {
        Timed { quick: list.with_write_timeout(Duration::ZERO), slow: list.with_write_timeout(SLICE) }
    }
}

/// Writes. Most writes need not wait for another writer, and keep the interpreter.
pub(crate) fn write<T: Sync, R: Send>(
    py: Python<'_>,
    container: &Timed<T>,
    mut attempt: impl FnMut(&T) -> Result<R, Error> + Send,
) -> PyResult<R> {
    match attempt(&container.quick) {
        Err(error) if error.kind() == ErrorKind::TimedOut => {}
        done => return done.map_err(raise),
    }
    loop {
        match py.detach(|| attempt(&container.slow)) {
            Err(error) if error.kind() == ErrorKind::TimedOut => py.check_signals()?,
            done => return done.map_err(raise),
        }
    }
}

/// Appends a value.
pub(crate) fn encode(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, tools: &Tools) -> PyResult<()> {
    let start = out.len();
    if encode_plain(value, out, 0) {
        return Ok(());
    }
    out.truncate(start);
    let pickled = tools.dumps.bind(value.py()).call1((value,))?;
    match pickled.cast::<PyBytes>() {
        Ok(pickle) => put_long(out, PICKLE, pickle.as_bytes()),
        Err(_) => {
            let (pickle, ids) = pickled.cast::<PyTuple>()?.extract::<(Bound<'_, PyBytes>, Vec<u64>)>()?;
            put_linked(out, &ids, pickle.as_bytes());
        }
    }
    Ok(())
}

/// A value that was read. Unpickling it may run any code, so it comes last.
pub(crate) enum Read<'py> {
    Plain(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyBytes>),
    Linked(Bound<'py, PyBytes>),
}

impl<'py> Read<'py> {
    /// Reads a value, which is all that is left.
    pub(crate) fn of(py: Python<'py>, reader: &mut Reader<'_>) -> PyResult<Read<'py>> {
        let tag = reader.byte().ok_or_else(damaged)?;
        if tag == LINKED {
            reader.ids().ok_or_else(damaged)?;
        }
        match tag {
            PICKLE => Ok(Read::Pickle(PyBytes::new(py, reader.long().ok_or_else(damaged)?))),
            LINKED => Ok(Read::Linked(PyBytes::new(py, reader.long().ok_or_else(damaged)?))),
            tag => reader.value_of(py, tag, 0).map(Read::Plain),
        }
    }

    /// Returns the value.
    pub(crate) fn load(self, tools: &Tools) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Read::Plain(value) => Ok(value),
            Read::Pickle(pickle) => tools.loads.bind(pickle.py()).call1((pickle,)),
            Read::Linked(pickle) => tools.loads_linked.bind(pickle.py()).call1((pickle,)),
        }
    }
}

/// Returns the value in these bytes.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8], tools: &Tools) -> PyResult<Bound<'py, PyAny>> {
    Read::of(py, &mut Reader(bytes))?.load(tools)
}

/// Appends the ids of the managed objects whose proxies are in a value.
pub(crate) fn links(mut reader: Reader<'_>, found: &mut Vec<u64>) {
    if reader.byte() == Some(LINKED) {
        let ids = reader.ids().unwrap_or_default().chunks_exact(8);
        found.extend(ids.filter_map(|id| Some(u64::from_le_bytes(id.try_into().ok()?))));
    }
}
