//! A bounded semaphore: one owner word for each permit, so that the permits of dead processes
//! return.

mod handle;
pub(crate) mod state;

pub(crate) use handle::{describe, recover};
pub use handle::{BoundedSemaphore, Permit};
