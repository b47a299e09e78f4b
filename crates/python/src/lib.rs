//! The native half of the Python package: one class for each object that blocks or moves data.
//!
//! Each object lives in a segment without a name of its own ([`object`]). Other processes reach it
//! by a descriptor, so nothing can be left behind, and a child of any start method can have it.
//! Waits release the interpreter and let signal handlers run ([`wait`]). Pickling, contexts and
//! the names of `multiprocessing` are in the package's Python files.

mod barrier;
mod buffer;
mod condition;
mod connection;
mod error;
mod event;
mod frame;
mod lease;
mod lock;
mod object;
mod parent;
mod passing;
mod pickle;
mod pool;
mod program;
mod queue;
mod semaphore;
mod views;
mod wait;
mod watcher;

use pyo3::prelude::*;

/// The objects of pagemate as the Python package uses them.
#[pymodule(gil_used = false)]
mod _pagemate {
    #[pymodule_export]
    use crate::barrier::Barrier;
    #[pymodule_export]
    use crate::condition::Condition;
    #[pymodule_export]
    use crate::connection::{pipe_pair, pipe_poll, pipe_recv, pipe_send, pipe_send_bytes};
    #[pymodule_export]
    use crate::event::Event;
    #[pymodule_export]
    use crate::lock::{Lock, RLock};
    #[pymodule_export]
    use crate::parent::end_when_readable;
    #[pymodule_export]
    use crate::passing::{is_sending, pass_descriptor};
    #[pymodule_export]
    use crate::pool::{PoolBatch, PoolMemory, PoolTasks, PoolWorker};
    #[pymodule_export]
    use crate::program::run_program;
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::semaphore::{BoundedSemaphore, Semaphore};
    #[pymodule_export]
    use crate::watcher::Watcher;
}
