//! A readers-writer lock without a hot word for readers: each participant announces them on a line
//! of its own.

mod guard;
mod handle;
pub(crate) mod state;
mod words;

pub use guard::{RwLockReadGuard, RwLockWriteGuard};
pub use handle::RwLock;
pub(crate) use handle::{describe, recover};
