//! Values in shared memory that processes read and write without holding a lock.

mod error;
mod handle;
mod inline;
mod integer;
pub(crate) mod seqlock;
mod state;

pub use error::ValueError;
pub use handle::Value;
pub use integer::Integer;
pub(crate) use state::{describe, peek, recover};
