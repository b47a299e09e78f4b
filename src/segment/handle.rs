//! The handle of a segment: `Segment`.

#[cfg(not(loom))]
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::segment::attachment::Attachment;
use crate::segment::creation::{whole_pages, TRIES};
use crate::segment::name;
use crate::segment::object::ObjectInfo;
use crate::segment::place::{Origin, Place};
use crate::segment::view::Entry;
use crate::{ErrorKind, Result};

/// A segment for many objects: a region of shared memory with a directory of names.
///
/// Its size is only reserved; memory is committed as objects are created. [`at`](Segment::at)
/// returns the places of its objects. Clones are the same participant.
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
    /// Creates a segment of `size` bytes without a name. It is freed with its last handle.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an impossible size, `OutOfMemory`.
    pub fn new(size: u64) -> Result<Segment> {
        Ok(Segment { attachment: Attachment::anonymous(whole_pages(size))? })
    }

    /// Creates a segment of `size` bytes under a name. Fails if the name is taken.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput`, `OutOfMemory`, `PermissionDenied`, `Unsupported` (by the
    /// directory's file system).
    pub fn create(place: impl Into<Place>, size: u64) -> Result<Segment> {
        let place = place.into();
        let attachment = place.build(whole_pages(size))?;
        place.publish_new(&attachment)?;
        Ok(Segment { attachment })
    }

    /// Opens an existing segment, or an object with a name of its own, as a segment.
    ///
    /// # Errors
    ///
    /// `NotFound`; `PermissionDenied`, also for a file that belongs to another user, or that more
    /// users can write to than [`Place::mode`] says; `VersionMismatch`, `Corrupted`, `OutOfMemory`
    /// (1,024 participants are attached).
    pub fn open(place: impl Into<Place>) -> Result<Segment> {
        Ok(Segment { attachment: place.into().attach()? })
    }

    /// Opens the segment, or creates it with `size` bytes if it does not exist. Returns which of
    /// the two happened.
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

    /// Attaches to a segment without a name, through a descriptor that
    /// [`descriptor`](Segment::descriptor) returned in another process. For programs that start
    /// their processes in their own way and hand descriptors to them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (the segment has a name: open it by that; or its file can be shrunk, so that
    /// it is none that [`descriptor`](Segment::descriptor) has returned), `Corrupted` (not a
    /// segment), `VersionMismatch`, `OutOfMemory` (1,024 participants are attached), `System`.
    #[cfg(not(loom))]
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Segment> {
        Ok(Segment { attachment: Attachment::of_descriptor(descriptor)? })
    }

    /// Returns a new descriptor of the segment's memory, which is closed on `exec`. It keeps the
    /// memory, but is not a participant. In another process,
    /// [`from_descriptor`](Segment::from_descriptor) makes a segment of it.
    ///
    /// ```
    /// use pagemate::{Event, Segment};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let segment = Segment::new(1 << 20)?;
    /// let event = Event::create(segment.at("event"))?;
    /// let elsewhere = Segment::from_descriptor(segment.descriptor()?)?; // in any process
    /// Event::open(elsewhere.at("event"))?.set();
    /// assert!(event.is_set());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `System` (too many open files).
    #[cfg(not(loom))]
    pub fn descriptor(&self) -> Result<OwnedFd> {
        self.attachment.new_descriptor()
    }

    /// Returns the place of the object `name` inside of this segment.
    pub fn at(&self, name: impl Into<String>) -> Place {
        Place::inside(self.attachment.clone(), name.into())
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    pub(crate) fn from_attachment(attachment: Arc<Attachment>) -> Segment {
        Segment { attachment }
    }

    /// Returns the number of reserved bytes.
    pub fn size(&self) -> u64 {
        self.attachment.facts().size
    }

    /// Returns the path of the segment's file, if the segment has a name.
    pub fn path(&self) -> Option<PathBuf> {
        self.attachment.path()
    }

    /// Returns the objects that users have created in the segment, newest first.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        let is_of_users = |entry: &Entry| !entry.is_removed && !entry.name.starts_with(name::RESERVED);
        let entries = self.attachment.view().entries();
        let of_users = entries.filter(|entry| entry.as_ref().map_or(true, is_of_users));
        of_users.map(|entry| entry.map(ObjectInfo::from)).collect()
    }
}
