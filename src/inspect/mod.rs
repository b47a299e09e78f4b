//! Observing segments from outside: participants, objects, and sweeping what crashes left behind.
//!
//! An observer is not a participant: it maps the segment read-only, holds no lock, keeps no segment
//! alive, and no process sees it. It reads the state of one moment, which may be outdated by the
//! time it is printed.
//!
//! ```
//! use pagemate::{inspect, Event};
//!
//! # fn main() -> pagemate::Result<()> {
//! # let name = format!("doc-inspect-{}", std::process::id());
//! # let name = name.as_str();
//! let event = Event::create(name)?;
//! let segment = inspect::segment(name)?;
//! assert_eq!(segment.participants[0].pid, std::process::id());
//! assert_eq!(segment.objects[0].state[0], ("set", "false".to_string()));
//! # Ok(())
//! # }
//! ```

use crate::loom::atomic::Ordering::Relaxed;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::registry;
use crate::segment::attachment::{is_reachable, read_facts};
use crate::segment::name;
use crate::segment::owner::OwnerId;
use crate::segment::permission;
use crate::segment::place::Place;
use crate::segment::removal::Outcome;
use crate::segment::view::{Entry, View};
use crate::segment::ObjectInfo;
use crate::sys::backing::{map_read_only, memory, ofd_lock, AsFd, BorrowedFd, Map, OwnedFd};
use crate::{Error, ErrorKind, Result};

pub(crate) mod array;
pub(crate) mod contents;
pub(crate) mod dict;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod edit;
pub(crate) mod heap;
pub(crate) mod list;
#[cfg(feature = "__internals")]
pub(crate) mod service;
#[cfg(feature = "__internals")]
pub(crate) mod topic;
pub use crate::message::ItemType;
pub use contents::{contents, item, Contents, ItemBytes};

/// A snapshot of a segment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The name that [`Place`] takes; for other files, the file's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes reserved.
    pub size: u64,
    /// Bytes committed, as the segment itself records.
    pub committed: u64,
    /// When it was created.
    pub created: SystemTime,
    /// Whether it stays after the last participant leaves.
    pub persistent: bool,
    /// Whether a crash left it behind: no live process is attached, and it is not persistent.
    pub stale: bool,
    /// The attached participants, and the dead ones that have not been reaped.
    pub participants: Vec<Participant>,
    /// Its objects, newest first.
    pub objects: Vec<Object>,
}

/// A snapshot of a participant.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Participant {
    /// Index in the table of participants.
    pub index: usize,
    /// Distinguishes the participants that had this index one after another.
    pub generation: u32,
    /// Its process id when it attached, in its own pid namespace; 0 while it is being started.
    pub pid: u32,
    /// When it attached, to the second.
    pub since: SystemTime,
    /// Whether it is alive, according to the kernel.
    pub alive: bool,
}

/// A snapshot of an object.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Object {
    /// Its entry in the directory.
    pub info: ObjectInfo,
    /// Its state, in words.
    pub state: Vec<(&'static str, String)>,
    /// Bytes of the next message to be received. [`crate::Schema::render`] prints them.
    pub head: Option<Vec<u8>>,
}

/// A read-only mapping of a segment.
struct Observer {
    file: OwnedFd,
    map: Map,
    facts: crate::segment::header::Facts,
}

impl Observer {
    fn new(path: &Path, mode: u32) -> Result<Observer> {
        let file = memory::open(path, false)?;
        let stat = memory::stat(file.as_fd())?;
        if !permission::is_own(&stat) && !rustix::process::geteuid().is_root() {
            permission::check(&stat, path, mode)?;
        }
        let facts = read_facts(file.as_fd(), path)?;
        let map = map_read_only(file.as_fd(), facts.size as usize)?;
        let observer = Observer { file, map, facts };
        // An observer commits no memory. If the segment is damaged, or is a copy with holes, parts
        // within its reach may be uncommitted. Zeros are mapped there.
        let reach = observer.view().reach();
        if !is_reachable(observer.file.as_fd(), reach)? {
            observer.map.cover_holes(observer.file.as_fd())?;
        }
        Ok(observer)
    }

    fn view(&self) -> View<'_> {
        // SAFETY: the mapping is page-aligned, has the length that the header says, which is at
        // least that of the smallest segment, and lives as long as `self`. Views only read.
        unsafe { View::new(self.map.as_mut_ptr(), self.facts.size) }
    }

    fn is_alive(&self, id: OwnerId) -> bool {
        held(self.file.as_fd(), id.index(), 1)
    }

    fn participants(&self) -> Vec<Participant> {
        let view = self.view();
        let line = |index| {
            let id = view.line(index).occupant(index)?;
            let (pid, since) = view.line(index).label();
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since.into());
            Some(Participant { index, generation: id.generation(), pid, since, alive: self.is_alive(id) })
        };
        (0..view.high()).filter_map(line).collect()
    }

    fn object(&self, entry: Entry) -> Object {
        let base = self.map.as_mut_ptr().wrapping_add(entry.object as usize).cast_const();
        Object {
            state: registry::describe(entry.kind, base, entry.len),
            head: registry::peek(entry.kind, base, entry.len),
            info: entry.into(),
        }
    }
}

/// Returns whether another process holds one of these bytes; true if that cannot be determined.
fn held(file: BorrowedFd<'_>, index: usize, count: usize) -> bool {
    ofd_lock::held_by_others(file, index, count).map_or(true, |width| width > 0)
}

/// Returns a snapshot of the segment at `place`. A damaged record ends the list of objects.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`; `InvalidInput` for a place
/// inside of a segment.
pub fn segment(place: impl Into<Place>) -> Result<SegmentInfo> {
    let place = place.into();
    snapshot(&place.file()?, place.trusted())
}

fn snapshot(path: &Path, mode: u32) -> Result<SegmentInfo> {
    let observer = Observer::new(path, mode)?;
    let view = observer.view();
    let attached = view.is_inhabited(observer.file.as_fd());
    Ok(SegmentInfo {
        name: name::of_file(path).map_or_else(|| path.display().to_string(), str::to_string),
        path: path.to_path_buf(),
        size: observer.facts.size,
        committed: view.header().committed.load(Relaxed).min(observer.facts.size),
        created: SystemTime::UNIX_EPOCH + Duration::from_nanos(observer.facts.created),
        persistent: observer.facts.is_persistent(),
        stale: !attached && !observer.facts.is_persistent(),
        participants: observer.participants(),
        objects: view
            .entries()
            .map_while(Result::ok)
            .filter(|entry| !entry.is_removed)
            .map(|entry| observer.object(entry))
            .collect(),
    })
}

/// Returns the segments of a directory (`None` means the shared-memory directory), sorted by name.
/// Each is a snapshot, or the error that prevented one.
///
/// # Errors
///
/// Fails if the directory cannot be read.
pub fn segments(dir: Option<&Path>) -> Result<Vec<(String, Result<SegmentInfo>)>> {
    let found = files(dir)?.into_iter();
    Ok(found
        .map(|(name, path)| (name, snapshot(&path, 0o600)))
        // Removed between the listing and the snapshot.
        .filter(|(_, segment)| !matches!(segment, Err(error) if error.kind() == ErrorKind::NotFound))
        .collect())
}

/// The result of [`sweep`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Swept {
    /// The names of the removed stale segments.
    pub removed: Vec<String>,
    /// The files that it could not examine or remove, with the reasons.
    pub failed: Vec<(String, Error)>,
}

/// Removes the stale segments of a directory (`None` means the shared-memory directory), including
/// those of other layout versions.
///
/// Also completes removals that dead processes of this user left unfinished. Segments that are in
/// use, persistent, damaged or of another user are left alone.
///
/// # Errors
///
/// Fails if the directory cannot be read.
pub fn sweep(dir: Option<&Path>) -> Result<Swept> {
    let mut swept = Swept::default();
    crate::segment::sweep::sweep(dir.unwrap_or(Path::new(name::DEFAULT_DIR)), |path, outcome| {
        let name = name::of_file(path).map_or_else(|| path.display().to_string(), str::to_string);
        match outcome {
            Ok(Outcome::Removed) => swept.removed.push(name),
            Ok(_) => {}
            Err(error) => swept.failed.push((name, error)),
        }
    })?;
    Ok(swept)
}

fn files(dir: Option<&Path>) -> Result<Vec<(String, PathBuf)>> {
    let dir = dir.unwrap_or(Path::new(name::DEFAULT_DIR));
    let failed = |cause| Error::system(format!("cannot read the directory {}", dir.display()), cause);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = name::of_file(&path) {
            files.push((name.to_string(), path.clone()));
        }
    }
    files.sort();
    Ok(files)
}
