//! The contents of dicts, lists and arrays, for `pagemate show`.

use pagemate::inspect::{Contents, ItemBytes, ItemType};
use serde_json::{json, Value};

use crate::output::typed;

/// The number of characters of an item that are shown without --all.
const CHARACTERS: usize = 120;

/// Returns one line for each entry, sorted by key. Unless `is_all`, each text ends after
/// [`CHARACTERS`], and the length of the item in bytes follows.
pub(crate) fn to_text(contents: &Contents, is_all: bool) -> String {
    let text = |item: &ItemBytes| text(item, is_all);
    let line = |(index, (key, value)): (usize, &(Option<ItemBytes>, ItemBytes))| {
        format!("{}: {}", key.as_ref().map_or_else(|| index.to_string(), text), text(value))
    };
    let mut lines: Vec<String> = contents.entries.iter().enumerate().map(line).collect();
    if contents.entries.iter().all(|(key, _)| key.is_some()) {
        lines.sort();
    }
    match contents.total.saturating_sub(contents.entries.len() as u64) {
        0 => {}
        more => lines.push(format!(".. {more} more: --entries N shows N, --all all of them")),
    }
    lines.join("\n")
}

fn text(item: &ItemBytes, is_all: bool) -> String {
    let text = match &item.of {
        ItemType::Message(_) if is_all => return whole(item.render_whole()),
        ItemType::Message(_) => return item.render(),
        ItemType::Str => format!("{:?}", item.render()),
        _ => item.render(),
    };
    let end = if is_all { None } else { text.char_indices().nth(CHARACTERS) };
    match end {
        None if item.bytes.len() == item.len => text,
        end => format!("{}.. ({} bytes)", &text[..end.map_or(text.len(), |(at, _)| at)], item.len),
    }
}

/// Returns whether only the first bytes of some messages were read.
pub(crate) fn has_cut_messages(contents: &Contents) -> bool {
    let is_cut = |item: &ItemBytes| matches!(item.of, ItemType::Message(_)) && item.bytes.len() < item.len;
    contents.entries.iter().any(|(key, value)| key.as_ref().is_some_and(is_cut) || is_cut(value))
}

/// Returns a text, or the reason why there is none.
pub(crate) fn whole(text: pagemate::Result<String>) -> String {
    text.unwrap_or_else(|error| format!("<{error}>"))
}

/// Returns the contents as JSON, each entry in full. `truncated` means that there are more entries.
pub(crate) fn to_json(contents: &Contents) -> Value {
    let typed = |item: &ItemBytes| typed(item).unwrap_or_else(|error| json!({ "error": error.to_string() }));
    let entry = |(key, value): &(Option<ItemBytes>, ItemBytes)| match key {
        Some(key) => json!({ "key": typed(key), "value": typed(value), "type": value.of.to_string() }),
        None => typed(value),
    };
    let entries: Value = contents.entries.iter().map(entry).collect();
    let is_truncated = contents.total > contents.entries.len() as u64;
    json!({ "total": contents.total, "truncated": is_truncated, "entries": entries })
}
