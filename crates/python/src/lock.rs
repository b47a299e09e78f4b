//! `Lock` and `RLock`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pagemate::sync::{LockGuard, ReentrantLockGuard, ReleaseError};
use pagemate::Segment;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::{acquired, not_released};
use crate::object::{Room, Shared, Source, NAME, SMALL};
use crate::wait::{wait, Timeout};

/// Returns a number that no other thread of this process, nor of one that it was forked from, has.
fn thread_id() -> u64 {
    thread_local! {
        static THREAD: Cell<(u32, u64)> = const { Cell::new((0, 0)) };
    }
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (process, number) = THREAD.get();
    if process == std::process::id() {
        return number;
    }
    let number = LAST.fetch_add(1, Relaxed) + 1;
    THREAD.set((std::process::id(), number));
    number
}

/// A lock that any process or thread may release. It becomes free if its holder dies.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct Lock {
    shared: Shared<pagemate::Lock>,
    /// The thread of this process that acquired it last through this object, until it is released
    /// through it; otherwise 0. For `_is_mine` only.
    holder: AtomicU64,
}

impl Lock {
    /// Acquires it within `slice`.
    pub(crate) fn attempt(&self, slice: Duration) -> PyResult<Option<()>> {
        let done = acquired(self.shared.lock_timeout(slice), LockGuard::keep)?;
        if done.is_some() {
            self.holder.store(thread_id(), Relaxed);
        }
        Ok(done)
    }
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*, source = None))]
    fn new(source: Option<Source<'_>>) -> PyResult<Lock> {
        let create = |room: &Room| pagemate::Lock::create(room.at(NAME));
        let open = |room: &Room| pagemate::Lock::open(room.at(NAME));
        let shared = Shared::new(source, SMALL, create, open)?;
        Ok(Lock { shared, holder: AtomicU64::new(0) })
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.shared.descriptor()
    }

    /// Acquires the lock. Returns False if it was not free in time.
    #[pyo3(signature = (block = true, timeout = None))]
    pub(crate) fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        Ok(wait(py, Timeout::new(block, timeout), |slice| self.attempt(slice))?.is_some())
    }

    /// Releases the lock, whoever acquired it.
    pub(crate) fn release(&self) -> PyResult<()> {
        self.holder.store(0, Relaxed);
        self.shared.release().map_err(not_released)
    }

    /// Returns whether any process holds the lock. It may be out of date immediately.
    fn locked(&self) -> bool {
        self.shared.is_locked()
    }

    /// Returns whether this thread acquired it.
    pub(crate) fn _is_mine(&self) -> bool {
        self.holder.load(Relaxed) == thread_id()
    }

    /// Returns whether a thread of this process acquired it.
    fn _is_of_this_process(&self) -> bool {
        self.holder.load(Relaxed) != 0
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }
}

/// A lock that the thread which holds it may acquire again. It becomes free if its holder dies.
#[pyclass(subclass, frozen, module = "pagemate._pagemate")]
pub(crate) struct RLock(Shared<pagemate::ReentrantLock>);

impl RLock {
    /// Acquires it within `slice`.
    pub(crate) fn attempt(&self, slice: Duration) -> PyResult<Option<()>> {
        acquired(self.0.lock_timeout(slice), ReentrantLockGuard::keep)
    }

    /// Releases all acquisitions of this thread, and returns their number.
    pub(crate) fn release_all(&self) -> u32 {
        let mut depth = 0;
        while self.0.release().is_ok() {
            depth += 1;
        }
        depth
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*, source = None))]
    fn new(source: Option<Source<'_>>) -> PyResult<RLock> {
        let create = |room: &Room| pagemate::ReentrantLock::create(room.at(NAME));
        let open = |room: &Room| pagemate::ReentrantLock::open(room.at(NAME));
        Shared::new(source, SMALL, create, open).map(RLock)
    }

    fn _descriptor(&self) -> PyResult<i32> {
        self.0.descriptor()
    }

    /// Acquires the lock. Returns False if another thread held it for too long.
    #[pyo3(signature = (block = true, timeout = None))]
    pub(crate) fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        Ok(wait(py, Timeout::new(block, timeout), |slice| self.attempt(slice))?.is_some())
    }

    /// Undoes one acquisition of this thread.
    pub(crate) fn release(&self) -> PyResult<()> {
        // As in multiprocessing, it is the caller's mistake even if nobody holds the lock.
        self.0.release().map_err(|error| match error {
            ReleaseError::NotHeld => not_released(ReleaseError::NotYours),
            error => not_released(error),
        })
    }

    /// Returns whether any thread holds the lock. It may be out of date immediately.
    fn locked(&self) -> bool {
        self.0.is_locked()
    }

    /// Returns whether this thread holds it.
    pub(crate) fn _is_mine(&self) -> bool {
        self.0.is_held()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }
}
