//! How a process that is copied by `fork` learns that it is a copy.
//!
//! A copy inherits no lock, and no descriptor that holds one: see [`crate::sys::hold`]. So nothing
//! has to be undone in it. It only has to know that it is a copy, because ids and guards of the
//! original are not its own. For that there is the *epoch*, a word in a page that the kernel zeroes
//! in every copy (`MADV_WIPEONFORK`): in a copy by `fork`, by `_Fork`, and by a bare `clone`
//! without `CLONE_VM`. A process that finds 0 takes a new epoch.
//!
//! # State of the epoch
//!
//! | value | meaning |
//! |---|---|
//! | 0 | this process has not used the library yet, or is a copy that has not |
//! | n | this process's, larger than that of every process that it was copied from |
//!
//! Code that stores an epoch elsewhere stores one that is not 0: it calls [`ensure_epoch`], or
//! attaches first, which calls it.
//!
//! The epoch has no model under loom. No two processes share it. So the only algorithm is one
//! exchange from 0, by threads that take the first epoch at once: the loser takes the value that it
//! finds. The kernel guarantees the rest. A copy of a process finds 0, and a [`LAST`] that is no
//! less than any epoch in its memory, because a write to a page that was copied already waits until
//! all pages are copied. That is tested on a kernel, below and in `tests/it/liveness.rs`.
//! The use of the epoch in [`crate::segment::membership::word`] has models.
//!
//! # Windows
//!
//! While a lock belongs to a descriptor, a copy of the process would share it. Those moments are
//! *windows*, and a handler keeps plain `fork`s of other threads out of them. `_Fork` and `clone`
//! run no handlers, so a copy that they make within a window keeps the lock alive until it ends or
//! closes its descriptors.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At least the size of a page, and aligned to one, so that nothing else is wiped.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "x86"), repr(C, align(4096)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "x86")), repr(C, align(65536)))]
struct Page(AtomicU32);

/// The epoch. Initialised to zero, so that it is memory without a file behind it, since only such
/// memory can be wiped.
static PAGE: Page = Page(AtomicU32::new(0));

/// The largest epoch that this process, or one that it was copied from, has taken. Not wiped.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Whether the kernel wipes the page; otherwise the handler does.
static IS_WIPED: AtomicBool = AtomicBool::new(false);

/// Returns a number that differs between a process and its copies, by one load: for handles that
/// must not be used in both. 0 until [`ensure_epoch`].
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    PAGE.0.load(Relaxed)
}

/// Returns the epoch, after making sure that this process has one. Takes no lock, because a copy of
/// the process may find it held for ever.
#[inline]
pub(crate) fn ensure_epoch() -> u32 {
    match epoch() {
        0 => begin(),
        epoch => epoch,
    }
}

#[cold]
fn begin() -> u32 {
    static HAS_HANDLERS: AtomicBool = AtomicBool::new(false);
    let page = (&raw const PAGE).cast_mut().cast();
    // SAFETY: the range is a static that is whole pages long and aligned. The advice changes only
    // the memory of copies.
    if unsafe { libc::madvise(page, size_of::<Page>(), libc::MADV_WIPEONFORK) } == 0 {
        IS_WIPED.store(true, Relaxed);
    }
    if !HAS_HANDLERS.swap(true, Relaxed) {
        // SAFETY: the three handlers are plain functions with static lifetime; none of them
        // unwinds.
        unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    }
    let next = LAST.fetch_add(1, Relaxed).wrapping_add(1).max(1);
    match PAGE.0.compare_exchange(0, next, Relaxed, Relaxed) {
        Ok(_) => next,
        Err(other) => other,
    }
}

/// The longest time that a fork waits for the windows of other threads, so that it cannot hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of threads with open windows, and the number of forks that wait for them.
#[derive(Debug)]
struct Gate {
    open: usize,
    forks: usize,
}

static GATE: Mutex<Gate> = Mutex::new(Gate { open: 0, forks: 0 });
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// The number of windows that this thread has open.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// While it exists, a lock may belong to a descriptor of this process, and no other thread forks.
#[derive(Debug)]
pub(crate) struct Window(PhantomData<*const ()>);

/// Opens a [`Window`]. Within it, open the description that is to be locked, and close it.
pub(crate) fn window() -> Window {
    ensure_epoch();
    let depth = DEPTH.get();
    if depth == 0 {
        let gate = wait_while(gate(), |gate| gate.forks > 0);
        { gate }.open += 1;
    }
    DEPTH.set(depth + 1);
    Window(PhantomData)
}

impl Drop for Window {
    fn drop(&mut self) {
        let depth = DEPTH.get().saturating_sub(1);
        DEPTH.set(depth);
        if depth == 0 {
            let mut gate = gate();
            gate.open = gate.open.saturating_sub(1);
            drop(gate);
            CHANGED.notify_all();
        }
    }
}

fn gate() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits while `condition` holds, for a bounded time.
fn wait_while(
    mut gate: MutexGuard<'static, Gate>,
    condition: impl Fn(&Gate) -> bool,
) -> MutexGuard<'static, Gate> {
    let end = Instant::now() + PATIENCE;
    while condition(&gate) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        gate = CHANGED.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    gate
}

/// The guard that the forking thread holds from before the fork until after it, in parent and
/// child.
static HELD: Held = Held(std::cell::UnsafeCell::new(None));

struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Gate>>>);

// SAFETY: the cell is touched only between `before` and `after_*`, by the one thread that holds the
// lock of the gate.
unsafe impl Sync for Held {}

/// Returns the number of open windows that are the forking thread's own. It does not wait for
/// itself.
fn own() -> usize {
    usize::from(DEPTH.get() > 0)
}

extern "C" fn before() {
    let mut gate = gate();
    gate.forks += 1;
    let own = own();
    let gate = wait_while(gate, |gate| gate.open > own);
    // SAFETY: this thread holds the lock, so nobody else is between `before` and `after_*`.
    unsafe { *HELD.0.get() = Some(gate) };
}

extern "C" fn after_in_parent() {
    // SAFETY: as in `before`; the guard is released by the thread that took it.
    if let Some(mut gate) = unsafe { (*HELD.0.get()).take() } {
        gate.forks = gate.forks.saturating_sub(1);
    }
    CHANGED.notify_all();
}

extern "C" fn after_in_child() {
    if !IS_WIPED.load(Relaxed) {
        PAGE.0.store(0, Relaxed);
    }
    // SAFETY: as in `before`: the child's only thread is the copy of the one that holds the lock.
    if let Some(mut gate) = unsafe { (*HELD.0.get()).take() } {
        *gate = Gate { open: own(), forks: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_wipes_the_epoch() {
        let epoch = ensure_epoch();
        assert!(epoch != 0 && epoch == ensure_epoch());
        assert!(IS_WIPED.load(Relaxed), "MADV_WIPEONFORK was refused");
        // SAFETY: a bare clone runs no handlers; the child ends at once.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as libc::pid_t;
        if child == 0 {
            let (before, after) = (self::epoch(), ensure_epoch());
            // SAFETY: ends the child.
            unsafe { libc::_exit((before != 0 || after <= epoch) as i32) };
        }
        let mut status = 0;
        // SAFETY: the child is ours, and the status is written to this variable.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
    }
}
