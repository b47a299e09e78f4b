//! Creating and opening at a place: a segment that has a name, or an object inside a segment.
//!
//! A segment with a name is built while it has no name, and gets the name when it is complete. A
//! process that dies before that leaves nothing.

use std::sync::Arc;

use crate::message::mismatch;
use crate::registry::Kind;
use crate::segment::attachment::{Attachment, Found};
use crate::segment::directory::{size_for, NAMELESS};
use crate::segment::header::{PERSISTENT, SIZE_MAX, SIZE_MIN};
use crate::segment::name;
use crate::segment::object::{ObjectLayout, ObjectRef};
use crate::segment::place::{Origin, Place, Site};
use crate::segment::view::Entry;
use crate::sys::backing::memory;
use crate::{Error, ErrorKind, Result};

/// The name, in the segment's directory, of the object that is opened by the segment's own name.
const OWN: &str = "";
/// Attempts of one call, after which it returns `Busy`.
pub(super) const TRIES: usize = 1000;

/// Returns `size` rounded up to pages. An impossible size is returned unchanged, so that the error
/// shows it.
pub(super) fn whole_pages(size: u64) -> u64 {
    if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
        return size;
    }
    size.next_multiple_of(4096)
}

/// Initialises a new object. Its bytes are zero and aligned to 128, and no other process can see
/// them.
type Init<'a> = &'a dyn Fn(*mut u8);

impl ObjectLayout {
    fn insert(&self, attachment: &Arc<Attachment>, name: &str, init: Init<'_>) -> Result<ObjectRef> {
        let entry = attachment.insert(name, self.kind as u32, &self.schema, self.len, init)?;
        Ok(ObjectRef::new(attachment.clone(), &entry))
    }

    fn insert_unnamed(&self, attachment: &Arc<Attachment>, init: Init<'_>) -> Result<ObjectRef> {
        let entry = attachment.insert_reserved(NAMELESS, self.kind as u32, &self.schema, self.len, init)?;
        Ok(ObjectRef::new(attachment.clone(), &entry))
    }

    /// Returns the size of a segment for this object alone. If `reserve` is 0, the layout's own
    /// number counts.
    fn segment_size(&self, reserve: u64) -> u64 {
        let reserve = if reserve == 0 { self.reserve } else { reserve };
        whole_pages(reserve).max(size_for(OWN, &self.schema, self.len))
    }

    /// Creates an object without a name, in a segment of its own. It is freed when the last handle
    /// is dropped, whichever process has it.
    pub(super) fn create_anonymous(&self, init: Init<'_>) -> Result<ObjectRef> {
        self.insert(&Attachment::anonymous(self.segment_size(0))?, OWN, init)
    }
}

impl Place {
    /// Creates an object of this layout.
    pub(super) fn create(&self, layout: &ObjectLayout, init: Init<'_>) -> Result<ObjectRef> {
        match &self.site {
            Site::Inside { attachment, name } => {
                name::check(name)?;
                layout.insert(attachment, name, init)
            }
            Site::Unnamed { attachment } => layout.insert_unnamed(attachment, init),
            Site::File { .. } => {
                let attachment = self.build(layout.segment_size(self.reserved()))?;
                let object = layout.insert(&attachment, OWN, init)?;
                self.publish_new(&attachment)?;
                Ok(object)
            }
        }
    }

    /// Opens the object after checking that it is of this kind and that its messages have this
    /// schema.
    pub(super) fn open(&self, kind: Kind, schema: &str) -> Result<ObjectRef> {
        match &self.site {
            Site::Inside { attachment, name } => {
                name::check(name)?;
                self.checked(attachment.clone(), attachment.find(name)?, kind, schema)
            }
            Site::Unnamed { attachment } => self.checked(attachment.clone(), None, kind, schema),
            Site::File { .. } => {
                let attachment = self.attach()?;
                let entry = attachment.view().find(OWN)?;
                self.checked(attachment, entry, kind, schema)
            }
        }
    }

    /// Opens the object, or creates it if it does not exist. Returns which of the two happened.
    pub(super) fn open_or_create(
        &self,
        layout: &ObjectLayout,
        init: Init<'_>,
    ) -> Result<(ObjectRef, Origin)> {
        for _ in 0..TRIES {
            match self.open(layout.kind, &layout.schema) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return Ok((opened?, Origin::Opened)),
            }
            match self.create(layout, init) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return Ok((created?, Origin::Created)),
            }
        }
        Err(self.overtaken())
    }

    /// Attaches to the segment of this name.
    pub(super) fn attach(&self) -> Result<Arc<Attachment>> {
        let Site::File { dir, name } = &self.site else { return Err(not_inside()) };
        Attachment::open(&name::path(dir, name)?, self.trusted())
    }

    /// Builds an empty segment that has no name yet.
    pub(super) fn build(&self, size: u64) -> Result<Arc<Attachment>> {
        let Site::File { dir, name } = &self.site else { return Err(not_inside()) };
        name::path(dir, name)?;
        let mode = self.trusted();
        if mode & 0o600 != 0o600 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the mode {mode:04o} does not let the owner read and write: it needs 0600"),
            ));
        }
        let flags = if self.is_persistent() { PERSISTENT } else { 0 };
        Attachment::unnamed(dir, size, mode, flags)
    }

    /// Publishes a complete segment under its name, replacing a stale one.
    pub(super) fn publish_new(&self, attachment: &Attachment) -> Result<()> {
        let Site::File { dir, name } = &self.site else { return Ok(()) };
        // The recorded path is absolute, because other processes have other working directories.
        let dir = memory::canonical(dir)?;
        let path = name::path(&dir, name)?;
        for _ in 0..TRIES {
            if attachment.publish(&path)? {
                return Ok(());
            }
            match Attachment::open_if_there(&path, self.trusted())? {
                Found::Nothing(_) => {}
                Found::Left(error) => return Err(error),
                Found::Attached(_) => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("{name:?} exists already: open it, or use another name"),
                    ));
                }
            }
        }
        Err(self.overtaken())
    }

    pub(super) fn overtaken(&self) -> Error {
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
                    format!(
                        "{name:?} is a segment without an object of its own: open it as a Segment and \
                        use its at()"
                    )
                }
                Site::Inside { .. } => format!("there is no object {}", self.describe()),
                Site::Unnamed { .. } => "what has no name is opened by its reference".to_string(),
            };
            let kind = match &self.site {
                Site::File { .. } => ErrorKind::TypeMismatch,
                _ => ErrorKind::NotFound,
            };
            return Err(Error::new(kind, text));
        };
        if entry.kind != kind as u32 {
            let found = Kind::from_number(entry.kind)
                .map_or("of an unknown kind".to_string(), |kind| format!("of kind {}", kind.name()));
            let text =
                format!("{} is not the {} that was requested: it is {found}", self.describe(), kind.name());
            return Err(Error::new(ErrorKind::TypeMismatch, text));
        }
        if entry.schema != schema {
            return Err(mismatch(&format!("the {} {}", kind.name(), self.describe()), schema, &entry.schema));
        }
        Ok(ObjectRef::new(attachment, &entry))
    }
}

#[cold]
fn not_inside() -> Error {
    Error::new(ErrorKind::InvalidInput, "a segment cannot be inside of a segment")
}
