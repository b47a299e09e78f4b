//! `Event`.

use pagemate::Segment;
use pyo3::prelude::*;

use crate::object::{Room, Shared, Source, NAME, SMALL};
use crate::wait::{wait, Timeout};

/// A flag that processes set, clear and wait for.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Event(Shared<pagemate::Event>);

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*, source = None))]
    fn new(source: Option<Source<'_>>) -> PyResult<Event> {
        let create = |room: &Room| pagemate::Event::create(room.at(NAME));
        Shared::new(source, SMALL, create, |room| pagemate::Event::open(room.at(NAME))).map(Event)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Returns whether the flag is set.
    fn is_set(&self) -> bool {
        self.0.is_set()
    }

    /// Sets the flag and wakes all waiters. Never blocks.
    fn set(&self) {
        self.0.set();
    }

    /// Clears the flag. Waits that began before it was set still return True.
    fn clear(&self) {
        self.0.clear();
    }

    /// Blocks until the flag is set. Returns False if that took longer than the timeout.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let set =
            wait(py, Timeout::new(true, timeout), |slice| Ok(self.0.wait_timeout(slice).then_some(())))?;
        Ok(set.is_some())
    }
}
