//! The tables of `top`, computed from two samples of all segments.

use std::time::Instant;

use pagemate::inspect::{Object, SegmentInfo};
use pagemate::Kind;
use serde_json::{json, Value};

use crate::ls::state;
use crate::output::{shown, size, table};

/// The state of all segments at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) segments: Vec<(String, pagemate::Result<SegmentInfo>)>,
}

impl Sample {
    fn segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.iter().filter_map(|(_, segment)| segment.as_ref().ok())
    }

    /// Finds an object of another sample in this one.
    fn find(&self, segment: &SegmentInfo, object: &Object) -> Option<&Object> {
        let same = |other: &&SegmentInfo| (&other.path, other.created) == (&segment.path, segment.created);
        self.segments().find(same)?.objects.iter().find(|other| other.info.name == object.info.name)
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

/// The bytes for messages that do not fit into a slot. Messages of a fixed size have none.
#[derive(Debug, Clone, Copy)]
struct Quota {
    bytes: u64,
    in_use: u64,
}

impl Quota {
    fn of(object: &Object) -> Option<Quota> {
        value(object, "quota")?;
        Some(Quota { bytes: number(object, "quota"), in_use: number(object, "quota in use") })
    }

    fn percent(self) -> f64 {
        100.0 * self.in_use as f64 / self.bytes.max(1) as f64
    }

    fn to_text(quota: Option<Quota>) -> String {
        quota.map_or("-".to_string(), |quota| format!("{} {:.0}%", size(quota.in_use), quota.percent()))
    }

    fn to_json(quota: Option<Quota>) -> Value {
        quota.map_or(
            Value::Null,
            |quota| json!({ "bytes": quota.bytes, "in_use": quota.in_use, "percent": quota.percent() }),
        )
    }
}

#[derive(Debug)]
pub(super) struct QueueRow {
    name: String,
    kind: &'static str,
    depth: u64,
    capacity: u64,
    quota: Option<Quota>,
    /// Messages received per second.
    rate: f64,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct TopicRow {
    name: String,
    publishers: u64,
    subscribers: u64,
    /// The number of subscribers for which publishers wait.
    lossless: u64,
    /// The largest of the subscribers' lags.
    lag: u64,
    /// The sum of the messages that the subscribers have lost.
    lost: u64,
    capacity: u64,
    quota: Option<Quota>,
    /// Messages published per second.
    rate: f64,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct ServiceRow {
    name: String,
    servers: u64,
    /// Requests that no server has, that servers have, and calls whose clients have the slot.
    waiting: u64,
    served: u64,
    ended: u64,
    /// Of those that are served, the ones whose clients have given up.
    cancelled: u64,
    capacity: u64,
    /// Requests sent per second.
    rate: f64,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct LockRow {
    name: String,
    kind: &'static str,
    /// The process id of the holder; `None` if the lock is free, or if its holder is not
    /// attached to the segment.
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
    /// Tasks done.
    done: u64,
    /// Tasks done per second.
    rate: f64,
    closed: bool,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) segments: Vec<SegmentRow>,
    pub(super) queues: Vec<QueueRow>,
    pub(super) topics: Vec<TopicRow>,
    pub(super) services: Vec<ServiceRow>,
    pub(super) locks: Vec<LockRow>,
    pub(super) pools: Vec<PoolRow>,
    /// The names of unreadable segments, and the reasons.
    unreadable: Vec<(String, String)>,
}

/// The column names of each table. A '>' aligns a column to the right.
pub(super) const SEGMENTS: [&str; 5] = ["SEGMENT", ">COMMITTED", ">ALIVE", ">DEAD", "STATE"];
pub(super) const QUEUES: [&str; 7] =
    ["QUEUE", "KIND", ">DEPTH", ">CAPACITY", ">QUOTA IN USE", ">RECEIVED/s", "CLOSED"];
pub(super) const TOPICS: [&str; 10] = [
    "TOPIC",
    ">PUBLISHERS",
    ">SUBSCRIBERS",
    ">LOSSLESS",
    ">LAG",
    ">LOST",
    ">CAPACITY",
    ">QUOTA IN USE",
    ">PUBLISHED/s",
    "CLOSED",
];
pub(super) const SERVICES: [&str; 9] =
    ["SERVICE", ">SERVERS", ">WAITING", ">SERVED", ">CANCELLED", ">ENDED", ">CAPACITY", ">CALLS/s", "CLOSED"];
pub(super) const LOCKS: [&str; 5] = ["LOCK", "KIND", ">HOLDER", "WAITED ON", "OWNER DIED"];
pub(super) const POOLS: [&str; 7] =
    ["POOL", ">WORKERS", ">BUSY", ">QUEUED", ">TASKS DONE", ">DONE/s", "CLOSED"];

impl Tables {
    /// Returns the tables of `now`, with rates since `before`.
    pub(super) fn new(before: &Sample, now: &Sample) -> Tables {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let mut tables = Tables::default();
        for (name, segment) in &now.segments {
            if let Err(error) = segment {
                tables.unreadable.push((shown(name), shown(&error.to_string())));
            }
        }
        for segment in now.segments() {
            let alive = segment.participants.iter().filter(|participant| participant.alive).count();
            tables.segments.push(SegmentRow {
                name: shown(&segment.name),
                committed: segment.committed,
                alive,
                dead: segment.participants.len() - alive,
                state: state(segment),
            });
            for object in &segment.objects {
                let rate = |label: &str| match before.find(segment, object) {
                    // A counter that has wrapped counts as unchanged.
                    Some(old) => {
                        number(object, label).saturating_sub(number(old, label)) as f64 / seconds.max(1e-9)
                    }
                    None => 0.0,
                };
                tables.add(segment, object, rate);
            }
        }
        tables
    }

    fn add(&mut self, segment: &SegmentInfo, object: &Object, rate: impl Fn(&str) -> f64) {
        let Some(kind) = object.info.kind else { return };
        let name = match object.info.name.as_str() {
            "" => shown(&segment.name),
            name => format!("{}/{}", shown(&segment.name), shown(name)),
        };
        match kind {
            Kind::Queue | Kind::Spsc => self.queues.push(QueueRow {
                name,
                kind: kind.name(),
                depth: number(object, "depth"),
                capacity: number(object, "capacity"),
                quota: Quota::of(object),
                rate: rate("received"),
                closed: is(object, "closed"),
            }),
            Kind::Topic => self.topics.push(TopicRow {
                name,
                publishers: number(object, "publishers"),
                subscribers: number(object, "subscribers"),
                lossless: number(object, "lossless"),
                lag: number(object, "largest lag"),
                lost: number(object, "lost"),
                capacity: number(object, "capacity"),
                quota: Quota::of(object),
                rate: rate("published"),
                closed: is(object, "closed"),
            }),
            Kind::Service => self.services.push(ServiceRow {
                name,
                servers: number(object, "servers"),
                waiting: number(object, "waiting"),
                served: number(object, "served"),
                ended: number(object, "ended"),
                cancelled: number(object, "cancelled"),
                capacity: number(object, "capacity"),
                rate: rate("sent"),
                closed: is(object, "closed"),
            }),
            Kind::Mutex | Kind::Lock | Kind::ReentrantLock | Kind::RwLock => {
                let holder = value(object, "holder").or(value(object, "written by"));
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

    pub(super) fn queue_rows(&self) -> Vec<[String; 7]> {
        let row = |row: &QueueRow| {
            let (quota, rate) = (Quota::to_text(row.quota), format!("{:.0}", row.rate));
            let [depth, capacity] = [row.depth, row.capacity].map(|number| number.to_string());
            [row.name.clone(), row.kind.to_string(), depth, capacity, quota, rate, yes(row.closed)]
        };
        self.queues.iter().map(row).collect()
    }

    pub(super) fn topic_rows(&self) -> Vec<[String; 10]> {
        let row = |row: &TopicRow| {
            let counts = [row.publishers, row.subscribers, row.lossless, row.lag, row.lost, row.capacity];
            let [publishers, subscribers, lossless, lag, lost, capacity] =
                counts.map(|count| count.to_string());
            let quota = Quota::to_text(row.quota);
            let (rate, closed) = (format!("{:.0}", row.rate), yes(row.closed));
            [row.name.clone(), publishers, subscribers, lossless, lag, lost, capacity, quota, rate, closed]
        };
        self.topics.iter().map(row).collect()
    }

    pub(super) fn service_rows(&self) -> Vec<[String; 9]> {
        let row = |row: &ServiceRow| {
            let counts = [row.servers, row.waiting, row.served, row.cancelled, row.ended, row.capacity];
            let [servers, waiting, served, cancelled, ended, capacity] =
                counts.map(|count| count.to_string());
            let (rate, closed) = (format!("{:.0}", row.rate), yes(row.closed));
            [row.name.clone(), servers, waiting, served, cancelled, ended, capacity, rate, closed]
        };
        self.services.iter().map(row).collect()
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

    /// Returns a line for each segment that cannot be read.
    pub(super) fn unreadable(&self) -> String {
        let line = |(name, error): &(String, String)| format!("{name}: cannot be read: {error}\n");
        self.unreadable.iter().map(line).collect()
    }

    /// Returns the table of segments, and each other table that has rows, as text.
    pub(super) fn to_text(&self) -> String {
        let mut tables = vec![table(SEGMENTS, &self.segment_rows()) + &self.unreadable()];
        if !self.queues.is_empty() {
            tables.push(table(QUEUES, &self.queue_rows()));
        }
        if !self.topics.is_empty() {
            tables.push(table(TOPICS, &self.topic_rows()));
        }
        if !self.services.is_empty() {
            tables.push(table(SERVICES, &self.service_rows()));
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
        let unreadable = self.unreadable.iter().map(|(name, error)| json!({ "name": name, "error": error }));
        let queues = self.queues.iter().map(|row| {
            json!({
                "name": row.name, "kind": row.kind, "depth": row.depth, "capacity": row.capacity,
                "quota": Quota::to_json(row.quota), "received_per_second": row.rate, "closed": row.closed,
            })
        });
        let topics = self.topics.iter().map(|row| {
            json!({
                "name": row.name, "publishers": row.publishers, "subscribers": row.subscribers,
                "lossless": row.lossless, "lag": row.lag, "lost": row.lost, "capacity": row.capacity,
                "quota": Quota::to_json(row.quota), "published_per_second": row.rate, "closed": row.closed,
            })
        });
        let services = self.services.iter().map(|row| {
            json!({
                "name": row.name, "servers": row.servers, "waiting": row.waiting, "served": row.served,
                "cancelled": row.cancelled, "ended": row.ended, "capacity": row.capacity,
                "calls_per_second": row.rate, "closed": row.closed,
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
            "segments": segments.chain(unreadable).collect::<Value>(),
            "queues": queues.collect::<Value>(),
            "topics": topics.collect::<Value>(),
            "services": services.collect::<Value>(),
            "locks": locks.collect::<Value>(),
            "pools": pools.collect::<Value>(),
        })
    }
}

/// Returns the value with this label in an object's state.
fn value<'a>(object: &'a Object, label: &str) -> Option<&'a str> {
    object.state.iter().find(|(other, _)| *other == label).map(|(_, value)| value.as_str())
}

fn number(object: &Object, label: &str) -> u64 {
    value(object, label).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn is(object: &Object, label: &str) -> bool {
    value(object, label) == Some("true")
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "" }.to_string()
}
