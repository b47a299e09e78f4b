//! The ring between one producer and one consumer: wait-free, in place, in batches.

mod chunk;
mod closing;
mod consumer;
pub(crate) mod cursor;
mod endpoint;
mod in_place;
mod placing;
mod producer;
mod receiving;
pub(crate) mod role;
mod room;
mod sending;
mod slices;
mod slot;
mod stream;
mod varying;

pub use chunk::{RecvChunk, SendChunk};
pub use closing::IntoIter;
pub use consumer::Consumer;
pub use endpoint::spsc;
pub(crate) use endpoint::take_role;
pub use in_place::{Loan, Received};
pub use producer::Producer;
pub use room::Room;
pub use slot::{builder, RingBuilder};
pub(crate) use slot::{describe, peek, recover};
