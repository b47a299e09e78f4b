//! A view of a mapped segment: its header, its table of participants, and its readable records.
//!
//! Any process may have damaged the bytes. So every number is checked against the size of the
//! mapping before it is used, and every walk is bounded. A view only reads; attachments and
//! observers share it.

use std::marker::PhantomData;

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::segment::header::{Header, SIZE_MIN, SPACE_START, TABLE_START};
use crate::segment::owner::MAX_PARTICIPANTS;
use crate::segment::participant::Line;
use crate::segment::records::{Record, UNIT};
use crate::sys::backing::{ofd_lock, BorrowedFd};
use crate::{Error, ErrorKind, Result};

/// Longest schema text, in bytes.
pub(crate) const SCHEMA_MAX: usize = 1 << 20;
/// Longest name of an object, in bytes.
const NAME_MAX: usize = 256;

/// A mapped segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    base: *mut u8,
    size: u64,
    mapping: PhantomData<&'a ()>,
}

impl<'a> View<'a> {
    /// Creates a view of the segment at `base`.
    ///
    /// # Safety
    ///
    /// `base` is page-aligned, and `size` bytes stay mapped for `'a`. `size` is at least that of
    /// the smallest segment.
    pub(crate) unsafe fn new(base: *mut u8, size: u64) -> View<'a> {
        View { base, size, mapping: PhantomData }
    }

    pub(crate) fn header(self) -> &'a Header {
        // SAFETY: the mapping is page-aligned and longer than a header; the fields that others
        // change are atomics.
        unsafe { &*self.base.cast::<Header>() }
    }

    /// Returns the line of the participant with this index.
    pub(crate) fn line(self, index: usize) -> &'a Line {
        let index = index % MAX_PARTICIPANTS;
        // SAFETY: the table of MAX_PARTICIPANTS lines of 16 bytes lies inside the smallest segment;
        // lines are atomics.
        unsafe { &*self.base.add(TABLE_START as usize).cast::<Line>().add(index) }
    }

    /// Returns one more than the highest index that a participant ever had.
    pub(crate) fn high(self) -> usize {
        (self.header().high.load(Acquire) as usize).min(MAX_PARTICIPANTS) // pairs with occupy()
    }

    /// Returns whether a living participant is in the table, other than one that holds a lock
    /// through `file`'s own description. In doubt, true.
    ///
    /// A process that is about to enter holds a byte and has no line yet. It does not count, and
    /// it checks for itself whether the segment is still there.
    pub(crate) fn is_inhabited(self, file: BorrowedFd<'_>) -> bool {
        (0..self.high()).any(|index| {
            // Read before the lock is checked: see the module doc of `participant`.
            self.line(index).occupant(index).is_some_and(|id| !self.line(index).is_leaving(id))
                && ofd_lock::held_by_others(file, index, 1).map_or(true, |width| width > 0)
        })
    }

    /// Returns the end of the space in use. Memory is committed up to there and for one record's
    /// fixed part beyond it.
    fn end(self) -> u64 {
        self.header().space_end.load(Acquire).min(self.size) // pairs with help() in `records`
    }

    /// Returns the number of bytes that must be committed for everything that may be read.
    pub(crate) fn reach(self) -> u64 {
        self.end().saturating_add(UNIT).min(self.size).max(SIZE_MIN)
    }

    /// Returns the record at `offset`, if one can be there. Beyond the end of space there may be no
    /// memory.
    pub(crate) fn record(self, offset: u64) -> Option<&'a Record> {
        let last = self.end().min(self.size - UNIT);
        let possible = (SPACE_START..=last).contains(&offset) && offset % UNIT == 0;
        // SAFETY: the offset is a multiple of 128 inside the mapping with room for a record. Its
        // words are atomics, and any bytes are a record.
        possible.then(|| unsafe { &*self.base.add(offset as usize).cast::<Record>() })
    }

    /// Returns the published objects, newest first, including those whose names were removed. Ends
    /// with the first damaged record.
    pub(crate) fn entries(self) -> impl Iterator<Item = Result<Entry>> + 'a {
        self.entries_from(self.header().directory.load(Acquire), 0) // pairs with publish()
    }

    /// Returns the published objects from `offset` up to but not including `until`.
    pub(crate) fn entries_from(self, offset: u64, until: u64) -> impl Iterator<Item = Result<Entry>> + 'a {
        let mut is_damaged = false;
        self.listed(offset, until).map_while(move |offset| {
            let entry = (!is_damaged).then(|| offset.and_then(|offset| Entry::read(self, offset)))?;
            is_damaged = entry.is_err();
            Some(entry)
        })
    }

    /// Returns the offsets of the published records from `offset` up to but not including `until`.
    /// A list that leads back to itself is an error after at most three rounds.
    fn listed(self, mut offset: u64, until: u64) -> impl Iterator<Item = Result<u64>> + 'a {
        // R. P. Brent, An improved Monte Carlo factorization algorithm, 1980: an offset that is
        // kept for twice as many steps each time is met again. The segment's size bounds the walk
        // also in a list that another process keeps changing.
        let (mut kept, mut steps) = (0, 0u64);
        std::iter::from_fn(move || {
            if offset == until || offset == 0 {
                return None;
            }
            let here = offset;
            steps += 1;
            if here == kept || steps > self.size / UNIT {
                offset = 0;
                return Some(Err(damaged("a directory that does not end", here)));
            }
            if steps.is_power_of_two() {
                kept = here;
            }
            let Some(record) = self.record(here) else {
                offset = 0;
                return Some(Err(damaged("a record outside of the space", here)));
            };
            offset = record.next.load(Relaxed);
            Some(Ok(here))
        })
    }

    /// Returns the object with this name.
    pub(crate) fn find(self, name: &str) -> Result<Option<Entry>> {
        find(self.entries(), name)
    }

    /// Returns whether the record at `offset` is that of a published object. Walks the whole
    /// directory.
    pub(crate) fn is_listed(self, offset: u64) -> bool {
        let directory = self.header().directory.load(Acquire); // pairs with publish()
        self.listed(directory, 0).map_while(Result::ok).any(|listed| listed == offset)
    }

    /// Returns the offsets of all records, published or not, in the order of their offsets.
    pub(crate) fn chain(self) -> impl Iterator<Item = u64> + 'a {
        let mut offset = SPACE_START;
        let end = self.header().space_end.load(Acquire).min(self.size);
        std::iter::from_fn(move || {
            let here = offset;
            // The record at `end` may be claimed already; the one after it cannot be.
            let len = if here > end { None } else { self.record(here)?.len() };
            match len {
                Some(len) if len >= UNIT && len <= self.size - here => offset = here + len,
                _ => return None,
            }
            Some(here)
        })
    }
}

/// A published object: its record, checked.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Offset of the record.
    pub(crate) record: u64,
    pub(crate) kind: u32,
    pub(crate) name: String,
    pub(crate) schema: String,
    /// Offset of the object, a multiple of 128.
    pub(crate) object: u64,
    pub(crate) len: usize,
    /// Whether its name was removed.
    pub(crate) is_removed: bool,
}

impl Entry {
    pub(crate) fn read(view: View<'_>, offset: u64) -> Result<Entry> {
        let damaged = |what| Err(damaged(what, offset));
        let Some(record) = view.record(offset) else {
            return damaged("a record outside of the space");
        };
        let end = match record.len() {
            Some(len) if len >= UNIT && len <= view.end().saturating_sub(offset) => offset + len,
            _ => return damaged("a record of impossible length"),
        };
        let [name_len, schema_len] =
            [&record.name_len, &record.schema_len].map(|len| len.load(Relaxed) as usize);
        let [object, object_len] = [&record.object, &record.object_len].map(|word| word.load(Relaxed));
        let text = offset + UNIT;
        if schema_len > SCHEMA_MAX || name_len > NAME_MAX || text + (name_len + schema_len) as u64 > end {
            return damaged("a record whose texts do not fit");
        }
        let fits = object % UNIT == 0
            && object >= text + (name_len + schema_len) as u64
            && object <= end
            && object_len <= end - object;
        if !fits {
            return damaged("a record whose object does not fit");
        }
        let text = |start: u64, len: usize| {
            // SAFETY: start..start + len was just found to lie inside the record, which lies inside
            // the mapping; texts of published records are not written any more.
            let bytes = unsafe { std::slice::from_raw_parts(view.base.add(start as usize), len) };
            String::from_utf8(bytes.to_vec())
                .map_err(|_| self::damaged("a record whose texts are not UTF-8", offset))
        };
        Ok(Entry {
            record: offset,
            kind: record.kind.load(Relaxed),
            name: text(offset + UNIT, name_len)?,
            schema: text(offset + UNIT + name_len as u64, schema_len)?,
            object,
            len: object_len as usize,
            is_removed: record.is_removed(),
        })
    }
}

#[cold]
pub(crate) fn damaged(what: &str, offset: u64) -> Error {
    Error::new(ErrorKind::Corrupted, format!("the segment is damaged: {what} at offset {offset}"))
}

/// Returns the entry with this name, or the damage met before it. An entry whose name was removed
/// is skipped.
pub(crate) fn find(mut entries: impl Iterator<Item = Result<Entry>>, name: &str) -> Result<Option<Entry>> {
    let has_name = |entry: &Entry| entry.name == name && !entry.is_removed;
    entries.find(|entry| entry.as_ref().map_or(true, has_name)).transpose()
}
