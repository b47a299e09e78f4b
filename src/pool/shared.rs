//! The data that the threads of the pool's process share without a lock: memory, plan, and the
//! wake-up of the monitor.

use std::time::Duration;

use crate::pool::shared_pool::SharedPool;
use crate::pool::worker::WorkerConfig;
use crate::process::Process;
use crate::sys::descriptor::Own;
use crate::Result;

/// Starts the process of a worker.
pub(crate) type Start = Box<dyn Fn(String, WorkerConfig) -> Result<Process<()>> + Send + Sync>;

/// The configuration of a pool, as its builder left it.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) tasks_per_worker: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    /// The processors on which workers run, in turn; empty: any.
    pub(crate) processors: Vec<usize>,
    pub(crate) start: Start,
}

/// The part of a pool that needs no lock.
pub(crate) struct Shared {
    pub(crate) memory: SharedPool,
    pub(crate) plan: Plan,
    /// An eventfd that wakes the monitor.
    pub(crate) wakeup: Own,
}

impl Shared {
    /// Wakes the pool's monitor thread.
    pub(crate) fn wake_monitor(&self) {
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.wakeup.get().map(|wakeup| rustix::io::write(wakeup, &1u64.to_ne_bytes()));
    }
}
