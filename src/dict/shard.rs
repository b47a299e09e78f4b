//! A shard: the part of a dict that one writer at a time changes, and the steps in which it does.
//!
//! Every change is the store of one word: of a bucket, or of the word that leads to the table. What a change needs before
//! and leaves behind is written down first, so that whoever comes after a writer that died can tell which side of that
//! store it died on, and finishes or undoes.
//!
//! # State
//!
//! | word | meaning | who writes |
//! |---|---|---|
//! | `version` | how often something was taken out of readers' reach, which may be freed then | the writer |
//! | `table` | where the buckets are ([`super::word`]); 0: there are none yet | the writer |
//! | `owner` | the writer ([`crate::sync::owned`]) | writers, reapers |
//! | `count`, `used` | entries; buckets that are not empty | the writer |
//! | `change.sort` | 0: no change is under way; else of what the word is, and all of `change` holds | the writer |
//!
//! Zero is the fresh state.
//!
//! The steps of a change, each of which may be the last of its writer:
//!
//! | step | what happens | readers see |
//! |---|---|---|
//! | 0 | the change is written down, its sort last | the old |
//! | 1 | the new block is published: reaping does not free it any more | the old |
//! | 2 | the word is stored | the new |
//! | 3 | if something old is to be freed, the version goes up | the new |
//! | 4 | the old block is retired: freed, unless somebody reads it in place | the new |
//! | 5 | the counts are stored | the new |
//! | 6 | no change is under way | the new |
//!
//! # Memory ordering
//!
//! Step 2 is a Release store, and readers load table and bucket with Acquire: who sees a block sees what is in it.
//!
//! A reader may still look at what has been freed and is being filled anew. It loads the version before (Acquire), reads
//! words one by one (Relaxed), passes an Acquire fence and loads the version again. If any of the words came from who
//! filled the block anew, then that one's Release fence before the filling met the reader's fence; the filling came after
//! the block was claimed, that after it was freed, and that after step 3: so the reader finds another version and starts
//! again. This is a sequence lock whose writer never keeps readers waiting, since the sequence goes up in one step.
//!
//! The writer's other words are its own, by the Acquire and Release of the owner word.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | before step 0 is over | reaping | the heap frees the claimed block | what was about to be written |
//! | after step 0 | the next writer here, or `len` | [`Shard::settle`]: the word is as it was, so the heap frees the new block | as above |
//! | after step 1 | the same | the word is as it was: the new block is freed | as above |
//! | after step 2 | the same | the word is stored: steps 3 to 6 | nothing |
//! | in `settle` | the same | it begins again; a block is freed only if it lasts and is of its generation | nothing |
//! | a value of a word is stored in place | nobody needs to | it is one store | nothing |

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::owned::OwnerWord;

use super::store::{Block, Store};
use super::word::{Damaged, Table};

/// No change is under way.
const NONE: u64 = 0;
/// The word is the bucket of this index.
const BUCKET: u64 = 1;
/// The word is that of the table.
const TABLE: u64 = 2;

/// The steps of a change.
pub(crate) const STEPS: usize = 7;

/// The memory side.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Shard {
    // The line that readers look at: written when something is replaced or removed, and when the table grows.
    pub(super) version: AtomicU64,
    pub(super) table: AtomicU64,
    _readers: [u64; 14],
    // The line of writers.
    pub(crate) owner: OwnerWord,
    _pad: u32,
    pub(super) count: AtomicU64,
    used: AtomicU64,
    /// Where the last arbitrary entry was taken; may be anything.
    pub(super) hint: AtomicU64,
    change: Record,
    _writer: [u64; 2],
}

/// The change that is under way.
#[derive(Debug)]
#[repr(C)]
struct Record {
    sort: AtomicU64,
    index: AtomicU64,
    target: AtomicU64,
    new: [AtomicU64; 2],
    old: [AtomicU64; 2],
    version: AtomicU64,
    count: AtomicU64,
    used: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Shard>() == 256 && std::mem::offset_of!(Shard, owner) == 128);

/// Which word a change stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Bucket(u64),
    Table,
}

/// A change: one word, what it leads to, what it has led to, and the counts behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(super) spot: Spot,
    pub(super) target: u64,
    /// The block that `target` leads to, claimed and filled.
    pub(super) new: Option<Block>,
    /// The block that nothing leads to afterwards.
    pub(super) old: Option<Block>,
    pub(super) version: u64,
    pub(super) count: u64,
    pub(super) used: u64,
}

impl Record {
    #[inline]
    fn write(&self, change: &Change) {
        let (sort, index) = match change.spot {
            Spot::Bucket(index) => (BUCKET, index),
            Spot::Table => (TABLE, 0),
        };
        // A death leaves what was stored up to some moment in the order of the program: so the end of the last change must have come
        // first, which only a compiler could turn around.
        #[cfg(not(loom))]
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.index.store(index, Relaxed);
        self.target.store(change.target, Relaxed);
        for (words, block) in [(&self.new, change.new), (&self.old, change.old)] {
            words[0].store(block.map_or(0, |block| block.at), Relaxed);
            words[1].store(block.map_or(0, |block| block.generation), Relaxed);
        }
        self.version.store(change.version, Relaxed);
        self.count.store(change.count, Relaxed);
        self.used.store(change.used, Relaxed);
        // Last, so that what a dying writer leaves is a whole change or none. Pairs with the Acquire in read().
        self.sort.store(sort, Release);
    }

    fn read(&self) -> Option<Change> {
        let spot = match self.sort.load(Acquire) {
            BUCKET => Spot::Bucket(self.index.load(Relaxed)),
            TABLE => Spot::Table,
            _ => return None,
        };
        let block = |words: &[AtomicU64; 2]| {
            let (at, generation) = (words[0].load(Relaxed), words[1].load(Relaxed));
            (at != 0).then_some(Block { at, generation })
        };
        Some(Change {
            spot,
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
    /// Without entries.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Shard {
        let word = || AtomicU64::new(0);
        let two = || [word(), word()];
        let change = Record {
            sort: word(),
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

    /// How many entries there are. Racy, unless it is the writer who asks.
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// How many buckets are not empty. For the writer.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Whether a writer died here, or may be at work. Racy.
    pub(crate) fn is_unsettled(&self) -> bool {
        // Acquire: who finds that there is none sees what the last one has counted. Pairs with step().
        self.owner.is_after_death() || self.change.sort.load(Acquire) != NONE
    }

    /// The table, if there is one yet.
    #[inline(always)]
    pub(super) fn table(&self) -> Result<Option<Table>, Damaged> {
        Table::from_word(self.table.load(Acquire)) // pairs with step()
    }

    /// The word that a change stores. `None`: damage.
    fn word<'a, S: Store>(&'a self, store: &'a S, spot: Spot) -> Option<&'a AtomicU64> {
        match spot {
            Spot::Table => Some(&self.table),
            Spot::Bucket(index) => {
                let table = self.table().ok()??;
                store.words(table.at, table.capacity())?.get(usize::try_from(index).ok()?)
            }
        }
    }

    /// One step of a change. For the writer, in their order.
    #[inline(always)]
    fn step<S: Store>(&self, store: &S, change: &Change, step: usize) {
        match step {
            0 => self.change.write(change),
            1 => change.new.into_iter().for_each(|block| store.publish(block)),
            2 => {
                if let Some(word) = self.word(store, change.spot) {
                    word.store(change.target, Release); // pairs with read::find() and table()
                }
            }
            3 => {
                if change.old.is_some() {
                    // Before the old block is freed: see the module doc. Pairs with read::consistent().
                    self.version.store(change.version, Release);
                }
            }
            4 => change.old.into_iter().for_each(|block| store.retire(block)),
            5 => {
                self.count.store(change.count, Relaxed);
                self.used.store(change.used, Relaxed);
            }
            _ => self.change.sort.store(NONE, Release),
        }
    }

    /// All steps of a change. For the writer.
    #[inline]
    pub(super) fn carry_out<S: Store>(&self, store: &S, change: &Change) {
        self.carry_on(store, change, 0);
    }

    /// All steps of a change from one of them on.
    #[inline(always)]
    fn carry_on<S: Store>(&self, store: &S, change: &Change, from: usize) {
        for step in from..STEPS {
            if store.has_died() {
                return;
            }
            self.step(store, change, step);
        }
    }

    /// Finishes or undoes what an earlier writer died in. For the writer, before anything else.
    #[inline]
    pub(crate) fn settle<S: Store>(&self, store: &S) {
        if self.change.sort.load(Relaxed) != NONE {
            self.settle_change(store);
        }
    }

    #[cold]
    fn settle_change<S: Store>(&self, store: &S) {
        if let Some(change) = self.change.read() {
            let stored =
                self.word(store, change.spot).is_some_and(|word| word.load(Relaxed) == change.target);
            if stored {
                return self.carry_on(store, &change, 3);
            }
            if store.has_died() {
                return;
            }
            // Still claimed by the dead it is the heap's to free.
            change.new.into_iter().for_each(|block| store.free(block));
        }
        if !store.has_died() {
            self.change.sort.store(NONE, Release);
        }
    }
}
