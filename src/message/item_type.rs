//! The type of an item, known by its text alone: what dicts, lists and namespaces say about their
//! keys and values.

use std::fmt;

use super::Schema;
use crate::{Error, ErrorKind, Result};

/// The type of a key, a value or an element, read from its schema text: for programs that do not
/// have the Rust type.
///
/// # Examples
///
/// ```
/// use pagemate::inspect::ItemType;
///
/// let number = ItemType::from_text("u16");
/// assert_eq!(number.encode("300")?, [44, 1]);
/// assert_eq!(number.render(&[44, 1]), "300");
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
    /// Any number of messages: what a `Queue<[T]>` carries.
    Slice(Schema),
    /// A type that this version of pagemate does not know.
    Other(String),
}

impl ItemType {
    /// Reads the type from its text. Any text is accepted. An unknown type is
    /// [`Other`](ItemType::Other).
    pub fn from_text(text: &str) -> ItemType {
        match text {
            "str" => ItemType::Str,
            "[u8]" => ItemType::Bytes,
            _ => text
                .parse()
                .map(ItemType::Message)
                .or_else(|_| element(text).parse().map(ItemType::Slice))
                .unwrap_or_else(|_| ItemType::Other(text.to_owned())),
        }
    }

    /// Returns the types of a dict's keys and values.
    pub(crate) fn pair(schema: &str) -> (ItemType, ItemType) {
        let (key, value) = schema.split_once(" => ").unwrap_or((schema, ""));
        (ItemType::from_text(key), ItemType::from_text(value))
    }

    /// Prints the item with these bytes: text as it is, messages as [`Schema::render`] prints them,
    /// and anything else in hexadecimal digits. Never fails, whatever the bytes.
    pub fn render(&self, bytes: &[u8]) -> String {
        match self {
            ItemType::Str => String::from_utf8_lossy(bytes).into_owned(),
            ItemType::Message(schema) => schema.render(bytes),
            ItemType::Slice(element) => element.repeated(bytes.len()).render(bytes),
            ItemType::Bytes | ItemType::Other(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Prints the item in full, as [`Schema::render_whole`] prints messages: the format that
    /// [`encode`](ItemType::encode) reads.
    ///
    /// # Errors
    ///
    /// `Corrupted`: the bytes of a `str` are not valid text. `OutOfMemory`: the text would be
    /// longer than 256 MiB.
    pub fn render_whole(&self, bytes: &[u8]) -> Result<String> {
        match self {
            ItemType::Str => String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::new(ErrorKind::Corrupted, "the bytes are not UTF-8")),
            ItemType::Message(schema) => schema.render_whole(bytes),
            ItemType::Slice(element) => element.repeated(bytes.len()).render_whole(bytes),
            ItemType::Bytes | ItemType::Other(_) => Ok(self.render(bytes)),
        }
    }

    /// Returns the bytes of the item that `text` describes, in the format that
    /// [`render_whole`](ItemType::render_whole) prints.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the text is not an item of this type, or the type is unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>> {
        match self {
            ItemType::Str => Ok(text.as_bytes().to_vec()),
            ItemType::Message(schema) => schema.encode(text),
            ItemType::Bytes => digits(text).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!("{text:?} is not bytes: they are written as two hexadecimal digits each, 00ff"),
                )
            }),
            ItemType::Slice(element) => element.encode_elements(text),
            ItemType::Other(of) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("no text is an item of the type {of:?}")))
            }
        }
    }
}

/// Returns what is between the brackets of a slice's text; empty if the text has none.
fn element(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or_default()
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
            ItemType::Slice(element) => write!(f, "[{element}]"),
            ItemType::Other(text) => f.write_str(text),
        }
    }
}
