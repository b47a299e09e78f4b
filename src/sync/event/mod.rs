//! An event: a flag that processes wait for, on one futex word.

mod handle;
pub(crate) mod state;

pub(crate) use handle::describe;
pub use handle::Event;
