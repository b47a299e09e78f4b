//! Reads a value from text by its schema alone: the way back from what `render` prints.

use super::schema::{Field, Layout, Primitive};
use super::Schema;
use crate::{Error, ErrorKind, Result};

/// Larger messages are not written by hand. Bounds the memory, since a schema may come from anywhere.
const MAX_SIZE: u64 = 1 << 20;

impl Schema {
    /// The bytes of the value that this text is: what [`render`](Schema::render) prints, if that leaves nothing out.
    ///
    /// A struct's name may be missing, its fields come in any order, and those whose names begin with `_` are zeros if they are
    /// left out.
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
    /// `InvalidInput`: the text is no such value; the error says what was expected where.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>> {
        let size = self.size();
        if size > MAX_SIZE {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a message of {size} bytes is too large to be given as text"),
            ));
        }
        let mut bytes = vec![0; size as usize];
        let mut text = Text { all: text, at: 0 };
        let read = text.value(self.layout(), &mut bytes).and_then(|()| match text.rest().is_empty() {
            true => Ok(()),
            false => Err("the end".to_owned()),
        });
        read.map(|()| bytes).map_err(|expected| text.refuse(&self.name(), &expected))
    }
}

/// What was expected instead.
type Read<T> = Result<T, String>;

struct Text<'a> {
    all: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    /// What has not been read, from the next character on that is no space.
    fn rest(&mut self) -> &'a str {
        let rest = &self.all[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    /// Steps over `token`, if it stands here.
    fn eat(&mut self, token: &str) -> bool {
        let is_here = self.rest().starts_with(token);
        self.at += if is_here { token.len() } else { 0 };
        is_here
    }

    fn want(&mut self, token: &str) -> Read<()> {
        self.eat(token).then_some(()).ok_or_else(|| format!("{token:?}"))
    }

    /// The next characters up to a space or one that separates values.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let is_end = |c: char| c.is_whitespace() || ",:;[](){}".contains(c);
        &rest[..rest.find(is_end).unwrap_or(rest.len())]
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

    /// One value, into bytes that are as many as it has.
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
            _ => {}
        }
        let word = self.word();
        let is_read = match kind {
            Primitive::Bool => word.parse::<bool>().map(|value| put(to, &[value.into()])).is_ok(),
            Primitive::F32 => word.parse::<f32>().map(|value| put(to, &value.to_le_bytes())).is_ok(),
            Primitive::F64 => word.parse::<f64>().map(|value| put(to, &value.to_le_bytes())).is_ok(),
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

    /// `'a'` as in Rust, or, if it is all there is, the character alone.
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

/// The character that stands at the start between quotes, and how many bytes it takes.
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
    fn what_is_printed_can_be_read() {
        let schema: Schema = "struct A size 12 align 4 { 0 x: [i16; 2], 4 s: enum S u8 { Up = 1, Down = 200 }, 5 p: struct P size 2 align 1 { 0 0: bool, 1 1: u8 }, 7 _pad: u8, 8 c: char }".parse().unwrap();
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
}
