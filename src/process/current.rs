//! This process, its parent and its children.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::process::children;
use crate::sys::clock::Deadline;
use crate::sys::descriptor::Own;
use crate::sys::process::{has_ended, wait_for_end};
use crate::Result;

/// The name of a process that was not started with [`Process::spawn`](crate::Process::spawn).
pub(crate) const MAIN: &str = "MainProcess";

/// A child's knowledge of itself and its parent.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The process that it belongs to, which is not a fork of it.
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) parent: Arc<Own>,
}

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// Stores the origin, once, when the child begins.
pub(crate) fn set_origin(origin: Origin) {
    let _ = ORIGIN.set(origin);
}

/// The name and kind of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentProcess {
    name: String,
    pid: u32,
    daemon: bool,
}

impl CurrentProcess {
    /// Returns its name: the chosen one, `Process-N`, or `MainProcess` if pagemate did not start
    /// it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// Returns a description of this process.
///
/// ```
/// # use pagemate::Process;
/// use pagemate::process::current_process;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// assert_eq!(current_process().name(), "MainProcess");
/// let named = |()| current_process().name().to_owned();
/// let child = Process::builder().name("worker").spawn(named, ())?;
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

/// The process that started this one. It is known by a pidfd, so no other process can be taken for
/// it.
#[derive(Debug, Clone)]
pub struct ParentProcess {
    name: String,
    pid: u32,
    pidfd: Arc<Own>,
}

impl ParentProcess {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its process id, which may be that of another process once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it has not ended. It may end the moment after.
    pub fn is_alive(&self) -> bool {
        !self.pidfd.get().is_some_and(has_ended)
    }

    /// Blocks until it has ended, for `timeout` at most. Returns whether it has.
    ///
    /// # Errors
    ///
    /// `System`: out of memory for the system call, or the program has closed the descriptor.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        wait_for_end(self.pidfd.proved()?, Deadline::after(timeout))
    }
}

/// A descriptor that becomes readable when the parent has ended.
impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.number()
    }
}

/// Returns the process that started this one with [`Process::spawn`](crate::Process::spawn); `None`
/// in the main process, and in a process that was created by `fork`.
pub fn parent_process() -> Option<ParentProcess> {
    let origin = ORIGIN.get().filter(|origin| origin.pid == std::process::id())?;
    let Origin { parent_name, parent_pid, parent, .. } = origin;
    Some(ParentProcess { name: parent_name.clone(), pid: *parent_pid, pidfd: parent.clone() })
}

/// A child of this process that was running when the list was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningChild {
    name: String,
    pid: u32,
    daemon: bool,
}

impl RunningChild {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// Returns the running children of this process, oldest first, with or without a handle. Each may
/// end the moment after.
///
/// ```
/// # use pagemate::{Event, Process};
/// use pagemate::process::active_children;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let go = Event::new()?;
/// let child = Process::builder().name("worker").spawn(|go: Event| go.wait(), go.clone())?;
/// let children = active_children();
/// let names: Vec<_> = children.iter().map(|child| child.name()).collect();
/// assert_eq!(names, ["worker"]);
/// go.set();
/// child.join()?;
/// assert!(active_children().is_empty());
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<RunningChild> {
    children::running()
        .into_iter()
        .map(|child| RunningChild { name: child.name.clone(), pid: child.pid, daemon: child.daemon })
        .collect()
}
