//! A segment's name in a directory, and its removal by means of a permit.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::segment::permit::{self, Permit};
use crate::segment::removal::Name;
use crate::sys::descriptor::above_standard;
use crate::sys::memory;
use crate::{Error, ErrorKind, Result};

/// The name of an open segment.
#[derive(Debug)]
pub(crate) struct FileName {
    pub(super) dir: OwnedFd,
    pub(super) file: OsString,
    path: PathBuf,
    /// Device and inode of the segment.
    pub(super) id: (u64, u64),
    stat: Stat,
}

impl FileName {
    /// Creates the name `path` of the segment that is open as `segment`, whatever file has that
    /// name now.
    pub(crate) fn new(path: &Path, segment: BorrowedFd<'_>) -> Result<FileName> {
        let stat = memory::stat(segment)?;
        let (dir, file) = parent(path)?;
        Ok(FileName { dir, file, path: path.to_path_buf(), id: (stat.st_dev, stat.st_ino), stat })
    }

    /// Refuses a removal that cannot succeed before it begins, because in a directory with the
    /// sticky bit, other users could not revoke its permit.
    fn check_may_be_removed(&self) -> Result<()> {
        match self.may_remove(rustix::process::geteuid().as_raw())? {
            true => Ok(()),
            false => Err(self.not_permitted(Errno::PERM)),
        }
    }

    /// Returns whether the kernel may let this user remove the name. Only such a user can have a
    /// permit.
    fn may_remove(&self, user: u32) -> Result<bool> {
        let dir = self.dir_stat()?;
        Ok(!is_sticky(&dir) || [self.stat.st_uid, dir.st_uid, 0].contains(&user))
    }

    fn dir_stat(&self) -> Result<Stat> {
        fs::fstat(&self.dir).map_err(|cause| {
            Error::system(format!("cannot examine the directory of {}", self.path.display()), cause)
        })
    }

    fn not_permitted(&self, cause: Errno) -> Error {
        let (path, owner, me) = (self.path.display(), self.stat.st_uid, rustix::process::geteuid().as_raw());
        let why = match self.may_remove(me) {
            // The file's owner does not matter, because the kernel checks write access to the
            // directory.
            Ok(true) => format!("user {me} may not write to its directory"),
            _ => format!("its owner (user {owner}), the owner of its directory or root can remove it"),
        };
        Error::system(format!("cannot remove {path}: {why}"), cause)
    }

    pub(super) fn error(&self, cause: Errno) -> Error {
        match cause {
            Errno::ACCESS | Errno::PERM => self.not_permitted(cause),
            cause => Error::system(format!("cannot remove the segment {}", self.path.display()), cause),
        }
    }
}

impl Name for FileName {
    type Error = Error;
    type Permit = Permit;

    fn permit(&self) -> Result<(u64, Permit)> {
        self.check_may_be_removed()?;
        let is_sticky = is_sticky(&self.dir_stat()?);
        permit::create(&self.dir, is_sticky, &self.stat).map_err(|cause| match cause {
            Errno::BUSY => overtaken(&self.path),
            cause => self.error(cause),
        })
    }

    fn revoke(&self, number: u64) -> Result<()> {
        let can_have_one = |user| self.may_remove(user).unwrap_or(true);
        permit::revoke(&self.dir, number, &self.file, can_have_one).map_err(|cause| match cause {
            Errno::ACCESS | Errno::PERM => {
                let (path, dir) = (self.path.display(), self.path.with_file_name(permit::dir_name(number)));
                let whose = fs::lstat(&dir).map_or("its user".into(), |stat| format!("user {}", stat.st_uid));
                Error::system(
                    format!(
                        "cannot use {path}: a process has begun to remove it and has not finished; only \
                         {whose} or root can end the removal, by removing the directory {}",
                        dir.display()
                    ),
                    cause,
                )
            }
            cause => self.error(cause),
        })
    }

    fn is_ours(&self) -> Result<bool> {
        match id_of(&self.dir, &self.file) {
            Ok(id) => Ok(id == self.id),
            Err(Errno::NOENT) => Ok(false),
            Err(cause) => Err(self.error(cause)),
        }
    }

    fn take(&self, permit: &Permit) -> Result<bool> {
        match fs::renameat(&self.dir, &self.file, permit, &self.file) {
            Ok(()) => {
                // If this fails, revoke() or a sweep tries again.
                let _ = fs::unlinkat(permit, &self.file, AtFlags::empty());
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(cause) => Err(self.error(cause)),
        }
    }
}

#[cold]
pub(crate) fn overtaken(path: &Path) -> Error {
    Error::new(ErrorKind::Busy, format!("others keep creating and removing {}", path.display()))
}

fn is_sticky(dir: &Stat) -> bool {
    dir.st_mode & Mode::SVTX.as_raw_mode() != 0
}

pub(super) fn id_of(dir: &OwnedFd, file: impl rustix::path::Arg) -> rustix::io::Result<(u64, u64)> {
    let stat = fs::statat(dir, file, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

pub(super) fn parent(path: &Path) -> Result<(OwnedFd, OsString)> {
    let no_file = || Error::new(ErrorKind::InvalidInput, format!("{} is not a file's path", path.display()));
    let file = path.file_name().ok_or_else(no_file)?.to_owned();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let open = open_dir(dir)
        .map_err(|cause| Error::system(format!("cannot open the directory {}", dir.display()), cause))?;
    Ok((open, file))
}

pub(crate) fn open_dir(dir: &Path) -> rustix::io::Result<OwnedFd> {
    fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(above_standard)
}
