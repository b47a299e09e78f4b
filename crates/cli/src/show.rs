//! `pagemate show`: everything about one segment.

use std::fmt::Write;

use clap::Args;
use pagemate::inspect::{self, Contents, ItemType, Object, SegmentInfo};
use pagemate::{Kind, Schema};
use serde_json::json;

use crate::contents;
use crate::location::Location;
use crate::ls::{state, to_json};
use crate::output::{age, print, print_json, shown, size, table};
use crate::Outcome;

/// The number of bytes shown of a message that is not printed by a schema, such as a string.
const BYTES_SHOWN: usize = 64;
/// The number of bytes read of each key and value without --all and --json: more than is shown.
const BYTES_READ: usize = 64 << 10;

/// Show one segment: participants, objects, the message at the head of each queue, what dicts,
/// lists and arrays hold
///
/// Without --all, long values are cut; `..` marks the cut. JSON contains each value in full, and
/// numbers with every digit; `"truncated": true` means that there are more entries than --entries
/// allows.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the segment, or SEGMENT/OBJECT for one object in it
    name: String,
    /// Number of entries of each dict, list and array to show
    #[arg(long, value_name = "N", default_value_t = 16)]
    entries: usize,
    /// Show all entries and the message at the head, each in full
    #[arg(long, conflicts_with = "entries")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

impl Show {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.location.object(&self.name)?;
        let mut segment = inspect::segment(place.clone())?;
        if !object.is_empty() {
            segment.objects.retain(|seen| seen.info.name == object);
            if segment.objects.is_empty() {
                return Err(format!("{}: the segment has no object named {object:?}", self.name).into());
            }
        }
        let entries = if self.all { usize::MAX } else { self.entries };
        let bytes = if self.all || self.json { usize::MAX } else { BYTES_READ };
        let held = |seen: &Object| {
            let contents = inspect::contents(place.clone(), &seen.info.name, entries, bytes)?;
            // A cut text is still useful. A cut message would lack its last fields.
            match contents.as_ref().is_some_and(contents::has_cut_messages) {
                true => inspect::contents(place.clone(), &seen.info.name, entries, usize::MAX),
                false => Ok(contents),
            }
        };
        if self.json {
            let mut value = to_json(&segment, true);
            for (index, seen) in segment.objects.iter().enumerate() {
                match held(seen) {
                    Ok(Some(contents)) => value["objects"][index]["contents"] = contents::to_json(&contents),
                    Ok(None) => {}
                    Err(error) => value["objects"][index]["contents"] = json!({ "error": error.to_string() }),
                }
            }
            return print_json(&value);
        }
        let mut text = format!(
            "{}: {}, {} of {} committed, created {} ago\n{}\n",
            shown(&segment.name),
            state(&segment),
            size(segment.committed),
            size(segment.size),
            age(segment.created),
            shown(&segment.path.display().to_string()),
        );
        text += &participants(&segment);
        segment.objects.iter().for_each(|seen| text += &described(seen, held(seen), self.all));
        print(&text)
    }
}

fn participants(segment: &SegmentInfo) -> String {
    if segment.participants.is_empty() {
        return "\nnobody is attached\n".to_string();
    }
    let row = |participant: &inspect::Participant| {
        let pid = match participant.pid {
            0 => "starting".to_string(),
            pid => pid.to_string(),
        };
        let alive = if participant.alive { "alive" } else { "dead" };
        [participant.index.to_string(), pid, alive.to_string(), age(participant.since)]
    };
    let rows: Vec<_> = segment.participants.iter().map(row).collect();
    format!("\n{}", table([">PARTICIPANT", ">PID", "STATE", ">ATTACHED"], &rows))
}

fn described(object: &Object, contents: pagemate::Result<Option<Contents>>, is_all: bool) -> String {
    let kind = object.info.kind.map_or("object of an unknown kind", Kind::name);
    let mut text = match object.info.name.as_str() {
        "" => format!("\n{kind}, {}\n", size(object.info.len as u64)),
        name => format!("\n{}: {kind}, {}\n", shown(name), size(object.info.len as u64)),
    };
    let mut lines: Vec<(&str, String)> = object.state.clone();
    if !object.info.schema.is_empty() {
        lines.push(("schema", pretty(&object.info.schema)));
    }
    if let Some(head) = &object.head {
        lines.push(("head", message(&object.info.schema, head, is_all)));
    }
    match contents {
        Ok(Some(contents)) if contents.total > 0 => {
            lines.push(("holds", contents::to_text(&contents, is_all)));
        }
        Ok(_) => {}
        Err(error) => lines.push(("holds", format!("unreadable: {error}"))),
    }
    let width = lines.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    for (mut word, value) in lines {
        for line in value.lines() {
            let _ = writeln!(text, "  {word:width$}  {}", shown(line));
            word = "";
        }
    }
    text
}

/// Returns a schema, or both schemas of a dict or a service, on several lines.
fn pretty(schema: &str) -> String {
    match schema.split_once(" => ") {
        Some((first, second)) => format!("{}\n=> {}", pretty(first), pretty(second)),
        None => schema.parse::<Schema>().map_or_else(|_| schema.to_string(), |schema| schema.pretty()),
    }
}

/// Formats a message by its schema, that of its requests for a service, or as bytes if the schema
/// cannot be read. Cuts a long message, unless `is_all`.
pub(crate) fn message(schema: &str, bytes: &[u8], is_all: bool) -> String {
    let most = if is_all { usize::MAX } else { BYTES_SHOWN };
    let more = if bytes.len() > most { " .." } else { "" };
    let shown = &bytes[..bytes.len().min(most)];
    match ItemType::from_text(schema.split_once(" => ").map_or(schema, |(request, _)| request)) {
        item @ (ItemType::Message(_) | ItemType::Slice(_)) => match is_all {
            true => contents::whole(item.render_whole(bytes)),
            false => item.render(bytes),
        },
        ItemType::Str => format!("{:?}{more}", String::from_utf8_lossy(shown)),
        _ => {
            let shown: Vec<_> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            shown.join(" ") + more
        }
    }
}
