//! `pagemate show`: everything about one segment.

use std::fmt::Write;

use clap::Args;
use pagemate::inspect::{self, Contents, Object, Segment};
use pagemate::{Kind, Schema};
use serde_json::json;

use crate::contents;
use crate::ls::{state, to_json};
use crate::output::{age, print, print_json, shown, size, table};
use crate::site::Site;
use crate::Outcome;

/// Bytes of a message that are shown when its schema does not say what they are.
const BYTES_SHOWN: usize = 64;
/// Characters of a text or of bytes of any length that are shown, unless all are to be.
const CHARACTERS: usize = 120;
/// Bytes that are looked at then: more than a rendered message has.
const BYTES_READ: usize = 64 << 10;

/// Show one segment: participants, objects, the message at the head of each queue, what dicts, lists and arrays hold
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the segment, or SEGMENT/OBJECT for one object in it
    name: String,
    /// How many entries of each dict, list and array are shown
    #[arg(long, value_name = "N", default_value_t = 16)]
    entries: usize,
    /// Show all entries, each as long as it is
    #[arg(long, conflicts_with = "entries")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

impl Show {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.site.object(&self.name);
        let mut segment = inspect::segment(place.clone())?;
        if !object.is_empty() {
            segment.objects.retain(|seen| seen.name == object);
            if segment.objects.is_empty() {
                return Err(format!("{}: the segment has no object named {object:?}", self.name).into());
            }
        }
        let entries = if self.all { usize::MAX } else { self.entries };
        let (bytes, characters) =
            if self.all || self.json { (usize::MAX, usize::MAX) } else { (BYTES_READ, CHARACTERS) };
        let held = |seen: &Object| inspect::contents(place.clone(), &seen.name, entries, bytes);
        if self.json {
            let mut value = to_json(&segment);
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
        segment.objects.iter().for_each(|seen| text += &described(seen, held(seen), characters));
        print(&text)
    }
}

fn participants(segment: &Segment) -> String {
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

fn described(object: &Object, contents: pagemate::Result<Option<Contents>>, characters: usize) -> String {
    let kind = object.kind.map_or("object of an unknown kind", Kind::name);
    let mut text = match object.name.as_str() {
        "" => format!("\n{kind}, {}\n", size(object.len as u64)),
        name => format!("\n{}: {kind}, {}\n", shown(name), size(object.len as u64)),
    };
    let mut lines: Vec<(&str, String)> = object.state.clone();
    if !object.schema.is_empty() {
        let pretty = object.schema.parse::<Schema>().map(|schema| schema.pretty());
        lines.push(("schema", pretty.unwrap_or_else(|_| object.schema.clone())));
    }
    if let Some(head) = &object.head {
        lines.push(("head", message(&object.schema, head)));
    }
    match contents {
        Ok(Some(contents)) if contents.total > 0 => {
            lines.push(("holds", contents::to_text(&contents, characters)));
        }
        Ok(_) => {}
        Err(error) => lines.push(("holds", format!("what cannot be read: {error}"))),
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

/// A message as its schema says; its bytes if the schema cannot be read.
pub(crate) fn message(schema: &str, bytes: &[u8]) -> String {
    if let Ok(schema) = schema.parse::<Schema>() {
        return schema.render(bytes);
    }
    let more = if bytes.len() > BYTES_SHOWN { " ..." } else { "" };
    let shown: Vec<_> = bytes.iter().take(BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
    shown.join(" ") + more
}
