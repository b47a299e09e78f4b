//! An array as an observer sees it: bytes of elements, without the lock.

use crate::loom::atomic::AtomicU8;
use crate::loom::atomic::Ordering::Relaxed;

use crate::collections::array::{head_at, Head};

/// Limit for elements without bytes. The memory of an array bounds the number of others.
const UNITS_MAX: usize = 1024;

/// Returns the number of elements in the array at `base`, and the first `most` of them, up to
/// `most_bytes` bytes of each. An element has `size` bytes, aligned to `align`. The holder of the
/// lock may be writing, so an element may be half the old and half the new.
pub(crate) fn elements(
    base: *const u8,
    len: usize,
    (size, align): (usize, usize),
    (most, most_bytes): (usize, usize),
) -> Option<(u64, Vec<Vec<u8>>)> {
    let count = head_at(base, len)?.len.load(Relaxed);
    let first = align.max(size_of::<Head>());
    let room = len.checked_sub(first)?;
    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
    bytes.filter(|bytes| *bytes <= room)?;
    let element = |index: u64| {
        let (at, len) = (first + index as usize * size, size.min(most_bytes));
        // SAFETY: the observer keeps the object mapped for the time of the call, and all its
        // elements lie inside of it (checked above). Any bytes are atomic, and they are only
        // loaded.
        let bytes = unsafe { std::slice::from_raw_parts(base.add(at).cast::<AtomicU8>(), len) };
        bytes.iter().map(|byte| byte.load(Relaxed)).collect()
    };
    let most = if size == 0 { most.min(UNITS_MAX) } else { most };
    Some((count, (0..count.min(most as u64)).map(element).collect()))
}
