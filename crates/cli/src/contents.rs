//! What dicts, lists and arrays hold, for `pagemate show`.

use pagemate::inspect::{Contents, Datum, ItemType};
use serde_json::{json, Value};

use crate::output::typed;

/// A line for each entry, sorted by keys, with so many characters of a text or of bytes; what is left out is counted.
pub(crate) fn to_text(contents: &Contents, characters: usize) -> String {
    let is_all = contents.entries.len() as u64 >= contents.total;
    let text = |item: &Datum| text(item, characters);
    let line = |(index, (key, value)): (usize, &(Option<Datum>, Datum))| {
        format!("{}: {}", key.as_ref().map_or_else(|| index.to_string(), text), text(value))
    };
    let mut lines: Vec<String> = contents.entries.iter().enumerate().map(line).collect();
    if contents.entries.iter().all(|(key, _)| key.is_some()) {
        lines.sort();
    }
    if !is_all {
        let more = contents.total - contents.entries.len() as u64;
        lines.push(format!(".. {more} more: --entries N shows N, --all all of them"));
    }
    lines.join("\n")
}

fn text(item: &Datum, characters: usize) -> String {
    let text = match &item.of {
        ItemType::Message(_) => return item.render(),
        ItemType::Str => format!("{:?}", item.render()),
        _ => item.render(),
    };
    match text.char_indices().nth(characters) {
        None if item.bytes.len() == item.len => text,
        cut => format!("{}.. ({} bytes)", &text[..cut.map_or(text.len(), |(at, _)| at)], item.len),
    }
}

/// The same for programs.
pub(crate) fn to_json(contents: &Contents) -> Value {
    let entry = |(key, value): &(Option<Datum>, Datum)| match key {
        Some(key) => json!({ "key": typed(key), "value": typed(value), "type": value.of.to_string() }),
        None => typed(value),
    };
    json!({ "total": contents.total, "entries": contents.entries.iter().map(entry).collect::<Value>() })
}
