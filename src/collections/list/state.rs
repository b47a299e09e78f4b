//! A list: messages, strings or bytes in shared memory, in order, without a fixed limit.
//!
//! Readers take no lock and write nothing that is shared. Writers take the list's owner word one
//! after the other, so a stopped writer blocks only writers. Everything is stored in the segment's
//! heap ([`crate::heap`]).
//!
//! # State
//!
//! | where | what |
//! |---|---|
//! | [`Head`] | the owner word; the *root*; a journal of the change under way |
//! | root block | word 0: number of elements; then a word for each element, and spare words |
//! | word of an element | the message itself if its type has at most 8 bytes, else a *link* |
//! | block of an element | its bytes; for strings and bytes preceded by a word with their length |
//!
//! A link leads to the element's block. It is the block's offset and the lower 30 bits of its
//! generation, so it never leads to the next block at the same offset. Zero leads to no block: the
//! fresh state is an empty list.
//!
//! Every change is published by **one store of one word**: of the root (insert, remove, sort,
//! clear, growing), of the length in the root (push, pop, extend), or of an element's word (set).
//! Blocks that readers may read are not changed in place, but replaced.
//!
//! # Memory ordering
//!
//! The published word is stored with Release and loaded with Acquire, so the block that it leads to
//! is complete. A reader copies a block's words (Relaxed), then does an Acquire fence and checks
//! that the block's generation is still that of the link. That pairs with the Release fence after a
//! claim ([`crate::heap::block`]). If the generation differs, the reader starts over from the root.
//! A length is trusted only after such a check, so that no more than an element's bytes are copied.
//! The journal belongs to the holder of the owner word.
//!
//! # Death
//!
//! - **Blocks allocated, not in the journal.** Noticed by: reaping. Repair: the heap frees them.
//!   Lost: the data to be written.
//! - **Journal begun, word not yet published.** Noticed by: the next writer. Repair:
//!   [`finish_pending`](super::write::Change::finish_pending) finds another word than the
//!   journal's, and frees the new blocks. Lost: the data to be written.
//! - **Published, old blocks not yet freed.** Noticed by: the next writer. Repair: it finds the
//!   journal's word, and frees the old blocks. Lost: nothing.
//! - **A panic of the user's code in a change.** Noticed by: the next writer. Repair: the same.
//!   Lost: the data to be written.
//! - **Dies in `finish_pending`.** Noticed by: the next writer. Repair: it starts over: links tell
//!   which blocks are freed already, and a root is freed after the blocks that it leads to. Lost:
//!   nothing.

use crate::loom::compiler_fence;

use crate::heap::Block;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::message::CachePadded;
use crate::segment::owner::OwnerId;
use crate::sync::robust_word;
use crate::sync::robust_word::OwnerWord;

/// The memory side of a list.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) word: CachePadded<OwnerWord>,
    /// Link to the root block; 0 if the list is empty.
    pub(crate) root: CachePadded<AtomicU64>,
    pub(super) journal: CachePadded<Journal>,
}

const _: () = assert!(size_of::<Head>() == 3 * 128);

#[cfg(any(test, loom))]
impl Head {
    /// Creates an empty list.
    pub(crate) fn new() -> Head {
        let word = || AtomicU64::new(0);
        let run = || Run { root: word(), from: word(), to: word() };
        let journal = Journal {
            pending: word(),
            target: word(),
            value: word(),
            new: word(),
            new_root: word(),
            new_run: run(),
            old: word(),
            old_root: word(),
            old_run: run(),
        };
        Head {
            word: CachePadded::new(OwnerWord::new()),
            root: CachePadded::new(word()),
            journal: CachePadded::new(journal),
        }
    }
}

/// A range of elements of a root block, whose blocks are to be freed: the words `from..to` link to
/// them.
#[derive(Debug)]
#[repr(C)]
struct Run {
    pub(super) root: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
}

/// A change: the word that publishes it, and the blocks to free depending on whether it was
/// published.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Journal {
    /// 1 while there is a change.
    pending: AtomicU64,
    /// Offset in the segment of the word that publishes it; 0 for [`Head::root`].
    target: AtomicU64,
    /// The word's value after publication.
    value: AtomicU64,
    /// New blocks: an element, a root, elements of a root.
    new: AtomicU64,
    new_root: AtomicU64,
    new_run: Run,
    /// Old blocks, in the same way.
    old: AtomicU64,
    old_root: AtomicU64,
    old_run: Run,
}

/// A change before it is in the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) target: u64,
    pub(super) value: u64,
    pub(super) new: u64,
    pub(super) new_root: u64,
    pub(super) new_run: (u64, u64, u64),
    pub(super) old: u64,
    pub(super) old_root: u64,
    pub(super) old_run: (u64, u64, u64),
}

impl Run {
    fn set(&self, (root, from, to): (u64, u64, u64)) {
        self.root.store(root, Relaxed);
        self.from.store(from, Relaxed);
        self.to.store(to, Relaxed);
    }

    fn get(&self) -> (u64, u64, u64) {
        (self.root.load(Relaxed), self.from.load(Relaxed), self.to.load(Relaxed))
    }
}

impl Journal {
    pub(super) fn begin(&self, entry: Entry) {
        // A death cuts off the stores at some point in program order. So the store that ended the
        // last change must stay before these stores, and only the compiler could move it.
        compiler_fence(SeqCst);
        self.target.store(entry.target, Relaxed);
        self.value.store(entry.value, Relaxed);
        self.new.store(entry.new, Relaxed);
        self.new_root.store(entry.new_root, Relaxed);
        self.new_run.set(entry.new_run);
        self.old.store(entry.old, Relaxed);
        self.old_root.store(entry.old_root, Relaxed);
        self.old_run.set(entry.old_run);
        self.pending.store(1, Release); // pairs with pending(), if this process dies
    }

    pub(super) fn pending(&self) -> Option<Entry> {
        (self.pending.load(Acquire) != 0).then(|| Entry {
            target: self.target.load(Relaxed),
            value: self.value.load(Relaxed),
            new: self.new.load(Relaxed),
            new_root: self.new_root.load(Relaxed),
            new_run: self.new_run.get(),
            old: self.old.load(Relaxed),
            old_root: self.old_root.load(Relaxed),
            old_run: self.old_run.get(),
        })
    }

    pub(super) fn end(&self) {
        self.pending.store(0, Release); // pairs with pending()
    }
}

const GENERATION: u64 = (1 << 30) - 1;

/// Returns a link to the block.
pub(super) fn link(block: Block) -> u64 {
    (block.at / 16) << 30 | u64::from(block.generation) & GENERATION
}

/// Returns the offset of a link's block.
pub(crate) fn place(link: u64) -> u64 {
    (link >> 30) * 16
}

/// Returns true if a block of this generation is the one of the link.
pub(crate) fn is_of(link: u64, generation: u32) -> bool {
    u64::from(generation) & GENERATION == link & GENERATION
}

/// Frees the owner word if `dead` holds it. The next writer completes or undoes the change of
/// `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(head) = head_in(base, len) {
        head.word.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a list.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    head_in(base, len).map_or(Vec::new(), |head| robust_word::describe(&head.word))
}

pub(crate) fn head_in<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are aligned to 128 and mapped for all of `len`, which is long enough. Any
    // bytes are a Head, which consists of atomics. The callers use it only while they have the
    // object.
    (len >= size_of::<Head>()).then(|| unsafe { &*base.cast::<Head>() })
}
