//! A dict as an observer sees it: bytes of keys and values, from a mapping for reading only.
//!
//! It reads as any reader does ([`crate::collections::dict::read`]), which writes nothing. The
//! schema in the object's record names the types of the bytes.

use super::heap::HeapView;
use crate::collections::dict::handle::{shards, Head};
use crate::collections::dict::hash::hash;
use crate::collections::dict::read;
use crate::collections::dict::read::Bytes;
use crate::collections::dict::shard::Shard;
use crate::collections::dict::store::Words;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Acquire;
use crate::Result;

impl Words for HeapView<'_> {
    fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        HeapView::words(self, at, count)
    }

    fn generation(&self, at: u64) -> Option<u32> {
        let word = self.words(at.checked_sub(8)?, 1)?.first()?;
        crate::heap::block::lasting(word.load(Acquire)) // pairs with Slot::claim()
    }

    fn is_block(&self, at: u64, count: usize) -> bool {
        self.len(at).is_some_and(|len| len / 8 >= count as u64)
    }
}

/// A key and a value: the first bytes of each, and its length.
pub(crate) type Pair = [(Vec<u8>, usize); 2];

/// Returns the number of entries in the dict at `base`, and up to `most` of them, with up to
/// `bytes` bytes of each key and value.
pub(crate) fn entries(
    base: *const u8,
    len: usize,
    heap: &HeapView<'_>,
    (most, bytes): (usize, usize),
) -> Result<(u64, Vec<Pair>)> {
    let shards = shards(base, len);
    let count = shards.iter().map(Shard::count).fold(0, u64::saturating_add);
    let mut pairs = Vec::new();
    for shard in shards {
        let left = most - pairs.len();
        if left == 0 {
            break;
        }
        pairs.extend(read::collect_some(shard, heap, left, |key, value| {
            [copy(key, bytes), copy(value, bytes)]
        })?);
    }
    Ok((count, pairs))
}

/// Returns the value of `key`.
pub(crate) fn find(base: *const u8, len: usize, heap: &HeapView<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let shards = shards(base, len);
    if shards.is_empty() {
        return Ok(None);
    }
    // SAFETY: there are shards, so the object is longer than a Head, aligned and mapped; the seed
    // was written before the dict was published, and never again.
    let seed = unsafe { (&raw const (*base.cast::<Head>()).seed).read() };
    let hash = hash(seed, key);
    let Some(shard) = shards.get((hash >> 58) as usize) else { return Ok(None) };
    Ok(read::get(shard, heap, hash, key, |value| copy(value, usize::MAX).0)?)
}

fn copy(from: Bytes<'_>, most: usize) -> (Vec<u8>, usize) {
    let len = from.len.min(most);
    let mut copy = Vec::new();
    let words = from.words.get(..len.div_ceil(8)).unwrap_or(from.words);
    Bytes { words, len }.append_to(&mut copy);
    (copy, from.len)
}
