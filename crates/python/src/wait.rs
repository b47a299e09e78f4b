//! The shape of every wait: slices without the interpreter, signal handlers between them.
//!
//! A slice either gets what it waits for, and then it is returned, or gets nothing. So a signal
//! handler that raises loses no message and no permit.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// The longest time without a look at pending signals.
const SLICE: Duration = Duration::from_millis(50);
/// Timeouts from here on mean "without end". The clock would overflow.
const FOREVER: f64 = 1e9;

/// The time until which a call may block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout(Option<Instant>);

impl Timeout {
    /// Converts Python's pair: without `block` the call does not wait, and neither does it with a
    /// negative timeout. `None` is without end.
    pub(crate) fn new(block: bool, seconds: Option<f64>) -> Timeout {
        match seconds {
            _ if !block => Timeout::zero(),
            None => Timeout(None),
            Some(seconds) if seconds >= FOREVER => Timeout(None),
            // Zero for negative numbers and for NaN.
            Some(seconds) => Timeout(Some(Instant::now() + Duration::from_secs_f64(seconds.max(0.0)))),
        }
    }

    fn zero() -> Timeout {
        Timeout(Some(Instant::now()))
    }

    /// Returns the time that is left; `None` is without end.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Blocks until `attempt` returns a value or an error, or until the timeout (`None`). `attempt`
/// waits for at most the time that it is given, and runs without the interpreter.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    timeout: Timeout,
    mut attempt: impl FnMut(Duration) -> PyResult<Option<T>> + Send,
) -> PyResult<Option<T>> {
    // Most calls need not wait, and then keep the interpreter.
    match attempt(Duration::ZERO)? {
        None => wait_more(py, timeout, attempt),
        value => Ok(value),
    }
}

/// Goes on after an attempt that has failed.
fn wait_more<T: Send>(
    py: Python<'_>,
    timeout: Timeout,
    mut attempt: impl FnMut(Duration) -> PyResult<Option<T>> + Send,
) -> PyResult<Option<T>> {
    loop {
        let left = timeout.left();
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        if let Some(value) = py.detach(|| attempt(slice))? {
            return Ok(Some(value));
        }
        py.check_signals()?;
    }
}

/// Blocks until `attempt` returns a value, also if a signal handler raises. Then the value comes
/// with the first exception. For locks that the caller will release in any case.
pub(crate) fn wait_through<T: Send>(
    py: Python<'_>,
    mut attempt: impl FnMut(Duration) -> PyResult<Option<T>> + Send,
) -> PyResult<(T, Option<PyErr>)> {
    let mut raised = None;
    loop {
        if let Some(value) = py.detach(|| attempt(SLICE))? {
            return Ok((value, raised));
        }
        let error = py.check_signals().err();
        raised = raised.or(error);
    }
}

/// Runs the signal handlers, for waits that check by themselves. Returns whether one has raised.
pub(crate) fn raised(error: &mut Option<PyErr>) -> bool {
    *error = Python::attach(|py| py.check_signals()).err();
    error.is_some()
}
