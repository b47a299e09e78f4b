//! This process's part in a segment.

#[cfg_attr(loom, path = "modelled.rs")]
mod handle;
pub(crate) mod word;

pub(crate) use handle::Membership;
