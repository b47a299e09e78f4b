//! A semaphore: a count of permits on one futex word.

mod handle;
mod permits;
pub(crate) mod state;

pub(crate) use handle::describe;
pub use handle::{PermitOverflow, Semaphore};
pub use permits::SemaphorePermit;
