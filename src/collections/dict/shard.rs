//! A shard: the part of a dict that one writer at a time changes, and the steps of a change.
//!
//! Every change is the store of one word: of a bucket, or of the word that leads to the table. The
//! writer first records what the change needs and what it leaves behind. So after a death the next
//! writer can tell whether that store happened, and completes or undoes the change.
//!
//! # State
//!
//! | word | meaning | written by |
//! |---|---|---|
//! | `version` | number of times a block was taken out of readers' reach | the writer |
//! | `table` | where the buckets are ([`super::word`]); 0: none yet | the writer |
//! | `owner` | the writer ([`crate::sync::robust_word`]) | writers, reapers |
//! | `count`, `used` | entries; buckets that are not empty | the writer |
//! | `change.location` | 0: idle; else which word changes, and `change` is valid | the writer |
//!
//! Zero is the fresh state.
//!
//! The steps of a change, each of which may be the last of a dying writer:
//!
//! | step | what happens | readers see |
//! |---|---|---|
//! | 0 | the change is recorded, its location last | the old |
//! | 1 | the new block is published: reaping no longer frees it | the old |
//! | 2 | the word is stored | the new |
//! | 3 | if an old block is to be freed, the version is incremented | the new |
//! | 4 | the old block is retired: freed, unless it is read in place | the new |
//! | 5 | the counts are stored | the new |
//! | 6 | the record is cleared | the new |
//!
//! # Memory ordering
//!
//! Step 2 is a Release store, and readers load table and bucket with Acquire. So a reader that sees
//! a block sees its content.
//!
//! A reader may still read a block that has been freed and is being filled again. It loads the
//! version first (Acquire), reads words one by one (Relaxed), passes an Acquire fence and loads the
//! version again. Suppose one of the words came from a writer that filled the block again. Then
//! that writer's Release fence before the filling synchronised with the reader's fence. The filling
//! came after the claim of the block, the claim after the free, and the free after step 3. So the
//! reader finds another version and starts over. This is a sequence lock whose writer never blocks
//! readers, because the sequence is incremented in one step.
//!
//! Only the writer changes the other words, ordered by the Acquire and Release of the owner word.
//!
//! # Death
//!
//! - **Before step 0 is complete.** Noticed by: reaping. Repair: the heap frees the claimed block.
//!   Lost: the data to be written.
//! - **After step 0.** Noticed by: the next writer of the shard, or `len`. Repair:
//!   [`Shard::finish_pending`]: the word is the old one, so the heap frees the new block. Lost: the
//!   data to be written.
//! - **After step 1.** Noticed by: the same. Repair: the word is the old one, so the new block is
//!   freed. Lost: the data to be written.
//! - **After step 2.** Noticed by: the same. Repair: the word is stored, so steps 3 to 6 follow.
//!   Lost: nothing.
//! - **In `finish_pending`.** Noticed by: the same. Repair: it starts over; a block is freed only
//!   if it is live and of its generation. Lost: nothing.
//! - **Value of one word is stored in place.** Noticed by: nobody. Repair: not needed, because it
//!   is one store. Lost: nothing.

use crate::heap::Block;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::robust_word::OwnerWord;

use super::store::Store;
use super::word::{Damaged, Table};

/// No change is under way.
const NONE: u64 = 0;
/// The word is the bucket of this index.
const BUCKET: u64 = 1;
/// The word is that of the table.
const TABLE: u64 = 2;

/// The steps of a change.
pub(crate) const STEPS: usize = 7;

/// The memory side of a shard.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Shard {
    // The cache line of readers: written when an entry is replaced or removed, and when the table
    // grows.
    pub(crate) version: AtomicU64,
    pub(crate) table: AtomicU64,
    _readers: [u64; 14],
    // The cache line of writers.
    pub(crate) owner: OwnerWord,
    _pad: u32,
    pub(crate) count: AtomicU64,
    used: AtomicU64,
    /// The bucket from which the last `pop` took an entry; the next one begins there. Any value is
    /// allowed.
    pub(crate) hint: AtomicU64,
    change: Record,
    _writer: [u64; 2],
}

/// The change that is under way.
#[derive(Debug)]
#[repr(C)]
struct Record {
    location: AtomicU64,
    index: AtomicU64,
    target: AtomicU64,
    new: [AtomicU64; 2],
    old: [AtomicU64; 2],
    version: AtomicU64,
    count: AtomicU64,
    used: AtomicU64,
}

const _: () = assert!(size_of::<Shard>() == 256 && std::mem::offset_of!(Shard, owner) == 128);

/// The word that a change stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    Bucket(u64),
    Table,
}

/// A change: the word, the new and the old block, and the counts afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) location: Location,
    pub(crate) target: u64,
    /// The block that `target` leads to, claimed and filled.
    pub(crate) new: Option<Block>,
    /// The block that nothing leads to afterwards.
    pub(crate) old: Option<Block>,
    pub(crate) version: u64,
    pub(crate) count: u64,
    pub(crate) used: u64,
}

impl Record {
    #[inline]
    fn write(&self, change: &Change) {
        let (location, index) = match change.location {
            Location::Bucket(index) => (BUCKET, index),
            Location::Table => (TABLE, 0),
        };
        // A death cuts off the stores at some point in program order. So the store that ended the
        // last change must stay before these stores, and only the compiler could move it.
        crate::loom::compiler_fence(crate::loom::atomic::Ordering::SeqCst);
        self.index.store(index, Relaxed);
        self.target.store(change.target, Relaxed);
        for (words, block) in [(&self.new, change.new), (&self.old, change.old)] {
            words[0].store(block.map_or(0, |block| block.at), Relaxed);
            words[1].store(block.map_or(0, |block| block.generation.into()), Relaxed);
        }
        self.version.store(change.version, Relaxed);
        self.count.store(change.count, Relaxed);
        self.used.store(change.used, Relaxed);
        // Last, so that a dying writer leaves a whole change or none. Pairs with the Acquire in
        // read().
        self.location.store(location, Release);
    }

    fn read(&self) -> Option<Change> {
        let location = match self.location.load(Acquire) {
            BUCKET => Location::Bucket(self.index.load(Relaxed)),
            TABLE => Location::Table,
            _ => return None,
        };
        let block = |words: &[AtomicU64; 2]| {
            let (at, generation) = (words[0].load(Relaxed), words[1].load(Relaxed) as u32);
            (at != 0).then_some(Block { at, generation })
        };
        Some(Change {
            location,
            target: self.target.load(Relaxed),
            new: block(&self.new),
            old: block(&self.old),
            version: self.version.load(Relaxed),
            count: self.count.load(Relaxed),
            used: self.used.load(Relaxed),
        })
    }
}

impl Shard {
    /// Creates a shard without entries.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Shard {
        let word = || AtomicU64::new(0);
        let two = || [word(), word()];
        let change = Record {
            location: word(),
            index: word(),
            target: word(),
            new: two(),
            old: two(),
            version: word(),
            count: word(),
            used: word(),
        };
        Shard {
            version: word(),
            table: word(),
            _readers: [0; 14],
            owner: OwnerWord::new(),
            _pad: 0,
            count: word(),
            used: word(),
            hint: word(),
            change,
            _writer: [0; 2],
        }
    }

    /// Returns the number of entries. Racy, except for the writer.
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Returns the number of buckets that are not empty. Only for the writer.
    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Returns true if a writer died here, or may be at work. Racy.
    pub(crate) fn has_pending(&self) -> bool {
        // Acquire: a reader that finds no change sees the counts of the last one. Pairs with
        // step().
        self.owner.is_after_death() || self.change.location.load(Acquire) != NONE
    }

    /// Returns the table, if there is one yet.
    #[inline(always)]
    pub(crate) fn table(&self) -> Result<Option<Table>, Damaged> {
        Table::from_word(self.table.load(Acquire)) // pairs with step()
    }

    /// Returns the word that a change stores to; `None` if the table is damaged.
    fn word<'a, S: Store>(&'a self, store: &'a S, location: Location) -> Option<&'a AtomicU64> {
        match location {
            Location::Table => Some(&self.table),
            Location::Bucket(index) => {
                let table = self.table().ok()??;
                store.words(table.at, table.capacity())?.get(usize::try_from(index).ok()?)
            }
        }
    }

    /// Does one step of a change. Only for the writer, which does the steps in order.
    #[inline(always)]
    fn step<S: Store>(&self, store: &S, change: &Change, step: usize) {
        match step {
            0 => self.change.write(change),
            1 => change.new.into_iter().for_each(|block| store.publish(block)),
            2 => {
                if let Some(word) = self.word(store, change.location) {
                    word.store(change.target, Release); // pairs with read::find() and table()
                }
            }
            3 => {
                if change.old.is_some() {
                    // Before the old block is freed: see the module doc. Pairs with
                    // read::consistent().
                    self.version.store(change.version, Release);
                }
            }
            4 => change.old.into_iter().for_each(|block| store.retire(block)),
            5 => {
                self.count.store(change.count, Relaxed);
                self.used.store(change.used, Relaxed);
            }
            _ => self.change.location.store(NONE, Release),
        }
    }

    /// Does all steps of a change. Only for the writer.
    #[inline]
    pub(crate) fn carry_out<S: Store>(&self, store: &S, change: &Change) {
        self.carry_out_from(store, change, 0);
    }

    /// Does the steps of a change, beginning at `from`.
    #[inline(always)]
    fn carry_out_from<S: Store>(&self, store: &S, change: &Change, from: usize) {
        for step in from..STEPS {
            if store.has_died() {
                return;
            }
            self.step(store, change, step);
        }
    }

    /// Completes or undoes the change of a writer that died. The next writer calls it first.
    #[inline]
    pub(crate) fn finish_pending<S: Store>(&self, store: &S) {
        if self.change.location.load(Relaxed) != NONE {
            self.finish_change(store);
        }
    }

    #[cold]
    fn finish_change<S: Store>(&self, store: &S) {
        if let Some(change) = self.change.read() {
            let stored =
                self.word(store, change.location).is_some_and(|word| word.load(Relaxed) == change.target);
            if stored {
                return self.carry_out_from(store, &change, 3);
            }
            if store.has_died() {
                return;
            }
            // Does nothing if the dead writer still claims the block: then the heap frees it.
            change.new.into_iter().for_each(|block| store.free(block));
        }
        if !store.has_died() {
            self.change.location.store(NONE, Release);
        }
    }
}
