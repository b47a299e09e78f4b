//! A semaphore: a count of permits on one futex word.

mod handle;
pub(crate) mod state;

pub(crate) use handle::describe;
pub use handle::{PermitOverflow, Semaphore};
