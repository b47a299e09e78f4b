//! Looking a key up without a lock, and without writing to anything that is shared.
//!
//! Whatever is read may be half of something else by then, so nothing is believed before the shard's version has been seen
//! to be the same before and after ([`super::shard`] says why that is enough). Only then is damage called damage.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::spin_loop;

pub(super) use crate::item::Bytes;
use crate::item::{stand_in, words_for};

use super::shard::Shard;
use super::store::Words;
use super::word::{entry_of, is_entry, tag, tag_of, Damaged, Table, EMPTY, TOMBSTONE};

/// Bytes that are copied at once, whether or not they are still there. Of more the lengths must be known to be true: half of something
/// else would be no length, and much to copy. And only the entry itself is asked afterwards whether it is still there, not
/// the version: who writes other entries all the time must not keep a reader that needs long.
const LARGE: usize = if cfg!(loom) { 16 } else { 4096 };

/// The lengths of key and value, as the first word of an entry says them.
#[inline(always)]
fn lengths(head: u64) -> (usize, usize) {
    (head as u32 as usize, (head >> 32) as usize)
}

/// An entry: its head, its key, its value, each from a word of its own on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(super) at: u64,
    words: &'a [AtomicU64],
    key_len: usize,
    value_len: usize,
}

impl<'a> Entry<'a> {
    /// The entry at `at`, inside of the memory, whatever it holds.
    #[inline(always)]
    pub(super) fn at<S: Words>(store: &'a S, at: u64) -> Option<Entry<'a>> {
        let (key_len, value_len) = lengths(store.words(at, 1)?.first()?.load(Relaxed));
        let words = store.words(at + 8, words_for(key_len) + words_for(value_len))?;
        Some(Entry { at, words, key_len, value_len })
    }

    /// Bytes of the whole entry.
    #[cfg(not(loom))]
    pub(super) fn size(&self) -> u64 {
        8 + 8 * self.words.len() as u64
    }

    #[inline(always)]
    fn is_large(&self) -> bool {
        self.key_len.max(self.value_len) > LARGE
    }

    /// Whether it is the entry of this generation still, so that all that was read of it is.
    fn is_still<S: Words>(&self, store: &S, generation: u64) -> bool {
        fence(Acquire); // pairs with the Release fence in Writer::fill()
        store.generation(self.at) == Some(generation)
    }

    #[inline(always)]
    fn has_key(&self, key: &[u8]) -> bool {
        self.key_len == key.len() && stand_in(key, self.words)
    }

    /// The bytes of the key: so many, in these words.
    #[inline(always)]
    pub(crate) fn key(&self) -> Bytes<'a> {
        Bytes { words: self.words.get(..words_for(self.key_len)).unwrap_or(&[]), len: self.key_len }
    }

    /// The bytes of the value.
    #[inline(always)]
    pub(crate) fn value(&self) -> Bytes<'a> {
        Bytes { words: self.words.get(words_for(self.key_len)..).unwrap_or(&[]), len: self.value_len }
    }
}

/// Where a key is, or could be put.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// In the bucket of this index, which holds this word.
    Found(usize, Entry<'a>),
    /// Nowhere; the first bucket for it, and whether that was never used. `None`: there is no room.
    Missing(Option<(usize, bool)>),
}

/// Goes through the buckets that `key` may be in. For readers the answer holds only if the version stays the same.
#[inline(always)]
pub(super) fn find<'a, S: Words>(
    shard: &Shard,
    store: &'a S,
    hash: u64,
    key: &[u8],
) -> Result<Place<'a>, Damaged> {
    let Some(table) = shard.table()? else { return Ok(Place::Missing(None)) };
    let buckets = store.words(table.at, table.capacity()).ok_or(Damaged)?;
    let (tag, mask) = (tag(hash), table.capacity() - 1);
    let mut index = tag as usize & mask;
    let mut grave = None;
    // A table is never full, but bytes may be anything.
    for _ in 0..=mask {
        let bucket = buckets.get(index).ok_or(Damaged)?.load(Acquire); // pairs with Shard::step()
        if bucket == EMPTY {
            return Ok(Place::Missing(grave.or(Some((index, true)))));
        }
        if bucket == TOMBSTONE {
            grave = grave.or(Some((index, false)));
        } else if tag_of(bucket) == tag && is_entry(bucket) {
            let entry = Entry::at(store, entry_of(bucket)).ok_or(Damaged)?;
            if entry.has_key(key) {
                return Ok(Place::Found(index, entry));
            }
        }
        index = (index + 1) & mask;
    }
    Ok(Place::Missing(grave))
}

/// Reads until nothing was taken away meanwhile: what `read` then gives is true of one moment.
#[inline(always)]
pub(super) fn consistent<R>(shard: &Shard, mut read: impl FnMut() -> R) -> R {
    let mut version = shard.version.load(Acquire); // pairs with Shard::step()
    loop {
        let result = read();
        fence(Acquire); // pairs with the Release fence in Writer::fill()
        let now = shard.version.load(Relaxed);
        if now == version {
            return result;
        }
        // Another writer has come to the end of a change: no number of stopped or dead ones keeps us here.
        spin_loop();
        version = shard.version.load(Acquire); // pairs with Shard::step()
    }
}

/// What a look at an entry found.
enum Look<'a, R> {
    Nothing,
    Taken(R),
    /// An entry that is too large to be copied at once, and its generation.
    Large(Entry<'a>, u64),
    /// For who goes through a table: there is another.
    OtherTable,
}

/// Takes a small entry. Holds only if the version stays the same.
#[inline(always)]
fn look<'a, S: Words, R>(
    store: &S,
    entry: Entry<'a>,
    take: impl FnOnce(Entry<'a>) -> R,
) -> Result<Look<'a, R>, Damaged> {
    match entry.is_large() {
        false => Ok(Look::Taken(take(entry))),
        true => Ok(Look::Large(entry, store.generation(entry.at).ok_or(Damaged)?)),
    }
}

/// What `take` makes of the value of `key`; `None`: the key is not there. `take` may be called several times, with bytes
/// that are of no entry; what it made of those is dropped.
#[inline(always)]
pub(crate) fn get<S: Words, R>(
    shard: &Shard,
    store: &S,
    hash: u64,
    key: &[u8],
    mut take: impl FnMut(Bytes<'_>) -> R,
) -> Result<Option<R>, Damaged> {
    loop {
        let found = consistent(shard, || match find(shard, store, hash, key)? {
            Place::Found(_, entry) => look(store, entry, |entry| take(entry.value())),
            Place::Missing(_) => Ok(Look::Nothing),
        });
        match found? {
            Look::Taken(value) => return Ok(Some(value)),
            Look::Large(entry, generation) => {
                let value = take(entry.value());
                if entry.is_still(store, generation) {
                    return Ok(Some(value));
                }
                // It was replaced: whoever did has come to an end.
            }
            Look::Nothing | Look::OtherTable => return Ok(None),
        }
    }
}

/// The entry of `key`, and its generation, at some moment.
#[cfg(not(loom))]
pub(super) fn locate<'a, S: Words>(
    shard: &Shard,
    store: &'a S,
    hash: u64,
    key: &[u8],
) -> Result<Option<(Entry<'a>, u64)>, Damaged> {
    consistent(shard, || match find(shard, store, hash, key)? {
        Place::Found(_, entry) => Ok(Some((entry, store.generation(entry.at).ok_or(Damaged)?))),
        Place::Missing(_) => Ok(None),
    })
}

/// Puts what `take` makes of each entry of the shard behind each other: of those that are there all the time, once. A key
/// that is removed and comes back meanwhile may come twice. If the table is replaced, all begins anew.
pub(crate) fn collect<S: Words, R>(
    shard: &Shard,
    store: &S,
    take: impl FnMut(Bytes<'_>, Bytes<'_>) -> R,
) -> Result<Vec<R>, Damaged> {
    collect_some(shard, store, usize::MAX, take)
}

/// As [`collect`], but no more than `most` of them.
pub(crate) fn collect_some<S: Words, R>(
    shard: &Shard,
    store: &S,
    most: usize,
    mut take: impl FnMut(Bytes<'_>, Bytes<'_>) -> R,
) -> Result<Vec<R>, Damaged> {
    'table: loop {
        let word = shard.table.load(Acquire); // pairs with Shard::step()
        let Some(table) = Table::from_word(word)? else { return Ok(Vec::new()) };
        let (mut all, mut index) = (Vec::new(), 0);
        while index < table.capacity() && all.len() < most {
            let one = consistent(shard, || {
                if shard.table.load(Acquire) != word {
                    return Ok(Look::OtherTable); // pairs with Shard::step()
                }
                let buckets = store.words(table.at, table.capacity()).ok_or(Damaged)?;
                let bucket = buckets.get(index).ok_or(Damaged)?.load(Acquire); // pairs with Shard::step()
                if !is_entry(bucket) {
                    return Ok(Look::Nothing);
                }
                let entry = Entry::at(store, entry_of(bucket)).ok_or(Damaged)?;
                look(store, entry, |entry| take(entry.key(), entry.value()))
            });
            match one? {
                Look::Taken(entry) => all.push(entry),
                Look::Large(entry, generation) => {
                    let taken = take(entry.key(), entry.value());
                    if !entry.is_still(store, generation) {
                        continue; // another stands in this bucket, or nothing
                    }
                    all.push(taken);
                }
                Look::Nothing => {}
                Look::OtherTable => continue 'table,
            }
            index += 1;
        }
        return Ok(all);
    }
}
