//! The handle of an array: creating and opening it, and its elements one by one.

use crate::loom::atomic::Ordering::Relaxed;
use std::fmt;
use std::marker::PhantomData;

use super::state::{head_at, Head};
use crate::collections::reference::Referent;
use crate::message::private::name_of;
use crate::message::{self, Message};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::verbs::verbs;
use crate::sync::error::LockError;
use crate::sync::robust_lock::RobustGuard;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// An array of fixed length. Processes read and write its elements one by one, or all together
/// under a lock.
///
/// [`get`](Array::get) and [`set`](Array::set) take the lock to access one element.
/// [`lock`](Array::lock) returns a guard that is a slice, and [`with_lock`](Array::with_lock) runs
/// a closure on that slice. To all other participants, each of these is one atomic step.
///
/// As with a [`Mutex`](crate::Mutex), a process that dies while it holds the lock may leave
/// elements half-written. Later callers get `OwnerDied`, with the result inside the error, until
/// one of them has repaired the elements and
/// [marked them consistent](crate::collections::ArrayGuard::mark_consistent). A panic of the holder
/// poisons the array, with the same consequences.
///
/// Not reentrant: locking twice in one thread deadlocks. Unfair: a caller that arrives at the right
/// moment can overtake sleeping waiters. A minimal program: `examples/array.rs`.
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
    pub(super) object: ObjectRef,
    pub(super) len: usize,
    _elements: PhantomData<fn(T) -> T>,
}

impl<T: Message> Object for Array<T> {
    const KIND: Kind = Kind::Array;
    const LEN: usize = Self::OFFSET;
    type Initial = (usize, T);

    fn schema() -> String {
        T::schema().to_string()
    }

    fn len_for(&(len, _): &(usize, T)) -> Result<usize> {
        Self::bytes(len).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("an array of {len} elements does not fit into the address space"),
            )
        })
    }

    unsafe fn init(base: *mut u8, &(len, value): &(usize, T)) {
        // SAFETY: as the caller promises. Any bytes are a Head, and room for `len` elements follows
        // it.
        unsafe {
            (*base.cast::<Head>()).len.store(len as u64, Relaxed); // published with the object
            let first = base.add(Self::OFFSET);
            (0..Self::len_to_write(len))
                .for_each(|index| message::write(first.add(size_of::<T>() * index), value));
        }
    }

    fn attach(object: ObjectRef) -> Result<Array<T>> {
        let () = T::CHECKED;
        let head = head_at(object.base(), object.len());
        let len = head.and_then(|head| usize::try_from(head.len.load(Relaxed)).ok());
        let len = len.filter(|len| Self::bytes(*len).is_some_and(|bytes| bytes <= object.len()));
        match len {
            Some(len) => Ok(Array { object, len, _elements: PhantomData }),
            None => Err(Error::new(ErrorKind::Corrupted, "the array's length does not fit into its record")),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> Referent for Array<T> {
    fn type_name() -> String {
        format!("Array<{}>", name_of::<T>())
    }
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

    /// Returns the size in bytes of an object with `len` elements; `None` if it is too large.
    fn bytes(len: usize) -> Option<usize> {
        let bytes = size_of::<T>().checked_mul(len)?.checked_add(Self::OFFSET)?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// Returns how many of `len` elements have bytes to write: all or none. Elements of size 0 have
    /// none, and can be too many to loop over.
    pub(super) fn len_to_write(len: usize) -> usize {
        if size_of::<T>() == 0 {
            0
        } else {
            len
        }
    }

    verbs!(
        Array<T>: "an" "array" (len: usize, value: T),
        with "with `len` elements equal to `value`",
        refuses "too many elements",
        mismatch "elements of another type",
        keeps "its length"
    );

    #[inline]
    pub(super) fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and long enough for a Head (checked in from_object).
        // It stays mapped as long as `object` lives, and any bytes are a Head.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Returns a pointer to the elements. Each access states why it is allowed.
    #[inline]
    pub(super) fn elements(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Returns a pointer to the `len` elements from `start`; `None` if the array ends before. Each
    /// access states why it is allowed.
    pub(crate) fn part(&self, start: usize, len: usize) -> Option<*mut T> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| self.elements().wrapping_add(start))
    }

    /// Returns the number of elements, which never changes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the array has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the element at `index`; `None` if there is none. Blocks until the lock is free.
    ///
    /// # Errors
    ///
    /// With the result: `OwnerDied`, `Poisoned`. Without: `Corrupted`, `NotInThisProcess`.
    pub fn get(&self, index: usize) -> Result<Option<T>, LockError<Option<T>>> {
        if index >= self.len {
            return Ok(None);
        }
        self.element(index, |at| {
            // SAFETY: the lock is ours, and the element is one of the array's.
            unsafe { message::read(at.cast()) }
        })
    }

    /// Writes `value` to `index`. Returns the previous element. If the array is shorter, returns
    /// `None` and writes nothing. Blocks until the lock is free.
    ///
    /// # Errors
    ///
    /// With the previous element: `OwnerDied`, `Poisoned`; then the value has been written. Without
    /// it: `Corrupted`, `NotInThisProcess`; then nothing has changed.
    pub fn set(&self, index: usize, value: T) -> Result<Option<T>, LockError<Option<T>>> {
        if index >= self.len {
            return Ok(None);
        }
        self.element(index, |at| {
            // SAFETY: the lock is ours, and the element is one of the array's.
            let before = unsafe { message::read(at.cast()) }?;
            // SAFETY: as above.
            unsafe { message::write(at.cast(), value) };
            Some(before)
        })
    }

    /// Acquires the lock without checking the elements.
    pub(super) fn acquire<G>(&self, deadline: Deadline) -> Result<RobustGuard<'_>, LockError<G>> {
        self.head().lock.acquire(&self.object, deadline)
    }

    /// Returns the result of `f` for the element at `index`, which must exist. The lock is held
    /// while `f` runs.
    fn element(
        &self,
        index: usize,
        f: impl FnOnce(*mut T) -> Option<T>,
    ) -> Result<Option<T>, LockError<Option<T>>> {
        let inner = self.acquire(Deadline::Never)?;
        let element = f(self.elements().wrapping_add(index)).ok_or(LockError::Corrupted)?;
        inner.condition().of(Some(element))
    }

    /// Returns true if the lock is held. The answer may be out of date immediately, unless the
    /// caller holds the lock.
    pub fn is_locked(&self) -> bool {
        self.object.is_hindered(self.head().lock.is_held())
    }

    /// Returns true if a thread panicked while it held the lock, and nobody has
    /// [cleared the poison](Array::clear_poison) since.
    pub fn is_poisoned(&self) -> bool {
        self.head().lock.is_poisoned()
    }

    /// Poisons the array, because an element may be half written. Only for the holder.
    pub(crate) fn poison(&self) {
        self.head().lock.poison();
    }

    /// Clears the poison. Call it while you hold the lock, or if you are sure that the elements are
    /// consistent.
    pub fn clear_poison(&self) {
        self.head().lock.clear_poison();
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
