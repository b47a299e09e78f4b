//! Removing a name without a permit: the file is moved aside first.
//!
//! The file is renamed to `.pagemate-aside.N.NAME`, which needs no room. There the file is
//! unlinked if it is the intended one and the reason for its removal still holds. Otherwise it is
//! put back. If the name is taken while its file is aside, the newer file keeps the name.
//!
//! # Death
//!
//! 1. The file is moved aside, but not unlinked. A sweep unlinks it if it is not a segment, and
//!    puts a segment back. Nothing is lost, but the name is free until then.
//! 2. The file is moved aside, to be put back. A sweep does the same. Nothing is lost, unless the
//!    name was taken meanwhile: then the name.
//!
//! A stopped process counts as dead, but it checks the file that it moved only after it continues.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::file_name::{id_of, parent};
use crate::loom::atomic::{fence, Ordering::SeqCst};
use crate::segment::header::MAGIC;
use crate::segment::name;
use crate::segment::permission;
use crate::segment::permit;
use crate::segment::removal::Outcome;
use crate::sys::memory;
use crate::{Error, ErrorKind, Result};

/// The prefix of the names of files moved aside; a number, a dot and the file's own name follow.
const ASIDE: &str = ".pagemate-aside.";
/// Attempts to remove a name whose file changes meanwhile.
const TRIES: usize = 100;

/// Removes the name `path` without a permit. The name must mean the file open as `meant`, the file
/// must not be a directory, and `reason` must still hold after the file has lost its name.
pub(crate) fn remove_other(path: &Path, meant: BorrowedFd<'_>, reason: impl Fn() -> bool) -> Result<Outcome> {
    let failed = |cause| Error::system(format!("cannot remove {}", path.display()), cause);
    let stat = memory::stat(meant)?;
    if fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(memory::no_segment(path, fs::FileType::Directory));
    }
    let (dir, file) = parent(path)?;
    remove_aside(&dir, &file, (stat.st_dev, stat.st_ino), reason).map_err(failed)
}

/// Moves the file `meant` aside and unlinks it there. Another file that has the name by then is put
/// back.
pub(super) fn remove_aside(
    dir: &OwnedFd,
    file: &OsStr,
    meant: (u64, u64),
    reason: impl Fn() -> bool,
) -> rustix::io::Result<Outcome> {
    for _ in 0..TRIES {
        match id_of(dir, file) {
            Err(Errno::NOENT) => return Ok(Outcome::NotNamed),
            id if id? != meant => return Ok(Outcome::NotNamed),
            _ => {}
        }
        if !reason() {
            return Ok(Outcome::Kept);
        }
        let mut held = OsString::from(format!("{ASIDE}{:016x}.", memory::random()));
        held.push(file);
        match fs::renameat(dir, file, dir, &held) {
            Err(Errno::NOENT) => return Ok(Outcome::NotNamed),
            moved => moved?,
        }
        // Pairs with the fence in removal::entered(): either `reason` sees the entrant, or the
        // entrant finds the name gone.
        fence(SeqCst);
        let id = id_of(dir, &held);
        match id {
            Ok(id) if id == meant => {}
            // A sweep has put it back, or removed it.
            Err(Errno::NOENT) => continue,
            _ => {
                // If this fails, a sweep puts it back.
                put_back(dir, &held, file)?;
                return id.map(|_| Outcome::NotNamed);
            }
        }
        if !reason() {
            put_back(dir, &held, file)?;
            return Ok(Outcome::Kept);
        }
        match fs::unlinkat(dir, &held, AtFlags::empty()) {
            Ok(()) => return Ok(Outcome::Removed),
            Err(Errno::NOENT) => {}
            Err(cause) => {
                let _ = put_back(dir, &held, file);
                return Err(cause);
            }
        }
    }
    Ok(Outcome::Overtaken)
}

/// Puts a segment back; unlinks any other file.
pub(super) fn complete_aside(
    dir: &OwnedFd,
    path: &Path,
    entry: &OsStr,
    file: &OsStr,
) -> Result<rustix::io::Result<()>> {
    let stat = match fs::statat(dir, entry, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if permission::is_own(&stat) => stat,
        other => return Ok(other.map(drop)),
    };
    let is_to_be_put_back = match fs::FileType::from_raw_mode(stat.st_mode) {
        // It must be known whether it is a segment, so an error leaves it for the next sweep.
        fs::FileType::RegularFile => match is_segment(&path.join(entry)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(())),
            is_segment => is_segment?,
        },
        // No remover intended to remove a directory.
        kind => kind.is_dir(),
    };
    Ok(match is_to_be_put_back {
        true => put_back(dir, entry, file),
        false => fs::unlinkat(dir, entry, AtFlags::empty()),
    })
}

fn is_segment(path: &Path) -> Result<bool> {
    let file = memory::open(path, false)?;
    let mut first = [0; 8];
    memory::read_at(file.as_fd(), &mut first, 0)?;
    Ok(first == MAGIC)
}

/// Returns the own name of the file that was moved aside to `entry`.
pub(super) fn file_aside(entry: &OsStr) -> Option<&OsStr> {
    let rest = entry.as_bytes().strip_prefix(ASIDE.as_bytes())?;
    let (number, file) = rest.split_at_checked(16)?;
    let file = OsStr::from_bytes(file.strip_prefix(b".")?);
    (permit::is_number(number) && name::is_file(file)).then_some(file)
}

/// Restores the name of a file that was moved aside. If the name is taken, the newer file keeps it.
fn put_back(dir: &OwnedFd, held: &OsStr, file: &OsStr) -> rustix::io::Result<()> {
    let put = match fs::renameat_with(dir, held, dir, file, RenameFlags::NOREPLACE) {
        // This file system does not support NOREPLACE.
        Err(Errno::INVAL | Errno::NOSYS) => fs::linkat(dir, held, dir, file, AtFlags::empty()),
        Ok(()) => return Ok(()),
        put => put,
    };
    match put {
        Ok(()) | Err(Errno::EXIST) => fs::unlinkat(dir, held, AtFlags::empty()),
        put => put,
    }
}
