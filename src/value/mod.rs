//! Values in shared memory that many processes read and write, without a lock to be held.

pub(crate) mod copies;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod integer;
#[cfg(not(loom))]
mod small;
mod wide;

#[cfg(not(loom))]
pub(crate) use handle::{describe, peek, recover};
#[cfg(not(loom))]
pub use handle::{Value, ValueError};
#[cfg(not(loom))]
pub use integer::Integer;
