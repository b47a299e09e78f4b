//! Creating a segment, and becoming a participant of a segment that is mapped.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use super::seat::{hold, try_lock, unix_time};
use super::Attachment;
use crate::segment::exit;
use crate::segment::header::{Facts, Header, ANONYMOUS, SIZE_MAX, SIZE_MIN};
use crate::segment::index::Index;
use crate::segment::local::Local;
use crate::segment::membership::Membership;
use crate::segment::owner::OwnerId;
use crate::segment::view::View;
use crate::sys::backing::{commit, map, memory, AsFd, BorrowedFd, Hold, Kept, Map, OwnedFd};
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// How a process gets its place in the table.
pub(super) enum Entry {
    /// It holds this byte; the line is still to be written.
    At(usize, Hold),
    /// Another participant keeps the segment in existence, so any free byte serves.
    Anywhere,
    /// It holds the byte already, and the line is written.
    Seat(OwnerId, Hold),
}

impl Attachment {
    /// Creates a segment of `size` bytes in a sealed memfd.
    pub(crate) fn anonymous(size: u64) -> Result<Arc<Attachment>> {
        check_size(size)?;
        let file = memory::sealed_memfd("pagemate", size)?;
        Attachment::build(file, size, ANONYMOUS)
    }

    /// Creates a segment of `size` bytes in a file of `dir` that has no name yet; see
    /// [`publish`](Attachment::publish).
    pub(crate) fn unnamed(dir: &Path, size: u64, mode: u32, flags: u32) -> Result<Arc<Attachment>> {
        check_size(size)?;
        let file = memory::unnamed_file(dir, size, mode)?;
        Attachment::build(file, size, flags)
    }

    fn build(file: OwnedFd, size: u64, flags: u32) -> Result<Arc<Attachment>> {
        commit(file.as_fd(), 0, SIZE_MIN)?;
        let facts = Facts { size, flags, created: unix_time().as_nanos() as u64 };
        let map = map(file.as_fd(), size as usize)?;
        // SAFETY: the mapping is new, zeroed, page-aligned, longer than a header, and nobody else
        // has the file.
        unsafe { facts.write(map.as_mut_ptr(), SIZE_MIN) };
        let held = {
            let _window = fork::window();
            let own = memory::reopen(file.as_fd())?;
            if !try_lock(own.as_fd(), 0, 1)? {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "another process has taken the first place in a new segment",
                ));
            }
            hold(own)?
        };
        Attachment::attach(map, facts, file, Entry::At(0, held))
    }

    /// Links a segment that no other process has seen to its name, an absolute path. Returns false
    /// if the name is taken.
    pub(crate) fn publish(&self, path: &Path) -> Result<bool> {
        // SAFETY: no other process can have a file without a name, and this one does not read the
        // path meanwhile.
        if !unsafe { Header::set_path(self.base(), path) } {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the path {} is too long", path.display()),
            ));
        }
        let published = memory::link(self.file()?, path)?;
        if published {
            let _ = self.known_as.set(path.to_path_buf());
        }
        Ok(published)
    }

    /// Becomes a participant. `file` is used for everything but the lock.
    pub(super) fn attach(map: Map, facts: Facts, file: OwnedFd, entry: Entry) -> Result<Arc<Attachment>> {
        // SAFETY: the mapping is page-aligned, at least as long as the smallest segment, and
        // outlives the view.
        let view = unsafe { View::new(map.as_mut_ptr(), facts.size) };
        make_reachable(file.as_fd(), view.reach())?;
        let attachment = Attachment {
            map,
            facts,
            committed: AtomicU64::new(0),
            known_as: OnceLock::new(),
            file: Kept::new(file)?,
            membership: Membership::none(),
            local: Local::default(),
            index: Index::default(),
        };
        attachment.membership.enter(|| match entry {
            Entry::At(index, hold) => Ok((attachment.enter_at(index)?, hold)),
            Entry::Anywhere => attachment.enter(),
            Entry::Seat(owner, hold) => {
                let line = attachment.view().line(owner.index());
                if line.occupant(owner.index()) != Some(owner) {
                    return Err(Error::new(
                        ErrorKind::Corrupted,
                        "the place that the parent took for this child is gone from the segment",
                    ));
                }
                line.set_pid(std::process::id());
                Ok((owner, hold))
            }
        })?;
        // Reaps the dead whose lines `lock_index` passed over, too. Not before this process's own
        // id is known.
        attachment.reap_all();
        let attachment = Arc::new(attachment);
        #[cfg(loom)]
        super::modelled::follow(&attachment);
        if !attachment.facts.is_anonymous() && !attachment.facts.is_persistent() && !cfg!(loom) {
            exit::watch(&attachment);
        }
        Ok(attachment)
    }
}

/// Returns whether everything below `end` can be touched. A copy of a segment (`cp`, a backup) may
/// have holes where its original had memory, whatever its header says. Such a file has fewer
/// blocks.
pub(crate) fn is_reachable(file: BorrowedFd<'_>, end: u64) -> Result<bool> {
    let blocks = u64::try_from(memory::stat(file)?.st_blocks).unwrap_or(0);
    Ok(blocks.saturating_mul(512) >= end)
}

/// Makes sure that everything below `end` can be touched.
pub(super) fn make_reachable(file: BorrowedFd<'_>, end: u64) -> Result<()> {
    if is_reachable(file, end)? {
        return Ok(());
    }
    commit(file, 0, end)
}

pub(super) fn check_size(size: u64) -> Result<()> {
    if (SIZE_MIN..=SIZE_MAX).contains(&size) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("a segment of {size} bytes is not possible: {SIZE_MIN} to {SIZE_MAX} are"),
    ))
}
