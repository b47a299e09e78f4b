//! Changes a shard, for its holder. Each change is one [`Change`], or the store of one word of a
//! value.

use crate::heap::Block;
use crate::loom::atomic::fence;
use crate::loom::atomic::Ordering::{Relaxed, Release};
use crate::message::item::{word_of, words_for, words_of};
use crate::{Error, ErrorKind, Result};

use super::read::{buckets_of, find, Bytes, Entry, Place};
use super::shard::{Change, Location, Shard};
use super::store::Store;
use super::word::{bucket, entry_of, is_entry, tag, tag_of, Damaged, Table, EMPTY, LEAST_LOG2, TOMBSTONE};

/// The longest key, and the longest value.
pub(crate) const LONGEST: usize = u32::MAX as usize;

impl From<Damaged> for Error {
    #[cold]
    fn from(_: Damaged) -> Error {
        Error::new(ErrorKind::Corrupted, "the dict is damaged: one of its words leads nowhere")
    }
}

/// Prefetches the bucket at which the search for a key with this hash begins. It is far away in a
/// large dict, and arrives while the shard's owner word is being acquired. It is a hint: the
/// bucket's content is not used.
#[inline(always)]
pub(crate) fn prefetch<S: Store>(shard: &Shard, store: &S, hash: u64) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    if let Ok(Some(table)) = Table::from_word(shard.table.load(Relaxed)) {
        let index = tag(hash) as usize & (table.capacity() - 1);
        if let Some(bucket) = store.words(table.at, table.capacity()).and_then(|buckets| buckets.get(index)) {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            // SAFETY: every x86-64 has the instruction, which faults at no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(bucket).cast()) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = (shard, store, hash);
}

/// The holder of the shard's owner word, after `finish_pending`.
#[derive(Debug)]
pub(crate) struct Writer<'a, S: Store> {
    pub(crate) shard: &'a Shard,
    pub(crate) store: &'a S,
}

impl<S: Store> Writer<'_, S> {
    /// Returns the result of `take` for the value of `key`.
    pub(crate) fn get<R>(
        &self,
        hash: u64,
        key: &[u8],
        take: impl FnOnce(Bytes<'_>) -> R,
    ) -> Result<Option<R>> {
        match find(self.shard, self.store, hash, key)? {
            Place::Found(_, entry) => Ok(Some(take(entry.value()))),
            Place::Missing(_) => Ok(None),
        }
    }

    /// Returns true if the value of `key` is `expected`, or if there is none and `expected` is
    /// `None`.
    pub(crate) fn has(&self, hash: u64, key: &[u8], expected: Option<&[u8]>) -> Result<bool> {
        let is_equal = self.get(hash, key, |value| expected.is_some_and(|expected| value.are(expected)))?;
        Ok(is_equal.unwrap_or(expected.is_none()))
    }

    /// Sets the value of `key`. Returns true if it had none.
    pub(crate) fn put(&self, hash: u64, key: &[u8], value: &[u8]) -> Result<bool> {
        if key.len() > LONGEST || value.len() > LONGEST {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a key of {} bytes with a value of {} is not possible: up to {LONGEST} are, each",
                    key.len(),
                    value.len()
                ),
            ));
        }
        match find(self.shard, self.store, hash, key)? {
            Place::Found(index, entry) => {
                self.replace(hash, index, entry, key, value)?;
                Ok(false)
            }
            Place::Missing(free) => {
                let (index, is_fresh) = self.room(hash, key, free)?;
                let new = self.fill(key, value)?;
                let (count, used) = (
                    self.shard.count().saturating_add(1),
                    self.shard.used().saturating_add(u64::from(is_fresh)),
                );
                let target = bucket(tag(hash), new.at);
                self.change(index, Change { new: Some(new), count, used, ..self.unchanged(target) });
                Ok(true)
            }
        }
    }

    fn replace(&self, hash: u64, index: usize, entry: Entry<'_>, key: &[u8], value: &[u8]) -> Result<()> {
        let there = entry.value();
        if let ([word], true) = (there.words, there.len == value.len()) {
            // One store, so nobody sees half of it. Pairs with Bytes::first().
            word.store(word_of(value), Release);
            return Ok(());
        }
        let old = self.store.identify(entry.at);
        let new = self.fill(key, value)?;
        let target = bucket(tag(hash), new.at);
        self.change(index, Change { new: Some(new), old, ..self.unchanged(target) });
        Ok(())
    }

    /// Removes `key`, and returns the result of `take` for its value.
    pub(crate) fn remove<R>(
        &self,
        hash: u64,
        key: &[u8],
        take: impl FnOnce(Bytes<'_>) -> R,
    ) -> Result<Option<R>> {
        let Place::Found(index, entry) = find(self.shard, self.store, hash, key)? else { return Ok(None) };
        let taken = take(entry.value());
        self.remove_at(index, entry.at)?;
        Ok(Some(taken))
    }

    /// Removes any entry, and returns the result of `take` for its key and its value.
    pub(crate) fn pop<R>(&self, take: impl FnOnce(Bytes<'_>, Bytes<'_>) -> R) -> Result<Option<R>> {
        let Some(table) = self.shard.table()? else { return Ok(None) };
        let buckets = buckets_of(self.store, table)?;
        let mask = table.capacity() - 1;
        let first = self.shard.hint.load(Relaxed) as usize;
        for step in 0..=mask {
            // Backwards: the bucket behind is already empty, so this one need not become a
            // tombstone.
            let index = first.wrapping_sub(step) & mask;
            let bucket = buckets.get(index).ok_or(Damaged)?.load(Relaxed);
            if is_entry(bucket) {
                let entry = Entry::at(self.store, entry_of(bucket)).ok_or(Damaged)?;
                let taken = take(entry.key(), entry.value());
                self.shard.hint.store(index as u64, Relaxed);
                self.remove_at(index, entry.at)?;
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Removes all entries, and the table.
    pub(crate) fn clear(&self) -> Result<()> {
        while self.pop(|_, _| ())?.is_some() {}
        if let Some(table) = self.shard.table()? {
            let none = Table::after(self.shard.table.load(Relaxed), 0, 0).word();
            let old = self.store.identify(table.at);
            self.shard.carry_out(self.store, &Change { old, count: 0, used: 0, ..self.unchanged(none) });
        }
        Ok(())
    }

    fn remove_at(&self, index: usize, at: u64) -> Result<()> {
        let table = self.shard.table()?.ok_or(Damaged)?;
        let buckets = self.store.words(table.at, table.capacity()).ok_or(Damaged)?;
        let next = buckets.get((index + 1) & (table.capacity() - 1)).ok_or(Damaged)?.load(Relaxed);
        // If the next bucket is empty, no search needs to continue behind this one.
        let (target, used) = match next {
            EMPTY => (EMPTY, self.shard.used().saturating_sub(1)),
            _ => (TOMBSTONE, self.shard.used()),
        };
        let count = self.shard.count().saturating_sub(1);
        let old = self.store.identify(at);
        self.change(index, Change { old, count, used, ..self.unchanged(target) });
        Ok(())
    }

    /// Returns the change that stores `target` and changes nothing else.
    fn unchanged(&self, target: u64) -> Change {
        Change {
            location: Location::Table,
            target,
            new: None,
            old: None,
            version: self.shard.version.load(Relaxed).wrapping_add(1),
            count: self.shard.count(),
            used: self.shard.used(),
        }
    }

    fn change(&self, index: usize, change: Change) {
        self.shard.carry_out(self.store, &Change { location: Location::Bucket(index as u64), ..change });
    }

    /// Allocates a block with this entry, claimed.
    fn fill(&self, key: &[u8], value: &[u8]) -> Result<Block> {
        let body = words_for(key.len()) + words_for(value.len());
        let block = self.store.alloc(1 + body)?;
        let words = self.store.words(block.at, 1 + body).ok_or(Damaged)?;
        // A reader that still reads the freed block, and sees one of the words stored below, also
        // sees that it was freed before. Pairs with the Acquire fence in read::consistent().
        fence(Release);
        let head = key.len() as u64 | (value.len() as u64) << 32;
        let body = words_of(key).chain(words_of(value));
        words
            .iter()
            .zip(std::iter::once(head).chain(body))
            .for_each(|(word, bits)| word.store(bits, Relaxed));
        Ok(block)
    }

    /// Returns a bucket for a missing key, in a table that has room for it.
    fn room(&self, hash: u64, key: &[u8], free: Option<(usize, bool)>) -> Result<(usize, bool)> {
        let table = self.shard.table()?;
        match free {
            Some((index, false)) => return Ok((index, false)),
            Some(free) if table.is_some_and(|table| self.shard.used() < table.limit()) => return Ok(free),
            _ => self.grow(table)?,
        }
        match find(self.shard, self.store, hash, key)? {
            Place::Missing(Some(free)) => Ok(free),
            _ => Err(Damaged.into()),
        }
    }

    /// Replaces the table with one that has room for twice the entries, and no tombstones.
    #[cold]
    fn grow(&self, table: Option<Table>) -> Result<()> {
        // A damaged count or size must not become a request for much memory.
        let limit = match table {
            Some(table) => buckets_of(self.store, table).map(|_| table.limit())?,
            None => 0,
        };
        if self.shard.count() > limit {
            return Err(Damaged.into());
        }
        let log2 = Table::log2_for(self.shard.count(), LEAST_LOG2).ok_or_else(|| {
            Error::new(ErrorKind::OutOfMemory, "the dict has as many entries as a dict can have")
        })?;
        let new = self.store.alloc(1 << log2)?;
        let used = self.move_into(new, log2, table).inspect_err(|_| self.store.free(new))?;
        let old = table.and_then(|table| self.store.identify(table.at));
        let word = Table::after(self.shard.table.load(Relaxed), log2, new.at).word();
        self.shard.carry_out(
            self.store,
            &Change { new: Some(new), old, count: used, used, ..self.unchanged(word) },
        );
        Ok(())
    }

    /// Copies the entries of `table` to a table in a new block. Returns their number.
    fn move_into(&self, new: Block, log2: u32, table: Option<Table>) -> Result<u64, Damaged> {
        let to = self.store.words(new.at, 1 << log2).ok_or(Damaged)?;
        fence(Release); // as in fill()
        to.iter().for_each(|word| word.store(EMPTY, Relaxed));
        let Some(table) = table else { return Ok(0) };
        let from = self.store.words(table.at, table.capacity()).ok_or(Damaged)?;
        let (mask, limit) = (to.len() - 1, Table { log2, ..table }.limit());
        // Far more than any search needs in a table that is less than half full.
        let most = to.len().min(1 << 12);
        let mut used = 0;
        for word in from.iter().map(|word| word.load(Relaxed)).filter(|word| is_entry(*word)) {
            let first = tag_of(word) as usize;
            let places = (0..most).filter_map(|step| to.get((first + step) & mask));
            let free = places.into_iter().find(|place| place.load(Relaxed) == EMPTY);
            // More entries than were counted, or all in one place, mean damage, because they cannot
            // all be placed in a reasonable number of steps.
            free.filter(|_| used < limit).ok_or(Damaged)?.store(word, Relaxed);
            used += 1;
        }
        Ok(used)
    }
}
