//! Long messages of a queue, in use: views into its memory.
//!
//! A lease is a [`Buffer`] that this process owns, mapped once more by itself. The memory is freed
//! when the last view is gone, or the process. A child that the process forks has the views, too,
//! but not the buffer, which would be freed and used for other messages while the child reads it.
//! So before a fork each mapping is replaced by a copy of its own, at the same address.
//!
//! # Death
//!
//! | window | repaired by | lost |
//! |---|---|---|
//! | in use | the buffer is freed: see [`Buffer`] | nothing |
//! | copied for a fork, the mapping replaced or not | as above | nothing |

use std::cell::RefCell;
use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::{null_mut, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

use pagemate::collections::Buffer;
use rustix::io::Errno;
use rustix::mm::{
    mmap, mmap_anonymous, mprotect, mremap_fixed, munmap, MapFlags, MprotectFlags, MremapFlags, ProtFlags,
};

/// The leases of this process. Locked during a fork.
static LEASES: Mutex<Vec<Weak<Lease>>> = Mutex::new(Vec::new());

/// Memory of a message that was received.
pub(crate) struct Lease {
    at: NonNull<c_void>,
    len: usize,
    /// `None` once the memory is a copy.
    buffer: Mutex<Option<Buffer>>,
}

// SAFETY: nobody writes to the mapping, and any thread may unmap it.
unsafe impl Send for Lease {}
// SAFETY: as above.
unsafe impl Sync for Lease {}

impl Lease {
    /// Maps `len` bytes of a buffer, from the first page boundary on. `file` is its segment's. The
    /// buffer comes back if there is no room for another mapping.
    pub(crate) fn new(buffer: Buffer, len: usize, file: BorrowedFd<'_>) -> Result<Arc<Lease>, Buffer> {
        static HANDLERS: Once = Once::new();
        HANDLERS.call_once(|| {
            // SAFETY: the handlers take no lock that another handler takes.
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        });
        let offset = buffer.offset() + skipped(&buffer) as u64;
        // SAFETY: a new mapping, where the kernel wants it.
        let mapped = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, offset) };
        let Some(at) = mapped.ok().and_then(NonNull::new) else { return Err(buffer) };
        let lease = Arc::new(Lease { at, len, buffer: Mutex::new(Some(buffer)) });
        let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
        if leases.len() == leases.capacity() {
            leases.retain(|lease| lease.strong_count() > 0);
        }
        leases.push(Arc::downgrade(&lease));
        Ok(lease)
    }

    /// Returns the bytes, which can be read as long as `self` exists, and do not change.
    pub(crate) fn bytes(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.at.cast(), self.len)
    }

    /// Replaces the mapping by a copy. Returns the buffer, which is not needed any more.
    fn detach(&self) -> Option<Buffer> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.is_some() && self.copy().is_err() {
            // There is no memory. The buffer stays until the process ends, so that a child can read
            // as long.
            std::mem::forget(buffer.take());
        }
        buffer.take()
    }

    fn copy(&self) -> Result<(), Errno> {
        // SAFETY: a new mapping of the same length, which only this function uses, is written and
        // then put in place of the old one, whose bytes it has. Nobody notices.
        unsafe {
            let copy =
                mmap_anonymous(null_mut(), self.len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?;
            copy.copy_from_nonoverlapping(self.at.as_ptr(), self.len);
            let is_moved = mprotect(copy, self.len, MprotectFlags::READ).and_then(|()| {
                mremap_fixed(copy, self.len, self.len, MremapFlags::MAYMOVE, self.at.as_ptr())
            });
            if is_moved.is_err() {
                _ = munmap(copy, self.len);
            }
            is_moved.map(drop)
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: new() has mapped it, and nobody uses it any more.
        let unmapped = unsafe { munmap(self.at.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Returns the number of bytes of a buffer before its first page boundary. Less than
/// [`page_size`](rustix::param::page_size).
pub(crate) fn skipped(buffer: &Buffer) -> usize {
    let page = rustix::param::page_size() as u64;
    (buffer.offset().next_multiple_of(page) - buffer.offset()) as usize
}

/// The leases during a fork, and buffers that are not needed any more.
type Forking = (MutexGuard<'static, Vec<Weak<Lease>>>, Vec<Buffer>);

thread_local!(static FORKING: RefCell<Option<Forking>> = const { RefCell::new(None) });

extern "C" fn before_fork() {
    let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
    let old = leases.drain(..).filter_map(|lease| lease.upgrade()?.detach()).collect();
    FORKING.set(Some((leases, old)));
}

/// In the parent frees the buffers. In the child they are not its own, so this does nothing to
/// them.
extern "C" fn after_fork() {
    FORKING.set(None);
}
