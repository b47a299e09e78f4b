//! Which users' files may be opened: the caller's own, unless its place trusts others.
//!
//! A user who can write to a segment's file can change every message in it. That user can also
//! truncate it while a process has it mapped, which ends that process by SIGBUS. In a directory
//! where everybody can create files, such as /dev/shm, another user can create a file under the
//! name that a program is about to use. So a file is accepted only if its owner is trusted, and
//! every user whom its mode lets write. Read access is for the owner to decide.

use std::path::Path;

use rustix::fs::Stat;
use rustix::process::{getegid, geteuid, getgroups};

use crate::{Error, ErrorKind, Result};

/// Returns whether the file belongs to this process's user.
pub(crate) fn is_own(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw()
}

/// Refuses a file that users other than those named by `mode` may have written.
pub(crate) fn check(stat: &Stat, path: &Path, mode: u32) -> Result<()> {
    let found = stat.st_mode & 0o777;
    let in_group = || {
        getegid().as_raw() == stat.st_gid
            || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == stat.st_gid))
    };
    let trusts_owner = is_own(stat) || mode & 0o006 == 0o006 || (mode & 0o060 == 0o060 && in_group());
    if trusts_owner && found & 0o022 & !mode == 0 {
        return Ok(());
    }
    let (path, owner, me) = (path.display(), stat.st_uid, geteuid().as_raw());
    Err(Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "{path} belongs to user {owner} and has mode {found:04o}, so others than user {me} may write to \
             it: to trust them, open it with Place::mode(0o{:o}), or --mode of the program; else use another \
             name, or have user {owner} or root remove it",
            found
                | 0o600
                | if is_own(stat) {
                    0
                } else if in_group() {
                    0o060
                } else {
                    0o006
                },
        ),
    ))
}
