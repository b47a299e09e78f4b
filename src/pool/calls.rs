//! The thread in which a pool's callbacks are called: one after the other, and none of them holds up the pool.
//!
//! It is the program's more than the library's: its stack is of the usual size, and signals find it as they find the thread
//! that asked for the first callback.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Weak};
use std::thread::{current, Builder, ThreadId};

use crate::pool::batch::Job;
use crate::pool::core::Core;
use crate::{Error, Result};

/// The way to it. It ends when this is dropped.
pub(crate) struct Calls {
    jobs: Sender<Arc<dyn Job>>,
    /// How many callbacks have not returned.
    pending: Arc<AtomicUsize>,
    thread: ThreadId,
}

impl Calls {
    pub(crate) fn start(core: Weak<Core>) -> Result<Calls> {
        let (jobs, queue) = channel::<Arc<dyn Job>>();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = pending.clone();
        let body = move || {
            for job in queue {
                job.call();
                drop(job);
                left.fetch_sub(1, SeqCst);
                if let Some(core) = core.upgrade() {
                    core.desk.head().results.notify_all();
                }
            }
        };
        let thread = Builder::new()
            .name("pagemate-calls".into())
            .spawn(body)
            .map_err(|cause| Error::system("cannot start the thread that calls a pool's callbacks", cause))?;
        Ok(Calls { jobs, pending, thread: thread.thread().id() })
    }

    pub(crate) fn push(&self, job: Arc<dyn Job>) {
        self.pending.fetch_add(1, SeqCst);
        if self.jobs.send(job).is_err() {
            self.pending.fetch_sub(1, SeqCst);
        }
    }

    /// Whether a callback has still to return.
    pub(crate) fn are_pending(&self) -> bool {
        self.pending.load(SeqCst) > 0
    }

    /// Whether this is the thread that calls them.
    pub(crate) fn are_here(&self) -> bool {
        current().id() == self.thread
    }
}
