//! A manager: one segment with all objects that some processes share, by name.
//!
//! It is not a server: no process has to run, and nothing is sent. The directory of the segment is
//! the list of names, and dicts and lists take their memory from the heap of the segment. So this
//! file has no state and no death of its own.

use std::path::PathBuf;

use crate::collections::array::Array;
use crate::collections::dict::Dict;
use crate::collections::list::List;
use crate::collections::namespace::Namespace;
use crate::collections::reference::{Ref, Referent};
use crate::collections::value::Value;
use crate::message::item::Item;
use crate::message::{Message, Payload};
use crate::queue::mpmc::Queue;
use crate::queue::topic::Topic;
use crate::segment::place::{Origin, Place, RESERVE};
use crate::segment::ObjectInfo;
use crate::segment::Segment;
use crate::service::Service;
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::Result;

/// A set of named objects in one segment, created on first use by any process.
///
/// It replaces Python's `multiprocessing.Manager` without a server process. Objects are memory, so
/// a look-up does not leave the process. Any process may come and go, and the objects of the others
/// stay. A manager can contain every type of pagemate: [`at`](Manager::at) returns a place for its
/// `create`, `open` and `open_or_create`.
///
/// A manager reserves 16 GiB of address space and file size unless [`Place::reserve`] sets another
/// size. Memory is used as objects are created and grow. An object stays as long as the manager, or
/// until it is [removed](Manager::remove). Dicts and lists can store [`Ref`]s to other objects of
/// the manager.
///
/// Following a [`Ref`] scans all objects that were ever created, also removed ones, in about 100 ns
/// each. Finding an object by its name scans only those that were created since this process
/// searched last. So open frequently used objects once. Create objects by the thousand, not by the
/// million: large numbers of items belong in a dict or list.
///
/// A minimal program: `examples/manager.rs`.
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
/// let elsewhere = Manager::open(name)?; // any process of this user, or pass it to a child
/// assert_eq!(elsewhere.list::<u64>("squares")?.get(9)?, Some(81));
/// manager.dict::<str, f64>("prices")?.insert("apple", &0.5)?;
/// let jobs = elsewhere.queue::<u64>("jobs", 64)?;
/// let (start, _) = Barrier::open_or_create(elsewhere.at("start"), 2)?; // any other type
/// # drop((jobs, start));
/// assert_eq!(manager.objects()?.len(), 4);
/// # Ok(())
/// # }
/// ```
///
/// On a disk a manager outlives all processes, and is not limited by the machine's memory:
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

impl From<Segment> for Manager {
    /// Returns a manager of the objects of this segment.
    fn from(segment: Segment) -> Manager {
        Manager { segment }
    }
}

impl Manager {
    /// Creates a manager without a name. Share it by cloning it, or pass it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Manager> {
        Segment::new(RESERVE).map(Manager::from)
    }

    /// Creates the manager. Fails if the name is already taken.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput`, `OutOfMemory`, `PermissionDenied`, `Unsupported` (the
    /// directory's file system).
    pub fn create(place: impl Into<Place>) -> Result<Manager> {
        let place = place.into().growing();
        let size = place.reserved();
        Segment::create(place, size).map(Manager::from)
    }

    /// Opens an existing manager, or a segment as one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`, `OutOfMemory` (1,024
    /// participants are attached).
    pub fn open(place: impl Into<Place>) -> Result<Manager> {
        Segment::open(place).map(Manager::from)
    }

    /// Opens the manager, or creates it if there is none. Returns which of the two happened.
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

    /// Returns the place of the object with this name, for the `create`, `open` and
    /// `open_or_create` of any type.
    pub fn at(&self, name: impl Into<String>) -> Place {
        self.segment.at(name)
    }

    /// Opens the list with this name, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` (another kind of object has the name, or its elements are of another type),
    /// `InvalidInput` (the name), `OutOfMemory`, `Corrupted`.
    pub fn list<T: Item + ?Sized>(&self, name: &str) -> Result<List<T>> {
        List::open_or_create(self.at(name)).map(|(list, _)| list)
    }

    /// Opens the dict with this name, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn dict<K: Item + ?Sized, V: Item + ?Sized>(&self, name: &str) -> Result<Dict<K, V>> {
        Dict::open_or_create(self.at(name)).map(|(dict, _)| dict)
    }

    /// Opens the namespace with this name, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::open_or_create(self.at(name)).map(|(namespace, _)| namespace)
    }

    /// Opens the value with this name, or creates it as `initial` if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn value<T: Message>(&self, name: &str, initial: T) -> Result<Value<T>> {
        Value::open_or_create(self.at(name), initial).map(|(value, _)| value)
    }

    /// Opens the array with this name, or creates it with `len` elements equal to `initial` if
    /// there is none. An existing array keeps its length.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn array<T: Message>(&self, name: &str, len: usize, initial: T) -> Result<Array<T>> {
        Array::open_or_create(self.at(name), len, initial).map(|(array, _)| array)
    }

    /// Opens the queue with this name, or creates it for `capacity` messages if there is none. An
    /// existing queue keeps its capacity. For other options use [`at`](Manager::at).
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn queue<T: Payload + ?Sized>(&self, name: &str, capacity: usize) -> Result<Queue<T>> {
        Queue::open_or_create(self.at(name), capacity).map(|(queue, _)| queue)
    }

    /// Opens the topic with this name, or creates it for the last `capacity` messages if there is
    /// none. An existing topic keeps its capacity.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn topic<T: Payload + ?Sized>(&self, name: &str, capacity: usize) -> Result<Topic<T>> {
        Topic::open_or_create(self.at(name), capacity).map(|(topic, _)| topic)
    }

    /// Opens the service with this name, or creates it for `capacity` calls at a time if there is
    /// none. An existing service keeps its capacity.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn service<Q: Payload + ?Sized, R: Payload + ?Sized>(
        &self,
        name: &str,
        capacity: usize,
    ) -> Result<Service<Q, R>> {
        Service::open_or_create(self.at(name), capacity).map(|(service, _)| service)
    }

    /// Opens the event with this name, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn event(&self, name: &str) -> Result<Event> {
        Event::open_or_create(self.at(name)).map(|(event, _)| event)
    }

    /// Opens the lock with this name, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Manager::list).
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Lock::open_or_create(self.at(name)).map(|(lock, _)| lock)
    }

    /// Returns the place of an object without a name, for the `create` of any type. Only a handle
    /// or a [`Ref`] leads to the object.
    ///
    /// The object stays as long as the manager, or until it is [discarded](Manager::discard),
    /// whether or not it is still referred to. It also stays if the process is killed before it has
    /// stored a [`Ref`] to it.
    pub fn unnamed(&self) -> Place {
        Place::unnamed(self.segment.attachment().clone())
    }

    /// Opens the object that a reference leads to. Scans the objects of the manager for it, and
    /// never blocks.
    ///
    /// # Errors
    ///
    /// `NotFound` (it was removed, or the reference is all zeros), `InvalidInput` (it belongs to
    /// another manager), `TypeMismatch`, `Corrupted` (there is no such object).
    pub fn get<T: Referent>(&self, reference: Ref<T>) -> Result<T> {
        reference.follow(self.segment.attachment())
    }

    /// Removes an object of any type by its name. It can no longer be found, references to it are
    /// errors, and another object may have the name immediately. A process that has it open can
    /// continue to use it. If the caller is killed meanwhile, the name is either removed or not.
    ///
    /// To free the memory by which a dict, list or namespace has grown, call its `clear` before.
    /// That memory then serves values of any size. The rest of an object (17 KiB of a dict, 512
    /// bytes of a list, all of an array or queue) stays in use until the end of the manager.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidInput` (the name), `Corrupted`.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.at(name).remove()
    }

    /// Removes an object by a reference to it, like [`remove`](Manager::remove) by a name.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Manager::get).
    pub fn discard<T: Referent>(&self, reference: Ref<T>) -> Result<()> {
        reference.remove(self.segment.attachment())
    }

    /// Returns the objects that have names, newest first.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        self.segment.objects()
    }

    /// Returns the segment of the manager.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Returns the path of the manager's file, if it has a name.
    pub fn path(&self) -> Option<PathBuf> {
        self.segment.path()
    }
}
