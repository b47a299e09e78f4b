//! Changing a list: build what is new, write into the journal what will be, publish it by one store, free what is old.

use std::borrow::Borrow;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::read::{self, damaged, is_inline};
use super::{is_of, link, place, Entry, Head};
use crate::heap::{Block, Heap, State};
use crate::item::{word_of, words_for, words_of, Item};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::sync::owned;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Elements that the first root has place for.
const ROOM_MIN: u64 = 7;

/// The list while this process alone changes it. Its Drop frees the owner word.
#[derive(Debug)]
pub(super) struct Change<'a> {
    heap: &'a Heap,
    head: &'a Head,
    me: OwnerId,
    epoch: u32,
}

/// The root as its holder sees it.
#[derive(Debug, Clone, Copy)]
struct Root {
    link: u64,
    len: u64,
    room: u64,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // In a child of a fork it is the parent's. False only if somebody has overwritten the word: then it is not ours to free.
        _ = self.is_here() && self.head.word.release(self.me);
    }
}

impl<'a> Change<'a> {
    /// Waits until nobody else changes the list. Finishes or undoes what somebody who died was doing, or panicked in.
    pub(super) fn begin(
        object: &ObjectRef,
        heap: &'a Heap,
        head: &'a Head,
        patience: Option<Duration>,
    ) -> Result<Change<'a>> {
        let (epoch, me) = (fork::epoch(), object.owner()?);
        let deadline = patience.map_or(Deadline::Never, Deadline::after);
        let acquired = owned::acquire_from_all(&head.word, object, me, deadline);
        let acquired = acquired.ok_or_else(|| owned::held(&head.word, "changing the list"))?;
        let change = Change { heap, head, me, epoch };
        change.settle();
        if acquired.after_death {
            head.word.mark_consistent();
        }
        Ok(change)
    }

    fn is_here(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// That this process is the one that began, after the user's code was called, which may have forked: the child's list is not
    /// its to change.
    pub(super) fn check_here(&self) -> Result<()> {
        self.is_here().then_some(()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotInThisProcess,
                "the parent of this process is changing the list: a child of a fork cannot go on with it",
            )
        })
    }

    /// Ends the change that is in the journal: if it was published, what is old is freed, else what is new. Idempotent.
    pub(super) fn settle(&self) {
        let journal = &self.head.journal;
        let Some(entry) = journal.pending() else { return };
        let stands = match entry.target {
            0 => Some(self.head.root.load(Acquire)),
            at => self.heap.words(at, 1).map(|words| words[0].load(Acquire)),
        };
        let (element, run, root) = if stands == Some(entry.value) {
            (entry.stale, entry.stale_run, entry.stale_root)
        } else {
            (entry.fresh, entry.fresh_run, entry.fresh_root)
        };
        self.free(element);
        let (of, from, to) = run;
        if from < to && self.identify(of).is_some() {
            // No more than the block holds, whatever the journal says.
            let room = self.heap.len(place(of)).map_or(0, |len| len / 8 - 1);
            if let Some(links) = self.slots(of, to.min(room)) {
                links.iter().skip(from as usize).for_each(|link| self.free(link.load(Relaxed)));
            }
        }
        self.free(root);
        journal.end();
    }

    /// The block of this link, if it lasts.
    fn identify(&self, link: u64) -> Option<Block> {
        if link == 0 {
            return None;
        }
        self.heap.identify(place(link)).filter(|block| is_of(link, block.generation))
    }

    /// Frees the block of this link, if it is not freed yet. One that the dead had in hand is the heap's to free.
    fn free(&self, link: u64) {
        if link == 0 {
            return;
        }
        if let Ok((block, state)) = self.heap.state(place(link)) {
            if is_of(link, block.generation) && (state == State::Live || state == State::Claimed(self.me)) {
                // Fails if the memory is damaged; then there is nothing to free.
                _ = self.heap.free(block);
            }
        }
    }

    /// The first `count` elements' words of this root.
    fn slots(&self, root: u64, count: u64) -> Option<&'a [AtomicU64]> {
        self.heap.words(place(root) + 8, usize::try_from(count).ok()?)
    }

    fn root(&self) -> Result<Root> {
        let link = self.head.root.load(Relaxed);
        if link == 0 {
            return Ok(Root { link, len: 0, room: 0 });
        }
        self.identify(link).ok_or_else(damaged)?;
        let room = self.heap.len(place(link))? / 8 - 1;
        let len = self.length(link).ok_or_else(damaged)?.load(Relaxed);
        if len > room {
            return Err(damaged());
        }
        Ok(Root { link, len, room })
    }

    fn length(&self, root: u64) -> Option<&'a AtomicU64> {
        self.heap.words(place(root), 1)?.first()
    }

    /// A new root block in this process's hand, for `len` elements and `room` in all, whose words are what `fill` says.
    fn build(&self, len: u64, room: u64, fill: impl Fn(usize) -> u64) -> Result<Block> {
        let bytes =
            room.checked_add(1).and_then(|words| words.checked_mul(8)).and_then(|n| usize::try_from(n).ok());
        let block = self.heap.alloc(bytes.unwrap_or(usize::MAX))?;
        let words = self.heap.words(block.at, len as usize + 1).ok_or_else(damaged)?;
        words[0].store(len, Relaxed);
        words[1..].iter().enumerate().for_each(|(index, word)| word.store(fill(index), Relaxed));
        Ok(block)
    }

    /// Replaces the root by `block`, which is in this process's hand.
    fn replace<T: Item + ?Sized>(&self, block: Block, values: &[impl Borrow<T>], entry: Entry) -> Result<()> {
        let new = link(block);
        let old = self.head.root.load(Relaxed);
        self.head.journal.begin(Entry { target: 0, value: new, fresh_root: new, stale_root: old, ..entry });
        let put = self.heap.publish(block).and_then(|()| {
            let (_, from, to) = entry.fresh_run;
            let slots = self.slots(new, to).ok_or_else(damaged)?;
            self.put_all::<T>(&slots[(from as usize).min(slots.len())..], values)
        });
        if put.is_ok() {
            self.head.root.store(new, Release); // pairs with readers
        }
        self.settle();
        put
    }

    /// Writes values where the words of elements are that nobody can see yet.
    fn put_all<T: Item + ?Sized>(&self, slots: &[AtomicU64], values: &[impl Borrow<T>]) -> Result<()> {
        slots.iter().zip(values).try_for_each(|(slot, value)| {
            let value: &T = value.borrow();
            if is_inline::<T>() {
                // Whoever sees it sees that the list had become shorter before. Pairs with get().
                slot.store(word_of(value.bytes()), Release);
                return Ok(());
            }
            let block = self.write(value)?;
            slot.store(link(block), Release); // before it lasts: so that it can be found
            self.heap.publish(block)
        })
    }

    /// A block with this value, in this process's hand; its length before it, unless that is the same for all.
    fn write<T: Item + ?Sized>(&self, value: &T) -> Result<Block> {
        let bytes = value.bytes();
        let length = T::SIZE.is_none().then_some(bytes.len() as u64);
        let count = usize::from(length.is_some()) + words_for(bytes.len());
        let block = self.heap.alloc(8 * count)?;
        let there = self.heap.words(block.at, count).ok_or_else(damaged)?;
        let words = length.into_iter().chain(words_of(bytes));
        there.iter().zip(words).for_each(|(there, word)| there.store(word, Relaxed));
        Ok(block)
    }

    fn read<T: Item + ?Sized>(&self, word: u64) -> Result<T::Owned> {
        let value = match is_inline::<T>() {
            true => read::inline::<T>(word),
            false => read::value::<T>(self.heap, word).flatten(),
        };
        value.ok_or_else(damaged)
    }

    /// The value at `index`, which stands still.
    pub(super) fn get<T: Item + ?Sized>(&self, index: u64) -> Result<Option<T::Owned>> {
        let root = self.root()?;
        if index >= root.len {
            return Ok(None);
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        self.read::<T>(slots[index as usize].load(Relaxed)).map(Some)
    }

    /// All values, which stand still.
    pub(super) fn all<T: Item + ?Sized>(&self) -> Result<Vec<T::Owned>> {
        let root = self.root()?;
        if root.link == 0 {
            return Ok(Vec::new());
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        slots.iter().map(|slot| self.read::<T>(slot.load(Relaxed))).collect()
    }

    /// All values at the end: all of them, or none.
    pub(super) fn append<T: Item + ?Sized>(&self, values: &[impl Borrow<T>]) -> Result<()> {
        let root = self.root()?;
        let to = root.len + values.len() as u64;
        let fresh = |of| if is_inline::<T>() { (0, root.len, to) } else { (of, root.len, to) };
        if to > root.room {
            let room = to.max(root.room.saturating_mul(2)).max(ROOM_MIN);
            let old = self.slots(root.link, root.len).ok_or_else(damaged);
            let old = if root.link == 0 { &[][..] } else { old? };
            let block = self.build(to, room, |index| old.get(index).map_or(0, |word| word.load(Relaxed)))?;
            let entry = Entry { fresh_run: fresh(link(block)), ..Entry::default() };
            return self.replace::<T>(block, values, entry);
        }
        if values.is_empty() {
            return Ok(());
        }
        let slots = &self.slots(root.link, to).ok_or_else(damaged)?[root.len as usize..];
        let length = self.length(root.link).ok_or_else(damaged)?;
        if is_inline::<T>() {
            self.put_all::<T>(slots, values)?;
            length.store(to, Release); // pairs with get()
            return Ok(());
        }
        slots.iter().for_each(|slot| slot.store(0, Relaxed));
        let target = place(root.link);
        self.head.journal.begin(Entry { target, value: to, fresh_run: fresh(root.link), ..Entry::default() });
        let put = self.put_all::<T>(slots, values);
        if put.is_ok() {
            length.store(to, Release); // pairs with get()
        }
        self.settle();
        put
    }

    /// Takes the last element away.
    pub(super) fn pop<T: Item + ?Sized>(&self) -> Result<Option<T::Owned>> {
        let root = self.root()?;
        let Some(last) = root.len.checked_sub(1) else { return Ok(None) };
        let value = self.get::<T>(last)?;
        let length = self.length(root.link).ok_or_else(damaged)?;
        if !is_inline::<T>() {
            let stale_run = (root.link, last, root.len);
            let target = place(root.link);
            self.head.journal.begin(Entry { target, value: last, stale_run, ..Entry::default() });
        }
        length.store(last, Release); // pairs with get()
        self.settle();
        Ok(value)
    }

    /// Puts a value in the place of the one at `index`. False: there is none.
    pub(super) fn set<T: Item + ?Sized>(&self, index: u64, value: &T) -> Result<bool> {
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
        let stale = slot.load(Relaxed);
        self.head.journal.begin(Entry { target, value: new, fresh: new, stale, ..Entry::default() });
        let published = self.heap.publish(block);
        if published.is_ok() {
            slot.store(new, Release); // pairs with get()
        }
        self.settle();
        published.map(|()| true)
    }

    /// Puts a value before the one at `index`, which may be the end. False: the list is shorter.
    pub(super) fn insert<T: Item + ?Sized>(&self, index: u64, value: &T) -> Result<bool> {
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
        let entry = Entry { fresh_run: (of, index, index + 1), ..Entry::default() };
        self.replace::<T>(block, &[value], entry)?;
        Ok(true)
    }

    /// Takes the element at `index` away; what is behind it moves up.
    pub(super) fn remove<T: Item + ?Sized>(&self, index: u64) -> Result<Option<T::Owned>> {
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
        let entry = Entry { stale_run: (of, index, index + 1), ..Entry::default() };
        self.replace::<T>(block, &[] as &[&T], entry)?;
        Ok(value)
    }

    /// Takes all elements away.
    pub(super) fn clear<T: Item + ?Sized>(&self) -> Result<()> {
        let root = self.root()?;
        if root.link == 0 {
            return Ok(());
        }
        let of = if is_inline::<T>() { 0 } else { root.link };
        let stale_run = (of, 0, root.len);
        self.head.journal.begin(Entry { value: 0, stale_root: root.link, stale_run, ..Entry::default() });
        self.head.root.store(0, Release);
        self.settle();
        Ok(())
    }

    /// Puts the elements in the order that `compare` says, equal ones as they were.
    pub(super) fn sort<T: Item + ?Sized>(
        &self,
        mut compare: impl FnMut(&T, &T) -> std::cmp::Ordering,
    ) -> Result<()> {
        let root = self.root()?;
        if root.len < 2 {
            return Ok(());
        }
        let slots = self.slots(root.link, root.len).ok_or_else(damaged)?;
        let mut all = Vec::with_capacity(slots.len());
        for slot in slots {
            let word = slot.load(Relaxed);
            all.push((self.read::<T>(word)?, word));
        }
        all.sort_by(|(a, _), (b, _)| compare(a.borrow(), b.borrow()));
        self.check_here()?;
        let block = self.build(root.len, root.room, |index| all[index].1)?;
        self.replace::<T>(block, &[] as &[&T], Entry::default())
    }
}
