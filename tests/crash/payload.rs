//! Scenes of queues whose messages are in blocks: each operation, with and without redelivery, and
//! with a position to skip. At the end every message is there as often as was promised, and the
//! quota is wholly free.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pagemate::queue::spsc::{self, Consumer, Producer};
use pagemate::queue::{Loan, RecvError};
use pagemate::{inspect, Queue, Segment};

use crate::{End, Recipe, Scene};

/// The child's message. Those that are in the queue before are 0, 1, 2 ...
const SENT: u64 = 77;
/// The survivors' messages.
const OTHERS: std::ops::Range<u64> = 1000..1010;
/// Elements of a message that needs a block.
const LEN: usize = 30;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Send,
    SendShort,
    Loan,
    LoanDropped,
    ForceSend,
    Recv,
    RecvRef,
    RecvInto,
}

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $op:ident, $capacity:literal, $before:literal, $redeliver:literal;)*) => {
            vec![$(Recipe {
                name: $name,
                build: || Box::new(Exchange::new(Op::$op, $capacity, $before, $redeliver)),
            }),*]
        };
    }
    let mut all = recipes! {
        "payload: send, 2 slots, empty": Send, 2, 0, false;
        "payload: send, 3 slots, 1 message": Send, 3, 1, false;
        "payload: send, 1 slot, full": Send, 1, 1, false;
        "payload: send of a short message, 3 slots": SendShort, 3, 1, false;
        "payload: loan and send, 3 slots, 1 message": Loan, 3, 1, false;
        "payload: loan dropped, 2 slots, 1 message": LoanDropped, 2, 1, false;
        "payload: force_send, 2 slots, full": ForceSend, 2, 2, false;
        "payload: force_send, 3 slots, 1 message": ForceSend, 3, 1, false;
        "payload: recv, 3 slots, 2 messages": Recv, 3, 2, false;
        "payload: recv with redelivery, 2 slots, full": Recv, 2, 2, true;
        "payload: recv_ref and drop, 2 slots, 1 message": RecvRef, 2, 1, false;
        "payload: recv_ref and drop, redelivery, 3 slots": RecvRef, 3, 2, true;
        "payload: recv_into, 3 slots, 2 messages": RecvInto, 3, 2, false;
    };
    all.push(Recipe { name: "payload: send of a revoked loan, 4 slots", build: || Box::new(Revoked::new()) });
    all.push(Recipe {
        name: "payload: send through a ring",
        build: || Box::new(Ring::new(|producer| _ = producer.try_send(&[SENT; LEN]))),
    });
    all.push(Recipe {
        name: "payload: loan of a ring, dropped, and send",
        build: || {
            Box::new(Ring::new(|producer| {
                drop(producer.try_loan(LEN));
                let _ = producer.try_send(&[SENT; LEN]);
            }))
        },
    });
    all
}

fn long(value: u64) -> Vec<u64> {
    vec![value; LEN]
}

struct Exchange {
    queue: &'static Queue<[u64]>,
    op: Op,
    before: u64,
    redeliver: bool,
    seen: Vec<u64>,
}

impl Exchange {
    fn new(op: Op, capacity: usize, before: u64, redeliver: bool) -> Exchange {
        let queue = Queue::builder(capacity).redeliver(redeliver).build().unwrap();
        let queue: &'static Queue<[u64]> = Box::leak(Box::new(queue));
        (0..before).for_each(|value| queue.try_send(&long(value)).unwrap());
        Exchange { queue, op, before, redeliver, seen: Vec::new() }
    }

    fn see(&mut self, message: Result<Vec<u64>, RecvError>) -> Result<u64, String> {
        let message = message.map_err(|error| format!("recv: {error}"))?;
        match message.first() {
            Some(first) if message.iter().all(|value| value == first) => {
                self.seen.push(*first);
                Ok(*first)
            }
            _ => Err(format!("torn: {message:?}")),
        }
    }

    fn drain(&mut self) -> Result<(), String> {
        loop {
            match self.queue.recv_timeout(Duration::from_millis(1)) {
                Err(RecvError::Empty) => return Ok(()),
                message => _ = self.see(message)?,
            }
        }
    }

    /// Checks that every block and every slot comes back.
    fn check_whole(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            self.drain()?;
            let slots = self.queue.capacity();
            let is_free = self.queue.quota_in_use() == 0;
            if is_free && (0..slots).all(|_| self.queue.try_send(&[OTHERS.end]).is_ok()) {
                return self.drain();
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{} bytes or a slot did not come back", self.queue.quota_in_use()));
            }
        }
    }

    fn verdict(&self, end: End) -> Result<(), String> {
        let mine: Vec<u64> = self.seen.iter().copied().filter(|value| *value < OTHERS.start).collect();
        let sends = matches!(self.op, Op::Send | Op::SendShort | Op::Loan | Op::ForceSend);
        let receives = matches!(self.op, Op::Recv | Op::RecvRef | Op::RecvInto);
        let is_full = self.before == self.queue.capacity() as u64;
        let mut sorted = mine.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let is_known = |value: &u64| *value < self.before || sends && *value == SENT;
        if sorted.len() != mine.len() || !mine.iter().all(is_known) {
            return Err(format!("received {mine:?}"));
        }
        let missing = (0..self.before).filter(|value| !mine.contains(value)).collect::<Vec<_>>();
        // One may be gone with the child, or received or replaced by it. With redelivery it is gone
        // only if the child has acknowledged it.
        let replaces = self.op == Op::ForceSend && is_full;
        let may_miss = usize::from(receives || replaces);
        if missing.len() > may_miss || missing.iter().any(|value| *value > 0) {
            return Err(format!("{missing:?} got lost; received {mine:?}"));
        }
        let is_sent = mine.contains(&SENT);
        if end == End::Finished && sends && !is_sent && (!is_full || replaces) {
            return Err(format!("a send has returned; received {mine:?}"));
        }
        if self.redeliver && self.queue.lost() > 0 {
            return Err("lost, with redelivery".into());
        }
        Ok(())
    }
}

impl Scene for Exchange {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        if self.before == 0 {
            assert!(self.queue.try_recv().is_err());
        }
        for _ in 0..self.before {
            let value = self.queue.try_recv().unwrap();
            self.queue.try_send(&value).unwrap();
        }
    }

    fn act(&mut self) {
        let message = [SENT; LEN];
        match self.op {
            Op::Send => _ = self.queue.try_send(&message),
            Op::SendShort => _ = self.queue.try_send(&message[..3]),
            Op::Loan => {
                if let Ok(room) = self.queue.try_loan(LEN) {
                    let _ = room.write_slice(&message).try_send();
                }
            }
            Op::LoanDropped => drop(self.queue.try_loan(LEN)),
            Op::ForceSend => self.queue.force_send(&message, |oldest| assert_eq!(oldest, [0; LEN])).unwrap(),
            Op::Recv => _ = self.queue.try_recv(),
            Op::RecvRef => _ = self.queue.try_recv_ref().as_deref(),
            Op::RecvInto => _ = self.queue.try_recv_into(&mut Vec::new()),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            if self.queue.capacity() == 1 {
                return Ok(()); // The stopped child may hold the only slot.
            }
            self.drain()?;
            for value in OTHERS {
                self.queue
                    .send_timeout(&long(value), PATIENCE)
                    .map_err(|error| format!("a stopped process blocks send: {error:?}"))?;
                while {
                    let message = self.queue.recv_timeout(PATIENCE);
                    self.see(message)? != value
                } {}
            }
            return Ok(());
        }
        self.check_whole()?;
        if self.seen.iter().any(|value| OTHERS.contains(value)) {
            return Ok(()); // others have received while the child was stopped
        }
        self.verdict(end)
    }

    fn words(&self) -> String {
        format!("{:?}, {} bytes in use", self.queue, self.queue.quota_in_use())
    }
}

/// A loan whose position a receiver has skipped, because a later message was sent. Its sender moves
/// it to another slot.
struct Revoked {
    loan: Option<Loan<'static, [u64]>>,
    inner: Exchange,
}

impl Revoked {
    fn new() -> Revoked {
        Revoked { loan: None, inner: Exchange::new(Op::Send, 4, 0, false) }
    }
}

impl Scene for Revoked {
    fn prepare(&mut self) {
        self.inner.prepare();
        let queue = self.inner.queue;
        self.loan = Some(queue.try_loan(LEN).unwrap().write_slice(&[SENT; LEN]));
        queue.try_send(&long(5)).unwrap();
        assert_eq!(queue.try_recv().unwrap(), long(5));
    }

    fn act(&mut self) {
        if let Some(loan) = self.loan.take() {
            let _ = loan.try_send();
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.inner.check(end)
    }

    fn words(&self) -> String {
        self.inner.words()
    }
}

/// The child sends through a ring of one producer and one consumer, and the survivor receives.
struct Ring {
    _segment: Segment,
    name: String,
    consumer: Consumer<[u64]>,
    producer: Option<Producer<[u64]>>,
    op: fn(&mut Producer<[u64]>),
    received: Vec<u64>,
}

impl Ring {
    fn new(op: fn(&mut Producer<[u64]>)) -> Ring {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("crash-payload-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let segment = Segment::create(name.as_str(), 4 << 20).unwrap();
        let consumer = spsc::builder(3).create_consumer(segment.at("ring")).unwrap();
        Ring { _segment: segment, name, consumer, producer: None, op, received: Vec::new() }
    }

    fn in_use(&self) -> String {
        let segment = inspect::segment(self.name.as_str()).unwrap();
        let state = &segment.objects[0].state;
        state.iter().find(|(label, _)| *label == "quota in use").unwrap().1.clone()
    }
}

impl Scene for Ring {
    fn prepare(&mut self) {
        let segment = Segment::open(self.name.as_str()).unwrap();
        let mut producer = Producer::<[u64]>::open(segment.at("ring")).unwrap();
        producer.try_send(&[1; LEN]).unwrap();
        self.producer = Some(producer);
    }

    fn act(&mut self) {
        if let Some(producer) = &mut self.producer {
            (self.op)(producer);
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        loop {
            let patience = if end == End::Stopped { Duration::from_millis(1) } else { PATIENCE };
            match self.consumer.recv_timeout(patience) {
                Ok(message) if message.len() == LEN && message.iter().all(|value| *value == message[0]) => {
                    self.received.push(message[0]);
                }
                Ok(message) => return Err(format!("torn: {message:?}")),
                Err(RecvError::Empty) if end == End::Stopped => return Ok(()),
                Err(RecvError::Closed) => break,
                Err(error) => return Err(format!("after {:?}: {error:?}", self.received)),
            }
        }
        let is_complete = self.received == [1, SENT];
        if !is_complete && (end == End::Finished || self.received != [1]) {
            return Err(format!("received {:?}", self.received));
        }
        (self.in_use() == "0").then_some(()).ok_or(format!("{} bytes did not come back", self.in_use()))
    }

    fn words(&self) -> String {
        format!("{} in the ring, {} bytes", self.consumer.len(), self.in_use())
    }
}
