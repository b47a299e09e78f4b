//! Scenes of the SPSC ring and the pipe: one end is in the child, which is killed, the other one
//! here, or in a third process.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::pipe::{Connection, PipeError};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::Segment;

use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe {
            name: "spsc: send",
            build: || Box::new(Sending::new(&[7], |p| _ = p.as_mut().map(|p| p.try_send(7)))),
        },
        Recipe {
            name: "spsc: loan and send",
            build: || {
                Box::new(Sending::new(&[7], |producer| {
                    if let Some(Ok(mut loan)) = producer.as_mut().map(|producer| producer.try_loan()) {
                        *loan = 7;
                        loan.send();
                    }
                }))
            },
        },
        Recipe {
            name: "spsc: send a batch",
            build: || Box::new(Sending::new(&[7, 8], |p| _ = p.as_mut().map(|p| p.try_send_batch(&[7, 8])))),
        },
        Recipe {
            name: "spsc: write a chunk",
            build: || {
                Box::new(Sending::new(&[7, 8], |p| {
                    if let Some(Ok(chunk)) = p.as_mut().map(|p| p.try_chunk(2)) {
                        chunk.fill_from([7, 8]);
                    }
                }))
            },
        },
        Recipe {
            name: "spsc: close the sending end",
            build: || Box::new(Sending::new(&[], |producer| drop(producer.take()))),
        },
        Recipe {
            name: "spsc: recv",
            build: || Box::new(Receiving::new(|c| _ = c.as_mut().map(Consumer::try_recv))),
        },
        Recipe {
            name: "spsc: recv in place",
            build: || {
                Box::new(Receiving::new(|c| _ = c.as_mut().map(|c| c.try_recv_ref().map(|slot| *slot))))
            },
        },
        Recipe {
            name: "spsc: recv a batch",
            build: || {
                Box::new(Receiving::new(|c| {
                    let mut into = Vec::with_capacity(2);
                    let _ = c.as_mut().map(|c| c.try_recv_batch(&mut into, 2));
                }))
            },
        },
        Recipe {
            name: "spsc: recv a chunk",
            build: || {
                Box::new(Receiving::new(|c| _ = c.as_mut().map(|c| c.try_chunk(2).map(|c| c.release(2)))))
            },
        },
        Recipe {
            name: "spsc: close the receiving end",
            build: || {
                let receiving = Receiving::new(|consumer| drop(consumer.take()));
                Box::new(Receiving { closes: true, ..receiving })
            },
        },
        Recipe {
            name: "pipe: send bytes",
            build: || Box::new(Piping::new(1, |c| _ = c.as_mut().map(|c| c.try_send_bytes(&[7; 40])))),
        },
        Recipe {
            name: "pipe: send a message",
            build: || Box::new(Piping::new(1, |c| _ = c.as_mut().map(|c| c.try_send(&7u64)))),
        },
        Recipe {
            name: "pipe: recv bytes",
            build: || Box::new(Piping::new(0, |c| _ = c.as_mut().map(Connection::try_recv_bytes))),
        },
        Recipe {
            name: "pipe: close",
            build: || Box::new(Piping::new(0, |connection| drop(connection.take()))),
        },
        Recipe { name: "pipe: send more than the ring holds", build: || Box::new(Large::new(true)) },
        Recipe { name: "pipe: recv more than the ring holds", build: || Box::new(Large::new(false)) },
    ]
}

/// Creates a segment with a new name, in which the two sides meet.
fn meeting() -> (Segment, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-crash-ring-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    (Segment::create(name.as_str(), 1 << 20).unwrap(), name)
}

/// The child sends, and the survivor receives.
struct Sending {
    _segment: Segment,
    name: String,
    consumer: Consumer<u64>,
    producer: Option<Producer<u64>>,
    op: fn(&mut Option<Producer<u64>>),
    /// The messages of the operation.
    sends: &'static [u64],
    received: Vec<u64>,
}

impl Sending {
    fn new(sends: &'static [u64], op: fn(&mut Option<Producer<u64>>)) -> Sending {
        let (segment, name) = meeting();
        let consumer = Consumer::create(segment.at("ring"), 3).unwrap();
        Sending { _segment: segment, name, consumer, producer: None, op, sends, received: Vec::new() }
    }
}

impl Scene for Sending {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        let mut producer = Producer::open(segment.at("ring")).unwrap();
        producer.try_send(1).unwrap();
        self.producer = Some(producer);
    }

    fn act(&mut self) {
        (self.op)(&mut self.producer);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            while let Ok(value) = self.consumer.try_recv() {
                self.received.push(value);
            }
            return match self.consumer.recv_timeout(Duration::from_millis(1)) {
                Err(RecvError::Empty) => Ok(()),
                Err(RecvError::Closed) if self.sends.is_empty() => Ok(()),
                other => Err(format!("the stopped process is not dead, but recv returns {other:?}")),
            };
        }
        // Receives everything that was sent, then the end, because the producer is gone.
        loop {
            match self.consumer.recv_timeout(PATIENCE) {
                Ok(value) => self.received.push(value),
                Err(RecvError::Closed) => break,
                Err(error) => return Err(format!("after {:?}: {error:?}", self.received)),
            }
        }
        let is_complete = self.received == [&[1], self.sends].concat();
        let possible = is_complete || end == End::Killed && self.received == [1];
        possible.then_some(()).ok_or(format!("received {:?}", self.received))
    }

    fn words(&self) -> String {
        format!("{} in the ring", self.consumer.len())
    }
}

/// The child receives, and the survivor sends.
struct Receiving {
    _segment: Segment,
    name: String,
    producer: Producer<u64>,
    consumer: Option<Consumer<u64>>,
    op: fn(&mut Option<Consumer<u64>>),
    /// Whether the operation closes the ring.
    closes: bool,
}

impl Receiving {
    fn new(op: fn(&mut Option<Consumer<u64>>)) -> Receiving {
        let (segment, name) = meeting();
        let mut producer = Producer::create(segment.at("ring"), 3).unwrap();
        (0..3).for_each(|value| producer.try_send(value).unwrap());
        Receiving { _segment: segment, name, producer, consumer: None, op, closes: false }
    }
}

impl Scene for Receiving {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        self.consumer = Some(Consumer::open(segment.at("ring")).unwrap());
    }

    fn act(&mut self) {
        (self.op)(&mut self.consumer);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            return match self.producer.try_send(9) {
                Ok(()) | Err(SendError::Full(9)) => Ok(()),
                // The child may have been about to close the ring. Then it has closed it itself.
                Err(SendError::Closed(9)) if self.closes => Ok(()),
                other => Err(format!("the stopped process is not dead, but send returns {other:?}")),
            };
        }
        loop {
            match self.producer.send_timeout(9, PATIENCE) {
                Ok(()) => {}
                Err(SendError::Closed(9)) => return Ok(()),
                Err(error) => return Err(format!("the receiver is dead, but send returns {error:?}")),
            }
        }
    }

    fn words(&self) -> String {
        format!("{} in the ring", self.producer.len())
    }
}

/// The child has the other end of a duplex pipe.
struct Piping {
    _segment: Segment,
    name: String,
    here: Connection,
    there: Option<Connection>,
    op: fn(&mut Option<Connection>),
    /// The number of messages that the operation sends.
    sends: usize,
    received: Vec<usize>,
}

impl Piping {
    fn new(sends: usize, op: fn(&mut Option<Connection>)) -> Piping {
        let (segment, name) = meeting();
        let mut here = Connection::create_with_capacity(segment.at("pipe"), 512).unwrap();
        here.send_bytes(b"hello").unwrap();
        Piping { _segment: segment, name, here, there: None, op, sends, received: Vec::new() }
    }

    /// Receives any one message, and checks that it is whole.
    fn receive(&mut self, patience: Duration) -> Result<(), PipeError> {
        match self.here.recv_bytes_timeout(patience) {
            Ok(bytes) => {
                assert!(bytes == [7; 40] || bytes == 7u64.to_le_bytes(), "torn: {bytes:?}");
                self.received.push(bytes.len());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Scene for Piping {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        self.there = Some(Connection::open(segment.at("pipe")).unwrap());
    }

    fn act(&mut self) {
        (self.op)(&mut self.there);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            while self.receive(Duration::ZERO).is_ok() {}
            return match self.receive(Duration::from_millis(1)) {
                Err(PipeError::TimedOut) | Ok(()) => Ok(()),
                Err(PipeError::Closed) if self.sends == 0 => Ok(()),
                Err(error) => Err(format!("the stopped process is not dead, but recv returns {error:?}")),
            };
        }
        loop {
            match self.receive(PATIENCE) {
                Ok(()) => {}
                Err(PipeError::Closed) => break,
                Err(error) => return Err(format!("no end of file: {error:?}")),
            }
        }
        match self.here.send_bytes(b"x") {
            Err(PipeError::Closed) => {}
            other => return Err(format!("no broken pipe: {other:?}")),
        }
        let count = self.received.len();
        let is_well = count == self.sends || end == End::Killed && count < self.sends;
        is_well.then_some(()).ok_or(format!("received {:?}", self.received))
    }

    fn words(&self) -> String {
        format!("received {:?}", self.received)
    }
}

/// A message larger than the ring of 512 bytes.
const LARGE: [u8; 1200] = [7; 1200];
/// Outcomes of the other end: messages were received (this and their number), one was sent, or the
/// child was dead.
const RECEIVED: u64 = 100;
const SENT: u64 = 1;
const CLOSED: u64 = 2;

/// A message in parts. The other end is a process of its own, because both ends must run at the
/// same time.
struct Large {
    _segment: Segment,
    name: String,
    there: Option<Connection>,
    child_sends: bool,
    helper: Option<Helper>,
}

impl Large {
    fn new(child_sends: bool) -> Large {
        let (segment, name) = meeting();
        let helper = Helper::start(|| {
            let segment = Segment::open(name.as_str()).unwrap();
            let mut here = Connection::create_with_capacity(segment.at("pipe"), 512).unwrap();
            if !child_sends {
                return match here.send_bytes(&LARGE) {
                    Ok(()) => SENT,
                    Err(PipeError::Closed) => CLOSED,
                    Err(error) => panic!("{error:?}"),
                };
            }
            let mut outcome = RECEIVED;
            loop {
                match here.recv_bytes() {
                    Ok(bytes) => assert!(bytes == LARGE, "torn"),
                    Err(PipeError::Closed) => return outcome,
                    Err(error) => panic!("{error:?}"),
                }
                outcome += 1;
            }
        });
        Large { _segment: segment, name, there: None, child_sends, helper: Some(helper) }
    }
}

impl Scene for Large {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        until("the other end is there", || {
            self.there = Connection::open(segment.at("pipe")).ok();
            self.there.is_some()
        })
        .unwrap();
    }

    fn act(&mut self) {
        match &mut self.there {
            Some(there) if self.child_sends => there.send_bytes(&LARGE).unwrap(),
            Some(there) => assert!(there.recv_bytes().unwrap() == LARGE, "torn"),
            None => {}
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            let is_over = self.child_sends && self.helper.as_mut().is_some_and(Helper::has_ended);
            return (!is_over).then_some(()).ok_or("end of file, but the stopped process is not dead".into());
        }
        let Some(helper) = self.helper.take() else { return Ok(()) };
        let outcome = helper.outcome()?;
        let is_well = match (self.child_sends, end) {
            (true, End::Finished) => outcome == RECEIVED + 1,
            (true, _) => [RECEIVED, RECEIVED + 1].contains(&outcome),
            (false, End::Finished) => outcome == SENT,
            (false, _) => [SENT, CLOSED].contains(&outcome),
        };
        is_well.then_some(()).ok_or(format!("the other end says {outcome}"))
    }

    fn words(&self) -> String {
        pagemate::inspect::segment(self.name.as_str())
            .map_or_else(|error| error.to_string(), |segment| format!("{:?}", segment.objects))
    }
}
