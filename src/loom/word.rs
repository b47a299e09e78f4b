//! A word of a model, and what is known of it in all executions.
//!
//! # Loads
//!
//! loom remembers one access of each object, the last one. A thread's load hides that another
//! thread has loaded the word before, so loom would not try the store that follows between the two.
//! So a load of a word that several processes use, and one of them writes, first changes a second
//! object, the word's *shadow*, because loom tries both orders of two changes. Which words these
//! are is learned by running the model; it runs again with their shadows until no more are found.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use super::atomic::Ordering;
use super::sleepers::Sleepers;
use super::twin::{Change, Twin};

thread_local! {
    /// The words that have shadows.
    static SHADOWED: RefCell<BTreeSet<Key>> = const { RefCell::new(BTreeSet::new()) };
    /// The words that were found to need shadows.
    static FOUND: RefCell<BTreeSet<Key>> = const { RefCell::new(BTreeSet::new()) };
}

/// A mapped word, in all executions: the number of its region, and its offset there.
pub(super) type Key = (usize, usize);

/// Forgets what was found in earlier models.
pub(super) fn forget() {
    SHADOWED.take();
    FOUND.take();
}

/// Gives shadows to the words that were found to need them. Returns false if all have them.
pub(super) fn learn() -> bool {
    let found = FOUND.take();
    SHADOWED.with_borrow_mut(|shadowed| {
        let before = shadowed.len();
        shadowed.extend(found);
        shadowed.len() > before
    })
}

/// Returns whether the word has a shadow.
pub(super) fn is_shadowed(key: &Key) -> bool {
    SHADOWED.with_borrow(|shadowed| shadowed.contains(key))
}

/// A word of the model.
#[derive(Debug)]
pub(crate) struct Word {
    twin: Twin,
    /// The value after the latest change, in the order in which loom runs the threads.
    latest: Cell<u64>,
    width: usize,
    /// `None` for a constructed word.
    mapped: Option<Mapped>,
    sleepers: OnceCell<Rc<Sleepers>>,
}

/// What a word in mapped memory has besides.
#[derive(Debug, Clone)]
struct Mapped {
    key: Key,
    shadow: Option<Rc<Twin>>,
    /// A bit for each process that has used the word.
    users: Cell<u64>,
    is_written: Cell<bool>,
}

impl Word {
    /// Creates a constructed word.
    pub(super) fn new(twin: Twin, value: u64, width: usize) -> Word {
        Word { twin, latest: Cell::new(value), width, mapped: None, sleepers: OnceCell::new() }
    }

    /// Creates a word in mapped memory.
    pub(super) fn in_memory(twin: Twin, value: u64, width: usize, key: Key, shadow: Option<Twin>) -> Word {
        let (users, is_written) = (Cell::new(0), Cell::new(false));
        let mapped = Some(Mapped { key, shadow: shadow.map(Rc::new), users, is_written });
        Word { mapped, ..Word::new(twin, value, width) }
    }

    /// Creates the same word with another twin, of other bytes.
    pub(super) fn renewed(&self, twin: Twin, value: u64, width: usize) -> Word {
        let (mapped, sleepers) = (self.mapped.clone(), self.sleepers.clone());
        Word { twin, latest: Cell::new(value), width, mapped, sleepers }
    }

    /// Returns whether this is the word of these bytes.
    pub(super) fn is(&self, bytes: u64, width: usize) -> bool {
        self.latest.get() == bytes && self.width == width
    }

    /// Notes the use of a mapped word.
    pub(super) fn note(&self, process: u32) {
        if let Some(mapped) = &self.mapped {
            mapped.users.set(mapped.users.get() | 1 << (process % 64));
            mapped.find();
        }
    }

    /// Makes a load of the word visible; see the module doc.
    pub(crate) fn cast_shadow(&self) {
        if let Some(shadow) = self.mapped.as_ref().and_then(|mapped| mapped.shadow.as_ref()) {
            shadow.change(Change::Add(0), Ordering::Relaxed);
        }
    }

    pub(crate) fn twin(&self) -> &Twin {
        &self.twin
    }

    pub(crate) fn latest(&self) -> u64 {
        self.latest.get()
    }

    /// Notes a write.
    pub(crate) fn set_latest(&self, value: u64) {
        self.latest.set(value);
        if let Some(mapped) = &self.mapped {
            mapped.is_written.set(true);
            mapped.find();
        }
    }

    /// Returns the threads that sleep on the word, and whether this is the first use of them.
    pub(super) fn sleepers(&self) -> (Rc<Sleepers>, bool) {
        let is_first = self.sleepers.get().is_none();
        (self.sleepers.get_or_init(|| Rc::new(Sleepers::new())).clone(), is_first)
    }
}

impl Mapped {
    /// Notes whether the word needs a shadow.
    fn find(&self) {
        if self.is_written.get() && self.users.get().count_ones() > 1 {
            FOUND.with_borrow_mut(|found| found.insert(self.key));
        }
    }
}
