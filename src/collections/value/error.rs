//! The error of reading or changing a value.

use std::fmt;

use crate::error::{said, Refusal};
use crate::{Error, ErrorKind};

/// The error of an attempt to read or change a [`Value`](crate::Value).
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Another writer was writing: at the time of the call, or until the deadline. Only for values
    /// that are not 1, 2, 4 or 8 bytes long.
    NotAcquired,
    /// The shared bytes are not a valid value. A [`set`](crate::Value::set) replaces them.
    Corrupted,
    /// This process is a `fork` of the one that made the handle and cannot use it. The
    /// [`Refusal`] says why.
    NotInThisProcess(Refusal),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::NotAcquired => "another writer was writing the value",
            ValueError::Corrupted => "the shared bytes are not a valid value: set a new one",
            ValueError::NotInThisProcess(refusal) => refusal.sentence(),
        })
    }
}

impl std::error::Error for ValueError {}

impl From<ValueError> for Error {
    fn from(error: ValueError) -> Error {
        let kind = match error {
            ValueError::NotAcquired => ErrorKind::TimedOut,
            ValueError::Corrupted => ErrorKind::Corrupted,
            ValueError::NotInThisProcess(refusal) => refusal.kind(),
        };
        said(kind, &error)
    }
}
