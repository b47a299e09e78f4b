//! Changes to a list. Each builds the new blocks, writes the journal, publishes by one store, and
//! frees the old blocks.

use std::borrow::Borrow;

use super::memory::ListMemory;
use super::read::{self, damaged, is_inline};
use crate::collections::list::state::{is_of, link, place, Entry, Head};
use crate::heap::{Block, State};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::message::item::{word_of, words_for, words_of, Item};
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::Acquired;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Smallest capacity of a root, in elements.
pub(crate) const ROOM_MIN: u64 = if cfg!(loom) { 2 } else { 7 };

/// The right to change the list. Dropping it frees the owner word.
#[derive(Debug)]
pub(crate) struct Change<'a, M: ListMemory> {
    memory: &'a M,
    head: &'a Head,
    me: OwnerId,
    epoch: u32,
}

/// The root as the holder sees it.
#[derive(Debug, Clone, Copy)]
struct Root {
    link: u64,
    len: u64,
    room: u64,
}

impl<M: ListMemory> Drop for Change<'_, M> {
    fn drop(&mut self) {
        // In a forked child the word is the parent's. `release` returns false only if another
        // program has overwritten the word, which then is not ours to free.
        _ = self.is_here() && self.head.word.release(self.me);
    }
}

impl<'a, M: ListMemory> Change<'a, M> {
    /// Begins a change, after `me` has acquired the list's owner word in the process that has this
    /// `epoch`. Completes or undoes the change of a writer that died or panicked.
    pub(crate) fn begin(
        memory: &'a M,
        head: &'a Head,
        (me, epoch): (OwnerId, u32),
        acquired: Acquired,
    ) -> Change<'a, M> {
        let change = Change { memory, head, me, epoch };
        change.finish_pending();
        if acquired.after_death {
            head.word.mark_consistent();
        }
        change
    }

    /// Returns whether this process began the change.
    fn is_here(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Fails if the user's closure has forked and this is the child, which must not change the
    /// parent's list.
    pub(crate) fn check_here(&self) -> Result<()> {
        self.is_here().then_some(()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotInThisProcess,
                "a forked child cannot continue its parent's change of the list",
            )
        })
    }

    /// Returns the word whose store publishes a change: the root's if `at` is 0, else the word at
    /// `at`.
    fn target(&self, at: u64) -> Option<&'a AtomicU64> {
        match at {
            0 => Some(&self.head.root),
            at => self.memory.words(at, 1)?.first(),
        }
    }

    /// Carries out a change: writes the journal, prepares the new blocks, publishes them by one
    /// store, and frees the old ones. If `prepare` fails, nothing is published.
    fn carry_out(&self, entry: Entry, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
        self.head.journal.begin(entry);
        let published = prepare().and_then(|()| {
            let word = self.target(entry.target).ok_or_else(damaged)?;
            word.store(entry.value, Release); // pairs with the Acquire loads of readers
            Ok(())
        });
        self.finish_pending();
        published
    }

    /// Ends the change that is in the journal. Frees the old blocks if it was published, and the
    /// new ones otherwise. Idempotent.
    pub(crate) fn finish_pending(&self) {
        let journal = &self.head.journal;
        let Some(entry) = journal.pending() else { return };
        let current = self.target(entry.target).map(|word| word.load(Acquire));
        let (element, run, root) = if current == Some(entry.value) {
            (entry.old, entry.old_run, entry.old_root)
        } else {
            (entry.new, entry.new_run, entry.new_root)
        };
        self.free(element);
        let (of, from, to) = run;
        if from < to && self.identify(of).is_some() {
            // No more than the block holds, whatever the journal says.
            let room = self.memory.len(place(of)).map_or(0, |len| len / 8 - 1);
            if let Some(links) = self.slots(of, to.min(room)) {
                links.iter().skip(from as usize).for_each(|link| self.free(link.load(Relaxed)));
            }
        }
        self.free(root);
        journal.end();
    }

    /// Returns the block that `link` leads to, if it is live.
    fn identify(&self, link: u64) -> Option<Block> {
        if link == 0 {
            return None;
        }
        self.memory.identify(place(link)).filter(|block| is_of(link, block.generation))
    }

    /// Frees the block that `link` leads to, unless it has been freed. The heap frees a block that
    /// a dead process had claimed.
    fn free(&self, link: u64) {
        if link == 0 {
            return;
        }
        if let Ok((block, state)) = self.memory.state(place(link)) {
            if is_of(link, block.generation) && (state == State::Live || state == State::Claimed(self.me)) {
                // Fails if the memory is damaged; then there is nothing to free.
                _ = self.memory.free(block);
            }
        }
    }

    /// Returns the words of the root's first `count` elements.
    fn slots(&self, root: u64, count: u64) -> Option<&'a [AtomicU64]> {
        self.memory.words(place(root) + 8, usize::try_from(count).ok()?)
    }

    /// Returns the root, after checks of its block and its length.
    fn root(&self) -> Result<Root> {
        let link = self.head.root.load(Relaxed);
        if link == 0 {
            return Ok(Root { link, len: 0, room: 0 });
        }
        self.identify(link).ok_or_else(damaged)?;
        let room = self.memory.len(place(link))? / 8 - 1;
        let len = self.length(link).ok_or_else(damaged)?.load(Relaxed);
        if len > room {
            return Err(damaged());
        }
        Ok(Root { link, len, room })
    }

    /// Returns the word of a root's length.
    fn length(&self, root: u64) -> Option<&'a AtomicU64> {
        self.memory.words(place(root), 1)?.first()
    }

    /// Allocates a root block with room for `room` elements, and fills the first `len`: `fill`
    /// returns the word of the element at an index. The block stays claimed by this process.
    fn build(&self, len: u64, room: u64, fill: impl Fn(usize) -> u64) -> Result<Block> {
        let bytes =
            room.checked_add(1).and_then(|words| words.checked_mul(8)).and_then(|n| usize::try_from(n).ok());
        let block = self.memory.alloc(bytes.unwrap_or(usize::MAX))?;
        let words = self.memory.words(block.at, len as usize + 1).ok_or_else(damaged)?;
        words[0].store(len, Relaxed);
        words[1..].iter().enumerate().for_each(|(index, word)| word.store(fill(index), Relaxed));
        Ok(block)
    }

    /// Replaces the root with `block`, which this process has claimed.
    fn replace<T: Item + ?Sized>(&self, block: Block, values: &[impl Borrow<T>], entry: Entry) -> Result<()> {
        let new = link(block);
        let old = self.head.root.load(Relaxed);
        let entry = Entry { target: 0, value: new, new_root: new, old_root: old, ..entry };
        self.carry_out(entry, || {
            self.memory.publish(block)?;
            let (_, from, to) = entry.new_run;
            let slots = self.slots(new, to).ok_or_else(damaged)?;
            self.put_all::<T>(&slots[(from as usize).min(slots.len())..], values)
        })
    }

    /// Writes values to the words of elements that are not visible yet.
    fn put_all<T: Item + ?Sized>(&self, slots: &[AtomicU64], values: &[impl Borrow<T>]) -> Result<()> {
        slots.iter().zip(values).try_for_each(|(slot, value)| {
            let value: &T = value.borrow();
            if is_inline::<T>() {
                // Pairs with get(): a reader that sees this word also sees the shorter length that
                // was stored before it.
                slot.store(word_of(value.bytes()), Release);
                return Ok(());
            }
            let block = self.write(value)?;
            slot.store(link(block), Release); // before it is live, so finish_pending() finds the block
            self.memory.publish(block)
        })
    }

    /// Allocates a block with this value, which stays claimed by this process. If `T` has no fixed
    /// size, the value's length precedes the value.
    fn write<T: Item + ?Sized>(&self, value: &T) -> Result<Block> {
        let bytes = value.bytes();
        let length = T::SIZE.is_none().then_some(bytes.len() as u64);
        let count = usize::from(length.is_some()) + words_for(bytes.len());
        let block = self.memory.alloc(8 * count)?;
        let there = self.memory.words(block.at, count).ok_or_else(damaged)?;
        let words = length.into_iter().chain(words_of(bytes));
        there.iter().zip(words).for_each(|(there, word)| there.store(word, Relaxed));
        Ok(block)
    }

    /// Returns the value that an element's word is or leads to.
    fn read<T: Item + ?Sized>(&self, word: u64) -> Result<T::Owned> {
        let value = match is_inline::<T>() {
            true => read::inline::<T>(word),
            false => read::value::<T>(self.memory, word).flatten(),
        };
        value.ok_or_else(damaged)
    }

    /// Returns the value at `index`. Nobody can change it, because this process holds the owner
    /// word.
    pub(crate) fn get<T: Item + ?Sized>(&self, index: u64) -> Result<Option<T::Owned>> {
        let root = self.root()?;
        if index >= root.len {
            return Ok(None);
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        self.read::<T>(slots[index as usize].load(Relaxed)).map(Some)
    }

    /// Returns the values that these words are or lead to, with the words. Fails if there cannot be
    /// so many, or such large ones.
    fn values<T: Item + ?Sized>(&self, slots: &[AtomicU64]) -> Result<Vec<(T::Owned, u64)>> {
        let (mut all, mut left) = (Vec::new(), self.memory.size());
        all.try_reserve_exact(slots.len()).map_err(|_| {
            Error::new(ErrorKind::OutOfMemory, "a copy of the list's elements does not fit into memory")
        })?;
        for slot in slots {
            let word = slot.load(Relaxed);
            let value = self.read::<T>(word)?;
            // Damaged words may all lead to one large block.
            let len = Borrow::<T>::borrow(&value).bytes().len() as u64;
            left = left.checked_sub(len).ok_or_else(damaged)?;
            all.push((value, word));
        }
        Ok(all)
    }

    /// Returns all values. Nobody can change them, because this process holds the owner word.
    pub(crate) fn all<T: Item + ?Sized>(&self) -> Result<Vec<T::Owned>> {
        let root = self.root()?;
        if root.link == 0 {
            return Ok(Vec::new());
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        Ok(self.values::<T>(slots)?.into_iter().map(|(value, _)| value).collect())
    }

    /// Appends all values, or none.
    pub(crate) fn append<T: Item + ?Sized>(&self, values: &[impl Borrow<T>]) -> Result<()> {
        let root = self.root()?;
        let to = root.len + values.len() as u64;
        let new_run = |of| if is_inline::<T>() { (0, root.len, to) } else { (of, root.len, to) };
        if to > root.room {
            let room = to.max(root.room.saturating_mul(2)).max(ROOM_MIN);
            let old = self.slots(root.link, root.len).ok_or_else(damaged);
            let old = if root.link == 0 { &[][..] } else { old? };
            let block = self.build(to, room, |index| old.get(index).map_or(0, |word| word.load(Relaxed)))?;
            let entry = Entry { new_run: new_run(link(block)), ..Entry::default() };
            return self.replace::<T>(block, values, entry);
        }
        if values.is_empty() {
            return Ok(());
        }
        let slots = &self.slots(root.link, to).ok_or_else(damaged)?[root.len as usize..];
        if is_inline::<T>() {
            self.put_all::<T>(slots, values)?;
            self.length(root.link).ok_or_else(damaged)?.store(to, Release); // pairs with get()
            return Ok(());
        }
        slots.iter().for_each(|slot| slot.store(0, Relaxed));
        let target = place(root.link);
        let entry = Entry { target, value: to, new_run: new_run(root.link), ..Entry::default() };
        self.carry_out(entry, || self.put_all::<T>(slots, values))
    }

    /// Removes the last element and returns it.
    pub(crate) fn pop<T: Item + ?Sized>(&self) -> Result<Option<T::Owned>> {
        let root = self.root()?;
        let Some(last) = root.len.checked_sub(1) else { return Ok(None) };
        let value = self.get::<T>(last)?;
        if is_inline::<T>() {
            self.length(root.link).ok_or_else(damaged)?.store(last, Release); // pairs with get()
            return Ok(value);
        }
        let old_run = (root.link, last, root.len);
        let entry = Entry { target: place(root.link), value: last, old_run, ..Entry::default() };
        self.carry_out(entry, || Ok(()))?;
        Ok(value)
    }

    /// Replaces the value at `index`. Returns false if there is none.
    pub(crate) fn set<T: Item + ?Sized>(&self, index: u64, value: &T) -> Result<bool> {
        let root = self.root()?;
        if index >= root.len {
            return Ok(false);
        }
        let slot = &self.slots(root.link, root.len).ok_or_else(damaged)?[index as usize];
        if is_inline::<T>() {
            slot.store(word_of(value.bytes()), Release); // pairs with get()
            return Ok(true);
        }
        let block = self.write(value)?;
        let new = link(block);
        let target = place(root.link) + 8 + 8 * index;
        let old = slot.load(Relaxed);
        let entry = Entry { target, value: new, new, old, ..Entry::default() };
        self.carry_out(entry, || self.memory.publish(block))?;
        Ok(true)
    }

    /// Inserts a value at `index`, at most the length of the list. Returns false if the list is
    /// shorter.
    pub(crate) fn insert<T: Item + ?Sized>(&self, index: u64, value: &T) -> Result<bool> {
        let root = self.root()?;
        if index >= root.len {
            return if index == root.len { self.append::<T>(&[value]).map(|()| true) } else { Ok(false) };
        }
        let old = self.slots(root.link, root.len).ok_or_else(damaged)?;
        let room = if root.len < root.room { root.room } else { root.room.saturating_mul(2) };
        let at = index as usize;
        let block = self.build(root.len + 1, room, |new| match new.cmp(&at) {
            std::cmp::Ordering::Less => old[new].load(Relaxed),
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => old[new - 1].load(Relaxed),
        })?;
        let of = if is_inline::<T>() { 0 } else { link(block) };
        let entry = Entry { new_run: (of, index, index + 1), ..Entry::default() };
        self.replace::<T>(block, &[value], entry)?;
        Ok(true)
    }

    /// Removes the element at `index` and returns it. The later elements move down by one.
    pub(crate) fn remove<T: Item + ?Sized>(&self, index: u64) -> Result<Option<T::Owned>> {
        let root = self.root()?;
        if index >= root.len {
            return Ok(None);
        }
        if index + 1 == root.len {
            return self.pop::<T>();
        }
        let value = self.get::<T>(index)?;
        let old = self.slots(root.link, root.len).ok_or_else(damaged)?;
        let at = index as usize;
        let block =
            self.build(root.len - 1, root.room, |new| old[new + usize::from(new >= at)].load(Relaxed))?;
        let of = if is_inline::<T>() { 0 } else { root.link };
        let entry = Entry { old_run: (of, index, index + 1), ..Entry::default() };
        self.replace::<T>(block, &[] as &[&T], entry)?;
        Ok(value)
    }

    /// Removes all elements.
    pub(crate) fn clear<T: Item + ?Sized>(&self) -> Result<()> {
        let root = self.root()?;
        if root.link == 0 {
            return Ok(());
        }
        let of = if is_inline::<T>() { 0 } else { root.link };
        let old_run = (of, 0, root.len);
        let entry = Entry { target: 0, value: 0, old_root: root.link, old_run, ..Entry::default() };
        self.carry_out(entry, || Ok(()))
    }

    /// Sorts the elements by `compare`. Stable.
    pub(crate) fn sort<T: Item + ?Sized>(
        &self,
        mut compare: impl FnMut(&T, &T) -> std::cmp::Ordering,
    ) -> Result<()> {
        let root = self.root()?;
        if root.len < 2 {
            return Ok(());
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        let mut all = self.values::<T>(slots)?;
        all.sort_by(|(a, _), (b, _)| compare(a.borrow(), b.borrow()));
        self.check_here()?;
        let block = self.build(root.len, root.room, |index| all[index].1)?;
        self.replace::<T>(block, &[] as &[&T], Entry::default())
    }
}
