//! This process's part in a segment.

mod handle;
pub(crate) mod word;

pub(crate) use handle::Membership;
