//! Which batches have something new, for the one thread that waits.

use std::sync::{Mutex, PoisonError};

#[derive(Debug, Default)]
struct Listed {
    batches: Vec<u64>,
    /// Whether the waiter is to return although there is nothing new.
    is_woken: bool,
}

/// The batches that the waiter has not been told of.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<Listed>);

impl News {
    /// Adds a batch. The caller adds it once until its results are taken.
    pub(super) fn add(&self, batch: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).batches.push(batch);
    }

    /// Makes the next `take` return.
    pub(super) fn wake(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_woken = true;
    }

    /// Returns the batches with something new; `None` if there are none, and nobody has called
    /// [`wake`](News::wake).
    pub(super) fn take(&self) -> Option<Vec<u64>> {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_woken = std::mem::take(&mut listed.is_woken);
        (is_woken || !listed.batches.is_empty()).then(|| std::mem::take(&mut listed.batches))
    }
}
