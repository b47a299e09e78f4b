//! The handle: `List`.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use crate::collections::list::read;
use crate::collections::list::state::Head;
use crate::collections::list::write::Change;
use crate::collections::reference::Referent;
use crate::heap::Heap;
use crate::message::item::Item;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::RESERVE;
use crate::segment::verbs::verbs;
use crate::sync::robust_word;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// A growable list of messages, strings or bytes, which any number of processes read and change.
///
/// It is like a `Vec` without an owner. A process that is killed in the middle of any method leaves
/// the list as it was before the call, or as it is after it. Readers take no lock and never block,
/// and never see a half-written element. Writers take turns. A writer that is stopped blocks other
/// writers (see [`with_write_timeout`](List::with_write_timeout)), but no reader. Unfair: a caller
/// that arrives at the right moment can overtake sleeping waiters.
///
/// Costs: [`get`](List::get) takes a few loads. [`push`](List::push), [`pop`](List::pop) and
/// [`set`](List::set) use one or two blocks of the heap. [`insert`](List::insert) and
/// [`remove`](List::remove) copy a word for each element.
///
/// Memory: an element takes 8 bytes if its type has at most 8. Otherwise it also has a block of its
/// own: 8 bytes more than its size (16 more for a string or bytes), rounded up to the next size of
/// blocks. Block sizes are multiples of 16 bytes up to 128. Up to 8 KiB each is at most a quarter
/// larger than the one before. Above that they are multiples of 16 KiB. Growing doubles the
/// capacity, which only [`clear`](List::clear) frees.
///
/// Elements are passed as `T` or `&T`, or as a type that borrows as one, and are returned
/// [owned](Item::Owned): a message as itself, `str` as `String`, `[u8]` as `Vec<u8>`.
///
/// A list with its own name reserves 16 GiB of address space and file size
/// ([`Place::reserve`](crate::Place::reserve)), but not of memory. Several lists in one segment
/// ([`Manager`](crate::Manager)) share a heap. A minimal program: `examples/list.rs`.
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
fn no_element(index: usize, len: Result<usize>) -> Error {
    let there = len.map_or("fewer".to_string(), |len| len.to_string());
    Error::new(ErrorKind::InvalidInput, format!("there is no element {index} in the list: it has {there}"))
}

impl<T: Item + ?Sized> Object for List<T> {
    const KIND: Kind = Kind::List;
    const LEN: usize = size_of::<Head>();
    const RESERVE: u64 = RESERVE;
    type Initial = ();

    fn schema() -> String {
        T::layout()
    }

    fn attach(object: ObjectRef) -> Result<List<T>> {
        let heap = Heap::of(object.attachment());
        Ok(List { object, heap, patience: None, _element: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Item + ?Sized> Referent for List<T> {
    fn type_name() -> String {
        format!("List<{}>", T::name())
    }
}

impl<T: Item + ?Sized> List<T> {
    verbs!(List<T>: "an empty" "list" (), mismatch "elements of another type");

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and as long as a Head (checked in from_object). It
        // stays mapped as long as `object` lives, and any bytes are a Head, which consists of
        // atomics.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Blocks until no other process changes the list.
    fn change(&self) -> Result<Change<'_, Heap>> {
        let (head, me) = (self.head(), self.object.owner()?);
        // Read before waiting, because in a child that is forked meanwhile the word is the
        // parent's.
        let epoch = fork::epoch();
        let deadline = self.patience.map_or(Deadline::Never, Deadline::after);
        let acquired = robust_word::acquire_from_all(&head.word, &self.object, me, deadline);
        let acquired = acquired.ok_or_else(|| robust_word::held(&head.word, "changing the list"))?;
        Ok(Change::begin(&self.heap, head, (me, epoch), acquired))
    }

    /// Returns a handle to the same list whose changes wait at most `timeout` for another writer,
    /// which may be stopped, and then fail with `TimedOut`. With a timeout of zero they do not wait
    /// at all. By default they wait without limit.
    pub fn with_write_timeout(&self, timeout: Duration) -> List<T> {
        List { patience: Some(timeout), ..self.clone() }
    }

    /// Returns the number of elements. The answer may be out of date immediately.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    #[inline]
    pub fn len(&self) -> Result<usize> {
        read::len(&self.heap, self.head()).map(|len| len as usize)
    }

    /// Returns true if there are no elements. The answer may be out of date immediately.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns a copy of the element at `index`, as it was at some moment of the call; `None` if
    /// the list is shorter. Never blocks.
    ///
    /// # Errors
    ///
    /// `Corrupted`, also if the bytes are not a valid `T`.
    #[inline]
    pub fn get(&self, index: usize) -> Result<Option<T::Owned>> {
        read::get::<T>(&self.heap, self.head(), index as u64)
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then the list is unchanged. `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn push(&self, value: impl Borrow<T>) -> Result<()> {
        self.change()?.append::<T>(&[value])
    }

    /// Appends all elements. Others see all of them or none, also if this process is killed.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then the list is unchanged. `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn extend(&self, values: impl IntoIterator<Item = impl Borrow<T>>) -> Result<()> {
        let values: Vec<_> = values.into_iter().collect();
        self.change()?.append::<T>(&values)
    }

    /// Removes the last element and returns it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn pop(&self) -> Result<Option<T::Owned>> {
        self.change()?.pop::<T>()
    }

    /// Replaces the element at `index`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (the list is shorter). `OutOfMemory`; then the list is unchanged. `TimedOut`,
    /// `NotInThisProcess`, `Corrupted`.
    pub fn set(&self, index: usize, value: impl Borrow<T>) -> Result<()> {
        if self.change()?.set::<T>(index as u64, value.borrow())? {
            Ok(())
        } else {
            Err(no_element(index, self.len()))
        }
    }

    /// Replaces the element at `index` with the result of `f`, and returns the new element. The
    /// list does not change in between.
    ///
    /// `f` must not change this list, nor call [`snapshot`](List::snapshot) on it, because that
    /// would deadlock.
    ///
    /// # Errors
    ///
    /// Those of [`set`](List::set).
    pub fn update(&self, index: usize, f: impl FnOnce(T::Owned) -> T::Owned) -> Result<T::Owned> {
        let change = self.change()?;
        let value = f(change.get::<T>(index as u64)?.ok_or_else(|| no_element(index, self.len()))?);
        change.check_here()?;
        change.set::<T>(index as u64, value.borrow())?;
        Ok(value)
    }

    /// Inserts an element before the one at `index`, or at the end if `index` is the length. The
    /// later elements move up by one.
    ///
    /// # Errors
    ///
    /// Those of [`set`](List::set).
    pub fn insert(&self, index: usize, value: impl Borrow<T>) -> Result<()> {
        if self.change()?.insert::<T>(index as u64, value.borrow())? {
            Ok(())
        } else {
            Err(no_element(index, self.len()))
        }
    }

    /// Removes the element at `index` and returns it; `None` if the list is shorter. The later
    /// elements move down by one.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then the list is unchanged. `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, index: usize) -> Result<Option<T::Owned>> {
        self.change()?.remove::<T>(index as u64)
    }

    /// Removes all elements. Frees their memory for other objects of the segment, and for values of
    /// any size.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn clear(&self) -> Result<()> {
        self.change()?.clear::<T>()
    }

    /// Sorts the elements. The sort is stable. Others see the list as before or sorted.
    ///
    /// `compare` must not change this list, nor call [`snapshot`](List::snapshot) on it, because
    /// that would deadlock.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then the list is unchanged. `TimedOut`, `NotInThisProcess`, `Corrupted`.
    ///
    /// # Panics
    ///
    /// If `compare` panics; and perhaps if it is no total order, as for slices. Then the list is
    /// unchanged.
    pub fn sort_by(&self, compare: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Result<()> {
        self.change()?.sort(compare)
    }

    /// Sorts the elements. See [`sort_by`](List::sort_by).
    ///
    /// # Errors
    ///
    /// Those of [`sort_by`](List::sort_by).
    ///
    /// # Panics
    ///
    /// As [`sort_by`](List::sort_by).
    pub fn sort(&self) -> Result<()>
    where
        T: Ord,
    {
        self.sort_by(Ord::cmp)
    }

    /// Returns copies of all elements, as they were at one moment. Blocks until other writers have
    /// finished, and blocks them meanwhile.
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
    /// Those of [`pop`](List::pop).
    pub fn snapshot(&self) -> Result<Vec<T::Owned>> {
        self.change()?.all::<T>()
    }

    /// Returns copies of all elements, read one after the other. Each is whole, but others may
    /// change the list meanwhile.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn to_vec(&self) -> Result<Vec<T::Owned>> {
        self.iter().collect()
    }

    /// Returns copies of those elements of the range that exist, like [`to_vec`](List::to_vec).
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn slice(&self, range: Range<usize>) -> Result<Vec<T::Owned>> {
        Iter { list: self, next: range.start, end: range.end }.collect()
    }

    /// Returns an iterator over the elements by index. Each is read when the iterator reaches it,
    /// and the iterator ends where the list ends at that moment. If others insert or remove
    /// meanwhile, an element may appear twice or not at all.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { list: self, next: 0, end: usize::MAX }
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

/// The iterator over the elements of a [`List`]. See [`List::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Item + ?Sized> {
    list: &'a List<T>,
    next: usize,
    end: usize,
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
            // An error ends the iterator, otherwise it could repeat for ever.
            Some(Err(_)) | None => self.end = self.next,
        }
        value
    }
}
