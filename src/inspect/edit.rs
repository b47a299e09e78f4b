//! Writing by text, and topics and services by their schema, for programs that do not have the
//! types: `pagemate set`, `send`, `pub`, `sub` and `call` use it.
//!
//! Not for users: a program that has the types uses `Dict`, `Namespace`, `Topic` and `Service`.

use std::time::Duration;

use crate::collections::dict::Dict;
use crate::collections::namespace;
use crate::inspect::{contents, ItemType};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::Segment;
use crate::{Error, ErrorKind, Result};

pub use super::service::Client;
pub use super::topic::{Publisher, Subscriber, Topic};

/// Sets the value of a key in the dict or namespace called `name` (`""`: the object that has the
/// segment's name), where `key` and `value` are texts. Returns true if the key had no value.
///
/// A namespace's value keeps its type, unless `of` names another; a new value needs `of`.
///
/// # Errors
///
/// `NotFound`: no such object. `TypeMismatch`: it is something else, or `of` is not the type of the
/// dict's values. `InvalidInput`: the texts are not items of these types. `TimedOut`: a process is
/// stopped while it writes. `OutOfMemory`, `Corrupted`.
pub fn set(
    segment: &Segment,
    name: &str,
    (key, value): (&str, &str),
    of: Option<&str>,
    patience: Duration,
) -> Result<bool> {
    let attachment = segment.attachment();
    let entry = attachment.view().find(name)?.ok_or_else(|| contents::no_object(name))?;
    let kind = Kind::from_number(entry.kind);
    let (of_key, of_value) = contents::types(kind, &entry.schema).ok_or_else(|| contents::no_keys(kind))?;
    let key = of_key.encode(key)?;
    // Inserts bytes of the right types, because the texts were just read as such.
    let dict = Dict::<[u8], [u8]>::from_object(ObjectRef::new(attachment.clone(), &entry))?
        .with_write_timeout(patience);
    let Some(of_value) = of_value else { return set_named(&dict, &key, value, of) };
    if of.is_some_and(|of| of != of_value.to_string()) {
        return Err(Error::new(ErrorKind::TypeMismatch, format!("the dict's values are {of_value}")));
    }
    dict.insert(&key, &of_value.encode(value)?)
}

/// Reaps all dead participants of the segment now. For programs that count participants and never
/// wait.
pub fn reap(segment: &Segment) {
    segment.attachment().reap_all();
}

/// Sets a value in a namespace, whose values say their types.
fn set_named(dict: &Dict<[u8], [u8]>, key: &[u8], value: &str, of: Option<&str>) -> Result<bool> {
    if let Some(of) = of {
        let bytes = encode_named(of, value)?;
        return dict.insert(key, &namespace::joined(of, &bytes));
    }
    let mut seen = dict.get(key)?;
    while let Some(there) = seen {
        let parts = namespace::parts(&there);
        let (of, _) = parts.ok_or_else(|| Error::new(ErrorKind::Corrupted, "the value is damaged"))?;
        let bytes = encode_named(of, value)?;
        match dict.compare_exchange(key, Some(&there), Some(&namespace::joined(of, &bytes)))? {
            Ok(()) => return Ok(false),
            Err(found) => seen = found,
        }
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "{:?} has no value yet, so it must be said of which type it is to be (--type of the program)",
            String::from_utf8_lossy(key)
        ),
    ))
}

/// Returns the bytes of a value of a namespace, which says that its type is `of`.
fn encode_named(of: &str, value: &str) -> Result<Vec<u8>> {
    match ItemType::from_text(of) {
        ItemType::Slice(_) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("no value of a namespace is of the type {of:?}")))
        }
        of => of.encode(value),
    }
}
