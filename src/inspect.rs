//! Looking at segments from outside: who is attached, what objects are there, and sweeping what crashes left behind.
//!
//! An observer is no participant: it maps the segment for reading only, holds no lock, keeps nothing alive and is seen by
//! nobody. What it sees is a moment's state and may be gone when it is printed.
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

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use crate::attachment::{read_facts, Attachment};
use crate::kind::Kind;
use crate::owner::OwnerId;
use crate::place::Place;
use crate::segment::name;
use crate::segment::view::{Entry, View};
use crate::switchboard;
use crate::sys::{lock, memory};
use crate::{Error, ErrorKind, Result};

pub(crate) mod contents;
pub use crate::message::ItemType;
pub use contents::{contents, item, Contents, Datum};

/// A segment as an observer saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segment {
    /// The name that [`Place`] takes; the file's name for other files.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes reserved.
    pub size: u64,
    /// Bytes committed, as the segment itself says.
    pub committed: u64,
    /// When it was created.
    pub created: SystemTime,
    /// Whether it stays when the last participant leaves.
    pub persistent: bool,
    /// Nobody alive is attached and it is not persistent: a crash left it behind.
    pub stale: bool,
    /// Who is attached, and who died and has not been reaped.
    pub participants: Vec<Participant>,
    /// What it holds, newest first.
    pub objects: Vec<Object>,
}

/// A participant as an observer saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Participant {
    /// Line in the table.
    pub index: usize,
    /// Which of the participants that had this index it is.
    pub generation: u32,
    /// Its process id when it attached, in its own pid namespace; 0 while it is being started.
    pub pid: u32,
    /// When it attached, to the second.
    pub since: SystemTime,
    /// Whether it exists, as the kernel says.
    pub alive: bool,
}

/// An object as an observer saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Object {
    /// Its name; empty if the segment's name is its own.
    pub name: String,
    /// What it is; `None`: this version of pagemate does not know it.
    pub kind: Option<Kind>,
    /// Text of the layout of its messages; empty if it has none.
    pub schema: String,
    /// Its length in bytes.
    pub len: usize,
    /// Its state, in words.
    pub state: Vec<(&'static str, String)>,
    /// Bytes of the message that would be received next. [`crate::Schema::render`] prints them.
    pub head: Option<Vec<u8>>,
}

/// A mapping for looking only.
struct Observer {
    file: OwnedFd,
    map: memmap2::MmapRaw,
    facts: crate::segment::header::Facts,
}

impl Observer {
    fn new(path: &Path) -> Result<Observer> {
        let file = memory::open(path, false)?;
        let facts = read_facts(file.as_fd(), path)?;
        let map = memory::map_read_only(file.as_fd(), facts.size as usize)?;
        Ok(Observer { file, map, facts })
    }

    fn view(&self) -> View<'_> {
        // SAFETY: the mapping is page-aligned, as long as the header says, which is at least the smallest segment, and lives
        // as long as `self`. Views only read.
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
            kind: Kind::from_number(entry.kind),
            state: switchboard::describe(entry.kind, base, entry.len),
            head: switchboard::peek(entry.kind, base, entry.len),
            name: entry.name,
            schema: entry.schema,
            len: entry.len,
        }
    }
}

/// In doubt held.
fn held(file: BorrowedFd<'_>, index: usize, count: usize) -> bool {
    lock::held_by_others(file, index, count).map_or(true, |width| width > 0)
}

/// What the segment called `place` looks like now. Damaged records end the list of objects.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`; `InvalidInput` for a place inside of a segment.
pub fn segment(place: impl Into<Place>) -> Result<Segment> {
    look(&place.into().file()?)
}

fn look(path: &Path) -> Result<Segment> {
    let observer = Observer::new(path)?;
    let view = observer.view();
    let attached = held(observer.file.as_fd(), 0, crate::owner::MAX_PARTICIPANTS);
    Ok(Segment {
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

/// All segments in a directory (`None`: the shared-memory directory) by name, each as it looks or with the reason why it
/// cannot be looked at.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn segments(dir: Option<&Path>) -> Result<Vec<(String, Result<Segment>)>> {
    let found = files(dir)?.into_iter();
    Ok(found
        .map(|(name, path)| (name, look(&path)))
        // Gone between the listing and the look.
        .filter(|(_, segment)| !matches!(segment, Err(error) if error.kind() == ErrorKind::NotFound))
        .collect())
}

/// Removes the stale segments of a directory (`None`: the shared-memory directory); gives their names. What is alive,
/// persistent, damaged or of another version is left alone.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn sweep(dir: Option<&Path>) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for (name, path) in files(dir)? {
        let stale = look(&path).is_ok_and(|segment| segment.stale);
        // Opening decides: under the lock of the whole range it removes what is stale, and then there is nothing.
        if stale && matches!(Attachment::open(&path), Err(error) if error.kind() == ErrorKind::NotFound) {
            swept.push(name);
        }
    }
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
