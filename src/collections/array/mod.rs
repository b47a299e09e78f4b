//! An array: elements of one type behind one robust lock.

mod guard;
mod handle;
mod state;
#[cfg(any(test, feature = "__internals"))]
mod untyped;

pub use guard::ArrayGuard;
pub use handle::Array;
pub(crate) use state::{describe, head_at, recover, Head};
#[cfg(any(test, feature = "__internals"))]
pub use untyped::Untyped;
