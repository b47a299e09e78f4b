//! Permits to remove names: directories whose removal revokes them. See [`super::removal`] for the
//! algorithm.
//!
//! Permit `N` is the directory `.pagemate-removal.N` beside the segment. In a directory with the
//! sticky bit, only its owner, the owner of the parent or root can remove it. So if other users may
//! open the segment, they may write into `.pagemate-removal.N`, and the permit is the directory
//! `permit` inside of it, which all of them can remove.
//!
//! Everything here goes through descriptors, because `.pagemate-removal.N` may refer to any file by
//! the time that it is used. After a permit is revoked, another user can put a directory of that
//! name there, or a symbolic link to a directory unrelated to pagemate. An open descriptor never
//! starts to refer to another directory, and a rename into it fails once it is removed. Nothing is
//! opened through a link.
//!
//! # Death
//!
//! 1. `.pagemate-removal.N` is created, but `permit` inside of it is not, or is not shared yet. A
//!    sweep of its owner removes both. Nothing is lost.
//! 2. `permit` was removed by another user. A sweep of the owner, or the owner's next remover,
//!    removes the directory around it. Nothing is lost.
//! 3. The file is renamed, but not unlinked. A sweep of the owner, or the owner's next remover or
//!    entrant, unlinks the file. Its memory is lost until then.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{geteuid, Gid, Uid};

use super::{name, permission};
use crate::sys::descriptor::above_standard;
use crate::sys::memory;

/// The prefix of the names of permits; 16 hexadecimal digits follow.
const PREFIX: &str = ".pagemate-removal.";
/// The name of the permit inside a directory that other users may write into.
const INNER: &str = "permit";
/// Attempts to make or sweep a directory that changes meanwhile.
const TRIES: usize = 100;

/// A permit as its maker holds it: the open directory into which the file is renamed.
#[derive(Debug)]
pub(crate) struct Permit(pub(super) OwnedFd);

impl AsFd for Permit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a permit in `parent` to remove the name of `segment`.
pub(crate) fn create(parent: &OwnedFd, is_sticky: bool, segment: &Stat) -> rustix::io::Result<(u64, Permit)> {
    for _ in 0..TRIES {
        let number = memory::random();
        let name = dir_name(number);
        match fs::mkdirat(parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) => continue,
            made => made?,
        }
        match open_new(parent, &name, is_sticky, segment) {
            Ok(Some(permit)) => return Ok((number, permit)),
            // A sweep has removed it already, and another process may have made a directory of that
            // name.
            Ok(None) => {}
            Err(cause) => {
                let _ = revoke(parent, number, OsStr::new(""), |_| true);
                return Err(cause);
            }
        }
    }
    Err(Errno::BUSY)
}

/// Opens the new directory and shares it with all users that may open the segment. Returns `None`
/// if the directory was removed or replaced.
fn open_new(
    parent: &OwnedFd,
    name: &str,
    is_sticky: bool,
    segment: &Stat,
) -> rustix::io::Result<Option<Permit>> {
    let Some(outer) = Dir::open(parent, OsStr::new(name))?.filter(Dir::is_private) else { return Ok(None) };
    let trusts = |bits: u32| segment.st_mode & bits == bits;
    if !is_sticky || (permission::is_own(segment) && !trusts(0o060) && !trusts(0o006)) {
        return Ok(Some(Permit(outer.file)));
    }
    match fs::mkdirat(&outer.file, INNER, Mode::RWXU) {
        Err(Errno::NOENT) => return Ok(None),
        made => made?,
    }
    let Some(inner) = Dir::open(&outer.file, OsStr::new(INNER))?.filter(Dir::is_private) else {
        return Ok(None);
    };
    // Only root can change the owner. A group without the caller is not admitted.
    let owner = geteuid().is_root().then_some(Uid::from_raw(segment.st_uid));
    let group = Some(Gid::from_raw(segment.st_gid));
    let _ = fs::fchown(inner.reopen()?, owner, None);
    let outer = outer.reopen()?;
    let mut mode = Mode::RWXU;
    mode.set(Mode::RWXG, fs::fchown(&outer, owner, group).is_ok() && trusts(0o060));
    mode.set(Mode::RWXO, trusts(0o006));
    fs::fchmod(&outer, mode)?;
    Ok(Some(Permit(inner.file)))
}

/// Revokes the permit of this number, or removes the `file` that was renamed into it. A directory
/// of that name counts only if `can_have_one` holds for its owner.
pub(crate) fn revoke(
    parent: &OwnedFd,
    number: u64,
    file: &OsStr,
    can_have_one: impl Fn(u32) -> bool,
) -> rustix::io::Result<()> {
    let name = dir_name(number);
    let cause = match fs::unlinkat(parent, &name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(cause) => cause,
    };
    let Some(outer) = Dir::open(parent, OsStr::new(&name))? else { return Ok(()) };
    if !can_have_one(outer.stat.st_uid) {
        return Ok(()); // made after the permit was removed
    }
    let revoked = match fs::unlinkat(&outer.file, INNER, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOTDIR) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => match Dir::open(&outer.file, OsStr::new(INNER))? {
            Some(inner) => inner.discard(file, || fs::unlinkat(&outer.file, INNER, AtFlags::REMOVEDIR)),
            None => Ok(()),
        },
        // It was shared, and is revoked already.
        Err(Errno::NOENT) if !outer.is_closed() => Ok(()),
        Err(Errno::NOENT) if matches!(cause, Errno::NOTEMPTY | Errno::EXIST) => {
            outer.discard(file, || fs::unlinkat(parent, &name, AtFlags::REMOVEDIR))
        }
        Err(_) => Err(cause),
    };
    let _ = fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
    revoked
}

/// Removes the permit called `entry`, if it belongs to this user, together with the file that was
/// renamed into it. A file that no remover has put there is left alone, and its name is returned.
pub(crate) fn complete(parent: &OwnedFd, entry: &OsStr) -> rustix::io::Result<Option<OsString>> {
    for _ in 0..TRIES {
        let Some(outer) = Dir::open(parent, entry)?.filter(Dir::is_own) else { return Ok(None) };
        for file in outer.files()? {
            let strange = match fs::unlinkat(&outer.file, INNER, AtFlags::REMOVEDIR) {
                _ if file != INNER => outer.unlink(&file)?,
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => match Dir::open(&outer.file, OsStr::new(INNER))? {
                    Some(inner) => inner.empty()?,
                    None => continue,
                },
                Err(_) => Some(file),
            };
            if strange.is_some() {
                return Ok(strange);
            }
        }
        match fs::unlinkat(parent, entry, AtFlags::REMOVEDIR) {
            // A live remover has used it meanwhile, or the file in `permit` has just been unlinked.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return removed.map(|()| None),
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Returns whether a permit can have this name.
pub(crate) fn is_name(entry: &OsStr) -> bool {
    entry.as_bytes().strip_prefix(PREFIX.as_bytes()).is_some_and(is_number)
}

/// Returns whether these are the digits of a number as file names contain it.
pub(crate) fn is_number(digits: &[u8]) -> bool {
    digits.len() == 16 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the name of the permit of this number.
pub(crate) fn dir_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// An open directory, with its metadata at the time of opening.
struct Dir {
    file: OwnedFd,
    stat: Stat,
}

impl Dir {
    /// Opens a directory. Returns `None` if the name does not exist, or is not a directory.
    fn open(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<Option<Dir>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match fs::openat(parent, name, flags, Mode::empty()).and_then(above_standard) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            file => file?,
        };
        let stat = fs::fstat(&file)?;
        Ok(Some(Dir { file, stat }))
    }

    fn is_own(&self) -> bool {
        permission::is_own(&self.stat)
    }

    /// Returns whether its mode admits only its owner.
    fn is_closed(&self) -> bool {
        self.stat.st_mode & 0o077 == 0
    }

    /// Returns whether only this user and root can have put a file into it.
    fn is_private(&self) -> bool {
        self.is_own() && self.is_closed()
    }

    /// Opens the same directory again, for reading instead of for its identity only.
    fn reopen(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(&self.file, ".", flags, Mode::empty()).and_then(above_standard)
    }

    fn files(&self) -> rustix::io::Result<Vec<OsString>> {
        let mut files = Vec::new();
        for entry in fs::Dir::new(self.reopen()?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                files.push(OsStr::from_bytes(name).to_os_string());
            }
        }
        Ok(files)
    }

    /// Unlinks a file that a remover renamed into it. Returns the name of any other file.
    fn unlink(&self, file: &OsStr) -> rustix::io::Result<Option<OsString>> {
        if !self.is_private() || !name::is_file(file) {
            return Ok(Some(file.to_os_string()));
        }
        match fs::unlinkat(&self.file, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(Errno::ISDIR) => Ok(Some(file.to_os_string())),
            Err(cause) => Err(cause),
        }
    }

    /// Unlinks all such files in it. Stops at the first other file and returns its name.
    fn empty(&self) -> rustix::io::Result<Option<OsString>> {
        for file in self.files()? {
            if let Some(strange) = self.unlink(&file)? {
                return Ok(Some(strange));
            }
        }
        Ok(None)
    }

    /// Removes `file` and then the directory, of a permit that is not empty.
    fn discard(
        &self,
        file: &OsStr,
        remove: impl FnOnce() -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        if !self.is_private() {
            // Used, and left for its owner to sweep: no name leads to the file in it.
            return Ok(());
        }
        let unlinked = fs::unlinkat(&self.file, file, AtFlags::empty());
        match (unlinked, remove()) {
            // It contains another file, and the permit may still be used.
            (Err(Errno::NOENT), Err(cause @ (Errno::NOTEMPTY | Errno::EXIST))) => Err(cause),
            _ => Ok(()),
        }
    }
}
