//! Pipes: messages and bytes of any length between two ends, in one direction or both.

mod connection;
mod error;
mod reader;
pub(crate) mod state;
mod writer;

pub use connection::{pipe, pipe_with_capacity, Connection};
pub use error::PipeError;
pub use reader::PipeReader;
pub(crate) use reader::ReaderState;
pub(crate) use state::{describe, recover};
pub use state::{pipe_one_way, pipe_one_way_with_capacity};
pub use writer::PipeWriter;
