//! The thread in which a pool's callbacks are called: one after the other, and none of them holds up the pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Weak};

use crate::pool::batch::Job;
use crate::pool::core::Core;
use crate::sys::process::background;
use crate::{Error, Result};

thread_local! {
    /// Whether this thread is one that calls callbacks.
    static CALLS: Cell<bool> = const { Cell::new(false) };
}

/// The way to it. It ends when this is dropped.
pub(crate) struct Calls {
    jobs: Sender<Arc<dyn Job>>,
    /// How many callbacks have not returned.
    pending: Arc<AtomicUsize>,
}

impl Calls {
    pub(crate) fn start(core: Weak<Core>) -> Result<Calls> {
        let (jobs, queue) = channel::<Arc<dyn Job>>();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = pending.clone();
        let body = move || {
            CALLS.set(true);
            for job in queue {
                job.call();
                drop(job);
                left.fetch_sub(1, SeqCst);
                if let Some(core) = core.upgrade() {
                    core.desk.head().results.notify_all();
                }
            }
        };
        background("pagemate-calls", body)
            .map_err(|cause| Error::system("cannot start the thread that calls a pool's callbacks", cause))?;
        Ok(Calls { jobs, pending })
    }

    pub(crate) fn push(&self, job: Arc<dyn Job>) {
        self.pending.fetch_add(1, SeqCst);
        if self.jobs.send(job).is_err() {
            self.pending.fetch_sub(1, SeqCst);
        }
    }

    /// Whether a callback has still to return, other than the one from which this is asked.
    pub(crate) fn are_pending(&self) -> bool {
        self.pending.load(SeqCst) > usize::from(CALLS.get())
    }
}
