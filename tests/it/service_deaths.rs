//! The deaths and stops of clients and servers: a call has one outcome, soon, and its slot comes
//! back.

use std::time::{Duration, Instant};

use pagemate::queue::RecvError;
use pagemate::service::CallError;
use pagemate::{Event, Process, Service};

use super::service::state;
use crate::support::until;

const LONG: Duration = Duration::from_secs(30);
/// A death must be noticed within 100 ms. The best of some attempts is measured, because a busy
/// machine delays the test too.
const NOTICED: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 5;

fn name(what: &str) -> String {
    format!("test-service-{what}-{}", std::process::id())
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: the pid is that of our child, which we have not waited for.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

/// Receives a request and keeps it until it is killed, or told to answer.
fn holds((service, held, go): (Service<u64, u64>, Event, Event)) {
    let server = service.server();
    let request = server.recv().unwrap();
    held.set();
    go.wait();
    let n = *request;
    let _ = request.reply(&(n + 1000));
}

/// Is a server, and receives nothing.
fn idles((service, ready): (Service<u64, u64>, Event)) {
    let _server = service.server();
    ready.set();
    Event::new().unwrap().wait();
}

/// Sends a request and waits for its answer.
fn calls((service, sent): (Service<u64, u64>, Event)) {
    let client = service.client();
    let call = client.start(&5).unwrap();
    sent.set();
    let _ = call.wait();
}

/// Holds an answer, a loan and a request that was not received, until it is killed.
fn hoards((service, ready): (Service<u64, u64>, Event)) {
    let client = service.client();
    let answer = client.call_ref(&1).unwrap();
    let loan = client.loan().unwrap();
    let waiting = client.start(&2).unwrap();
    ready.set();
    Event::new().unwrap().wait();
    drop((answer, loan, waiting));
}

fn events() -> [Event; 2] {
    [(); 2].map(|()| Event::new().unwrap())
}

/// Returns the shortest time of some attempts.
fn best(attempt: impl FnMut(usize) -> Duration) -> Duration {
    (0..ATTEMPTS).map(attempt).min().unwrap()
}

/// Waits until the service has room for as many calls as ever.
fn until_whole(service: &Service<u64, u64>) {
    let client = service.client().wait_for_server(true);
    until("all slots come back", || {
        let calls: Vec<_> = std::iter::from_fn(|| client.try_start(&0).ok()).collect();
        calls.len() == service.capacity()
    });
}

#[test]
fn the_call_of_a_dead_server_ends() {
    let took = best(|_| {
        let service = Service::<u64, u64>::new(2).unwrap();
        let [held, go] = events();
        let victim = Process::spawn(holds, (service.clone(), held.clone(), go)).unwrap();
        let client = service.client().wait_for_server(true);
        let call = client.start(&1).unwrap();
        assert!(held.wait_timeout(LONG));
        let waiter = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| (call.wait(), Instant::now()));
            let killed = Instant::now();
            victim.kill().unwrap();
            let (end, at) = waiter.join().unwrap();
            assert_eq!(end, Err(CallError::ServerDied));
            at - killed
        });
        assert!(victim.join().is_err());
        until_whole(&service);
        waiter
    });
    assert!(took < NOTICED, "{took:?}");
}

#[test]
fn a_poll_notices_the_death_of_a_server() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let [held, go] = events();
    let victim = Process::spawn(holds, (service.clone(), held.clone(), go)).unwrap();
    let client = service.client().wait_for_server(true);
    let call = client.start(&1).unwrap();
    assert!(held.wait_timeout(LONG));
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    until("the call has ended", || call.is_ready());
    assert_eq!(call.wait(), Err(CallError::ServerDied));
}

#[test]
fn with_redelivery_another_server_answers() {
    let took = best(|_| {
        let service = Service::<u64, u64>::builder(2).redeliver(true).build().unwrap();
        let [held, go] = events();
        let victim = Process::spawn(holds, (service.clone(), held.clone(), go)).unwrap();
        let client = service.client().wait_for_server(true);
        let call = client.start(&1).unwrap();
        assert!(held.wait_timeout(LONG));
        let later = client.start(&2).unwrap();
        let server = service.server();
        let killed = Instant::now();
        victim.kill().unwrap();
        assert!(victim.join().is_err());
        // A request that no server has had is there at once, and the other one within 100 ms.
        let request = server.recv().unwrap();
        assert_eq!(*request, 2);
        let again = server.recv_timeout(LONG).unwrap();
        let took = killed.elapsed();
        assert_eq!(*again, 1);
        again.reply(&10).unwrap();
        request.reply(&20).unwrap();
        assert_eq!((call.wait(), later.wait()), (Ok(10), Ok(20)));
        until_whole(&service);
        took
    });
    assert!(took < NOTICED, "{took:?}");
}

#[test]
fn a_request_that_kills_every_server_ends_without_one() {
    let service = Service::<u64, u64>::builder(2).redeliver(true).build().unwrap();
    let [ready, _] = events();
    let first = Process::spawn(idles, (service.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let client = service.client();
    let call = client.start(&1).unwrap();
    for _ in 0..3 {
        let [held, go] = events();
        let victim = Process::spawn(holds, (service.clone(), held.clone(), go)).unwrap();
        assert!(held.wait_timeout(LONG));
        victim.kill().unwrap();
        assert!(victim.join().is_err());
    }
    first.kill().unwrap();
    assert!(first.join().is_err());
    assert_eq!(call.wait(), Err(CallError::NoServer));
    until_whole(&service);
}

#[test]
fn the_last_server_dies_before_it_has_the_request() {
    let took = best(|_| {
        let service = Service::<u64, u64>::new(2).unwrap();
        let [ready, _] = events();
        let victim = Process::spawn(idles, (service.clone(), ready.clone())).unwrap();
        assert!(ready.wait_timeout(LONG));
        let client = service.client();
        let call = client.start(&1).unwrap();
        let killed = Instant::now();
        victim.kill().unwrap();
        assert_eq!(call.wait(), Err(CallError::NoServer));
        let took = killed.elapsed();
        assert!(victim.join().is_err());
        assert_eq!(client.call(&2), Err(CallError::NoServer));
        until_whole(&service);
        took
    });
    assert!(took < NOTICED, "{took:?}");
}

#[test]
fn the_requests_of_a_dead_client_are_withdrawn() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let server = service.server();
    let [sent, _] = events();
    let victim = Process::spawn(calls, (service.clone(), sent.clone())).unwrap();
    assert!(sent.wait_timeout(LONG));
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    until_whole(&service);
    assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn a_server_sees_that_its_client_has_died() {
    let service = Service::<u64, u64>::new(1).unwrap();
    let server = service.server();
    let [sent, _] = events();
    let victim = Process::spawn(calls, (service.clone(), sent.clone())).unwrap();
    let request = server.recv().unwrap();
    assert_eq!(request.client().pid(), victim.pid());
    assert!(!request.is_cancelled());
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    until("the server sees it", || request.is_cancelled());
    assert!(request.reply(&1).unwrap_err().is_closed());
    until_whole(&service);
}

#[test]
fn what_a_dead_client_held_comes_back() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let server = service.server();
    let [ready, _] = events();
    let victim = Process::spawn(hoards, (service.clone(), ready.clone())).unwrap();
    server.recv().unwrap().reply(&1).unwrap();
    assert!(ready.wait_timeout(LONG));
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    until_whole(&service);
    assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty);
}

/// Both sides die: the caller waits for a server that is killed at the same time.
#[test]
fn both_sides_die() {
    let name = name("both-die");
    for redeliver in [false, true] {
        let service = Service::<u64, u64>::builder(2).redeliver(redeliver).create(&name).unwrap();
        for caller_first in [false, true] {
            let ([held, go], [sent, _]) = (events(), events());
            let server = Process::spawn(holds, (service.clone(), held.clone(), go)).unwrap();
            until("there is a server", || service.has_server());
            let caller = Process::spawn(calls, (service.clone(), sent)).unwrap();
            assert!(held.wait_timeout(LONG));
            let mut victims = [server, caller];
            victims[usize::from(caller_first)].kill().unwrap();
            victims[usize::from(!caller_first)].kill().unwrap();
            for victim in &mut victims {
                assert!(victim.join_timeout(LONG).is_err_and(|error| !error.is_timeout()));
            }
            until_whole(&service);
            until("nothing is left", || state(&name)["calls"] == "0" && state(&name)["servers"] == "0");
        }
    }
}

#[test]
fn a_stopped_server_blocks_no_other_call() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let [held, go] = events();
    let stopped = Process::spawn(holds, (service.clone(), held.clone(), go.clone())).unwrap();
    let client = service.client().wait_for_server(true);
    let call = client.start(&1).unwrap();
    assert!(held.wait_timeout(LONG));
    signal(stopped.pid(), libc::SIGSTOP);
    go.set();
    let server = service.server();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| server.serve(|n| n + 1).unwrap());
        for n in 0..1000 {
            assert_eq!(client.call_timeout(&n, LONG), Ok(n + 1));
        }
        // It is not dead, so its call goes on; its caller gives up.
        let call = call.wait_timeout(Duration::from_millis(150)).unwrap_err();
        drop(call);
        assert_eq!(client.call_timeout(&1, LONG), Ok(2));
        signal(stopped.pid(), libc::SIGCONT);
        stopped.join().unwrap();
        service.close();
        worker.join().unwrap();
    });
}

#[test]
fn a_stopped_client_blocks_no_other_call() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let server = service.server();
    let [sent, _] = events();
    let stopped = Process::spawn(calls, (service.clone(), sent.clone())).unwrap();
    let request = server.recv().unwrap();
    signal(stopped.pid(), libc::SIGSTOP);
    request.reply(&1).unwrap();
    let client = service.client();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| server.serve(|n| n + 1).unwrap());
        (0..1000).for_each(|n| assert_eq!(client.call_timeout(&n, LONG), Ok(n + 1)));
        signal(stopped.pid(), libc::SIGCONT);
        stopped.join().unwrap();
        service.close();
        worker.join().unwrap();
    });
}
