//! What `fork` without `exec` does to attachments: the child must not keep its parent looking alive.
//!
//! A forked child shares its parent's open file descriptions, and with them the locks that say "the parent is alive". So
//! a handler in the child, which uses only async-signal-safe calls, puts a fresh description of the same file in the
//! place of each and clears the owner id; the handles of the child attach anew on their first use.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// The part of an attachment that a fork changes.
#[derive(Debug)]
pub(crate) struct Tie {
    /// Bits of the owner id; 0: this process is not attached (any more).
    pub(crate) owner: AtomicU32,
    /// The descriptor whose description holds the lock; negative once it is gone.
    pub(crate) file: AtomicI32,
}

static TIES: Mutex<Vec<Arc<Tie>>> = Mutex::new(Vec::new());

/// The guard that the forking thread holds from before the fork until after it, in parent and child.
static HELD: Held = Held(std::cell::UnsafeCell::new(None));

struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Vec<Arc<Tie>>>>>);

// SAFETY: the cell is touched only between `before` and `after_*`, by the one thread that holds the lock of TIES.
unsafe impl Sync for Held {}

fn ties() -> MutexGuard<'static, Vec<Arc<Tie>>> {
    TIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many forks lie between this process and the one that first attached to a segment.
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// Differs between a process and the children that it forks: one load, for handles that must not be used in both.
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.load(Relaxed)
}

/// From now on a fork changes the [`epoch`] in the child.
pub(crate) fn count() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the three handlers are plain functions that stay; none of them unwinds.
        unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    });
}

/// From now on a fork unties `tie` in the child.
pub(crate) fn watch(tie: Arc<Tie>) {
    count();
    ties().push(tie);
}

/// Forgets `tie`. Its descriptor may be closed while the returned guard keeps forks out.
pub(crate) fn forget(tie: &Arc<Tie>) -> impl Drop {
    let mut ties = ties();
    ties.retain(|other| !Arc::ptr_eq(other, tie));
    ties
}

extern "C" fn before() {
    let guard = ties();
    // SAFETY: this thread holds the lock, so nobody else is between `before` and `after_*`.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn after_in_parent() {
    // SAFETY: as in `before`; the guard is released by the thread that took it.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn after_in_child() {
    EPOCH.fetch_add(1, Relaxed);
    // SAFETY: as in `before`: the child's only thread is the copy of the one that holds the lock.
    let guard = unsafe { (*HELD.0.get()).take() };
    for tie in guard.iter().flat_map(|ties| ties.iter()) {
        untie(tie);
    }
}

/// Puts a fresh description in the place of the inherited one. Async-signal-safe: no allocation, no locks.
fn untie(tie: &Tie) {
    tie.owner.store(0, Relaxed);
    let file: RawFd = tie.file.load(Relaxed);
    if file < 0 {
        return;
    }
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = [0u8; 10];
    let mut count = 0;
    let mut rest = file;
    while count == 0 || rest > 0 {
        digits[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    for (place, digit) in path[14..].iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    // SAFETY: the path is NUL-terminated, and `file` is a descriptor that belongs to this attachment alone.
    unsafe {
        let fresh = libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC);
        if fresh >= 0 && libc::dup3(fresh, file, libc::O_CLOEXEC) >= 0 {
            libc::close(fresh);
        } else {
            // Without /proc the child cannot attach. It must not hold the parent's description either.
            libc::close(file);
            tie.file.store(-1, Relaxed);
        }
    }
}
