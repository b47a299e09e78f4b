//! An attachment: this process in one segment, as one participant, from locking a byte to leaving.
//!
//! The lock that says "alive" belongs to an open file description of its own, which only a mapped
//! page keeps open ([`crate::sys::hold`]). So the lock ends with the process. Nothing that the
//! process does to its descriptors ends it earlier or lets another process share it. Everything
//! else goes through one descriptor of a description that never holds a lock. A program may close
//! that descriptor, so each use proves first that it is still the segment's
//! ([`crate::sys::descriptor`]).
//!
//! # Leaving, and the last participant
//!
//! A leaver first marks its own line as leaving and unlocks its byte, and then scans the table. If
//! no living participant is in it, the leaver is the last one and removes the name. Two leavers at
//! the same time cannot both miss this, because each scans after it has marked its line.
//!
//! An opener locks a byte first and then scans the table. If no living participant is in it, a
//! crash left the segment behind, or the last participant is leaving. The opener then removes the
//! segment and reports that nothing is there. If the segment is in use or persistent, the opener
//! writes its line. A leaver that scanned the table before that may still remove the name. So the
//! opener revokes the leaver's permit, or finds the name gone and starts again: see
//! [`crate::segment::removal`]. No process waits for another in this.
//!
//! A process that ends normally without having left takes the last step at exit, see
//! [`crate::segment::exit`].
//!
//! # Parts
//!
//! [`create`] makes a segment and a participant of this process, [`open`] attaches to a segment
//! that exists, [`seat`] takes the place in the table, [`reaping`] finds and recovers the dead.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | before the name is linked | the kernel | the last descriptor's close | an unseen file |
//! | in a copy, before its first use | nobody needs to | it joins at its first use | nothing |
//! | opening, byte locked, no line | nobody needs to | the kernel drops the lock | nothing |
//! | attached | a waiter, or the next at the byte | [`reap`](Attachment::reap) | see the objects |
//! | leaving, before the name is gone | the next opener or sweep | it removes the name | nothing |
//! | removing a name | see [`crate::segment::removal`] | | |
//!
//! - Before the name is linked, the file has no name and no user but its creator.
//! - A copy of the process takes no part before its first use, so there is nothing to repair.
//! - A byte without a line does not count as a participant.
//! - A waiter notices the death of an attached participant in [`reap_dead`](Attachment::reap_dead).
//! - After a leaver's death, the next opener or sweep finds the segment stale.

mod create;
#[cfg(loom)]
mod modelled;
mod open;
mod reaping;
mod seat;
#[cfg(test)]
mod tests;

pub(crate) use create::is_reachable;
pub(crate) use open::{read_facts, Found};

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::OnceLock;

use crate::segment::exit;
use crate::segment::header::Facts;
use crate::segment::index::Index;
use crate::segment::local::Local;
use crate::segment::membership::Membership;
use crate::segment::owner::OwnerId;
use crate::segment::removal::{self, Outcome};
use crate::segment::unlink::{self, FileName};
use crate::segment::view::View;
use crate::sys::backing::{identity, memory, AsFd, BorrowedFd, Hold, Kept, Map, OwnedFd};
use crate::{Error, Result};

/// This process in one segment. Shared by all its handles; dropping it leaves the segment.
#[derive(Debug)]
pub(crate) struct Attachment {
    map: Map,
    facts: Facts,
    /// Below this offset, what this process added to the segment is committed; see `directory`.
    pub(crate) committed: AtomicU64,
    /// The path by which this process created or opened it. The creator's path may lead elsewhere
    /// here.
    known_as: OnceLock<PathBuf>,
    /// The description of the mapping, which never holds a lock.
    file: Kept,
    /// Owner id and lock, which a fork changes.
    pub(super) membership: Membership,
    /// The local side of the heap, for all handles of this attachment.
    local: Local,
    /// The local side of the directory, for all handles.
    index: Index,
}

impl Attachment {
    /// Returns this process's id in this segment. After a `fork` the child becomes a participant of
    /// its own here.
    #[inline]
    pub(crate) fn owner(&self) -> Result<OwnerId> {
        match self.membership.owner() {
            Some(owner) => Ok(owner),
            None => self.attach_anew(),
        }
    }

    #[cold]
    fn attach_anew(&self) -> Result<OwnerId> {
        let owner = self.membership.enter(|| self.enter())?;
        // The others may all be gone, and one of them may be about to remove the name. That may be
        // impossible to prevent, because no descriptor is left, or the permit is another user's.
        // This is no reason to refuse the call, because this process is in the segment with or
        // without a name.
        if let Some(path) = (!self.facts.is_anonymous()).then(|| self.path()).flatten() {
            let _ = self.is_entered(&path);
        }
        Ok(owner)
    }

    /// Returns whether this process, which has a line now, is in the segment that `path` leads to.
    /// From here on no process removes it as stale.
    fn is_entered(&self, path: &Path) -> Result<bool> {
        let name = FileName::new(path, self.file()?)?;
        let is_in = removal::entered(&self.view().header().remover, &name)?;
        if is_in {
            let _ = self.known_as.set(absolute(path));
        }
        Ok(is_in)
    }

    /// Returns the segment's descriptor, proved to be that. It holds no lock.
    pub(crate) fn file(&self) -> Result<BorrowedFd<'_>> {
        match self.file.get() {
            Some(file) => Ok(file),
            None => self.regain(),
        }
    }

    /// Returns whether both are in the same segment. No other file can have its identity, because
    /// the mappings keep the file.
    pub(crate) fn is_of_same_file(&self, other: &Attachment) -> bool {
        self.file.identity() == other.file.identity()
    }

    /// Opens the segment again, if there is a way to it. Called when the program has closed the
    /// descriptor, or when its number refers to another file by now.
    #[cold]
    fn regain(&self) -> Result<BorrowedFd<'_>> {
        let is_same = |file: &OwnedFd| identity(file.as_fd()) == Ok(self.file.identity());
        // By the name; or by the mapping, which needs more rights than most programs have.
        let path = self.view().header().path().and_then(|path| memory::open(path, true).ok());
        let found =
            path.filter(is_same).or_else(|| memory::open_mapped(self.base() as usize).ok().filter(is_same));
        if let Some(file) = found {
            self.file.replace(file)?;
        }
        self.file.get().ok_or_else(|| {
            Error::system(
                "this program has closed a descriptor that belongs to pagemate (close_range, closefrom, a \
                 loop of close), so it can neither find the dead in the segment nor enlarge it: close \
                 only descriptors that are the program's own",
                rustix::io::Errno::BADF,
            )
        })
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns what a higher layer keeps beside this attachment: what the heap knows of the arenas.
    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    /// Returns the first byte of the mapping.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Returns the segment as a view.
    pub(crate) fn view(&self) -> View<'_> {
        // SAFETY: the mapping is page-aligned, at least as long as the smallest segment, and lives
        // as long as `self`.
        unsafe { View::new(self.base(), self.facts.size) }
    }

    /// Returns the path that leads to the segment's file, if it (still) has a name.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let file = self.file().ok()?;
        self.paths().find(|path| memory::is_called(file, path))
    }

    /// Returns the paths that may lead to it: this process's, its creator's, and the one that the
    /// kernel now reports for it.
    fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let mine = self.known_as.get().cloned();
        let creators = self.view().header().path().map(Path::to_path_buf);
        mine.into_iter()
            .chain(creators)
            .chain(std::iter::once_with(|| memory::path_of(self.file().ok()?)).flatten())
    }

    fn leave(&self, owner: OwnerId, hold: Hold) -> Result<()> {
        // From here on no process counts this line. The lock alone does not tell, because a process
        // between `vfork` and `exec` has copies of its parent's descriptors. If it began while this
        // process attached, one of them may hold the lock.
        self.view().line(owner.index()).set_leaving(owner);
        // This releases the lock, unless there is such a copy.
        drop(hold);
        if self.remove_if_last()? {
            return Ok(());
        }
        self.reap(owner);
        Ok(())
    }

    /// Removes the name if no participant is left. Returns false if one is, or if the segment is
    /// persistent.
    pub(super) fn remove_if_last(&self) -> Result<bool> {
        let file = self.file()?;
        if self.facts.is_persistent() || self.view().is_inhabited(file) {
            return Ok(false);
        }
        if self.facts.is_anonymous() {
            return Ok(true);
        }
        let Some(path) = self.path() else { return Ok(true) };
        let name = FileName::new(&path, file)?;
        let reason = || !self.view().is_inhabited(file);
        let outcome = unlink::remove(&self.view().header().remover, &name, reason)?;
        Ok(matches!(outcome, Outcome::Removed | Outcome::NotNamed))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let _leaving = exit::Leaving::begin();
        if let Some((owner, hold)) = self.membership.take() {
            // A survivor or the next opener repairs what fails here, because a failure is the same
            // as dying here.
            let _ = self.leave(owner, hold);
        }
    }
}

/// Returns the path as other working directories see it, through no link that may change later.
fn absolute(path: &Path) -> PathBuf {
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    match (dir, path.file_name()) {
        (Some(dir), Some(file)) => dir.join(file),
        _ => path.to_path_buf(),
    }
}
