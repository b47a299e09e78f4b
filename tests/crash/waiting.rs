//! Scenes with a sleeper: a process that waits for what the child is about to do, and a child that
//! waits itself.

use std::time::Duration;

use pagemate::queue::{RecvError, SendError};
use pagemate::{Event, Queue};

use crate::helper::{until, Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
/// The child's message.
const SENT: u64 = 77;
/// The message of the process that sleeps.
const HELPERS: u64 = 500;
/// The survivor's message.
const MINE: u64 = 1000;
/// Outcome of a helper whose send returned.
const DONE: u64 = 1;
/// Outcome of a helper that found the queue closed.
const CLOSED: u64 = 2;

pub fn scenes() -> Vec<Recipe> {
    macro_rules! recipes {
        ($($name:literal: $scene:expr;)*) => {
            vec![$(Recipe { name: $name, build: || Box::new($scene) }),*]
        };
    }
    recipes! {
        "event: set, a process waits": SetForOne::new();
        "event: clear, a process waits": Clear::new(true);
        "event: clear, set before": Clear::new(false);
        "event: wait, asleep until it is set": Sleeping::new(Op::Wait);
        "queue: send, a receiver waits": Waited::receiver(|queue| _ = queue.try_send(SENT));
        "queue: loan and send, a receiver waits": Waited::receiver(|queue| {
            if let Ok(mut loan) = queue.try_loan() {
                *loan = SENT;
                let _ = loan.send();
            }
        });
        "queue: recv, a sender waits": Waited::sender(false, |queue| _ = queue.try_recv());
        "queue: recv_ref and drop, a sender waits": Waited::sender(false, |queue| {
            _ = queue.try_recv_ref().as_deref()
        });
        "queue: recv with redelivery, a sender waits": Waited::sender(true, |queue| _ = queue.try_recv());
        "queue: close, a receiver waits": Closing::new(false);
        "queue: close, a sender waits": Closing::new(true);
        "queue: recv, asleep until a message comes": Sleeping::new(Op::Recv);
        "queue: recv_ref, asleep until a message comes": Sleeping::new(Op::RecvRef);
        "queue: recv, asleep until it is closed": Sleeping::new(Op::RecvClosed);
        "queue: send, asleep until there is room": Sleeping::new(Op::Send);
        "queue: loan and send, asleep until there is room": Sleeping::new(Op::Loan);
    }
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn fail(what: &str) -> impl Fn(RecvError) -> String + '_ {
    move |error| format!("{what}: {error:?}")
}

/// Receives messages until none has come for a millisecond.
fn drain(queue: &Queue<u64>) -> Vec<u64> {
    std::iter::from_fn(|| queue.recv_timeout(Duration::from_millis(1)).ok()).collect()
}

/// Checks that every slot comes back. A slot that came back may have to wait for its turn, so this
/// drains in between.
fn all_slots_come_back(queue: &Queue<u64>) -> Result<(), String> {
    let done = until("all slots come back", || {
        drain(queue);
        (0..queue.capacity() as u64).all(|value| queue.try_send(value).is_ok())
    });
    done.map_err(|error| format!("{error}; {queue:?}"))
}

/// The child sets an event that a process waits for.
struct SetForOne {
    event: Event,
    helper: Option<Helper>,
}

impl SetForOne {
    fn new() -> SetForOne {
        let event = Event::new().unwrap();
        let helper = Helper::start_blocked(|| u64::from(event.wait()));
        SetForOne { event: event.clone(), helper: Some(helper) }
    }
}

impl Scene for SetForOne {
    fn act(&mut self) {
        self.event.set();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.event.is_set() {
            return Err("set has returned and the event is not set".into());
        }
        // If the child has not set the event, the survivor must.
        self.event.set();
        self.helper.take().map_or(Ok(DONE), Helper::outcome)?;
        self.event.wait_timeout(PATIENCE).then_some(()).ok_or("the event cannot be waited for".into())
    }

    fn words(&self) -> String {
        format!("{:#?}", self.event)
    }
}

/// The child clears an event.
struct Clear {
    event: Event,
    helper: Option<Helper>,
}

impl Clear {
    fn new(is_waited_for: bool) -> Clear {
        let event = Event::new().unwrap();
        let helper = is_waited_for.then(|| Helper::start_blocked(|| u64::from(event.wait())));
        if !is_waited_for {
            event.set();
        }
        Clear { event: event.clone(), helper }
    }
}

impl Scene for Clear {
    fn act(&mut self) {
        self.event.clear();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && self.event.is_set() && self.helper.is_some() {
            return Err("clear has returned and the event is set".into());
        }
        self.event.set();
        self.helper.take().map_or(Ok(DONE), Helper::outcome)?;
        self.event.clear();
        if self.event.is_set() {
            return Err("the survivor's clear does nothing".into());
        }
        self.event.set();
        self.event.wait_timeout(PATIENCE).then_some(()).ok_or("the event cannot be waited for".into())
    }

    fn words(&self) -> String {
        format!("{:#?}", self.event)
    }
}

/// A process waits on a queue of two slots, and the child wakes it.
struct Waited {
    queue: &'static Queue<u64>,
    op: fn(&Queue<u64>),
    helper: Option<Helper>,
    /// Whether the helper receives: then the queue was empty. It sends to a full one otherwise.
    helper_receives: bool,
    seen: Vec<u64>,
}

impl Waited {
    fn receiver(op: fn(&Queue<u64>)) -> Waited {
        let queue = leaked(Queue::new(2).unwrap());
        let helper = Helper::start_blocked(|| queue.recv().unwrap());
        Waited { queue, op, helper: Some(helper), helper_receives: true, seen: Vec::new() }
    }

    fn sender(redeliver: bool, op: fn(&Queue<u64>)) -> Waited {
        let queue: &Queue<u64> = leaked(Queue::builder(2).redeliver(redeliver).build().unwrap());
        (1..=2).for_each(|value| queue.try_send(value).unwrap());
        let helper = Helper::start_blocked(|| queue.send(HELPERS).map_or(CLOSED, |()| DONE));
        Waited { queue, op, helper: Some(helper), helper_receives: false, seen: Vec::new() }
    }

    /// Checks that the helper's wait ends, whether the child is dead, stopped or done.
    fn join_helper(&mut self) -> Result<(), String> {
        let Some(mut helper) = self.helper.take() else { return Ok(()) };
        if self.helper_receives {
            self.queue.send_timeout(MINE, PATIENCE).map_err(|error| format!("no room: {error:?}"))?;
            let got = helper.outcome()?;
            self.seen.push(got);
        } else {
            // At least one slot is free, whatever the child holds.
            until("the sender finds room", || {
                self.seen.extend(self.queue.recv_timeout(Duration::from_millis(1)));
                helper.has_ended()
            })?;
        }
        Ok(())
    }
}

impl Scene for Waited {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        let came_to_nothing = if self.helper_receives {
            self.queue.try_recv().is_err()
        } else {
            self.queue.try_send(0).is_err()
        };
        assert!(came_to_nothing);
    }

    fn act(&mut self) {
        (self.op)(self.queue);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if let Some(helper) = &self.helper {
            let flag = if self.helper_receives { "receivers_wait: true" } else { "senders_wait: true" };
            helper.sleeps_announced(|| format!("{:?}", self.queue).contains(flag))?;
        }
        self.join_helper()?;
        self.seen.extend(drain(self.queue));
        if end == End::Stopped {
            return Ok(());
        }
        all_slots_come_back(self.queue)?;
        let (must, may): (&[u64], &[u64]) = match self.helper_receives {
            true if end == End::Finished => (&[MINE, SENT], &[]),
            true => (&[MINE], &[SENT]),
            // The child has taken one of the first two, or died before that, or its message came
            // back.
            false => (&[HELPERS], &[1, 2]),
        };
        let times = |value: &u64| self.seen.iter().filter(|seen| *seen == value).count();
        let is_well = must.iter().all(|value| times(value) == 1)
            && may.iter().all(|value| times(value) <= 1)
            && self.seen.iter().all(|value| must.contains(value) || may.contains(value))
            && (self.helper_receives || times(&1) + times(&2) >= 1);
        is_well.then_some(()).ok_or(format!("received {:?}", self.seen))
    }

    fn words(&self) -> String {
        format!("{:#?}", self.queue)
    }
}

/// A process waits on a queue that the child closes.
struct Closing {
    queue: &'static Queue<u64>,
    helper: Option<Helper>,
    helper_sends: bool,
}

impl Closing {
    fn new(helper_sends: bool) -> Closing {
        let queue: &Queue<u64> = leaked(Queue::new(1).unwrap());
        let helper = if helper_sends {
            queue.try_send(SENT).unwrap();
            Helper::start_blocked(|| match queue.send(HELPERS) {
                Err(SendError::Closed(HELPERS)) => CLOSED,
                other => panic!("{other:?}"),
            })
        } else {
            Helper::start_blocked(|| match queue.recv() {
                Err(RecvError::Closed) => CLOSED,
                other => panic!("{other:?}"),
            })
        };
        Closing { queue, helper: Some(helper), helper_sends }
    }
}

impl Scene for Closing {
    fn act(&mut self) {
        self.queue.close();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Finished && !self.queue.is_closed() {
            return Err("close has returned and the queue is not closed".into());
        }
        if let Some(helper) = self.helper.take() {
            if !self.queue.is_closed() {
                self.queue.close();
            }
            helper.outcome()?;
        }
        if self.helper_sends {
            if end == End::Stopped {
                return Ok(());
            }
            self.helper_sends = false;
            let got = self.queue.recv_timeout(PATIENCE).map_err(fail("the message sent before the close"))?;
            if got != SENT {
                return Err(format!("received {got}"));
            }
        }
        match self.queue.recv_timeout(PATIENCE) {
            Err(RecvError::Closed) => Ok(()),
            other => Err(format!("closed and empty, but recv returns {other:?}")),
        }
    }

    fn words(&self) -> String {
        format!("{:#?}", self.queue)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Wait,
    Recv,
    RecvRef,
    RecvClosed,
    Send,
    Loan,
}

/// The child itself falls asleep, and is then woken.
struct Sleeping {
    queue: &'static Queue<u64>,
    event: Event,
    op: Op,
    waker: Waker,
    seen: Vec<u64>,
}

impl Sleeping {
    fn new(op: Op) -> Sleeping {
        let queue: &Queue<u64> = leaked(Queue::new(2).unwrap());
        let event = Event::new().unwrap();
        if matches!(op, Op::Send | Op::Loan) {
            (1..=2).for_each(|value| queue.try_send(value).unwrap());
        }
        let waker = Waker::new(|| match op {
            Op::Wait => event.set(),
            Op::Recv | Op::RecvRef => queue.send(MINE).unwrap(),
            Op::RecvClosed => _ = queue.close(),
            Op::Send | Op::Loan => _ = queue.recv(),
        });
        Sleeping { queue, event, op, waker, seen: Vec::new() }
    }
}

impl Scene for Sleeping {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it.
        let came_to_nothing = match self.op {
            Op::Send | Op::Loan => self.queue.try_send(0).is_err(),
            _ => self.queue.try_recv().is_err(),
        };
        assert!(came_to_nothing);
        self.waker.watch_me();
    }

    fn act(&mut self) {
        match self.op {
            Op::Wait => _ = self.event.wait(),
            Op::Recv | Op::RecvClosed => _ = self.queue.recv(),
            Op::RecvRef => _ = self.queue.recv_ref().as_deref(),
            Op::Send => _ = self.queue.send(SENT),
            Op::Loan => {
                if let Ok(mut loan) = self.queue.loan() {
                    *loan = SENT;
                    let _ = loan.send();
                }
            }
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // The child holds one slot at most.
            return match self.op {
                Op::Wait => {
                    let other = Event::new().map_err(|error| error.to_string())?;
                    other.set();
                    other.wait_timeout(PATIENCE).then_some(()).ok_or("another event is stuck".into())
                }
                Op::RecvClosed => Ok(()),
                Op::Recv | Op::RecvRef => {
                    // One is for the stopped child, if it has been woken or wakes up, and one for
                    // us.
                    for value in [MINE + 1, MINE + 2] {
                        self.queue
                            .send_timeout(value, PATIENCE)
                            .map_err(|error| format!("send: {error:?}"))?;
                        let got = self
                            .queue
                            .recv_timeout(PATIENCE)
                            .map_err(fail("a stopped process blocks recv"))?;
                        self.seen.push(got);
                    }
                    Ok(())
                }
                Op::Send | Op::Loan => {
                    let got =
                        self.queue.recv_timeout(PATIENCE).map_err(fail("a stopped process blocks recv"))?;
                    self.seen.push(got);
                    Ok(())
                }
            };
        }
        let was_woken = self.waker.finish()?;
        match self.op {
            Op::Wait => {
                self.event.set();
                return self.event.wait_timeout(PATIENCE).then_some(()).ok_or("the event is stuck".into());
            }
            Op::RecvClosed => {
                self.queue.close();
                return match self.queue.recv_timeout(PATIENCE) {
                    Err(RecvError::Closed) => Ok(()),
                    other => Err(format!("closed, but recv returns {other:?}")),
                };
            }
            Op::Recv | Op::RecvRef | Op::Send | Op::Loan => self.seen.extend(drain(self.queue)),
        }
        all_slots_come_back(self.queue)?;
        let mut sorted = self.seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != self.seen.len() {
            return Err(format!("received twice: {:?}", self.seen));
        }
        let sends = matches!(self.op, Op::Send | Op::Loan);
        let missing = |value: u64| !self.seen.contains(&value);
        if sends {
            // One of the first two is the waker's.
            let lost = usize::from(missing(1)) + usize::from(missing(2));
            if lost > usize::from(was_woken) || end == End::Finished && missing(SENT) {
                return Err(format!("received {:?}", self.seen));
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        match self.op {
            Op::Wait => format!("{:#?}", self.event),
            _ => format!("{:#?}", self.queue),
        }
    }
}
