//! Removing the names of segments in a directory, by a permit or, for some files, without one.
//!
//! A permit is a directory beside the segment ([`crate::segment::permit`]). Three kinds of files
//! are removed without one:
//!
//! - a file that is not a segment has no word to register a permit in;
//! - a segment of another user is never mapped, so its word cannot be used;
//! - on a file system with no room for a directory, a permit cannot be created.
//!
//! [`aside`] removes their names.
//!
//! A file that cannot be opened is none of these, because "no segment" is a positive statement
//! about a file that was read, or about its type. See [`no_file`].

mod aside;
mod file_name;
#[cfg(test)]
mod tests;

pub(crate) use aside::remove_other;
pub(crate) use file_name::{open_dir, overtaken, FileName};

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use self::aside::{complete_aside, file_aside, remove_aside};
use crate::loom::atomic::AtomicU64;
use crate::segment::permit;
use crate::segment::removal::{self, Outcome};
use crate::sys::descriptor::above_standard;
use crate::{Error, ErrorKind, Result};

/// Removes the name of the segment whose word this is, if `reason` holds. See [`removal::remove`].
pub(crate) fn remove(word: &AtomicU64, name: &FileName, reason: impl Fn() -> bool) -> Result<Outcome> {
    match removal::remove(word, name, &reason) {
        // There is no room for a permit. Without this way out, a full file system would stay full.
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            let outcome = remove_aside(&name.dir, &name.file, name.id, reason);
            outcome.map_err(|cause| name.error(cause))
        }
        outcome => outcome,
    }
}

/// Opens the file `path` if it positively cannot be a segment: a link, a socket, a device, a
/// directory. It is open for its identity only. Returns `None` if it is a regular file.
pub(crate) fn no_file(path: &Path) -> Result<Option<OwnedFd>> {
    let failed = |cause| Error::system(format!("cannot examine {}", path.display()), cause);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = fs::open(path, flags, Mode::empty()).and_then(above_standard).map_err(failed)?;
    let stat = fs::fstat(&found).map_err(failed)?;
    Ok((!fs::FileType::from_raw_mode(stat.st_mode).is_file()).then_some(found))
}

/// Completes the removal that a dead remover left as `entry` of the directory `path`, which is open
/// as `dir`. Other entries, and those of other users, are left alone. A remover that is still alive
/// starts again.
pub(crate) fn complete(dir: &OwnedFd, path: &Path, entry: &OsStr) -> Result<()> {
    let failed = |cause: Errno| Error::system(format!("cannot remove {}", path.join(entry).display()), cause);
    let completed = if let Some(file) = file_aside(entry) {
        complete_aside(dir, path, entry, file)?
    } else if permit::is_name(entry) {
        match permit::complete(dir, entry) {
            Ok(Some(file)) => {
                let (permit, file) = (path.join(entry), Path::new(&file).display());
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("{} is left alone: pagemate has not put {file} into it", permit.display()),
                ));
            }
            completed => completed.map(drop),
        }
    } else {
        return Ok(());
    };
    match completed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(cause) => Err(failed(cause)),
    }
}
