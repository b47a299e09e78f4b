//! Answers in parts: in order, with back-pressure, and with one end.

use std::time::{Duration, Instant};

use pagemate::queue::SendError;
use pagemate::service::CallError;
use pagemate::{ErrorKind, Event, Process, Service};

use super::service::state;
use crate::support::until;

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(2);
const NOTICED: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 5;

fn name(what: &str) -> String {
    format!("test-parts-{what}-{}", std::process::id())
}

/// Checks that nothing of a call is left.
fn assert_nothing_left(name: &str) {
    let state = state(name);
    for label in ["calls", "in use for requests", "in use for answers"] {
        assert!(state.get(label).is_none_or(|value| value == "0"), "{state:?}");
    }
}

#[test]
fn parts_wait_for_their_client() {
    let name = name("wait");
    let service = Service::<u32, u64>::builder(2).parts(3).create(name.as_str()).unwrap();
    assert_eq!(state(&name)["places"], "4", "rounded up");
    let (client, server) = (service.client(), service.server());
    let mut answer = client.stream(&7).unwrap();
    assert_eq!(answer.try_next(), Some(Err(CallError::TimedOut)));
    let mut parts = server.recv().unwrap().stream().unwrap();
    assert_eq!(**parts.request(), 7);
    for part in 0..4 {
        parts.try_send(&part).unwrap();
    }
    assert!(matches!(parts.try_send(&4), Err(SendError::Full(()))));
    assert!(matches!(parts.send_timeout(&4, SOON), Err(SendError::Full(()))));
    assert_eq!(answer.next(), Some(Ok(0)));
    parts.try_send(&4).unwrap();
    assert!(matches!(parts.send_deadline(&5, Instant::now() + SOON), Err(SendError::Full(()))));
    assert_eq!(answer.next_ref().unwrap().as_deref(), Ok(&1));
    let mut loan = parts.loan().unwrap();
    *loan = 5;
    drop(loan); // not sent
    parts.send(&6).unwrap();
    parts.finish().unwrap();
    assert_eq!(state(&name)["ended"], "1", "the client has the slot until it has taken all");
    let rest: Vec<_> = answer.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest, [2, 3, 4, 6]);
    assert_eq!((answer.next(), answer.try_next()), (None, None));
    assert_nothing_left(&name);
}

#[test]
fn one_place_is_enough() {
    let service = Service::<u64, u64>::new(1).unwrap();
    let (client, server) = (service.client(), service.server());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(request) = server.recv() {
                let mut parts = request.stream().unwrap();
                let count = **parts.request();
                (0..count).for_each(|part| parts.send(&part).unwrap());
                parts.finish().unwrap();
            }
        });
        for count in [0, 1, 2, 100, 40_000] {
            let mut expected = 0;
            for part in client.stream(&count).unwrap() {
                assert_eq!(part, Ok(expected));
                expected += 1;
            }
            assert_eq!(expected, count);
        }
        service.close();
    });
}

#[test]
fn an_answer_that_is_not_in_parts_is_one() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let (client, server) = (service.client(), service.server());
    let mut answer = client.stream(&1).unwrap();
    let request = server.recv().unwrap();
    assert!(request.is_stream());
    request.reply(&10).unwrap();
    assert_eq!(answer.next_ref().unwrap().as_deref(), Ok(&10));
    assert!(answer.next().is_none());

    let call = client.start(&2).unwrap();
    let request = server.recv().unwrap();
    assert!(!request.is_stream());
    let request = request.stream().map(drop).unwrap_err();
    request.reply(&20).unwrap();
    assert_eq!(call.wait(), Ok(20));

    let mut answer = client.loan().unwrap().stream().unwrap();
    drop(server.recv().unwrap());
    assert_eq!(answer.next(), Some(Err(CallError::Refused)));
    assert!(answer.next().is_none());
    let mut answer = client.try_stream(&3).unwrap();
    drop(server);
    assert_eq!(answer.next(), Some(Err(CallError::NoServer)));
    assert!(answer.next().is_none());
    assert_eq!(client.try_stream(&3).unwrap_err(), CallError::NoServer);
}

#[test]
fn a_dropped_reply_is_refused_after_its_parts() {
    let service = Service::<u64, u64>::builder(1).parts(2).build().unwrap();
    let (client, server) = (service.client(), service.server());
    for sent in 0..=2 {
        let mut answer = client.stream(&0).unwrap();
        let mut parts = server.recv().unwrap().stream().unwrap();
        (0..sent).for_each(|part| parts.send(&part).unwrap());
        drop(parts);
        for part in 0..sent {
            assert_eq!(answer.next(), Some(Ok(part)));
        }
        assert_eq!(answer.next(), Some(Err(CallError::Refused)));
        assert_eq!(answer.next(), None);
    }
}

#[test]
fn long_parts_give_their_memory_back() {
    let name = name("long");
    let builder = Service::<str, [u64]>::builder(2).parts(4).inline(16).quota(1 << 16);
    let service = builder.create(name.as_str()).unwrap();
    let (client, server) = (service.client(), service.server());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(request) = server.recv() {
                let mut parts = request.stream().unwrap();
                let sent = (0..200).try_for_each(|part: u64| match part % 2 {
                    0 => parts.send(&vec![part; 1000]),
                    _ => parts.loan(part as usize)?.fill_with(|_| part).send(),
                });
                if sent.is_ok() {
                    parts.finish().unwrap();
                }
            }
        });
        // Four parts do not fit into the quota, so the server also waits for memory.
        for (number, part) in client.stream("many").unwrap().enumerate() {
            let len = if number % 2 == 0 { 1000 } else { number };
            assert_eq!(part, Ok(vec![number as u64; len]));
        }
        let mut answer = client.stream("some").unwrap();
        assert_eq!(answer.next_ref().unwrap().unwrap().len(), 1000);
        drop(answer);
        until("the server has noticed", || state(&name)["calls"] == "0");
        assert_nothing_left(&name);
        service.close();
    });
    assert_eq!(client.stream("closed").unwrap_err(), CallError::Closed);
}

#[test]
fn a_client_that_gives_up_wakes_the_server() {
    let service = Service::<u64, u64>::builder(2).parts(2).build().unwrap();
    let (client, server) = (service.client(), service.server());
    let took = (0..ATTEMPTS).map(|_| {
        let answer = client.stream(&0).unwrap();
        let mut parts = server.recv().unwrap().stream().unwrap();
        [0, 1].iter().for_each(|part| parts.send(part).unwrap());
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || {
                let sent = parts.send(&2);
                assert!(matches!(sent, Err(SendError::Closed(()))), "{sent:?}");
                assert!(parts.request().is_cancelled());
                assert!(matches!(parts.finish(), Err(SendError::Closed(()))));
                Instant::now()
            });
            std::thread::sleep(SOON);
            let begin = Instant::now();
            drop(answer);
            waits.join().unwrap() - begin
        })
    });
    let took = took.min().unwrap();
    assert!(took < Duration::from_millis(20), "it was not woken: {took:?}");
}

#[test]
fn refused_numbers_of_parts() {
    for parts in [0, 4097, usize::MAX] {
        let built = Service::<u64, u64>::builder(2).parts(parts).build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    Service::<u64, u64>::builder(1).parts(4096).build().unwrap();
}

/// Sends as many parts as the request says, and then no more until it is killed.
fn stalls((service, sent): (Service<u64, u64>, Event)) {
    let server = service.server();
    let mut parts = server.recv().unwrap().stream().unwrap();
    let count = **parts.request();
    (0..count).for_each(|part| parts.send(&part).unwrap());
    sent.set();
    Event::new().unwrap().wait();
}

#[test]
fn a_server_dies_after_some_parts() {
    for redeliver in [false, true] {
        let mut best = Duration::MAX;
        for _ in 0..ATTEMPTS {
            let service = Service::<u64, u64>::builder(2).parts(4).redeliver(redeliver).build().unwrap();
            let sent = Event::new().unwrap();
            let victim = Process::spawn(stalls, (service.clone(), sent.clone())).unwrap();
            let client = service.client().wait_for_server(true);
            let mut answer = client.stream(&2).unwrap();
            assert!(sent.wait_timeout(LONG));
            assert_eq!(answer.next(), Some(Ok(0)));
            let begin = Instant::now();
            victim.kill().unwrap();
            assert_eq!(answer.next(), Some(Ok(1)));
            assert_eq!(answer.next(), Some(Err(CallError::ServerDied)));
            best = best.min(begin.elapsed());
            assert_eq!(answer.next(), None);
            assert!(victim.join().is_err());
        }
        assert!(best < NOTICED, "{best:?}");
    }
}

#[test]
fn a_request_without_parts_goes_to_another_server() {
    let service = Service::<u64, u64>::builder(2).parts(4).redeliver(true).build().unwrap();
    let sent = Event::new().unwrap();
    let victim = Process::spawn(stalls, (service.clone(), sent.clone())).unwrap();
    let client = service.client().wait_for_server(true);
    let mut answer = client.stream(&0).unwrap();
    assert!(sent.wait_timeout(LONG));
    victim.kill().unwrap();
    let server = service.server();
    let mut parts = server.recv_timeout(LONG).unwrap().stream().unwrap();
    parts.send(&10).unwrap();
    parts.finish().unwrap();
    assert_eq!((answer.next(), answer.next()), (Some(Ok(10)), None));
    assert!(victim.join().is_err());
}

/// Takes one part, and then no more until it is killed.
fn takes_one((service, taken): (Service<u64, u64>, Event)) {
    let client = service.client().wait_for_server(true);
    let mut answer = client.stream(&0).unwrap();
    assert_eq!(answer.next(), Some(Ok(0)));
    taken.set();
    Event::new().unwrap().wait();
    drop(answer);
}

#[test]
fn a_server_notices_the_death_of_its_client() {
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let name = name("client");
        let service = Service::<u64, u64>::builder(2).parts(2).create(name.as_str()).unwrap();
        let taken = Event::new().unwrap();
        let victim = Process::spawn(takes_one, (service.clone(), taken.clone())).unwrap();
        let server = service.server();
        let mut parts = server.recv_timeout(LONG).unwrap().stream().unwrap();
        parts.send(&0).unwrap();
        assert!(taken.wait_timeout(LONG));
        [1, 2].iter().for_each(|part| parts.send(part).unwrap());
        let begin = Instant::now();
        victim.kill().unwrap();
        assert!(matches!(parts.send(&3), Err(SendError::Closed(()))));
        best = best.min(begin.elapsed());
        drop(parts);
        assert!(victim.join().is_err());
        assert_nothing_left(&name);
    }
    assert!(best < NOTICED, "{best:?}");
}

/// Answers each request with that many numbers.
fn counts(service: Service<u64, [u64; 3]>) {
    let server = service.server();
    while let Ok(request) = server.recv() {
        let mut parts = request.stream().unwrap();
        let count = **parts.request();
        if (0..count).all(|part| parts.send(&[part, !part, count]).is_ok()) {
            let _ = parts.finish();
        }
    }
}

#[test]
fn between_processes() {
    for places in [1, 2, 16] {
        let service = Service::<u64, [u64; 3]>::builder(4).parts(places).build().unwrap();
        let server = Process::spawn(counts, service.clone()).unwrap();
        let client = service.client().wait_for_server(true);
        let count = 50_000;
        let mut answer = client.stream(&count).unwrap();
        for part in 0..count {
            assert_eq!(answer.next(), Some(Ok([part, !part, count])));
        }
        assert_eq!(answer.next(), None);
        service.close();
        server.join().unwrap();
    }
}
