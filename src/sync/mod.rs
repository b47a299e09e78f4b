//! Ways for processes to wait for each other.

pub(crate) mod event;
pub(crate) mod wait;
