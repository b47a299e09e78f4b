//! Processes: arguments and results, every way to end, daemons, zombies and descriptors. Deaths are
//! real signals.
//!
//! A test that counts descriptors, threads or children does so in a child of its own, where no
//! other test disturbs it.

mod current;
mod ends;
mod handles;
mod leaks;
mod numbers;
mod surroundings;
mod values;

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use pagemate::Process;

pub(crate) use crate::support::until;

/// Longer than any call takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Runs `body` in a process of its own.
#[track_caller]
pub(crate) fn alone(body: fn(())) {
    Process::spawn(body, ()).unwrap().join().unwrap();
}

/// Returns whether the descriptor becomes readable in time.
pub(crate) fn becomes_readable(file: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which is ours.
    unsafe { libc::poll(&mut poll, 1, LONG.as_millis() as i32) == 1 }
}

/// Opens a pidfd of any process.
pub(crate) fn pidfd(pid: u32) -> OwnedFd {
    // SAFETY: a system call without pointers; it returns a new descriptor, or -1.
    unsafe {
        let file = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        assert!(file >= 0, "no process {pid}");
        OwnedFd::from_raw_fd(file)
    }
}

/// Returns the open descriptors of this process, and what they refer to.
pub(crate) fn descriptors() -> Vec<(i32, PathBuf)> {
    let own = fs::read_dir("/proc/self/fd").unwrap();
    let mut list: Vec<_> = own
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            Some((path.file_name()?.to_str()?.parse().ok()?, fs::read_link(&path).ok()?))
        })
        .filter(|(_, to)| !to.ends_with("fd"))
        .collect();
    list.sort();
    list
}

/// Returns the pids of all children that the kernel knows, zombies included.
pub(crate) fn kernel_children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// Returns the number of threads of this process.
pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
