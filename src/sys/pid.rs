//! Process ids as owners, where there is no table of participants: who one is, and who is dead.
//!
//! Much weaker than a participant's file lock: a pid means something only inside of its pid namespace, and comes to mean
//! another process some time after its own has ended. Then the dead one looks alive, never the other way round.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{pidfd_open, Pid, PidfdFlags};

use super::{fork, process};

/// This process's id. A load, but for the first call in a process.
#[inline]
pub(crate) fn own() -> u32 {
    static OWN: AtomicU64 = AtomicU64::new(0);
    #[cold]
    fn ask() -> u32 {
        fork::count();
        let pid = std::process::id();
        OWN.store(u64::from(fork::epoch()) << 32 | u64::from(pid), Relaxed);
        pid
    }
    let known = OWN.load(Relaxed);
    if known as u32 != 0 && (known >> 32) as u32 == fork::epoch() {
        known as u32
    } else {
        ask()
    }
}

/// Which pid namespace this process is in; `None` without `/proc`.
pub(crate) fn namespace() -> Option<u32> {
    std::fs::metadata("/proc/self/ns/pid").ok().and_then(|namespace| namespace.ino().try_into().ok())
}

/// Whether no process has this id, or only one that has ended and was not waited for. In doubt it is alive.
pub(crate) fn is_dead(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => process::has_ended(pidfd.as_fd()),
        Err(why) => why == Errno::SRCH,
    }
}
