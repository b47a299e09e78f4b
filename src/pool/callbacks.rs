//! The thread that runs a pool's callbacks, one after the other, so that none holds up the pool.
//!
//! It belongs to the program more than to the library: its stack has the usual size, and its signal
//! mask is that of the thread that submitted the first callback.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Weak};
use std::thread::{current, Builder, ThreadId};

use crate::loom::Ordered;
use crate::pool::packed_chunk::AnyBatch;
use crate::pool::shared::Shared;
use crate::{Error, Result};

/// The queue of the callback thread. The thread ends when this is dropped.
pub(crate) struct Callbacks {
    queue: Sender<Arc<dyn AnyBatch>>,
    /// Number of callbacks that have not returned.
    pending: Arc<AtomicUsize>,
    thread: ThreadId,
}

impl Callbacks {
    /// Starts the thread. It must not keep the pool's memory, because a segment with a name would
    /// outlive the pool.
    pub(crate) fn start(shared: Weak<Shared>) -> Result<Callbacks> {
        let (sender, queue) = channel::<Arc<dyn AnyBatch>>();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = pending.clone();
        let body = move || {
            for batch in queue {
                batch.run_callback();
                drop(batch);
                left.fetch_sub(1, SeqCst);
                if let Some(shared) = shared.upgrade() {
                    shared.memory.header().results.notify_all(Ordered::by_fence());
                }
            }
        };
        let thread = Builder::new()
            .name("pagemate-calls".into())
            .spawn(body)
            .map_err(|cause| Error::system("cannot start the thread that calls a pool's callbacks", cause))?;
        Ok(Callbacks { queue: sender, pending, thread: thread.thread().id() })
    }

    /// Queues the callback of a batch.
    pub(crate) fn push(&self, batch: Arc<dyn AnyBatch>) {
        self.pending.fetch_add(1, SeqCst);
        if self.queue.send(batch).is_err() {
            self.pending.fetch_sub(1, SeqCst);
        }
    }

    /// Returns whether a callback has not returned yet.
    pub(crate) fn are_pending(&self) -> bool {
        self.pending.load(SeqCst) > 0
    }

    /// Returns whether the calling thread is the one that runs them.
    pub(crate) fn are_called_here(&self) -> bool {
        current().id() == self.thread
    }
}
