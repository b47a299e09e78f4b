//! The ring between one producer and one consumer: wait-free, in place, in batches.

mod chunk;
mod closing;
mod consumer;
pub(crate) mod cursor;
mod endpoint;
mod in_place;
mod producer;
pub(crate) mod role;
mod slices;
mod stream;

pub use chunk::{RecvChunk, SendChunk};
pub use closing::IntoIter;
pub use consumer::Consumer;
pub use endpoint::spsc;
pub(crate) use endpoint::{describe, peek, recover, take_role};
pub use in_place::{Loan, Received};
pub use producer::Producer;
