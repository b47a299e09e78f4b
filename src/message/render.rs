//! Prints the bytes of a message by its schema alone.

use std::fmt::Write as _;

use super::schema::{Field, Layout, Primitive};
use super::Schema;

/// So many elements of an array are printed.
const MAX_ELEMENTS: u64 = 32;
/// At about this length a text ends with `..`: arrays of arrays of structs of arrays.
const MAX_TEXT: usize = 16 << 10;

impl Schema {
    /// The message with these bytes, as its `Debug` would print it.
    ///
    /// Bytes that are no value of their type are shown as `<invalid 7>`, missing ones as `<truncated>`. Long arrays
    /// are cut, and fields whose names begin with `_` are left out. Never fails, whatever the bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// let schema: pagemate::Schema = "struct Order size 2 align 1 { 0 urgent: bool, 1 id: u8 }".parse()?;
    /// assert_eq!(schema.render(&[1, 9]), "Order { urgent: true, id: 9 }");
    /// assert_eq!(schema.render(&[7]), "Order { urgent: <invalid 7>, id: <truncated> }");
    /// # Ok::<(), pagemate::Error>(())
    /// ```
    pub fn render(&self, bytes: &[u8]) -> String {
        let mut text = String::new();
        layout(self.layout(), bytes, &mut text);
        text
    }
}

fn layout(layout_: &Layout, bytes: &[u8], out: &mut String) {
    match layout_ {
        _ if out.len() > MAX_TEXT => out.push_str(".."),
        Layout::Primitive(kind) => primitive(*kind, bytes, out),
        Layout::Array(element, count) => array(element, *count, bytes, out),
        Layout::Struct { name, fields, .. } => structure(name, fields, bytes, out),
        Layout::Enum { repr, variants, .. } => match integer(*repr, bytes) {
            None => out.push_str("<truncated>"),
            Some(value) => match variants.iter().find(|variant| variant.value == value) {
                Some(variant) => out.push_str(&variant.name),
                None => put(out, format_args!("<invalid {value}>")),
            },
        },
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // writing to a String does not fail
}

fn array(element: &Layout, count: u64, bytes: &[u8], out: &mut String) {
    out.push('[');
    for i in 0..count {
        if i > 0 {
            out.push_str(", ");
        }
        if i == MAX_ELEMENTS || out.len() > MAX_TEXT {
            put(out, format_args!(".. {} more", count - i));
            break;
        }
        layout(element, from(bytes, element.size().saturating_mul(i)), out);
    }
    out.push(']');
}

fn structure(name: &str, fields: &[Field], bytes: &[u8], out: &mut String) {
    let is_tuple = fields.first().is_some_and(|field| field.name == "0");
    out.push_str(name);
    if fields.is_empty() {
        return;
    }
    out.push_str(if is_tuple { "(" } else { " { " });
    for (i, field) in fields.iter().filter(|field| !field.name.starts_with('_')).enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if out.len() > MAX_TEXT {
            out.push_str("..");
            break;
        }
        if !is_tuple {
            put(out, format_args!("{}: ", field.name));
        }
        layout(&field.layout, from(bytes, field.offset), out);
    }
    out.push_str(if is_tuple { ")" } else { " }" });
}

fn primitive(kind: Primitive, bytes: &[u8], out: &mut String) {
    match kind {
        Primitive::Unit => out.push_str("()"),
        Primitive::F32 => match first(bytes) {
            Some(bytes) => put(out, format_args!("{:?}", f32::from_le_bytes(bytes))),
            None => out.push_str("<truncated>"),
        },
        Primitive::F64 => match first(bytes) {
            Some(bytes) => put(out, format_args!("{:?}", f64::from_le_bytes(bytes))),
            None => out.push_str("<truncated>"),
        },
        // The one integer that does not fit below.
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

/// An integer other than u128, little-endian as everywhere in pagemate; `None` if bytes are missing.
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
