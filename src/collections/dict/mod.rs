//! A dict: keys and values in shared memory. Readers look them up without a lock; writers lock one
//! part of it.
//!
//! It is not ordered, and has not one lock but 64 shards ([`shard`]); a key's hash ([`hash`])
//! selects its shard. Each shard has a table of buckets ([`word`]) with open addressing and linear
//! probing. The buckets lead to entries, which are blocks of the shared heap ([`store`]). Readers
//! ([`read`]) write nothing that is shared and never block, except that readers of a value in place
//! ([`guard`]) pin it. A writer ([`write`]) holds the owner word of its shard, so a writer that is
//! stopped blocks only the writers of this shard.
//!
//! [`shard`] describes the state, the memory ordering and the deaths, beside the steps of a change.

pub(crate) mod hash;
pub(crate) mod read;
pub(crate) mod shard;
pub(crate) mod store;
mod word;
pub(crate) mod write;

#[cfg(any(test, loom))]
pub(crate) mod arena;
mod bulk;
mod guard;
pub(crate) mod handle;

pub use guard::DictGuard;
pub use handle::Dict;
pub(crate) use handle::{describe, recover};

#[cfg(test)]
mod tests;
