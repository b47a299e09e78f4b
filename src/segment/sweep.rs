//! Removing segments by name, from outside: any file of that name, unused segments, or the remains
//! of a crash.
//!
//! This works for segments of every layout version, because magic, version, flags and the word of
//! the permit have the same offsets in all of them, and locks tell whether a process is attached.

use std::path::Path;

use super::header::{Facts, Header, HEADER_BYTES, LAYOUT_VERSION, MAGIC, PERSISTENT, SIZE_MIN};
use super::permission;
use super::removal::Outcome;
use super::unlink::{self, FileName};
use super::view::View;
use crate::sys::backing::{map, memory, ofd_lock, AsFd, BorrowedFd};
use crate::{Error, ErrorKind, Result};

/// Number of lock bytes that belong to participants, in any version.
const LOCKS: usize = 1 << 20;

/// Which files a removal applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Any file of this name, even one that processes have open.
    Any,
    /// A segment that no live process has open.
    Unused,
    /// A segment that no live process has open and that is not persistent.
    Stale,
}

/// Removes the name `path` if its file is one of `which`.
pub(crate) fn remove(path: &Path, which: Which) -> Result<Outcome> {
    let other =
        |meant: BorrowedFd<'_>, reason: &dyn Fn() -> bool| match unlink::remove_other(path, meant, reason)? {
            Outcome::Overtaken => Err(unlink::overtaken(path)),
            outcome => Ok(outcome),
        };
    let file = match memory::open(path, true) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Outcome::NotNamed),
        // A file that cannot be opened (too many open files, no memory, no permission) may still be
        // a segment.
        Err(error) if which == Which::Any => {
            return other(unlink::no_file(path)?.ok_or(error)?.as_fd(), &|| true);
        }
        // It is another user's segment, or no segment, so it cannot be known to be stale.
        Err(_) if which == Which::Stale => return Ok(Outcome::Kept),
        file => file?,
    };
    let stat = memory::stat(file.as_fd())?;
    if !permission::is_own(&stat) {
        // Its owner could truncate it while it is mapped, so it is not mapped.
        let is_unused = || matches!(ofd_lock::held_by_others(file.as_fd(), 0, LOCKS), Ok(0));
        return match which {
            Which::Any => other(file.as_fd(), &|| true),
            Which::Unused => other(file.as_fd(), &is_unused),
            Which::Stale => Ok(Outcome::Kept),
        };
    }
    let mut bytes = [0; HEADER_BYTES];
    memory::read_at(file.as_fd(), &mut bytes, 0)?;
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes[..8] != MAGIC || length < SIZE_MIN {
        return match which {
            Which::Any => other(file.as_fd(), &|| true),
            Which::Unused => Facts::read(&bytes, length, path).map(|_| Outcome::Kept),
            Which::Stale => Ok(Outcome::Kept),
        };
    }
    // Openers and observers call the same segments damaged. Other layout versions cannot be judged.
    if let (Err(error), true) = (Facts::read(&bytes, length, path), which != Which::Any) {
        match (error.kind(), which) {
            (ErrorKind::VersionMismatch, _) => {}
            (_, Which::Stale) => return Ok(Outcome::Kept),
            _ => return Err(error),
        }
    }
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    if which == Which::Stale && word(12) & PERSISTENT != 0 {
        return Ok(Outcome::Kept);
    }
    let map = map(file.as_fd(), SIZE_MIN as usize)?;
    // SAFETY: the mapping is page-aligned, has the length of the smallest segment, and lives until
    // the end of this function.
    let view = unsafe { View::new(map.as_mut_ptr(), SIZE_MIN) };
    let header: &Header = view.header();
    let is_used = || match word(8) {
        LAYOUT_VERSION => view.is_inhabited(file.as_fd()),
        // The format of this table is unknown. A process holds its lock byte before it checks for
        // others.
        _ => ofd_lock::held_by_others(file.as_fd(), 0, LOCKS).map_or(true, |width| width > 0),
    };
    let name = FileName::new(path, file.as_fd())?;
    match unlink::remove(&header.remover, &name, || which == Which::Any || !is_used())? {
        Outcome::Overtaken => Err(unlink::overtaken(path)),
        outcome => Ok(outcome),
    }
}

/// Removes the stale segments of a directory. `found` receives the path and the outcome of each
/// file.
pub(crate) fn sweep(dir: &Path, mut found: impl FnMut(&Path, Result<Outcome>)) -> Result<()> {
    let failed = |cause| Error::system(format!("cannot read the directory {}", dir.display()), cause);
    let open = unlink::open_dir(dir).map_err(|cause| failed(cause.into()))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        files.push(entry.map_err(failed)?.file_name());
    }
    files.sort();
    for file in files {
        let path = dir.join(&file);
        match super::name::of_file(&path) {
            Some(_) => found(&path, remove(&path, Which::Stale)),
            None => {
                if let Err(error) = unlink::complete(&open, dir, &file) {
                    found(&path, Err(error));
                }
            }
        }
    }
    Ok(())
}
