//! Leaving at a normal end of the process, for handles that nothing drops.
//!
//! Three kinds of handles are not dropped: those in statics, those in threads that are still
//! running, and all of a program that calls `process::exit`. Without this module the name would
//! stay until another process finds the segment stale. So a handler that runs at exit removes the
//! names of the segments that nobody else is in.
//!
//! Other threads of the process still run then, and may use the segment until the very end. So the
//! handler does not leave the segment. The lock stays, and with it everything that this process
//! holds. The handler marks the process's line as leaving. A process that checks whether others are
//! in the segment does not count such a line. Of two processes that exit at once, each marks its
//! line before it checks, so at least one finds no other.
//!
//! A thread that is just leaving a segment may be half way through the removal of the name. The
//! handler cannot take over from it. So it waits for such threads first, some milliseconds at most.
//!
//! The handler does not run after `_exit`, an abort, an `exec` or a signal, so to others these are
//! crashes. A copy made by `fork` that has not used the segment is not in it, and removes nothing.

use std::sync::atomic::{fence, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};

use crate::segment::attachment::Attachment;
use crate::sys::clock::Backoff;
use crate::sys::fork;

/// All attachments of this process to segments that have names, and some that were dropped.
static NAMED: Mutex<Vec<Weak<Attachment>>> = Mutex::new(Vec::new());

/// The number of threads that are leaving a segment.
static LEAVING: AtomicUsize = AtomicUsize::new(0);

/// A thread that is leaving a segment, until this is dropped.
pub(crate) struct Leaving;

impl Leaving {
    pub(crate) fn begin() -> Leaving {
        LEAVING.fetch_add(1, SeqCst);
        Leaving
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        LEAVING.fetch_sub(1, SeqCst);
    }
}

/// Attempts to lock the list. In a child of `_Fork` or `clone`, a lock that another thread held
/// stays locked for ever.
const TRIES: usize = 30;

fn named() -> Option<MutexGuard<'static, Vec<Weak<Attachment>>>> {
    let mut backoff = Backoff::new();
    for _ in 0..TRIES {
        if let Ok(named) = NAMED.try_lock() {
            return Some(named);
        }
        backoff.pause();
    }
    None
}

/// Makes the normal end of this process remove the segment's name, if nobody else is in it.
pub(crate) fn watch(attachment: &Arc<Attachment>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a plain function that is never unloaded and does not unwind.
        unsafe { libc::atexit(at_exit) };
    });
    // No other thread forks while this one has the list, because the copy could never lock it.
    let _window = fork::window();
    let Some(mut named) = named() else { return };
    if named.len() == named.capacity() {
        named.retain(|attachment| attachment.strong_count() > 0);
    }
    named.push(Arc::downgrade(attachment));
}

extern "C" fn at_exit() {
    let _ = std::panic::catch_unwind(|| {
        // In a forked child the count may be that of a thread which only the parent has.
        let mut backoff = Backoff::new();
        (0..TRIES).take_while(|_| LEAVING.load(SeqCst) > 0).for_each(|_| backoff.pause());
        let attached: Vec<_> = named()
            .into_iter()
            .flat_map(|named| named.iter().filter_map(Weak::upgrade).collect::<Vec<_>>())
            .collect();
        for attachment in &attached {
            if let Some(owner) = attachment.membership.owner() {
                attachment.view().line(owner.index()).set_leaving(owner);
            }
        }
        fence(SeqCst); // of two that exit at once, one at least sees both marks
        for attachment in &attached {
            if attachment.membership.owner().is_some() {
                // The next opener repairs what fails here.
                let _ = attachment.remove_if_last();
            }
        }
        // Not dropped here, where it might be the last one, because a thread may still be using
        // what it holds.
        std::mem::forget(attached);
    });
}
