//! The contents of containers, as an observer sees them: entries of dicts and namespaces, elements
//! of lists and arrays.

use super::heap::HeapView;
use super::{array, dict, list, Observer};
use crate::collections::namespace;
use crate::message::{ItemType, Schema};
use crate::registry::Kind;
use crate::segment::place::Place;
use crate::segment::view::{Entry, SCHEMA_MAX};
use crate::{Error, ErrorKind, Result};

/// The number of inspections that must find damage before it is reported.
const TRIES: usize = 3;

/// A part of the contents of an object.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Contents {
    /// The number of entries or elements in the object.
    pub total: u64,
    /// A part of them: values, with keys if the object has keys. In the order of their indices, or
    /// in no order.
    pub entries: Vec<(Option<ItemBytes>, ItemBytes)>,
}

/// A key, a value or an element.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ItemBytes {
    /// The type of the item.
    pub of: ItemType,
    /// The bytes of the item, or the first of them.
    pub bytes: Vec<u8>,
    /// The length of the item in bytes.
    pub len: usize,
}

impl ItemBytes {
    fn whole(of: ItemType, bytes: Vec<u8>) -> ItemBytes {
        ItemBytes { of, len: bytes.len(), bytes }
    }

    /// Returns the item as text, as [`ItemType::render`] prints it.
    pub fn render(&self) -> String {
        self.of.render(&self.bytes)
    }

    /// Returns the item as text, as [`ItemType::render_whole`] prints it.
    ///
    /// # Errors
    ///
    /// Those of [`ItemType::render_whole`].
    pub fn render_whole(&self) -> Result<String> {
        self.of.render_whole(&self.bytes)
    }
}

impl Observer {
    fn heap_view(&self) -> HeapView<'_> {
        let objects = self.view().entries().map_while(Result::ok);
        // SAFETY: the mapping is page-aligned and lives as long as `self`, and entries of its view
        // lie inside of it.
        unsafe { HeapView::new(self.map.as_mut_ptr().cast_const(), objects) }
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

/// Decodes a value of a namespace.
fn named(bytes: &[u8]) -> Result<(ItemType, Vec<u8>)> {
    let damaged = || Error::new(ErrorKind::Corrupted, "a value of the namespace does not say its type");
    let (text, value) = namespace::parts(bytes).ok_or_else(damaged)?;
    Ok((ItemType::from_text(text), value.to_vec()))
}

/// Repeats an inspection that saw damage, because it may have seen an arena of the heap that was
/// added after it began.
fn again<R>(mut read: impl FnMut() -> Result<R>) -> Result<R> {
    for _ in 1..TRIES {
        match read() {
            Err(error) if error.kind() == ErrorKind::Corrupted => {}
            seen => return seen,
        }
    }
    read()
}

/// Returns the contents of the object called `name` in the segment called `place` (`""`: the object
/// that has the segment's name): up to `entries` entries or elements, and up to `most_bytes` bytes
/// of each key and value of variable length. Returns `None` if the object is of a kind without
/// contents, or if the type of its elements is unknown.
///
/// Blocks nobody, and is invisible to other processes. Concurrent changes may or may not be
/// included. An element of an array may be half the old one and half the new, since its lock is not
/// taken.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied`, `VersionMismatch`, `Corrupted`; `InvalidInput` for a place
/// inside of a segment.
pub fn contents(
    place: impl Into<Place>,
    name: &str,
    entries: usize,
    most_bytes: usize,
) -> Result<Option<Contents>> {
    let place = place.into();
    again(|| look_into(&place, name, entries, most_bytes))
}

fn look_into(place: &Place, name: &str, entries: usize, most_bytes: usize) -> Result<Option<Contents>> {
    let observer = Observer::new(&place.file()?, place.trusted())?;
    let entry = observer.find(name)?;
    let kind = Kind::from_number(entry.kind);
    let object = (observer.base(&entry), entry.len);
    let is_namespace = kind == Some(Kind::Namespace);
    // The text of a value's type is stored before it.
    let most = (entries, most_bytes.saturating_add(if is_namespace { 4 + SCHEMA_MAX } else { 0 }));
    let found = contents_of(entry.kind, &entry.schema, object, &observer.heap_view(), most)?;
    let Some((total, found)) = found else { return Ok(None) };
    let (of_key, of_value) =
        types(kind, &entry.schema).map_or((None, None), |(key, value)| (Some(key), value));
    let alone = ItemType::from_text(&entry.schema);
    let item = |(key, (bytes, len)): (Option<Start>, Start)| {
        let key = key.zip(of_key.clone()).map(|((bytes, len), of)| ItemBytes { of, bytes, len });
        let value = match &of_value {
            Some(of) => ItemBytes { of: of.clone(), bytes, len },
            None if is_namespace => match named(&bytes) {
                Ok((of, mut value)) => {
                    let len = len - (bytes.len() - value.len());
                    value.truncate(most_bytes);
                    ItemBytes { of, len, bytes: value }
                }
                Err(_) => ItemBytes { of: ItemType::Other("damaged".to_string()), bytes, len },
            },
            None => ItemBytes { of: alone.clone(), bytes, len },
        };
        (key, value)
    };
    Ok(Some(Contents { total, entries: found.into_iter().map(item).collect() }))
}

/// Returns the value of a key in the dict or namespace called `name` in the segment called `place`,
/// where `key` is the key as text. Returns `None` if the key is missing.
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
/// `TypeMismatch`: the object is neither a dict nor a namespace. `InvalidInput`: the text is not a
/// key of its type, or the place is inside of a segment. Those of [`contents`].
pub fn item(place: impl Into<Place>, name: &str, key: &str) -> Result<Option<ItemBytes>> {
    let place = place.into();
    again(|| look_up(&place, name, key))
}

fn look_up(place: &Place, name: &str, key: &str) -> Result<Option<ItemBytes>> {
    let observer = Observer::new(&place.file()?, place.trusted())?;
    let entry = observer.find(name)?;
    let kind = Kind::from_number(entry.kind);
    let (of_key, of_value) = types(kind, &entry.schema).ok_or_else(|| no_keys(kind))?;
    let key = of_key.encode(key)?;
    let found = dict::find(observer.base(&entry), entry.len, &observer.heap_view(), &key)?;
    let Some(bytes) = found else { return Ok(None) };
    let (of, bytes) = match of_value {
        Some(of) => (of, bytes),
        None => named(&bytes)?,
    };
    Ok(Some(ItemBytes::whole(of, bytes)))
}

/// A key, a value or an element: its first bytes, and its length.
type Start = (Vec<u8>, usize);
/// Values, with keys if the object has keys.
type Entries = Vec<(Option<Start>, Start)>;

/// Returns the number of entries or elements in the object, and a part of them. `most` limits their
/// number, and the bytes of each. `None` if the object is of a kind without contents, or the size
/// of its elements is unknown.
fn contents_of(
    kind: u32,
    schema: &str,
    (base, len): (*const u8, usize),
    heap: &HeapView<'_>,
    most: (usize, usize),
) -> Result<Option<(u64, Entries)>> {
    let sized = || {
        let schema = schema.parse::<Schema>().ok()?;
        Some((usize::try_from(schema.size()).ok()?, usize::try_from(schema.align()).ok()?))
    };
    match Kind::from_number(kind) {
        Some(Kind::Dict | Kind::Namespace) => {
            let (total, pairs) = dict::entries(base, len, heap, most)?;
            Ok(Some((total, pairs.into_iter().map(|[key, value]| (Some(key), value)).collect())))
        }
        Some(Kind::List) => {
            let size = match ItemType::from_text(schema) {
                ItemType::Str | ItemType::Bytes => None,
                _ => match sized() {
                    Some((size, _)) => Some(size),
                    None => return Ok(None),
                },
            };
            let (total, elements) = list::elements(base, len, heap, size, most)?;
            Ok(Some((total, elements.into_iter().map(|element| (None, element)).collect())))
        }
        Some(Kind::Array) => {
            let Some(size) = sized() else { return Ok(None) };
            let found = array::elements(base, len, size, most);
            let entry = |bytes| (None, (bytes, size.0));
            Ok(found.map(|(total, elements)| (total, elements.into_iter().map(entry).collect())))
        }
        _ => Ok(None),
    }
}

/// Returns the types of keys and values of the dict with this schema. Those of a namespace's values
/// are `None`, because each value says its own.
pub(super) fn types(kind: Option<Kind>, schema: &str) -> Option<(ItemType, Option<ItemType>)> {
    let (key, value) = ItemType::pair(schema);
    match kind {
        Some(Kind::Dict) => Some((key, Some(value))),
        Some(Kind::Namespace) => Some((key, None)),
        _ => None,
    }
}
