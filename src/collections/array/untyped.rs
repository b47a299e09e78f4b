//! Arrays of elements of a type that the program does not have: bytes, of the size that a schema
//! says.
//!
//! Not for users: a program that has the type uses [`Array`](super::Array).

use std::fmt;
use std::time::Duration;

use super::state::{head_at, Head};
use crate::loom::atomic::Ordering::Relaxed;
use crate::message::Schema;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::Place;
use crate::sync::error::LockError;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// An array of elements of one size.
pub struct Untyped {
    object: ObjectRef,
    /// The offset of the first element, the bytes of one, and the number of them.
    offset: usize,
    size: usize,
    len: usize,
}

/// The layout of a new array.
pub(crate) struct Initial {
    offset: usize,
    size: usize,
    len: usize,
}

fn offset_of(schema: &Schema) -> usize {
    size_of::<Head>().max(schema.align() as usize)
}

fn bytes(offset: usize, size: usize, len: usize) -> Option<usize> {
    size.checked_mul(len)?.checked_add(offset).filter(|bytes| *bytes <= isize::MAX as usize)
}

impl Object for Untyped {
    const KIND: Kind = Kind::Array;
    const LEN: usize = size_of::<Head>();
    type Initial = Initial;

    fn len_for(&Initial { offset, size, len }: &Initial) -> Result<usize> {
        bytes(offset, size, len).filter(|_| offset <= 128).ok_or_else(|| {
            let text = format!("an array of {len} elements of {size} bytes is not possible");
            Error::new(ErrorKind::InvalidInput, text)
        })
    }

    unsafe fn init(base: *mut u8, initial: &Initial) {
        // SAFETY: as the caller promises. Any bytes are a Head. The elements are zero.
        unsafe { (*base.cast::<Head>()).len.store(initial.len as u64, Relaxed) }; // published with the object
    }

    fn attach(object: ObjectRef) -> Result<Untyped> {
        Ok(Untyped { object, offset: 0, size: 0, len: 0 })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Untyped {
    /// Creates an array of `len` elements of this layout, all bytes of which are zero.
    ///
    /// # Errors
    ///
    /// As `Array::create`.
    pub fn create(place: impl Into<Place>, schema: &Schema, len: usize) -> Result<Untyped> {
        let (offset, size) = (offset_of(schema), schema.size() as usize);
        let array: Untyped = Object::create_as(place, schema.to_string(), Initial { offset, size, len })?;
        array.of(schema)
    }

    /// Opens an array of elements of this layout.
    ///
    /// # Errors
    ///
    /// As `Array::open`.
    pub fn open(place: impl Into<Place>, schema: &Schema) -> Result<Untyped> {
        <Untyped as Object>::open_as(place, &schema.to_string())?.of(schema)
    }

    fn of(self, schema: &Schema) -> Result<Untyped> {
        let (offset, size) = (offset_of(schema), schema.size() as usize);
        let object = self.object;
        let head = head_at(object.base(), object.len());
        let len = head.and_then(|head| usize::try_from(head.len.load(Relaxed)).ok());
        match len.filter(|len| bytes(offset, size, *len).is_some_and(|bytes| bytes <= object.len())) {
            Some(len) => Ok(Untyped { object, offset, size, len }),
            None => Err(Error::new(ErrorKind::Corrupted, "the array's length does not fit into its record")),
        }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the result of `body`, which gets the bytes of all elements, under the lock. Waits for
    /// it for at most `timeout`. A holder that died, or a poisoned array, is no error: the elements
    /// are as they were left.
    ///
    /// # Errors
    ///
    /// As `Array::lock_timeout`.
    pub fn with_lock_timeout<R>(
        &self,
        timeout: Duration,
        body: impl FnOnce(&mut [u8]) -> R,
    ) -> std::result::Result<R, LockError<()>> {
        // SAFETY: the object is aligned to 128 and long enough for a Head (checked in from_object),
        // and mapped as long as `object` lives; any bytes are one.
        let head = unsafe { &*self.object.base().cast::<Head>() };
        let mut guard = head.lock.acquire(&self.object, Deadline::after(timeout))?;
        guard.mark_consistent();
        // SAFETY: the elements are inside of the object (checked in `of`), and ours while the lock is.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(self.object.base().add(self.offset), self.size * self.len)
        };
        let result = body(bytes);
        drop(guard);
        Ok(result)
    }
}

impl fmt::Debug for Untyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untyped").field("size", &self.size).field("len", &self.len).finish_non_exhaustive()
    }
}
