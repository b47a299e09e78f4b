//! The directory: the named objects of a segment, a list that grows at its front.
//!
//! To insert, a process builds the whole record first and then publishes it with one
//! compare-and-swap of the head. Names are unique, because that swap fails if another process has
//! published since the names were checked. Removing a name marks its record, which stays in the
//! list: processes that have the object open continue to use it. The directory is lock-free.
//! Records keep their offsets as long as the segment exists. States and deaths are those of
//! [`crate::segment::records`].
//!
//! [`crate::segment::view`] reads the directory.

use crate::loom::atomic::Ordering::{AcqRel, Relaxed};
use crate::registry::Kind;
use crate::segment::attachment::Attachment;
use crate::segment::header::SPACE_START;
use crate::segment::name;
use crate::segment::owner::OwnerId;
use crate::segment::records::{claim_end, help, publish, recover, Record, UNIT};
use crate::segment::view::{damaged, Entry, SCHEMA_MAX};
use crate::sys::backing::commit;
use crate::{Error, ErrorKind, Result};

/// The least by which the committed part of a segment grows, in bytes.
const COMMIT_STEP: u64 = 1 << 16;

/// The name of every object that has none. Users cannot choose it, because their names have no '/'.
pub(crate) const NAMELESS: &str = "/";

/// Rounds up to a multiple of `unit`, a power of two. An impossible length stays one, so that the
/// error shows it.
fn round_up(len: u64, unit: u64) -> u64 {
    len.saturating_add(unit - 1) & !(unit - 1)
}

/// Returns the size that a segment needs for one object with these texts.
pub(crate) fn size_for(name: &str, schema: &str, len: usize) -> u64 {
    let head = round_up(UNIT + (name.len() + schema.len()) as u64, UNIT);
    let record = head.saturating_add(round_up(len as u64, UNIT));
    // One unit more, for the word that marks the end of space.
    round_up((SPACE_START + UNIT).saturating_add(record), 4096)
}

impl Attachment {
    /// Inserts an object of `len` zeroed bytes. `init` initialises it before another process can
    /// see it.
    pub(crate) fn insert(
        &self,
        name: &str,
        kind: u32,
        schema: &str,
        len: usize,
        init: impl FnOnce(*mut u8),
    ) -> Result<Entry> {
        if !name.is_empty() {
            name::check(name)?;
        }
        self.insert_reserved(name, kind, schema, len, init)
    }

    /// Inserts an object under a name that users cannot choose; else like
    /// [`insert`](Attachment::insert).
    pub(crate) fn insert_reserved(
        &self,
        name: &str,
        kind: u32,
        schema: &str,
        len: usize,
        init: impl FnOnce(*mut u8),
    ) -> Result<Entry> {
        if schema.len() > SCHEMA_MAX {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the schema of this message is longer than 1 MiB",
            ));
        }
        let head = round_up(UNIT + (name.len() + schema.len()) as u64, UNIT);
        let whole = head.saturating_add(round_up(len as u64, UNIT));
        let Ok(units) = u32::try_from(whole / UNIT) else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an object of {len} bytes is too large"),
            ));
        };
        let is_named = name != NAMELESS;
        if is_named && self.find(name)?.is_some() {
            return Err(already_exists(name));
        }
        let owner = self.owner()?;
        let (offset, reused) = match self.claim(units, owner) {
            // A process may have died while it built an object, and perhaps none looks for the
            // dead. The heap, which comes here for an arena, does so itself.
            Err(error) if error.kind() == ErrorKind::OutOfMemory && kind != Kind::Heap as u32 => {
                self.reap_all();
                self.claim(units, owner)
            }
            claimed => claimed,
        }?;
        let Some(record) = self.view().record(offset) else {
            return Err(damaged("a record outside of the space", offset));
        };
        let object = offset + head;
        // SAFETY: the record is claimed by this process and not published, so nobody else touches
        // anything of it but its first word. Everything written lies inside its `units`, which
        // claim() found inside the mapping.
        unsafe {
            let base = self.base().add(offset as usize);
            if reused {
                base.add(8).write_bytes(0, whole as usize - 8);
            }
            let texts = base.add(UNIT as usize);
            texts.copy_from_nonoverlapping(name.as_ptr(), name.len());
            texts.add(name.len()).copy_from_nonoverlapping(schema.as_ptr(), schema.len());
        }
        record.kind.store(kind, Relaxed); // published with the record, like all below
        record.name_len.store(name.len() as u32, Relaxed);
        record.schema_len.store(schema.len() as u32, Relaxed);
        record.object.store(object, Relaxed);
        record.object_len.store(len as u64, Relaxed);
        init(self.base().wrapping_add(object as usize));

        let directory = &self.view().header().directory;
        let taken = |_, _| Ok(is_named && self.find(name)?.is_some());
        match publish(directory, record, offset, owner, taken) {
            Ok(true) => Entry::read(self.view(), offset),
            refused => {
                record.free(owner);
                self.view().header().freed.store(1, Relaxed);
                Err(refused.map_or_else(|error| error, |_| already_exists(name)))
            }
        }
    }

    /// Returns the object with this name; `None` if there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Entry>> {
        self.index().find(self.view(), name)
    }

    /// Removes the object's name: nobody finds it any more, and another object may have the name.
    /// Processes that have it open continue to use it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        name::check(name)?;
        let found = self.find(name)?;
        let removed = found.and_then(|entry| self.view().record(entry.record)).is_some_and(Record::remove);
        // If another process was quicker, there was a moment when nothing had the name.
        removed.then_some(()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the segment has no object named {name:?}"))
        })
    }

    /// Claims a record of `units`: a freed one (true: it has been written before), or a new one at
    /// the end of space.
    fn claim(&self, units: u32, owner: OwnerId) -> Result<(u64, bool)> {
        // The hint is cleared before the walk, so a process that frees a record meanwhile sets it
        // again.
        let freed = &self.view().header().freed;
        if freed.load(Relaxed) != 0 && freed.swap(0, AcqRel) != 0 {
            let view = self.view();
            let size = self.facts().size;
            let free = view.chain().find_map(|at| {
                let room = size.saturating_sub(at) / UNIT;
                let record = view.record(at).filter(|record| record.claim_free(units, room, owner))?;
                Some((at, record.len().unwrap_or(0)))
            });
            if let Some((offset, len)) = free {
                freed.store(1, Relaxed);
                // Its first owner may have died before it advanced the end of space.
                help(&view.header().space_end, offset, offset + len);
                return Ok((offset, true));
            }
        }
        let view = self.view();
        let size = self.facts().size;
        let len = u64::from(units) * UNIT;
        let room = |end: u64| match view.record(end) {
            Some(record) if len <= size - end => {
                self.commit(end, (end + len + UNIT).min(size)).map(|()| record)
            }
            Some(_) => Err(no_room(len, size)),
            None if end % UNIT == 0 && (SPACE_START..=size).contains(&end) => Err(no_room(len, size)),
            None => Err(damaged("the end of its space", end)),
        };
        let next = |end: u64, len: Option<u64>| match len {
            Some(len) if len >= UNIT && len <= size - end => Ok(end + len),
            _ => Err(damaged("a record of impossible length", end)),
        };
        Ok((claim_end(&view.header().space_end, units, owner, room, next)?, false))
    }

    /// Makes sure that what is about to be added from `start` to `end` can be touched. Believes
    /// only what this process has seen itself. The segment's own word may be damaged, and touching
    /// memory that is not committed raises a signal when memory runs out.
    fn commit(&self, start: u64, end: u64) -> Result<()> {
        let seen = self.committed.load(Relaxed);
        if seen >= end {
            return Ok(()); // the end of space only moves up
        }
        let size = self.facts().size;
        let target = end.next_multiple_of(COMMIT_STEP).min(size);
        let start = start.max(seen);
        let file = self.file()?;
        let reached = match commit(file, start, target - start) {
            Ok(()) => target,
            Err(_) => commit(file, start, end - start).map(|()| end)?,
        };
        self.committed.fetch_max(reached, Relaxed);
        self.view().header().committed.fetch_max(reached, AcqRel);
        Ok(())
    }

    /// Makes every object forget `dead`, and finishes what `dead` was building.
    pub(crate) fn recover_records(&self, dead: OwnerId) {
        let view = self.view();
        for offset in view.chain() {
            if view.record(offset).is_some_and(|record| recover(record, dead, || view.is_listed(offset))) {
                self.view().header().freed.store(1, Relaxed);
            }
        }
        for entry in self.view().entries().map_while(Result::ok) {
            crate::registry::recover(
                entry.kind,
                self.base().wrapping_add(entry.object as usize),
                entry.len,
                dead,
            );
        }
    }
}

#[cold]
fn already_exists(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the segment has an object named {name:?} already"))
}

#[cold]
fn no_room(len: u64, size: u64) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!(
            "an object of {len} bytes does not fit any more into the segment, which has {size} bytes: \
            create it larger"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sys::backing::memory;

    /// Creates a segment whose directory lists `count` records without texts and bytes; the last
    /// one leads to `end`.
    fn listed(size: u64, count: u64, end: u64) -> Arc<Attachment> {
        let attachment = Attachment::anonymous(size).unwrap();
        let at = |number| SPACE_START + number * UNIT;
        for number in 0..count {
            let next = if number + 1 == count { end } else { at(number + 1) };
            // A record's words: its length and LIVE, the next one, kind and length of the name,
            // ..., and its object.
            let words = [1 << 32 | 2 << 30, next, Kind::Event as u64, 0, at(number + 1), 0];
            // SAFETY: inside of the mapping, which nobody else has.
            unsafe { attachment.base().add(at(number) as usize).cast::<[u64; 6]>().write(words) };
        }
        attachment.view().header().space_end.store(at(count), Relaxed);
        attachment.view().header().directory.store(at(0), Relaxed);
        attachment
    }

    #[test]
    fn memory_is_there_whatever_the_segment_says_of_it() {
        let attachment = Attachment::anonymous(64 << 20).unwrap();
        attachment.view().header().committed.store(u64::MAX, Relaxed);
        let blocks = || memory::stat(attachment.file().unwrap()).unwrap().st_blocks as u64 * 512;
        for count in 1..=3 {
            attachment.insert(&count.to_string(), 1, "", 8 << 20, |_| {}).unwrap();
            assert!(blocks() >= count * (8 << 20), "{} bytes are there", blocks());
        }
    }

    #[test]
    fn a_directory_may_have_as_many_objects_as_there_is_room_for() {
        let count = if cfg!(miri) { 100 } else { (1 << 20) + 2 };
        let attachment = listed(1 << 28, count, 0);
        let view = attachment.view();
        assert_eq!(view.entries().filter(Result::is_ok).count() as u64, count);
        assert!(view.is_listed(SPACE_START + (count - 1) * UNIT) && view.find("none").unwrap().is_none());
    }

    #[test]
    fn a_directory_that_leads_back_to_itself_is_damaged() {
        for (count, back) in [(1, 0), (2, 0), (3, 2), (100, 0), (100, 37), (1000, 999)] {
            // In a segment this large it would take minutes to walk as many steps as it may have
            // records.
            let attachment = listed(1 << 38, count, SPACE_START + back * UNIT);
            let view = attachment.view();
            let steps = view.entries().count() as u64;
            assert!(count < steps && steps <= 3 * count + 1, "{steps} steps through {count} records");
            let error = view.find("none").unwrap_err();
            assert_eq!(
                (error.kind(), view.entries().filter(Result::is_err).count()),
                (ErrorKind::Corrupted, 1)
            );
            assert!(!view.is_listed(8) && view.is_listed(SPACE_START));
        }
    }
}
