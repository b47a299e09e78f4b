//! `pagemate ls`: all segments, a line each.

use clap::Args;
use pagemate::inspect::{self, Segment};
use pagemate::Kind;
use serde_json::{json, Map, Value};

use crate::output::{age, print, print_json, shown, size, table, unix};
use crate::site::Site;
use crate::Outcome;

/// List the segments: who is attached, what they hold, which were left behind by a crash
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

impl Ls {
    pub(crate) fn run(self) -> Outcome {
        let found = inspect::segments(self.site.dir())?;
        if self.json {
            let value = |(name, segment): &(String, pagemate::Result<Segment>)| match segment {
                Ok(segment) => to_json(segment),
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
                text += &format!("{}: cannot be looked at: {}\n", shown(name), shown(&error.to_string()));
            }
        }
        print(&text)
    }
}

fn row(segment: &Segment) -> [String; 8] {
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

/// What will become of the segment.
pub(crate) fn state(segment: &Segment) -> &'static str {
    match (segment.stale, segment.persistent) {
        (true, _) => "stale",
        (_, true) => "persistent",
        _ => "in use",
    }
}

/// The kinds of objects with their numbers: `queue`, `2 event, 1 queue`.
fn objects(segment: &Segment) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for object in &segment.objects {
        let kind = object.kind.map_or("unknown", Kind::name);
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

/// Numbers and truth values as such, so that scripts can compare them; all else as text.
fn typed(value: &str) -> Value {
    let number = value.parse::<u64>().map(Value::from);
    number.or_else(|_| value.parse::<bool>().map(Value::from)).unwrap_or_else(|_| Value::from(value))
}

/// What both `ls` and `show` say about a segment.
pub(crate) fn to_json(segment: &Segment) -> Value {
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
        json!({
            "name": object.name,
            "kind": object.kind.map(Kind::name),
            "len": object.len,
            "schema": object.schema,
            "state": object.state.iter().map(|(what, value)| (what.to_string(), typed(value))).collect::<Map<_, _>>(),
            "head": object.head.as_deref().map(|head| crate::show::message(&object.schema, head)),
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
