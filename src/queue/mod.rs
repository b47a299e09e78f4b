//! Ways for processes to pass messages on.

pub(crate) mod area;
pub(crate) mod bytes;
pub(crate) mod error;
pub(crate) mod mpmc;
pub(crate) mod ring;
pub(crate) mod role;
#[cfg(not(loom))]
pub(crate) mod spsc;
