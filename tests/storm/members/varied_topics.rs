//! Topics of slices: messages of any length in a small quota, so publishers discard the oldest ones
//! all the time.
//!
//! A message is a letter as in [`topics`](super::topics), and words behind it, whose number and
//! values the ticket determines. The words of the board are those of `topics`.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, Policy, Publisher, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use super::topics::{enter, letter, unit, BEGUN, LEDGER, NEXT, ORDER, REFUSED};
use crate::board::{Fault, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

const QUOTA: u64 = 128 << 10;

/// Returns the message with this ticket.
fn message(ticket: u64, from: u64) -> Vec<u64> {
    let random = mix(ticket ^ 0x5eed);
    let len = match random % 8 {
        0 => random >> 8 & 0x7ff,
        1..4 => random >> 8 & 0xff,
        _ => 0,
    };
    let rest = (0..len).map(|word| mix(ticket.wrapping_add(word << 32)));
    letter(ticket, from).into_iter().chain(rest).collect()
}

struct Stream {
    topic: Topic<[u64]>,
    publisher: Publisher<[u64]>,
    subscriber: Option<Subscriber<[u64]>>,
    last: [u64; WORKERS],
    memory: Vec<u64>,
}

impl Stream {
    fn join(
        site: &Site,
        name: &'static str,
        capacity: usize,
        policy: Policy,
    ) -> pagemate::Result<Box<dyn Member>> {
        let builder = Topic::builder(capacity).policy(policy).quota(QUOTA);
        let (topic, _) = builder.open_or_create(site.segment.at(name))?;
        let publisher = topic.publisher();
        Ok(Box::new(Stream { publisher, topic, subscriber: None, last: [0; WORKERS], memory: Vec::new() }))
    }

    fn publish(&mut self, desk: &mut Desk) {
        let ticket = desk.words()[NEXT].fetch_add(1, SeqCst);
        if ticket as usize >= ORDER - LEDGER {
            return;
        }
        let line = &desk.words()[LEDGER + ticket as usize];
        let message = message(ticket, desk.slot as u64);
        line.store(BEGUN, SeqCst);
        let publisher = self.publisher.clone();
        let done = match desk.random.below(6) {
            0 | 1 => desk.act("try_publish", || publisher.try_publish(&message).map_err(unit)),
            2 | 3 => desk.timed("publish", |time| publisher.publish_timeout(&message, time).map_err(unit)),
            way => match desk.timed("loan", |time| publisher.loan_timeout(message.len(), time)) {
                Err(error) => Err(error),
                Ok(room) => {
                    let loan = room.write_slice(&message);
                    desk.dawdle();
                    if way == 4 && desk.random.one_in(4) {
                        desk.act("drop loan", || drop(loan));
                        Err(SendError::Full(()))
                    } else {
                        desk.timed("loan.publish", |time| loan.publish_timeout(time).map_err(unit))
                    }
                }
            },
        };
        if let Err(error) = done {
            line.fetch_or(REFUSED, SeqCst);
            if !error.is_full() {
                desk.fault(Fault::Broken, format!("publish: {error}"));
            }
        }
    }

    fn subscribe(&mut self, desk: &mut Desk) {
        self.subscriber = None;
        let from = [From::Latest, From::Earliest, From::Last(2)][desk.random.below(3) as usize];
        let topic = self.topic.clone();
        let subscriber = match desk.random.below(3) {
            0 => desk.act("subscribe_lossless", || topic.subscribe_lossless(from)),
            _ => desk.act("subscribe", || topic.subscribe(from)),
        };
        match subscriber {
            Ok(subscriber) => self.subscriber = Some(subscriber),
            // Publishers may always be faster.
            Err(error) if error.kind() == pagemate::ErrorKind::Busy => {}
            Err(error) => desk.fault(Fault::Broken, format!("subscribe: {error}")),
        }
        self.last = [0; WORKERS];
    }

    fn receive(&mut self, desk: &mut Desk) {
        let Some(subscriber) = &mut self.subscriber else { return };
        for _ in 0..1 + desk.random.below(8) {
            let (position, is_lossless) = (subscriber.position(), subscriber.is_lossless());
            let mut memory = std::mem::take(&mut self.memory);
            let received = match desk.random.below(4) {
                0 | 1 => desk.act("try_recv_into", || subscriber.try_recv_into(&mut memory)).map(drop),
                2 => {
                    desk.timed("recv_timeout", |time| subscriber.recv_timeout(time)).map(|seen| memory = seen)
                }
                _ => desk.act("try_recv_ref", || subscriber.try_recv_ref()).map(|seen| {
                    memory.clear();
                    memory.extend(&*seen);
                    desk.dawdle();
                    if *seen != *memory {
                        desk.fault(Fault::Torn, format!("message {:?} changed in place", seen.first()));
                    }
                }),
            };
            match received {
                Ok(()) => check(desk, &mut self.last, position, &memory),
                Err(RecvError::Empty) => return,
                // It may be evicted after the check; then it is lossy now.
                Err(RecvError::Lagged(count)) if is_lossless && subscriber.is_lossless() => {
                    desk.fault(Fault::Lost, format!("a lossless subscriber has lost {count} at {position}"));
                }
                Err(RecvError::Lagged(count)) if subscriber.position() == position + count => {}
                Err(error) => desk.fault(Fault::Broken, format!("recv: {error}")),
            }
            self.memory = memory;
        }
    }
}

fn check(desk: &Desk, last: &mut [u64; WORKERS], position: u64, seen: &[u64]) {
    let Some(first) = seen.first_chunk::<8>() else {
        return desk.fault(Fault::Torn, format!("a message of {} words", seen.len()));
    };
    let [ticket, from, ..] = *first;
    if *seen != *message(ticket, from) {
        return desk.fault(Fault::Torn, format!("message {ticket} from {from} of {} words", seen.len()));
    }
    enter(desk, last, position, first);
}

impl Member for Stream {
    fn step(&mut self, desk: &mut Desk) {
        match desk.random.below(64) {
            0 => self.subscribe(desk),
            1 => self.subscriber = None,
            2..=28 => self.publish(desk),
            _ => self.receive(desk),
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        self.subscriber = None;
        let mut last = self.topic.subscribe(From::Latest);
        // Twice round all slots, so that every block that a death has left is freed.
        for n in 0..2 * self.topic.capacity() as u64 + 16 {
            let message = [u64::from(u32::MAX) + n];
            if let Err(error) = self.publisher.publish_timeout(&message, PATIENCE) {
                desk.fault(Fault::Stuck, format!("publish at the end: {error}; {:?}", self.topic));
            }
            match last.as_mut().map(|last| last.recv_timeout(PATIENCE)) {
                Ok(Ok(seen)) if seen == message => {}
                other => desk.fault(Fault::Lost, format!("received {other:?} at the end")),
            }
        }
        let begin = Instant::now();
        while self.topic.quota_in_use() > 0 && begin.elapsed() < PATIENCE {
            let _ = self.publisher.publish_timeout(&[0], PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.topic.quota_in_use() > 0 {
            desk.fault(Fault::Stuck, format!("{} bytes are lost", self.topic.quota_in_use()));
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "topic of 1 slice", join: |site, name| Stream::join(site, name, 1, Policy::Block) },
    Recipe {
        name: "topic of 4 slices that evicts",
        join: |site, name| Stream::join(site, name, 4, Policy::Evict),
    },
    Recipe { name: "topic of 64 slices", join: |site, name| Stream::join(site, name, 64, Policy::Block) },
];
