//! Removal with and without permits, on real files, partly as other users.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::*;
use crate::segment::permit::Permit;
use crate::segment::removal::Name;

/// Returns a new directory, and a path inside of it.
fn dir(what: &str) -> (PathBuf, PathBuf) {
    let dir = std::env::temp_dir().join(format!("test-unlink-{what}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("pagemate.x");
    (dir, path)
}

#[test]
fn without_a_permit_only_the_file_that_was_meant_is_removed() {
    let (dir, path) = dir("meant");
    std::fs::write(&path, "meant").unwrap();
    let meant = std::fs::File::open(&path).unwrap();
    let replace = || {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "newer").unwrap();
        true
    };
    // The remover is stopped after its check, and another process creates the name again.
    assert_eq!(remove_other(&path, meant.as_fd(), replace).unwrap(), Outcome::NotNamed);
    assert_eq!(std::fs::read(&path).unwrap(), b"newer");
    let newer = std::fs::File::open(&path).unwrap();
    assert_eq!(remove_other(&path, newer.as_fd(), || false).unwrap(), Outcome::Kept);
    assert_eq!(remove_other(&path, newer.as_fd(), || true).unwrap(), Outcome::Removed);
    std::fs::remove_dir(&dir).expect("nothing stays");
}

#[test]
fn without_a_permit_what_is_entered_at_the_last_moment_is_put_back() {
    let (dir, path) = dir("entered");
    std::fs::write(&path, "meant").unwrap();
    let meant = std::fs::File::open(&path).unwrap();
    // A process enters after the first check: `reason` sees that only once the name is gone.
    let is_unused = || path.exists();
    assert_eq!(remove_other(&path, meant.as_fd(), is_unused).unwrap(), Outcome::Kept);
    assert_eq!(std::fs::read(&path).unwrap(), b"meant");
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir(&dir).expect("nothing stays");
}

/// Returns the result of `body` in a process of this user, in the group nobody.
fn as_user(user: u32, body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child takes no lock that another thread may hold except the allocator's,
    // which glibc passes on in a consistent state.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: changes only this process, and ends it.
        unsafe {
            let is_user = libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(65534) == 0
                && libc::setuid(user) == 0;
            let is_true = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
            libc::_exit(i32::from(!(is_user && is_true)));
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is written to this variable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status == 0
}

#[test]
fn a_group_revokes_a_permit_in_a_sticky_directory() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become two users");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = dir("sticky");
    let set =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(&dir, 0o1777);
    let (owner, member) = (65534, 65533);
    assert!(as_user(owner, || std::fs::write(&path, "x").is_ok()));
    set(&path, 0o660);
    let segment = std::fs::File::open(&path).unwrap();
    let name = || FileName::new(&path, segment.as_fd()).unwrap();
    let inner = |number| dir.join(permit::dir_name(number)).join("permit");
    // Each permit is left by a stopped or dead process: of the owner, then of root.
    for stopped in [owner, 0] {
        let permits = || {
            let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
            let number = |name: OsString| {
                u64::from_str_radix(name.to_str()?.strip_prefix(".pagemate-removal.")?, 16).ok()
            };
            entries.filter_map(number).collect::<Vec<_>>()
        };
        assert!(as_user(stopped, || name().permit().is_ok()));
        let [permit] = permits()[..] else { panic!() };
        let held = Permit(open_dir(&inner(permit)).unwrap());
        assert!(as_user(member, || name().revoke(permit).is_ok()));
        assert!(as_user(member, || name().revoke(permit).is_ok()), "twice");
        assert!(as_user(stopped, || !name().take(&held).unwrap()), "it was revoked");
        let sweep = || complete(&open_dir(&dir).unwrap(), &dir, OsStr::new(&permit::dir_name(permit)));
        assert!(as_user(owner, || sweep().is_ok()));
        assert!(permits().is_empty() && path.exists());
    }
    // This permit was used, and contains the file.
    let (permit, _) = name().permit().unwrap();
    std::fs::rename(&path, inner(permit).join("pagemate.x")).unwrap();
    assert!(as_user(member, || name().revoke(permit).is_ok()));
    assert!(inner(permit).join("pagemate.x").exists());
    assert!(as_user(owner, || name().revoke(permit).is_ok()));
    std::fs::remove_dir(&dir).expect("nothing stays");
}

#[test]
fn a_failed_revocation_names_the_owner_of_the_permit() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = dir("whose");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::write(&path, "x").unwrap();
    let segment = std::fs::File::open(&path).unwrap();
    let name = FileName::new(&path, segment.as_fd()).unwrap();
    let (permit, _) = name.permit().unwrap();
    assert!(as_user(65533, || {
        let error = name.revoke(permit).unwrap_err();
        let text = error.to_string();
        error.kind() == ErrorKind::PermissionDenied
            && text.contains("user 0 or root")
            && text.contains(&permit::dir_name(permit))
    }));
    name.revoke(permit).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir(&dir).unwrap();
}

#[test]
fn a_file_moved_aside_is_recognised_by_its_name() {
    let file = |entry: &'static str| file_aside(OsStr::new(entry)).and_then(OsStr::to_str);
    assert_eq!(file(".pagemate-aside.0123456789abcdef.pagemate.x.y"), Some("pagemate.x.y"));
    for none in [
        ".pagemate-aside.0123456789abcdef",
        ".pagemate-aside.0123456789abcdef.thesis",
        ".pagemate-aside.mine.pagemate.x",
        ".pagemate-removal.0123456789abcdef.pagemate.x",
        "pagemate.x",
    ] {
        assert_eq!(file(none), None, "{none}");
    }
}

#[test]
fn a_forged_permit_is_not_accepted() {
    let (dir, path) = dir("forged");
    std::fs::write(&path, "a newer segment").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let name = FileName::new(&path, file.as_fd()).unwrap();
    let (number, permit) = name.permit().unwrap();
    let forged = dir.join(permit::dir_name(number));
    // The permit is revoked, and another process makes a directory of that name.
    name.revoke(number).unwrap();
    std::fs::create_dir(&forged).unwrap();
    assert!(!name.take(&permit).unwrap());
    assert!(name.is_ours().unwrap());
    std::fs::write(forged.join("keep"), "").unwrap();
    name.revoke(number).unwrap();
    assert!(forged.join("keep").exists());
    let (number, permit) = name.permit().unwrap();
    assert!(name.take(&permit).unwrap());
    name.revoke(number).unwrap();
    assert!(!name.is_ours().unwrap());
    std::fs::remove_dir_all(&forged).unwrap();
    std::fs::remove_dir(&dir).expect("nothing stays");
}
