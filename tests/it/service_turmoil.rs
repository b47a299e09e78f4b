//! Clients and servers, killed and stopped at random: no stale answer, none doubled, and every slot
//! is free at the end. `SERVICE_CALLS=100000000 cargo test --release --test it service_turmoil`
//! makes 10^8 calls.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::service::{Call, CallError};
use pagemate::{Event, Process, Segment, Service};

use super::service::state;
use crate::support::{until, Random};

/// Caller and number, and what they determine.
type Request = [u64; 3];
/// The request's numbers, and what they determine.
type Answer = [u64; 3];
type Pair = Service<Request, Answer>;

const CLIENTS: u64 = 3;
const CAPACITY: usize = 8;
const LONG: Duration = Duration::from_secs(60);

fn request(id: u64, n: u64) -> Request {
    [id, n, (id << 48 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15)]
}

fn answer(request: &Request) -> Answer {
    let [id, n, key] = *request;
    [id, n, key.rotate_left(23) ^ n]
}

/// Serves until it is killed, or the service is closed. Returns the number of requests of the
/// clients that live, whose ids are small.
fn serve((service, ready): (Pair, Event)) -> u64 {
    let (server, mut count) = (service.server(), 0u64);
    ready.set();
    while let Ok(received) = server.recv() {
        let [id, n, _] = *received;
        assert_eq!(*received, request(id, n), "torn");
        count += 1;
        if count % 64 == 0 {
            continue; // refused
        }
        if count % 16 == 0 {
            let mut loan = received.reply_loan().unwrap();
            let (request, place) = loan.parts();
            *place = answer(request);
            let _ = loan.send();
        } else {
            let _ = received.reply(&answer(&request(id, n)));
        }
    }
    count
}

/// Calls until it has had `count` outcomes. Returns how many of them were answers.
fn call((service, id, count): (Pair, u64, u64)) -> u64 {
    let client = service.client().wait_for_server(true);
    let mut random = Random::new();
    let (mut answered, mut earlier): (u64, Option<(u64, Call<'_, Answer>)>) = (0, None);
    for n in 0..count {
        let sent = request(id, n);
        let check = |got: Result<Answer, CallError>, n: u64| match got {
            Ok(got) => {
                assert_eq!(got, answer(&request(id, n)), "the answer of another call");
                1
            }
            Err(error) => {
                assert!(matches!(error, CallError::Refused | CallError::ServerDied), "{error:?}");
                0
            }
        };
        match random.below(64) {
            0 => drop(client.start(&sent).unwrap()),
            1 => match client.call_timeout(&sent, Duration::from_micros(random.below(100))) {
                Err(CallError::TimedOut | CallError::Full) => {}
                got => answered += check(got, n),
            },
            2 => {
                // Two at once, answered in any order.
                let call = client.start(&sent).unwrap();
                if let Some((n, earlier)) = earlier.replace((n, call)) {
                    answered += check(earlier.wait(), n);
                }
            }
            3 => {
                let mut loan = client.loan().unwrap();
                *loan = sent;
                answered += check(loan.call_ref().map(|got| *got), n);
            }
            _ => answered += check(client.call(&sent), n),
        }
    }
    answered
}

/// Calls until it is killed.
fn call_on((service, id, ready): (Pair, u64, Event)) {
    ready.set();
    call((service, id, u64::MAX));
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

fn turmoil(redeliver: bool) {
    let given = std::env::var("SERVICE_CALLS").ok().and_then(|count| count.parse::<u64>().ok());
    let each = given.unwrap_or(if cfg!(debug_assertions) { 60_000 } else { 600_000 }) / CLIENTS;
    let name = format!("test-service-turmoil-{redeliver}-{}", std::process::id());
    let service = Pair::builder(CAPACITY).redeliver(redeliver).create(&name).unwrap();
    let ready = Event::new().unwrap();
    let steady = Process::spawn(serve, (service.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let clients: Vec<_> =
        (0..CLIENTS).map(|id| Process::spawn(call, (service.clone(), id, each)).unwrap()).collect();
    let pids: Vec<u32> = clients.iter().chain([&steady]).map(Process::pid).collect();
    let is_over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let victims = scope.spawn(|| {
            let (mut random, mut kills) = (Random::new(), 0);
            while !is_over.load(Relaxed) {
                let pid = pids[random.below(pids.len() as u64) as usize];
                signal(pid, libc::SIGSTOP);
                random.moment(Duration::from_millis(3));
                signal(pid, libc::SIGCONT);
                let [first, second] = [(); 2].map(|()| Event::new().unwrap());
                let server = Process::spawn(serve, (service.clone(), first.clone())).unwrap();
                let client = Process::spawn(call_on, (service.clone(), 100 + kills, second.clone())).unwrap();
                assert!(first.wait_timeout(LONG) && second.wait_timeout(LONG));
                random.moment(Duration::from_millis(10));
                server.kill().unwrap();
                client.kill().unwrap();
                _ = (server.join(), client.join());
                kills += 1;
            }
            kills
        });
        let answered: Vec<u64> = clients.into_iter().map(|child| child.join().unwrap()).collect();
        is_over.store(true, Relaxed);
        println!("{} clients and as many servers were killed", victims.join().unwrap());
        answered
    });
    service.close();
    let served = steady.join().unwrap();
    println!("{} calls, {answered:?} answered, {served} requests by the server that lived", each * CLIENTS);
    assert!(answered.iter().all(|count| *count > each / 2));
    let segment = Segment::open(name.as_str()).unwrap();
    until("every slot is free", || {
        pagemate::untyped::reap(&segment);
        let state = state(&name);
        ["calls", "served", "waiting", "ended", "servers"].iter().all(|label| state[label] == "0")
    });
}

#[test]
fn turmoil_of_calls() {
    turmoil(false);
}

#[test]
fn turmoil_of_calls_with_redelivery() {
    turmoil(true);
}
