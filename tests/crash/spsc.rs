//! Scenes of the SPSC ring and the pipe: one end in the child, which is killed; the other here.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::{Connection, Consumer, PipeError, Producer, RecvError, Segment, SendError};

use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "spsc: send", build: || Box::new(Sending::new(|producer| _ = producer.try_send(7))) },
        Recipe {
            name: "spsc: loan and send",
            build: || {
                Box::new(Sending::new(|producer| {
                    if let Ok(mut loan) = producer.try_loan() {
                        *loan = 7;
                        loan.send();
                    }
                }))
            },
        },
        Recipe {
            name: "spsc: send a batch",
            build: || Box::new(Sending::new(|p| _ = p.try_send_batch(&[7, 8]))),
        },
        Recipe { name: "spsc: recv", build: || Box::new(Receiving::new(|consumer| _ = consumer.try_recv())) },
        Recipe {
            name: "spsc: recv a chunk",
            build: || Box::new(Receiving::new(|consumer| _ = consumer.try_chunk(2))),
        },
        Recipe {
            name: "pipe: send bytes",
            build: || Box::new(Piping::new(|c| _ = c.try_send_bytes(&[7; 40]))),
        },
        Recipe { name: "pipe: send a message", build: || Box::new(Piping::new(|c| _ = c.try_send(&7u64))) },
        Recipe { name: "pipe: recv bytes", build: || Box::new(Piping::new(|c| _ = c.try_recv_bytes())) },
    ]
}

/// A segment of a new name, in which the two sides meet.
fn meeting() -> (Segment, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-crash-ring-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    (Segment::create(name.as_str(), 1 << 20).unwrap(), name)
}

/// The child sends, we receive.
struct Sending {
    _segment: Segment,
    name: String,
    consumer: Consumer<u64>,
    producer: Option<Producer<u64>>,
    op: fn(&mut Producer<u64>),
    received: Vec<u64>,
}

impl Sending {
    fn new(op: fn(&mut Producer<u64>)) -> Sending {
        let (segment, name) = meeting();
        let consumer = Consumer::create(segment.at("ring"), 3).unwrap();
        Sending { _segment: segment, name, consumer, producer: None, op, received: Vec::new() }
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
        if let Some(producer) = &mut self.producer {
            (self.op)(producer);
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            while let Ok(value) = self.consumer.try_recv() {
                self.received.push(value);
            }
            return match self.consumer.recv_timeout(Duration::from_millis(1)) {
                Err(RecvError::Empty) => Ok(()),
                other => Err(format!("the stopped one is not dead, but recv gives {other:?}")),
            };
        }
        // Everything sent, then the end, since its holder is gone.
        loop {
            match self.consumer.recv_timeout(PATIENCE) {
                Ok(value) => self.received.push(value),
                Err(RecvError::Closed) => break,
                Err(error) => return Err(format!("after {:?}: {error:?}", self.received)),
            }
        }
        let complete: &[&[u64]] = &[&[1, 7], &[1, 7, 8]];
        let possible =
            complete.contains(&self.received.as_slice()) || end == End::Killed && self.received == [1];
        possible.then_some(()).ok_or(format!("received {:?}", self.received))
    }

    fn words(&self) -> String {
        format!("{} in the ring", self.consumer.len())
    }
}

/// The child receives, we send.
struct Receiving {
    _segment: Segment,
    name: String,
    producer: Producer<u64>,
    consumer: Option<Consumer<u64>>,
    op: fn(&mut Consumer<u64>),
}

impl Receiving {
    fn new(op: fn(&mut Consumer<u64>)) -> Receiving {
        let (segment, name) = meeting();
        let mut producer = Producer::create(segment.at("ring"), 3).unwrap();
        (0..3).for_each(|value| producer.try_send(value).unwrap());
        Receiving { _segment: segment, name, producer, consumer: None, op }
    }
}

impl Scene for Receiving {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        self.consumer = Some(Consumer::open(segment.at("ring")).unwrap());
    }

    fn act(&mut self) {
        if let Some(consumer) = &mut self.consumer {
            (self.op)(consumer);
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            return match self.producer.try_send(9) {
                Ok(()) | Err(SendError::Full(9)) => Ok(()),
                other => Err(format!("the stopped one is not dead, but send gives {other:?}")),
            };
        }
        loop {
            match self.producer.send_timeout(9, PATIENCE) {
                Ok(()) => {}
                Err(SendError::Closed(9)) => return Ok(()),
                Err(error) => return Err(format!("the receiver is dead, but send gives {error:?}")),
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
    op: fn(&mut Connection),
    received: Vec<usize>,
}

impl Piping {
    fn new(op: fn(&mut Connection)) -> Piping {
        let (segment, name) = meeting();
        let mut here = Connection::create_with_capacity(segment.at("pipe"), 512).unwrap();
        here.send_bytes(b"hello").unwrap();
        Piping { _segment: segment, name, here, there: None, op, received: Vec::new() }
    }

    /// Receives what there is, whatever it is, and checks that it is whole.
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
        if let Some(connection) = &mut self.there {
            (self.op)(connection);
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            while self.receive(Duration::ZERO).is_ok() {}
            return match self.receive(Duration::from_millis(1)) {
                Err(PipeError::TimedOut) | Ok(()) => Ok(()),
                Err(error) => Err(format!("the stopped one is not dead, but recv gives {error:?}")),
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
        (self.received.len() <= 1).then_some(()).ok_or(format!("received {:?}", self.received))
    }

    fn words(&self) -> String {
        format!("received {:?}", self.received)
    }
}
