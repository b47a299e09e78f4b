//! Reads the text of a schema. The text comes from shared memory, so any bytes must result in a
//! schema or an error, quickly.
//!
//! Only the canonical text is accepted, so that a schema and its text determine each other.
//! A message can be printed safely by any accepted layout, because fields lie in order inside of
//! their struct, and no size overflows.

use std::str::FromStr;

use super::schema::{Field, Layout, Primitive, Variant};
use super::Schema;
use crate::{Error, ErrorKind};

/// The depth to which types may nest: bounds the stack.
const MAX_DEPTH: usize = 64;
/// The length of the longest text: bounds the memory.
const MAX_TEXT: usize = 1 << 20;
/// The size of the largest message: keeps all arithmetic far from overflow.
const MAX_SIZE: u64 = 1 << 48;

impl FromStr for Schema {
    type Err = Error;

    /// Reads the canonical text.
    ///
    /// # Errors
    ///
    /// `Corrupted`: the text is not canonical (as `Display` prints it), is longer than a megabyte,
    /// or nests deeper than 64.
    fn from_str(text: &str) -> Result<Schema, Error> {
        let mut parser = Parser { text, at: 0 };
        let layout = (text.len() <= MAX_TEXT).then(|| parser.layout(0)).flatten();
        match layout {
            Some(layout) if parser.at == text.len() => Ok(Schema::new(layout)),
            _ => Err(Error::new(
                ErrorKind::Corrupted,
                format!("not the text of a message layout: it makes no sense at byte {}", parser.at),
            )),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Steps over `token` if it comes next.
    fn eat(&mut self, token: &str) -> Option<()> {
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    /// Steps over the longest run of accepted characters, at least one, and returns it.
    fn run(&mut self, accepts: impl Fn(char) -> bool) -> Option<&'a str> {
        let rest = self.rest();
        let len = rest.find(|c| !accepts(c)).unwrap_or(rest.len());
        self.at += len;
        (len > 0).then(|| &rest[..len])
    }

    /// Reads the name of a field, of a variant, or of a type without arguments.
    fn word(&mut self) -> Option<&'a str> {
        self.run(is_part_of_a_word)
    }

    /// Reads a number in its only form, without leading zeros.
    fn number(&mut self) -> Option<u64> {
        let digits = self.run(|c| c.is_ascii_digit())?;
        (digits == "0" || !digits.starts_with('0')).then(|| digits.parse().ok()).flatten()
    }

    fn value(&mut self) -> Option<i128> {
        match self.eat("-") {
            Some(()) => self.number().filter(|number| *number != 0).map(|number| -i128::from(number)),
            None => self.number().map(i128::from),
        }
    }

    /// Steps over the name of a type, with arguments.
    fn type_name(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.eat("()").is_some() {
            return Some(());
        }
        if self.eat("[").is_some() {
            self.type_name(depth + 1)?;
            self.eat("; ")?;
            self.number()?;
            return self.eat("]");
        }
        let _ = self.eat("-"); // a constant may be negative
        self.word()?;
        if self.eat("<").is_some() {
            self.type_name(depth + 1)?;
            while self.eat(", ").is_some() {
                self.type_name(depth + 1)?;
            }
            self.eat(">")?;
        }
        Some(())
    }

    fn name(&mut self, depth: usize) -> Option<String> {
        let start = self.at;
        self.type_name(depth)?;
        Some(self.text[start..self.at].to_owned())
    }

    fn primitive(&mut self) -> Option<Primitive> {
        if self.eat("()").is_some() {
            return Some(Primitive::Unit);
        }
        let word = self.word()?;
        Primitive::ALL.into_iter().find(|primitive| primitive.name() == word)
    }

    fn layout(&mut self, depth: usize) -> Option<Layout> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.eat("[").is_some() {
            let element = self.layout(depth + 1)?;
            self.eat("; ")?;
            let count = self.number()?;
            self.eat("]")?;
            let size = element.size().checked_mul(count)?;
            (size <= MAX_SIZE).then(|| Layout::Array(Box::new(element), count))
        } else if self.eat("struct ").is_some() {
            self.structure(depth)
        } else if self.eat("enum ").is_some() {
            self.enumeration(depth)
        } else {
            self.primitive().map(Layout::Primitive)
        }
    }

    /// Reads the rest of a struct, after "struct ".
    fn structure(&mut self, depth: usize) -> Option<Layout> {
        let name = self.name(depth)?;
        self.eat(" size ")?;
        let size = self.number().filter(|size| *size <= MAX_SIZE)?;
        self.eat(" align ")?;
        let align = self.number().filter(|align| align.is_power_of_two() && *align <= 1 << 29)?;
        self.eat(" {")?;
        let (mut fields, mut end) = (Vec::new(), 0);
        while self.next(fields.is_empty())? {
            let offset = self.number().filter(|offset| (end..=size).contains(offset))?;
            self.eat(" ")?;
            let name = self.word()?.to_owned();
            self.eat(": ")?;
            let layout = self.layout(depth + 1)?;
            end = offset + layout.size(); // both are at most MAX_SIZE
            if end > size {
                return None;
            }
            fields.push(Field { name, offset, layout });
        }
        Some(Layout::Struct { name, size, align, fields })
    }

    /// Reads the rest of an enum, after "enum ".
    fn enumeration(&mut self, depth: usize) -> Option<Layout> {
        let name = self.name(depth)?;
        self.eat(" ")?;
        let repr = self.primitive()?;
        let (least, most) = repr.range()?;
        self.eat(" {")?;
        let mut variants = Vec::new();
        while self.next(variants.is_empty())? {
            let name = self.word()?.to_owned();
            self.eat(" = ")?;
            let value = self.value().filter(|value| (least..=most).contains(value))?;
            variants.push(Variant { name, value });
        }
        Some(Layout::Enum { name, repr, variants })
    }

    /// Returns whether another item of a braced list follows. Steps to it, or over the brace.
    fn next(&mut self, is_first: bool) -> Option<bool> {
        if is_first && self.eat("}").is_some() || !is_first && self.eat(" }").is_some() {
            return Some(false);
        }
        self.eat(if is_first { " " } else { ", " }).map(|()| true)
    }
}

/// Returns whether an identifier may contain `c`. Beyond ASCII it accepts more than Rust, but no
/// character that could confuse a terminal.
fn is_part_of_a_word(c: char) -> bool {
    match c {
        '_' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        '\u{2000}'..='\u{206f}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'.. => false,
        _ => !c.is_control() && !c.is_whitespace(),
    }
}
