//! The shared heap: blocks of memory that any process may allocate and free, for what grows.
//!
//! One heap to a segment, created at its first use. It never moves anything, and does not trust its
//! own bytes. It consists of these parts:
//!
//! - Arenas ([`arena`]) are objects of the segment. They are added as the heap grows, each a
//!   quarter of the existing size, 256 MiB at most.
//! - Chunks are carved out of an arena ([`chunk_table`]). Each has one size class ([`class`]).
//!   Chunks that are empty are remade for other classes ([`remake`]).
//! - A chunk is divided into blocks ([`block`]), which may be read in place ([`hazard`]), or belong
//!   to one process at a time ([`owned`]).
//! - [`handle`] puts the parts together, with what the process knows of the arenas
//!   ([`arena_cache`]). [`store`] does it for one arena that is a part of another object. Both
//!   search an arena in the same way ([`search`]).
//!
//! There are no free lists: only the word of a block tells whether it is free. So no death can
//! break a link, and a stopped process delays nobody. The tables of states and deaths are in
//! [`block`], [`hazard`], [`chunk_table`] and [`remake`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | adding an arena | reaping | see below | nothing |
//! | block claimed, not published | reaping | it is freed | the block, which nobody has seen |
//! | anything else | see the parts | | nothing |
//!
//! An arena is published complete. If the process dies before that, the arena's record is freed and
//! may become the next arena's.

pub(crate) mod arena_cache;
pub(crate) mod block;
pub(crate) mod chunk_table;
pub(crate) mod class;
pub(crate) mod hazard;

pub(crate) mod arena;
mod handle;
mod owned;
mod pinned;
mod remake;
mod search;
mod store;

pub(crate) use arena::{describe, recover};
pub(crate) use block::{Block, State};
pub(crate) use class::{Class, CLASSES};
pub(crate) use handle::Heap;
pub(crate) use pinned::Pinned;
#[cfg(all(test, not(loom)))]
pub(crate) use remake::busy;
pub(crate) use remake::Shortage;
pub(crate) use store::{Store, UNITS_MAX};

#[cfg(all(test, not(loom)))]
mod remake_tests;
#[cfg(all(test, not(loom)))]
mod tests;
