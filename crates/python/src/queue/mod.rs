//! `Queue`: objects, which are pickled, of any length.
//!
//! Short messages are in the slots of a queue, and longer ones in its quota. Large ones, and those
//! that find the quota used up, are [buffers](pagemate::collections::Buffer) beside the queue,
//! whose memory grows as needed ([`message`]). So only the number of messages is bounded.
//!
//! # Death
//!
//! The queue delivers the message of a dead consumer again, and a consumer takes the buffer before
//! it acknowledges the message. So no death loses memory:
//!
//! | window | lost |
//! |---|---|
//! | producer: writing the buffer; sending its ticket | the message |
//! | producer: the ticket is sent, the buffer not handed over | perhaps the message |
//! | consumer: received, the buffer not taken | nothing: another consumer receives it |
//! | consumer: the buffer taken | the message, as with every queue |
//! | consumer: unpickled, with views into the buffer | nothing |
//!
//! See [`Buffer`](pagemate::collections::Buffer) for how a buffer is freed.

mod message;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pagemate::Segment;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::object::{Shared, NAME};
use crate::passing::collect;
use crate::pickle::{loads, Pickled};
use crate::wait::Timeout;
use message::{Memory, QUOTA};

/// Address space of a queue. Memory is taken only as it is used.
const SIZE: u64 = 16 << 30;

/// A queue of objects, from many producers to many consumers.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Queue {
    memory: Shared<Memory>,
    is_closed: AtomicBool,
    /// Whether `_is_empty_now` is called when `get` finds or leaves the queue empty.
    tells_when_empty: AtomicBool,
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (capacity = 1, *, descriptor = None))]
    fn new(capacity: usize, descriptor: Option<i32>) -> PyResult<Queue> {
        let create = |segment: &Segment| {
            let queue = pagemate::Queue::builder(capacity).quota(QUOTA).redeliver(true);
            Ok(Memory { queue: queue.create(segment.at(NAME))?, segment: segment.clone() })
        };
        let open = |segment: &Segment| {
            Ok(Memory { queue: pagemate::Queue::open(segment.at(NAME))?, segment: segment.clone() })
        };
        let memory = Shared::new(descriptor, SIZE, create, open)?;
        let [is_closed, tells_when_empty] = [(); 2].map(|()| AtomicBool::new(false));
        Ok(Queue { memory, is_closed, tells_when_empty })
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.memory.descriptor()
    }

    /// Sends ``obj``. Raises ``queue.Full`` if there was no room in time.
    #[pyo3(signature = (obj, block = true, timeout = None))]
    fn put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        Queue::_put(slf, obj, block, timeout).map(drop)
    }

    /// Does what `put` does. Returns False if `obj` could not be pickled.
    fn _put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let (py, queue) = (slf.py(), slf.get());
        queue.check_open(slf)?;
        let pickled = match collect(false, || Pickled::new(obj)) {
            Ok((pickled, _)) => pickled,
            Err(error) if error.is_instance_of::<PyException>(py) => {
                slf.call_method1("_on_queue_feeder_error", (error, obj))?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if queue.memory.send(py, &pickled, Timeout::new(block, timeout))? {
            return Ok(true);
        }
        static FULL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        Err(PyErr::from_type(FULL.import(py, "queue", "Full")?.clone(), ()))
    }

    /// Calls ``put(obj, False)``.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.call_method1("put", (obj, false)).map(drop)
    }

    /// Receives an object. Raises ``queue.Empty`` if there was none in time.
    #[pyo3(signature = (block = true, timeout = None))]
    fn get<'py>(slf: &Bound<'py, Self>, block: bool, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let (py, queue) = (slf.py(), slf.get());
        queue.check_open(slf)?;
        let memory = &queue.memory;
        let received = memory.recv(py, Timeout::new(block, timeout), || memory.descriptor())?;
        if queue.tells_when_empty.load(Relaxed) && queue.empty() {
            slf.call_method0("_is_empty_now")?;
        }
        match received {
            Some((pickle, buffers)) => loads(&pickle, &buffers),
            None => {
                static EMPTY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                Err(PyErr::from_type(EMPTY.import(py, "queue", "Empty")?.clone(), ()))
            }
        }
    }

    /// Calls ``get(False)``.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.call_method1("get", (false,))
    }

    /// Ends the use of the queue by this process. Messages stay.
    fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// Has `_is_empty_now` called from now on.
    fn _tell_when_empty(&self) {
        self.tells_when_empty.store(true, Relaxed);
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    /// Returns the number of messages. It may be out of date immediately.
    fn qsize(&self) -> usize {
        self.memory.queue.len()
    }

    /// Returns whether there is nothing to receive. It may be out of date immediately.
    fn empty(&self) -> bool {
        self.memory.queue.is_empty()
    }

    /// Returns whether there is no room. It may be out of date immediately.
    fn full(&self) -> bool {
        self.memory.queue.is_full()
    }
}

impl Queue {
    /// Returns a handle to the messages.
    pub(crate) fn handle(&self) -> pagemate::Queue<[u8]> {
        self.memory.queue.clone()
    }

    fn check_open(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.is_closed.load(Relaxed) {
            return Err(PyValueError::new_err(format!("Queue {} is closed", slf.repr()?)));
        }
        Ok(())
    }
}
