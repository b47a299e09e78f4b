//! `Queue`: messages are bytes.

use pagemate::queue::{RecvError, SendError};
use pagemate::Segment;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::object::{Shared, NAME};
use crate::wait::{wait, Timeout};

type Bytes = pagemate::Queue<[u8]>;

/// What a segment needs beside the slots and the quota.
const OVERHEAD: u64 = 1 << 20;
/// Bytes of a slot.
const SLOT: u64 = 128;

/// A queue of bytes, from many producers to many consumers.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Queue(Shared<Bytes>);

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (capacity = 1, quota = 0, *, descriptor = None))]
    fn new(capacity: usize, quota: u64, descriptor: Option<i32>) -> PyResult<Queue> {
        let size = (capacity as u64).checked_mul(SLOT).and_then(|slots| slots.checked_add(quota));
        // The quota needs up to as much again for the blocks' heads.
        let size = size.and_then(|size| size.checked_mul(2)).and_then(|size| size.checked_add(OVERHEAD));
        let size = size.ok_or_else(|| PyValueError::new_err("a queue of this size is not possible"))?;
        let create = |segment: &Segment| Bytes::builder(capacity).quota(quota).create(segment.at(NAME));
        Shared::new(descriptor, size, create, |segment| Bytes::open(segment.at(NAME))).map(Queue)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Sends a message. Returns False if there was no room in time.
    fn send(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyBytes>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let bytes = message.as_bytes();
        let attempt = |slice| match self.0.send_timeout(bytes, slice) {
            Ok(()) => Ok(Some(())),
            Err(SendError::Full(_)) => Ok(None),
            Err(SendError::TooLarge(_, excess)) => Err(PyOverflowError::new_err(format!(
                "a message of {} bytes does not fit into the queue's {} bytes for messages: create the queue \
                 with a larger quota",
                bytes.len(),
                excess.quota()
            ))),
            Err(error) => Err(raise(error)),
        };
        Ok(wait(py, Timeout::new(block, timeout), attempt)?.is_some())
    }

    /// Receives a message. Returns None if there was none in time.
    fn recv<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let attempt = |slice| match self.0.recv_timeout(slice) {
            Ok(message) => Ok(Some(message)),
            Err(RecvError::Empty) => Ok(None),
            Err(error) => Err(raise(error)),
        };
        let message = wait(py, Timeout::new(block, timeout), attempt)?;
        Ok(message.map(|message| PyBytes::new(py, &message)))
    }

    /// Returns the number of messages. It may be out of date immediately.
    fn qsize(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is nothing to receive. It may be out of date immediately.
    fn empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether there is no room. It may be out of date immediately.
    fn full(&self) -> bool {
        self.0.is_full()
    }
}
