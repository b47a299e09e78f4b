//! Removing names in a model: the twin of `unlink/mod.rs`. Permits are numbers.

use std::ffi::OsStr;
use std::path::Path;

use crate::loom::atomic::AtomicU64;
use crate::segment::removal::{self, Name, Outcome};
use crate::sys::backing::{self, BorrowedFd, Named, OwnedFd};
use crate::{Error, ErrorKind, Result};

/// The name of a segment.
#[derive(Debug)]
pub(crate) struct FileName(Named);

impl FileName {
    pub(crate) fn new(path: &Path, segment: BorrowedFd<'_>) -> Result<FileName> {
        Ok(FileName(Named::new(path, segment)))
    }
}

impl Name for FileName {
    type Error = Error;
    type Permit = u64;

    fn permit(&self) -> Result<(u64, u64)> {
        let number = backing::permit();
        Ok((number, number))
    }

    fn revoke(&self, number: u64) -> Result<()> {
        backing::revoke(number);
        Ok(())
    }

    fn is_ours(&self) -> Result<bool> {
        Ok(self.0.is_ours())
    }

    fn take(&self, permit: &u64) -> Result<bool> {
        Ok(backing::is_valid(*permit) && self.0.unlink())
    }
}

pub(crate) fn remove(word: &AtomicU64, name: &FileName, reason: impl Fn() -> bool) -> Result<Outcome> {
    removal::remove(word, name, reason)
}

pub(crate) fn remove_other(path: &Path, meant: BorrowedFd<'_>, reason: impl Fn() -> bool) -> Result<Outcome> {
    let name = Named::new(path, meant);
    Ok(match reason() {
        true if name.unlink() => Outcome::Removed,
        true => Outcome::NotNamed,
        false => Outcome::Kept,
    })
}

pub(crate) fn no_file(_path: &Path) -> Result<Option<OwnedFd>> {
    Ok(None)
}

pub(crate) fn open_dir(_dir: &Path) -> rustix::io::Result<()> {
    Ok(())
}

pub(crate) fn complete(_dir: &(), _path: &Path, _entry: &OsStr) -> Result<()> {
    Ok(())
}

#[cold]
pub(crate) fn overtaken(path: &Path) -> Error {
    Error::new(ErrorKind::Busy, format!("others keep creating and removing {}", path.display()))
}
