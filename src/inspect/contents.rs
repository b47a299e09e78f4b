//! What containers hold, as an observer sees it: entries of dicts and namespaces, elements of lists and arrays.

use std::path::Path;

use super::Observer;
use crate::heap::Look;
use crate::kind::Kind;
use crate::message::ItemType;
use crate::namespace;
use crate::place::Place;
use crate::segment::view::{Entry, SCHEMA_MAX};
use crate::switchboard::{self, Start};
use crate::{Error, ErrorKind, Result};

/// So often a look may see damage before it is believed.
const LOOKS: usize = 3;

/// Some of what an object holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Contents {
    /// How many entries or elements there are.
    pub total: u64,
    /// Some of them: keys, where there are such, and values. In order of their indices, or in no order.
    pub entries: Vec<(Option<Datum>, Datum)>,
}

/// A key, a value or an element.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Datum {
    /// What it is.
    pub of: ItemType,
    /// Its bytes, or the first of them.
    pub bytes: Vec<u8>,
    /// How many bytes it has.
    pub len: usize,
}

impl Datum {
    fn whole(of: ItemType, bytes: Vec<u8>) -> Datum {
        Datum { of, len: bytes.len(), bytes }
    }

    /// As [`ItemType::render`] prints it.
    pub fn render(&self) -> String {
        self.of.render(&self.bytes)
    }
}

impl Observer {
    fn look(&self) -> Look<'_> {
        let objects = self.view().entries().map_while(Result::ok);
        // SAFETY: the mapping is page-aligned and lives as long as `self`, and entries of its view lie inside of it.
        unsafe { Look::new(self.map.as_mut_ptr().cast_const(), objects) }
    }

    fn find(&self, name: &str) -> Result<Entry> {
        self.view().find(name)?.ok_or_else(|| no_object(name))
    }

    fn base(&self, entry: &Entry) -> *const u8 {
        self.map.as_mut_ptr().wrapping_add(entry.object as usize).cast_const()
    }
}

#[cold]
pub(crate) fn no_object(name: &str) -> Error {
    let text = match name {
        "" => "the segment has no object of its own: say which of those in it, as SEGMENT/OBJECT".to_string(),
        _ => format!("the segment has no object named {name:?}"),
    };
    Error::new(ErrorKind::NotFound, text)
}

#[cold]
pub(crate) fn no_keys(kind: Option<Kind>) -> Error {
    let kind = kind.map_or("object of an unknown kind", Kind::name);
    Error::new(ErrorKind::TypeMismatch, format!("it is a {kind}: only dicts and namespaces have keys"))
}

/// The value of a namespace with these bytes.
fn named(bytes: &[u8]) -> Result<(ItemType, Vec<u8>)> {
    let damaged = || Error::new(ErrorKind::Corrupted, "a value of the namespace does not say its type");
    let (text, value) = namespace::parts(bytes).ok_or_else(damaged)?;
    Ok((ItemType::from_text(text), value.to_vec()))
}

/// Looks again if it was damage that was seen: it may have been an arena of the heap that was added after the look began.
fn again<R>(mut look: impl FnMut() -> Result<R>) -> Result<R> {
    for _ in 1..LOOKS {
        match look() {
            Err(error) if error.kind() == ErrorKind::Corrupted => {}
            seen => return seen,
        }
    }
    look()
}

/// What the object called `name` in the segment called `place` holds (`""`: the object that has the segment's name): up to `entries`
/// entries or elements, and up to `most_bytes` bytes of each key and value of any length. `None`: it is not of a kind that holds
/// any, or nobody knows the type of its elements.
///
/// Waits for nobody and is seen by nobody. What others write meanwhile comes or not; an element of an array may be half the
/// old one and half the new, since its lock is not taken.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`; `InvalidInput` for a place inside of a segment.
pub fn contents(
    place: impl Into<Place>,
    name: &str,
    entries: usize,
    most_bytes: usize,
) -> Result<Option<Contents>> {
    let path = place.into().file()?;
    again(|| look_into(&path, name, entries, most_bytes))
}

fn look_into(path: &Path, name: &str, entries: usize, most_bytes: usize) -> Result<Option<Contents>> {
    let observer = Observer::new(path)?;
    let entry = observer.find(name)?;
    let kind = Kind::from_number(entry.kind);
    let object = (observer.base(&entry), entry.len);
    let is_namespace = kind == Some(Kind::Namespace);
    // The text of a value's type stands before it.
    let most = (entries, most_bytes.saturating_add(if is_namespace { 4 + SCHEMA_MAX } else { 0 }));
    let found = switchboard::contents(entry.kind, &entry.schema, object, &observer.look(), most)?;
    let Some((total, found)) = found else { return Ok(None) };
    let (of_key, of_value) =
        switchboard::types(kind, &entry.schema).map_or((None, None), |(key, value)| (Some(key), value));
    let alone = ItemType::from_text(&entry.schema);
    let item = |(key, (bytes, len)): (Option<Start>, Start)| {
        let key = key.zip(of_key.clone()).map(|((bytes, len), of)| Datum { of, bytes, len });
        let value = match &of_value {
            Some(of) => Datum { of: of.clone(), bytes, len },
            None if is_namespace => match named(&bytes) {
                Ok((of, mut value)) => {
                    let len = len - (bytes.len() - value.len());
                    value.truncate(most_bytes);
                    Datum { of, len, bytes: value }
                }
                Err(_) => Datum { of: ItemType::Other("damaged".to_string()), bytes, len },
            },
            None => Datum { of: alone.clone(), bytes, len },
        };
        (key, value)
    };
    Ok(Some(Contents { total, entries: found.into_iter().map(item).collect() }))
}

/// The value of the key that is `key` as text, in the dict or namespace called `name` in the segment called `place`; `None`: there
/// is none.
///
/// ```
/// use pagemate::{inspect, Manager};
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-item-{}", std::process::id());
/// # let name = name.as_str();
/// let manager = Manager::create(name)?;
/// manager.dict::<str, f64>("prices")?.insert("apple", &0.5)?;
/// let item = inspect::item(name, "prices", "apple")?.expect("it was just inserted");
/// assert_eq!(item.render(), "0.5");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `TypeMismatch`: it is neither of both. `InvalidInput`: the text is no such key, or the place is inside of a segment. Those of
/// [`contents`].
pub fn item(place: impl Into<Place>, name: &str, key: &str) -> Result<Option<Datum>> {
    let path = place.into().file()?;
    again(|| look_up(&path, name, key))
}

fn look_up(path: &Path, name: &str, key: &str) -> Result<Option<Datum>> {
    let observer = Observer::new(path)?;
    let entry = observer.find(name)?;
    let kind = Kind::from_number(entry.kind);
    let (of_key, of_value) = switchboard::types(kind, &entry.schema).ok_or_else(|| no_keys(kind))?;
    let key = of_key.encode(key)?;
    let found = crate::dict::look::find(observer.base(&entry), entry.len, &observer.look(), &key)?;
    let Some(bytes) = found else { return Ok(None) };
    let (of, bytes) = match of_value {
        Some(of) => (of, bytes),
        None => named(&bytes)?,
    };
    Ok(Some(Datum::whole(of, bytes)))
}
