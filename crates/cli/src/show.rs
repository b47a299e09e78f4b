//! `pagemate show`: everything about one segment.

use std::fmt::Write;

use clap::Args;
use pagemate::inspect::{self, Object, Segment};
use pagemate::{Kind, Schema};

use crate::ls::{state, to_json};
use crate::output::{age, print, print_json, shown, size, table};
use crate::site::Site;
use crate::Outcome;

/// Bytes of a message that are shown when its schema does not say what they are.
const BYTES_SHOWN: usize = 64;

/// Show one segment: participants, objects, and the message at the head of each queue
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the segment
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

impl Show {
    pub(crate) fn run(self) -> Outcome {
        let segment = inspect::segment(self.site.place(&self.name))?;
        if self.json {
            return print_json(&to_json(&segment));
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
        segment.objects.iter().for_each(|seen| text += &object(seen));
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

fn object(object: &Object) -> String {
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
