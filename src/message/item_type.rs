//! A type by its text alone: what dicts, lists and namespaces say about their keys and values.

use std::fmt;

use super::Schema;
use crate::{Error, ErrorKind, Result};

/// The type of a key, a value or an element, as the text beside it says: for programs that do not have the type.
///
/// # Examples
///
/// ```
/// use pagemate::inspect::ItemType;
///
/// let of = ItemType::from_text("u16");
/// assert_eq!(of.encode("300")?, [44, 1]);
/// assert_eq!(of.render(&[44, 1]), "300");
/// assert_eq!(ItemType::from_text("str").render("Ada".as_bytes()), "Ada");
/// assert_eq!(ItemType::from_text("[u8]").encode("00ff")?, [0, 255]);
/// # Ok::<(), pagemate::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemType {
    /// Text of any length.
    Str,
    /// Bytes of any length.
    Bytes,
    /// A [`Message`](crate::Message).
    Message(Schema),
    /// Something that this version of pagemate does not know.
    Other(String),
}

impl ItemType {
    /// The type that this text is of. Every text is of one.
    pub fn from_text(text: &str) -> ItemType {
        match text {
            "str" => ItemType::Str,
            "[u8]" => ItemType::Bytes,
            _ => text.parse().map_or_else(|_| ItemType::Other(text.to_owned()), ItemType::Message),
        }
    }

    /// The types of a dict's keys and values.
    pub(crate) fn pair(schema: &str) -> (ItemType, ItemType) {
        let (key, value) = schema.split_once(" => ").unwrap_or((schema, ""));
        (ItemType::from_text(key), ItemType::from_text(value))
    }

    /// The item with these bytes: text as it is, messages as [`Schema::render`] prints them, all else in hexadecimal digits. Never
    /// fails, whatever the bytes.
    pub fn render(&self, bytes: &[u8]) -> String {
        match self {
            ItemType::Str => String::from_utf8_lossy(bytes).into_owned(),
            ItemType::Message(schema) => schema.render(bytes),
            ItemType::Bytes | ItemType::Other(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The bytes of the item that this text is: what [`render`](ItemType::render) prints, if that leaves nothing out.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the text is no such item, or nobody knows the type.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>> {
        match self {
            ItemType::Str => Ok(text.as_bytes().to_vec()),
            ItemType::Message(schema) => schema.encode(text),
            ItemType::Bytes => digits(text).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!("{text:?} is no bytes: they are written as two hexadecimal digits each, 00ff"),
                )
            }),
            ItemType::Other(of) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("no text is an item of the type {of:?}")))
            }
        }
    }
}

fn digits(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl fmt::Display for ItemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemType::Str => f.write_str("str"),
            ItemType::Bytes => f.write_str("[u8]"),
            ItemType::Message(schema) => schema.fmt(f),
            ItemType::Other(text) => f.write_str(text),
        }
    }
}
