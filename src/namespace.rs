//! A namespace: named values of any types, a dict whose values say what they are.
//!
//! # State
//!
//! That of the [`Dict`] beneath, and so are memory ordering and deaths. A value's bytes are the length of the text of its type
//! (32 bits), the text, and the bytes of the value: one value of a dict, so text and bytes change at once.

use std::fmt;
use std::time::Duration;

use crate::dict::Dict;
use crate::item::Item;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::place::{Origin, Place};
use crate::{Error, ErrorKind, Result};

/// Named values of any types, for any number of processes: Python's `Manager().Namespace()`.
///
/// Values are [messages](crate::Message), strings and bytes. Each is set and got at once; who asks for another type than
/// was set is told. Memory, waiting and deaths are as in [`Dict`].
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
    dict: Dict<str, [u8]>,
}

/// Text and bytes of a value, if they can be told apart.
pub(crate) fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (text, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((std::str::from_utf8(text).ok()?, value))
}

/// What stands in the dict for a value of this type: see [`parts`].
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

impl Namespace {
    /// A namespace that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Namespace> {
        Dict::new_as(Kind::Namespace).map(|dict| Namespace { dict })
    }

    /// Creates the namespace. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Namespace> {
        Dict::create_as(Kind::Namespace, place.into()).map(|dict| Namespace { dict })
    }

    /// Opens an existing namespace.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Namespace> {
        Dict::open_as(Kind::Namespace, place.into()).map(|dict| Namespace { dict })
    }

    /// Opens the namespace or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Namespace::open) and [`create`](Namespace::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Namespace, Origin)> {
        let (dict, origin) = Dict::open_or_create_as(Kind::Namespace, place.into())?;
        Ok((Namespace { dict }, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Namespace> {
        Dict::from_object(object).map(|dict| Namespace { dict })
    }

    /// The text of the types in the dict.
    pub(crate) fn schema() -> String {
        Dict::<str, [u8]>::schema()
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        self.dict.object()
    }

    /// Gives `name` this value, whatever it had.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, and everything is as it was; `InvalidInput` (longer than 4 GiB), `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn set<T: Item + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        self.dict.insert(name, &joined(&T::layout(), value.bytes())).map(drop)
    }

    /// A copy of the value of `name`; `None`: it has none.
    ///
    /// # Errors
    ///
    /// `TypeMismatch`: it is a value of another type, which the error shows. `Corrupted`.
    pub fn get<T: Item + ?Sized>(&self, name: &str) -> Result<Option<T::Owned>> {
        let Some(bytes) = self.dict.get(name)? else { return Ok(None) };
        let (text, value) = parts(&bytes).ok_or_else(|| damaged(name))?;
        if text != T::layout() {
            return Err(crate::message::mismatch(&format!("the name {name:?}"), &T::layout(), text));
        }
        T::from_bytes(value).ok_or_else(|| damaged(name)).map(Some)
    }

    /// The text of the type of the value of `name`; `None`: it has none.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn type_of(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.dict.get(name)? else { return Ok(None) };
        parts(&bytes).map(|(text, _)| Some(text.to_owned())).ok_or_else(|| damaged(name))
    }

    /// Removes `name`. True: it had a value.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.dict.remove(name)?.is_some())
    }

    /// Removes all names, one after the other, and frees their memory for what grows in the segment and has about their sizes: what others
    /// set meanwhile may stay.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `NotInThisProcess`, `Corrupted`.
    pub fn clear(&self) -> Result<()> {
        self.dict.clear()
    }

    /// The same namespace, whose writes give up with `TimedOut`; as [`Dict::write_timeout`].
    pub fn write_timeout(&self, timeout: Duration) -> Namespace {
        Namespace { dict: self.dict.write_timeout(timeout) }
    }

    /// All names that have a value, in no order; weakly consistent as [`Dict::iter`].
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
