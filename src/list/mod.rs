//! A list: messages, strings or bytes in shared memory, in an order, as many as there is room for.
//!
//! Readers take no lock and write nothing that is shared; writers take the list's owner word one after the other, and a
//! stopped writer is waited for by writers only. Everything lives in the segment's heap ([`crate::heap`]).
//!
//! # State
//!
//! | where | what |
//! |---|---|
//! | [`Head`] | the owner word; the *root*; a journal of the change that is being made |
//! | root block | word 0: how many elements; then a word for each element, and room for more |
//! | word of an element | the message itself if its type has 8 bytes at most, else a *link* to a block with it |
//! | block of an element | its bytes; in a list of strings or bytes, whose lengths differ, a word with the length before them |
//!
//! A link is a block's offset and the lower 30 bits of its generation, so it never means the block that stands there
//! next. Zero is no block: the fresh state is an empty list.
//!
//! Every change is published by **one store of one word**: of the root (insert, remove, sort, clear, growing), of the length
//! in the root (push, pop, extend), or of an element's word (set). Blocks that hold what readers may look at are not
//! changed in place, but replaced.
//!
//! # Memory ordering
//!
//! The published word is stored with Release and loaded with Acquire, so what it leads to is complete. A reader copies a
//! block's words (Relaxed), then does an Acquire fence and looks whether the block's generation is still the link's; that pairs
//! with the Release fence after a claim ([`crate::heap::block`]). If it is another one, it starts over from the root. A length is
//! believed only after such a look, so that no more than an element's bytes are copied. The journal belongs to the holder of the owner word.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | blocks allocated, not in the journal | reaping | the heap frees them | what was about to be written |
//! | journal begun, word not yet published | the next writer | [`settle`](change::Change::settle): the word is not the one it was to be, so the new blocks are freed | as above |
//! | published, old blocks not yet freed | the next writer | the same: the word is the one it was to be, so the old blocks are freed | nothing |
//! | a panic of the user's code in a change | the next writer | the same | what was about to be written |
//! | while settling | the next writer | it starts over: links tell which blocks are freed already, and a root is freed after what it leads to | nothing |

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{compiler_fence, AtomicU64};

use crate::heap::Block;
use crate::message::CachePadded;
use crate::owner::OwnerId;
use crate::sync::owned::{self, OwnerWord};

mod change;
mod handle;
pub(crate) mod look;
mod read;

pub use handle::{Iter, List};

/// The memory side.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    word: CachePadded<OwnerWord>,
    /// Link to the root block; 0: the list is empty.
    root: CachePadded<AtomicU64>,
    journal: CachePadded<Journal>,
}

const _: () = assert!(size_of::<Head>() == 3 * 128);

/// Elements of a root block whose own blocks come or go: links in the words `from..to`.
#[derive(Debug)]
#[repr(C)]
struct Run {
    root: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
}

/// A change: which word publishes it, and which blocks are to be freed if it was, or was not.
#[derive(Debug)]
#[repr(C)]
struct Journal {
    /// 1 while there is a change.
    pending: AtomicU64,
    /// Offset in the segment of the word that publishes it; 0: it is [`Head::root`].
    target: AtomicU64,
    /// What the word then holds.
    value: AtomicU64,
    /// New blocks: an element, a root, elements of a root.
    fresh: AtomicU64,
    fresh_root: AtomicU64,
    fresh_run: Run,
    /// Old ones, likewise.
    stale: AtomicU64,
    stale_root: AtomicU64,
    stale_run: Run,
}

/// A change before it is in the journal.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    target: u64,
    value: u64,
    fresh: u64,
    fresh_root: u64,
    fresh_run: (u64, u64, u64),
    stale: u64,
    stale_root: u64,
    stale_run: (u64, u64, u64),
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
    fn begin(&self, entry: Entry) {
        // A death leaves what was stored up to some moment in the order of the program: so the end of the last change must have come
        // first, which only a compiler could turn around.
        compiler_fence(SeqCst);
        self.target.store(entry.target, Relaxed);
        self.value.store(entry.value, Relaxed);
        self.fresh.store(entry.fresh, Relaxed);
        self.fresh_root.store(entry.fresh_root, Relaxed);
        self.fresh_run.set(entry.fresh_run);
        self.stale.store(entry.stale, Relaxed);
        self.stale_root.store(entry.stale_root, Relaxed);
        self.stale_run.set(entry.stale_run);
        self.pending.store(1, Release); // pairs with pending(), if this process dies
    }

    fn pending(&self) -> Option<Entry> {
        (self.pending.load(Acquire) != 0).then(|| Entry {
            target: self.target.load(Relaxed),
            value: self.value.load(Relaxed),
            fresh: self.fresh.load(Relaxed),
            fresh_root: self.fresh_root.load(Relaxed),
            fresh_run: self.fresh_run.get(),
            stale: self.stale.load(Relaxed),
            stale_root: self.stale_root.load(Relaxed),
            stale_run: self.stale_run.get(),
        })
    }

    fn end(&self) {
        self.pending.store(0, Release); // pairs with pending()
    }
}

const GENERATION: u64 = (1 << 30) - 1;

/// A link to the block.
fn link(block: Block) -> u64 {
    (block.at / 16) << 30 | u64::from(block.generation) & GENERATION
}

/// Where the block of a link stands.
fn place(link: u64) -> u64 {
    (link >> 30) * 16
}

/// Whether a block of this generation is the one of the link.
fn is_of(link: u64, generation: u32) -> bool {
    u64::from(generation) & GENERATION == link & GENERATION
}

/// Frees the owner word, if `dead` holds it; the next writer settles what it was doing.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(head) = head_in(base, len) {
        head.word.recover(dead);
    }
}

/// What `pagemate show` says about a list.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    head_in(base, len).map_or(Vec::new(), |head| owned::describe(&head.word))
}

fn head_in<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are aligned to 128 and mapped for all of `len`, which is long enough; any bytes are a Head, which is
    // atomics. The callers use it only while they have the object.
    (len >= size_of::<Head>()).then(|| unsafe { &*base.cast::<Head>() })
}

#[cfg(test)]
mod tests;
