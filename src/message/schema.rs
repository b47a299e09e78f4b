//! The layout of a message type, as a value and as text.
//!
//! The text is canonical: equal layouts have equal texts and the other way round. It is stored
//! beside each object in shared memory, so that programs can compare types, and so that a tool can
//! print a message whose type it does not have.
//!
//! ```text
//! layout    = primitive | "[" layout "; " count "]" | struct | enum
//! primitive = "()" | "u8" .. "u128" | "i8" .. "i128" | "f32" | "f64" | "bool" | "char"
//! struct    = "struct " name " size " n " align " n " {" [" " field {", " field} " "] "}"
//! field     = offset " " name ": " layout
//! enum      = "enum " name " " primitive " {" [" " variant {", " variant} " "] "}"
//! variant   = name " = " value
//! ```
//!
//! Names have no module path: the same struct declared in two programs is the same type.

use std::fmt::{self, Write as _};

/// The layout of a message type: names, offsets, types, values of enums, sizes.
///
/// `Display` prints the canonical text on one line, which `FromStr` reads;
/// [`pretty`](Schema::pretty) is for people. A schema says nothing about what the values mean.
///
/// # Examples
///
/// Print bytes whose type is known by its text only:
///
/// ```
/// let schema: pagemate::Schema = "struct Point size 8 align 4 { 0 x: i32, 4 y: i32 }".parse()?;
/// assert_eq!(schema.render(&[1, 0, 0, 0, 255, 255, 255, 255]), "Point { x: 1, y: -1 }");
/// # Ok::<(), pagemate::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema {
    layout: Layout,
}

/// One type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A type without parts.
    Primitive(Primitive),
    /// Elements in sequence: their layout and their number.
    Array(Box<Layout>, u64),
    /// Fields at their offsets.
    Struct {
        /// The name without module path, with the names of its arguments.
        name: String,
        /// The size in bytes.
        size: u64,
        /// The alignment in bytes.
        align: u64,
        /// The fields, ordered by offset.
        fields: Vec<Field>,
    },
    /// One of several integers.
    Enum {
        /// The name without module path.
        name: String,
        /// The integer type that stores it.
        repr: Primitive,
        /// The variants in the order of their declaration.
        variants: Vec<Variant>,
    },
}

/// One field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name as declared; the position in a tuple struct.
    pub name: String,
    /// The offset in bytes from the start of the struct.
    pub offset: u64,
    /// The layout of the field.
    pub layout: Layout,
}

/// One variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The name as declared.
    pub name: String,
    /// The integer that represents the variant.
    pub value: i128,
}

/// A type without parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // they are named as in Rust
pub enum Primitive {
    Unit,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    Bool,
    Char,
}

impl Primitive {
    pub(super) const ALL: [Primitive; 15] = {
        use Primitive::*;
        [Unit, U8, U16, U32, U64, U128, I8, I16, I32, I64, I128, F32, F64, Bool, Char]
    };

    pub(super) fn name(self) -> &'static str {
        match self {
            Primitive::Unit => "()",
            Primitive::U8 => "u8",
            Primitive::U16 => "u16",
            Primitive::U32 => "u32",
            Primitive::U64 => "u64",
            Primitive::U128 => "u128",
            Primitive::I8 => "i8",
            Primitive::I16 => "i16",
            Primitive::I32 => "i32",
            Primitive::I64 => "i64",
            Primitive::I128 => "i128",
            Primitive::F32 => "f32",
            Primitive::F64 => "f64",
            Primitive::Bool => "bool",
            Primitive::Char => "char",
        }
    }

    pub(super) fn size(self) -> u64 {
        match self {
            Primitive::Unit => 0,
            Primitive::U8 | Primitive::I8 | Primitive::Bool => 1,
            Primitive::U16 | Primitive::I16 => 2,
            Primitive::U32 | Primitive::I32 | Primitive::F32 | Primitive::Char => 4,
            Primitive::U64 | Primitive::I64 | Primitive::F64 => 8,
            Primitive::U128 | Primitive::I128 => 16,
        }
    }

    /// Returns the lowest and the highest value of an enum stored as this integer; `None` if an
    /// enum cannot be stored so.
    pub(super) fn range(self) -> Option<(i128, i128)> {
        match self {
            Primitive::U8 => Some((0, u8::MAX.into())),
            Primitive::U16 => Some((0, u16::MAX.into())),
            Primitive::U32 => Some((0, u32::MAX.into())),
            Primitive::U64 => Some((0, u64::MAX.into())),
            Primitive::I8 => Some((i8::MIN.into(), i8::MAX.into())),
            Primitive::I16 => Some((i16::MIN.into(), i16::MAX.into())),
            Primitive::I32 => Some((i32::MIN.into(), i32::MAX.into())),
            Primitive::I64 => Some((i64::MIN.into(), i64::MAX.into())),
            _ => None,
        }
    }
}

impl Layout {
    /// Returns the size in bytes. Saturates, which a parsed layout never does.
    pub(super) fn size(&self) -> u64 {
        match self {
            Layout::Primitive(primitive) => primitive.size(),
            Layout::Array(element, count) => element.size().saturating_mul(*count),
            Layout::Struct { size, .. } => *size,
            Layout::Enum { repr, .. } => repr.size(),
        }
    }

    /// Returns the alignment in bytes, which is the same on all platforms that pagemate supports.
    pub(super) fn align(&self) -> u64 {
        match self {
            Layout::Primitive(primitive) | Layout::Enum { repr: primitive, .. } => primitive.size().max(1),
            Layout::Array(element, _) => element.align(),
            Layout::Struct { align, .. } => *align,
        }
    }

    fn name(&self) -> String {
        match self {
            Layout::Primitive(primitive) => primitive.name().to_owned(),
            Layout::Array(element, count) => format!("[{}; {count}]", element.name()),
            Layout::Struct { name, .. } | Layout::Enum { name, .. } => name.clone(),
        }
    }

    fn pretty(&self, indent: usize, out: &mut String) {
        // Writing to a String does not fail.
        let _ = match self {
            Layout::Primitive(primitive) => write!(out, "{}", primitive.name()),
            Layout::Array(element, count) => {
                out.push('[');
                element.pretty(indent, out);
                write!(out, "; {count}]")
            }
            Layout::Struct { name, size, align, fields } => {
                let _ = writeln!(out, "struct {name} {{  // size {size}, align {align}");
                for Field { name, offset, layout } in fields {
                    let _ = write!(out, "{:1$}{name}: ", "", indent + 4);
                    layout.pretty(indent + 4, out);
                    let _ = writeln!(out, ",  // at {offset}");
                }
                write!(out, "{:indent$}}}", "")
            }
            Layout::Enum { name, repr, variants } => {
                let _ = write!(out, "enum {name}: {} {{ ", repr.name());
                for (i, Variant { name, value }) in variants.iter().enumerate() {
                    let _ = write!(out, "{}{name} = {value}", if i == 0 { "" } else { ", " });
                }
                write!(out, " }}")
            }
        };
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Primitive(primitive) => f.write_str(primitive.name()),
            Layout::Array(element, count) => write!(f, "[{element}; {count}]"),
            Layout::Struct { name, size, align, fields } => {
                write!(f, "struct {name} size {size} align {align} {{")?;
                for (i, Field { name, offset, layout }) in fields.iter().enumerate() {
                    write!(f, "{} {offset} {name}: {layout}", if i == 0 { "" } else { "," })?;
                }
                f.write_str(if fields.is_empty() { "}" } else { " }" })
            }
            Layout::Enum { name, repr, variants } => {
                write!(f, "enum {name} {} {{", repr.name())?;
                for (i, Variant { name, value }) in variants.iter().enumerate() {
                    write!(f, "{} {name} = {value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str(if variants.is_empty() { "}" } else { " }" })
            }
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.fmt(f)
    }
}

impl Schema {
    pub(super) fn new(layout: Layout) -> Schema {
        Schema { layout }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn into_layout(self) -> Layout {
        self.layout
    }

    /// Returns the name of the type, as one would write it: `Tick`, `[u8; 4]`, `Pair<u32>`.
    pub fn name(&self) -> String {
        self.layout.name()
    }

    /// Returns the layout of the messages of this type that `bytes` bytes consist of.
    pub(super) fn repeated(&self, bytes: usize) -> Schema {
        let count = (bytes as u64).checked_div(self.size()).unwrap_or(0);
        Schema::new(Layout::Array(Box::new(self.layout.clone()), count))
    }

    /// Returns the size of a message in bytes.
    pub fn size(&self) -> u64 {
        self.layout.size()
    }

    /// Returns the alignment of the bytes of a message.
    pub(crate) fn align(&self) -> u64 {
        self.layout.align()
    }

    /// Returns the FNV-1a hash of the text. Different texts have equal hashes with a chance of one
    /// in 2^64.
    ///
    /// For a quick comparison; programs that must be sure compare the texts.
    pub fn fingerprint(&self) -> u64 {
        struct Fnv(u64);
        impl fmt::Write for Fnv {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for byte in text.bytes() {
                    self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
                Ok(())
            }
        }
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        let _ = write!(hash, "{self}"); // this writer does not fail
        hash.0
    }

    /// Returns the layout on several lines, for people.
    ///
    /// # Examples
    ///
    /// ```
    /// let schema: pagemate::Schema = "struct Point size 8 align 4 { 0 x: i32, 4 y: i32 }".parse()?;
    /// assert_eq!(schema.pretty(), "\
    /// struct Point {  // size 8, align 4
    ///     x: i32,  // at 0
    ///     y: i32,  // at 4
    /// }");
    /// # Ok::<(), pagemate::Error>(())
    /// ```
    pub fn pretty(&self) -> String {
        let mut text = String::new();
        self.layout.pretty(0, &mut text);
        text
    }
}
