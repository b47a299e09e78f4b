//! A namespace: named values of any types. It is a dict whose values store their own type.
//!
//! # State
//!
//! State, memory ordering and deaths are those of the [`Dict`] beneath. A value's bytes are the
//! length of its type's text (32 bits), the text, and the bytes of the value. This is one value of
//! the dict, so text and bytes change together.

use std::fmt;
use std::time::Duration;

use crate::collections::dict::Dict;
use crate::collections::reference::Referent;
use crate::message::item::Item;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::verbs::verbs;
use crate::{Error, ErrorKind, Result};

/// Named values of any types, shared by any number of processes. It is the counterpart of Python's
/// `Manager().Namespace()`.
///
/// Values are [messages](crate::Message), strings and bytes. Each is written and read atomically.
/// Reading a value as another type than it was written with is an error. Memory, waiting and deaths
/// are as in [`Dict`].
///
/// # Examples
///
/// ```
/// use pagemate::{ErrorKind, Namespace};
///
/// # fn main() -> pagemate::Result<()> {
/// let space = Namespace::new()?;
/// space.set("rate", &0.5)?;
/// space.set::<str>("title", "first run")?;
/// assert_eq!(space.get::<f64>("rate")?, Some(0.5));
/// assert_eq!(space.get::<str>("title")?.as_deref(), Some("first run"));
/// assert_eq!(space.get::<u64>("rate").unwrap_err().kind(), ErrorKind::TypeMismatch);
/// assert_eq!(space.get::<u64>("missing")?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Namespace {
    dict: Values,
}

/// Splits the bytes of a value into text and value, if they are valid.
pub(crate) fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (text, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((std::str::from_utf8(text).ok()?, value))
}

/// Returns the bytes that the dict stores for a value of this type: see [`parts`].
pub(crate) fn joined(text: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[cold]
fn damaged(name: &str) -> Error {
    Error::new(ErrorKind::Corrupted, format!("the value of {name:?} is damaged"))
}

/// The dict in a namespace.
type Values = Dict<str, [u8]>;

impl Object for Namespace {
    const KIND: Kind = Kind::Namespace;
    const LEN: usize = Values::LEN;
    const RESERVE: u64 = Values::RESERVE;
    type Initial = ();

    fn schema() -> String {
        Values::schema()
    }

    unsafe fn init(base: *mut u8, initial: &()) {
        // SAFETY: as the caller promises.
        unsafe { Values::init(base, initial) }
    }

    fn attach(object: ObjectRef) -> Result<Namespace> {
        Values::from_object(object).map(|dict| Namespace { dict })
    }

    fn object(&self) -> &ObjectRef {
        self.dict.object()
    }
}

impl Referent for Namespace {
    fn type_name() -> String {
        "Namespace".to_owned()
    }
}

impl Namespace {
    verbs!(Namespace: "an empty" "namespace" ());

    /// Sets the value of `name`, and replaces the previous one if there is one.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; then nothing has changed. `InvalidInput` (longer than 4 GiB), `TimedOut`,
    /// `NotInThisProcess`, `Corrupted`.
    pub fn set<T: Item + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        self.dict.insert(name, &joined(&T::layout(), value.bytes())).map(drop)
    }

    /// Returns a copy of the value of `name`; `None` if it has none.
    ///
    /// # Errors
    ///
    /// `TypeMismatch` if the value is of another type, which the error shows. `Corrupted`.
    pub fn get<T: Item + ?Sized>(&self, name: &str) -> Result<Option<T::Owned>> {
        let Some(bytes) = self.dict.get(name)? else { return Ok(None) };
        let (text, value) = parts(&bytes).ok_or_else(|| damaged(name))?;
        if text != T::layout() {
            return Err(crate::message::mismatch(&format!("the name {name:?}"), &T::layout(), text));
        }
        T::from_bytes(value).ok_or_else(|| damaged(name)).map(Some)
    }

    /// Returns the text of the type of `name`'s value; `None` if it has none.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn type_of(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.dict.get(name)? else { return Ok(None) };
        parts(&bytes).map(|(text, _)| Some(text.to_owned())).ok_or_else(|| damaged(name))
    }

    /// Removes `name`. Returns true if it had a value.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.dict.remove(name)?.is_some())
    }

    /// Removes all names, one after the other. Names that other participants set meanwhile may
    /// stay.
    ///
    /// Their memory is freed for other objects of the segment, and for values of any size.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn clear(&self) -> Result<()> {
        self.dict.clear()
    }

    /// Returns a handle to the same namespace whose writes can fail with `TimedOut`, like
    /// [`Dict::with_write_timeout`].
    pub fn with_write_timeout(&self, timeout: Duration) -> Namespace {
        Namespace { dict: self.dict.with_write_timeout(timeout) }
    }

    /// Returns all names that have a value, in no particular order. Weakly consistent, like
    /// [`Dict::iter`].
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn names(&self) -> Result<Vec<String>> {
        self.dict.keys().collect()
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("names", &self.names()).finish()
    }
}
