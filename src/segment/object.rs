//! What every kind of object has in common: the trait [`Object`] of the handles, and the reference
//! in each handle to its object's mapping and address.

use std::sync::Arc;

use crate::registry::{self, Kind};
use crate::segment::attachment::Attachment;
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::segment::pulse::Pulse;
use crate::segment::view::Entry;
use crate::sys::clock::now;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// The handle to one kind of object. A kind says what its objects consist of. How they are created,
/// opened, referred to and passed to child processes is the same for all kinds.
///
/// Users call inherent functions of the same names, which [`verbs`](crate::segment::verbs) defines.
/// `Object::create(...)` calls the one here.
pub(crate) trait Object: Sized {
    const KIND: Kind;

    /// The length in bytes of the shortest object of this kind.
    const LEN: usize;

    /// The bytes to reserve if the object gets a segment of its own and the user names no number.
    /// 0: as many as the object needs now. An object that grows reserves more.
    const RESERVE: u64 = 0;

    /// The arguments of `new`, such as a queue's capacity: one value, a tuple of several, or `()`.
    type Initial;

    /// Returns the text of the layout of its messages, or of the types in it; empty if it has none.
    fn schema() -> String {
        String::new()
    }

    /// Returns the length in bytes of a new object, at least `LEN`. Refuses arguments for which no
    /// object is possible.
    fn len_for(_initial: &Self::Initial) -> Result<usize> {
        Ok(Self::LEN)
    }

    /// Writes those parts of a new object whose first value is not zero.
    ///
    /// # Safety
    ///
    /// The object's `len_for(initial)` zeroed bytes start at `base`, which is aligned to 128, and
    /// nobody else can see them.
    unsafe fn init(_base: *mut u8, _initial: &Self::Initial) {}

    /// Creates the handle to an object that has at least `LEN` bytes. Checks the rest of what the
    /// handle relies on. Only [`from_object`](Object::from_object) calls it.
    fn attach(object: ObjectRef) -> Result<Self>;

    /// Returns the handle's reference to its object.
    fn object(&self) -> &ObjectRef;

    /// Creates the handle to an object. Every handle is created here, so none has an object that is
    /// too short.
    fn from_object(object: ObjectRef) -> Result<Self> {
        if object.len() < Self::LEN {
            return Err(too_short(Self::KIND));
        }
        Self::attach(object)
    }

    /// Creates the handle to the object whose record is at this offset. For children, which receive
    /// the offset from their parent.
    fn from_record(attachment: Arc<Attachment>, record: u64) -> Result<Self> {
        let entry = attachment.view().entries().map_while(Result::ok).find(|entry| entry.record == record);
        match entry {
            Some(entry) if entry.kind == Self::KIND as u32 => {
                Self::from_object(ObjectRef::new(attachment, &entry))
            }
            _ => Err(not_there(Self::KIND)),
        }
    }

    /// Creates an object without a name, in a segment of its own.
    fn new(initial: Self::Initial) -> Result<Self> {
        Self::new_reserving(Self::RESERVE, initial)
    }

    /// Creates an object like [`new`](Object::new) in a segment that reserves `reserve` bytes.
    fn new_reserving(reserve: u64, initial: Self::Initial) -> Result<Self> {
        let layout = ObjectLayout { reserve, ..ObjectLayout::of::<Self>(&initial)? };
        Self::from_object(layout.create_anonymous(&initialiser::<Self>(initial))?)
    }

    /// Creates the object at `place`. Fails if the name is already taken.
    fn create(place: impl Into<Place>, initial: Self::Initial) -> Result<Self> {
        let layout = ObjectLayout::of::<Self>(&initial)?;
        Self::from_object(place.into().create(&layout, &initialiser::<Self>(initial))?)
    }

    /// Opens the object at `place`.
    fn open(place: impl Into<Place>) -> Result<Self> {
        Self::from_object(place.into().open(Self::KIND, &Self::schema())?)
    }

    /// Like [`create`](Object::create), with a schema that is known at run time only.
    #[cfg(any(test, feature = "__internals"))]
    fn create_as(place: impl Into<Place>, schema: String, initial: Self::Initial) -> Result<Self> {
        let layout = ObjectLayout { schema, ..ObjectLayout::of::<Self>(&initial)? };
        Self::from_object(place.into().create(&layout, &initialiser::<Self>(initial))?)
    }

    /// Like [`open`](Object::open), with a schema that is known at run time only.
    #[cfg(any(test, feature = "__internals"))]
    fn open_as(place: impl Into<Place>, schema: &str) -> Result<Self> {
        Self::from_object(place.into().open(Self::KIND, schema)?)
    }

    /// Opens the object at `place`, or creates it if there is none. Returns which of the two
    /// happened.
    fn open_or_create(place: impl Into<Place>, initial: Self::Initial) -> Result<(Self, Origin)> {
        let layout = ObjectLayout::of::<Self>(&initial)?;
        let (object, origin) = place.into().open_or_create(&layout, &initialiser::<Self>(initial))?;
        Ok((Self::from_object(object)?, origin))
    }
}

fn initialiser<O: Object>(initial: O::Initial) -> impl Fn(*mut u8) {
    // SAFETY: a place calls this with the bytes of a new object of the layout that `initial` has.
    move |base| unsafe { O::init(base, &initial) }
}

#[cold]
fn too_short(kind: Kind) -> Error {
    Error::new(ErrorKind::Corrupted, format!("the {}'s record is too short", kind.name()))
}

#[cold]
fn not_there(kind: Kind) -> Error {
    let text = format!("the {} that was given to this process is not in its segment any more", kind.name());
    Error::new(ErrorKind::Corrupted, text)
}

/// What a place must know of an object to create it.
#[derive(Debug)]
pub(super) struct ObjectLayout {
    pub(super) kind: Kind,
    pub(super) schema: String,
    /// Its length in bytes.
    pub(super) len: usize,
    /// See [`Object::RESERVE`].
    pub(super) reserve: u64,
}

impl ObjectLayout {
    fn of<O: Object>(initial: &O::Initial) -> Result<ObjectLayout> {
        Ok(ObjectLayout {
            kind: O::KIND,
            schema: O::schema(),
            len: O::len_for(initial)?,
            reserve: O::RESERVE,
        })
    }
}

/// The entry of an object in its segment's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name in the segment; empty for the object that is opened by the segment's own name.
    pub name: String,
    /// Its kind; `None` if this version of pagemate does not know it.
    pub kind: Option<Kind>,
    /// The layout of its messages, or of the types in it, as text; empty if it has none.
    pub schema: String,
    /// Its length in bytes.
    pub len: usize,
}

impl From<Entry> for ObjectInfo {
    fn from(entry: Entry) -> ObjectInfo {
        ObjectInfo {
            name: entry.name,
            kind: Kind::from_number(entry.kind),
            schema: entry.schema,
            len: entry.len,
        }
    }
}

/// The base of every handle. It keeps the mapping alive. When a process drops its last reference,
/// it leaves the segment.
#[derive(Debug)]
pub(crate) struct ObjectRef {
    attachment: Arc<Attachment>,
    record: u64,
    base: *mut u8,
    len: usize,
    kind: u32,
    /// This process's owner id when the reference was created, if it had one. It is valid while
    /// `epoch` is the process's epoch. Cached here, because a lock that follows two pointers first
    /// is half as fast.
    me: Option<OwnerId>,
    epoch: u32,
    pulse: Pulse,
}

impl Clone for ObjectRef {
    fn clone(&self) -> ObjectRef {
        let ObjectRef { ref attachment, record, base, len, kind, me, epoch, .. } = *self;
        let (attachment, pulse) = (attachment.clone(), Pulse::new());
        ObjectRef { attachment, record, base, len, kind, me, epoch, pulse }
    }
}

// SAFETY: the pointer is into a mapping that `attachment` keeps, and is only an address here. Each
// read and write through it states its own reason.
unsafe impl Send for ObjectRef {}
// SAFETY: as above; no method changes the fields but the atomics of `pulse`.
unsafe impl Sync for ObjectRef {}

impl ObjectRef {
    /// Creates a reference to the object that `entry` describes.
    pub(crate) fn new(attachment: Arc<Attachment>, entry: &Entry) -> ObjectRef {
        let base = attachment.base().wrapping_add(entry.object as usize);
        // The epoch is read first, so a fork between the two reads leaves an outdated epoch here,
        // and `owner` looks the id up again.
        let epoch = fork::ensure_epoch();
        let me = attachment.owner().ok();
        let (&Entry { record, len, kind, .. }, pulse) = (entry, Pulse::new());
        ObjectRef { attachment, record, base, len, kind, me, epoch, pulse }
    }

    /// Returns the first byte of the object, at a multiple of 128.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Returns the length in bytes, all of which are mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the offset of the record, which a child receives.
    pub(crate) fn record(&self) -> u64 {
        self.record
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    /// Returns whether both lead to the same object, perhaps through two mappings.
    pub(crate) fn is_same(&self, other: &ObjectRef) -> bool {
        self.record == other.record && self.attachment.is_of_same_file(&other.attachment)
    }

    /// Returns the owner id by which the object's words name this process. Without a system call,
    /// except for the first call after a `fork`.
    #[inline(always)]
    pub(crate) fn owner(&self) -> Result<OwnerId> {
        match self.me {
            Some(me) if self.epoch == fork::epoch() => Ok(me),
            _ => self.attachment.owner(),
        }
    }

    /// Returns whether the participant is alive. Makes a system call.
    pub(crate) fn is_alive(&self, id: OwnerId) -> bool {
        self.attachment.is_alive(id)
    }

    /// Counts a failed `try_*`. Callers that poll without blocking must notice deaths too, so every
    /// few milliseconds this is a [`reap_dead`](ObjectRef::reap_dead), which makes system calls at
    /// most every 40 ms.
    #[inline]
    pub(crate) fn note_failed_try(&self) {
        if self.pulse.beat() {
            self.check_now();
        }
    }

    /// Returns `hindered`. If it is true, counts a failure, as
    /// [`note_failed_try`](ObjectRef::note_failed_try) does. For queries such as `is_empty`, which
    /// a caller may poll.
    #[inline]
    pub(crate) fn is_hindered(&self, hindered: bool) -> bool {
        if hindered {
            self.note_failed_try();
        }
        hindered
    }

    #[cold]
    fn check_now(&self) {
        self.pulse.note_reading(now());
        self.reap_dead();
    }

    /// Checks for the dead (see [`Attachment::reap_dead`]), and does what a stopped participant has
    /// left undone in this object.
    pub(crate) fn reap_dead(&self) {
        self.attachment.reap_dead();
        registry::settle(self.kind, self.base, self.len);
    }
}
