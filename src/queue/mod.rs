//! Queues between processes: many-to-many, one-to-one, and the byte ring under the pipes.

pub(crate) mod blocked;
pub(crate) mod byte_ring;
pub(crate) mod error;
pub(crate) mod holders;
pub(crate) mod mpmc;
pub(crate) mod payload;
pub mod spsc;
pub mod topic;

pub use crate::message::{Payload, Varied};
pub use error::{Excess, RecvError, SendError};
pub use mpmc::{IntoIter, Iter, Loan, Queue, QueueBuilder, Received, Receiver, Sender, TryIter};
pub use payload::{Room, Varying};
