//! A dict as an observer sees it: bytes of keys and values, from a mapping for reading only.
//!
//! Reads as any reader does ([`super::read`]), which writes nothing; whose types the bytes are is told by the text beside the
//! object.

use super::handle::{shards, Head};
use super::hash::hash;
use super::read::{self, Bytes};
use super::shard::Shard;
use crate::heap::Look;
use crate::Result;

/// A key and a value: the first bytes of each, and how many there are.
pub(crate) type Pair = [(Vec<u8>, usize); 2];

/// How many entries the dict at `base` has, and up to `most` of them; of each key and value up to `bytes` bytes.
pub(crate) fn entries(
    base: *const u8,
    len: usize,
    look: &Look<'_>,
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
        pairs.extend(read::collect_some(shard, look, left, |key, value| {
            [copy(key, bytes), copy(value, bytes)]
        })?);
    }
    Ok((count, pairs))
}

/// The value of `key`.
pub(crate) fn find(base: *const u8, len: usize, look: &Look<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let shards = shards(base, len);
    if shards.is_empty() {
        return Ok(None);
    }
    // SAFETY: there are shards, so the object is longer than a Head, aligned and mapped; the seed was written before the dict
    // was published, and never again.
    let seed = unsafe { (&raw const (*base.cast::<Head>()).seed).read() };
    let hash = hash(seed, key);
    let Some(shard) = shards.get((hash >> 58) as usize) else { return Ok(None) };
    Ok(read::get(shard, look, hash, key, |value| copy(value, usize::MAX).0)?)
}

fn copy(from: Bytes<'_>, most: usize) -> (Vec<u8>, usize) {
    let len = from.len.min(most);
    let mut copy = Vec::new();
    let words = from.words.get(..len.div_ceil(8)).unwrap_or(from.words);
    Bytes { words, len }.append_to(&mut copy);
    (copy, from.len)
}
