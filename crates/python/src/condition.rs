//! `Condition`: a condition variable with a gate of its own, for locks that Python holds.
//!
//! Python holds its lock without a guard, and the library's condition variable wants one. So a
//! waiter locks the *gate*, then releases Python's lock, and waits with the gate's guard. A
//! notifier holds Python's lock and locks the gate, too. Therefore it comes before the waiter
//! released Python's lock, or after the waiter is in the table. The gate is held for moments only.
//! If its holder dies it is free again.

use pagemate::sync::{LockError, LockGuard};
use pagemate::Segment;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use crate::error::raise;
use crate::lock::{Lock, RLock};
use crate::object::{Room, Shared, Source, NAME, SMALL};
use crate::wait::{raised, wait_through, Timeout};

struct Parts {
    gate: pagemate::Lock,
    variable: pagemate::Condvar,
}

/// The lock that a condition is used with.
#[derive(FromPyObject)]
enum AnyLock<'py> {
    Plain(Bound<'py, Lock>),
    Reentrant(Bound<'py, RLock>),
}

impl AnyLock<'_> {
    /// Releases the lock completely. Returns the depth to acquire again.
    fn release_all(&self) -> PyResult<u32> {
        match self {
            AnyLock::Plain(lock) => lock.get().release().map(|()| 1),
            AnyLock::Reentrant(lock) => Ok(lock.get().release_all()),
        }
    }

    /// Acquires the lock as often as it was held. A signal handler that raises does not leave the
    /// caller without its lock, because the caller will release it. Returns that exception.
    fn acquire_all(&self, py: Python<'_>, depth: u32) -> PyResult<Option<PyErr>> {
        let mut raised = None;
        for _ in 0..depth {
            let ((), error) = match self {
                AnyLock::Plain(lock) => {
                    let lock = lock.get();
                    wait_through(py, |slice| lock.attempt(slice))
                }
                AnyLock::Reentrant(lock) => {
                    let lock = lock.get();
                    wait_through(py, |slice| lock.attempt(slice))
                }
            }?;
            raised = raised.or(error);
        }
        Ok(raised)
    }

    /// Returns an error unless this thread holds the lock. `what` needs it.
    fn check(&self, what: &str) -> PyResult<()> {
        let is_mine = match self {
            AnyLock::Plain(lock) => lock.get()._is_mine(),
            AnyLock::Reentrant(lock) => lock.get()._is_mine(),
        };
        match is_mine {
            true => Ok(()),
            false => Err(PyAssertionError::new_err(format!("acquire the condition before {what}"))),
        }
    }
}

/// A condition variable.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Condition(Shared<Parts>);

impl Parts {
    /// Locks the gate. A holder that died in it left nothing to repair.
    fn enter(&self) -> PyResult<LockGuard<'_>> {
        match self.gate.lock() {
            Ok(guard) | Err(LockError::OwnerDied(guard)) => Ok(guard),
            Err(error) => Err(raise(error)),
        }
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*, source = None))]
    fn new(source: Option<Source<'_>>) -> PyResult<Condition> {
        let create = |room: &Room| {
            let gate = pagemate::Lock::create(room.at("gate"))?;
            Ok(Parts { gate, variable: pagemate::Condvar::create(room.at(NAME))? })
        };
        let open = |room: &Room| {
            let gate = pagemate::Lock::open(room.at("gate"))?;
            Ok(Parts { gate, variable: pagemate::Condvar::open(room.at(NAME))? })
        };
        Shared::new(source, SMALL, create, open).map(Condition)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Releases `lock` completely, blocks until notified, and acquires it again as often as before.
    /// Returns False if that took longer than the timeout.
    #[pyo3(signature = (lock, timeout))]
    fn _wait(&self, py: Python<'_>, lock: AnyLock<'_>, timeout: Option<f64>) -> PyResult<bool> {
        lock.check("wait")?;
        let timeout = Timeout::new(true, timeout);
        let parts: &Parts = &self.0;
        let guard = parts.enter()?;
        let depth = lock.release_all()?;
        let mut error = None;
        let left = timeout.left();
        let result = py.detach(|| {
            match parts.variable.wait_interruptible(guard, left, || raised(&mut error)) {
                Ok((guard, notified)) => Ok((guard, notified)),
                Err(LockError::OwnerDied(waited)) => Ok(waited),
                Err(error) => Err(raise(error.map(drop))),
            }
            .map(|(guard, notified)| {
                drop(guard);
                notified
            })
        });
        let late = lock.acquire_all(py, depth)?;
        match error.or(late) {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Wakes at most `count` waiters, the oldest first, or all.
    #[pyo3(signature = (lock, count))]
    fn _notify(&self, lock: AnyLock<'_>, count: Option<usize>) -> PyResult<()> {
        lock.check("notify")?;
        // A waiter that has released the lock already is in the table once the gate is free.
        let _gate = self.0.enter()?;
        self.0.variable.notify(count.unwrap_or(usize::MAX));
        Ok(())
    }

    /// Returns the number of waiters.
    fn _waiting(&self) -> usize {
        self.0.variable.waiting()
    }
}
