//! What is shown: two looks at all segments, taken together into tables.

use std::time::Instant;

use pagemate::inspect::{Object, Segment};
use pagemate::Kind;
use serde_json::{json, Value};

use crate::ls::state;
use crate::output::{shown, size, table};

/// A look at all segments.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) segments: Vec<(String, pagemate::Result<Segment>)>,
}

impl Sample {
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter_map(|(_, segment)| segment.as_ref().ok())
    }

    /// The same object at this look.
    fn find(&self, segment: &Segment, object: &Object) -> Option<&Object> {
        let same = |other: &&Segment| (&other.path, other.created) == (&segment.path, segment.created);
        self.segments().find(same)?.objects.iter().find(|other| other.name == object.name)
    }
}

#[derive(Debug)]
pub(super) struct SegmentRow {
    name: String,
    committed: u64,
    alive: usize,
    dead: usize,
    state: &'static str,
}

#[derive(Debug)]
pub(super) struct QueueRow {
    name: String,
    kind: &'static str,
    depth: u64,
    capacity: u64,
    /// Messages received a second.
    rate: f64,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct LockRow {
    name: String,
    kind: &'static str,
    /// Process id; `None`: nobody, or nobody who is in the table.
    holder: Option<u32>,
    waited_on: bool,
    owner_died: bool,
}

#[derive(Debug)]
pub(super) struct PoolRow {
    name: String,
    workers: u64,
    busy: u64,
    /// Chunks that wait for a worker.
    queued: u64,
    /// Tasks.
    done: u64,
    /// Tasks done a second.
    rate: f64,
    closed: bool,
}

/// Tables of everything.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) segments: Vec<SegmentRow>,
    pub(super) queues: Vec<QueueRow>,
    pub(super) locks: Vec<LockRow>,
    pub(super) pools: Vec<PoolRow>,
}

/// A column's name in a table for people; '>' makes it flush right.
pub(super) const SEGMENTS: [&str; 5] = ["SEGMENT", ">COMMITTED", ">ALIVE", ">DEAD", "STATE"];
pub(super) const QUEUES: [&str; 6] = ["QUEUE", "KIND", ">DEPTH", ">CAPACITY", ">RECEIVED/s", "CLOSED"];
pub(super) const LOCKS: [&str; 5] = ["LOCK", "KIND", ">HOLDER", "WAITED ON", "OWNER DIED"];
pub(super) const POOLS: [&str; 7] =
    ["POOL", ">WORKERS", ">BUSY", ">QUEUED", ">TASKS DONE", ">DONE/s", "CLOSED"];

impl Board {
    /// What is there `now`, with rates since `before`.
    pub(super) fn new(before: &Sample, now: &Sample) -> Board {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let mut board = Board::default();
        for segment in now.segments() {
            let alive = segment.participants.iter().filter(|participant| participant.alive).count();
            board.segments.push(SegmentRow {
                name: shown(&segment.name),
                committed: segment.committed,
                alive,
                dead: segment.participants.len() - alive,
                state: state(segment),
            });
            for object in &segment.objects {
                let rate = |word: &str| match before.find(segment, object) {
                    // A counter that has gone round counts as one that stands still.
                    Some(old) => {
                        number(object, word).saturating_sub(number(old, word)) as f64 / seconds.max(1e-9)
                    }
                    None => 0.0,
                };
                board.add(segment, object, rate);
            }
        }
        board
    }

    fn add(&mut self, segment: &Segment, object: &Object, rate: impl Fn(&str) -> f64) {
        let Some(kind) = object.kind else { return };
        let name = match object.name.as_str() {
            "" => shown(&segment.name),
            name => format!("{}/{}", shown(&segment.name), shown(name)),
        };
        match kind {
            Kind::Queue | Kind::Spsc => self.queues.push(QueueRow {
                name,
                kind: kind.name(),
                depth: number(object, "depth"),
                capacity: number(object, "capacity"),
                rate: rate("received"),
                closed: is(object, "closed"),
            }),
            Kind::Mutex | Kind::Lock | Kind::RLock | Kind::RwLock => {
                let holder = word(object, "holder").or(word(object, "written by"));
                let index = holder
                    .and_then(|holder| holder.strip_prefix("participant "))
                    .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
                    .and_then(|index| index.parse::<usize>().ok());
                let holder = segment.participants.iter().find(|participant| Some(participant.index) == index);
                self.locks.push(LockRow {
                    name,
                    kind: kind.name(),
                    holder: holder.map(|participant| participant.pid),
                    waited_on: is(object, "waited on"),
                    owner_died: is(object, "owner died"),
                });
            }
            Kind::Pool => self.pools.push(PoolRow {
                name,
                workers: number(object, "workers"),
                busy: number(object, "busy"),
                queued: number(object, "queued"),
                done: number(object, "tasks done"),
                rate: rate("tasks done"),
                closed: is(object, "closed"),
            }),
            _ => {}
        }
    }

    pub(super) fn segment_rows(&self) -> Vec<[String; 5]> {
        let row = |row: &SegmentRow| {
            let counts = [row.alive, row.dead].map(|count| count.to_string());
            let [alive, dead] = counts;
            [row.name.clone(), size(row.committed), alive, dead, row.state.to_string()]
        };
        self.segments.iter().map(row).collect()
    }

    pub(super) fn queue_rows(&self) -> Vec<[String; 6]> {
        let row = |row: &QueueRow| {
            let rate = format!("{:.0}", row.rate);
            let [depth, capacity] = [row.depth, row.capacity].map(|number| number.to_string());
            [row.name.clone(), row.kind.to_string(), depth, capacity, rate, yes(row.closed)]
        };
        self.queues.iter().map(row).collect()
    }

    pub(super) fn lock_rows(&self) -> Vec<[String; 5]> {
        let row = |row: &LockRow| {
            let holder = row.holder.map_or("-".to_string(), |pid| pid.to_string());
            [row.name.clone(), row.kind.to_string(), holder, yes(row.waited_on), yes(row.owner_died)]
        };
        self.locks.iter().map(row).collect()
    }

    pub(super) fn pool_rows(&self) -> Vec<[String; 7]> {
        let row = |row: &PoolRow| {
            let counts = [row.workers, row.busy, row.queued, row.done].map(|count| count.to_string());
            let [workers, busy, queued, done] = counts;
            [row.name.clone(), workers, busy, queued, done, format!("{:.0}", row.rate), yes(row.closed)]
        };
        self.pools.iter().map(row).collect()
    }

    /// All tables that have rows, for a terminal or a file.
    pub(super) fn to_text(&self) -> String {
        let mut tables = vec![table(SEGMENTS, &self.segment_rows())];
        if !self.queues.is_empty() {
            tables.push(table(QUEUES, &self.queue_rows()));
        }
        if !self.locks.is_empty() {
            tables.push(table(LOCKS, &self.lock_rows()));
        }
        if !self.pools.is_empty() {
            tables.push(table(POOLS, &self.pool_rows()));
        }
        tables.join("\n")
    }

    pub(super) fn to_json(&self) -> Value {
        let segments = self.segments.iter().map(|row| {
            json!({
                "name": row.name, "committed": row.committed, "alive": row.alive, "dead": row.dead,
                "state": row.state,
            })
        });
        let queues = self.queues.iter().map(|row| {
            json!({
                "name": row.name, "kind": row.kind, "depth": row.depth, "capacity": row.capacity,
                "received_per_second": row.rate, "closed": row.closed,
            })
        });
        let locks = self.locks.iter().map(|row| {
            json!({
                "name": row.name, "kind": row.kind, "holder": row.holder, "waited_on": row.waited_on,
                "owner_died": row.owner_died,
            })
        });
        let pools = self.pools.iter().map(|row| {
            json!({
                "name": row.name, "workers": row.workers, "busy": row.busy, "queued": row.queued,
                "tasks_done": row.done, "tasks_per_second": row.rate, "closed": row.closed,
            })
        });
        json!({
            "segments": segments.collect::<Value>(),
            "queues": queues.collect::<Value>(),
            "locks": locks.collect::<Value>(),
            "pools": pools.collect::<Value>(),
        })
    }
}

/// What an object says under this word.
fn word<'a>(object: &'a Object, word: &str) -> Option<&'a str> {
    object.state.iter().find(|(what, _)| *what == word).map(|(_, value)| value.as_str())
}

fn number(object: &Object, what: &str) -> u64 {
    word(object, what).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn is(object: &Object, what: &str) -> bool {
    word(object, what) == Some("true")
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "" }.to_string()
}
