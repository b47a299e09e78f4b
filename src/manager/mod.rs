//! A manager: one segment with everything that some processes share, by name.
//!
//! Not a server: nobody needs to run, and nothing is sent. The directory of the segment is the list of names, and the heap of
//! the segment is where lists take their memory. So this file has no state and no death of its own.

use std::path::PathBuf;

use crate::array::Array;
use crate::dict::Dict;
use crate::item::Item;
use crate::kind::Kind;
use crate::list::List;
use crate::message::Message;
use crate::namespace::Namespace;
use crate::place::{Origin, Place, Segment, RESERVE};
use crate::queue::mpmc::Queue;
use crate::reference::{Ref, Referent};
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::value::Value;
use crate::Result;

/// A place for everything that some processes share: objects by name in one segment, made on first use, of any process.
///
/// What Python's `multiprocessing.Manager` is for, without its server process: objects are memory, so a look-up is a look-up,
/// any process may come and go, and none takes the others' objects with it. Every type of pagemate may live here:
/// [`at`](Manager::at) gives a place for its `create`, `open` and `open_or_create`.
///
/// It reserves 16 GiB of address space and file size unless its [`Place::reserve`] says otherwise; memory is taken as objects
/// are made and grow. Objects stay as long as the manager, or until they are [removed](Manager::remove). What stands in a dict or a
/// list may be a [`Ref`] to another object of the manager.
///
/// Finding an object, by its name or by a [`Ref`], looks through all objects that there ever were, removed ones too: some 100 ns each.
/// So open what is used often once, and make objects by the thousand, not by the million: what there are many of belongs into a dict
/// or list.
///
/// # Examples
///
/// ```
/// use pagemate::{Barrier, Manager};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-manager-{}", std::process::id());
/// # let name = name.as_str();
/// let manager = Manager::create(name)?;
/// manager.list::<u64>("squares")?.extend((0..10).map(|n| n * n))?;
///
/// let elsewhere = Manager::open(name)?; // any process of this user, or give it to a child
/// assert_eq!(elsewhere.list::<u64>("squares")?.get(9)?, Some(81));
/// manager.dict::<str, f64>("prices")?.insert("apple", &0.5)?;
/// let jobs = elsewhere.queue::<u64>("jobs", 64)?;
/// let (start, _) = Barrier::open_or_create(elsewhere.at("start"), 2)?; // whatever else there is
/// # drop((jobs, start));
/// assert_eq!(manager.objects()?.len(), 4);
/// # Ok(())
/// # }
/// ```
///
/// On a disk it outlasts all processes, and the machine's memory:
///
/// ```
/// use pagemate::{Manager, Place};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-manager-disk-{}", std::process::id());
/// # let (dir, name) = (std::env::temp_dir(), name.as_str());
/// let place = Place::in_dir(&dir, name).persistent();
/// Manager::create(place.clone())?.list::<u64>("seen")?.push(7)?;
/// assert_eq!(Manager::open(place.clone())?.list::<u64>("seen")?.to_vec()?, [7]);
/// place.remove()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Manager {
    segment: Segment,
}

/// What the names of objects begin with that no user has named: the heap's parts, what is unnamed.
pub(crate) const RESERVED: char = '/';

/// An object of a [`Manager`] that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is; `None`: a kind that this version of pagemate does not know.
    pub kind: Option<Kind>,
    /// Text of the types in it; empty if it has none.
    pub schema: String,
}

impl From<Segment> for Manager {
    /// The objects of a segment that is there already.
    fn from(segment: Segment) -> Manager {
        Manager { segment }
    }
}

impl Manager {
    /// A manager that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Manager> {
        Segment::new(RESERVE).map(Manager::from)
    }

    /// Creates a manager. Fails if something has the name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput`, `OutOfMemory`, `PermissionDenied`, `Unsupported` (the directory's file system).
    pub fn create(place: impl Into<Place>) -> Result<Manager> {
        let place = place.into().growing();
        let size = place.reserved();
        Segment::create(place, size).map(Manager::from)
    }

    /// Opens an existing manager, or a segment as one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`, `OutOfMemory` (1,024 participants are attached).
    pub fn open(place: impl Into<Place>) -> Result<Manager> {
        Segment::open(place).map(Manager::from)
    }

    /// Opens the manager or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Manager::open) and [`create`](Manager::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Manager, Origin)> {
        let place = place.into().growing();
        let size = place.reserved();
        let (segment, origin) = Segment::open_or_create(place, size)?;
        Ok((Manager::from(segment), origin))
    }

    /// The place of the object with this name, for any type's `create`, `open` and `open_or_create`.
    pub fn at(&self, name: impl Into<String>) -> Place {
        self.segment.at(name)
    }

    /// The list with this name, which is created if there is none.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` (something else has the name, or its elements are of another type), `InvalidInput` (the name),
    /// `OutOfMemory`, `Corrupted`.
    pub fn list<T: Item + ?Sized>(&self, name: &str) -> Result<List<T>> {
        List::open_or_create(self.at(name)).map(|(list, _)| list)
    }

    /// The dict with this name, which is created if there is none.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn dict<K: Item + ?Sized, V: Item + ?Sized>(&self, name: &str) -> Result<Dict<K, V>> {
        Dict::open_or_create(self.at(name)).map(|(dict, _)| dict)
    }

    /// The namespace with this name, which is created if there is none.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::open_or_create(self.at(name)).map(|(namespace, _)| namespace)
    }

    /// The value with this name, which is created with `initial` if there is none.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn value<T: Message>(&self, name: &str, initial: T) -> Result<Value<T>> {
        Value::open_or_create(self.at(name), initial).map(|(value, _)| value)
    }

    /// The array with this name, which is created with `len` times `initial` if there is none. One that is there already keeps
    /// its own length.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn array<T: Message>(&self, name: &str, len: usize, initial: T) -> Result<Array<T>> {
        Array::open_or_create(self.at(name), len, initial).map(|(array, _)| array)
    }

    /// The queue with this name, which is created for `capacity` messages if there is none. One that is there already keeps its
    /// own capacity. For other options there is [`at`](Manager::at).
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn queue<T: Message>(&self, name: &str, capacity: usize) -> Result<Queue<T>> {
        Queue::open_or_create(self.at(name), capacity).map(|(queue, _)| queue)
    }

    /// The event with this name, which is created if there is none.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn event(&self, name: &str) -> Result<Event> {
        Event::open_or_create(self.at(name)).map(|(event, _)| event)
    }

    /// The lock with this name, which is created if there is none.
    ///
    /// # Errors
    ///
    /// As of [`list`](Manager::list).
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Lock::open_or_create(self.at(name)).map(|(lock, _)| lock)
    }

    /// The place of an object without a name, for any type's `create`: only what is given a handle or a [`Ref`] finds it.
    ///
    /// It stays as long as the manager, whether or not anything still refers to it, until it is [discarded](Manager::discard): also if the
    /// process is killed before it has put its [`Ref`] anywhere.
    pub fn unnamed(&self) -> Place {
        Place::unnamed(self.segment.attachment().clone())
    }

    /// Opens what a reference leads to. Looks through the manager's objects for it, and waits for nobody.
    ///
    /// # Errors
    ///
    /// `NotFound` (it was removed, or the reference is all zeros), `InvalidInput` (it is of another manager), `TypeMismatch`,
    /// `Corrupted` (no object is there).
    pub fn get<T: Referent>(&self, reference: Ref<T>) -> Result<T> {
        reference.follow(self.segment.attachment())
    }

    /// Removes an object by its name, whatever it is. Nobody finds it any more, references to it are errors, and another may have the
    /// name at once. Whoever has it open goes on with it. A process that is killed in it has removed the name or not.
    ///
    /// The memory that a dict, list or namespace has grown by is given back by its `clear`, before, for what has blocks of about the same sizes; what else there is of an
    /// object (17 KiB of a dict, 512 bytes of a list, all of an array or queue) stays used until the manager's end.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidInput` (the name), `Corrupted`.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.at(name).remove()
    }

    /// Removes an object by a reference to it, as [`remove`](Manager::remove) does by its name.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Manager::get).
    pub fn discard<T: Referent>(&self, reference: Ref<T>) -> Result<()> {
        reference.remove(self.segment.attachment())
    }

    /// The objects that have names, newest first.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn objects(&self) -> Result<Vec<Listed>> {
        let entries = self.segment.attachment().view().entries();
        let listed = entries.map(|entry| {
            let entry = entry?;
            let is_hidden = entry.is_removed || entry.name.starts_with(RESERVED);
            Ok((!is_hidden).then(|| Listed {
                name: entry.name,
                kind: Kind::from_number(entry.kind),
                schema: entry.schema,
            }))
        });
        listed.filter_map(Result::transpose).collect()
    }

    /// The segment that it is.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The file that it is, if it has a name.
    pub fn path(&self) -> Option<PathBuf> {
        self.segment.path()
    }
}
