//! Prints the bytes of a message by its schema alone.

use std::fmt::Write as _;

use super::schema::{Field, Layout, Primitive};
use super::Schema;
use crate::{Error, ErrorKind, Result};

/// The number of array elements that a short text shows.
const MAX_ELEMENTS: u64 = 32;
/// The number of array elements without bytes that a whole text shows. It shows all elements that
/// have bytes.
const MAX_EMPTY: u64 = 1 << 10;
/// The length at which a short text ends with `..`, for example for deeply nested arrays.
const MAX_SHORT: usize = 16 << 10;
/// The length limit of a whole text. A schema may come from anywhere, and produce much text from
/// few bytes.
const MAX_WHOLE: usize = 256 << 20;

impl Schema {
    /// Returns the message with these bytes as text, as its `Debug` would print it.
    ///
    /// Invalid bytes are shown as `<invalid 7>`, missing ones as `<truncated>`. Long arrays are
    /// cut, which `..` marks, and fields whose names begin with `_` are left out;
    /// [`render_whole`](Schema::render_whole) does neither. Never fails, whatever the bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// let text = "struct Order size 2 align 1 { 0 urgent: bool, 1 id: u8 }";
    /// let schema: pagemate::Schema = text.parse()?;
    /// assert_eq!(schema.render(&[1, 9]), "Order { urgent: true, id: 9 }");
    /// assert_eq!(schema.render(&[7]), "Order { urgent: <invalid 7>, id: <truncated> }");
    /// # Ok::<(), pagemate::Error>(())
    /// ```
    pub fn render(&self, bytes: &[u8]) -> String {
        let mut text = Text { out: String::new(), most: MAX_SHORT, is_whole: false };
        text.layout(self.layout(), bytes);
        text.out
    }

    /// Returns the message with these bytes as text, in full: [`encode`](Schema::encode) turns it
    /// into the same bytes.
    ///
    /// Only fields whose names begin with `_` and whose bytes are all zero are left out; `encode`
    /// assumes zeros for them. Invalid bytes are shown as in [`render`](Schema::render); `encode`
    /// refuses them.
    ///
    /// # Examples
    ///
    /// ```
    /// let layout = "struct Cell size 2 align 1 { 0 value: u8, 1 _seen: u8 }";
    /// let schema: pagemate::Schema = layout.parse()?;
    /// assert_eq!(schema.render_whole(&[7, 0])?, "Cell { value: 7 }");
    /// let text = schema.render_whole(&[7, 1])?;
    /// assert_eq!(text, "Cell { value: 7, _seen: 1 }");
    /// assert_eq!(schema.encode(&text)?, [7, 1]);
    /// # Ok::<(), pagemate::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: the text would be longer than 256 MiB.
    pub fn render_whole(&self, bytes: &[u8]) -> Result<String> {
        let mut text = Text { out: String::new(), most: MAX_WHOLE, is_whole: true };
        text.layout(self.layout(), bytes);
        match text.is_full() {
            false => Ok(text.out),
            true => Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("a {} as text is longer than {MAX_WHOLE} bytes: use its bytes", self.name()),
            )),
        }
    }
}

/// The text while it is written.
struct Text {
    out: String,
    /// Rendering ends soon after the text is longer than this.
    most: usize,
    is_whole: bool,
}

impl Text {
    fn is_full(&self) -> bool {
        self.out.len() > self.most
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(text); // writing to a String does not fail
    }

    fn layout(&mut self, layout: &Layout, bytes: &[u8]) {
        match layout {
            _ if self.is_full() => self.out.push_str(".."),
            Layout::Primitive(kind) => primitive(*kind, bytes, self.is_whole, &mut self.out),
            Layout::Array(element, count) => self.array(element, *count, bytes),
            Layout::Struct { name, fields, .. } => self.structure(name, fields, bytes),
            Layout::Enum { repr, variants, .. } => match integer(*repr, bytes) {
                None => self.out.push_str("<truncated>"),
                Some(value) => match variants.iter().find(|variant| variant.value == value) {
                    Some(variant) => self.out.push_str(&variant.name),
                    None => self.put(format_args!("<invalid {value}>")),
                },
            },
        }
    }

    fn array(&mut self, element: &Layout, count: u64, bytes: &[u8]) {
        let most = match (self.is_whole, element.size()) {
            (false, _) => MAX_ELEMENTS,
            (true, 0) => MAX_EMPTY,
            // All elements that have bytes, and one that is truncated.
            (true, size) => (bytes.len() as u64 / size).saturating_add(1),
        };
        self.out.push('[');
        for i in 0..count {
            if i > 0 {
                self.out.push_str(", ");
            }
            if i == most || self.is_full() {
                self.put(format_args!(".. {} more", count - i));
                break;
            }
            self.layout(element, from(bytes, element.size().saturating_mul(i)));
        }
        self.out.push(']');
    }

    fn structure(&mut self, name: &str, fields: &[Field], bytes: &[u8]) {
        let is_tuple = fields.first().is_some_and(|field| field.name == "0");
        self.out.push_str(name);
        if fields.is_empty() {
            return;
        }
        self.out.push_str(if is_tuple { "(" } else { " { " });
        let is_whole = self.is_whole;
        let is_shown = |field: &&Field| !field.name.starts_with('_') || is_whole && !is_zero(field, bytes);
        for (i, field) in fields.iter().filter(is_shown).enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            if self.is_full() {
                self.out.push_str("..");
                break;
            }
            if !is_tuple {
                self.put(format_args!("{}: ", field.name));
            }
            self.layout(&field.layout, from(bytes, field.offset));
        }
        self.out.push_str(if is_tuple { ")" } else { " }" });
    }
}

/// Returns whether all bytes of the field are present and zero.
fn is_zero(field: &Field, bytes: &[u8]) -> bool {
    let size = usize::try_from(field.layout.size()).unwrap_or(usize::MAX);
    from(bytes, field.offset).get(..size).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // writing to a String does not fail
}

fn primitive(kind: Primitive, bytes: &[u8], is_whole: bool, out: &mut String) {
    match kind {
        Primitive::Unit => out.push_str("()"),
        Primitive::F32 => match first(bytes) {
            Some(bytes) => match f32::from_le_bytes(bytes) {
                value if is_whole && value.is_nan() => {
                    nan(value.to_bits().into(), 31, f32::NAN.to_bits().into(), out)
                }
                value => put(out, format_args!("{value:?}")),
            },
            None => out.push_str("<truncated>"),
        },
        Primitive::F64 => match first(bytes) {
            Some(bytes) => match f64::from_le_bytes(bytes) {
                value if is_whole && value.is_nan() => nan(value.to_bits(), 63, f64::NAN.to_bits(), out),
                value => put(out, format_args!("{value:?}")),
            },
            None => out.push_str("<truncated>"),
        },
        // The one integer that does not fit into `i128`.
        Primitive::U128 => match first(bytes) {
            Some(bytes) => put(out, format_args!("{}", u128::from_le_bytes(bytes))),
            None => out.push_str("<truncated>"),
        },
        Primitive::Bool => match first(bytes) {
            Some([0]) => out.push_str("false"),
            Some([1]) => out.push_str("true"),
            Some([byte]) => put(out, format_args!("<invalid {byte}>")),
            None => out.push_str("<truncated>"),
        },
        Primitive::Char => match first(bytes).map(u32::from_le_bytes) {
            Some(bits) => match char::from_u32(bits) {
                Some(c) => put(out, format_args!("{c:?}")),
                None => put(out, format_args!("<invalid {bits}>")),
            },
            None => out.push_str("<truncated>"),
        },
        _ => match integer(kind, bytes) {
            Some(value) => put(out, format_args!("{value}")),
            None => out.push_str("<truncated>"),
        },
    }
}

/// Prints a NaN: by its bits, unless they are those of `NaN` or `-NaN` in Rust.
fn nan(bits: u64, sign: u32, usual: u64, out: &mut String) {
    match bits ^ usual {
        0 => out.push_str("NaN"),
        difference if difference == 1 << sign => out.push_str("-NaN"),
        _ => put(out, format_args!("NaN({bits:#x})")),
    }
}

/// Returns an integer other than u128, little-endian as everywhere in pagemate; `None` if bytes are
/// missing.
fn integer(kind: Primitive, bytes: &[u8]) -> Option<i128> {
    match kind {
        Primitive::U8 => first(bytes).map(|bytes| u8::from_le_bytes(bytes).into()),
        Primitive::U16 => first(bytes).map(|bytes| u16::from_le_bytes(bytes).into()),
        Primitive::U32 => first(bytes).map(|bytes| u32::from_le_bytes(bytes).into()),
        Primitive::U64 => first(bytes).map(|bytes| u64::from_le_bytes(bytes).into()),
        Primitive::I8 => first(bytes).map(|bytes| i8::from_le_bytes(bytes).into()),
        Primitive::I16 => first(bytes).map(|bytes| i16::from_le_bytes(bytes).into()),
        Primitive::I32 => first(bytes).map(|bytes| i32::from_le_bytes(bytes).into()),
        Primitive::I64 => first(bytes).map(|bytes| i64::from_le_bytes(bytes).into()),
        Primitive::I128 => first(bytes).map(i128::from_le_bytes),
        _ => None,
    }
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

fn from(bytes: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_whatever_the_schema() {
        let text = |schema: &str, bytes: &[u8]| {
            let mut text = Text { out: String::new(), most: 10_000, is_whole: true };
            text.layout(schema.parse::<Schema>().unwrap().layout(), bytes);
            (text.is_full(), text.out)
        };
        let (is_full, few) = text("[u8; 281474976710656]", &[7]);
        assert_eq!((is_full, few.as_str()), (false, "[7, <truncated>, .. 281474976710654 more]"));
        let (is_full, empty) = text("[(); 18446744073709551615]", &[]);
        assert!(!is_full && empty.ends_with(" more]"));
        let (is_full, much) = text("[[[(); 18446744073709551615]; 18446744073709551615]; 9]", &[]);
        assert!(is_full && much.len() < 20_000);
        let (is_full, much) = text("[u8; 1000000]", &[0; 1_000_000]);
        assert!(is_full && much.len() < 20_000);
    }
}
