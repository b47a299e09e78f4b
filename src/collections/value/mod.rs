//! Values in shared memory that processes read and write without holding a lock.

mod error;
mod handle;
mod inline;
mod integer;
pub(crate) mod seqlock;
mod state;
#[cfg(any(test, feature = "__internals"))]
mod untyped;

pub use error::ValueError;
pub use handle::Value;
pub use integer::Integer;
pub(crate) use state::{describe, peek, recover};
#[cfg(any(test, feature = "__internals"))]
pub use untyped::Untyped;
