//! `Barrier`.

use pagemate::sync::BarrierError;
use pagemate::Segment;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::raise;
use crate::object::{Room, Shared, Source, NAME, SMALL};
use crate::wait::{raised, Timeout};

/// The exception of an action, on its way to the caller of `wait`.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// The payload with which an action that raised breaks the barrier.
struct ActionRaised;

/// A barrier at which a fixed number of parties wait for each other. A party that dies no longer
/// counts.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Barrier(Shared<pagemate::Barrier>);

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (parties = 1, *, source = None))]
    fn new(parties: i64, source: Option<Source<'_>>) -> PyResult<Barrier> {
        let parties = u32::try_from(parties).ok().filter(|parties| (1..=4096).contains(parties));
        let parties = parties.ok_or_else(|| PyValueError::new_err("a barrier has 1 to 4096 parties"))?;
        let create = |room: &Room| pagemate::Barrier::create(room.at(NAME), parties);
        Shared::new(source, SMALL, create, |room| pagemate::Barrier::open(room.at(NAME)))
            .map(Barrier)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Blocks until all parties have arrived. Returns the index of this one, or None if the barrier
    /// is broken. The last one runs `action` before any of them goes on.
    fn _wait(
        &self,
        py: Python<'_>,
        action: Option<Py<PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Option<usize>> {
        let from_action = Raised::default();
        let mut barrier = pagemate::Barrier::clone(&self.0);
        if let Some(action) = action {
            let to = from_action.clone();
            barrier = barrier.with_action(move || {
                if let Err(error) = Python::attach(|py| action.call0(py).map(drop)) {
                    *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    resume_unwind(Box::new(ActionRaised)); // breaks the barrier
                }
            });
        }
        let timeout = Timeout::new(true, timeout);
        let mut from_signal = None;
        let result = py.detach(|| {
            let wait = || barrier.wait_interruptible(timeout.left(), || raised(&mut from_signal));
            catch_unwind(AssertUnwindSafe(wait))
        });
        drop(barrier);
        let from_action = from_action.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = from_signal.or(from_action) {
            return Err(error);
        }
        match result {
            Ok(Ok(index)) => Ok(Some(index)),
            Ok(Err(BarrierError::Broken | BarrierError::TimedOut)) => Ok(None),
            Ok(Err(error)) => Err(raise(error)),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Breaks the barrier until it is reset.
    fn abort(&self) {
        self.0.abort();
    }

    /// Breaks the barrier for those who wait, and makes it usable again.
    fn reset(&self) {
        self.0.reset();
    }

    /// The number of parties.
    #[getter]
    fn parties(&self) -> u32 {
        self.0.parties()
    }

    /// The number of parties that wait.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Whether the barrier is broken.
    #[getter]
    fn broken(&self) -> bool {
        self.0.is_broken()
    }
}
