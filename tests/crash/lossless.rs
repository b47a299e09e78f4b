//! Scenes of lossless subscribers and of publishers that wait for them; of topics that end with
//! their publishers; and of a message that is overwritten while it is pinned.
//!
//! The survivors' message at position `p` is `p`, so a wrong, lost or doubled one shows.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pagemate::queue::topic::{From, Policy, Publisher, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use crate::helper::{shared, until, Atomics, Helper, Waker};
use crate::{End, Recipe, Scene};

/// The child's message.
const SENT: u64 = 1 << 40;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $scene:expr;)*) => {
            vec![$(Recipe { name: $name, build: || Box::new($scene) }),*]
        };
    }
    recipes! {
        "topic: subscribe_lossless to the oldest": Receiving::new(Op::Subscribe, 4, 10);
        "topic: subscribe_lossless, capacity 1": Receiving::new(Op::Subscribe, 1, 3);
        "topic: recv of a lossless subscriber": Receiving::new(Op::Recv, 2, 2);
        "topic: recv_ref of a lossless subscriber": Receiving::new(Op::RecvRef, 2, 2);
        "topic: recv_ref while it is overwritten": Receiving::new(Op::LossyRecvRef, 2, 2);
        "topic: unsubscribe of a lossless subscriber": Receiving::new(Op::Unsubscribe, 2, 2);
        "topic: recv of an evicted subscriber": Receiving::new(Op::Evicted, 2, 2);
        "topic: publish, evicting": Publishing::new(Policy::Evict);
        "topic: publish, refused because of a laggard": Publishing::new(Policy::Fail);
        "topic: publish, asleep until a lossless subscriber receives": Publishing::new(Policy::Block);
        "topic: the last publisher leaves": Ending::new(false);
        "topic: a publisher joins and the last one leaves": Ending::new(true);
    }
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// The child's counts, and the process that its error named.
struct Report {
    received: AtomicU64,
    lost: AtomicU64,
    /// Messages that did not belong to their position.
    wrong: AtomicU64,
    /// The id of the process that its error names; 0 for none.
    pid: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Atomics for Report {}

impl Report {
    /// Receives the messages that have arrived, at most `most`, and counts them.
    fn receive(&self, own: &mut Subscriber<u64>, is_in_place: bool, most: usize) {
        for _ in 0..most {
            let received = match is_in_place {
                true => own.try_recv_ref().map(|message| *message),
                false => own.try_recv(),
            };
            match received {
                Ok(value) if value + 1 == own.position() => _ = self.received.fetch_add(1, SeqCst),
                Ok(_) => _ = self.wrong.fetch_add(1, SeqCst),
                Err(RecvError::Lagged(count)) => _ = self.lost.fetch_add(count, SeqCst),
                Err(_) => return,
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Subscribe,
    Recv,
    RecvRef,
    LossyRecvRef,
    Unsubscribe,
    Evicted,
}

/// The child is a subscriber, the survivors publish.
struct Receiving {
    topic: &'static Topic<u64>,
    publisher: Publisher<u64>,
    op: Op,
    subscriber: Subscriber<u64>,
    report: &'static Report,
    /// The child's subscriber.
    own: Option<Subscriber<u64>>,
}

/// The number of messages by which the child has its own subscriber evicted.
const EVICTING: u64 = 3;

impl Receiving {
    fn new(op: Op, capacity: usize, before: u64) -> Receiving {
        let policy = if op == Op::Evicted { Policy::Evict } else { Policy::Block };
        let topic = leaked(Topic::<u64>::builder(capacity).policy(policy).build().unwrap());
        let publisher = topic.publisher();
        // Since there was a lossless subscriber once, publishers have moved the gate far ahead.
        drop(topic.subscribe_lossless(From::Latest).unwrap());
        (0..before).for_each(|value| publisher.publish(value).unwrap());
        let subscriber = topic.subscribe(From::Latest).unwrap();
        Receiving { topic, publisher, op, subscriber, report: shared(), own: None }
    }

    fn is_lossless(&self) -> bool {
        !matches!(self.op, Op::LossyRecvRef | Op::Evicted)
    }

    /// Publishes a message. Returns false if there was no room within `patience`.
    fn publish(&mut self, patience: Duration) -> Result<bool, String> {
        let value = self.subscriber.position();
        match self.publisher.publish_timeout(value, patience) {
            Ok(()) if self.subscriber.try_recv() == Ok(value) => Ok(true),
            Ok(()) => Err(format!("{value} was published and not received")),
            Err(SendError::Full(_)) => Ok(false),
            Err(error) => Err(format!("publish: {error}")),
        }
    }
}

impl Scene for Receiving {
    fn prepare(&mut self) {
        let subscribe = match self.op {
            Op::LossyRecvRef => Topic::subscribe,
            _ => Topic::subscribe_lossless,
        };
        match self.op {
            // The first use in a forked process attaches it, which is a scene of its own.
            Op::Subscribe => drop(self.topic.subscribe(From::Latest).unwrap()),
            _ => self.own = Some(subscribe(self.topic, From::Earliest).unwrap()),
        }
        if self.op == Op::Evicted {
            let publisher = self.topic.publisher();
            (2..2 + EVICTING).for_each(|value| publisher.try_publish(value).unwrap());
        }
    }

    fn act(&mut self) {
        let report = self.report;
        match (self.op, &mut self.own) {
            (Op::Subscribe, own) => {
                *own = self.topic.subscribe_lossless(From::Earliest).ok();
                own.iter_mut().for_each(|own| report.receive(own, false, 100));
            }
            (Op::Unsubscribe, own) => *own = None,
            (Op::Recv, Some(own)) => report.receive(own, false, 1),
            (Op::RecvRef | Op::LossyRecvRef, Some(own)) => report.receive(own, true, 1),
            (Op::Evicted, Some(own)) => report.receive(own, false, 100),
            (_, None) => {}
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.op == Op::Evicted {
            // The messages that the child has published in `prepare`.
            while self.subscriber.position() < 2 + EVICTING {
                _ = self.subscriber.try_recv();
            }
        }
        let patience = if end == End::Stopped { Duration::ZERO } else { PATIENCE };
        for count in 0..20 {
            if !self.publish(patience)? {
                match end {
                    End::Stopped if self.is_lossless() => break,
                    _ => return Err(format!("the publisher was held up after {count} messages")),
                }
            }
        }
        let [received, lost, wrong] =
            [&self.report.received, &self.report.lost, &self.report.wrong].map(|word| word.load(SeqCst));
        if wrong > 0 || self.is_lossless() && lost > 0 {
            return Err(format!("the child received {wrong} wrong messages, and lost {lost}"));
        }
        let is_as_expected = received > 0 && (lost > 0 || self.op != Op::Evicted);
        if end == End::Finished && !matches!(self.op, Op::Unsubscribe | Op::LossyRecvRef) && !is_as_expected {
            return Err(format!("the child received {received} messages, and lost {lost}"));
        }
        if end == End::Stopped {
            return Ok(());
        }
        let mut all = Vec::new();
        until("all lines come back", || {
            all.extend(std::iter::from_fn(|| self.topic.subscribe(From::Latest).ok()));
            all.len() == 63
        })
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.subscriber)
    }
}

/// The child publishes, and a lossless subscriber lags.
struct Publishing {
    topic: &'static Topic<u64>,
    publisher: Publisher<u64>,
    policy: Policy,
    /// The survivor's; under `Block` the waker has the lossless one.
    laggard: Subscriber<u64>,
    waker: Option<Waker>,
    report: &'static Report,
    /// Whether the laggard has received the child's message.
    has_childs: bool,
    /// The number of messages that the laggard has received.
    received: u64,
    /// The survivor's next message.
    next: u64,
}

/// The capacity, and the number of messages that the laggard has not received.
const UNREAD: u64 = 2;

impl Publishing {
    fn new(policy: Policy) -> Publishing {
        let topic = leaked(Topic::<u64>::builder(UNREAD as usize).policy(policy).build().unwrap());
        let publisher = topic.publisher();
        let is_waited_for = policy == Policy::Block;
        let laggard = match is_waited_for {
            true => topic.subscribe(From::Latest).unwrap(),
            false => topic.subscribe_lossless(From::Latest).unwrap(),
        };
        let waker = is_waited_for.then(|| {
            Waker::holding(
                || topic.subscribe_lossless(From::Latest).unwrap(),
                |mut held| assert_eq!(held.recv(), Ok(0)),
            )
        });
        (0..UNREAD).for_each(|value| publisher.publish(value).unwrap());
        let report = shared();
        let (has_childs, received, next) = (false, 0, UNREAD);
        Publishing { topic, publisher, policy, laggard, waker, report, has_childs, received, next }
    }

    /// Receives the messages that have arrived, and checks them.
    fn drain(&mut self) -> Result<Vec<u64>, String> {
        let mut all = Vec::new();
        loop {
            let was_lossless = self.laggard.is_lossless();
            match self.laggard.try_recv() {
                Ok(SENT) if self.has_childs => return Err("received the child's message twice".into()),
                Ok(value) => {
                    self.has_childs |= value == SENT;
                    all.push(value);
                }
                Err(RecvError::Empty) => return Ok(all),
                Err(RecvError::Lagged(1..)) if self.policy != Policy::Fail && !was_lossless => {}
                Err(error) => return Err(format!("the laggard receives {error:?} after {all:?}")),
            }
        }
    }
}

impl Scene for Publishing {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it.
        drop(self.topic.subscribe(From::Latest).unwrap());
        self.waker.iter().for_each(Waker::watch_me);
    }

    fn act(&mut self) {
        match self.policy {
            Policy::Block => _ = self.publisher.publish(SENT),
            _ => {
                if let Err(SendError::Lagging(_, laggard)) = self.publisher.try_publish(SENT) {
                    self.report.pid.store(laggard.pid().into(), SeqCst);
                }
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end != End::Stopped {
            self.waker.take().map_or(Ok(false), |mut waker| waker.finish())?;
        }
        let seen = self.drain()?;
        let is_ordered = seen.iter().filter(|value| **value != SENT).is_sorted();
        self.received += seen.len() as u64;
        if !is_ordered || self.received + self.laggard.lost() < UNREAD {
            return Err(format!("received {seen:?}, lost {}", self.laggard.lost()));
        }
        match (end, self.policy) {
            (End::Finished, Policy::Fail) => {
                let pid = self.report.pid.load(SeqCst);
                let is_named = pid == u64::from(std::process::id()) || self.next != UNREAD;
                if !is_named || self.laggard.lost() > 0 {
                    return Err(format!("process {pid} was blamed, {} lost", self.laggard.lost()));
                }
            }
            (End::Finished, _) if !self.has_childs => {
                return Err("publish has returned, and its message was not received".into());
            }
            _ => {}
        }
        if end == End::Stopped && self.policy == Policy::Block {
            return Ok(()); // the waker's subscriber lags
        }
        for _ in 0..10 {
            let value = self.next;
            self.next += 1;
            let sent = self.publisher.publish_timeout(value, PATIENCE);
            sent.map_err(|error| format!("publish: {error}"))?;
            let seen = self.drain()?;
            if !seen.contains(&value) {
                return Err(format!("received {seen:?}, not {value}"));
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.laggard)
    }
}

/// The topic ends with the child's publishers.
struct Ending {
    topic: &'static Topic<u64>,
    /// Whether the child adds a publisher before its first one leaves.
    joins: bool,
    subscriber: Subscriber<u64>,
    publisher: Option<Publisher<u64>>,
    sleeper: Option<Helper>,
    received: u64,
}

impl Ending {
    fn new(joins: bool) -> Ending {
        let topic = leaked(Topic::<u64>::builder(4).ends_with_publishers(true).build().unwrap());
        let subscriber = topic.subscribe(From::Latest).unwrap();
        // It counts the messages until the topic ends, and adds 1.
        let sleeper = Helper::start_blocked(|| {
            let mut subscriber = topic.subscribe(From::Latest).unwrap();
            1 + subscriber.iter().count() as u64
        });
        Ending { topic, joins, subscriber, publisher: None, sleeper: Some(sleeper), received: 0 }
    }
}

impl Scene for Ending {
    fn prepare(&mut self) {
        let publisher = self.topic.publisher();
        publisher.publish(0).unwrap();
        self.publisher = Some(publisher);
    }

    fn act(&mut self) {
        if self.joins {
            let other = self.publisher.clone();
            self.publisher = None;
            other.iter().for_each(|other| _ = other.publish(1));
        } else {
            self.publisher = None;
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let patience = if end == End::Stopped { Duration::from_millis(60) } else { PATIENCE };
        let result = loop {
            match self.subscriber.recv_timeout(patience) {
                Ok(value) if value == self.received => self.received += 1,
                other => break other,
            }
        };
        let all = 1 + u64::from(self.joins);
        match result {
            Err(RecvError::Empty) if end == End::Stopped => return Ok(()),
            Err(RecvError::Closed) if self.received == all || end != End::Finished => {}
            other => return Err(format!("after {} messages: {other:?}", self.received)),
        }
        if end == End::Stopped {
            return match self.topic.publisher().publish(9) {
                Err(error) if error.is_closed() => Ok(()),
                other => Err(format!("it has ended, but publish returns {other:?}")),
            };
        }
        let counted = self.sleeper.take().map_or(Ok(1 + self.received), Helper::outcome)?;
        (counted == 1 + self.received).then_some(()).ok_or(format!("the sleeper counted {counted}"))
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.subscriber)
    }
}
