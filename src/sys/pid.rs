//! Process ids as owners, where there is no table of participants: this process's own id, and
//! whether another one is dead.
//!
//! Much weaker than a participant's file lock. A pid is valid only in its pid namespace, and the
//! kernel reuses it some time after its process has ended. Then the dead process seems alive, never
//! the other way round.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{pidfd_open, Pid, PidfdFlags};

use super::{fork, process};

/// Returns this process's id. A load, except for the first call in a process.
#[inline]
pub(crate) fn own() -> u32 {
    static OWN: AtomicU64 = AtomicU64::new(0);
    #[cold]
    fn ask() -> u32 {
        let epoch = fork::ensure_epoch();
        let pid = std::process::id();
        OWN.store(u64::from(epoch) << 32 | u64::from(pid), Relaxed);
        pid
    }
    let known = OWN.load(Relaxed);
    if known as u32 != 0 && (known >> 32) as u32 == fork::epoch() {
        known as u32
    } else {
        ask()
    }
}

/// Returns the pid namespace of this process; `None` without `/proc`.
pub(crate) fn namespace() -> Option<u32> {
    std::fs::metadata("/proc/thread-self/ns/pid").ok().and_then(|namespace| namespace.ino().try_into().ok())
}

/// Returns whether no process has this id, or only one that has ended and was not waited for. If
/// that is unknown, the process counts as alive.
pub(crate) fn is_dead(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => process::has_ended(pidfd.as_fd()),
        Err(why) => why == Errno::SRCH,
    }
}
