//! Scenes of participants: registering, also at the index of one that died while it held something,
//! and leaving. So these are the scenes of reaping, in which the reaper dies too.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::pipe::{Connection, PipeError};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::{inspect, Queue, Segment};

use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: u64 = 1 << 18;
const SLOTS: usize = 3;
/// The first value that nobody waits for.
const FILLERS: u64 = 2000;

/// What a dead participant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// A slot that it was to fill.
    Loan,
    /// The first message, in a queue without redelivery, or with it.
    Message,
    MessageAgain,
    RingProducer,
    RingConsumer,
    PipeEnd,
}

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $scene:expr;)*) => {
            vec![$(Recipe { name: $name, build: || Box::new($scene) }),*]
        };
    }
    recipes! {
        "participant: register": Reaping::new(Held::Nothing);
        "participant: register, and reap a queue's loan": Reaping::new(Held::Loan);
        "participant: register, and reap a queue's reader": Reaping::new(Held::Message);
        "participant: register, and reap with redelivery": Reaping::new(Held::MessageAgain);
        "participant: register, and reap a ring's producer": Reaping::new(Held::RingProducer);
        "participant: register, and reap a ring's consumer": Reaping::new(Held::RingConsumer);
        "participant: register, and reap a pipe's end": Reaping::new(Held::PipeEnd);
        "participant: open, and reap a queue's loan": Reaping::by_opening(Held::Loan);
        "participant: leave": Leaving::new(Held::Nothing);
        "participant: leave, holding a loan": Leaving::new(Held::Loan);
        "participant: leave, holding a message": Leaving::new(Held::MessageAgain);
    }
}

/// Creates a segment with a new name.
fn meeting() -> (Segment, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-crash-member-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    (Segment::create(name.as_str(), SIZE).unwrap(), name)
}

/// The survivor's side of a queue with two messages, 5 and 6, of which another process may take
/// one.
struct Watched {
    queue: Queue<u64>,
    held: Held,
    seen: Vec<u64>,
}

impl Watched {
    fn new(segment: &Segment, held: Held) -> Watched {
        let options = Queue::builder(SLOTS).redeliver(held == Held::MessageAgain);
        let queue: Queue<u64> = options.create(segment.at("queue")).unwrap();
        [5, 6].into_iter().for_each(|value| queue.try_send(value).unwrap());
        Watched { queue, held, seen: Vec::new() }
    }

    /// Takes a slot or a message and never releases it. Runs in the process that is to hold it.
    fn hold(queue: &Queue<u64>, held: Held) {
        match held {
            Held::Loan => std::mem::forget(queue.try_loan().unwrap()),
            Held::Message | Held::MessageAgain => std::mem::forget(queue.try_recv_ref().unwrap()),
            _ => {}
        }
    }

    /// Checks, after the holder is gone, that all slots come back and each message arrives once.
    fn check(&mut self) -> Result<(), String> {
        let (queue, seen) = (&self.queue, &mut self.seen);
        until("all slots come back", || {
            let mut drain = || {
                let all = std::iter::from_fn(|| queue.recv_timeout(Duration::from_millis(1)).ok());
                seen.extend(all.filter(|value| *value < FILLERS));
            };
            drain();
            let is_back = (0..SLOTS as u64).all(|value| queue.try_send(FILLERS + value).is_ok());
            drain();
            is_back
        })?;
        self.seen.sort_unstable();
        let all: &[u64] = if self.held == Held::Message { &[6] } else { &[5, 6] };
        (self.seen == all).then_some(()).ok_or(format!("received {:?} of {all:?}", self.seen))
    }
}

/// Checks that every participant is reaped in the end, so that only the survivor is left.
fn check_alone(name: &str, queue: &Queue<u64>) -> Result<(), String> {
    until("the dead are reaped", || {
        let _ = queue.recv_timeout(Duration::from_millis(1));
        inspect::segment(name).is_ok_and(|segment| segment.participants.len() == 1)
    })
}

/// The child becomes a participant, at the index of one that died.
struct Reaping {
    name: String,
    _segment: Segment,
    /// An empty queue.
    door: Queue<u64>,
    watched: Watched,
    held: Held,
    /// Whether the child opens the segment by its name.
    opens: bool,
    consumer: Option<Consumer<u64>>,
    producer: Option<Producer<u64>>,
    here: Option<Connection>,
    /// Whether the messages of the dead process have been received.
    has_received: bool,
}

impl Reaping {
    fn new(held: Held) -> Reaping {
        let (segment, name) = meeting();
        let watched = Watched::new(&segment, held);
        let door = Queue::create(segment.at("door"), 1).unwrap();
        let consumer =
            (held == Held::RingProducer).then(|| Consumer::create(segment.at("ring"), SLOTS).unwrap());
        let producer =
            (held == Held::RingConsumer).then(|| Producer::create(segment.at("ring"), SLOTS).unwrap());
        let here = (held == Held::PipeEnd)
            .then(|| Connection::create_with_capacity(segment.at("pipe"), 512).unwrap());
        if held != Held::Nothing {
            Helper::die_after(|| Self::hold(&name, held));
        }
        Reaping {
            name,
            _segment: segment,
            door,
            watched,
            held,
            opens: false,
            consumer,
            producer,
            here,
            has_received: false,
        }
    }

    fn by_opening(held: Held) -> Reaping {
        Reaping { opens: true, ..Reaping::new(held) }
    }

    /// Attaches and takes what it is to hold. Runs in the process that dies.
    fn hold(name: &str, held: Held) {
        let segment = Segment::open(name).unwrap();
        let queue = Queue::open(segment.at("queue")).unwrap();
        Watched::hold(&queue, held);
        match held {
            Held::RingProducer => {
                let mut producer = Producer::<u64>::open(segment.at("ring")).unwrap();
                producer.try_send(1).unwrap();
                std::mem::forget(producer);
            }
            Held::RingConsumer => {
                std::mem::forget(Consumer::<u64>::open(segment.at("ring")).unwrap());
            }
            Held::PipeEnd => {
                let mut there = Connection::open(segment.at("pipe")).unwrap();
                there.try_send_bytes(b"bye").unwrap();
                std::mem::forget(there);
            }
            _ => {}
        }
        std::mem::forget((segment, queue));
    }

    fn check_ring(&mut self) -> Result<(), String> {
        if let Some(consumer) = &mut self.consumer {
            if !std::mem::replace(&mut self.has_received, true) && consumer.recv_timeout(PATIENCE) != Ok(1) {
                return Err("a message of the dead process is gone".into());
            }
            match consumer.recv_timeout(PATIENCE) {
                Err(RecvError::Closed) => {}
                other => return Err(format!("the producer is dead, but recv returns {other:?}")),
            }
        }
        if let Some(producer) = &mut self.producer {
            loop {
                match producer.send_timeout(9, PATIENCE) {
                    Ok(()) => {}
                    Err(SendError::Closed(9)) => break,
                    other => return Err(format!("the consumer is dead, but send returns {other:?}")),
                }
            }
        }
        if let Some(here) = &mut self.here {
            if !std::mem::replace(&mut self.has_received, true)
                && !here.recv_bytes_timeout(PATIENCE).is_ok_and(|bytes| bytes == b"bye")
            {
                return Err("a message of the dead process is gone".into());
            }
            match here.recv_bytes_timeout(PATIENCE) {
                Err(PipeError::Closed) => {}
                other => return Err(format!("no end of file: {other:?}")),
            }
            // The end of file may be here before the other direction is closed, because a reaper
            // may be between the two.
            loop {
                match here.send_bytes_timeout(&[0; 100], PATIENCE) {
                    Ok(()) => {}
                    Err(PipeError::Closed) => break,
                    other => return Err(format!("no broken pipe: {other:?}")),
                }
            }
        }
        Ok(())
    }
}

impl Scene for Reaping {
    fn act(&mut self) {
        if self.opens {
            std::mem::forget(Segment::open(self.name.as_str()));
            return;
        }
        // The first use in a forked process attaches it.
        let _ = self.door.try_recv();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // A stopped reaper keeps no other from what the dead process held.
        self.check_ring()?;
        self.watched.check()?;
        if end == End::Stopped {
            return Ok(());
        }
        check_alone(&self.name, &self.watched.queue)
    }

    fn words(&self) -> String {
        format!("{:?} of the dead process; {:?}", self.held, self.watched.queue)
    }
}

/// The child leaves while it holds something.
struct Leaving {
    name: String,
    _segment: Segment,
    watched: Watched,
    held: Held,
    of_child: Option<(Segment, Queue<u64>)>,
}

impl Leaving {
    fn new(held: Held) -> Leaving {
        let (segment, name) = meeting();
        let watched = Watched::new(&segment, held);
        Leaving { name, _segment: segment, watched, held, of_child: None }
    }
}

impl Scene for Leaving {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        let queue = Queue::open(segment.at("queue")).unwrap();
        Watched::hold(&queue, self.held);
        self.of_child = Some((segment, queue));
    }

    fn act(&mut self) {
        self.of_child = None;
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // If the child still exists, nothing is taken from it.
            let value = self.watched.queue.recv_timeout(PATIENCE).map_err(|e| format!("recv: {e:?}"))?;
            self.watched.seen.push(value);
            return Ok(());
        }
        self.watched.check()?;
        check_alone(&self.name, &self.watched.queue)
    }

    fn words(&self) -> String {
        format!("{:?}; {:?}", self.held, self.watched.queue)
    }
}
