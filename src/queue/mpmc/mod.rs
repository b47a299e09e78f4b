//! The queue of many producers and many consumers: the held-slot ring, and the handles to it.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..640 | [`Control`](ring::Control): geometry, positions, sleepers, notices; 128 bytes for each |
//! | 640.. | `capacity` slots of `stride` bytes: a word, then the message, at `offset` in the slot |
//!
//! The stride is a multiple of 128, so no two slots share a line.

mod claim;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod receiving;
mod recover;
pub(crate) mod ring;
#[cfg(not(loom))]
mod sending;
mod slot;
mod take;

#[cfg(not(loom))]
pub use guard::{Loan, Received};
#[cfg(not(loom))]
pub use handle::{Queue, QueueOptions};
#[cfg(not(loom))]
pub(crate) use layout::{describe, peek, recover};
#[cfg(not(loom))]
pub use receiving::{Iter, TryIter};
