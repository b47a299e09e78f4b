//! Why a wait at a barrier ended before all parties had arrived.

use std::fmt;

use crate::error::{said, Refusal};
use crate::{Error, ErrorKind};

/// The error of a wait at a [`Barrier`](crate::Barrier) that ended before all parties had arrived.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// The barrier is broken, or was reset. A party timed out, called `abort` or `reset`, or the
    /// action panicked or its process died.
    Broken,
    /// This call timed out. If it had arrived, the barrier is broken now.
    TimedOut,
    /// This process is a `fork` of the one that made the handle and cannot use it; the reason is
    /// inside.
    NotInThisProcess(Refusal),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BarrierError::Broken => "the barrier is broken: it can be used again after a reset",
            BarrierError::TimedOut => "not all have arrived in time, and the barrier is broken now",
            BarrierError::NotInThisProcess(refusal) => refusal.sentence(),
        })
    }
}

impl std::error::Error for BarrierError {}

impl From<BarrierError> for Error {
    fn from(error: BarrierError) -> Error {
        let kind = match error {
            BarrierError::Broken => ErrorKind::Broken,
            BarrierError::TimedOut => ErrorKind::TimedOut,
            BarrierError::NotInThisProcess(refusal) => refusal.kind(),
        };
        said(kind, &error)
    }
}
