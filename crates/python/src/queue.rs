//! `Queue`: pickles, of any length.
//!
//! Short messages are in the queue's slots, and longer ones in its quota. Large ones, and those
//! that find the quota used up, are entries of a dict beside the queue, whose memory grows as
//! needed. The queue then carries the key. So only the number of messages is bounded.
//!
//! # Death
//!
//! - **Producer dies after it has inserted an entry, before it has sent the key.** Lost: the memory
//!   of that entry, until the queue is gone.
//! - **Consumer dies after it has received a key, before it has removed the entry.** Lost: the
//!   message, as with every queue, and the memory of the entry.

use std::time::Duration;

use pagemate::queue::{RecvError, SendError};
use pagemate::{Dict, Segment, Value};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::object::{Room, Shared, Source, NAME};
use crate::wait::{wait, wait_long, Timeout};

/// Address space of a queue. Memory is taken only as it is used.
const SIZE: u64 = 16 << 30;
/// Bytes for messages that are neither short nor large.
const QUOTA: u64 = 1 << 20;
/// Messages that are longer never use the quota.
const LARGE: usize = 32 << 10;
/// Messages that are no longer are in a slot.
const SHORT: usize = 104;
/// The first byte of a message that is a key. Pickles begin with 0x80 since protocol 2.
const KEY: u8 = 0;
/// The length of such a message.
const KEY_LEN: usize = 9;

struct Parts {
    queue: pagemate::Queue<[u8]>,
    large: Dict<u64, [u8]>,
    next_key: Value<u64>,
}

impl Parts {
    /// Takes the message of a key that was received.
    fn take(&self, key: u64) -> PyResult<Vec<u8>> {
        let stored = self.large.remove(&key).map_err(raise)?;
        stored.ok_or_else(|| PyRuntimeError::new_err("the shared bytes of the queue contradict each other"))
    }

    /// Sends within `slice`. Returns `None` if there was no room.
    fn send(&self, message: &[u8], slice: Duration) -> PyResult<Option<()>> {
        match self.queue.send_timeout(message, slice) {
            Ok(()) => Ok(Some(())),
            Err(SendError::Full(_)) => Ok(None),
            Err(error) => Err(raise(error)),
        }
    }

    /// Stores a message beside the queue and sends its key, within `slice`. The slot comes first,
    /// so a message that waits takes no memory.
    fn send_key(&self, bytes: &[u8], slice: Duration) -> PyResult<Option<()>> {
        let room = match self.queue.loan_timeout(KEY_LEN, slice) {
            Ok(room) => room,
            Err(SendError::Full(())) => return Ok(None),
            Err(error) => return Err(raise(error)),
        };
        let key = self.next_key.fetch_add(1);
        self.large.insert(&key, bytes).map_err(raise)?;
        let mut message = [KEY; KEY_LEN];
        message[1..].copy_from_slice(&key.to_le_bytes());
        match room.write_slice(&message).send() {
            Ok(()) => Ok(Some(())),
            Err(error) => {
                self.large.remove(&key).map_err(raise)?;
                Err(raise(error))
            }
        }
    }
}

/// Returns the key in a message, if it is one.
fn key(message: &[u8]) -> Option<u64> {
    let (&first, rest) = message.split_first()?;
    let key = u64::from_le_bytes(rest.try_into().ok()?);
    (first == KEY).then_some(key)
}

/// A queue of pickles, from many producers to many consumers.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Queue(Shared<Parts>);

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (capacity = 1, *, source = None))]
    fn new(capacity: usize, source: Option<Source<'_>>) -> PyResult<Queue> {
        let create = |room: &Room| {
            let large = Dict::create(room.at("large"))?;
            let next_key = Value::create(room.at("next key"), 0)?;
            let queue = pagemate::Queue::builder(capacity).quota(QUOTA).create(room.at(NAME))?;
            Ok(Parts { queue, large, next_key })
        };
        let open = |room: &Room| {
            let large = Dict::open(room.at("large"))?;
            let next_key = Value::open(room.at("next key"))?;
            Ok(Parts { queue: pagemate::Queue::open(room.at(NAME))?, large, next_key })
        };
        Shared::new(source, SIZE, create, open).map(Queue)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Sends a pickle. Returns False if there was no room in time.
    fn _send(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyBytes>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let bytes = message.as_bytes();
        if bytes.first() == Some(&KEY) {
            return Err(PyValueError::new_err("this is no pickle of protocol 2 or later: it begins with 0"));
        }
        let parts: &Parts = &self.0;
        let timeout = Timeout::new(block, timeout);
        let sent = if bytes.len() <= SHORT {
            wait(py, timeout, |slice| parts.send(bytes, slice))
        } else if bytes.len() <= LARGE {
            wait(py, timeout, |slice| match parts.send(bytes, Duration::ZERO)? {
                None => parts.send_key(bytes, slice),
                sent => Ok(sent),
            })
        } else {
            wait_long(py, timeout, |slice| parts.send_key(bytes, slice))
        };
        Ok(sent?.is_some())
    }

    /// Receives a pickle. Returns None if there was none in time.
    fn _recv<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let parts: &Parts = &self.0;
        let attempt = |slice| match parts.queue.recv_timeout(slice) {
            Ok(message) => Ok(Some(message)),
            Err(RecvError::Empty) => Ok(None),
            Err(error) => Err(raise(error)),
        };
        let Some(message) = wait(py, Timeout::new(block, timeout), attempt)? else { return Ok(None) };
        let message = match key(&message) {
            Some(key) => py.detach(|| parts.take(key))?,
            None => message,
        };
        Ok(Some(PyBytes::new(py, &message)))
    }

    /// Returns the number of messages. It may be out of date immediately.
    fn qsize(&self) -> usize {
        self.0.queue.len()
    }

    /// Returns whether there is nothing to receive. It may be out of date immediately.
    fn empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// Returns whether there is no room. It may be out of date immediately.
    fn full(&self) -> bool {
        self.0.queue.is_full()
    }
}
