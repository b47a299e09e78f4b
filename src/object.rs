//! A reference to one object: the mapping that it is in, and where.

use std::cell::Cell;
use std::sync::Arc;

use crate::attachment::Attachment;
use crate::kind::Kind;
use crate::owner::OwnerId;
use crate::segment::view::Entry;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// A busy poll takes some 10 ns, so this is several times within the 40 ms.
const MISSES_A_LOOK: u32 = 4096;

/// What every handle stands on. Keeps the mapping alive; the last one of a process leaves the segment.
#[derive(Debug, Clone)]
pub(crate) struct ObjectRef {
    attachment: Arc<Attachment>,
    record: u64,
    base: *mut u8,
    len: usize,
    /// Who this process was when the reference was made, if it knew, and in which process that was: what does not have to be
    /// looked up. A lock whose first step waits for two pointers to be followed is half as fast.
    me: Option<OwnerId>,
    epoch: u32,
}

// SAFETY: the pointer is into a mapping that `attachment` keeps, and is only an address here: who reads or writes through
// it says why it may.
unsafe impl Send for ObjectRef {}
// SAFETY: as above; no method changes the fields.
unsafe impl Sync for ObjectRef {}

impl ObjectRef {
    /// The object that `entry` describes.
    pub(crate) fn new(attachment: Arc<Attachment>, entry: &Entry) -> ObjectRef {
        let base = attachment.base().wrapping_add(entry.object as usize);
        // In this order: a fork between the two makes the epoch an old one.
        let epoch = fork::epoch();
        let me = attachment.owner().ok();
        ObjectRef { attachment, record: entry.record, base, len: entry.len, me, epoch }
    }

    /// The object of `kind` whose record stands at this offset; for children, to whom the offset was given.
    pub(crate) fn at(attachment: Arc<Attachment>, record: u64, kind: Kind) -> Result<ObjectRef> {
        let entry = attachment.view().entries().map_while(Result::ok).find(|entry| entry.record == record);
        match entry {
            Some(entry) if entry.kind == kind as u32 => Ok(ObjectRef::new(attachment, &entry)),
            _ => Err(Error::new(
                ErrorKind::Corrupted,
                format!("the {} that was given to this process is not in its segment any more", kind.name()),
            )),
        }
    }

    /// First byte of the object; a multiple of 128.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Length in bytes, all of which are mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Offset of the record: what a child is told.
    pub(crate) fn record(&self) -> u64 {
        self.record
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    /// Who this process is in the object's words. Without a system call, but for the first call after a `fork`.
    #[inline(always)]
    pub(crate) fn owner(&self) -> Result<OwnerId> {
        match self.me {
            Some(me) if self.epoch == fork::epoch() => Ok(me),
            _ => self.attachment.owner(),
        }
    }

    /// Whether the participant exists. A system call.
    pub(crate) fn is_alive(&self, id: OwnerId) -> bool {
        self.attachment.is_alive(id)
    }

    /// Says that an attempt came to nothing. Who only ever tries, and never waits, must notice deaths too: every so many times
    /// this is a [`tend`](ObjectRef::tend), which makes system calls at most every 40 ms.
    #[inline]
    pub(crate) fn miss(&self) {
        thread_local! {
            static MISSES: Cell<u32> = const { Cell::new(0) };
        }
        let misses = MISSES.get().wrapping_add(1);
        MISSES.set(misses);
        if misses % MISSES_A_LOOK == 0 {
            self.tend();
        }
    }

    /// Looks for the dead; see [`Attachment::tend`].
    pub(crate) fn tend(&self) {
        self.attachment.tend();
    }
}
