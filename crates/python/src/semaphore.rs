//! `Semaphore` and `BoundedSemaphore`.

use pagemate::Segment;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::error::{acquired, not_released};
use crate::object::{Room, Shared, Source, NAME, SMALL};
use crate::wait::{wait, Timeout};

/// The errno of an argument that cannot be.
const EINVAL: i32 = 22;
/// The highest count, as in `multiprocessing`.
const VALUE_MAX: i64 = i32::MAX as i64;

/// Returns the first count. The exception is that of `multiprocessing`.
fn count(value: i64) -> PyResult<u32> {
    if !(0..=VALUE_MAX).contains(&value) {
        let text = format!("a semaphore of {value} permits is not possible: 0 to {VALUE_MAX} are");
        return Err(PyOSError::new_err((EINVAL, text)));
    }
    Ok(value as u32)
}

/// A count of permits that have no owners: any process may release, and a permit that a process
/// has acquired dies with it.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Semaphore(Shared<pagemate::Semaphore>);

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, source = None))]
    fn new(value: i64, source: Option<Source<'_>>) -> PyResult<Semaphore> {
        let value = count(value)?;
        let create = |room: &Room| pagemate::Semaphore::create(room.at(NAME), value);
        let open = |room: &Room| pagemate::Semaphore::open(room.at(NAME));
        Shared::new(source, SMALL, create, open).map(Semaphore)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Acquires a permit. Returns False if there was none in time.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let attempt = |slice| Ok(self.0.acquire_timeout(slice).then_some(()));
        Ok(wait(py, Timeout::new(block, timeout), attempt)?.is_some())
    }

    /// Adds a permit.
    fn release(&self) -> PyResult<()> {
        self.0.release().map_err(|overflow| PyValueError::new_err(overflow.to_string()))
    }

    /// Returns the number of permits. It may be out of date immediately.
    fn get_value(&self) -> u32 {
        self.0.available()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.release()
    }
}

/// At most so many permits at once as there were first. A permit comes back if its holder dies.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct BoundedSemaphore(Shared<pagemate::BoundedSemaphore>);

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, source = None))]
    fn new(value: i64, source: Option<Source<'_>>) -> PyResult<BoundedSemaphore> {
        let value = count(value)?;
        let create = |room: &Room| pagemate::BoundedSemaphore::create(room.at(NAME), value);
        let open = |room: &Room| pagemate::BoundedSemaphore::open(room.at(NAME));
        Shared::new(source, SMALL, create, open).map(BoundedSemaphore)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Acquires a permit. Returns False if there was none in time.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let attempt = |slice| acquired(self.0.acquire_timeout(slice), |permit| permit.keep());
        Ok(wait(py, Timeout::new(block, timeout), attempt)?.is_some())
    }

    /// Releases a permit that any process has acquired.
    fn release(&self) -> PyResult<()> {
        self.0.release().map_err(not_released)
    }

    /// Returns the number of free permits. It may be out of date immediately.
    fn get_value(&self) -> u32 {
        self.0.available()
    }

    /// Returns the number of permits, free or taken.
    fn _maxvalue(&self) -> u32 {
        self.0.bound()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.release()
    }
}
