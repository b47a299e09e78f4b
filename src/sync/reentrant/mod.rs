//! A lock that its holder may acquire again.

pub(super) mod handle;
pub(crate) mod state;

pub(crate) use handle::{describe, recover};
pub use handle::{ReentrantLock, ReentrantLockGuard};
