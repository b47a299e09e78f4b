//! Looks a key up without a lock, and without writing to anything that is shared.
//!
//! Everything that is read may be torn, so nothing is trusted until the shard's version was the
//! same before and after ([`super::shard`] explains why that is enough). Only then can a reader
//! report damage.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::spin_loop;

pub(crate) use crate::message::item::Bytes;
use crate::message::item::{stand_in, words_for};

use super::shard::Shard;
use super::store::Words;
use super::word::{entry_of, is_entry, tag, tag_of, Damaged, Table, EMPTY, TOMBSTONE};

/// Largest key or value that is copied before it is validated. For a larger one the lengths are
/// validated first, because torn lengths could mean much to copy. After the copy, only the entry's
/// generation is checked, not the version. So writers of other entries cannot make a slow reader
/// start over for ever.
const LARGE: usize = if cfg!(loom) { 16 } else { 4096 };

/// Number of buckets after which a search checks that the table is as large as its word says.
/// Searches in sound tables are shorter, unless their keys collide.
const FAR: usize = if cfg!(loom) { 2 } else { 64 };

/// Returns the lengths of key and value, from the first word of an entry.
#[inline(always)]
fn lengths(head: u64) -> (usize, usize) {
    (head as u32 as usize, (head >> 32) as usize)
}

/// An entry: its head, its key and its value. Each begins at a word of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) at: u64,
    words: &'a [AtomicU64],
    key_len: usize,
    value_len: usize,
}

impl<'a> Entry<'a> {
    /// Returns the entry at `at`, inside the memory, whatever it holds.
    #[inline(always)]
    pub(crate) fn at<S: Words>(store: &'a S, at: u64) -> Option<Entry<'a>> {
        let (key_len, value_len) = lengths(store.words(at, 1)?.first()?.load(Relaxed));
        let words = store.words(at + 8, words_for(key_len) + words_for(value_len))?;
        Some(Entry { at, words, key_len, value_len })
    }

    /// Returns the size of the whole entry in bytes.
    pub(crate) fn size(&self) -> u64 {
        8 + 8 * self.words.len() as u64
    }

    #[inline(always)]
    fn is_large(&self) -> bool {
        self.key_len.max(self.value_len) > LARGE
    }

    /// Returns true if this is still the entry of that generation, so that everything read from it
    /// is valid.
    fn is_still<S: Words>(&self, store: &S, generation: u32) -> bool {
        fence(Acquire); // pairs with the Release fence in Writer::fill()
        store.generation(self.at) == Some(generation)
    }

    #[inline(always)]
    fn has_key(&self, key: &[u8]) -> bool {
        self.key_len == key.len() && stand_in(key, self.words)
    }

    /// Returns the bytes of the key.
    #[inline(always)]
    pub(crate) fn key(&self) -> Bytes<'a> {
        Bytes { words: self.words.get(..words_for(self.key_len)).unwrap_or(&[]), len: self.key_len }
    }

    /// Returns the bytes of the value.
    #[inline(always)]
    pub(crate) fn value(&self) -> Bytes<'a> {
        Bytes { words: self.words.get(words_for(self.key_len)..).unwrap_or(&[]), len: self.value_len }
    }
}

/// Where a key is stored, or could be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In the bucket of this index, which holds this word.
    Found(usize, Entry<'a>),
    /// Not in the table. Has the first bucket for it, and whether that was never used; `None` if
    /// there is no room.
    Missing(Option<(usize, bool)>),
}

/// Returns the buckets of a table, if its block is as large as the table. For callers that read the
/// whole table: a damaged word may describe half of the segment as a table.
pub(crate) fn buckets_of<S: Words>(store: &S, table: Table) -> Result<&[AtomicU64], Damaged> {
    let words = store.words(table.at, table.capacity()).ok_or(Damaged)?;
    store.is_block(table.at, table.capacity()).then_some(words).ok_or(Damaged)
}

/// Scans the buckets that `key` may be in. For readers the result is valid only if the version
/// stays the same.
#[inline(always)]
pub(crate) fn find<'a, S: Words>(
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
    // A table is never full, but damaged bytes can claim anything.
    for step in 0..=mask {
        if step == FAR {
            buckets_of(store, table)?;
        }
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

/// Repeats `read` until nothing was freed meanwhile. Then its result is valid for one moment.
#[inline(always)]
pub(crate) fn consistent<R>(shard: &Shard, mut read: impl FnMut() -> R) -> R {
    let mut version = shard.version.load(Acquire); // pairs with Shard::step()
    loop {
        let result = read();
        fence(Acquire); // pairs with the Release fence in Writer::fill()
        let now = shard.version.load(Relaxed);
        if now == version {
            return result;
        }
        // Another writer has finished a change, so stopped or dead writers cannot keep us here.
        spin_loop();
        version = shard.version.load(Acquire); // pairs with Shard::step()
    }
}

/// The outcome of a read of an entry.
enum ReadOutcome<'a, R> {
    Nothing,
    Taken(R),
    /// An entry that is too large to be copied at once, and its generation.
    Large(Entry<'a>, u32),
    /// For scans of a table: it has been replaced.
    OtherTable,
}

/// Takes a small entry. Valid only if the version stays the same.
#[inline(always)]
fn read_entry<'a, S: Words, R>(
    store: &S,
    entry: Entry<'a>,
    take: impl FnOnce(Entry<'a>) -> R,
) -> Result<ReadOutcome<'a, R>, Damaged> {
    match entry.is_large() {
        false => Ok(ReadOutcome::Taken(take(entry))),
        true => Ok(ReadOutcome::Large(entry, store.generation(entry.at).ok_or(Damaged)?)),
    }
}

/// Returns the result of `take` for the value of `key`; `None` if the key is missing. `take` may be
/// called several times, also with invalid bytes; those results are dropped.
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
            Place::Found(_, entry) => read_entry(store, entry, |entry| take(entry.value())),
            Place::Missing(_) => Ok(ReadOutcome::Nothing),
        });
        match found? {
            ReadOutcome::Taken(value) => return Ok(Some(value)),
            ReadOutcome::Large(entry, generation) => {
                let value = take(entry.value());
                if entry.is_still(store, generation) {
                    return Ok(Some(value));
                }
                // It was replaced, so its writer has finished.
            }
            ReadOutcome::Nothing | ReadOutcome::OtherTable => return Ok(None),
        }
    }
}

/// Returns the entry of `key` and its generation, at some moment.
pub(crate) fn locate<'a, S: Words>(
    shard: &Shard,
    store: &'a S,
    hash: u64,
    key: &[u8],
) -> Result<Option<(Entry<'a>, u32)>, Damaged> {
    consistent(shard, || match find(shard, store, hash, key)? {
        Place::Found(_, entry) => Ok(Some((entry, store.generation(entry.at).ok_or(Damaged)?))),
        Place::Missing(_) => Ok(None),
    })
}

/// Returns the results of `take` for the entries of the shard. An entry that is there all the time
/// appears once. A key that is removed and inserted again meanwhile may appear twice. If the table
/// is replaced, the scan starts over.
pub(crate) fn collect<S: Words, R>(
    shard: &Shard,
    store: &S,
    take: impl FnMut(Bytes<'_>, Bytes<'_>) -> R,
) -> Result<Vec<R>, Damaged> {
    collect_some(shard, store, usize::MAX, take)
}

/// Like [`collect`], but returns at most `most` results.
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
                    return Ok(ReadOutcome::OtherTable); // pairs with Shard::step()
                }
                let buckets = match index {
                    0 => buckets_of(store, table)?,
                    _ => store.words(table.at, table.capacity()).ok_or(Damaged)?,
                };
                let bucket = buckets.get(index).ok_or(Damaged)?.load(Acquire); // pairs with Shard::step()
                if !is_entry(bucket) {
                    return Ok(ReadOutcome::Nothing);
                }
                let entry = Entry::at(store, entry_of(bucket)).ok_or(Damaged)?;
                read_entry(store, entry, |entry| take(entry.key(), entry.value()))
            });
            match one? {
                ReadOutcome::Taken(entry) => all.push(entry),
                ReadOutcome::Large(entry, generation) => {
                    let taken = take(entry.key(), entry.value());
                    if !entry.is_still(store, generation) {
                        continue; // this bucket has another entry, or none
                    }
                    all.push(taken);
                }
                ReadOutcome::Nothing => {}
                ReadOutcome::OtherTable => continue 'table,
            }
            index += 1;
        }
        return Ok(all);
    }
}
