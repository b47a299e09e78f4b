//! Who this process is, who started it, and whom it started.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::process::registry;
use crate::sys::clock::Deadline;
use crate::sys::process::{has_ended, wait_for_end};
use crate::Result;

/// The name of a process that nobody started with [`Process::spawn`](crate::Process::spawn).
pub(crate) const MAIN: &str = "MainProcess";

/// What a child knows of itself and its parent.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Whose it is: not that of a fork.
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) parent: Arc<OwnedFd>,
}

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// Said once, on the way in.
pub(crate) fn set_origin(origin: Origin) {
    let _ = ORIGIN.set(origin);
}

/// This process: what it is called, and whether it ends with its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentProcess {
    name: String,
    pid: u32,
    daemon: bool,
}

impl CurrentProcess {
    /// Its name: as given to it, `Process-N`, or `MainProcess` if pagemate did not start it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// This process.
///
/// ```
/// # use pagemate::Process;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// assert_eq!(pagemate::current_process().name(), "MainProcess");
/// let child = Process::builder().name("worker").spawn(|()| pagemate::current_process().name().to_owned(), ())?;
/// assert_eq!(child.join()?, "worker");
/// # Ok(())
/// # }
/// ```
pub fn current_process() -> CurrentProcess {
    let pid = std::process::id();
    match ORIGIN.get().filter(|origin| origin.pid == pid) {
        Some(origin) => CurrentProcess { name: origin.name.clone(), pid, daemon: origin.daemon },
        None => CurrentProcess { name: MAIN.to_owned(), pid, daemon: false },
    }
}

/// The process that started this one. It is known by a pidfd, so no other process can be taken for it.
#[derive(Debug, Clone)]
pub struct ParentProcess {
    name: String,
    pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl ParentProcess {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. May mean another process once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended: may end the moment after.
    pub fn is_alive(&self) -> bool {
        !has_ended(self.pidfd.as_fd())
    }

    /// Blocks until it has ended, for `timeout` at most. False if it has not.
    ///
    /// # Errors
    ///
    /// `System`: out of memory for the system call.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        wait_for_end(self.pidfd.as_fd(), Deadline::after(timeout))
    }

    /// A descriptor that becomes readable when it has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

/// The process that started this one with [`Process::spawn`](crate::Process::spawn); `None` in the main process, and in
/// what was made by a `fork`.
pub fn parent_process() -> Option<ParentProcess> {
    let origin = ORIGIN.get().filter(|origin| origin.pid == std::process::id())?;
    let Origin { parent_name, parent_pid, parent, .. } = origin;
    Some(ParentProcess { name: parent_name.clone(), pid: *parent_pid, pidfd: parent.clone() })
}

/// A child of this process that had not ended when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningChild {
    name: String,
    pid: u32,
    daemon: bool,
}

impl RunningChild {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// The children of this process that run, oldest first, with or without a handle: each may end the moment after.
///
/// ```
/// # use pagemate::{Event, Process};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let go = Event::new()?;
/// let child = Process::builder().name("worker").spawn(|go: Event| go.wait(), go.clone())?;
/// let names: Vec<String> = pagemate::active_children().iter().map(|child| child.name().to_owned()).collect();
/// assert_eq!(names, ["worker"]);
/// go.set();
/// child.join()?;
/// assert!(pagemate::active_children().is_empty());
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<RunningChild> {
    registry::running()
        .into_iter()
        .map(|child| RunningChild { name: child.name.clone(), pid: child.pid, daemon: child.daemon })
        .collect()
}
