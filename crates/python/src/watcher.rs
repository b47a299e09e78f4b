//! `Watcher`: waits for many queues in one thread.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pagemate::waitset::Writable;
use pagemate::{Event, WaitSet};
use pyo3::prelude::*;

use crate::error::raise;
use crate::queue::Queue;

/// The token of the event by which other threads ask for something.
const REQUESTS: usize = usize::MAX;
/// The longest time in the kernel.
const SLICE: Duration = Duration::from_secs(3600);

/// What the waiting thread is asked for.
enum Request {
    Add { token: usize, queue: pagemate::Queue<[u8]>, is_writable: bool },
    Remove(usize),
}

/// A set of queues, each with a token. One thread waits, and others add and remove.
#[pyclass(frozen, module = "pagemate._pagemate")]
pub(crate) struct Watcher {
    set: Mutex<WaitSet>,
    requests: Mutex<Vec<Request>>,
    has_requests: Event,
}

#[pymethods]
impl Watcher {
    #[new]
    fn new() -> PyResult<Watcher> {
        let has_requests = Event::new().map_err(raise)?;
        let mut set = WaitSet::new();
        set.add(REQUESTS, &has_requests).map_err(raise)?;
        Ok(Watcher { set: Mutex::new(set), requests: Mutex::default(), has_requests })
    }

    /// Adds a queue: `wait` returns the token once there is a message, or room if `is_writable`.
    fn add(&self, token: usize, queue: &Bound<'_, Queue>, is_writable: bool) {
        self.ask(Request::Add { token, queue: queue.get().handle(), is_writable });
    }

    /// Removes a queue that `wait` has not returned.
    fn remove(&self, token: usize) {
        self.ask(Request::Remove(token));
    }

    /// Blocks until some of the queues are ready, removes these, and returns their tokens.
    fn wait(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        py.detach(|| {
            let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                self.has_requests.clear();
                for request in std::mem::take(&mut *self.lock_requests()) {
                    match request {
                        Request::Add { token, queue, is_writable: true } => set.add(token, &Writable(&queue)),
                        Request::Add { token, queue, .. } => set.add(token, &queue),
                        Request::Remove(token) => Ok(drop(set.remove(token))),
                    }?;
                }
                let ready = set.wait_timeout(SLICE)?;
                let ready: Vec<usize> = ready.iter().copied().filter(|token| *token != REQUESTS).collect();
                if !ready.is_empty() {
                    ready.iter().for_each(|token| _ = set.remove(*token));
                    return Ok(ready);
                }
            }
        })
        .map_err(|error: pagemate::Error| raise(error))
    }
}

impl Watcher {
    fn lock_requests(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, request: Request) {
        self.lock_requests().push(request);
        self.has_requests.set();
    }
}
