//! Scenes of topics whose messages are in blocks: operations of a publisher that finds memory, or
//! discards messages for it, and of a subscriber whose messages are discarded. At the end the quota
//! is wholly free.
//!
//! The survivors' message at position `p` is `p` many times, so a wrong, torn, lost or doubled one
//! shows.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pagemate::queue::topic::{From, Loan, Policy, Publisher, Received, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use crate::helper::{shared, until, Atomics, Helper};
use crate::{End, Recipe, Scene};

/// The child's message.
const MINE: u64 = 1 << 40;
/// Elements of a message. Of these, 25 take the quota, which is one chunk.
const LEN: usize = 319;
/// Elements of a message of which two take the quota, so that few have to be discarded before their
/// chunk is free.
const LONG: usize = 4090;
/// Elements of a message that needs a chunk of another size class than either.
const OTHER: usize = 40;
const QUOTA: u64 = 64 << 10;
/// More messages than the quota has memory for.
const MANY: usize = 27;
const PATIENCE: Duration = Duration::from_secs(10);

const EVICTS: With = With::Laggard(Policy::Evict);
const FAILS: With = With::Laggard(Policy::Fail);

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $scene:expr;)*) => {
            vec![$(Recipe { name: $name, build: || Box::new($scene) }),*]
        };
    }
    use {Deed::*, Op::*};
    recipes! {
        "varied topic: publish, empty": Publishing::new(Publish, 4, 0, With::Nobody);
        "varied topic: publish, overwriting": Publishing::new(Overwrite, 1, 9, With::Nobody);
        "varied topic: publish of a short message": Publishing::new(Short, 1, 9, With::Nobody);
        "varied topic: publish, discarding": Publishing::new(Publish, MANY, 27, With::Nobody);
        "varied topic: publish, discarding a pinned one": Publishing::new(Publish, MANY, 27, With::Reader);
        "varied topic: publish of another length, discarding": Publishing::new(Other, 8, 3, With::Nobody);
        "varied topic: loan and publish, discarding": Publishing::new(Place, MANY, 27, With::Nobody);
        "varied topic: loan dropped": Publishing::new(Drop, MANY, 27, With::Nobody);
        "varied topic: publish of a revoked loan": Publishing::new(Revoked, MANY, 1, With::Nobody);
        "varied topic: publish, evicting for memory": Publishing::new(Publish, MANY, 25, EVICTS);
        "varied topic: publish, refused for memory": Publishing::new(Publish, MANY, 25, FAILS);
        "varied topic: recv": Receiving::new(Recv, 4);
        "varied topic: recv of a subscriber that lags": Receiving::new(Recv, 29);
        "varied topic: recv_into": Receiving::new(RecvInto, 4);
        "varied topic: recv_ref while it is discarded": Receiving::new(RecvRef, 4);
        "varied topic: recv_ref of a lossless subscriber": Receiving::new(LosslessRecvRef, 2);
        "varied topic: subscribe_lossless to the oldest": Receiving::new(Join, 29);
    }
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Returns the number that a message consists of. `None`: it is torn.
fn number(message: &[u64]) -> Option<u64> {
    let first = message.first()?;
    message.iter().all(|word| word == first).then_some(*first)
}

/// Publishes a message that takes the whole quota, and then short ones, until the quota is free.
fn check_whole(topic: &Topic<[u64]>, publisher: &Publisher<[u64]>) -> Result<(), String> {
    let most = vec![0; topic.quota() as usize / 8 - 2];
    until("a message takes the whole quota", || publisher.publish_timeout(&most, PATIENCE).is_ok())?;
    for _ in 0..2 * topic.capacity() + 6 {
        publisher.try_publish(&[0]).map_err(|error| format!("publish: {error}"))?;
    }
    match topic.quota_in_use() {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes are lost")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Publish,
    Overwrite,
    Short,
    /// The message needs a size class that no chunk has.
    Other,
    Place,
    Drop,
    Revoked,
}

impl Op {
    /// Returns the number of elements of the survivors' messages.
    fn survivors_len(self) -> usize {
        if self == Op::Other {
            LONG
        } else {
            LEN
        }
    }
}

/// The third party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nobody,
    /// The survivor reads the oldest message in place.
    Reader,
    /// The survivor's subscriber is lossless, and has received nothing.
    Laggard(Policy),
}

/// The child publishes.
struct Publishing {
    topic: &'static Topic<[u64]>,
    publisher: &'static Publisher<[u64]>,
    op: Op,
    with: With,
    subscriber: Subscriber<[u64]>,
    held: Option<Received<'static, [u64]>>,
    loan: Option<Loan<'static, [u64]>>,
    has_mine: bool,
    next: u64,
}

impl Publishing {
    fn new(op: Op, capacity: usize, before: u64, with: With) -> Publishing {
        let quota = if matches!(op, Op::Overwrite | Op::Short) { 2 * QUOTA } else { QUOTA };
        let policy = if let With::Laggard(policy) = with { policy } else { Policy::Block };
        let topic = Topic::<[u64]>::builder(capacity).quota(quota).policy(policy).build().unwrap();
        let topic = leaked(topic);
        let publisher = leaked(topic.publisher());
        let lossless =
            matches!(with, With::Laggard(_)).then(|| topic.subscribe_lossless(From::Latest).unwrap());
        let len = op.survivors_len();
        (0..before).for_each(|value| publisher.publish(&vec![value; len]).unwrap());
        let held = (with == With::Reader).then(|| {
            let reader = Box::leak(Box::new(topic.subscribe(From::Earliest).unwrap()));
            reader.recv_ref().unwrap()
        });
        let subscriber = lossless.unwrap_or_else(|| topic.subscribe(From::Latest).unwrap());
        Publishing { topic, publisher, op, with, subscriber, held, loan: None, has_mine: false, next: before }
    }

    /// Receives what is there, and checks it.
    fn drain(&mut self) -> Result<Vec<u64>, String> {
        let mut all = Vec::new();
        loop {
            match self.subscriber.try_recv() {
                Ok(message) => match number(&message) {
                    Some(MINE) if self.has_mine => return Err("received the child's message twice".into()),
                    Some(value) => {
                        self.has_mine |= value == MINE;
                        all.push(value);
                    }
                    None => return Err(format!("torn: {:?}", &message[..4])),
                },
                Err(RecvError::Empty) => return Ok(all),
                Err(RecvError::Lagged(1..)) if self.with == With::Laggard(Policy::Evict) => {}
                Err(error) => return Err(format!("the survivor receives {error:?} after {all:?}")),
            }
        }
    }

    fn check_held(&self) -> Result<(), String> {
        match self.held.as_ref().map(|held| number(held)) {
            None | Some(Some(2)) => Ok(()),
            Some(value) => Err(format!("2 was read in place, and is {value:?} now")),
        }
    }
}

impl Scene for Publishing {
    fn prepare(&mut self) {
        // What the survivor holds is not the child's. The first use in a forked process attaches
        // it, which is a scene of its own.
        std::mem::forget(self.held.take());
        drop(self.topic.subscribe(From::Latest).unwrap());
        if self.op == Op::Revoked {
            self.loan = Some(self.publisher.loan_from(&[MINE; LEN]).unwrap());
            let topic = self.topic;
            Helper::die_after(|| {
                let mut subscriber = topic.subscribe(From::Latest).unwrap();
                topic.publisher().publish(&[500]).unwrap();
                assert_eq!(subscriber.recv_timeout(PATIENCE), Ok(vec![500]));
            });
        }
    }

    fn act(&mut self) {
        let publisher = self.publisher;
        match self.op {
            Op::Publish | Op::Overwrite => _ = publisher.try_publish(&[MINE; LEN]),
            Op::Short => _ = publisher.try_publish(&[MINE]),
            Op::Other => _ = publisher.try_publish(&[MINE; OTHER]),
            Op::Place => {
                if let Ok(room) = publisher.try_loan(LEN) {
                    let _ = room.fill_with(|_| MINE).try_publish();
                }
            }
            Op::Drop => drop(publisher.try_loan(LEN)),
            Op::Revoked => _ = self.loan.take().map(Loan::try_publish),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.check_held()?;
        let had_mine = self.has_mine;
        let seen = self.drain()?;
        if !seen.iter().filter(|value| **value < MINE).is_sorted() {
            return Err(format!("received {seen:?}"));
        }
        let refuses = self.with == With::Laggard(Policy::Fail);
        let publishes = self.op != Op::Drop && !refuses;
        if end == End::Finished && publishes && !self.has_mine {
            return Err("publish has returned, and the message was not received".into());
        }
        if self.has_mine && !had_mine && self.op == Op::Drop {
            return Err("received a message that was not published".into());
        }
        // Nobody is blocked, and everybody agrees on what comes next.
        for _ in 0..MANY + 4 {
            let value = self.next;
            self.next += 1;
            let message = vec![value; self.op.survivors_len()];
            let sent = self.publisher.publish_timeout(&message, PATIENCE);
            if self.op == Op::Other && end == End::Stopped && sent.is_err_and(|error| error.is_full()) {
                return Ok(()); // it was stopped while it made a chunk for messages of another size
            }
            sent.map_err(|error| format!("publish: {error}"))?;
            let seen = self.drain()?;
            if !seen.contains(&value) {
                return Err(format!("received {seen:?}, not {value}"));
            }
            self.check_held()?;
        }
        if end == End::Stopped {
            return Ok(());
        }
        self.held = None;
        while self.subscriber.is_lossless() {
            self.subscriber = self.topic.subscribe(From::Latest).unwrap();
        }
        check_whole(self.topic, self.publisher)
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.subscriber)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Recv,
    RecvInto,
    RecvRef,
    LosslessRecvRef,
    Join,
}

/// What the child has seen.
struct Report {
    received: AtomicU64,
    lost: AtomicU64,
    /// Messages that were torn, or did not belong to their position.
    wrong: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Atomics for Report {}

impl Report {
    fn note(&self, received: Result<(Option<u64>, u64), RecvError>) -> bool {
        match received {
            Ok((Some(value), position)) if value == position => _ = self.received.fetch_add(1, SeqCst),
            Ok(_) => _ = self.wrong.fetch_add(1, SeqCst),
            Err(RecvError::Lagged(count)) => _ = self.lost.fetch_add(count, SeqCst),
            Err(_) => return false,
        }
        true
    }
}

/// The child is a subscriber, the survivors publish.
struct Receiving {
    topic: &'static Topic<[u64]>,
    publisher: Publisher<[u64]>,
    deed: Deed,
    subscriber: Subscriber<[u64]>,
    report: &'static Report,
    own: Option<Subscriber<[u64]>>,
    memory: Vec<u64>,
    next: u64,
}

impl Receiving {
    fn new(deed: Deed, before: u64) -> Receiving {
        let topic = leaked(Topic::<[u64]>::builder(MANY).quota(QUOTA).build().unwrap());
        let publisher = topic.publisher();
        if deed != Deed::LosslessRecvRef {
            (0..before).for_each(|value| publisher.publish(&[value; LEN]).unwrap());
        }
        let (subscriber, report) = (topic.subscribe(From::Latest).unwrap(), shared());
        let memory = Vec::with_capacity(LEN);
        Receiving { topic, publisher, deed, subscriber, report, own: None, memory, next: before }
    }

    fn is_lossless(&self) -> bool {
        matches!(self.deed, Deed::LosslessRecvRef | Deed::Join)
    }

    /// Publishes a message if there is memory until then.
    fn publish(&mut self, patience: Duration) -> Result<bool, String> {
        let value = self.next;
        match self.publisher.publish_timeout(&[value; LEN], patience) {
            Ok(()) => {}
            Err(SendError::Full(_)) => return Ok(false),
            Err(error) => return Err(format!("publish: {error}")),
        }
        self.next += 1;
        match self.subscriber.try_recv() {
            Ok(message) if number(&message) == Some(value) => Ok(true),
            other => Err(format!("{value} was published, and {:?} received", other.map(|m| number(&m)))),
        }
    }
}

impl Scene for Receiving {
    fn prepare(&mut self) {
        self.own = match self.deed {
            // The first use in a forked process attaches it, which is a scene of its own.
            Deed::Join => {
                drop(self.topic.subscribe(From::Latest).unwrap());
                None
            }
            Deed::LosslessRecvRef => {
                let own = self.topic.subscribe_lossless(From::Latest).unwrap();
                let publisher = self.topic.publisher();
                (0..self.next).for_each(|value| publisher.publish(&[value; LEN]).unwrap());
                Some(own)
            }
            _ => Some(self.topic.subscribe(From::Position(0)).unwrap()),
        };
    }

    fn act(&mut self) {
        let (report, deed) = (self.report, self.deed);
        if deed == Deed::Join {
            self.own = self.topic.subscribe_lossless(From::Earliest).ok();
        }
        let Some(own) = &mut self.own else { return };
        for _ in 0..2 {
            let position = own.position();
            let received = match deed {
                Deed::Recv | Deed::Join => own.try_recv().map(|message| number(&message)),
                Deed::RecvInto => own.try_recv_into(&mut self.memory).map(|_| number(&self.memory)),
                Deed::RecvRef | Deed::LosslessRecvRef => own.try_recv_ref().map(|message| number(&message)),
            };
            if !report.note(received.map(|value| (value, position))) {
                return;
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.deed == Deed::LosslessRecvRef {
            // What the child has published before its operation.
            while self.subscriber.try_recv().is_ok() {}
        }
        let patience = if end == End::Stopped { Duration::ZERO } else { PATIENCE };
        for count in 0..MANY + 4 {
            if !self.publish(patience)? {
                match end {
                    End::Stopped if self.is_lossless() => break,
                    _ => return Err(format!("held up after {count} messages")),
                }
            }
        }
        let [received, lost, wrong] =
            [&self.report.received, &self.report.lost, &self.report.wrong].map(|word| word.load(SeqCst));
        if wrong > 0 || self.is_lossless() && lost > 0 {
            return Err(format!("the child received {wrong} wrong messages, and lost {lost}"));
        }
        if end == End::Finished && received == 0 && lost == 0 {
            return Err("the child has received nothing".into());
        }
        match end {
            End::Stopped => Ok(()),
            _ => check_whole(self.topic, &self.publisher),
        }
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.subscriber)
    }
}
