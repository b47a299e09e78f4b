//! A pool whose workers somebody else starts, reaps and replaces: for bindings to other languages.
//!
//! It has the memory, the slots and the run queue of [`Pool`](crate::Pool), and their states,
//! orderings and deaths (`pool/slot.rs`, `pool/chunk.rs`). What differs is who does the rest:
//!
//! | | [`Pool`](crate::Pool) | here |
//! |---|---|---|
//! | starts and reaps workers | the supervisor | the binding, which reports each end ([`ForeignPool::worker_ended`]) |
//! | calls the function | a runner, by its offset in the program | the binding, with the bytes of a [`RunningChunk`] |
//! | arguments and results | messages of a type | bytes, one string of them for each result |
//! | waits for results | whoever wants one | one thread, in [`ForeignPool::wait`] |
//!
//! A result counts from the moment at which [`RunningChunk::push`] returns. When a worker dies, the
//! first task of its chunk without a result gets the error, and the tasks after it run elsewhere.

mod batch;
mod news;
mod tasks;
#[cfg(all(test, not(loom)))]
mod tests;
mod worker;

pub use batch::{ForeignBatch, Part, Results};
pub use tasks::{ForeignChunk, ForeignPool};
pub use worker::{ForeignWorker, Found, RunningChunk};
