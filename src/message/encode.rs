//! Encodes a value from text by its schema alone: the inverse of `render`.

use super::schema::{Field, Layout, Primitive};
use super::Schema;
use crate::{Error, ErrorKind, Result};

/// The size limit. Larger messages are not written by hand, and a schema may come from anywhere, so
/// the memory must be bounded.
const MAX_SIZE: u64 = 1 << 20;
/// The limit for the elements of a slice. Fields may be left out of the text, so it does not bound
/// the memory.
const MAX_ELEMENTS: usize = 16 << 20;

impl Schema {
    /// Returns the bytes of the value that `text` describes, in the format that
    /// [`render_whole`](Schema::render_whole) prints.
    ///
    /// The name of a struct may be missing. Its fields may have any order. A field whose name
    /// begins with `_` is zero if it is missing.
    ///
    /// # Examples
    ///
    /// ```
    /// let schema: pagemate::Schema = "struct Order size 2 align 1 { 0 urgent: bool, 1 id: u8 }".parse()?;
    /// assert_eq!(schema.encode("Order { urgent: true, id: 9 }")?, [1, 9]);
    /// assert_eq!(schema.encode("{ id: 9, urgent: false }")?, [0, 9]);
    /// assert!(schema.encode("{ id: 300 }").unwrap_err().to_string().contains("a u8 from 0 to 255"));
    /// # Ok::<(), pagemate::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the text is not a value of this layout. The error says what was expected,
    /// and at which position.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bounded_size()?];
        let mut text = Text { all: text, at: 0 };
        let read = text.value(self.layout(), &mut bytes).and_then(|()| text.end());
        read.map(|()| bytes).map_err(|expected| text.refuse(&self.name(), &expected))
    }

    /// Returns the bytes of the values between brackets that `text` describes, in the format of an
    /// array.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: as [`encode`](Schema::encode), or a value has no bytes to tell its number.
    pub(super) fn encode_elements(&self, text: &str) -> Result<Vec<u8>> {
        let size = self.bounded_size()?;
        if size == 0 {
            let text = format!("the bytes of {} do not tell the number of elements", self.name());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let mut bytes = Vec::new();
        let mut text = Text { all: text, at: 0 };
        let read = text.elements(self.layout(), size, &mut bytes).and_then(|()| text.end());
        read.map(|()| bytes).map_err(|expected| text.refuse(&format!("[{}]", self.name()), &expected))
    }

    fn bounded_size(&self) -> Result<usize> {
        let size = self.size();
        if size > MAX_SIZE {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a message of {size} bytes is too large to be given as text"),
            ));
        }
        Ok(size as usize)
    }
}

/// A result whose error says what was expected.
type Read<T> = Result<T, String>;

struct Text<'a> {
    all: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    /// Returns the unread text from the next character that is not a space.
    fn rest(&mut self) -> &'a str {
        let rest = &self.all[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    /// Steps over `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        let is_here = self.rest().starts_with(token);
        self.at += if is_here { token.len() } else { 0 };
        is_here
    }

    fn want(&mut self, token: &str) -> Read<()> {
        self.eat(token).then_some(()).ok_or_else(|| format!("{token:?}"))
    }

    /// Returns the next characters up to a space or a separator of values.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let is_end = |c: char| c.is_whitespace() || ",:;[](){}".contains(c);
        &rest[..rest.find(is_end).unwrap_or(rest.len())]
    }

    fn end(&mut self) -> Read<()> {
        self.rest().is_empty().then_some(()).ok_or_else(|| "the end".to_owned())
    }

    #[cold]
    fn refuse(&self, name: &str, expected: &str) -> Error {
        let here: String = self.all[self.at..].chars().take(20).collect();
        let place = match (self.at, here.as_str()) {
            (0, _) => String::new(),
            (_, "") => " at its end".to_owned(),
            _ => format!(" at {here:?}"),
        };
        let shown: String = self.all.chars().take(60).collect();
        Error::new(ErrorKind::InvalidInput, format!("{shown:?} is no {name}: expected{place} {expected}"))
    }

    /// Reads one value into `to`, which has the size of the layout.
    fn value(&mut self, layout: &Layout, to: &mut [u8]) -> Read<()> {
        match layout {
            Layout::Primitive(kind) => self.primitive(*kind, to),
            Layout::Array(element, count) => self.array(element, *count, to),
            Layout::Struct { name, fields, .. } => self.structure(name, fields, to),
            Layout::Enum { repr, variants, .. } => {
                let word = self.word();
                let Some(variant) = variants.iter().find(|variant| variant.name == word) else {
                    let names: Vec<_> =
                        variants.iter().take(16).map(|variant| variant.name.as_str()).collect();
                    return Err(format!("one of {}", names.join(", ")));
                };
                self.at += word.len();
                put(to, &variant.value.to_le_bytes()[..repr.size() as usize]);
                Ok(())
            }
        }
    }

    fn array(&mut self, element: &Layout, count: u64, to: &mut [u8]) -> Read<()> {
        let elements = || format!("{count} elements between '[' and ']'");
        self.want("[").map_err(|_| elements())?;
        for index in 0..count {
            if index > 0 {
                self.want(",").map_err(|_| elements())?;
            }
            let size = element.size() as usize;
            self.value(element, part(to, index * element.size(), size)?)?;
        }
        self.want("]").map_err(|_| elements())
    }

    /// Reads any number of elements of `size` bytes each.
    fn elements(&mut self, element: &Layout, size: usize, to: &mut Vec<u8>) -> Read<()> {
        self.want("[").map_err(|_| "elements between '[' and ']'")?;
        while !self.eat("]") {
            let begin = to.len();
            if begin + size > MAX_ELEMENTS {
                return Err(format!("']', because elements given as text have at most {MAX_ELEMENTS} bytes"));
            }
            to.resize(begin + size, 0);
            self.value(element, &mut to[begin..])?;
            if !self.eat(",") {
                return self.want("]").map_err(|_| "',' or ']'".to_owned());
            }
        }
        Ok(())
    }

    fn structure(&mut self, name: &str, fields: &[Field], to: &mut [u8]) -> Read<()> {
        let had_name = self.eat(name);
        if fields.is_empty() {
            return had_name.then_some(()).ok_or_else(|| name.to_owned());
        }
        if fields.first().is_some_and(|field| field.name == "0") {
            self.want("(")?;
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    self.want(",")?;
                }
                self.field(field, to)?;
            }
            return self.want(")");
        }
        self.want("{")?;
        let mut missing: Vec<&Field> = fields.iter().collect();
        while !self.eat("}") {
            let word = self.word();
            let Some(at) = missing.iter().position(|field| field.name == word) else {
                let names: Vec<_> = missing.iter().take(16).map(|field| field.name.as_str()).collect();
                return Err(match names[..] {
                    [] => "'}'".to_owned(),
                    _ => format!("one of its fields {}", names.join(", ")),
                });
            };
            self.at += word.len();
            self.want(":")?;
            self.field(missing.remove(at), to)?;
            if !self.eat(",") {
                self.want("}")?;
                break;
            }
        }
        match missing.iter().find(|field| !field.name.starts_with('_')) {
            Some(field) => Err(format!("its field {} as well", field.name)),
            None => Ok(()),
        }
    }

    fn field(&mut self, field: &Field, to: &mut [u8]) -> Read<()> {
        let size = field.layout.size() as usize;
        self.value(&field.layout, part(to, field.offset, size)?)
    }

    fn primitive(&mut self, kind: Primitive, to: &mut [u8]) -> Read<()> {
        match kind {
            Primitive::Unit => return self.want("()"),
            Primitive::Char => return self.character(to),
            Primitive::F32 | Primitive::F64 => return self.float(kind, to),
            _ => {}
        }
        let word = self.word();
        let is_read = match kind {
            Primitive::Bool => word.parse::<bool>().map(|value| put(to, &[value.into()])).is_ok(),
            Primitive::U128 => word.parse::<u128>().map(|value| put(to, &value.to_le_bytes())).is_ok(),
            _ => {
                let (least, most) = kind.range().unwrap_or((i128::MIN, i128::MAX));
                let value = word.parse::<i128>().ok().filter(|value| (least..=most).contains(value));
                value.map(|value| put(to, &value.to_le_bytes()[..kind.size() as usize])).is_some()
            }
        };
        if !is_read {
            return Err(match kind.range() {
                Some((least, most)) => format!("a {} from {least} to {most}", kind.name()),
                None if kind == Primitive::Bool => "true or false".to_owned(),
                None => format!("a {}", kind.name()),
            });
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a number, which is rounded to the nearest one of its type, `inf`, `NaN`, or a NaN with
    /// all its bits: `NaN(0x7ff8000000000001)`.
    fn float(&mut self, kind: Primitive, to: &mut [u8]) -> Read<()> {
        let word = self.word();
        let expected = || format!("a {}", kind.name());
        let bits = self.all[self.at + word.len()..].strip_prefix("(0x").and_then(|rest| rest.split_once(')'));
        if let ("NaN", Some((digits, _))) = (word, bits) {
            let bits = u64::from_str_radix(digits, 16).map_err(|_| expected())?;
            let is_nan = match kind {
                Primitive::F32 => u32::try_from(bits).is_ok_and(|bits| f32::from_bits(bits).is_nan()),
                _ => f64::from_bits(bits).is_nan(),
            };
            if !is_nan {
                return Err(format!("the bits of a {} that is no number", kind.name()));
            }
            self.at += word.len() + "(0x".len() + digits.len() + ")".len();
            put(to, &bits.to_le_bytes()[..kind.size() as usize]);
            return Ok(());
        }
        let is_infinite = match kind {
            Primitive::F32 => {
                let value: f32 = word.parse().map_err(|_| expected())?;
                put(to, &value.to_le_bytes());
                value.is_infinite()
            }
            _ => {
                let value: f64 = word.parse().map_err(|_| expected())?;
                put(to, &value.to_le_bytes());
                value.is_infinite()
            }
        };
        // A finite number that is too large is an error, not infinity.
        if is_infinite && word.contains(|c: char| c.is_ascii_digit()) {
            let most = if kind == Primitive::F32 { f32::MAX.into() } else { f64::MAX };
            return Err(format!("a {} from {:e} to {most:e}, or inf or -inf", kind.name(), -most));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads `'a'` as in Rust, or the bare character if nothing else is left.
    fn character(&mut self, to: &mut [u8]) -> Read<()> {
        let rest = self.rest();
        let mut alone = rest.chars();
        let (value, len) = match (alone.next(), alone.next()) {
            (Some(c), None) => (c, c.len_utf8()),
            _ => quoted(rest).ok_or("a character between ' and '")?,
        };
        self.at += len;
        put(to, &u32::from(value).to_le_bytes());
        Ok(())
    }
}

/// Returns the character in quotes at the start of `text`, and its length in bytes with the quotes.
fn quoted(text: &str) -> Option<(char, usize)> {
    let inner = text.strip_prefix('\'')?;
    let (value, len) = match inner.strip_prefix('\\') {
        None => inner.chars().next().map(|c| (c, c.len_utf8()))?,
        Some(escape) => match escape.chars().next()? {
            'n' => ('\n', 2),
            'r' => ('\r', 2),
            't' => ('\t', 2),
            '0' => ('\0', 2),
            c @ ('\\' | '\'' | '"') => (c, 2),
            'u' => {
                let digits = escape.strip_prefix("u{")?.split('}').next()?;
                (char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, digits.len() + 4)
            }
            _ => return None,
        },
    };
    inner.get(len..)?.starts_with('\'').then_some((value, len + 2))
}

fn put(to: &mut [u8], bytes: &[u8]) {
    to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
}

fn part(of: &mut [u8], offset: u64, size: usize) -> Read<&mut [u8]> {
    let rest = usize::try_from(offset).ok().and_then(|offset| of.get_mut(offset..));
    rest.and_then(|rest| rest.get_mut(..size)).ok_or_else(|| "a layout that fits into itself".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(schema: &str, text: &str) -> Result<Vec<u8>, String> {
        schema.parse::<Schema>().unwrap().encode(text).map_err(|error| error.to_string())
    }

    #[test]
    fn primitives() {
        assert_eq!(encode("u8", "255"), Ok(vec![255]));
        assert_eq!(encode("u8", "256").unwrap_err(), "\"256\" is no u8: expected a u8 from 0 to 255");
        assert_eq!(encode("i16", "-2"), Ok(vec![254, 255]));
        assert_eq!(encode("u128", &u128::MAX.to_string()), Ok(vec![255; 16]));
        assert_eq!(encode("i128", &i128::MIN.to_string()).unwrap()[15], 128);
        assert_eq!(encode("f64", "1.5"), Ok(1.5f64.to_le_bytes().to_vec()));
        assert_eq!(encode("f32", "NaN").unwrap().len(), 4);
        assert_eq!(encode("bool", "true"), Ok(vec![1]));
        assert!(encode("bool", "yes").unwrap_err().ends_with("expected true or false"));
        assert_eq!(encode("()", "()"), Ok(vec![]));
        for (text, c) in
            [("x", 'x'), ("'x'", 'x'), ("'\\n'", '\n'), ("'\\u{1b}'", '\u{1b}'), ("'ü'", 'ü'), ("'", '\'')]
        {
            assert_eq!(encode("char", text), Ok(u32::from(c).to_le_bytes().to_vec()), "{text}");
        }
        assert!(
            encode("char", "xy").is_err()
                && encode("char", "'\\u{d800}'").is_err()
                && encode("char", "").is_err()
        );
        assert!(
            encode("u8", "").is_err()
                && encode("u8", "1 2").unwrap_err().contains("expected at \"2\" the end")
        );
    }

    #[test]
    fn floats_are_exact_or_refused() {
        let schema: Schema = "f64".parse().unwrap();
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let random = std::iter::repeat_with(|| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits
        });
        let special =
            [0, 1 << 63, 1, f64::MAX.to_bits(), 0x7ff << 52, 0xfff << 52, 0x7ff8 << 48, 0xfff8 << 48];
        for bits in special.into_iter().chain([(0x7ff << 52) | 1, u64::MAX]).chain(random.take(20_000)) {
            let text = schema.render_whole(&bits.to_le_bytes()).unwrap();
            assert_eq!(schema.encode(&text).unwrap(), bits.to_le_bytes(), "{text}");
        }
        assert_eq!(encode("f32", "NaN(0x7fc00001)").unwrap(), 0x7fc0_0001_u32.to_le_bytes());
        for wrong in ["NaN(0x1)", "NaN(0x)", "NaN(0x7fc00001", "NaN(0x7ff8000000000001)", "1e39", "-1e39"] {
            assert!(encode("f32", wrong).is_err(), "{wrong}");
        }
        assert!(encode("f64", "1e400").unwrap_err().contains("to 1.7976931348623157e308, or inf"));
        assert!(encode("f64", &"9".repeat(400)).is_err());
        assert_eq!(encode("f64", "-inf").unwrap(), f64::NEG_INFINITY.to_le_bytes());
    }

    #[test]
    fn whole_texts_leave_nothing_out() {
        let of = "struct A size 168 align 8 { 0 a: [u32; 40], 160 _seen: u32, 164 _pad: [u8; 4] }";
        let schema: Schema = of.parse().unwrap();
        let mut bytes: Vec<u8> = (1..=168).collect();
        for zero in [164, 160] {
            let text = schema.render_whole(&bytes).unwrap();
            assert_eq!(schema.encode(&text).unwrap(), bytes, "{text}");
            bytes[zero..].fill(0);
        }
        let text = schema.render_whole(&bytes).unwrap();
        assert!(!text.contains('_') && schema.encode(&text).unwrap() == bytes, "{text}");
        assert!(schema.render(&bytes).contains(".. 8 more"));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let schema: Schema = "struct A size 12 align 4 { 0 x: [i16; 2], \
                              4 s: enum S u8 { Up = 1, Down = 200 }, \
                              5 p: struct P size 2 align 1 { 0 0: bool, 1 1: u8 }, 7 _pad: u8, 8 c: char }"
            .parse()
            .unwrap();
        let bytes = [1, 0, 255, 255, 200, 1, 9, 0, 39, 0, 0, 0];
        let text = schema.render(&bytes);
        assert_eq!(text, "A { x: [1, -1], s: Down, p: P(true, 9), c: '\\'' }");
        assert_eq!(schema.encode(&text).unwrap(), bytes);
        let error = |text| schema.encode(text).unwrap_err().to_string();
        assert!(error("{ x: [1], s: Up }").contains("2 elements between"));
        assert!(error("{ s: Left }").contains("expected at \"Left }\" one of Up, Down"));
        assert!(error("{ s: Up }").contains("its field x as well"));
        assert!(error("{ s: Up, s: Up }").contains("one of its fields x, p, _pad, c"));
        assert!(error("B {}").contains("expected \"{\""));
        assert!(encode("[[u8; 1000000]; 1000000]", "[]").unwrap_err().contains("too large"));
    }

    #[test]
    fn any_number_of_elements() {
        let all = |schema: &str, text: &str| {
            let schema: Schema = schema.parse().unwrap();
            schema.encode_elements(text).map_err(|error| error.to_string())
        };
        assert_eq!(all("u16", " [1, 256,\n3] "), Ok(vec![1, 0, 0, 1, 3, 0]));
        assert_eq!(all("u16", "[]"), Ok(vec![]));
        assert_eq!(all("u16", "[7,]"), Ok(vec![7, 0]));
        assert_eq!(all("[bool; 2]", "[[true, false]]"), Ok(vec![1, 0]));
        let of = "struct P size 2 align 1 { 0 x: u8, 1 _y: u8 }";
        assert_eq!(all(of, "[P { x: 1 }, { _y: 2, x: 3 }]"), Ok(vec![1, 0, 3, 2]));
        let error = |schema: &str, text: &str| all(schema, text).unwrap_err();
        assert_eq!(error("u8", "1, 2"), "\"1, 2\" is no [u8]: expected elements between '[' and ']'");
        assert!(error("u8", "[1 2]").ends_with("expected at \"2]\" ',' or ']'"));
        assert!(error("u8", "[1, 256]").ends_with("expected at \"256]\" a u8 from 0 to 255"));
        assert!(error("u8", "[1").contains("',' or ']'") && error("u8", "[1] 2").contains("the end"));
        assert!(error("()", "[(), ()]").contains("do not tell the number"));
        let large = "struct L size 1048576 align 1 { 0 _pad: [u8; 1048576] }";
        assert!(
            error(large, &"[{}]".replace("{}", &["{}"; 17].join(", "))).contains("at most 16777216 bytes")
        );
    }
}
