//! What a segment needs of the system: a file, the locks of its bytes, and a mapping. A model has
//! memory from the heap instead, which `sys/modelled/backing.rs` makes look like a file.

pub(crate) use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(crate) use super::commit::commit;
pub(crate) use super::descriptor::{identity, Kept};
pub(crate) use super::hold::Hold;
pub(crate) use super::map::{map, map_read_only, Map};
pub(crate) use super::{memory, ofd_lock};

use crate::Result;

/// Returns the descriptor of a segment that a child inherits.
#[inline(always)]
pub(crate) fn inherited(file: OwnedFd) -> Result<OwnedFd> {
    Ok(file)
}

/// Returns what a child has inherited: the descriptor of a segment, and the lock if it was taken
/// from it.
#[inline(always)]
pub(crate) fn received(file: OwnedFd, held: Option<Hold>) -> Result<(OwnedFd, Option<Hold>)> {
    Ok((file, held))
}
