//! Queues between processes: many-to-many, one-to-one, and the byte ring under the pipes.

pub(crate) mod blocked;
pub(crate) mod byte_ring;
pub(crate) mod error;
pub(crate) mod mpmc;
pub mod spsc;
pub mod topic;

pub use error::{RecvError, SendError};
pub use mpmc::{IntoIter, Iter, Loan, Queue, QueueBuilder, Received, TryIter};
