//! `pagemate ls`: all segments, one line each.

use clap::Args;
use pagemate::inspect::{self, SegmentInfo};
use pagemate::Kind;
use serde_json::{json, Map, Value};

use crate::location::Location;
use crate::output::{age, print, print_json, shown, size, table, unix};
use crate::Outcome;

/// List the segments: their participants, what these hold, and which a crash left behind
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

impl Ls {
    pub(crate) fn run(self) -> Outcome {
        let found = inspect::segments(self.location.dir())?;
        if self.json {
            let value = |(name, segment): &(String, pagemate::Result<SegmentInfo>)| match segment {
                Ok(segment) => to_json(segment, false),
                Err(error) => json!({ "name": name, "error": error.to_string() }),
            };
            return print_json(&found.iter().map(value).collect());
        }
        let rows: Vec<_> = found.iter().filter_map(|(_, segment)| segment.as_ref().ok()).map(row).collect();
        let mut text = String::new();
        if !rows.is_empty() {
            let head = ["NAME", ">SIZE", ">COMMITTED", ">ALIVE", ">DEAD", "STATE", ">AGE", "OBJECTS"];
            text += &table(head, &rows);
        }
        for (name, segment) in &found {
            if let Err(error) = segment {
                text += &format!("{}: cannot be read: {}\n", shown(name), shown(&error.to_string()));
            }
        }
        print(&text)
    }
}

fn row(segment: &SegmentInfo) -> [String; 8] {
    let alive = segment.participants.iter().filter(|participant| participant.alive).count();
    [
        shown(&segment.name),
        size(segment.size),
        size(segment.committed),
        alive.to_string(),
        (segment.participants.len() - alive).to_string(),
        state(segment).to_string(),
        age(segment.created),
        objects(segment),
    ]
}

/// Returns what will happen to the segment.
pub(crate) fn state(segment: &SegmentInfo) -> &'static str {
    match (segment.stale, segment.persistent) {
        (true, _) => "stale",
        (_, true) => "persistent",
        _ => "in use",
    }
}

/// Returns the kinds of objects with their numbers: `queue`, `2 event, 1 queue`.
fn objects(segment: &SegmentInfo) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for object in &segment.objects {
        let kind = object.info.kind.map_or("unknown", Kind::name);
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    kinds.sort();
    match kinds[..] {
        [] => "none".to_string(),
        [(kind, 1)] => kind.to_string(),
        _ => kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", "),
    }
}

/// Returns numbers and booleans as such, so that scripts can compare them, and everything else as
/// text.
fn typed(value: &str) -> Value {
    let number = value.parse::<u64>().map(Value::from);
    number.or_else(|_| value.parse::<bool>().map(Value::from)).unwrap_or_else(|_| Value::from(value))
}

/// Returns what both `ls` and `show` print about a segment. Long messages at the heads of queues
/// are cut, unless `is_all`.
pub(crate) fn to_json(segment: &SegmentInfo, is_all: bool) -> Value {
    let participants = segment.participants.iter().map(|participant| {
        json!({
            "index": participant.index,
            "generation": participant.generation,
            "pid": participant.pid,
            "since": unix(participant.since),
            "alive": participant.alive,
        })
    });
    let objects = segment.objects.iter().map(|object| {
        let head = object.head.as_deref().map(|head| crate::show::message(&object.info.schema, head, is_all));
        // Only a cut message has two dots in a row.
        let is_truncated = !is_all && head.as_ref().is_some_and(|head| head.contains(".."));
        json!({
            "name": object.info.name,
            "kind": object.info.kind.map(Kind::name),
            "len": object.info.len,
            "schema": object.info.schema,
            "state": object
                .state
                .iter()
                .map(|(what, value)| (what.to_string(), typed(value)))
                .collect::<Map<_, _>>(),
            "head": head,
            "head_truncated": is_truncated,
        })
    });
    json!({
        "name": segment.name,
        "path": segment.path.display().to_string(),
        "size": segment.size,
        "committed": segment.committed,
        "created": unix(segment.created),
        "persistent": segment.persistent,
        "stale": segment.stale,
        "participants": participants.collect::<Value>(),
        "objects": objects.collect::<Value>(),
    })
}
