//! A lock that lives in a mapping: it ends with the address space, and no descriptor can lose or
//! share it.
//!
//! An open-file-description lock is released when the last reference to its description is gone,
//! and a mapping is such a reference. So the descriptor is closed once a page is mapped through the
//! description. From then on `close`, `close_range`, `dup2` and SCM_RIGHTS have nothing to act on,
//! and `fork` does not copy the page (`MADV_DONTFORK`). Only the end of the address space, by death
//! or `exec`, or `munmap` releases the lock.

use std::io;
use std::os::fd::OwnedFd;

use libc::c_void;
use memmap2::{Advice, MmapOptions, MmapRaw};

/// The mapped page. Dropping it releases the locks of its description before `drop` returns.
///
/// It belongs to one process. A forked child has a copy of this value, but not the page. Forget the
/// copy there.
#[derive(Debug)]
pub(crate) struct Hold(MmapRaw);

/// Any length suffices, because the kernel maps whole pages.
const LEN: usize = 1;

impl Hold {
    /// Moves the locks of `file` into a mapping, and closes the descriptor.
    pub(crate) fn take(file: OwnedFd) -> io::Result<Hold> {
        let page = MmapOptions::new().len(LEN).map_raw_read_only(&file)?;
        page.advise(Advice::DontFork)?;
        // If it fails, a dump has one more page.
        let _ = page.advise(Advice::DontDump);
        Ok(Hold(page))
    }

    /// Returns the page as an address, for a place that threads share.
    pub(crate) fn into_raw(self) -> *mut c_void {
        Box::into_raw(Box::new(self.0)).cast()
    }

    /// Undoes [`into_raw`](Hold::into_raw). `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// The pointer is null or came from `into_raw` in this process, and this is called once for it.
    pub(crate) unsafe fn from_raw(page: *mut c_void) -> Option<Hold> {
        // SAFETY: by the contract, a pointer that is not null is a box's, and nothing else has it.
        (!page.is_null()).then(|| Hold(*unsafe { Box::from_raw(page.cast()) }))
    }
}
