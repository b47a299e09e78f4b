//! Where an object lives: under a name of its own, or under a name inside of a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::attachment::Attachment;
use crate::directory::{size_for, NAMELESS};
use crate::kind::Kind;
use crate::message::mismatch;
use crate::object::ObjectRef;
use crate::segment::header::{PERSISTENT, SIZE_MAX, SIZE_MIN};
use crate::segment::name;
use crate::segment::view::Entry;
use crate::{Error, ErrorKind, Result};

/// The name that a segment's only object has in its directory.
const OWN: &str = "";
/// How often creating and opening may find that others were quicker.
const TRIES: usize = 1000;
/// What a segment reserves, unless said, for an object that grows. Memory is committed as it grows.
pub(crate) const RESERVE: u64 = 16 << 30;

/// Where an object is to be created or found: the argument of every `create`, `open` and `open_or_create`.
///
/// A plain string is the name of a segment of its own in the shared-memory directory, `/dev/shm`; its file is called
/// `pagemate.NAME`, readable and writable by its user only, and goes with the last process that leaves it.
/// [`Segment::at`] gives places inside of a segment.
///
/// Names are 1 to 200 bytes without `/` and control characters.
///
/// ```
/// use pagemate::{Event, Place};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-place-{}", std::process::id());
/// # let name = name.as_str();
/// let event = Event::create(name)?; // a name of its own
/// let same = Event::open(name)?; // any process of this user
///
/// # let other = format!("doc-place-dir-{}", std::process::id());
/// # let other = other.as_str();
/// let place = Place::in_dir(std::env::temp_dir(), other).mode(0o660); // another directory, the group too
/// let event = Event::create(place)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Place {
    site: Site,
    mode: u32,
    persistent: bool,
    reserve: u64,
}

#[derive(Debug, Clone)]
enum Site {
    File {
        dir: PathBuf,
        name: String,
    },
    Inside {
        attachment: Arc<Attachment>,
        name: String,
    },
    /// Inside of a segment as well: only references lead there.
    Unnamed {
        attachment: Arc<Attachment>,
    },
}

/// What [`open_or_create`](crate::Event::open_or_create) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was there: this call created it.
    Created,
    /// It was there already: this call opened it.
    Opened,
}

impl From<&str> for Place {
    fn from(name: &str) -> Place {
        Place::in_dir(name::DEFAULT_DIR, name)
    }
}

impl From<&String> for Place {
    fn from(name: &String) -> Place {
        Place::from(name.as_str())
    }
}

impl From<String> for Place {
    fn from(name: String) -> Place {
        Place::from(name.as_str())
    }
}

impl Place {
    /// A name in a directory of the caller's choice, on any file system that has `O_TMPFILE` (tmpfs, ext4, xfs, btrfs).
    pub fn in_dir(dir: impl AsRef<Path>, name: impl Into<String>) -> Place {
        let site = Site::File { dir: dir.as_ref().to_path_buf(), name: name.into() };
        Place { site, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// Who may open what is created: permission bits as of `chmod`, not subject to the umask. 0600 unless said. Has no
    /// effect on opening, nor inside of a segment.
    pub fn mode(mut self, mode: u32) -> Place {
        self.mode = mode & 0o777;
        self
    }

    /// What is created stays when its last participant leaves, until it is removed. Has no effect on opening, nor inside
    /// of a segment.
    pub fn persistent(mut self) -> Place {
        self.persistent = true;
        self
    }

    /// How many bytes of address space and file size what is created under a name of its own reserves, at least: if not said,
    /// 16 GiB for what grows, and what it needs for what does not; 256 GiB at most. Memory is taken only as it is used. Has no effect on
    /// opening, nor inside of a segment.
    pub fn reserve(mut self, bytes: u64) -> Place {
        self.reserve = bytes;
        self
    }

    /// The place of an object that grows.
    pub(crate) fn growing(mut self) -> Place {
        if self.reserve == 0 {
            self.reserve = RESERVE;
        }
        self
    }

    /// How many bytes are to be reserved; 0: as many as the object needs.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserve
    }

    fn inside(attachment: Arc<Attachment>, name: String) -> Place {
        Place { site: Site::Inside { attachment, name }, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// The place of an object without a name: `create` finds it free always, and there is nothing to open.
    pub(crate) fn unnamed(attachment: Arc<Attachment>) -> Place {
        Place { site: Site::Unnamed { attachment }, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// The place in a sentence.
    fn describe(&self) -> String {
        match &self.site {
            Site::File { name, .. } => format!("{name:?}"),
            Site::Inside { attachment, name } => match attachment.path() {
                Some(path) => format!("{name:?} in {}", path.display()),
                None => format!("{name:?}"),
            },
            Site::Unnamed { .. } => "without a name".to_string(),
        }
    }

    /// The file of a name of its own.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        match &self.site {
            Site::File { dir, name } => name::path(dir, name),
            Site::Inside { .. } | Site::Unnamed { .. } => {
                Err(Error::new(ErrorKind::InvalidInput, "this is a place inside of a segment, not a segment"))
            }
        }
    }

    /// Removes what has this name, whoever has it open: they go on with it, and nobody finds it any more. The name is free at once.
    /// The memory of a segment goes with the last who has it mapped; that of an object inside of a segment with the segment.
    ///
    /// ```
    /// use pagemate::{Event, Segment};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let segment = Segment::new(1 << 20)?;
    /// let event = Event::create(segment.at("go"))?;
    /// segment.at("go").remove()?;
    /// assert!(Event::open(segment.at("go")).is_err());
    /// event.set(); // for those who have it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `NotFound` if nothing has the name; `InvalidInput`: it cannot be a name; `PermissionDenied`, `Corrupted`.
    pub fn remove(&self) -> Result<()> {
        match &self.site {
            Site::Inside { attachment, name } => attachment.remove(name),
            Site::Unnamed { .. } => {
                Err(Error::new(ErrorKind::NotFound, "what has no name is removed by its reference"))
            }
            Site::File { dir, name } => {
                let path = name::path(dir, name)?;
                std::fs::remove_file(&path)
                    .map_err(|cause| Error::system(format!("cannot remove the segment {name:?}"), cause))
            }
        }
    }
}

/// Rounded up to pages; what is not possible at all stays as it is, for the error to name it.
fn whole_pages(size: u64) -> u64 {
    if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
        return size;
    }
    size.next_multiple_of(4096)
}

/// What an object is to be.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Text of the layout of its messages; empty if it has none.
    pub(crate) schema: String,
    pub(crate) len: usize,
}

impl Shape {
    fn insert(
        &self,
        attachment: &Arc<Attachment>,
        name: &str,
        init: impl FnOnce(*mut u8),
    ) -> Result<ObjectRef> {
        let entry = attachment.insert(name, self.kind as u32, &self.schema, self.len, init)?;
        Ok(ObjectRef::new(attachment.clone(), &entry))
    }

    fn insert_unnamed(&self, attachment: &Arc<Attachment>, init: impl FnOnce(*mut u8)) -> Result<ObjectRef> {
        let entry = attachment.insert_reserved(NAMELESS, self.kind as u32, &self.schema, self.len, init)?;
        Ok(ObjectRef::new(attachment.clone(), &entry))
    }

    fn size(&self) -> u64 {
        size_for(OWN, &self.schema, self.len)
    }
}

impl Place {
    /// An object that only handles lead to: it goes with the last of them, wherever they are.
    pub(crate) fn anonymous(shape: &Shape, init: impl FnOnce(*mut u8)) -> Result<ObjectRef> {
        shape.insert(&Attachment::anonymous(shape.size())?, OWN, init)
    }

    /// Likewise, of an object that grows.
    pub(crate) fn anonymous_growing(shape: &Shape, init: impl FnOnce(*mut u8)) -> Result<ObjectRef> {
        shape.insert(&Attachment::anonymous(RESERVE)?, OWN, init)
    }

    /// Creates the object; `init` gets its zeroed, 128-aligned bytes before anybody else can see them.
    pub(crate) fn create(self, shape: &Shape, init: impl FnOnce(*mut u8)) -> Result<ObjectRef> {
        match &self.site {
            Site::Inside { attachment, name } => {
                name::check(name)?;
                shape.insert(attachment, name, init)
            }
            Site::Unnamed { attachment } => shape.insert_unnamed(attachment, init),
            Site::File { .. } => {
                let (attachment, object) =
                    self.build(self.size_for(shape), |attachment| shape.insert(attachment, OWN, init))?;
                self.publish_new(&attachment)?;
                Ok(object)
            }
        }
    }

    /// Opens the object after checking that it is of this kind and its messages have this schema.
    pub(crate) fn open(self, kind: Kind, schema: &str) -> Result<ObjectRef> {
        match &self.site {
            Site::Inside { attachment, name } => {
                name::check(name)?;
                self.checked(attachment.clone(), attachment.view().find(name)?, kind, schema)
            }
            Site::Unnamed { attachment } => self.checked(attachment.clone(), None, kind, schema),
            Site::File { dir, name } => {
                let attachment = Attachment::open(&name::path(dir, name)?)?;
                let entry = attachment.view().find(OWN)?;
                self.checked(attachment, entry, kind, schema)
            }
        }
    }

    /// Opens the object or, if there is none, creates it; says which.
    pub(crate) fn open_or_create(self, shape: &Shape, init: impl Fn(*mut u8)) -> Result<(ObjectRef, Origin)> {
        for _ in 0..TRIES {
            match self.clone().open(shape.kind, &shape.schema) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return Ok((opened?, Origin::Opened)),
            }
            match self.clone().create(shape, &init) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return Ok((created?, Origin::Created)),
            }
        }
        Err(self.overtaken())
    }

    /// How large a segment of its own for this object is to be.
    fn size_for(&self, shape: &Shape) -> u64 {
        match self.reserve {
            0 => shape.size(),
            reserve => whole_pages(reserve).max(shape.size()),
        }
    }

    /// Builds a segment that has no name yet.
    fn build<T>(
        &self,
        size: u64,
        fill: impl FnOnce(&Arc<Attachment>) -> Result<T>,
    ) -> Result<(Arc<Attachment>, T)> {
        let Site::File { dir, name } = &self.site else {
            return Err(Error::new(ErrorKind::InvalidInput, "a segment cannot be inside of a segment"));
        };
        name::path(dir, name)?;
        let flags = if self.persistent { PERSISTENT } else { 0 };
        let attachment = Attachment::unnamed(dir, size, self.mode, flags)?;
        let filled = fill(&attachment)?;
        Ok((attachment, filled))
    }

    /// Gives a complete segment its name, in the place of a stale one if need be.
    fn publish_new(&self, attachment: &Attachment) -> Result<()> {
        let Site::File { dir, name } = &self.site else { return Ok(()) };
        // Others may open it from another working directory.
        let dir = dir
            .canonicalize()
            .map_err(|cause| Error::system(format!("no directory {}", dir.display()), cause))?;
        let path = name::path(&dir, name)?;
        for _ in 0..TRIES {
            if attachment.publish(&path)? {
                return Ok(());
            }
            match Attachment::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("{name:?} exists already: open it, or use another name"),
                    ));
                }
            }
        }
        Err(self.overtaken())
    }

    fn overtaken(&self) -> Error {
        let text = format!("others keep creating and removing {}", self.describe());
        Error::new(ErrorKind::Busy, text)
    }

    fn checked(
        &self,
        attachment: Arc<Attachment>,
        entry: Option<Entry>,
        kind: Kind,
        schema: &str,
    ) -> Result<ObjectRef> {
        let Some(entry) = entry else {
            let text = match &self.site {
                Site::File { name, .. } => {
                    format!("{name:?} is a segment without an object of its own: open it as a Segment and use its at()")
                }
                Site::Inside { .. } => format!("there is no object {}", self.describe()),
                Site::Unnamed { .. } => "what has no name is opened by its reference".to_string(),
            };
            return Err(Error::new(ErrorKind::NotFound, text));
        };
        if entry.kind != kind as u32 {
            let found = Kind::from_number(entry.kind)
                .map_or("something unknown".to_string(), |kind| format!("a kind of {}", kind.name()));
            let text =
                format!("{} is not the {} that was asked for: it is {found}", self.describe(), kind.name());
            return Err(Error::new(ErrorKind::TypeMismatch, text));
        }
        if entry.schema != schema {
            return Err(mismatch(&format!("the {} {}", kind.name(), self.describe()), schema, &entry.schema));
        }
        Ok(ObjectRef::new(attachment, &entry))
    }
}

/// A segment for many objects: a region of shared memory with a directory of names.
///
/// Its size is only reserved; memory is committed as objects are created. [`at`](Segment::at) gives the places of its
/// objects. Clones are the same participant.
///
/// # Examples
///
/// Several objects under one name:
///
/// ```
/// use pagemate::{Event, Queue, Segment};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-segment-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, 1 << 30)?; // 1 GiB reserved
/// let jobs = Queue::<u64>::create(segment.at("jobs"), 64)?;
/// let done = Event::create(segment.at("done"))?;
///
/// let elsewhere = Segment::open(name)?;
/// assert!(!Event::open(elsewhere.at("done"))?.is_set());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Segment {
    attachment: Arc<Attachment>,
}

impl Segment {
    /// A segment of `size` bytes that only handles lead to; it goes with the last of them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size that is not possible, `OutOfMemory`.
    pub fn new(size: u64) -> Result<Segment> {
        Ok(Segment { attachment: Attachment::anonymous(whole_pages(size))? })
    }

    /// Creates a segment of `size` bytes. Fails if something has the name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput`, `OutOfMemory`, `PermissionDenied`, `Unsupported` (the directory's file system).
    pub fn create(place: impl Into<Place>, size: u64) -> Result<Segment> {
        let place = place.into();
        let (attachment, ()) = place.build(whole_pages(size), |_| Ok(()))?;
        place.publish_new(&attachment)?;
        Ok(Segment { attachment })
    }

    /// Opens an existing segment, or an object with a name of its own, as a segment.
    ///
    /// # Errors
    ///
    /// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`, `OutOfMemory` (1,024 participants are attached).
    pub fn open(place: impl Into<Place>) -> Result<Segment> {
        let place = place.into();
        match &place.site {
            Site::File { dir, name } => {
                Ok(Segment { attachment: Attachment::open(&name::path(dir, name)?)? })
            }
            Site::Inside { .. } | Site::Unnamed { .. } => {
                Err(Error::new(ErrorKind::InvalidInput, "a segment cannot be inside of a segment"))
            }
        }
    }

    /// Opens the segment or, if there is none, creates it with `size` bytes; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Segment::open) and [`create`](Segment::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, size: u64) -> Result<(Segment, Origin)> {
        let place = place.into();
        for _ in 0..TRIES {
            match Segment::open(place.clone()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return Ok((opened?, Origin::Opened)),
            }
            match Segment::create(place.clone(), size) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return Ok((created?, Origin::Created)),
            }
        }
        Err(place.overtaken())
    }

    /// The place of the object `name` inside of this segment.
    pub fn at(&self, name: impl Into<String>) -> Place {
        Place::inside(self.attachment.clone(), name.into())
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    pub(crate) fn from_attachment(attachment: Arc<Attachment>) -> Segment {
        Segment { attachment }
    }

    /// Bytes reserved.
    pub fn size(&self) -> u64 {
        self.attachment.facts().size
    }

    /// The file that it is, if it has a name.
    pub fn path(&self) -> Option<PathBuf> {
        self.attachment.path()
    }

    /// Names and kinds of its objects that users have made, newest first; `None` for a kind that this version of pagemate does not know.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn objects(&self) -> Result<Vec<(String, Option<Kind>)>> {
        let known = |entry: Entry| (entry.name, Kind::from_number(entry.kind));
        let entries = self.attachment.view().entries();
        entries
            .filter(
                |entry| !matches!(entry, Ok(entry) if entry.is_removed || entry.name.starts_with(crate::manager::RESERVED)),
            )
            .map(|entry| entry.map(known))
            .collect()
    }
}
