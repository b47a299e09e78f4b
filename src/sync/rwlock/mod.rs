//! A readers-writer lock without a word that all readers write: each participant announces its
//! readers on a cache line of its own.

mod guard;
mod handle;
pub(crate) mod state;
mod words;

pub use guard::{RwLockReadGuard, RwLockWriteGuard};
pub use handle::RwLock;
pub(crate) use handle::{describe, recover};
