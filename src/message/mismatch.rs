//! The error of two programs that disagree about a message's layout. It shows both layouts.

use super::Schema;
use crate::{Error, ErrorKind};

/// The number of characters that are shown of a text that is not a schema.
const MAX_RAW: usize = 200;

/// Returns the error for `what` (for example "queue `orders`"), which holds messages with the
/// schema text `found`, where this program expects `expected`. Lines that the other layout does not
/// have are marked.
#[cold]
pub(crate) fn mismatch(what: &str, expected: &str, found: &str) -> Error {
    let (expected, found) = (lines(expected), lines(found));
    Error::new(
        ErrorKind::TypeMismatch,
        format!(
            "{what} holds messages of another layout\n  this program \
             expects:\n{}\n  it was created with:\n{}",
            marked(&expected, &found),
            marked(&found, &expected)
        ),
    )
}

/// Returns the lines of a schema, or of both schemas of a dict or a service.
fn lines(text: &str) -> Vec<String> {
    match text.split_once(" => ") {
        Some((first, second)) => {
            let mut lines = pretty(first);
            let mut rest = pretty(second);
            rest[0].insert_str(0, "=> ");
            lines.append(&mut rest);
            lines
        }
        None => pretty(text),
    }
}

/// Returns at least one line.
fn pretty(text: &str) -> Vec<String> {
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
