//! A process's index of a segment's directory: the newest record of each name. A search for a name
//! reads only the records that are new.
//!
//! The list only grows at its front, and only the newest record of a name counts: if it was
//! removed, no object has the name. So an index of records that were read earlier stays right.
//! Every answer is checked against the record itself.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Mutex;

use crate::loom::atomic::Ordering::Acquire;
use crate::segment::directory::NAMELESS;
use crate::segment::view::{Entry, View};
use crate::sys::clock::Backoff;
use crate::Result;

/// Attempts of a thread to lock the index before it walks the list itself. In a forked child, a
/// lock that another thread held stays locked for ever.
const TRIES: usize = 12;

/// An index that all handles of an attachment share.
#[derive(Debug, Default)]
pub(crate) struct Index {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The record that was the newest; 0: none.
    head: u64,
    /// Offset of the newest record whose name has this hash.
    newest: HashMap<u64, u64>,
    keys: RandomState,
}

impl Index {
    /// Returns the object with this name; `None` if there is none.
    pub(crate) fn find(&self, view: View<'_>, name: &str) -> Result<Option<Entry>> {
        let mut backoff = Backoff::new();
        for _ in 0..TRIES {
            if let Ok(mut seen) = self.seen.try_lock() {
                return seen.find(view, name);
            }
            backoff.pause();
        }
        view.find(name)
    }
}

impl Seen {
    fn find(&mut self, view: View<'_>, name: &str) -> Result<Option<Entry>> {
        let head = view.header().directory.load(Acquire); // pairs with publish()
        if head != self.head {
            let new: Result<Vec<_>> = view.entries_from(head, self.head).collect();
            // Objects in front of the damage may still be found.
            let Ok(new) = new else { return view.find(name) };
            for entry in new.into_iter().rev().filter(|entry| entry.name != NAMELESS) {
                self.newest.insert(self.keys.hash_one(&entry.name), entry.record);
            }
            self.head = head;
        }
        let Some(offset) = self.newest.get(&self.keys.hash_one(name)) else { return Ok(None) };
        let entry = Entry::read(view, *offset)?;
        if entry.name != name {
            return view.find(name); // two names with the same hash, or damage
        }
        Ok((!entry.is_removed).then_some(entry))
    }
}
