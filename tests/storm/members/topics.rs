//! Topics: publishers and subscribers, lossy and lossless, that come, go, stop and die.
//!
//! | words | meaning |
//! |---|---|
//! | [`NEXT`] | the next ticket: the number of a message, and of its line |
//! | [`LEDGER`] and ticket | [`BEGUN`], [`REFUSED`] |
//! | [`ORDER`] and position | the ticket plus one of the message at this position |
//!
//! All subscribers must find the same ticket at a position, and a lossless one that was not evicted
//! must miss no position.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, Policy, Publisher, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use crate::board::{Fault, MEMBER_WORDS, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

pub(super) const NEXT: usize = 0;
pub(super) const LEDGER: usize = 64;
pub(super) const ORDER: usize = MEMBER_WORDS / 2;

pub(super) const BEGUN: u64 = 1;
pub(super) const REFUSED: u64 = 2;

/// Ticket, publisher, and words that both determine.
pub(super) type Letter = [u64; 8];

/// Returns the message with this ticket of this publisher.
pub(super) fn letter(ticket: u64, from: u64) -> Letter {
    std::array::from_fn(|word| match word {
        0 => ticket,
        1 => from,
        _ => mix(ticket ^ from << 40 ^ (word as u64) << 56),
    })
}

struct Feed {
    topic: Topic<Letter>,
    publisher: Publisher<Letter>,
    subscriber: Option<Subscriber<Letter>>,
    /// The last ticket received from each publisher: later ones are greater.
    last: [u64; WORKERS],
}

impl Feed {
    fn join(
        site: &Site,
        name: &'static str,
        capacity: usize,
        policy: Policy,
    ) -> pagemate::Result<Box<dyn Member>> {
        let builder = Topic::builder(capacity).policy(policy);
        let (topic, _) = builder.open_or_create(site.segment.at(name))?;
        Ok(Box::new(Feed { publisher: topic.publisher(), topic, subscriber: None, last: [0; WORKERS] }))
    }

    fn publish(&mut self, desk: &mut Desk) {
        let ticket = desk.words()[NEXT].fetch_add(1, SeqCst);
        if ticket as usize >= ORDER - LEDGER {
            return;
        }
        let line = &desk.words()[LEDGER + ticket as usize];
        let letter = letter(ticket, desk.slot as u64);
        line.store(BEGUN, SeqCst);
        let publisher = self.publisher.clone();
        let done = match desk.random.below(6) {
            0 | 1 => desk.act("try_publish", || publisher.try_publish(letter).map_err(unit)),
            2 | 3 => desk.timed("publish", |time| publisher.publish_timeout(letter, time).map_err(unit)),
            way => match desk.timed("loan", |time| publisher.loan_timeout(time)) {
                Err(error) => Err(error),
                Ok(mut loan) => {
                    for (to, from) in loan.iter_mut().zip(letter) {
                        *to = from;
                        if desk.random.one_in(32) {
                            desk.dawdle();
                        }
                    }
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
        let froms = [From::Latest, From::Earliest, From::Last(2)];
        let from = froms[desk.random.below(3) as usize];
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
            let received = match desk.random.below(4) {
                0 | 1 => desk.act("try_recv", || subscriber.try_recv()),
                2 => desk.timed("recv_timeout", |time| subscriber.recv_timeout(time)),
                _ => match desk.act("try_recv_ref", || subscriber.try_recv_ref()) {
                    Ok(message) => {
                        let first = *message;
                        desk.dawdle();
                        if *message != first {
                            desk.fault(Fault::Torn, format!("message {} changed in place", first[0]));
                        }
                        Ok(first)
                    }
                    Err(error) => Err(error),
                },
            };
            match received {
                Ok(message) => enter(desk, &mut self.last, position, &message),
                Err(RecvError::Empty) => return,
                // It may be evicted after the check; then it is lossy now.
                Err(RecvError::Lagged(count)) if is_lossless && subscriber.is_lossless() => {
                    desk.fault(Fault::Lost, format!("a lossless subscriber has lost {count} at {position}"));
                }
                Err(RecvError::Lagged(count)) if subscriber.position() == position + count => {}
                Err(error) => desk.fault(Fault::Broken, format!("recv: {error}")),
            }
        }
    }
}

/// Checks a received message, and enters it into the order.
pub(super) fn enter(desk: &Desk, last: &mut [u64; WORKERS], position: u64, message: &Letter) {
    let [ticket, from, ..] = *message;
    if *message != letter(ticket, from) || from >= WORKERS as u64 {
        return desk.fault(Fault::Torn, format!("message {ticket} from {from}: {message:x?}"));
    }
    let words = desk.words();
    if ticket as usize >= ORDER - LEDGER {
        return;
    }
    let state = words[LEDGER + ticket as usize].load(SeqCst);
    if state & BEGUN == 0 || state & REFUSED != 0 {
        desk.fault(Fault::Broken, format!("message {ticket}, which was not published ({state:#x})"));
    }
    let before = &mut last[from as usize];
    if *before > ticket {
        desk.fault(Fault::Doubled, format!("message {ticket} from {from} after {before}"));
    }
    *before = ticket;
    if let Some(word) = words[ORDER..].get(position as usize) {
        if let Err(other) = word.compare_exchange(0, ticket + 1, SeqCst, SeqCst) {
            if other != ticket + 1 {
                desk.fault(Fault::Broken, format!("{ticket} and {} at {position}", other - 1));
            }
        }
    }
}

/// Returns the error without its message.
pub(super) fn unit<T>(error: SendError<T>) -> SendError<()> {
    match error {
        SendError::Full(_) | SendError::Lagging(..) => SendError::Full(()),
        SendError::Closed(_) => SendError::Closed(()),
        SendError::NotInThisProcess(_, refusal) => SendError::NotInThisProcess((), refusal),
        _ => SendError::Corrupted(()),
    }
}

impl Member for Feed {
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
        for n in 0..2 * self.topic.capacity() as u64 {
            let message = letter(u64::from(u32::MAX) + n, 0);
            if let Err(error) = self.publisher.publish_timeout(message, PATIENCE) {
                desk.fault(Fault::Stuck, format!("publish at the end: {error}; {:?}", self.topic));
            }
            match last.as_mut().map(|last| last.recv_timeout(PATIENCE)) {
                Ok(Ok(seen)) if seen == message => {}
                other => desk.fault(Fault::Lost, format!("received {other:?} at the end")),
            }
        }
        let (begin, mut all) = (Instant::now(), Vec::new());
        while all.len() < 63 && begin.elapsed() < PATIENCE {
            all.extend(std::iter::from_fn(|| self.topic.subscribe(From::Latest).ok()));
            std::thread::sleep(Duration::from_millis(1));
        }
        if all.len() != 63 {
            desk.fault(Fault::Stuck, format!("only {} lines have come back", all.len()));
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "topic of 1", join: |site, name| Feed::join(site, name, 1, Policy::Block) },
    Recipe { name: "topic of 3 that fails", join: |site, name| Feed::join(site, name, 3, Policy::Fail) },
    Recipe { name: "topic of 4 that evicts", join: |site, name| Feed::join(site, name, 4, Policy::Evict) },
    Recipe { name: "topic of 32", join: |site, name| Feed::join(site, name, 32, Policy::Block) },
];
