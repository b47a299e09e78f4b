//! A segment: one mapped file with a header, participants, a directory of objects, and the
//! attachment of this process to it.

pub(crate) mod attachment;
mod creation;
pub(crate) mod directory;
mod exit;
mod handle;
pub(crate) mod header;
mod index;
pub(crate) mod local;
pub(crate) mod membership;
pub(crate) mod name;
pub(crate) mod object;
pub(crate) mod owner;
pub(crate) mod participant;
pub(crate) mod permission;
pub(crate) mod permit;
pub(crate) mod place;
mod pulse;
pub(crate) mod records;
pub(crate) mod removal;
pub(crate) mod sweep;
#[cfg_attr(loom, path = "unlink/modelled.rs")]
pub(crate) mod unlink;
pub(crate) mod verbs;
pub(crate) mod view;

pub use handle::Segment;
pub use object::ObjectInfo;
pub use place::{Origin, Place};
