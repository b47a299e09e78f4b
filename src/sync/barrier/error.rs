//! Why a wait at a barrier ended without all having arrived.

use std::fmt;

use crate::{Error, ErrorKind};

/// A wait at a [`Barrier`](crate::Barrier) ended without all having arrived.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// The barrier is broken, or was reset: somebody's time was over, somebody called `abort` or `reset`, or an action
    /// panicked or died.
    Broken,
    /// The time of this call was over. If it had arrived, the barrier is broken now.
    TimedOut,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BarrierError::Broken => "the barrier is broken: it can be used again after a reset",
            BarrierError::TimedOut => "not all have arrived in time, and the barrier is broken now",
            BarrierError::NotInThisProcess => {
                "the handle belongs to the process that this one was forked from: give it to a child as an argument"
            }
        })
    }
}

impl std::error::Error for BarrierError {}

impl From<BarrierError> for Error {
    fn from(error: BarrierError) -> Error {
        let kind = match error {
            BarrierError::Broken => ErrorKind::Broken,
            BarrierError::TimedOut => ErrorKind::TimedOut,
            BarrierError::NotInThisProcess => ErrorKind::NotInThisProcess,
        };
        Error::new(kind, error.to_string())
    }
}
