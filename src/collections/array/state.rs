//! The memory side of an array: a robust lock, the number of elements, and the elements.
//!
//! [`robust_lock`](crate::sync::robust_lock) explains the lock: its states, and what a death means.
//! Every access takes the lock, also to a single element, because the holder of the guard has a
//! plain slice, which nobody else may write to meanwhile.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..8 | the robust lock |
//! | 8..16 | number of elements; written once |
//! | 16, or the elements' alignment | the elements |
//!
//! # Memory ordering
//!
//! The elements belong to the holder, so the order of the lock is theirs.
//!
//! # Death
//!
//! - **Holder of a guard dies.** Noticed by: see the lock. Repair: the next holder gets
//!   `OwnerDied`, and may repair. Lost: elements may be half written.
//! - **Dies in `get`.** Noticed by: the same. Repair: the next holder gets `OwnerDied`, and finds
//!   nothing changed. Lost: nothing.
//! - **Dies in `set`.** Noticed by: the same. Repair: the next holder gets `OwnerDied`. Lost: the
//!   element may be half written.

use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};

use crate::segment::owner::OwnerId;
use crate::sync::robust_lock::RobustLock;

/// The fields in front of the elements. Any bytes are a Head.
#[repr(C)]
pub(crate) struct Head {
    pub(super) lock: RobustLock,
    pub(crate) len: AtomicU64,
}

const _: () = assert!(size_of::<Head>() == 16);

/// Returns the head of the array at `base`, if `len` is long enough for one.
pub(crate) fn head_at<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // Head.
    (len >= size_of::<Head>()).then(|| unsafe { &*base.cast::<Head>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(head) = head_at(base, len) {
        head.lock.recover(dead);
    }
}

/// Returns what `pagemate show` prints about an array.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(head) = head_at(base, len) else { return Vec::new() };
    let mut lines = vec![("elements", head.len.load(Relaxed).to_string())];
    lines.extend(head.lock.describe());
    lines
}
