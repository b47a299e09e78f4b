//! The parts of all processes of a model in one segment: the twin of `membership/handle.rs`. They
//! share the handles' memory, so each has an entry here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::segment::owner::OwnerId;
use crate::sys::backing::Hold;
use crate::sys::fork;
use crate::Result;

/// The owner ids of the processes, by epoch, and their locks.
#[derive(Debug)]
pub(crate) struct Membership {
    members: Mutex<Vec<(u32, OwnerId, Hold)>>,
}

impl Membership {
    pub(crate) fn none() -> Membership {
        Membership { members: Mutex::default() }
    }

    fn members(&self) -> MutexGuard<'_, Vec<(u32, OwnerId, Hold)>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owner(&self) -> Option<OwnerId> {
        self.owner_of(fork::epoch())
    }

    /// Returns the id of the process of this epoch, if it takes part.
    pub(crate) fn owner_of(&self, epoch: u32) -> Option<OwnerId> {
        self.members().iter().find(|member| member.0 == epoch).map(|member| member.1)
    }

    pub(crate) fn enter(&self, join: impl FnOnce() -> Result<(OwnerId, Hold)>) -> Result<OwnerId> {
        if let Some(owner) = self.owner() {
            return Ok(owner);
        }
        let (owner, hold) = join()?;
        self.members().push((fork::epoch(), owner, hold));
        Ok(owner)
    }

    pub(crate) fn take(&mut self) -> Option<(OwnerId, Hold)> {
        self.leave()
    }

    /// Ends the part of the current process, while others may take part.
    pub(crate) fn leave(&self) -> Option<(OwnerId, Hold)> {
        let mut members = self.members();
        let index = members.iter().position(|member| member.0 == fork::epoch())?;
        let (_, owner, hold) = members.swap_remove(index);
        Some((owner, hold))
    }
}
