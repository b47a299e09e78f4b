//! A pool of worker processes: tasks go in, results come out, and a death costs one task at most.
//!
//! Everything that processes share is stored in one segment, which no other program has (`layout`,
//! mapped by `shared_pool`): slots with chunks of tasks (`slot`), a queue of them (`run_queue`),
//! and what each worker has finished (`completions`). A worker takes chunks (`worker`), runs their
//! tasks one by one, and stores after each how many are done (`chunk`); so its death tells exactly
//! which task it was in.
//!
//! The pool's own process packs chunks (`task_options`, `submission`, `chunker`, `packed_chunk`),
//! puts them into slots and collects their results (`engine`, `scheduler`, `slot_table`, `batch`).
//! A thread of it replaces dead workers (`monitor`, `supervisor`), and another runs callbacks
//! (`callbacks`).

pub(super) mod batch;
mod builder;
mod callbacks;
pub(super) mod chunk;
pub(super) mod chunker;
pub(crate) mod completions;
pub(super) mod engine;
pub(crate) mod error;
#[cfg(any(test, feature = "__internals"))]
#[doc(hidden)]
pub mod foreign;
mod function;
mod handle;
mod imap;
pub(crate) mod layout;
mod monitor;
pub(crate) mod packed_chunk;
pub(crate) mod run_queue;
pub(super) mod scheduler;
pub(super) mod shared;
pub(super) mod shared_pool;
mod shutdown;
mod slice;
pub(crate) mod slot;
pub(crate) mod slot_table;
mod submission;
pub(super) mod supervisor;
mod task;
mod task_options;
#[cfg(all(test, not(loom)))]
mod tests;
pub(super) mod worker;

pub use builder::PoolBuilder;
pub use error::{MapError, TaskError};
pub use handle::Pool;
pub use imap::{Imap, NextTimedOut};
pub(crate) use shared_pool::describe;
pub use task::{MapTask, Task};
pub use task_options::TaskOptions;
pub use worker::{worker, Worker};
