//! Scenes of the queue: each operation on empty, full and half-full queues of one to three slots,
//! with and without redelivery, and with a position to skip.

use std::time::Duration;

use pagemate::queue::{Loan, Received};
use pagemate::Queue;

use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

/// The child's message. Those that are in the queue before are 0, 1, 2 ...
const SENT: u64 = 77;
/// The survivors' messages.
const OTHERS: std::ops::Range<u64> = 1000..1020;
/// The first of the messages with which they fill the queue at the end.
const FILLERS: u64 = 2000;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Send,
    Loan,
    LoanDropped,
    ForceSend,
    Recv,
    RecvRef,
    Close,
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
        "queue: send, 1 slot, empty": Send, 1, 0, false;
        "queue: send, 1 slot, full": Send, 1, 1, false;
        "queue: send, 2 slots, 1 message": Send, 2, 1, false;
        "queue: send, 3 slots, empty": Send, 3, 0, false;
        "queue: loan and send, 2 slots, empty": Loan, 2, 0, false;
        "queue: loan and send, 3 slots, 1 message": Loan, 3, 1, false;
        "queue: loan dropped, 2 slots, 1 message": LoanDropped, 2, 1, false;
        "queue: force_send, 1 slot, full": ForceSend, 1, 1, false;
        "queue: force_send, 2 slots, 1 message": ForceSend, 2, 1, false;
        "queue: force_send, 3 slots, full": ForceSend, 3, 3, false;
        "queue: recv, 1 slot, full": Recv, 1, 1, false;
        "queue: recv, 2 slots, empty": Recv, 2, 0, false;
        "queue: recv, 3 slots, full": Recv, 3, 3, false;
        "queue: recv with redelivery, 2 slots, full": Recv, 2, 2, true;
        "queue: recv_ref and drop, 2 slots, 1 message": RecvRef, 2, 1, false;
        "queue: recv_ref and drop, redelivery, 3 slots": RecvRef, 3, 2, true;
        "queue: close, 2 slots, 1 message": Close, 2, 1, false;
        "queue: close, 1 slot, full": Close, 1, 1, false;
    };
    all.push(Recipe {
        name: "queue: send past a held slot, 3 slots",
        build: || Box::new(PastHeld::new(Op::Send)),
    });
    all.push(Recipe {
        name: "queue: recv past a revoked send, 3 slots",
        build: || Box::new(PastRevoked::new()),
    });
    all.push(Recipe {
        name: "queue: send of a revoked loan, 3 slots",
        build: || Box::new(Revoked::new(false)),
    });
    all.push(Recipe {
        name: "queue: send of a revoked loan, a receiver waits",
        build: || Box::new(Revoked::new(true)),
    });
    all
}

struct Exchange {
    queue: &'static Queue<u64>,
    op: Op,
    before: u64,
    redeliver: bool,
    seen: Vec<u64>,
    /// Slots that are held for ever.
    lent: usize,
}

impl Exchange {
    fn new(op: Op, capacity: usize, before: u64, redeliver: bool) -> Exchange {
        let queue: &'static Queue<u64> =
            Box::leak(Box::new(Queue::builder(capacity).redeliver(redeliver).build().unwrap()));
        (0..before).for_each(|value| queue.try_send(value).unwrap());
        Exchange { queue, op, before, redeliver, seen: Vec::new(), lent: 0 }
    }

    fn sends(&self) -> bool {
        matches!(self.op, Op::Send | Op::Loan | Op::ForceSend)
    }

    /// Checks that the child's message came in place of the oldest one, or that at most that one is
    /// gone with the child.
    fn verdict_of_force(&self, end: End) -> Result<(), String> {
        let is_full = self.before == self.queue.capacity() as u64;
        let [is_sent, is_oldest_there] = [SENT, 0].map(|value| self.seen.contains(&value));
        let lost = self.queue.lost();
        // Others that went on while the child was stopped may have received the oldest one.
        let is_alone = !self.seen.iter().any(|value| OTHERS.contains(value));
        let mine: Vec<u64> = self.seen.iter().copied().filter(|value| !OTHERS.contains(value)).collect();
        let mut expected: Vec<u64> = (u64::from(is_full && !is_oldest_there)..self.before).collect();
        expected.extend(is_sent.then_some(SENT));
        let is_possible = match end {
            End::Finished => is_sent && lost == 0 && (is_oldest_there != is_full || !is_alone),
            _ => !(is_full && is_sent && is_oldest_there) && lost <= u64::from(is_full && !is_sent),
        };
        (is_possible && mine == expected)
            .then_some(())
            .ok_or(format!("received {:?}, {lost} lost", self.seen))
    }

    fn receives(&self) -> bool {
        matches!(self.op, Op::Recv | Op::RecvRef)
    }

    /// Compares the received messages with those that were sent.
    fn verdict(&self, end: End) -> Result<(), String> {
        let mine: Vec<u64> = self.seen.iter().copied().filter(|value| !OTHERS.contains(value)).collect();
        let mut expected: Vec<u64> = (0..self.before).collect();
        if self.sends() {
            expected.push(SENT);
        }
        let mut missing: Vec<u64> = expected.iter().copied().filter(|value| !mine.contains(value)).collect();
        let has_room = self.before < self.queue.capacity() as u64;
        let mut sorted = mine.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != mine.len() || mine.iter().any(|value| !expected.contains(value)) {
            return Err(format!("received {mine:?} of {expected:?}"));
        }
        if !self.redeliver && !mine.is_sorted() {
            return Err(format!("received out of order: {mine:?}"));
        }
        if self.sends()
            && (end != End::Finished || !has_room || !self.seen.iter().all(|v| !OTHERS.contains(v)))
        {
            // The interrupted send may have failed, and so may one that found no room.
            missing.retain(|value| *value != SENT);
        }
        // The child may have received a message before it died or finished.
        let allowed = usize::from(self.receives());
        let first_only = missing.iter().all(|value| self.receives() && *value < self.before);
        if missing.len() > allowed || !first_only {
            return Err(format!("{missing:?} got lost; received {mine:?}"));
        }
        Ok(())
    }

    fn drain(&mut self) {
        while let Ok(value) = self.queue.recv_timeout(Duration::from_millis(1)) {
            if value < FILLERS {
                self.seen.push(value);
            }
        }
    }

    /// Checks that all slots come back, except `lent` of them, and with redelivery the message too.
    /// A slot that came back may have to wait for its turn, so this drains in between.
    fn fill(&mut self) -> Result<(), String> {
        let slots = (self.queue.capacity() - self.lent) as u64;
        let begin = std::time::Instant::now();
        loop {
            self.drain();
            if (0..slots).all(|value| self.queue.try_send(FILLERS + value).is_ok()) {
                self.drain();
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err("a slot did not come back".into());
            }
        }
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
            self.queue.try_send(value).unwrap();
        }
    }

    fn act(&mut self) {
        match self.op {
            Op::Send => _ = self.queue.try_send(SENT),
            Op::Loan => {
                if let Ok(mut loan) = self.queue.try_loan() {
                    *loan = SENT;
                    let _ = loan.try_send();
                }
            }
            Op::LoanDropped => drop(self.queue.try_loan()),
            Op::ForceSend => self.queue.force_send(SENT, |oldest| assert_eq!(oldest, 0)).unwrap(),
            Op::Recv => _ = self.queue.try_recv(),
            Op::RecvRef => _ = self.queue.try_recv_ref().as_deref(),
            Op::Close => _ = self.queue.close(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.op == Op::Close {
            return self.check_closed(end);
        }
        if end == End::Stopped {
            if self.queue.capacity() == 1 {
                return Ok(()); // The stopped child may hold the only slot.
            }
            self.drain();
            for value in OTHERS {
                self.queue
                    .send_timeout(value, PATIENCE)
                    .map_err(|error| format!("a stopped process blocks send: {error:?}"))?;
                loop {
                    let got = self
                        .queue
                        .recv_timeout(PATIENCE)
                        .map_err(|e| format!("a stopped process blocks recv: {e:?}"))?;
                    self.seen.push(got);
                    if got == value {
                        break;
                    }
                }
            }
            return Ok(());
        }
        self.fill()?;
        if self.op == Op::ForceSend {
            return self.verdict_of_force(end);
        }
        self.verdict(end)
    }

    fn words(&self) -> String {
        format!("{:?}", self.queue)
    }
}

impl Exchange {
    fn check_closed(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.queue.is_closed() {
            return Err("close has returned and the queue is not closed".into());
        }
        let closed_before = self.queue.is_closed();
        self.queue.close();
        match self.queue.try_send(SENT) {
            Err(error) if error.is_closed() => {}
            other => return Err(format!("closed, but try_send returns {other:?}")),
        }
        while let Ok(value) = self.queue.recv_timeout(PATIENCE) {
            self.seen.push(value);
        }
        let all: Vec<u64> = (0..self.before).collect();
        (self.seen == all)
            .then_some(())
            .ok_or(format!("received {:?}, closed before: {closed_before}", self.seen))
    }
}

/// A receiver in another process holds a slot, so that the sender must skip its position.
struct PastHeld {
    held: Option<Received<'static, u64>>,
    inner: Exchange,
}

impl PastHeld {
    fn new(op: Op) -> PastHeld {
        let inner = Exchange::new(op, 3, 0, false);
        inner.queue.try_send(500).unwrap();
        let held = inner.queue.try_recv_ref().unwrap();
        // The tail is at the held slot again.
        for value in 600..602 {
            inner.queue.try_send(value).unwrap();
            inner.queue.try_recv().unwrap();
        }
        PastHeld { held: Some(held), inner }
    }
}

impl Scene for PastHeld {
    fn prepare(&mut self) {
        std::mem::forget(self.held.take());
        self.inner.prepare();
    }

    fn act(&mut self) {
        self.inner.act();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if self.held.as_deref() != Some(&500) && end != End::Finished {
            return Err("the held message has changed".into());
        }
        if end != End::Stopped {
            self.held = None;
        }
        self.inner.check(end)
    }

    fn words(&self) -> String {
        self.inner.words()
    }
}

/// A sender in another process has claimed a position and not filled it, and a message follows.
struct PastRevoked {
    inner: Exchange,
}

impl PastRevoked {
    fn new() -> PastRevoked {
        let inner = Exchange::new(Op::Recv, 3, 0, false);
        let loan = inner.queue.try_loan().unwrap();
        inner.queue.try_send(0).unwrap();
        // The holder stays alive and never fills it.
        std::mem::forget(loan);
        PastRevoked { inner: Exchange { before: 1, lent: 1, ..inner } }
    }
}

impl Scene for PastRevoked {
    fn prepare(&mut self) {
        self.inner.prepare();
    }

    fn act(&mut self) {
        self.inner.act();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        self.inner.drain();
        if end == End::Stopped {
            return Ok(());
        }
        self.inner.fill()?;
        self.inner.verdict(end)
    }

    fn words(&self) -> String {
        self.inner.words()
    }
}

/// The child has claimed a position, a message was sent behind it, and a receiver has skipped the
/// position to reach it. The child finds out when it sends.
struct Revoked {
    inner: Exchange,
    loan: Option<Loan<'static, u64>>,
    /// A process that has received the message that follows, and waits for the next.
    helper: Option<Helper>,
}

/// The message that follows.
const BEHIND: u64 = 500;
/// The survivor's message, if the child may not have sent.
const MINE: u64 = 1000;

impl Revoked {
    fn new(is_waited_for: bool) -> Revoked {
        let inner = Exchange::new(Op::Send, 3, 0, false);
        let queue = inner.queue;
        let helper = is_waited_for.then(|| {
            Helper::start_blocked(|| {
                assert_eq!(queue.recv(), Ok(BEHIND));
                queue.recv().unwrap()
            })
        });
        Revoked { inner, loan: None, helper }
    }
}

impl Scene for Revoked {
    fn prepare(&mut self) {
        let queue = self.inner.queue;
        let mut loan = queue.try_loan().unwrap();
        *loan = SENT;
        self.loan = Some(loan);
        match &self.helper {
            None => Helper::die_after(|| {
                queue.try_send(BEHIND).unwrap();
                assert_eq!(queue.recv_timeout(PATIENCE), Ok(BEHIND));
            }),
            Some(helper) => {
                Helper::die_after(|| queue.try_send(BEHIND).unwrap());
                until("the receiver waits again", || {
                    format!("{queue:?}").contains("Held") && queue.is_empty() && helper.is_asleep()
                })
                .unwrap();
            }
        }
    }

    fn act(&mut self) {
        let _ = self.loan.take().map(Loan::try_send);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let queue = self.inner.queue;
        if let Some(helper) = self.helper.take() {
            helper.sleeps_announced(|| format!("{queue:?}").contains("receivers_wait: true"))?;
            queue.send_timeout(MINE, PATIENCE).map_err(|error| format!("no room: {error:?}"))?;
            self.inner.seen.push(helper.outcome()?);
            let rest = queue.recv_timeout(Duration::from_millis(1));
            self.inner.seen.extend(rest);
            let mine = self.inner.seen.iter().position(|value| *value == MINE);
            self.inner.seen.remove(mine.ok_or("the survivor's message is gone")?);
        }
        self.inner.check(end)
    }

    fn words(&self) -> String {
        self.inner.words()
    }
}
