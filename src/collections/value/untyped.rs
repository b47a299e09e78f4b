//! Values of a type that the program does not have: bytes, of the size that a schema says.
//!
//! Not for users: a program that has the type uses [`Value`](super::Value).

use std::fmt;
use std::time::Duration;

use super::error::ValueError;
use super::handle::Writing;
use super::inline::Small;
use super::seqlock::Copies;
use super::state::{self, Head, VALUE_AT};
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::message::item::{word_of, words_of};
use crate::message::Schema;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::Place;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A value of some bytes.
pub struct Untyped {
    object: ObjectRef,
    size: usize,
}

impl Object for Untyped {
    const KIND: Kind = Kind::Value;
    const LEN: usize = VALUE_AT;
    type Initial = Vec<u8>;

    fn len_for(value: &Vec<u8>) -> Result<usize> {
        match u32::try_from(value.len()) {
            Ok(_) => Ok(state::len_of(value.len())),
            Err(_) => Err(Error::new(ErrorKind::InvalidInput, "a value has at most 4 GiB")),
        }
    }

    unsafe fn init(base: *mut u8, value: &Vec<u8>) {
        // SAFETY: as the caller promises. Any bytes are a Head, and behind it there is room for the
        // value at sequence 0.
        unsafe {
            (*base.cast::<Head>()).size.store(value.len() as u32, Relaxed); // published with the object
            value.as_ptr().copy_to_nonoverlapping(base.add(VALUE_AT), value.len());
        }
    }

    fn attach(object: ObjectRef) -> Result<Untyped> {
        // SAFETY: the object is aligned to 128 and long enough for a Head (checked in from_object);
        // any bytes are one.
        let head = unsafe { &*object.base().cast::<Head>() };
        let size = head.size.load(Relaxed) as usize;
        if object.len() < state::len_of(size) {
            return Err(Error::new(ErrorKind::Corrupted, "the value does not fit into its record"));
        }
        Ok(Untyped { object, size })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Untyped {
    /// Creates a value of this layout, with these bytes.
    ///
    /// # Errors
    ///
    /// As `Value::create`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a value.
    pub fn create(place: impl Into<Place>, schema: &Schema, value: &[u8]) -> Result<Untyped> {
        assert_eq!(value.len() as u64, schema.size(), "the bytes of one value");
        Object::create_as(place, schema.to_string(), value.to_vec())
    }

    /// Opens a value of this layout.
    ///
    /// # Errors
    ///
    /// As `Value::open`.
    pub fn open(place: impl Into<Place>, schema: &Schema) -> Result<Untyped> {
        let value = <Untyped as Object>::open_as(place, &schema.to_string())?;
        if value.size as u64 != schema.size() {
            return Err(Error::new(ErrorKind::Corrupted, "the value has another size than its type"));
        }
        Ok(value)
    }

    fn head(&self) -> &Head {
        // SAFETY: as in attach(); mapped as long as `object` lives.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    fn small(&self) -> Option<Small<'_>> {
        // SAFETY: the value begins at a multiple of 16, is inside of the object (checked in attach),
        // and is mapped as long as `self` lives.
        unsafe { Small::new(self.object.base().add(VALUE_AT), self.size) }
    }

    fn copies(&self) -> Copies<'_> {
        // SAFETY: behind the head there are two copies (checked in attach), aligned to 8 and mapped
        // as long as `self` lives; any bytes are atomic words.
        let words = unsafe {
            let first = self.object.base().add(VALUE_AT).cast::<AtomicU64>();
            std::slice::from_raw_parts(first, 2 * state::words_of(self.size))
        };
        Copies { sequence: &self.head().sequence, words }
    }

    /// Returns the bytes of the value.
    pub fn get(&self) -> Vec<u8> {
        if let Some(small) = self.small() {
            return small.load().to_le_bytes()[..self.size].to_vec();
        }
        let mut copy = vec![0; self.size];
        // SAFETY: the copy has `size` bytes, and is ours.
        unsafe { self.copies().read_to(copy.as_mut_ptr(), self.size) };
        copy
    }

    /// Sets the value. Waits for other writers for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As `Value::set_timeout`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a value.
    pub fn set_timeout(&self, value: &[u8], timeout: Duration) -> std::result::Result<(), ValueError> {
        assert_eq!(value.len(), self.size, "the bytes of one value");
        if let Some(small) = self.small() {
            small.store(word_of(value));
            return Ok(());
        }
        let _writing = Writing::begin(&self.head().word, &self.object, Deadline::after(timeout))?;
        self.copies().write(words_of(value));
        Ok(())
    }
}

impl fmt::Debug for Untyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untyped").field("size", &self.size).finish_non_exhaustive()
    }
}
