//! Services: clients and servers that call, answer, refuse, give up, stop and die. Every worker is
//! both.
//!
//! | words | meaning |
//! |---|---|
//! | [`NEXT`] | the next ticket: the number of a request, and of its line |
//! | [`LEDGER`] and ticket | [`BEGUN`]; the count of its [`RECEIVED`] |

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pagemate::queue::{Payload, RecvError, SendError};
use pagemate::service::{Call, CallError, Client, Request, Server, ServiceBuilder};
use pagemate::Service;

use crate::board::{Fault, MEMBER_WORDS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

const NEXT: usize = 0;
const LEDGER: usize = 64;

const BEGUN: u64 = 1;
const RECEIVED: u64 = 1 << 8;

/// The most calls, and the most requests, that a worker keeps.
const KEPT: usize = 3;

/// What a service carries: a ticket, a client, and words that both determine.
trait Letter: Payload<Owned: AsRef<[u64]>> + AsRef<[u64]> + 'static {
    /// Returns the number of words of the letter with this ticket.
    fn len(ticket: u64) -> usize;

    fn of(words: &[u64]) -> Box<Self>;

    fn build(builder: ServiceBuilder<Self, Self>) -> ServiceBuilder<Self, Self>;
}

impl Letter for [u64; 8] {
    fn len(_: u64) -> usize {
        8
    }

    fn of(words: &[u64]) -> Box<[u64; 8]> {
        Box::new(std::array::from_fn(|word| words[word]))
    }

    fn build(builder: ServiceBuilder<Self, Self>) -> ServiceBuilder<Self, Self> {
        builder
    }
}

/// Letters of any length: some are in their slot, most in a block, and a few take much of the
/// quota.
impl Letter for [u64] {
    fn len(ticket: u64) -> usize {
        let random = mix(ticket) >> 8;
        2 + (random % [12, 100, 1000, 12_000][mix(ticket) as usize % 4]) as usize
    }

    fn of(words: &[u64]) -> Box<[u64]> {
        words.into()
    }

    fn build(builder: ServiceBuilder<Self, Self>) -> ServiceBuilder<Self, Self> {
        builder.quota(512 << 10)
    }
}

/// Returns the request with this ticket of this client, or its answer.
fn letter<L: Letter + ?Sized>(ticket: u64, from: u64, is_answer: bool) -> Box<L> {
    let key = ticket ^ from << 40 ^ u64::from(is_answer) << 63;
    let word = |word: usize| match word {
        0 => ticket,
        1 => from,
        _ => mix(key ^ (word as u64) << 52),
    };
    let length = if is_answer { L::len(!ticket) } else { L::len(ticket) };
    L::of(&(0..length).map(word).collect::<Vec<_>>())
}

struct Desks<L: Letter + ?Sized> {
    name: &'static str,
    site: Site,
    redeliver: bool,
    service: Service<L, L>,
    client: &'static Client<L, L>,
    server: &'static Server<L, L>,
    /// The tickets of calls that go on.
    calls: Vec<(u64, Call<'static, L>)>,
    requests: Vec<Request<'static, L, L>>,
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl<L: Letter + ?Sized> Desks<L> {
    fn join(
        site: &Site,
        name: &'static str,
        capacity: usize,
        redeliver: bool,
    ) -> pagemate::Result<Box<dyn Member>> {
        let builder = L::build(Service::builder(capacity).redeliver(redeliver));
        let (service, _) = builder.open_or_create(site.segment.at(name))?;
        let (client, server) = (leak(service.client()), leak(service.server()));
        let site = Site { segment: site.segment.clone(), dir: site.dir.clone() };
        let (calls, requests) = (Vec::new(), Vec::new());
        Ok(Box::new(Desks { name, site, redeliver, service, client, server, calls, requests }))
    }

    fn call(&mut self, desk: &mut Desk) {
        let ticket = desk.words()[NEXT].fetch_add(1, SeqCst);
        let Some(line) = desk.words()[LEDGER..].get(ticket as usize) else { return };
        let (request, client) = (letter::<L>(ticket, desk.slot as u64, false), self.client);
        line.store(BEGUN, SeqCst);
        let started = match desk.random.below(4) {
            0 => {
                let done = desk.timed("call", |time| client.call_timeout(&request, time));
                return check::<L>(desk, ticket, done);
            }
            1 => desk.act("try_start", || client.try_start(&request)),
            _ => desk.timed("start", |time| client.start_timeout(&request, time)),
        };
        match started {
            Ok(call) if self.calls.len() < KEPT => self.calls.push((ticket, call)),
            Ok(call) => desk.act("cancel", || drop(call)),
            Err(error) => check::<L>(desk, ticket, Err(error)),
        }
    }

    fn wait(&mut self, desk: &mut Desk) {
        if self.calls.is_empty() {
            return;
        }
        let index = desk.random.below(self.calls.len() as u64) as usize;
        let (ticket, call) = self.calls.swap_remove(index);
        match desk.random.below(4) {
            0 => desk.act("cancel", || drop(call)),
            1 => match desk.act("try_wait", || call.try_wait()) {
                Ok(done) => check::<L>(desk, ticket, done),
                Err(call) => self.calls.push((ticket, call)),
            },
            _ => match desk.timed("wait", |time| call.wait_timeout(time)) {
                Ok(done) => check::<L>(desk, ticket, done),
                Err(call) => self.calls.push((ticket, call)),
            },
        }
    }

    fn receive(&mut self, desk: &mut Desk) {
        if self.requests.len() == KEPT {
            return;
        }
        let server = self.server;
        let received = match desk.random.below(2) {
            0 => desk.act("try_recv", || server.try_recv()),
            _ => desk.timed("recv", |time| server.recv_timeout(time)),
        };
        match received {
            Ok(request) => {
                let &[ticket, from, ..] = (*request).as_ref() else {
                    return desk.fault(Fault::Torn, "a request of less than two words");
                };
                if (*request).as_ref() != (*letter::<L>(ticket, from, false)).as_ref() {
                    desk.fault(Fault::Torn, format!("request {ticket} of {from}"));
                }
                if let Some(line) = desk.words()[LEDGER..].get(ticket as usize) {
                    let before = line.fetch_add(RECEIVED, SeqCst);
                    if before & BEGUN == 0 {
                        desk.fault(Fault::Broken, format!("request {ticket}, which nobody sent"));
                    }
                    if before >= RECEIVED && !self.redeliver {
                        desk.fault(Fault::Doubled, format!("request {ticket} was received before"));
                    }
                }
                self.requests.push(request);
            }
            Err(RecvError::Empty) => {}
            Err(error) => desk.fault(Fault::Broken, format!("recv: {error}")),
        }
    }

    fn answer(&mut self, desk: &mut Desk) {
        if self.requests.is_empty() {
            return;
        }
        let index = desk.random.below(self.requests.len() as u64) as usize;
        let request = self.requests.swap_remove(index);
        let &[ticket, from, ..] = (*request).as_ref() else { return };
        if desk.random.one_in(16) {
            return desk.act("refuse", || drop(request));
        }
        let answer = letter::<L>(ticket, from, true);
        match desk.timed("reply", |time| request.reply_timeout(&answer, time)) {
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(SendError::Full(request)) => self.requests.push(request),
            Err(error) => desk.fault(Fault::Broken, format!("reply: {error}")),
        }
    }

    fn state(&self, label: &str) -> String {
        let seen = pagemate::inspect::segment(self.site.file(crate::worker::SEGMENT));
        let object =
            seen.ok().and_then(|seen| seen.objects.into_iter().find(|object| object.info.name == self.name));
        let state = object.map(|object| object.state).unwrap_or_default();
        state.into_iter().find(|(found, _)| *found == label).map_or("0".to_string(), |(_, value)| value)
    }
}

/// Checks the outcome of a call.
fn check<L: Letter + ?Sized>(desk: &Desk, ticket: u64, done: Result<L::Owned, CallError>) {
    match done {
        Ok(answer) => {
            let expected = letter::<L>(ticket, desk.slot as u64, true);
            if answer.as_ref() != (*expected).as_ref() {
                let from = answer.as_ref().iter().take(2).collect::<Vec<_>>();
                desk.fault(Fault::Broken, format!("the answer to {ticket} is that to {from:?}, or torn"));
            }
            let line = desk.words()[LEDGER..].get(ticket as usize);
            if line.is_some_and(|line| line.load(SeqCst) < RECEIVED) {
                desk.fault(Fault::Broken, format!("an answer to {ticket}, which no server has received"));
            }
        }
        Err(CallError::Full | CallError::TimedOut | CallError::Refused | CallError::ServerDied) => {}
        Err(error) => desk.fault(Fault::Broken, format!("call {ticket}: {error}")),
    }
}

impl<L: Letter + ?Sized> Member for Desks<L> {
    fn step(&mut self, desk: &mut Desk) {
        match desk.random.below(8) {
            0 | 1 => self.call(desk),
            2 => self.wait(desk),
            3..=5 => self.receive(desk),
            _ => self.answer(desk),
        }
        if desk.random.one_in(64) {
            desk.dawdle();
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let (begin, capacity) = (Instant::now(), self.service.capacity());
        self.calls.clear();
        self.requests.clear();
        let mut calls = Vec::new();
        while calls.len() < capacity && begin.elapsed() < PATIENCE {
            // Requests of workers that were asked to end and still wait are nobody's any more.
            while let Ok(request) = self.server.try_recv() {
                drop(request);
            }
            calls.clear();
            calls.extend(std::iter::from_fn(|| self.client.try_start(&letter::<L>(2, 0, false)).ok()));
            std::thread::sleep(Duration::from_millis(1));
        }
        if calls.len() != capacity {
            desk.fault(
                Fault::Stuck,
                format!("only {} slots have come back: {:?}", calls.len(), self.service),
            );
        }
        drop(calls);
        for label in ["calls", "served", "in use for requests", "in use for answers"] {
            if self.state(label) != "0" {
                desk.fault(Fault::Lost, format!("{label}: {} at the end", self.state(label)));
            }
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "service of 1", join: |site, name| Desks::<[u64; 8]>::join(site, name, 1, false) },
    Recipe { name: "service of 5", join: |site, name| Desks::<[u64; 8]>::join(site, name, 5, false) },
    Recipe {
        name: "service of 5 with redelivery",
        join: |site, name| Desks::<[u64; 8]>::join(site, name, 5, true),
    },
    Recipe { name: "varied service of 6", join: |site, name| Desks::<[u64]>::join(site, name, 6, true) },
];
