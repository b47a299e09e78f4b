//! A pool of worker processes: tasks go in, results come out, and a death costs one task at most.
//!
//! Chunks of tasks stand in slots (`slot`), in the order of a line (`line`) from which workers take them (`worker`). A worker
//! runs a chunk task by task and says after each how far it is (`chunk`); so its death tells exactly which task it was in. The
//! pool's own process keeps who submitted what (`core`, `flow`, `batch`), looks after the workers (`crew`), and at every slot once in a
//! while (`sweep`). Everything stands in one segment (`desk`), which no other process has.

#[cfg(not(loom))]
mod batch;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod calls;
#[cfg(not(loom))]
mod chunk;
#[cfg(not(loom))]
mod core;
#[cfg(not(loom))]
mod crew;
#[cfg(not(loom))]
mod desk;
#[cfg(not(loom))]
mod ending;
#[cfg(not(loom))]
mod error;
pub(crate) mod finished;
#[cfg(not(loom))]
mod flow;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod imap;
pub(crate) mod line;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod rehearsal;
#[cfg(not(loom))]
mod slice;
pub(crate) mod slot;
#[cfg(not(loom))]
mod source;
#[cfg(not(loom))]
mod star;
#[cfg(not(loom))]
mod sweep;
#[cfg(not(loom))]
mod task;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use builder::PoolBuilder;
#[cfg(not(loom))]
pub(crate) use desk::describe;
#[cfg(not(loom))]
pub use error::{MapError, TaskError};
#[cfg(not(loom))]
pub use handle::Pool;
#[cfg(not(loom))]
pub use imap::{Imap, NotYet};
#[cfg(not(loom))]
pub use options::Options;
#[cfg(not(loom))]
#[doc(hidden)]
pub use rehearsal::Rehearsal;
#[cfg(not(loom))]
pub use star::Star;
#[cfg(not(loom))]
pub use task::{MapTask, Task};
#[cfg(not(loom))]
pub use worker::{worker, Worker};
