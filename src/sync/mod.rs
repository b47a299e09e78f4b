//! Ways for processes to wait for each other.

pub(crate) mod barrier;
pub(crate) mod bounded;
pub(crate) mod condvar;
#[cfg(not(loom))]
pub(crate) mod error;
pub(crate) mod event;
#[cfg(not(loom))]
pub(crate) mod lock;
#[cfg(not(loom))]
pub(crate) mod mutex;
pub(crate) mod nest;
pub(crate) mod once;
pub(crate) mod owned;
#[cfg(not(loom))]
pub(crate) mod rlock;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
pub(crate) mod wait;
