//! An array as an observer sees it: bytes of elements, without the lock.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::{head_at, Head};

/// How many elements of `size` bytes, aligned to `align`, the array at `base` has, and the first of them: up to `most` of them, and so many
/// bytes of each. Who holds the lock may be writing: an element may be half the old and half the new.
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
        let at = first + index as usize * size;
        // SAFETY: the object is mapped as long as somebody looks at it, and all its elements lie inside of it (checked above). Any
        // bytes are atomic, and they are only loaded.
        let bytes =
            unsafe { std::slice::from_raw_parts(base.add(at).cast::<AtomicU8>(), size.min(most_bytes)) };
        bytes.iter().map(|byte| byte.load(Relaxed)).collect()
    };
    Some((count, (0..count.min(most as u64)).map(element).collect()))
}
