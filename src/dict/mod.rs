//! A dict: keys and values in shared memory, which readers look up without a lock and writers change a part at a time.
//!
//! Not ordered, and not one lock: there are 64 shards ([`shard`]), and a key's hash ([`hash`]) says in which it is. Each has a
//! table of buckets ([`word`]), open addressing with linear probing, whose words lead to entries: blocks of the shared heap
//! ([`store`]). Readers ([`read`]) write nothing that is shared and wait for nobody, but those who want a value in place ([`guard`]) say so; a writer ([`write`]) holds the owner word of
//! its shard, so one that is stopped in it is waited for by writers of this shard, and by nobody else.
//!
//! State, memory ordering and what deaths do are in [`shard`], where the steps of a change are.

mod hash;
pub(crate) mod read;
pub(crate) mod shard;
pub(crate) mod store;
mod word;
pub(crate) mod write;

#[cfg(any(test, loom))]
pub(crate) mod arena;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
pub(crate) mod look;
#[cfg(not(loom))]
mod whole;

#[cfg(not(loom))]
pub use guard::DictGuard;
#[cfg(not(loom))]
pub use handle::Dict;
#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};

#[cfg(test)]
mod tests;
