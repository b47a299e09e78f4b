//! The error of two programs that disagree about a message's layout: it shows both.

use super::Schema;
use crate::{Error, ErrorKind};

/// So many characters of a text that makes no sense are shown.
const MAX_RAW: usize = 200;

/// `what` ("queue `orders`") holds messages with the schema text `found`, and this program wants `expected`. Lines that
/// the other layout does not have are marked.
#[cold]
pub(crate) fn mismatch(what: &str, expected: &str, found: &str) -> Error {
    let (expected, found) = (lines(expected), lines(found));
    Error::new(
        ErrorKind::TypeMismatch,
        format!(
            "{what} holds messages of another layout\n  this program expects:\n{}\n  it was created with:\n{}",
            marked(&expected, &found),
            marked(&found, &expected)
        ),
    )
}

fn lines(text: &str) -> Vec<String> {
    match text.parse::<Schema>() {
        Ok(schema) => schema.pretty().lines().map(str::to_owned).collect(),
        Err(_) if text.is_empty() => vec!["(no messages)".to_owned()],
        Err(_) => vec![text.chars().take(MAX_RAW).flat_map(char::escape_debug).collect()],
    }
}

fn marked(lines: &[String], others: &[String]) -> String {
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { "\n" });
        text.push_str(if others.contains(line) { "      " } else { "    > " });
        text.push_str(line);
    }
    text
}
