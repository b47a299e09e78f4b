//! The children of this process: the running ones, and those to be reaped without a handle.
//!
//! A handle that is dropped while its child runs leaves the child to one thread, the reaper, which
//! waits for such children so that they leave no zombies. The thread starts with the first of them
//! and ends with the last.
//!
//! # Fork
//!
//! Everything here belongs to one process. A forked child creates its own registry at the first
//! use. It leaks the inherited one, because threads that were not copied may hold its locks for
//! ever.

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::sys::clock::{timespec, Deadline};
use crate::sys::descriptor::Own;
use crate::sys::process::{background, has_ended, reap, wait_for_end, Ended, KEPT};
use crate::Result;

/// Maximum time of one sleep on a descriptor, before a check that it is still open.
const SLICE: Duration = Duration::from_secs(1);

/// One child, as its handle and the registry share it.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// The process that started the child. No other can wait for it.
    pub(crate) parent: u32,
    pidfd: Own,
    ended: Mutex<Option<Ended>>,
}

impl Child {
    pub(crate) fn new(pid: u32, name: String, daemon: bool, pidfd: Own) -> Child {
        Child { pid, name, daemon, parent: std::process::id(), pidfd, ended: Mutex::new(None) }
    }

    /// Returns its pidfd, or the file that the program has put in its place.
    pub(crate) fn raw_pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.number()
    }

    /// Returns its pidfd; `None` if the program has closed it.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.get()
    }

    /// Returns its pidfd, if that will become readable when the child ends, and is not readable
    /// now.
    pub(crate) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd().filter(|pidfd| !has_ended(*pidfd))
    }

    /// Reaps the child if it has ended, and returns how it ended. Only for its parent.
    ///
    /// Also returns `None` if the child has ended, but a process that traces it has not waited for
    /// it (ptrace(2)).
    pub(crate) fn reap(&self) -> Option<Ended> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = reap(self.pidfd(), self.pid);
        }
        *ended
    }

    /// Blocks until it has ended and could be reaped; `None` if the deadline passed before.
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<Option<Ended>> {
        loop {
            // In slices, because a sleep in poll does not notice that the program closes the
            // descriptor.
            let slice = deadline.min(Deadline::after(SLICE));
            match self.pidfd().map(|pidfd| wait_for_end(pidfd, slice)) {
                Some(Ok(false)) if deadline.has_passed() => return Ok(None),
                Some(Ok(false)) => continue,
                Some(Err(error)) if self.pidfd().is_some() => return Err(error),
                _ => {}
            }
            if let Some(ended) = self.reap() {
                return Ok(Some(ended));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            // Either its tracer has not waited for it, and the pidfd is readable all the time, or
            // there is no pidfd.
            std::thread::sleep(KEPT);
        }
    }

    /// Returns its exit status, if it has ended and no other code took the status.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        match self.reap()? {
            Ended::Status(status) => Some(status),
            Ended::Unknown => None,
        }
    }
}

#[derive(Debug)]
struct Registry {
    process: u32,
    state: Mutex<State>,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Children that are not known to have ended.
    children: Vec<Arc<Child>>,
    /// The children among them without a handle.
    orphans: Vec<Arc<Child>>,
    /// Wakes the reaper; `None` if it does not run.
    reaper: Option<Arc<Own>>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

/// Returns the registry of this process.
fn registry() -> &'static Registry {
    let process = std::process::id();
    loop {
        // Pairs with the exchange below.
        let current = REGISTRY.load(Ordering::Acquire);
        // SAFETY: null, or a registry that was leaked when it was put here.
        if let Some(registry) = unsafe { current.as_ref() }.filter(|registry| registry.process == process) {
            return registry;
        }
        let new = Box::new(Registry { process, state: Mutex::default(), count: AtomicU64::new(0) });
        let new = Box::into_raw(new);
        if REGISTRY.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: no other thread has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    registry().state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of the next child of this process, for its name.
pub(crate) fn next_number() -> u64 {
    registry().count.fetch_add(1, Ordering::Relaxed) + 1
}

/// Registers a child that was started.
pub(crate) fn add(child: Arc<Child>) {
    state().children.push(child);
}

/// Removes a child that has ended and was reaped.
pub(crate) fn forget(child: &Arc<Child>) {
    state().children.retain(|other| !Arc::ptr_eq(other, child));
}

/// Returns the running children, oldest first.
pub(crate) fn running() -> Vec<Arc<Child>> {
    let mut state = state();
    state.children.retain(|child| child.reap().is_none());
    state.children.clone()
}

/// Leaves a child without a handle to the reaper.
pub(crate) fn leave(child: Arc<Child>) {
    if child.reap().is_some() {
        return forget(&child);
    }
    let mut state = state();
    state.orphans.push(child);
    match &state.reaper {
        Some(waker) => wake(waker),
        // If the reaper cannot be started, the next dropped handle tries again.
        None => state.reaper = start_reaper(),
    }
}

fn wake(waker: &Own) {
    // Fails only if the counter is full, and then the reaper is awake.
    let _ = waker.get().map(|waker| rustix::io::write(waker, &1u64.to_ne_bytes()));
}

fn start_reaper() -> Option<Arc<Own>> {
    let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).and_then(Own::new);
    let waker = Arc::new(waker.ok()?);
    let own = waker.clone();
    background("pagemate-reaper", move || reap_orphans(&own)).ok()?;
    Some(waker)
}

/// Waits for orphans until none are left.
fn reap_orphans(waker: &Own) {
    loop {
        let orphans = {
            let mut state = state();
            let all = std::mem::take(&mut state.orphans);
            let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|child| child.reap().is_some());
            state.children.retain(|child| !gone.iter().any(|other| Arc::ptr_eq(other, child)));
            state.orphans = left;
            if state.orphans.is_empty() {
                state.reaper = None;
                return;
            }
            state.orphans.clone()
        };
        // A child that a tracer keeps would be readable all the time; the program may have closed a
        // pidfd.
        let waker = waker.get();
        let watched = || orphans.iter().filter_map(|child| child.watched()).chain(waker);
        let mut watched: Vec<_> =
            watched().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
        let is_blind = watched.len() <= orphans.len();
        let again = timespec(if is_blind { KEPT } else { SLICE }.as_nanos() as u64);
        match poll(&mut watched, Some(&again)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => {
                // Out of memory: the next dropped handle starts another reaper.
                state().reaper = None;
                return;
            }
        }
        let _ = waker.map(|waker| rustix::io::read(waker, &mut [0u8; 8]));
    }
}
