//! What `#[derive(Message)]` writes into other crates. No part of the interface.

pub use super::primitive::ArrayBits;
pub use super::schema::{Field, Layout, Variant};
use super::{Message, Schema};
pub use bytemuck;

/// The complaint about a gap.
#[derive(Debug)]
pub struct Gap {
    text: [u8; 512],
    len: usize,
}

impl Gap {
    /// The sentence.
    pub const fn text(&self) -> &str {
        match std::str::from_utf8(self.text.split_at(self.len).0) {
            Ok(text) => text,
            // A name so long that it was cut inside of a letter.
            Err(_) => "padding: pad explicitly, or order the fields from large to small",
        }
    }
}

/// What to say, around the number of bytes, if one field ends at `end` and the next starts elsewhere. The panic
/// itself is in the derived code, so that the compiler shows the field and not this file.
pub const fn gap(end: usize, start: usize, before: &str, after: &str) -> Option<Gap> {
    if start == end {
        return None;
    }
    let (mut text, mut len) = ([0; 512], 0);
    push(&mut text, &mut len, before.as_bytes());
    push(&mut text, &mut len, number(start.wrapping_sub(end), &mut [0; 20]));
    push(&mut text, &mut len, after.as_bytes());
    push(&mut text, &mut len, b"`_pad: [u8; ");
    push(&mut text, &mut len, number(start.wrapping_sub(end), &mut [0; 20]));
    push(&mut text, &mut len, b"]`, or order the fields from large to small");
    Some(Gap { text, len })
}

const fn push(text: &mut [u8; 512], len: &mut usize, part: &[u8]) {
    let mut i = 0;
    while i < part.len() && *len < text.len() {
        text[*len] = part[i];
        (i, *len) = (i + 1, *len + 1);
    }
}

const fn number(mut value: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return digits.split_at(at).1;
        }
    }
}

/// The name of a generic type with its arguments.
pub fn generic_name(name: &str, arguments: &[String]) -> String {
    format!("{name}<{}>", arguments.join(", "))
}

/// The name of a message type, as it stands among the arguments of a generic one.
pub fn name_of<T: Message>() -> String {
    T::schema().name()
}

/// One field of a struct.
pub fn field<T: Message>(name: &str, offset: usize) -> Field {
    Field { name: name.to_owned(), offset: offset as u64, layout: T::schema().into_layout() }
}

/// One variant of an enum.
pub fn variant(name: &str, value: i128) -> Variant {
    Variant { name: name.to_owned(), value }
}

/// The schema of the struct `T`.
pub fn structure<T>(name: String, fields: Vec<Field>) -> Schema {
    Schema::new(Layout::Struct { name, size: size_of::<T>() as u64, align: align_of::<T>() as u64, fields })
}

/// The schema of an enum that is stored as `R`.
pub fn enumeration<R: Message>(name: &str, variants: Vec<Variant>) -> Schema {
    match R::schema().into_layout() {
        Layout::Primitive(repr) => Schema::new(Layout::Enum { name: name.to_owned(), repr, variants }),
        other => Schema::new(other),
    }
}
