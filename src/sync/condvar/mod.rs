//! A condition variable: a table of waiters, so that a notification wakes exactly the right number.

mod handle;
mod relock;
pub(crate) mod state;

pub use handle::Condvar;
pub(crate) use handle::{describe, recover};
pub use relock::Relock;
