//! The door for programs that have no types, only their texts: what `pagemate set` writes through.
//!
//! Not for users: who has the types has `Dict` and `Namespace`.

use std::time::Duration;

use crate::dict::Dict;
use crate::inspect::{contents, ItemType};
use crate::kind::Kind;
use crate::namespace;
use crate::object::ObjectRef;
use crate::place::Segment;
use crate::switchboard;
use crate::{Error, ErrorKind, Result};

/// Gives the key that is `key` as text the value that is `value` as text, in the dict or namespace called `name` (`""`: the object
/// that has the segment's name). True: it had none.
///
/// A namespace's value keeps its type, unless `of` says another; a new one needs it.
///
/// # Errors
///
/// `NotFound`: no such object. `TypeMismatch`: it is something else, or `of` is given and not the type of the dict's values.
/// `InvalidInput`: the texts are no such items. `TimedOut`: somebody is stopped while it writes. `OutOfMemory`, `Corrupted`.
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
    let (of_key, of_value) =
        switchboard::types(kind, &entry.schema).ok_or_else(|| contents::no_keys(kind))?;
    let key = of_key.encode(key)?;
    // Bytes of the right types go in: the texts were just read as such.
    let dict =
        Dict::<[u8], [u8]>::from_object(ObjectRef::new(attachment.clone(), &entry))?.write_timeout(patience);
    let Some(of_value) = of_value else { return set_named(&dict, &key, value, of) };
    if of.is_some_and(|of| of != of_value.to_string()) {
        return Err(Error::new(ErrorKind::TypeMismatch, format!("the dict's values are {of_value}")));
    }
    dict.insert(&key, &of_value.encode(value)?)
}

/// The same in a namespace, whose values say what they are.
fn set_named(dict: &Dict<[u8], [u8]>, key: &[u8], value: &str, of: Option<&str>) -> Result<bool> {
    if let Some(of) = of {
        let bytes = ItemType::from_text(of).encode(value)?;
        return dict.insert(key, &namespace::joined(of, &bytes));
    }
    let mut seen = dict.get(key)?;
    while let Some(there) = seen {
        let parts = namespace::parts(&there);
        let (of, _) = parts.ok_or_else(|| Error::new(ErrorKind::Corrupted, "the value is damaged"))?;
        let bytes = ItemType::from_text(of).encode(value)?;
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
