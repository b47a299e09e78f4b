//! Attaching to a segment that exists, unless it is stale.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "shared_memory")]
use super::create::check_size;
use super::create::{make_reachable, Entry};
#[cfg(feature = "shared_memory")]
use super::seat::unix_time;
use super::seat::{hold, table_is_full, try_lock};
use super::Attachment;
#[cfg(feature = "shared_memory")]
use crate::segment::header::PERSISTENT;
use crate::segment::header::{Facts, HEADER_BYTES, SIZE_MIN};
use crate::segment::owner::{OwnerId, MAX_PARTICIPANTS};
use crate::segment::permission;
use crate::segment::unlink::{self, FileName};
use crate::segment::view::View;
#[cfg(feature = "shared_memory")]
use crate::sys::backing::commit;
use crate::sys::backing::{map, memory, ofd_lock, AsFd, BorrowedFd, Hold, OwnedFd};
use crate::sys::clock::{Backoff, Deadline};
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Retries of an opener that finds that another process has removed the segment and created it
/// anew.
const FIND_TRIES: usize = 10_000;
/// How long an opener waits for a process that is making a segment of a region.
const CROWD_WAIT: Duration = Duration::from_secs(2);

impl Attachment {
    /// Attaches to the segment at `path`, if nobody but the users that `mode` names can have
    /// written it. Removes what a crash left behind there, and then returns `NotFound`.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Arc<Attachment>> {
        match Attachment::open_if_there(path, mode)? {
            Found::Attached(attachment) => Ok(attachment),
            Found::Nothing(error) => Err(error),
            Found::Left(error) => Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no {}, but for what a crash has left behind; {error}", path.display()),
            )),
        }
    }

    /// Attaches to the segment at `path`, or reports that there is none. Removes what a crash left
    /// behind there, if possible.
    pub(crate) fn open_if_there(path: &Path, mode: u32) -> Result<Found> {
        let (deadline, mut backoff) = (Deadline::after(CROWD_WAIT), Backoff::new());
        let mut was_full = false;
        for _ in 0..FIND_TRIES {
            let file = match memory::open(path, true) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing(error)),
                file => file?,
            };
            if let Err(error) = permission::check(&memory::stat(file.as_fd())?, path, mode) {
                // The locks of another user's file can be seen; nothing else in it is believed.
                let is_left = read_facts(file.as_fd(), path).is_ok_and(|facts| !facts.is_persistent())
                    && matches!(ofd_lock::held_by_others(file.as_fd(), 0, MAX_PARTICIPANTS), Ok(0));
                return if is_left { Ok(Found::Left(error)) } else { Err(error) };
            }
            let facts = read_facts(file.as_fd(), path)?;
            make_reachable(file.as_fd(), SIZE_MIN)?;
            let map = map(file.as_fd(), facts.size as usize)?;
            // SAFETY: the mapping is page-aligned, at least as long as the smallest segment, and
            // outlives the view.
            let view = unsafe { View::new(map.as_mut_ptr(), facts.size) };
            let window = fork::window();
            let own = memory::reopen(file.as_fd())?;
            let lock = lock_index(own.as_fd(), view, &facts)?;
            // A description that is not kept is closed within the window, too.
            let held = match lock {
                EntryLock::Entered(_) => Some(hold(own)?),
                _ => {
                    drop(own);
                    None
                }
            };
            drop(window);
            match (lock, held) {
                (EntryLock::Entered(index), Some(held)) => {
                    let attachment = Attachment::attach(map, facts, file, Entry::At(index, held))?;
                    if attachment.is_entered(path)? {
                        return Ok(Found::Attached(attachment));
                    }
                }
                (EntryLock::Entered(_) | EntryLock::Stale, _) => {
                    let name = FileName::new(path, file.as_fd())?;
                    match unlink::remove(&view.header().remover, &name, || !view.is_inhabited(file.as_fd())) {
                        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                            return Ok(Found::Left(error));
                        }
                        outcome => outcome?,
                    };
                }
                (EntryLock::Full, _) if was_full => return Err(table_is_full()),
                (EntryLock::Full, _) => was_full = true,
                (EntryLock::Crowded, _) if deadline.has_passed() => break,
                (EntryLock::Crowded, _) => backoff.pause(),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("others keep creating and removing {}", path.display())))
    }

    /// Attaches to a region of zeroed shared memory that another program created and keeps. Makes a
    /// segment of the region if it is not one yet, and never removes it.
    #[cfg(feature = "shared_memory")]
    pub(crate) fn open_foreign(path: &Path) -> Result<Arc<Attachment>> {
        let file = memory::open(path, true)?;
        let window = fork::window();
        let own = memory::reopen(file.as_fd())?;
        let size = u64::try_from(memory::stat(own.as_fd())?.st_size).unwrap_or(0);
        check_size(size)?;
        // Under the lock of the whole range nobody else is in the region. A process that dies here
        // leaves it without its first word.
        if try_lock(own.as_fd(), 0, MAX_PARTICIPANTS)? {
            let mut first = [1; 8];
            memory::read_at(own.as_fd(), &mut first, 0)?;
            if first == [0; 8] {
                commit(own.as_fd(), 0, SIZE_MIN)?;
                let facts = Facts { size, flags: PERSISTENT, created: unix_time().as_nanos() as u64 };
                let map = map(file.as_fd(), SIZE_MIN as usize)?;
                // SAFETY: the mapping is page-aligned and longer than a header. It is zeroed,
                // except for what another such call wrote before it died. Nobody else reads it
                // while we hold the whole range.
                unsafe { facts.write(map.as_mut_ptr(), SIZE_MIN) };
            }
            ofd_lock::unlock(own.as_fd(), 0, MAX_PARTICIPANTS)
                .map_err(|cause| Error::system("cannot share the region with others", cause))?;
        }
        drop((own, window));
        // The program has mapped the region already, so any user may have written it.
        Attachment::open(path, 0o666)
    }

    /// Takes over, in a child, the seat that its parent took for it. Without `held`, `file`'s
    /// description has the lock.
    pub(crate) fn adopt(file: OwnedFd, owner: OwnerId, held: Option<Hold>) -> Result<Arc<Attachment>> {
        let (other, held) = match held {
            Some(held) => (file, held),
            None => (memory::reopen(file.as_fd())?, hold(file)?),
        };
        let facts = read_facts(other.as_fd(), Path::new("the segment given by the parent"))?;
        let map = map(other.as_fd(), facts.size as usize)?;
        Attachment::attach(map, facts, other, Entry::Seat(owner, held))
    }

    /// Attaches to the segment that the process `pid`, itself attached, has open as descriptor
    /// `file`, by way of /proc. For anonymous segments, which have no other name. `created`
    /// identifies the segment that was meant.
    pub(crate) fn join(pid: u32, file: i32, created: u64) -> Result<Arc<Attachment>> {
        let other = memory::open_of(pid, file)?;
        let facts = read_facts(other.as_fd(), Path::new("the segment of another process"))?;
        if facts.created != created {
            return Err(Error::new(ErrorKind::NotFound, "the other process has closed the segment"));
        }
        let map = map(other.as_fd(), facts.size as usize)?;
        Attachment::attach(map, facts, other, Entry::Anywhere)
    }

    /// Attaches to the anonymous segment of a descriptor. Not through that descriptor's
    /// description, because other processes may share it, and with it the file offset.
    #[cfg(not(loom))]
    pub(crate) fn of_descriptor(file: OwnedFd) -> Result<Arc<Attachment>> {
        let facts = read_facts(file.as_fd(), Path::new("the segment of a descriptor"))?;
        if !facts.is_anonymous() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the descriptor is of a segment that has a name: open it by its name",
            ));
        }
        if !memory::is_sealed(file.as_fd()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the descriptor's file can be shrunk, because it is not sealed: pass one that \
                 Segment::descriptor has returned",
            ));
        }
        let other = memory::reopen(file.as_fd())?;
        let map = map(other.as_fd(), facts.size as usize)?;
        Attachment::attach(map, facts, other, Entry::Anywhere)
    }

    /// Returns a descriptor of the segment with a description of its own.
    #[cfg(not(loom))]
    pub(crate) fn new_descriptor(&self) -> Result<OwnedFd> {
        memory::reopen(self.file()?)
    }
}

/// The result of [`Attachment::open_if_there`].
pub(crate) enum Found {
    Attached(Arc<Attachment>),
    /// There is none: it was never created, or its last user has left.
    Nothing(Error),
    /// A crash has left it behind, and this process may not remove it, for this reason.
    Left(Error),
}

/// The result of trying to enter an existing segment.
enum EntryLock {
    /// Another participant is in it, or it is persistent. The byte with this index is locked:
    /// continue with it.
    Entered(usize),
    /// Nobody is in it, and it is not persistent: a crash left it behind, or the last participant
    /// is leaving.
    Stale,
    /// Another process is making a segment of the region.
    Crowded,
    /// Each of its bytes is locked by another participant.
    Full,
}

/// Locks a byte through `own`, unless the segment is stale.
fn lock_index(own: BorrowedFd<'_>, view: View<'_>, facts: &Facts) -> Result<EntryLock> {
    // A dead participant's byte only if there is no other, because it would seem alive.
    for with_attached in [false, true] {
        for index in 0..MAX_PARTICIPANTS {
            if view.line(index).occupant(index).is_some() != with_attached || !try_lock(own, index, 1)? {
                continue;
            }
            // Checked while the byte is held: a process that leaves from here on sees that another
            // may come, or is found gone once the line is written (`is_entered`).
            let is_stale = !facts.is_persistent() && !view.is_inhabited(own);
            return Ok(if is_stale { EntryLock::Stale } else { EntryLock::Entered(index) });
        }
    }
    // A lock over all bytes belongs to a process that makes a segment of a region; locks of single
    // bytes are participants'.
    let width = ofd_lock::held_by_others(own, 0, MAX_PARTICIPANTS)
        .map_err(|cause| Error::system("cannot ask which processes are attached to the segment", cause))?;
    Ok(if width == 1 { EntryLock::Full } else { EntryLock::Crowded })
}

/// Reads and checks the header of an open file, before anything is mapped.
pub(crate) fn read_facts(file: BorrowedFd<'_>, path: &Path) -> Result<Facts> {
    let mut bytes = [0; HEADER_BYTES];
    let count = memory::read_at(file, &mut bytes, 0)?;
    let length = u64::try_from(memory::stat(file)?.st_size).unwrap_or(0);
    Facts::read(&bytes[..count], length, path)
}
