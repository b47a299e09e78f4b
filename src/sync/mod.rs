//! Ways for processes to wait for each other.

#[cfg(not(loom))]
pub(crate) mod error;
pub(crate) mod event;
#[cfg(not(loom))]
pub(crate) mod mutex;
pub(crate) mod owned;
pub(crate) mod wait;
