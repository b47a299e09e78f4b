//! The handle: `List`.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use super::change::Change;
use super::{read, Head};
use crate::heap::Heap;
use crate::item::Item;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::place::{Origin, Place, Shape};
use crate::{Error, ErrorKind, Result};

/// A list of messages, strings or bytes in shared memory, which grows, and which any number of processes read and change.
///
/// Like a `Vec` that belongs to nobody: a process that is killed in the middle of any method leaves the list as it was
/// before, or as it is after. Readers take no lock and wait for nobody; an element is never seen half-written. Who changes
/// the list waits for whoever else is changing it, also while that one is stopped (see [`write_timeout`](List::write_timeout)), and
/// for nobody else.
///
/// What takes how long: [`get`](List::get) a few loads; [`push`](List::push), [`pop`](List::pop) and [`set`](List::set)
/// one or two blocks of the heap; [`insert`](List::insert) and [`remove`](List::remove) copy a word for each element. An
/// element takes 8 bytes if it has so many at most, else a block of its own beside: 8 bytes more than its size, and a string or bytes 8 more than that, rounded
/// up to the next size of blocks (16 bytes apart up to 128, a quarter more each up to 8 KiB, then multiples of 16 KiB); growing doubles
/// the room, which only [`clear`](List::clear) gives back.
///
/// Elements are given as `T` or `&T`, or as what borrows as one, and come back [owned](Item::Owned): a message as itself,
/// `str` as `String`, `[u8]` as `Vec<u8>`.
///
/// Under a name of its own it reserves 16 GiB of address space and file size ([`Place::reserve`]), not of memory. Several of them in one
/// segment ([`Manager`](crate::Manager)) share a heap.
///
/// # Examples
///
/// ```
/// use pagemate::List;
///
/// # fn main() -> pagemate::Result<()> {
/// let prices = List::<f64>::new()?;
/// prices.push(1.5)?;
/// prices.extend([2.5, 0.5])?;
/// prices.insert(1, 9.0)?;
/// assert_eq!(prices.get(1)?, Some(9.0));
/// prices.sort_by(f64::total_cmp)?;
/// assert_eq!(prices.to_vec()?, [0.5, 1.5, 2.5, 9.0]);
/// assert_eq!(prices.remove(0)?, Some(0.5));
/// assert_eq!(prices.pop()?, Some(9.0));
///
/// let names = List::<str>::new()?;
/// names.extend(["Ada", "Grace"])?;
/// names.push(String::from("Edsger"))?;
/// assert_eq!(names.get(2)?.as_deref(), Some("Edsger"));
/// # Ok(())
/// # }
/// ```
pub struct List<T: Item + ?Sized> {
    object: ObjectRef,
    heap: Heap,
    patience: Option<Duration>,
    _element: PhantomData<fn(&T)>,
}

impl<T: Item + ?Sized> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List {
            object: self.object.clone(),
            heap: self.heap.clone(),
            patience: self.patience,
            _element: PhantomData,
        }
    }
}

#[cold]
fn no_element(index: u64, len: Result<u64>) -> Error {
    let there = len.map_or("fewer".to_string(), |len| len.to_string());
    Error::new(ErrorKind::InvalidInput, format!("there is no element {index} in the list: it has {there}"))
}

impl<T: Item + ?Sized> List<T> {
    fn shape() -> Shape {
        Shape { kind: Kind::List, schema: T::layout(), len: size_of::<Head>() }
    }

    /// An empty list that only handles lead to.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<List<T>> {
        List::from_object(Place::anonymous_growing(&List::<T>::shape(), |_| {})?)
    }

    /// Creates an empty list. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<List<T>> {
        List::from_object(place.into().growing().create(&List::<T>::shape(), |_| {})?)
    }

    /// Opens an existing list.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or its elements are), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<List<T>> {
        List::from_object(place.into().open(Kind::List, &T::layout())?)
    }

    /// Opens the list or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](List::open) and [`create`](List::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(List<T>, Origin)> {
        let (object, origin) = place.into().growing().open_or_create(&List::<T>::shape(), |_| {})?;
        Ok((List::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<List<T>> {
        if object.len() < size_of::<Head>() {
            return Err(Error::new(ErrorKind::Corrupted, "the list's record is too short"));
        }
        let heap = Heap::of(object.attachment());
        Ok(List { object, heap, patience: None, _element: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and as long as a Head (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a Head, which is atomics.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    fn change(&self) -> Result<Change<'_>> {
        Change::begin(&self.object, &self.heap, self.head(), self.patience)
    }

    /// The same list, whose changes give up with `TimedOut` when they have waited so long for another one who is changing it, and may be
    /// stopped in that. Zero: they do not wait at all. Without it they wait as long as it takes.
    pub fn write_timeout(&self, timeout: Duration) -> List<T> {
        List { patience: Some(timeout), ..self.clone() }
    }

    /// How many elements there are. May be more or fewer the moment after.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    #[inline]
    pub fn len(&self) -> Result<u64> {
        read::len(&self.heap, self.head())
    }

    /// Whether there is no element. May be otherwise the moment after.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// A copy of the element at `index`, as it was at some moment of the call; `None` if the list is shorter. Waits for nobody.
    ///
    /// # Errors
    ///
    /// `Corrupted`: also if the bytes are not a valid `T`.
    #[inline]
    pub fn get(&self, index: u64) -> Result<Option<T::Owned>> {
        read::get::<T>(&self.heap, self.head(), index)
    }

    /// Puts an element at the end.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` (the list is as it was), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn push(&self, value: impl Borrow<T>) -> Result<()> {
        self.change()?.append::<T>(&[value])
    }

    /// Puts all of these at the end: others see all of them or none, also if this process is killed.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` (the list is as it was), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn extend(&self, values: impl IntoIterator<Item = impl Borrow<T>>) -> Result<()> {
        let values: Vec<_> = values.into_iter().collect();
        self.change()?.append::<T>(&values)
    }

    /// Takes the last element away; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn pop(&self) -> Result<Option<T::Owned>> {
        self.change()?.pop::<T>()
    }

    /// Puts a value in the place of the element at `index`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (the list is shorter), `OutOfMemory` (the list is as it was), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn set(&self, index: u64, value: impl Borrow<T>) -> Result<()> {
        if self.change()?.set::<T>(index, value.borrow())? {
            Ok(())
        } else {
            Err(no_element(index, self.len()))
        }
    }

    /// Puts what `f` makes of the element at `index` in its place, and nobody changes the list in between; gives it back. `f` must not
    /// change this list itself, nor ask for a [`snapshot`](List::snapshot): it would wait for ever.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    pub fn update(&self, index: u64, f: impl FnOnce(T::Owned) -> T::Owned) -> Result<T::Owned> {
        let change = self.change()?;
        let value = f(change.get::<T>(index)?.ok_or_else(|| no_element(index, self.len()))?);
        change.check_here()?;
        change.set::<T>(index, value.borrow())?;
        Ok(value)
    }

    /// Puts an element before the one at `index`; at the end if it is the length. What is behind it moves.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    pub fn insert(&self, index: u64, value: impl Borrow<T>) -> Result<()> {
        if self.change()?.insert::<T>(index, value.borrow())? {
            Ok(())
        } else {
            Err(no_element(index, self.len()))
        }
    }

    /// Takes the element at `index` away, and what is behind it moves up; `None` if the list is shorter.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` (the list is as it was), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, index: u64) -> Result<Option<T::Owned>> {
        self.change()?.remove::<T>(index)
    }

    /// Takes all elements away, and frees their memory for what grows in the segment and has about their sizes.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn clear(&self) -> Result<()> {
        self.change()?.clear::<T>()
    }

    /// Sorts the elements; equal ones stay in their order. Others see the list as before or sorted. `compare` must not change
    /// this list itself, nor ask for a [`snapshot`](List::snapshot): it would wait for ever.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` (the list is as it was), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn sort_by(&self, compare: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Result<()> {
        self.change()?.sort(compare)
    }

    /// Sorts the elements; see [`sort_by`](List::sort_by).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sort(&self) -> Result<()>
    where
        T: Ord,
    {
        self.sort_by(Ord::cmp)
    }

    /// Copies of all elements as they were at one moment: waits for who is changing the list, and who wants to change it waits.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let list = pagemate::List::<u64>::new()?;
    /// list.extend([1, 2, 3])?;
    /// assert_eq!(list.snapshot()?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`pop`](List::pop).
    pub fn snapshot(&self) -> Result<Vec<T::Owned>> {
        self.change()?.all::<T>()
    }

    /// Copies of all elements, one after the other: each is whole, but others may change the list meanwhile.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn to_vec(&self) -> Result<Vec<T::Owned>> {
        self.iter().collect()
    }

    /// Copies of the elements of this range that exist, as [`to_vec`](List::to_vec).
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn slice(&self, range: Range<u64>) -> Result<Vec<T::Owned>> {
        Iter { list: self, next: range.start, end: range.end }.collect()
    }

    /// The elements by their index, each looked up when it is asked for: it ends where the list ends then. If others insert or
    /// remove meanwhile, an element may come twice or not at all.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { list: self, next: 0, end: u64::MAX }
    }
}

impl<T: Item + ?Sized> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("len", &self.len().ok()).finish_non_exhaustive()
    }
}

impl<'a, T: Item + ?Sized> IntoIterator for &'a List<T> {
    type Item = Result<T::Owned>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The elements of a [`List`]; see [`List::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Item + ?Sized> {
    list: &'a List<T>,
    next: u64,
    end: u64,
}

impl<T: Item + ?Sized> Iterator for Iter<'_, T> {
    type Item = Result<T::Owned>;

    fn next(&mut self) -> Option<Result<T::Owned>> {
        if self.next >= self.end {
            return None;
        }
        let value = self.list.get(self.next).transpose();
        match value {
            Some(Ok(_)) => self.next += 1,
            // An error ends it, else it would never end.
            Some(Err(_)) | None => self.end = self.next,
        }
        value
    }
}
