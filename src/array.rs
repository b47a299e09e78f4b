//! An array: elements of one type behind one owner word.
//!
//! The lock is that of [`Mutex`](crate::Mutex), which says who may do what and what a death means; this file puts a number
//! of elements in the value's place, and takes the lock for a single element where that is all that is wanted. There is
//! no way round the lock: who has the guard has a plain slice, which nobody else may write to meanwhile.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word |
//! | 4..8 | poison: not 0 if a thread panicked while it held the lock |
//! | 8..16 | how many elements; written once |
//! | 16, or the elements' alignment | the elements |
//!
//! # Memory ordering
//!
//! The elements and the poison belong to the holder, so the word's order is theirs.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder of a guard dies | see the word | whoever comes next is told `OwnerDied`, and may repair | what it had half written may be there |
//! | dies in `get` | the same | the next one is told, and finds nothing changed | nothing |
//! | dies in `set` | the same | the next one is told | the element may be half written |
//! | next one dies or gives up without `mark_consistent` | the one after it is told too | the same | nothing |

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kind::Kind;
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::LockError;
use crate::sync::owned::{self, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

pub(crate) mod look;

/// What stands before the elements. Any bytes are a Head.
#[repr(C)]
struct Head {
    word: OwnerWord,
    poison: AtomicU32,
    len: AtomicU64,
}

const _: () = assert!(size_of::<Head>() == 16);

/// A fixed number of elements that processes read and write one by one, or all together under a lock.
///
/// [`get`](Array::get) and [`set`](Array::set) take the lock for one element; [`lock`](Array::lock) gives a guard that
/// is a slice, [`with_lock`](Array::with_lock) runs a closure on it. So each of these is one step for everybody else.
///
/// As with a [`Mutex`](crate::Mutex), a process that dies while it holds the lock may leave elements half-written: who comes next
/// is told `OwnerDied`, with what it asked for inside of the error, until somebody has repaired the elements and
/// [said so](ArrayGuard::mark_consistent). The panic of a holder poisons likewise. Not recursive, not fair.
///
/// # Examples
///
/// ```
/// use pagemate::Array;
///
/// # fn main() -> pagemate::Result<()> {
/// let scores = Array::new(4, 0_u32)?;
/// scores.set(1, 7)?;
/// assert_eq!((scores.get(1)?, scores.get(4)?), (Some(7), None));
/// scores.lock()?.iter_mut().for_each(|score| *score += 1);
/// assert_eq!(scores.to_vec()?, [1, 8, 1, 1]);
/// assert_eq!(scores.with_lock(|scores| scores.iter().sum::<u32>())?, 11);
/// # Ok(())
/// # }
/// ```
pub struct Array<T: Message> {
    object: ObjectRef,
    len: usize,
    _elements: PhantomData<fn(T) -> T>,
}

impl<T: Message> Array<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > size_of::<Head>() {
            align_of::<T>()
        } else {
            size_of::<Head>()
        }
    };

    fn shape(len: usize) -> Result<Shape> {
        let bytes = Self::bytes(len).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("an array of {len} elements is larger than memory can be"),
            )
        })?;
        Ok(Shape { kind: Kind::Array, schema: T::schema().to_string(), len: bytes })
    }

    /// Bytes of an object with so many elements.
    fn bytes(len: usize) -> Option<usize> {
        let bytes = size_of::<T>().checked_mul(len)?.checked_add(Self::OFFSET)?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    fn init(len: usize, value: T) -> impl Fn(*mut u8) {
        move |base| {
            // SAFETY: an object of this shape, zeroed and aligned, that nobody else can see: any bytes are a Head, and `len`
            // elements have room behind it.
            unsafe {
                (*base.cast::<Head>()).len.store(len as u64, Relaxed); // published with the object
                let first = base.add(Self::OFFSET);
                (0..len).for_each(|index| message::write(first.add(size_of::<T>() * index), value));
            }
        }
    }

    /// An array of so many elements, all of them `value`, that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (too many elements), `OutOfMemory`, `System` (too many open files).
    pub fn new(len: usize, value: T) -> Result<Array<T>> {
        Array::from_object(Place::anonymous(&Self::shape(len)?, Self::init(len, value))?)
    }

    /// Creates the array with so many elements, all of them `value`. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name, too many elements), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, len: usize, value: T) -> Result<Array<T>> {
        Array::from_object(place.into().create(&Self::shape(len)?, Self::init(len, value))?)
    }

    /// Opens an existing array.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of another type), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Array<T>> {
        Array::from_object(place.into().open(Kind::Array, &T::schema().to_string())?)
    }

    /// Opens the array or, if there is none, creates it with so many elements, all of them `value`; says which. One that is
    /// there already keeps its own length.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Array::open) and [`create`](Array::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, len: usize, value: T) -> Result<(Array<T>, Origin)> {
        let (object, origin) = place.into().open_or_create(&Self::shape(len)?, Self::init(len, value))?;
        Ok((Array::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Array<T>> {
        let () = T::CHECKED;
        let head = head_at(object.base(), object.len());
        let len = head.and_then(|head| usize::try_from(head.len.load(Relaxed)).ok());
        let len = len.filter(|len| Self::bytes(*len).is_some_and(|bytes| bytes <= object.len()));
        match len {
            Some(len) => Ok(Array { object, len, _elements: PhantomData }),
            None => Err(Error::new(ErrorKind::Corrupted, "the array's length is not that of its record")),
        }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and longer than a Head (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a Head.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Where the elements are. A pointer only: who uses it says why it may.
    #[inline]
    fn elements(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Where `len` elements from `start` on are, if there are so many. A pointer only: who uses it says why it may.
    pub(crate) fn part(&self, start: usize, len: usize) -> Option<*mut T> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| self.elements().wrapping_add(start))
    }

    /// How many elements there are, for good.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index`; `None` if there is no such one. Waits for whoever holds the lock.
    ///
    /// # Errors
    ///
    /// With what was asked for: `OwnerDied`, `Poisoned`. Without: `Corrupted`, `NotInThisProcess`.
    pub fn get(&self, index: usize) -> Result<Option<T>, LockError<Option<T>>> {
        if index >= self.len {
            return Ok(None);
        }
        self.hold(Deadline::Never)?.element(index, |at| {
            // SAFETY: the lock is ours, and the element is one of the array's.
            unsafe { message::read(at.cast()) }
        })
    }

    /// Puts `value` at `index`; gives what was there, or `None` if there is no such element. Waits for whoever holds the lock.
    ///
    /// # Errors
    ///
    /// With what was there, and the value has been set: `OwnerDied`, `Poisoned`. Without, and nothing has changed:
    /// `Corrupted`, `NotInThisProcess`.
    pub fn set(&self, index: usize, value: T) -> Result<Option<T>, LockError<Option<T>>> {
        if index >= self.len {
            return Ok(None);
        }
        self.hold(Deadline::Never)?.element(index, |at| {
            // SAFETY: the lock is ours, and the element is one of the array's.
            let before = unsafe { message::read(at.cast()) }?;
            // SAFETY: as above.
            unsafe { message::write(at.cast(), value) };
            Some(before)
        })
    }

    /// A copy of all elements, of one moment.
    ///
    /// # Errors
    ///
    /// With the copy: `OwnerDied`, `Poisoned`. Without: `Corrupted`, `NotInThisProcess`.
    pub fn to_vec(&self) -> Result<Vec<T>, LockError<Vec<T>>> {
        self.lock().map(|guard| guard.to_vec()).map_err(|error| error.map(|guard| guard.to_vec()))
    }

    /// Runs `f` on all elements, with the lock held.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Array::lock); then `f` has not run.
    pub fn with_lock<R>(&self, f: impl FnOnce(&mut [T]) -> R) -> Result<R, LockError<ArrayGuard<'_, T>>> {
        self.lock().map(|mut guard| f(&mut guard))
    }

    /// Waits until nobody else holds the lock, and acquires it.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](Array::reset)), `NotInThisProcess`.
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](Array::lock).
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        let locked = self.lock_until(Deadline::At(0));
        if let Err(LockError::NotAcquired) = locked {
            self.object.miss();
        }
        locked
    }

    /// [`lock`](Array::lock), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Array::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// [`lock`](Array::lock), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Array::try_lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        let hold = self.hold(deadline)?;
        let at = |index| self.elements().wrapping_add(index).cast::<u8>().cast_const();
        // SAFETY: the lock is ours, so the elements can be read.
        if !T::ANY_BITS && !(0..self.len).all(|index| unsafe { message::is_valid::<T>(at(index)) }) {
            return Err(LockError::Corrupted);
        }
        let verdict = hold.verdict();
        verdict.of(ArrayGuard { hold })
    }

    /// The lock, without a look at the elements.
    fn hold<G>(&self, deadline: Deadline) -> Result<Hold<'_, T>, LockError<G>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let acquired =
            owned::acquire(&self.head().word, &self.object, me, deadline).ok_or(LockError::NotAcquired)?;
        Ok(Hold {
            array: self,
            me,
            epoch: fork::epoch(),
            after_death: acquired.after_death,
            was_panicking: std::thread::panicking(),
        })
    }

    /// Waits for the lock and makes all elements `value`, whatever is there, valid or not; forgets deaths and panics.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn reset(&self, value: T) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        let hold = self.hold(Deadline::Never)?;
        for index in 0..self.len {
            // SAFETY: the lock is ours, so the elements can be written.
            unsafe { message::write(self.elements().wrapping_add(index).cast(), value) };
        }
        self.head().word.mark_consistent();
        self.clear_poison();
        Ok(ArrayGuard { hold })
    }

    /// Whether somebody holds the lock. May change at any moment, but if the caller holds it.
    pub fn is_locked(&self) -> bool {
        self.head().word.holder().is_some()
    }

    /// Whether a thread panicked while it held the lock, and nobody has [cleared](Array::clear_poison) that.
    pub fn is_poisoned(&self) -> bool {
        self.head().poison.load(Relaxed) != 0
    }

    /// Says that the panic has left nothing behind that matters. Call it while you hold the lock, or are sure without.
    pub fn clear_poison(&self) {
        self.head().poison.store(0, Relaxed);
    }
}

/// What there is to know about a lock that was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    OwnerDied,
    Poisoned,
}

impl Verdict {
    fn of<G>(self, what: G) -> Result<G, LockError<G>> {
        match self {
            Verdict::Well => Ok(what),
            Verdict::OwnerDied => Err(LockError::OwnerDied(what)),
            Verdict::Poisoned => Err(LockError::Poisoned(what)),
        }
    }
}

/// The lock is held, until this is dropped.
struct Hold<'a, T: Message> {
    array: &'a Array<T>,
    me: OwnerId,
    epoch: u32,
    after_death: bool,
    /// A panic that was going on before does not poison.
    was_panicking: bool,
}

impl<T: Message> Hold<'_, T> {
    fn verdict(&self) -> Verdict {
        match (self.after_death, self.array.is_poisoned()) {
            (true, _) => Verdict::OwnerDied,
            (false, true) => Verdict::Poisoned,
            (false, false) => Verdict::Well,
        }
    }

    /// What `f` makes of the element at `index`, which there is.
    fn element(
        self,
        index: usize,
        f: impl FnOnce(*mut T) -> Option<T>,
    ) -> Result<Option<T>, LockError<Option<T>>> {
        let element = f(self.array.elements().wrapping_add(index)).ok_or(LockError::Corrupted)?;
        self.verdict().of(Some(element))
    }
}

impl<T: Message> Drop for Hold<'_, T> {
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let head = self.array.head();
        if !self.was_panicking && std::thread::panicking() {
            head.poison.store(1, Relaxed);
        }
        // False only if somebody writes into the memory.
        let _ = head.word.release(self.me);
    }
}

/// All elements of an [`Array`], for who holds the lock; released when this is dropped.
///
/// A forked child that has a copy of it holds nothing: there, dropping it does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T: Message> {
    hold: Hold<'a, T>,
}

impl<'a, T: Message> ArrayGuard<'a, T> {
    /// Says that the elements are consistent, whatever a holder before did when it died: from now on nobody gets `OwnerDied`
    /// for that any more.
    pub fn mark_consistent(guard: &mut ArrayGuard<'a, T>) {
        guard.hold.array.head().word.mark_consistent();
        guard.hold.after_death = false;
    }

    /// The array that it is of.
    pub fn array(guard: &ArrayGuard<'a, T>) -> &'a Array<T> {
        guard.hold.array
    }
}

impl<T: Message> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let array = self.hold.array;
        // SAFETY: the lock is ours until we release it, which needs `self`; it guards `len` valid elements (see lock_until
        // and reset), aligned, in less than isize::MAX bytes (checked in from_object).
        unsafe { std::slice::from_raw_parts(array.elements(), array.len) }
    }
}

impl<T: Message> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let array = self.hold.array;
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(array.elements(), array.len) }
    }
}

impl<T: Message> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { object: self.object.clone(), len: self.len, _elements: PhantomData }
    }
}

impl<T: Message> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Array");
        out.field("len", &self.len).field("is_locked", &self.is_locked());
        out.field("is_poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArrayGuard").field(&&**self).finish()
    }
}

/// The head of the array at `base`, if it is long enough for one.
fn head_at<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    (len >= size_of::<Head>()).then(|| unsafe { &*base.cast::<Head>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(head) = head_at(base, len) {
        head.word.recover(dead);
    }
}

/// What `pagemate show` says about an array.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(head) = head_at(base, len) else { return Vec::new() };
    let mut lines = vec![("elements", head.len.load(Relaxed).to_string())];
    lines.extend(owned::describe(&head.word));
    lines.push(("poisoned", (head.poison.load(Relaxed) != 0).to_string()));
    lines
}
