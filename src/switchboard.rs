//! The one file that knows all kinds of objects: who recovers them from a death, and who describes them.
//!
//! It stands below everything, because it imports everything. The directory calls up into it, since a participant must be
//! reaped from objects that the reaper itself never uses.

use crate::heap::Look;
use crate::kind::Kind;
use crate::message::{ItemType, Schema};
use crate::owner::OwnerId;
use crate::Result;

/// Clears every word of the object that names `dead`. Idempotent; any number of processes may do it at once.
pub(crate) fn recover(kind: u32, base: *mut u8, len: usize, dead: OwnerId) {
    match Kind::from_number(kind) {
        // An event has no owners.
        Some(Kind::Event) => {}
        Some(Kind::Queue) => crate::queue::mpmc::recover(base, len, dead),
        Some(Kind::Spsc) => crate::queue::spsc::recover(base, len, dead),
        Some(Kind::Pipe) => crate::pipe::recover(base, len, dead),
        Some(Kind::Mutex) => crate::sync::mutex::recover(base, len, dead),
        Some(Kind::Lock) => crate::sync::lock::recover(base, len, dead),
        Some(Kind::RLock) => crate::sync::rlock::recover(base, len, dead),
        Some(Kind::RwLock) => crate::sync::rwlock::recover(base, len, dead),
        Some(Kind::Condvar) => crate::sync::condvar::recover(base, len, dead),
        // A counter has no owners.
        Some(Kind::Semaphore) => {}
        Some(Kind::BoundedSemaphore) => crate::sync::bounded::recover(base, len, dead),
        Some(Kind::Barrier) => crate::sync::barrier::recover(base, len, dead),
        Some(Kind::Once | Kind::OnceValue) => crate::sync::once::recover(base, len, dead),
        Some(Kind::Value) => crate::value::recover(base, len, dead),
        Some(Kind::List) => crate::list::recover(base, len, dead),
        Some(Kind::Heap) => crate::heap::recover(base, len, dead),
        Some(Kind::Array) => crate::array::recover(base, len, dead),
        Some(Kind::Dict | Kind::Namespace) => crate::dict::recover(base, len, dead),
        // Its parent, which alone is concerned, looks for dead workers by itself.
        Some(Kind::Pool) => {}
        // Of a later version, which its users have.
        None => {}
    }
}

/// The state of the object in words, for people.
pub(crate) fn describe(kind: u32, base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    match Kind::from_number(kind) {
        Some(Kind::Event) => crate::sync::event::describe(base, len),
        Some(Kind::Queue) => crate::queue::mpmc::describe(base, len),
        Some(Kind::Spsc) => crate::queue::spsc::describe(base, len),
        Some(Kind::Pipe) => crate::pipe::describe(base, len),
        Some(Kind::Mutex) => crate::sync::mutex::describe(base, len),
        Some(Kind::Lock) => crate::sync::lock::describe(base, len),
        Some(Kind::RLock) => crate::sync::rlock::describe(base, len),
        Some(Kind::RwLock) => crate::sync::rwlock::describe(base, len),
        Some(Kind::Condvar) => crate::sync::condvar::describe(base, len),
        Some(Kind::Semaphore) => crate::sync::semaphore::describe(base, len),
        Some(Kind::BoundedSemaphore) => crate::sync::bounded::describe(base, len),
        Some(Kind::Barrier) => crate::sync::barrier::describe(base, len),
        Some(Kind::Once | Kind::OnceValue) => crate::sync::once::describe(base, len),
        Some(Kind::Value) => crate::value::describe(base, len),
        Some(Kind::List) => crate::list::describe(base, len),
        Some(Kind::Heap) => crate::heap::describe(base, len),
        Some(Kind::Array) => crate::array::describe(base, len),
        Some(Kind::Dict | Kind::Namespace) => crate::dict::describe(base, len),
        Some(Kind::Pool) => crate::pool::describe(base, len),
        None => Vec::new(),
    }
}

/// The bytes of the message that would be received next, if the object holds messages and has one.
pub(crate) fn peek(kind: u32, base: *const u8, len: usize) -> Option<Vec<u8>> {
    match Kind::from_number(kind) {
        Some(Kind::Queue) => crate::queue::mpmc::peek(base, len),
        Some(Kind::Spsc) => crate::queue::spsc::peek(base, len),
        Some(Kind::Value) => crate::value::peek(base, len),
        _ => None,
    }
}

/// A key, a value or an element: its first bytes, and how many it has.
pub(crate) type Start = (Vec<u8>, usize);
/// Keys, if there are such, and values.
pub(crate) type Entries = Vec<(Option<Start>, Start)>;

/// How many entries or elements the object has, and some of them: at most so many, and so many bytes of each. `None`: it is not of
/// a kind that has any, or nobody knows how large they are.
pub(crate) fn contents(
    kind: u32,
    schema: &str,
    (base, len): (*const u8, usize),
    look: &Look<'_>,
    most: (usize, usize),
) -> Result<Option<(u64, Entries)>> {
    let sized = || {
        let schema = schema.parse::<Schema>().ok()?;
        Some((usize::try_from(schema.size()).ok()?, usize::try_from(schema.align()).ok()?))
    };
    match Kind::from_number(kind) {
        Some(Kind::Dict | Kind::Namespace) => {
            let (total, pairs) = crate::dict::look::entries(base, len, look, most)?;
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
            let (total, elements) = crate::list::look::elements(base, len, look, size, most)?;
            Ok(Some((total, elements.into_iter().map(|element| (None, element)).collect())))
        }
        Some(Kind::Array) => {
            let Some(size) = sized() else { return Ok(None) };
            let found = crate::array::look::elements(base, len, size, most);
            let entry = |bytes| (None, (bytes, size.0));
            Ok(found.map(|(total, elements)| (total, elements.into_iter().map(entry).collect())))
        }
        _ => Ok(None),
    }
}

/// The types of keys and values of the dict with this schema; those of a namespace, whose values are `None`: each says its own.
pub(crate) fn types(kind: Option<Kind>, schema: &str) -> Option<(ItemType, Option<ItemType>)> {
    let (key, value) = ItemType::pair(schema);
    match kind {
        Some(Kind::Dict) => Some((key, Some(value))),
        Some(Kind::Namespace) => Some((key, None)),
        _ => None,
    }
}
