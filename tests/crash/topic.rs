//! Scenes of the topic: each operation of a publisher and of a subscriber, with a sleeper, with
//! overwriting, and beside a message that is read in place.

use std::time::Duration;

use pagemate::queue::topic::{From, Loan, Publisher, Received, RecvError, Subscriber};
use pagemate::Topic;

use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

/// The child's message. Those that are in the topic before are 0, 1, 2 ...
const MINE: u64 = 77;
/// The first of the survivors' messages.
const OTHERS: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Publish,
    Loan,
    LoanDropped,
    Revoked,
    Recv,
    RecvLagged,
    RecvRef,
    Subscribe,
    SubscribeInFlight,
    Unsubscribe,
    Close,
}

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $op:ident, $capacity:literal, $before:literal, $with:ident;)*) => {
            vec![$(Recipe {
                name: $name,
                build: || Box::new(Exchange::new(Op::$op, $capacity, $before, With::$with)),
            }),*]
        };
    }
    recipes! {
        "topic: publish, empty": Publish, 2, 0, Nobody;
        "topic: publish, a subscriber waits": Publish, 2, 1, Sleeper;
        "topic: publish, overwriting": Publish, 1, 9, Nobody;
        "topic: publish past a message that is read in place": Publish, 1, 5, Reader;
        "topic: publish over a message that was read in place": Publish, 1, 5, FormerReader;
        "topic: loan and publish": Loan, 2, 1, Nobody;
        "topic: loan and publish past a message that is read in place": Loan, 1, 5, Reader;
        "topic: loan dropped": LoanDropped, 2, 1, Nobody;
        "topic: publish of a revoked loan": Revoked, 2, 1, Nobody;
        "topic: recv": Recv, 3, 2, Nobody;
        "topic: recv of a subscriber that lags": RecvLagged, 2, 2, Nobody;
        "topic: recv_ref and drop": RecvRef, 3, 2, Nobody;
        "topic: recv_ref and drop, another reads it too": RecvRef, 3, 1, Reader;
        "topic: subscribe": Subscribe, 3, 5, Nobody;
        "topic: subscribe while a publisher writes": SubscribeInFlight, 3, 2, Nobody;
        "topic: unsubscribe": Unsubscribe, 3, 2, Nobody;
        "topic: close": Close, 2, 1, Nobody;
    }
}

/// The third party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nobody,
    /// A process sleeps until the child publishes.
    Sleeper,
    /// The survivor reads the last message but one in place, in the slot of the next position.
    Reader,
    /// As `Reader`, but it has finished.
    FormerReader,
}

struct Exchange {
    topic: &'static Topic<u64>,
    publisher: &'static Publisher<u64>,
    op: Op,
    before: u64,
    /// The survivor's, at the end of what was there before.
    subscriber: Subscriber<u64>,
    /// The child's.
    own: Option<Subscriber<u64>>,
    loan: Option<Loan<'static, u64>>,
    held: Option<(u64, Received<'static, u64>)>,
    /// The lines that are the survivor's for good.
    taken: usize,
    sleeper: Option<Helper>,
    /// Whether the survivor has received the child's message.
    has_mine: bool,
    /// Whether it has published more.
    has_others: bool,
}

impl Exchange {
    fn new(op: Op, capacity: usize, before: u64, with: With) -> Exchange {
        let topic: &'static Topic<u64> = Box::leak(Box::new(Topic::new(capacity).unwrap()));
        let publisher: &'static Publisher<u64> = Box::leak(Box::new(topic.publisher()));
        let (mut held, mut taken) = (None, 1);
        for value in 0..before {
            publisher.publish(value).unwrap();
            // The next position but `before` is in this slot: there are three more than the
            // capacity.
            let is_next = value + capacity as u64 + 3 == before || op == Op::RecvRef && value == 0;
            if is_next && matches!(with, With::Reader | With::FormerReader) {
                let reader = Box::leak(Box::new(topic.subscribe(From::Last(1)).unwrap()));
                held = Some((value, reader.recv_ref().unwrap()));
                taken += 1;
            }
        }
        if with == With::FormerReader {
            held = None;
        }
        let subscriber = topic.subscribe(From::Latest).unwrap();
        let sleeper = (with == With::Sleeper)
            .then(|| Helper::start_blocked(move || topic.subscribe(From::Latest).unwrap().recv().unwrap()));
        Exchange {
            topic,
            publisher,
            op,
            before,
            subscriber,
            own: None,
            loan: None,
            held,
            taken,
            sleeper,
            has_mine: false,
            has_others: false,
        }
    }

    fn publishes(&self) -> bool {
        matches!(self.op, Op::Publish | Op::Loan | Op::Revoked)
    }

    /// Receives what is there.
    fn drain(&mut self) -> Result<Vec<u64>, String> {
        let mut all = Vec::new();
        loop {
            match self.subscriber.try_recv() {
                Ok(value) => all.push(value),
                Err(RecvError::Empty) => return Ok(all),
                // The child has published too much for the survivor.
                Err(RecvError::Lagged(3)) if self.op == Op::RecvLagged && all.is_empty() => {}
                Err(error) => return Err(format!("the survivor receives {error:?} after {all:?}")),
            }
        }
    }

    /// Receives what was published before the survivor goes on, and compares it.
    fn drain_before(&mut self, end: End) -> Result<(), String> {
        let seen = self.drain()?;
        let mut expected = match self.op {
            Op::Revoked if !self.has_others => vec![500],
            Op::RecvLagged if !self.has_others => vec![5, 6],
            _ => vec![],
        };
        if self.publishes() && !self.has_mine && seen.last() == Some(&MINE) {
            expected.push(MINE);
            self.has_mine = true;
        }
        if seen != expected {
            return Err(format!("received {seen:?} instead of {expected:?}"));
        }
        if self.publishes() && end == End::Finished && !self.has_mine {
            return Err("publish has returned, and the survivor has not received it".into());
        }
        Ok(())
    }

    fn publish_one(&mut self, value: u64) -> Result<(), String> {
        self.publisher.publish(value).map_err(|error| format!("publish: {error:?}"))?;
        match self.subscriber.recv_timeout(PATIENCE) {
            Ok(got) if got == value => Ok(()),
            other => Err(format!("received {other:?} instead of {value}")),
        }
    }

    fn check_held(&self) -> Result<(), String> {
        match &self.held {
            Some((value, held)) if **held != *value => {
                Err(format!("{value} was read in place, and is {} now", **held))
            }
            _ => Ok(()),
        }
    }
}

impl Scene for Exchange {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own. What the
        // survivor holds is not the child's.
        std::mem::forget(self.held.take());
        let mut own = self.topic.subscribe(From::Earliest).unwrap();
        match self.op {
            Op::Publish | Op::Loan | Op::LoanDropped | Op::Subscribe | Op::Close => drop(own),
            Op::Revoked => {
                drop(own);
                self.loan = Some(self.publisher.loan_with(MINE).unwrap());
                let topic = self.topic;
                Helper::die_after(|| {
                    let mut subscriber = topic.subscribe(From::Latest).unwrap();
                    topic.publisher().publish(500).unwrap();
                    assert_eq!(subscriber.recv_timeout(PATIENCE), Ok(500));
                });
            }
            Op::SubscribeInFlight => {
                drop(own);
                std::mem::forget(self.publisher.loan_with(MINE).unwrap());
            }
            Op::RecvLagged => {
                assert_eq!(own.recv(), Ok(0));
                for value in self.before..self.before + 5 {
                    self.publisher.publish(value).unwrap();
                }
                self.own = Some(own);
            }
            Op::Recv | Op::RecvRef | Op::Unsubscribe => self.own = Some(own),
        }
    }

    fn act(&mut self) {
        match self.op {
            Op::Publish => _ = self.publisher.publish(MINE),
            Op::Loan => {
                if let Ok(mut loan) = self.publisher.loan() {
                    *loan = MINE;
                    let _ = loan.publish();
                }
            }
            Op::LoanDropped => drop(self.publisher.loan()),
            Op::Revoked => _ = self.loan.take().map(Loan::publish),
            Op::Recv | Op::RecvLagged => _ = self.own.as_mut().map(Subscriber::try_recv),
            Op::RecvRef => _ = self.own.as_mut().map(|own| own.try_recv_ref().is_ok()),
            Op::Subscribe | Op::SubscribeInFlight => {
                self.own = self.topic.subscribe(From::Latest).ok();
            }
            Op::Unsubscribe => self.own = None,
            Op::Close => _ = self.topic.close(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.op == Op::Close {
            return self.check_closed(end);
        }
        self.check_held()?;
        self.drain_before(end)?;
        self.has_others = true;
        if let Some(sleeper) = self.sleeper.take() {
            let expected = if self.has_mine { MINE } else { OTHERS };
            if !self.has_mine {
                self.publish_one(OTHERS)?;
            }
            let got = sleeper.outcome()?;
            if got != expected {
                return Err(format!("the sleeper has received {got}, not {expected}"));
            }
        }
        // Nobody is blocked, and everybody agrees on what comes next.
        let lost = self.subscriber.lost();
        (OTHERS..OTHERS + 20).try_for_each(|value| self.publish_one(value))?;
        if self.subscriber.lost() != lost {
            return Err("the survivor has lost messages that no publisher overwrote".into());
        }
        self.check_held()?;
        if end == End::Stopped {
            return Ok(());
        }
        // The lines of the dead come back.
        let mut all = Vec::new();
        until("all lines come back", || {
            all.extend(std::iter::from_fn(|| self.topic.subscribe(From::Latest).ok()));
            all.len() + self.taken == 64
        })
    }

    fn words(&self) -> String {
        format!("{:?}\n{:?}", self.topic, self.subscriber)
    }
}

impl Exchange {
    fn check_closed(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.topic.is_closed() {
            return Err("close has returned and the topic is not closed".into());
        }
        self.topic.close();
        match self.publisher.publish(MINE) {
            Err(error) if error.is_closed() => {}
            other => return Err(format!("closed, but publish returns {other:?}")),
        }
        match self.subscriber.recv_timeout(PATIENCE) {
            Err(RecvError::Closed) => Ok(()),
            other => Err(format!("closed, but recv returns {other:?}")),
        }
    }
}
