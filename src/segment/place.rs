//! The place of an object: a name of its own, or a name inside of a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::segment::attachment::Attachment;
use crate::segment::name;
use crate::segment::removal::Outcome;
use crate::segment::sweep::{self, Which};
use crate::{Error, ErrorKind, Result};

/// Bytes that a segment reserves by default for a growing object. Memory is committed as it grows.
pub(crate) const RESERVE: u64 = if cfg!(loom) { 1 << 20 } else { 16 << 30 };

/// Where an object is created or found: the argument of every `create`, `open` and
/// `open_or_create`.
///
/// A plain string names a segment of its own in the shared-memory directory, `/dev/shm`. Its file
/// is called `pagemate.NAME`. Only its user can read and write it, and it is removed when the last
/// process leaves it. [`Segment::at`](crate::Segment::at) returns places inside of a segment.
///
/// Names are 1 to 200 bytes long, without `/` and control characters. `.` and `..` are refused.
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
/// // Another directory, and the group may open it too.
/// let place = Place::in_dir(std::env::temp_dir(), other).mode(0o660);
/// let event = Event::create(place)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) site: Site,
    mode: u32,
    persistent: bool,
    reserve: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Site {
    File {
        dir: PathBuf,
        name: String,
    },
    Inside {
        attachment: Arc<Attachment>,
        name: String,
    },
    /// Inside of a segment as well. Such an object is reached by references only.
    Unnamed {
        attachment: Arc<Attachment>,
    },
}

/// The result of [`open_or_create`](crate::Event::open_or_create): created or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing existed: this call created it.
    Created,
    /// It existed already: this call opened it.
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
    /// Returns the place `name` in a directory of the caller's choice. The file system must have
    /// `O_TMPFILE`: tmpfs, ext4, xfs, or btrfs while it is not full (see the README).
    pub fn in_dir(dir: impl AsRef<Path>, name: impl Into<String>) -> Place {
        let site = Site::File { dir: dir.as_ref().to_path_buf(), name: name.into() };
        Place { site, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// Sets which users are trusted, as permission bits of `chmod`. The default is 0600, and
    /// creating refuses a mode without these two bits.
    ///
    /// A created file gets exactly these bits, whatever the umask is. A file that is opened must
    /// belong to a trusted user (by default only the caller), and must not be writable by more
    /// users than the bits say. 0660 also trusts the file's group: if the caller is a member, the
    /// file may belong to another user. 0666 trusts everybody.
    ///
    /// A user who can write to a segment can change all of its contents, and can end every process
    /// that has it open by SIGBUS. The mode has no effect inside of a segment.
    pub fn mode(mut self, mode: u32) -> Place {
        self.mode = mode & 0o777;
        self
    }

    /// Returns the permission bits of the trusted users.
    pub(crate) fn trusted(&self) -> u32 {
        self.mode
    }

    /// Keeps a created segment after its last participant leaves, until it is removed. Has no
    /// effect on opening, nor inside of a segment.
    pub fn persistent(mut self) -> Place {
        self.persistent = true;
        self
    }

    /// Returns whether a created segment stays without participants.
    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Sets the least number of bytes of address space and file size that a segment created under a
    /// name of its own reserves, at most 256 GiB.
    ///
    /// The default is 16 GiB for an object that grows, and the needed size for one that does not.
    /// Memory is taken only as it is used. Has no effect on opening, nor inside of a segment.
    pub fn reserve(mut self, bytes: u64) -> Place {
        self.reserve = bytes;
        self
    }

    /// Returns the place of an object that grows.
    pub(crate) fn growing(mut self) -> Place {
        if self.reserve == 0 {
            self.reserve = RESERVE;
        }
        self
    }

    /// Returns the number of bytes to reserve; 0: the size that the object needs.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserve
    }

    pub(crate) fn inside(attachment: Arc<Attachment>, name: String) -> Place {
        Place { site: Site::Inside { attachment, name }, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// Returns the place of an object without a name. `create` always finds it free, and `open`
    /// finds nothing.
    pub(crate) fn unnamed(attachment: Arc<Attachment>) -> Place {
        Place { site: Site::Unnamed { attachment }, mode: 0o600, persistent: false, reserve: 0 }
    }

    /// Returns the place as it reads in a sentence.
    pub(super) fn describe(&self) -> String {
        match &self.site {
            Site::File { name, .. } => format!("{name:?}"),
            Site::Inside { attachment, name } => match attachment.path() {
                Some(path) => format!("{name:?} in {}", path.display()),
                None => format!("{name:?}"),
            },
            Site::Unnamed { .. } => "without a name".to_string(),
        }
    }

    /// Returns the file of a segment with a name of its own.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        match &self.site {
            Site::File { dir, name } => name::path(dir, name),
            Site::Inside { .. } | Site::Unnamed { .. } => {
                Err(Error::new(ErrorKind::InvalidInput, "this is a place inside of a segment, not a segment"))
            }
        }
    }

    /// Removes the segment of this name unless a live process is attached to it, whether it is
    /// persistent or not. Removes a segment that a crash left behind, too. A process that attaches
    /// at the same moment either is seen, and the segment stays, or finds no segment.
    ///
    /// ```
    /// use pagemate::{ErrorKind, Event, Place};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// # let name = format!("doc-remove-unused-{}", std::process::id());
    /// # let name = name.as_str();
    /// let event = Event::create(Place::from(name).persistent())?;
    /// assert_eq!(Place::from(name).remove_unused().unwrap_err().kind(), ErrorKind::Busy);
    /// drop(event);
    /// Place::from(name).remove_unused()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Busy`: a process is attached; `NotFound`; `InvalidInput` for a place inside of a segment;
    /// `Corrupted`: it is not a segment, and only [`remove`](Place::remove) takes it;
    /// `PermissionDenied`.
    pub fn remove_unused(&self) -> Result<()> {
        let path = self.file()?;
        match sweep::remove(&path, Which::Unused)? {
            Outcome::Removed => Ok(()),
            Outcome::NotNamed => Err(nothing_at(&path)),
            _ => Err(Error::new(ErrorKind::Busy, format!("{} is in use", path.display()))),
        }
    }

    /// Removes this name, even while processes have its file or object open. They continue to use
    /// it, and no process finds it by the name any more. The name is free immediately.
    ///
    /// The memory of a segment is freed when the last process unmaps it. The memory of an object
    /// inside of a segment is freed with the segment.
    ///
    /// ```
    /// use pagemate::{Event, Segment};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let segment = Segment::new(1 << 20)?;
    /// let event = Event::create(segment.at("go"))?;
    /// segment.at("go").remove()?;
    /// assert!(Event::open(segment.at("go")).is_err());
    /// event.set(); // for all that have it open
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `NotFound` if the name does not exist, or another process removed it first; `InvalidInput`
    /// if it cannot be a name; `PermissionDenied`, `Corrupted`.
    pub fn remove(&self) -> Result<()> {
        match &self.site {
            Site::Inside { attachment, name } => attachment.remove(name),
            Site::Unnamed { .. } => {
                Err(Error::new(ErrorKind::NotFound, "what has no name is removed by its reference"))
            }
            Site::File { dir, name } => {
                let path = name::path(dir, name)?;
                match sweep::remove(&path, Which::Any)? {
                    Outcome::Removed => Ok(()),
                    _ => Err(nothing_at(&path)),
                }
            }
        }
    }
}

#[cold]
fn nothing_at(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {}: nothing to remove", path.display()))
}
