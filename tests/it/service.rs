//! Services between threads and processes: each call has one outcome, an answer goes to its own
//! call, and what fails, is cancelled or is dropped leaves nothing behind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pagemate::queue::{RecvError, SendError};
use pagemate::service::{Call, CallError, Client, Server};
use pagemate::{inspect, ErrorKind, Event, Manager, Message, Origin, Process, Service, WaitSet};

use crate::support::forked::Forked;
use crate::support::{until, Random};

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(2);

fn name(what: &str) -> String {
    format!("test-service-{what}-{}", std::process::id())
}

/// Returns what `pagemate show` prints about the service in the segment of this name.
pub(super) fn state(name: &str) -> HashMap<&'static str, String> {
    inspect::segment(name).unwrap().objects.remove(0).state.into_iter().collect()
}

/// Returns the states of a service that must be what they were before a failure, or after a call.
fn counters(name: &str) -> Vec<String> {
    let state = state(name);
    let labels = ["sent", "calls", "written", "waiting", "served", "cancelled", "ended"];
    labels.iter().map(|label| format!("{label} {}", state[label])).collect()
}

/// Checks that the service has room for as many calls as ever, and that each is answered.
#[track_caller]
fn assert_whole(service: &Service<u64, u64>) {
    let (client, server) = (service.client(), service.server());
    for _ in 0..2 {
        let calls: Vec<_> = (0..service.capacity() as u64).map(|n| client.try_start(&n).unwrap()).collect();
        assert_eq!(client.try_start(&0).unwrap_err(), CallError::Full);
        for n in 0..service.capacity() as u64 {
            let request = server.try_recv().unwrap();
            assert_eq!(*request, n, "out of order");
            request.reply(&(n + 1)).unwrap();
        }
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.wait(), Ok(n as u64 + 1));
        }
    }
    assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn each_call_gets_its_own_answer() {
    for (capacity, clients, servers) in [(1, 1, 1), (1, 3, 2), (2, 4, 3), (5, 2, 1), (16, 4, 4)] {
        let service = Service::<u64, u64>::new(capacity).unwrap();
        let answered = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..servers {
                let server = service.server();
                let answered = &answered;
                scope.spawn(move || {
                    let count = |n: &u64| {
                        answered.fetch_add(1, Relaxed);
                        n.wrapping_mul(3)
                    };
                    server.serve(count).unwrap();
                });
            }
            let callers: Vec<_> = (0..clients)
                .map(|id| {
                    let client = service.client();
                    scope.spawn(move || {
                        for n in (id << 32)..(id << 32) + 300 {
                            assert_eq!(client.call(&n), Ok(n * 3));
                            assert_eq!(client.call_ref(&n).as_deref(), Ok(&(n * 3)));
                        }
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert!(service.close() && !service.close());
        });
        assert_eq!(answered.load(Relaxed), clients * 600);
        assert_eq!(service.client().call(&1), Err(CallError::NoServer));
        let _server = service.server();
        assert_eq!(service.client().call(&1), Err(CallError::Closed));
    }
}

fn calls((service, first, count): (Service<u64, u64>, u64, u64)) {
    let client = service.client().wait_for_server(true);
    for n in first..first + count {
        assert_eq!(client.call_timeout(&n, LONG), Ok(n * 2));
    }
}

fn serves((service, ready): (Service<u64, u64>, Event)) -> u64 {
    let (server, mut count) = (service.server(), 0);
    ready.set();
    server
        .serve(|n| {
            count += 1;
            n * 2
        })
        .unwrap();
    count
}

#[test]
fn between_processes() {
    let service = Service::<u64, u64>::new(3).unwrap();
    let ready = Event::new().unwrap();
    let servers = [(); 2].map(|()| Process::spawn(serves, (service.clone(), ready.clone())).unwrap());
    let clients = [0, 1, 2].map(|id| Process::spawn(calls, (service.clone(), id << 32, 2000)).unwrap());
    clients.into_iter().for_each(|client| client.join().unwrap());
    service.close();
    assert_eq!(servers.map(|server| server.join().unwrap()).iter().sum::<u64>(), 6000);
}

#[test]
fn several_calls_at_once_in_any_order() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let (client, server) = (service.client(), service.server());
    let calls: Vec<Call<'_, u64>> = (0..4).map(|n| client.start(&n).unwrap()).collect();
    assert!(calls.iter().all(|call| !call.is_ready()));
    let requests: Vec<_> = (0..4).map(|_| server.recv().unwrap()).collect();
    assert_eq!(requests.iter().map(|request| **request).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for request in requests.into_iter().rev() {
        let n = *request;
        request.reply(&(n + 10)).unwrap();
    }
    assert!(calls.iter().all(Call::is_ready));
    let answers: Vec<_> = calls.into_iter().map(|call| call.try_wait().unwrap().unwrap()).collect();
    assert_eq!(answers, [10, 11, 12, 13]);
    let call = client.start(&7).unwrap().try_wait().unwrap_err();
    let call = call.wait_timeout(SOON).unwrap_err();
    let call = call.wait_deadline(Instant::now() + SOON).unwrap_err();
    server.recv().unwrap().reply(&70).unwrap();
    assert_eq!(call.wait_timeout(LONG).unwrap(), Ok(70));
    assert_whole(&service);
}

#[test]
fn a_request_that_is_dropped_is_refused() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let (client, server) = (service.client(), service.server());
    let call = client.start(&1).unwrap();
    drop(server.recv().unwrap());
    assert_eq!(call.wait(), Err(CallError::Refused));
    let error = pagemate::Error::from(CallError::Refused);
    assert_eq!(error.kind(), ErrorKind::Refused);
    // A server that panics refuses the call that it is at.
    let call = client.start(&2).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        server.serve(|_| -> u64 { std::panic::resume_unwind(Box::new(())) })
    }));
    assert!(panicked.is_err());
    assert_eq!(call.wait(), Err(CallError::Refused));
    assert_whole(&service);
}

#[test]
fn a_late_answer_goes_to_no_other_call() {
    let service = Service::<u64, u64>::new(1).unwrap();
    let (client, server) = (service.client(), service.server());
    for n in 0..100 {
        // Cancelled while a server has it: the slot stays with the server until it is done.
        let call = client.start(&n).unwrap();
        let request = server.recv().unwrap();
        assert!(!request.is_cancelled());
        drop(call);
        assert!(request.is_cancelled());
        assert_eq!(client.try_start(&0).unwrap_err(), CallError::Full);
        let error = request.reply(&(n + 1000)).unwrap_err();
        assert!(matches!(&error, SendError::Closed(request) if **request == n));
        assert_eq!(client.try_start(&0).unwrap_err(), CallError::Full, "the server still has it");
        drop(error);
        // Cancelled before a server has it: the request is gone.
        drop(client.start(&n).unwrap());
        assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty);
        let call = client.start(&n).unwrap();
        server.recv().unwrap().reply(&(n + 1)).unwrap();
        assert_eq!(call.wait(), Ok(n + 1));
    }
    assert_whole(&service);
}

#[test]
fn deadlines() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let (client, server) = (service.client(), service.server());
    let begin = Instant::now();
    assert_eq!(client.call_timeout(&1, SOON), Err(CallError::TimedOut));
    assert!(begin.elapsed() >= SOON);
    assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty, "it was withdrawn");
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| client.call_deadline(&2, begin + LONG));
        let request = server.recv().unwrap();
        let deadline = request.deadline().unwrap();
        let difference = deadline.max(begin + LONG) - deadline.min(begin + LONG);
        assert!(difference < Duration::from_millis(100), "{difference:?}");
        let client = request.client();
        assert_eq!(client.pid(), std::process::id());
        request.reply(&20).unwrap();
        assert_eq!(caller.join().unwrap(), Ok(20));
    });
    let call = client.start(&3).unwrap();
    assert_eq!(server.recv().unwrap().deadline(), None);
    assert_eq!(call.wait(), Err(CallError::Refused));
    // Without room, nothing is sent.
    let held = [client.start(&4).unwrap(), client.start(&5).unwrap()];
    assert_eq!(client.try_start(&6).unwrap_err(), CallError::Full);
    assert_eq!(client.start_timeout(&6, SOON).unwrap_err(), CallError::Full);
    assert_eq!(client.call_timeout(&6, SOON), Err(CallError::Full));
    assert_eq!(client.try_loan().unwrap_err(), CallError::Full);
    drop(held);
    assert_whole(&service);
}

#[test]
fn what_cannot_be_sent_changes_no_counter() {
    let name = name("counters");
    let service = Service::<[u8], u64>::builder(2).quota(1 << 16).create(&name).unwrap();
    let client = service.client();
    let fresh = counters(&name);
    assert_eq!(client.call(&[1]), Err(CallError::NoServer));
    assert_eq!(counters(&name), fresh);
    let server = service.server();
    assert!(
        matches!(client.call(&[1; 1 << 20]), Err(CallError::TooLarge(excess)) if excess.quota() == 1 << 16)
    );
    assert_eq!(counters(&name), fresh);
    assert_eq!(Service::<[u16], u64>::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(counters(&name), fresh);
    let long = [client.start(&[1; 20_000]).unwrap(), client.start(&[2; 20_000]).unwrap()];
    let full = (counters(&name), state(&name)["in use for requests"].clone());
    for _ in 0..100 {
        assert_eq!(client.try_start(&[3; 20_000]).unwrap_err(), CallError::Full);
        assert_eq!(client.try_start(&[3]).unwrap_err(), CallError::Full);
        assert_eq!(client.call_timeout(&[3; 30_000], Duration::ZERO), Err(CallError::Full));
    }
    assert_eq!((counters(&name), state(&name)["in use for requests"].clone()), full);
    service.close();
    for _ in 0..100 {
        assert_eq!(client.try_start(&[4]).unwrap_err(), CallError::Closed);
        assert_eq!(client.start(&[4; 20_000]).unwrap_err(), CallError::Closed);
    }
    assert_eq!((counters(&name), state(&name)["in use for requests"].clone()), full);
    for (n, call) in (1..).zip(long) {
        let request = server.recv().unwrap();
        let sum = request.iter().map(|byte| u64::from(*byte)).sum();
        request.reply(&sum).unwrap();
        assert_eq!(call.wait(), Ok(20_000 * n));
    }
    assert_eq!(server.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(state(&name)["in use for requests"], "0");
}

#[test]
fn a_thousand_cancelled_calls_leave_a_thousand_free_slots() {
    let service = Service::<u64, u64>::new(1000).unwrap();
    let (client, server) = (service.client(), service.server());
    for _ in 0..2 {
        let calls: Vec<_> = (0..1000).map(|n| client.try_start(&n).unwrap()).collect();
        assert_eq!(client.try_start(&0).unwrap_err(), CallError::Full);
        drop(calls);
        assert_eq!(server.try_recv().unwrap_err(), RecvError::Empty);
    }
    // Also behind a call that goes on, which keeps its place in the order.
    let oldest = client.start(&7).unwrap();
    for round in 0..5 {
        let calls: Vec<_> = (0..999).map(|n| client.try_start(&(n + round)).unwrap()).collect();
        assert_eq!(client.try_start(&0).unwrap_err(), CallError::Full);
        drop(calls);
    }
    let newest = client.start(&8).unwrap();
    server.recv().unwrap().reply(&70).unwrap();
    server.recv().unwrap().reply(&80).unwrap();
    assert_eq!((oldest.wait(), newest.wait()), (Ok(70), Ok(80)));
    assert_whole(&service);
}

#[test]
fn requests_are_received_in_the_order_in_which_they_were_sent() {
    let mut random = Random::new();
    for capacity in [1, 2, 3, 5, 8] {
        let service = Service::<u64, u64>::new(capacity).unwrap();
        let (client, server) = (service.client(), service.server());
        let (mut waiting, mut served, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..3000u64 {
            match random.below(6) {
                0..=2 => match client.try_start(&n) {
                    Ok(call) => waiting.push((n, call)),
                    Err(error) => {
                        let all = waiting.len() + served.len() + ended.len();
                        assert_eq!((error, all), (CallError::Full, capacity));
                    }
                },
                3 if !waiting.is_empty() => {
                    let at = random.below(waiting.len() as u64) as usize;
                    drop(waiting.remove(at));
                }
                4 => match server.try_recv() {
                    Ok(request) => {
                        let (oldest, call) = waiting.remove(0);
                        assert_eq!(*request, oldest, "capacity {capacity}");
                        served.push((request, call));
                    }
                    Err(error) => assert!(error == RecvError::Empty && waiting.is_empty()),
                },
                _ if !served.is_empty() => {
                    let (request, call) = served.remove(random.below(served.len() as u64) as usize);
                    let n = *request;
                    request.reply(&(n + 1)).unwrap();
                    if random.below(2) == 0 {
                        assert_eq!(call.wait(), Ok(n + 1));
                    } else {
                        ended.push(call);
                    }
                }
                _ => ended.clear(),
            }
        }
        drop((waiting, served, ended));
        assert_whole(&service);
    }
}

#[test]
fn messages_in_place() {
    let service = Service::<[u32; 5000], [u64; 3000]>::new(2).unwrap();
    let (client, server) = (service.client(), service.server());
    for round in 0..5u32 {
        let mut loan = client.loan().unwrap();
        loan.fill(round);
        let call = loan.start().unwrap();
        let request = server.recv().unwrap();
        assert_eq!(request[4999], round);
        let mut reply = request.reply_loan().unwrap();
        let (request, answer) = reply.parts();
        answer.fill(u64::from(request[0]) + 7);
        reply.send().unwrap();
        let answer = call.wait_ref().unwrap();
        assert_eq!((answer[0], answer[2999]), (u64::from(round) + 7, u64::from(round) + 7));
        // A dropped loan sends nothing, and a dropped answer refuses.
        drop((client.loan().unwrap(), answer));
        let call = client.start(&[1; 5000]).unwrap();
        drop(server.recv().unwrap().reply_loan().unwrap());
        assert_eq!(call.wait(), Err(CallError::Refused));
    }
}

#[test]
fn a_loan_that_was_skipped_gets_a_new_place() {
    let service = Service::<u64, u64>::new(3).unwrap();
    let (client, server) = (service.client(), service.server());
    let mut loan = client.loan().unwrap();
    *loan = 1;
    let second = client.start(&2).unwrap();
    server.recv().unwrap().reply(&20).unwrap(); // skips the loan
    assert_eq!(second.wait(), Ok(20));
    let first = loan.start().unwrap();
    let request = server.recv().unwrap();
    assert_eq!(*request, 1);
    request.reply(&10).unwrap();
    assert_eq!(first.wait(), Ok(10));
    assert_whole(&service);
}

#[test]
fn messages_of_any_length() {
    let service = Service::<str, [u64]>::builder(4).quota(1 << 20).inline(40).build().unwrap();
    let (client, server) = (service.client(), service.server());
    std::thread::scope(|scope| {
        let lengths = |text: &str| text.split(' ').map(|word| word.len() as u64).collect::<Vec<_>>();
        let server = scope.spawn(move || server.serve(lengths));
        let mut random = Random::new();
        for _ in 0..2000 {
            let most = [3, 30, 3000][random.below(3) as usize];
            let words = 1 + random.below(most) as usize;
            let text = vec!["word"; words].join(" ");
            assert_eq!(client.call(&text).unwrap(), vec![4; words]);
            assert_eq!(*client.call_ref(&text).unwrap(), *vec![4; words]);
        }
        service.close();
        server.join().unwrap().unwrap();
    });
    let service = Service::<[u32], str>::new(4).unwrap();
    let (client, server) = (service.client(), service.server());
    for len in [0, 1, 24, 25, 10_000] {
        let call = client.loan(len).unwrap().fill_with(|n| n as u32).start().unwrap();
        let request = server.recv().unwrap();
        assert!(request.iter().copied().eq(0..len as u32));
        let text = "x".repeat(request.len());
        request.reply(&text).unwrap();
        assert_eq!(call.wait().unwrap(), text);
        let call = client.loan_from(&vec![1; len]).unwrap().start().unwrap();
        assert_eq!(*server.recv().unwrap(), *vec![1; len]);
        assert_eq!(call.wait(), Err(CallError::Refused));
    }
}

#[test]
fn an_answer_without_memory_waits_or_says_so() {
    let name = name("memory");
    let service = Service::<u64, [u8]>::builder(8).quota(1 << 16).create(&name).unwrap();
    let (client, server) = (service.client(), service.server());
    let call = client.start(&1).unwrap();
    let request = server.recv().unwrap();
    let error = request.reply(&[1; 1 << 20]).unwrap_err();
    assert!(matches!(&error, SendError::TooLarge(_, excess) if excess.quota() == 1 << 16));
    // The server has the request again, and the memory of what it did not send.
    error.into_inner().reply(&[7; 40_000]).unwrap();
    let held = call.wait_ref().unwrap();
    let call = client.start(&2).unwrap();
    let request = server.recv().unwrap();
    let error = request.try_reply(&[2; 40_000]).unwrap_err();
    assert!(matches!(error, SendError::Full(_)));
    let error = error.into_inner().reply_timeout(&[2; 40_000], SOON).unwrap_err();
    assert!(matches!(error, SendError::Full(_)));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| error.into_inner().reply(&[2; 40_000]).is_ok());
        until("the server waits for memory", || state(&name)["clients wait for room"] == "true");
        assert_eq!(held[39_999], 7);
        drop(held);
        assert!(waiter.join().unwrap());
    });
    assert_eq!(call.wait().unwrap().len(), 40_000);
    // One that waits notices that its caller gives up.
    let held = client.start(&3).unwrap();
    server.recv().unwrap().reply(&[3; 40_000]).unwrap();
    let call = client.start(&4).unwrap();
    let request = server.recv().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| request.reply(&[4; 40_000]).map_err(|error| error.is_closed()));
        drop(call);
        assert_eq!(waiter.join().unwrap(), Err(true));
    });
    assert_eq!(held.wait().unwrap(), [3; 40_000]);
    assert_eq!(state(&name)["in use for answers"], "0");
}

#[test]
fn requests_that_take_all_memory_leave_some_for_answers() {
    let service = Service::<[u8], [u8]>::builder(8).quota(1 << 16).build().unwrap();
    let (client, server) = (service.client(), service.server());
    let first = client.start(&[1; 40_000]).unwrap();
    std::thread::scope(|scope| {
        let client = &client;
        let waiter = scope.spawn(move || client.call(&[2; 40_000]));
        for _ in 0..2 {
            let request = server.recv().unwrap();
            let answer = request.iter().map(|byte| byte + 1).collect::<Vec<_>>();
            request.reply(&answer).unwrap();
            if answer[0] == 2 {
                break;
            }
        }
        assert_eq!(first.wait().unwrap(), [2; 40_000]);
        let request = server.recv().unwrap();
        assert_eq!(*request, [2; 40_000]);
        request.reply(&[]).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), []);
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Method {
    Get = 1,
    Put = 2,
}

#[test]
fn bytes_that_are_no_request_end_the_call_and_not_the_server() {
    let name = name("invalid");
    let honest = Service::<Method, Method>::create(&name, 2).unwrap();
    let (client, server) = (honest.client(), honest.server());
    let call = client.start(&Method::Get).unwrap();
    // The request follows the words of the slot, and the answer follows the request.
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
    let at = {
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(
            &std::fs::File::open(format!("/dev/shm/pagemate.{name}")).unwrap(),
            &mut bytes,
            20_480 + 32,
        )
        .unwrap();
        u64::from_le_bytes(bytes) + 4992
    };
    let set = |slot: u64, offset: u64, byte: u8| {
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte], at + 128 * slot + offset).unwrap();
    };
    set(0, 32, 99);
    let next = client.start(&Method::Put).unwrap();
    let request = server.recv().unwrap();
    assert_eq!(*request, Method::Put, "the invalid one was passed");
    assert_eq!(call.wait(), Err(CallError::Corrupted));
    request.reply(&Method::Get).unwrap();
    set(1, 33, 99);
    assert_eq!(next.wait(), Err(CallError::Corrupted));
    let call = client.start(&Method::Put).unwrap();
    server.recv().unwrap().reply(&Method::Put).unwrap();
    assert_eq!(call.wait(), Ok(Method::Put));
}

#[test]
fn without_a_server() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let client = service.client();
    assert!(!service.has_server());
    let begin = Instant::now();
    assert_eq!(client.call(&1), Err(CallError::NoServer));
    assert_eq!(client.start(&1).unwrap_err(), CallError::NoServer);
    assert_eq!(client.loan().unwrap_err(), CallError::NoServer);
    assert!(begin.elapsed() < Duration::from_millis(40), "it does not wait");
    // The last of several servers leaves.
    let servers = [service.server(), service.server(), service.server().clone()];
    assert!(service.has_server());
    let calls = [client.start(&2).unwrap(), client.start(&3).unwrap()];
    std::thread::scope(|scope| {
        let [first, second] = calls;
        let waiter = scope.spawn(|| first.wait());
        drop(servers);
        assert_eq!(waiter.join().unwrap(), Err(CallError::NoServer));
        // One that polls finds out too.
        assert_eq!(second.try_wait().unwrap(), Err(CallError::NoServer));
    });
    assert_whole(&service);
    // One that has the request keeps the call going.
    let server = service.server();
    let call = client.start(&4).unwrap();
    let request = server.recv().unwrap();
    let call = call.wait_timeout(SOON).unwrap_err();
    request.reply(&40).unwrap();
    assert_eq!(call.wait(), Ok(40));
}

#[test]
fn a_client_may_wait_for_a_server() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let client = service.client().wait_for_server(true);
    assert_eq!(client.call_timeout(&1, SOON), Err(CallError::TimedOut));
    let other = client.clone();
    let waiter = std::thread::spawn(move || other.call_timeout(&2, LONG));
    let server = service.server();
    let request = server.recv().unwrap();
    assert_eq!(*request, 2);
    request.reply(&20).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(20));
    drop(server);
    // One that waits for room learns that there is no server, unless it waits for one.
    let held = [client.start(&3).unwrap(), client.start(&4).unwrap()];
    let server = service.server();
    let impatient = service.client();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || impatient.call(&5));
        drop(server);
        assert_eq!(waiter.join().unwrap(), Err(CallError::NoServer));
    });
    drop(held);
    assert_whole(&service);
}

#[test]
fn a_copy_of_the_process_has_none_of_it() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let (client, server) = (service.client(), service.server());
    let mut calls = [1, 2, 3].map(|n| Some(client.start(&n).unwrap()));
    let mut requests = [(); 2].map(|()| Some(server.recv().unwrap()));
    let mut loan = Some(client.loan().unwrap());
    let mut other = Some(service.server());
    let child = Forked::run(|| {
        let refused = |error: CallError| matches!(error, CallError::NotInThisProcess(_));
        let [first, second, third] = calls.each_mut().map(Option::take);
        assert!(first.unwrap().wait().is_err_and(refused));
        assert!(second.unwrap().try_wait().unwrap().is_err_and(refused));
        drop(third);
        let [first, second] = requests.each_mut().map(Option::take);
        assert!(matches!(first.unwrap().reply(&9), Err(SendError::NotInThisProcess(..))));
        drop(second);
        assert!(loan.take().unwrap().call().is_err_and(refused));
        drop(other.take());
        0
    });
    assert_eq!(child.wait(), 0);
    // Here everything is as it was.
    requests.into_iter().flatten().for_each(|request| request.reply(&7).unwrap());
    drop(server);
    assert!(service.has_server());
    let server = other.unwrap();
    server.recv().unwrap().reply(&8).unwrap();
    assert_eq!(calls.map(|call| call.unwrap().wait()), [Ok(7), Ok(7), Ok(8)]);
    let call = loan.unwrap().start().unwrap();
    server.recv().unwrap().reply(&9).unwrap();
    assert_eq!(call.wait(), Ok(9));
}

#[test]
fn by_name() {
    let name = name("name");
    let name = name.as_str();
    assert_eq!(Service::<u64, u64>::open(name).unwrap_err().kind(), ErrorKind::NotFound);
    let (service, origin) = Service::<u64, u64>::open_or_create(name, 5).unwrap();
    assert_eq!((origin, service.capacity()), (Origin::Created, 5));
    assert_eq!(Service::<u64, u64>::create(name, 5).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let (other, origin) = Service::<u64, u64>::open_or_create(name, 9).unwrap();
    assert_eq!((origin, other.capacity()), (Origin::Opened, 5));
    let server = other.server();
    let client = service.client();
    let call = client.start(&1).unwrap();
    server.recv().unwrap().reply(&2).unwrap();
    assert_eq!(call.wait(), Ok(2));
    for error in [
        Service::<u64, u32>::open(name).map(drop).unwrap_err(),
        Service::<[u64], u64>::open(name).map(drop).unwrap_err(),
        Service::<u64, str>::open(name).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        assert!(error.to_string().contains("=> u64"), "{error}");
    }
    for capacity in [0, 1 << 33] {
        assert_eq!(Service::<u64, u64>::new(capacity).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn alignments_and_sizes() {
    #[derive(Debug, Clone, Copy, PartialEq, Message)]
    #[repr(C, align(64))]
    struct Wide([u8; 64]);

    fn check<Q: Message + PartialEq + std::fmt::Debug, R: Message + PartialEq + std::fmt::Debug>(q: Q, r: R) {
        let service = Service::<Q, R>::new(3).unwrap();
        let (client, server) = (service.client(), service.server());
        for _ in 0..7 {
            let call = client.start(&q).unwrap();
            let request = server.recv().unwrap();
            assert_eq!(*request, q);
            request.reply(&r).unwrap();
            assert_eq!(*call.wait_ref().unwrap(), r);
        }
        let slices = Service::<[Q], [R]>::builder(3).quota(1 << 18).build().unwrap();
        let (client, server) = (slices.client(), slices.server());
        for len in [0, 1, 3, 900] {
            let call = client.start(&vec![q; len]).unwrap();
            let request = server.recv().unwrap();
            assert!(request.as_ptr().is_aligned() && *request == *vec![q; len]);
            request.reply(&vec![r; len]).unwrap();
            let answer = call.wait_ref().unwrap();
            assert!(answer.as_ptr().is_aligned() && *answer == *vec![r; len]);
        }
    }
    check((), ());
    check(1u8, ());
    check((), 2u16);
    check(Wide([1; 64]), 3u8);
    check(4u8, Wide([2; 64]));
    check(Wide([3; 64]), Wide([4; 64]));
    check([5u64; 30], [6u16; 7]);
}

#[test]
fn members_of_a_set() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let (client, server) = (service.client(), service.server());
    let mut set = WaitSet::new();
    set.add(0, &server).unwrap();
    assert!(set.try_wait().unwrap().is_empty());
    let [first, second] = [1, 2].map(|n| client.start(&n).unwrap());
    set.add(1, &first).unwrap();
    set.add(2, &second).unwrap();
    assert_eq!(set.wait().unwrap(), [0]);
    let requests = [server.recv().unwrap(), server.recv().unwrap()];
    assert!(set.wait_timeout(SOON).unwrap().is_empty());
    std::thread::scope(|scope| {
        let [one, two] = requests;
        let waiter = scope.spawn(|| set.wait_timeout(LONG).unwrap());
        two.reply(&20).unwrap();
        assert_eq!(waiter.join().unwrap(), [2]);
        one.reply(&10).unwrap();
    });
    let mut ready = set.wait().unwrap();
    ready.sort_unstable();
    assert_eq!(ready, [1, 2]);
    set.remove(1);
    set.remove(2);
    assert_eq!((first.wait(), second.wait()), (Ok(10), Ok(20)));
    // The end of the service, and of a call that no server will have.
    let call = client.start(&3).unwrap();
    set.add(3, &call).unwrap();
    assert_eq!(set.wait().unwrap(), [0]);
    set.remove(0);
    drop(server);
    assert_eq!(set.wait_timeout(LONG).unwrap(), [3]);
    assert_eq!(call.wait(), Err(CallError::NoServer));
    let server = service.server();
    set = WaitSet::new();
    set.add(0, &server).unwrap();
    service.close();
    assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
    assert_eq!(server.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn in_a_manager() {
    let manager = Manager::new().unwrap();
    let service = manager.service::<str, u64>("lengths", 4).unwrap();
    let server = service.server();
    let client = manager.service::<str, u64>("lengths", 9).unwrap().client();
    let call = client.start("four").unwrap();
    let request = server.recv().unwrap();
    let len = request.len() as u64;
    request.reply(&len).unwrap();
    assert_eq!(call.wait(), Ok(4));
    assert_eq!(manager.service::<str, u64>("lengths", 9).unwrap().capacity(), 4);
    let error = manager.service::<str, u32>("lengths", 4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
}

fn doubles((server, client): (Server<u64, u64>, Client<u64, u64>)) -> u64 {
    // It calls itself before it serves, and answers in between.
    let call = client.start(&20).unwrap();
    server.recv().unwrap().reply(&40).unwrap();
    let answer = call.wait().unwrap();
    server.serve(|n| 2 * n).unwrap();
    answer
}

#[test]
fn a_server_and_a_client_as_arguments_of_a_child() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let client = service.client();
    let child = Process::spawn(doubles, (service.server(), service.client())).unwrap();
    // It has one from the moment at which the child was started.
    assert!(service.has_server());
    until("the child has answered itself", || client.call(&7) == Ok(14));
    service.close();
    assert_eq!(child.join().unwrap(), 40);
    until("the server has left", || !service.has_server());
}

/// A client and a server of one thread each, whose handles are shared.
#[test]
fn handles_are_shared_by_threads() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let (client, server): (Client<u64, u64>, Server<u64, u64>) = (service.client(), service.server());
    std::thread::scope(|scope| {
        let servers = [(); 2].map(|()| scope.spawn(|| server.serve(|n| n + 1).unwrap()));
        let clients =
            [(); 3].map(|()| scope.spawn(|| (0..500).for_each(|n| assert_eq!(client.call(&n), Ok(n + 1)))));
        clients.into_iter().for_each(|client| client.join().unwrap());
        service.close();
        servers.into_iter().for_each(|server| server.join().unwrap());
    });
}
