//! The functions that the code of `#[derive(Message)]` calls in other crates. Not part of the
//! public interface.

pub use super::primitive::ArrayBits;
pub use super::schema::{Field, Layout, Variant};
use super::{Message, Schema};
pub use crate::{__message_enum as message_enum, __message_struct as message_struct};
pub use bytemuck;
pub use std::clone::Clone;
pub use std::marker::Copy;
pub use std::mem::{offset_of, size_of, transmute_copy};
pub use std::primitive::{self, bool};
pub use std::ptr::from_ref;
pub use std::vec;

/// Stops the compilation if the type is not as it was described.
pub const fn confirm(is_as_described: bool) {
    assert!(
        is_as_described,
        "the type has padding, or is not what its `#[derive(Message)]` describes: \
         put the derive below attributes that change the type"
    );
}

/// Like [`confirm`], for the sizes and alignments of two types.
pub const fn confirm_layout<T, Bits>() {
    confirm(size_of::<T>() == size_of::<Bits>() && align_of::<T>() == align_of::<Bits>());
}

/// The properties of a field's type that the derived code needs. One function returns all of it, so
/// that the compiler repeats no error.
#[derive(Debug)]
pub struct Facts {
    /// The type's [`Message::ANY_BITS`].
    pub any_bits: bool,
    /// The type's [`Message::ZERO_VALID`].
    pub zero_valid: bool,
}

/// Returns the facts about `T`. Does not compile if the type has padding.
pub const fn facts<T: Message>() -> Facts {
    let () = T::CHECKED;
    Facts { any_bits: T::ANY_BITS, zero_valid: T::ZERO_VALID }
}

/// Compiles only if a field and its bits have these types.
pub const fn confirm_field<T: Message>(_field: *const T, _bits: *const T::Bits) {}

/// Returns whether these bits are a valid field.
#[inline]
pub fn is_valid<T: Message>(bits: &T::Bits) -> bool {
    T::is_valid_bits(bits)
}

/// Describes one field of a struct.
pub fn field<T: Message>(name: &str, offset: usize) -> Field {
    Field { name: name.to_owned(), offset: offset as u64, layout: T::schema().into_layout() }
}

/// The error text about a gap.
#[derive(Debug)]
pub struct Gap {
    text: [u8; 512],
    len: usize,
}

impl Gap {
    /// Returns the sentence.
    pub const fn text(&self) -> &str {
        match std::str::from_utf8(self.text.split_at(self.len).0) {
            Ok(text) => text,
            // A name was so long that it was cut inside of a character.
            Err(_) => "padding: pad explicitly, or order the fields from large to small",
        }
    }
}

/// Returns the error text, around the number of bytes, if one field ends at `end` and the next
/// starts elsewhere. The panic itself is in the derived code, so that the compiler shows the field
/// and not this file.
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

/// Returns the name of a generic type with its arguments.
pub fn generic_name(name: &str, arguments: &[String]) -> String {
    format!("{name}<{}>", arguments.join(", "))
}

/// Returns the name of a message type, as it appears among the arguments of a generic one.
pub fn name_of<T: Message>() -> String {
    T::schema().name()
}

/// Describes one variant of an enum.
pub fn variant(name: &str, value: i128) -> Variant {
    Variant { name: name.to_owned(), value }
}

/// Returns the schema of the struct `T`.
pub fn structure<T>(name: String, fields: Vec<Field>) -> Schema {
    Schema::new(Layout::Struct { name, size: size_of::<T>() as u64, align: align_of::<T>() as u64, fields })
}

/// Returns the schema of an enum that is stored as `R`.
pub fn enumeration<R: Message>(name: &str, variants: Vec<Variant>) -> Schema {
    match R::schema().into_layout() {
        Layout::Primitive(repr) => Schema::new(Layout::Enum { name: name.to_owned(), repr, variants }),
        other => Schema::new(other),
    }
}
