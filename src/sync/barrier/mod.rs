//! A barrier: a state word with the number of the round, and one owner word for each arrival.

mod error;
mod handle;
pub(crate) mod state;
mod words;

pub use error::BarrierError;
pub use handle::Barrier;
pub(crate) use handle::{describe, recover};

#[cfg(all(test, not(loom)))]
mod tests;
