//! The children of this process: who runs, and who is to be waited for although nobody holds a handle any more.
//!
//! A handle that is dropped while its child runs leaves it to one thread, the reaper, which waits for such children so that
//! they leave no zombies. It is started for the first and ends with the last of them.
//!
//! # Fork
//!
//! Everything here belongs to one process. A forked child makes a registry of its own at the first use and leaks the
//! inherited one, whose locks might be held for ever by threads that were not copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::sys::process::{background, reap, Ended};

/// One child, as its handle and the registry know it.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// The process that started it, and that alone can wait for it.
    pub(crate) parent: u32,
    pidfd: OwnedFd,
    ended: Mutex<Option<Ended>>,
}

impl Child {
    pub(crate) fn new(pid: u32, name: String, daemon: bool, pidfd: OwnedFd) -> Child {
        Child { pid, name, daemon, parent: std::process::id(), pidfd, ended: Mutex::new(None) }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has; then nothing is left of it in the kernel. Only for its parent.
    pub(crate) fn reap(&self) -> Option<Ended> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = reap(self.pidfd());
        }
        *ended
    }

    /// Its exit status, if it has ended and nobody else took it.
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
    count: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// Children that have not been seen to have ended.
    children: Vec<Arc<Child>>,
    /// Those among them without a handle.
    orphans: Vec<Arc<Child>>,
    /// Wakes the reaper; none: it does not run.
    reaper: Option<Arc<OwnedFd>>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

/// The registry of this process.
fn registry() -> &'static Registry {
    let process = std::process::id();
    loop {
        let current = REGISTRY.load(Ordering::Acquire); // pairs with the exchange below
                                                        // SAFETY: null, or a registry that was leaked when it was put here.
        if let Some(registry) = unsafe { current.as_ref() }.filter(|registry| registry.process == process) {
            return registry;
        }
        let new = Box::new(Registry { process, state: Mutex::default(), count: AtomicU32::new(0) });
        let new = Box::into_raw(new);
        if REGISTRY.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    registry().state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the children of this process, for their names.
pub(crate) fn next_number() -> u32 {
    registry().count.fetch_add(1, Ordering::Relaxed) + 1
}

/// A child was started.
pub(crate) fn add(child: Arc<Child>) {
    state().children.push(child);
}

/// The child has ended and was waited for.
pub(crate) fn forget(child: &Arc<Child>) {
    state().children.retain(|other| !Arc::ptr_eq(other, child));
}

/// The children that run, oldest first.
pub(crate) fn running() -> Vec<Arc<Child>> {
    let mut state = state();
    state.children.retain(|child| child.reap().is_none());
    state.children.clone()
}

/// From now on nobody holds a handle of the child: it is waited for in the background.
pub(crate) fn leave(child: Arc<Child>) {
    if child.reap().is_some() {
        return forget(&child);
    }
    let mut state = state();
    state.orphans.push(child);
    match &state.reaper {
        Some(waker) => wake(waker),
        // If there is no reaper to be had, the next dropped handle tries again.
        None => state.reaper = start_reaper(),
    }
}

fn wake(waker: &OwnedFd) {
    // Fails only if the counter is full, and then the reaper is awake.
    let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
}

fn start_reaper() -> Option<Arc<OwnedFd>> {
    let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
    let own = waker.clone();
    background("pagemate-reaper", move || reap_orphans(&own)).ok()?;
    Some(waker)
}

/// Waits for orphans until there are none.
fn reap_orphans(waker: &OwnedFd) {
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
        let mut watched = vec![PollFd::new(waker, PollFlags::IN)];
        watched.extend(orphans.iter().map(|child| PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)));
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => {
                // Out of memory: the next dropped handle starts another one.
                state().reaper = None;
                return;
            }
        }
        let _ = rustix::io::read(waker, &mut [0u8; 8]);
    }
}
