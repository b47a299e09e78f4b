//! A list: messages, strings or bytes in shared memory, in order, without a fixed limit.

mod handle;
pub(crate) mod memory;
pub(crate) mod read;
pub(crate) mod state;
pub(crate) mod write;

pub use handle::{Iter as ListIter, List};
pub(crate) use state::{describe, recover};

#[cfg(all(test, not(loom)))]
mod tests;
