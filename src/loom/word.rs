//! A word of a model, and what is known of it in all executions.
//!
//! # Loads
//!
//! loom remembers one access of each object, the last one. A thread's load hides that another
//! thread has loaded the word before, so loom would not try the store that follows between the two.
//! So a load of a word that several processes use, and one of them writes, first changes a second
//! object, the word's *shadow*: loom tries both orders of two changes. Which words these are is
//! learned by running the model; it runs again with their shadows until no more are found.

use std::cell::{Cell, RefCell};
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
    twin: RefCell<Rc<Twin>>,
    /// The value after the latest change, in the order in which loom runs the threads.
    latest: Cell<u64>,
    width: Cell<usize>,
    sleepers: RefCell<Option<Rc<Sleepers>>>,
    /// `None` for a constructed word.
    key: Option<Key>,
    shadow: Option<Rc<Twin>>,
    /// A bit for each process that has used the word.
    users: Cell<u64>,
    is_written: Cell<bool>,
}

impl Word {
    pub(super) fn new(
        twin: Rc<Twin>,
        value: u64,
        width: usize,
        key: Option<Key>,
        shadow: Option<Rc<Twin>>,
    ) -> Word {
        Word {
            twin: RefCell::new(twin),
            latest: Cell::new(value),
            width: Cell::new(width),
            sleepers: RefCell::new(None),
            key,
            shadow,
            users: Cell::new(0),
            is_written: Cell::new(false),
        }
    }

    /// Notes the use of a mapped word.
    pub(super) fn note(&self, process: u32) {
        self.users.set(self.users.get() | 1 << (process % 64));
        self.find();
    }

    /// Notes whether the word needs a shadow.
    fn find(&self) {
        let is_shared = self.is_written.get() && self.users.get().count_ones() > 1;
        if let Some(key) = self.key.filter(|_| is_shared) {
            FOUND.with_borrow_mut(|found| found.insert(key));
        }
    }

    /// Makes a load of the word visible; see the module doc.
    pub(crate) fn cast_shadow(&self) {
        if let Some(shadow) = &self.shadow {
            shadow.change(Change::Add(0), Ordering::Relaxed);
        }
    }

    pub(crate) fn twin(&self) -> Rc<Twin> {
        self.twin.borrow().clone()
    }

    pub(crate) fn latest(&self) -> u64 {
        self.latest.get()
    }

    /// Notes a write.
    pub(crate) fn set_latest(&self, value: u64) {
        self.latest.set(value);
        self.is_written.set(true);
        self.find();
    }

    /// Returns whether this is still the word of these bytes.
    pub(super) fn is(&self, bytes: u64, width: usize) -> bool {
        self.latest.get() == bytes && self.width.get() == width
    }

    /// Gives the word another twin.
    pub(super) fn replace(&self, twin: Rc<Twin>, value: u64, width: usize) {
        self.twin.replace(twin);
        self.latest.set(value);
        self.width.set(width);
    }

    /// Returns the threads that sleep on the word, and whether this is the first use of them.
    pub(super) fn sleepers(&self) -> (Rc<Sleepers>, bool) {
        let mut sleepers = self.sleepers.borrow_mut();
        let is_first = sleepers.is_none();
        (sleepers.get_or_insert_with(|| Rc::new(Sleepers::new())).clone(), is_first)
    }
}
