//! The shared heap: blocks of memory that any process may allocate and free, for what grows.
//!
//! One heap to a segment, made on first use. It refuses to move anything, to merge what was freed, and to trust its own bytes.
//! Its memory comes in arenas ([`arena`]), objects of the segment that are added as the heap grows, each a quarter of what
//! there is, 256 MiB at most. An arena is carved into chunks ([`carve`]) of one size class each ([`class`]), a chunk is
//! blocks ([`block`]), which may be read in place ([`pin`]). There are no lists: what is free is what its word says is free, so no
//! death can break a link, and a stopped process holds up nobody. [`handle`] puts it together, with what the process knows of the
//! arenas ([`known`]); the tables of states and deaths stand in [`block`], [`pin`] and [`carve`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | adding an arena | reaping | it is published complete, or its record is freed and may be the next arena's | nothing |
//! | block claimed, not published | reaping | it is freed | the block, which nobody has seen |
//! | anything else | see the parts | | nothing |

pub(crate) mod block;
pub(crate) mod carve;
pub(crate) mod class;
pub(crate) mod known;
pub(crate) mod pin;

#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod look;
#[cfg(not(loom))]
mod pinned;
#[cfg(not(loom))]
mod rehearsal;

#[cfg(not(loom))]
pub(crate) use arena::{describe, recover};
#[cfg(not(loom))]
pub(crate) use block::State;
#[cfg(not(loom))]
pub(crate) use handle::{Block, Heap};
#[cfg(not(loom))]
pub(crate) use look::Look;
#[cfg(not(loom))]
pub(crate) use pinned::Pinned;
#[cfg(not(loom))]
pub use rehearsal::Rehearsal;

#[cfg(all(test, not(loom)))]
mod tests;
