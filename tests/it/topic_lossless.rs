//! Lossless subscribers: publishers wait for them, whenever they join, until they die; and what
//! happens to one that lags at a publisher's deadline.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, Policy, Publisher, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::{inspect, ErrorKind, Event, Process, Topic, Value};

use crate::support::until;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(5);

fn topic(capacity: usize, policy: Policy) -> Topic<u64> {
    Topic::builder(capacity).policy(policy).build().unwrap()
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a child of ours that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

/// Publishes numbers from `next` on until there is no room. Returns the next.
fn fill(publisher: &Publisher<u64>, next: u64) -> u64 {
    (next..).find(|n| publisher.try_publish(*n).is_err()).unwrap()
}

fn drain(subscriber: &mut Subscriber<u64>) -> Vec<u64> {
    std::iter::from_fn(|| subscriber.try_recv().ok()).collect()
}

#[test]
fn publishers_stop_at_the_capacity() {
    for capacity in [1, 2, 3, 15, 16, 64, 100] {
        let topic = topic(capacity as usize, Policy::Block);
        let publisher = topic.publisher();
        (0..3).for_each(|n| publisher.publish(n).unwrap());
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let mut lossy = topic.subscribe(From::Latest).unwrap();
        let mut next = 3;
        for round in 0..40 {
            let begin = lossless.position();
            next = fill(&publisher, next);
            assert_eq!((next, lossless.lag()), (begin + capacity, capacity), "round {round}");
            assert_eq!(publisher.try_publish(9), Err(SendError::Full(9)));
            assert!(publisher.publish_timeout(9, Duration::from_millis(1)).unwrap_err().is_full());
            assert!(publisher.publish_deadline(9, Instant::now()).unwrap_err().is_full());
            assert!(publisher.try_loan().is_err() && publisher.loan_timeout(Duration::ZERO).is_err());
            let count = 1 + round % capacity;
            (begin..begin + count).for_each(|n| assert_eq!(lossless.try_recv(), Ok(n)));
            let seen = drain(&mut lossy);
            assert_eq!(
                (seen.last(), lossy.lost()),
                (Some(&(next - 1)), 0),
                "lossy subscribers lose nothing either"
            );
        }
        assert_eq!((lossless.lost(), lossless.is_lossless(), lossy.is_lossless()), (0, true, false));
        drop(lossless);
        (0..10 * capacity).for_each(|n| publisher.try_publish(n).unwrap());
    }
}

#[test]
fn publishers_wait_for_the_slowest_of_several_subscribers() {
    let topic = topic(4, Policy::Block);
    let publisher = topic.publisher();
    let mut all = [(); 5].map(|()| topic.subscribe_lossless(From::Latest).unwrap());
    let mut next = 0;
    for slowest in (0..5).chain(0..5) {
        next = fill(&publisher, next);
        let [begin] = [all[slowest].position()];
        for (index, subscriber) in all.iter_mut().enumerate().filter(|(index, _)| *index != slowest) {
            assert_eq!(drain(subscriber), (subscriber.position() - 4..next).collect::<Vec<_>>(), "{index}");
        }
        assert_eq!(fill(&publisher, next), next, "one laggard is enough");
        assert_eq!(drain(&mut all[slowest]), (begin..next).collect::<Vec<_>>());
    }
}

#[test]
fn publish_sleeps_until_a_message_is_received() {
    for in_place in [false, true] {
        let topic = topic(2, Policy::Block);
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let publisher = topic.publisher();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| (0..100).try_for_each(|n| publisher.publish(n)).unwrap()))
                .collect();
            for n in 0..300 {
                if n % 50 == 0 {
                    until("publishers sleep", || format!("{topic:?}").contains("publishers_wait: true"));
                }
                match in_place {
                    false => _ = lossless.recv_timeout(LONG).unwrap(),
                    true => _ = *lossless.recv_ref_timeout(LONG).unwrap(),
                }
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!((lossless.position(), lossless.lost()), (300, 0));
    }
}

#[test]
fn closing_and_leaving_wake_publishers() {
    for closes in [true, false] {
        let topic = topic(1, Policy::Block);
        let lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let publisher = topic.publisher();
        publisher.publish(0).unwrap();
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| publisher.publish(1));
            until("it sleeps", || format!("{topic:?}").contains("publishers_wait: true"));
            match closes {
                true => assert!(topic.close()),
                false => drop(lossless),
            }
            thread.join().unwrap()
        });
        assert_eq!(result.is_ok(), !closes);
    }
}

#[test]
fn loans_and_their_drops_do_not_block_a_subscriber_that_waits() {
    for capacity in [1, 2, 4] {
        let topic = topic(capacity, Policy::Fail);
        let publisher = topic.publisher();
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let early = publisher.try_loan_with(100).unwrap();
        for n in 0..20 {
            drop(publisher.try_loan().unwrap());
            publisher.try_publish(n).unwrap();
            assert_eq!(lossless.try_recv(), Ok(n), "capacity {capacity}");
        }
        early.try_publish().unwrap();
        assert_eq!(lossless.try_recv(), Ok(100));
        let end = fill(&publisher, 0);
        let late = publisher.try_loan();
        assert!(late.is_err() && end == capacity as u64);
        assert_eq!(drain(&mut lossless), (0..end).collect::<Vec<_>>());
    }
}

#[test]
fn a_reader_in_place_does_not_gate_and_its_message_stays() {
    let topic = topic(2, Policy::Block);
    let publisher = topic.publisher();
    let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
    let mut other = topic.subscribe_lossless(From::Latest).unwrap();
    publisher.publish(0).unwrap();
    let held = lossless.recv_ref().unwrap();
    assert_eq!(other.recv(), Ok(0));
    publisher.try_publish(1).unwrap();
    publisher.try_publish(2).unwrap();
    assert_eq!((drain(&mut other), *held), (vec![1, 2], 0));
    assert!(publisher.try_publish(3).is_err(), "it holds one message, and has two to receive");
    drop(held);
    assert_eq!(drain(&mut lossless), [1, 2]);
}

#[test]
fn a_laggard_is_named() {
    let topic = topic(2, Policy::Fail);
    let publisher = topic.publisher();
    let ready = Event::new().unwrap();
    let child = Process::spawn(idle_lossless, (topic.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let next = fill(&publisher, 0);
    for error in [publisher.try_publish(next), publisher.publish_timeout(next, SHORT)] {
        let error = error.unwrap_err();
        let SendError::Lagging(value, laggard) = error else { panic!("{error:?}") };
        assert_eq!((value, laggard.pid()), (next, child.pid()));
        assert!(error.is_full() && error.to_string().contains(&format!("process {}", child.pid())));
        assert_eq!(pagemate::Error::from(error).kind(), ErrorKind::TimedOut);
    }
    child.kill().unwrap();
    assert!(child.join().is_err());
    // A program that another test starts may have a copy of its lock for a moment.
    publisher.publish_timeout(next, LONG).unwrap();
}

#[test]
fn an_evicted_laggard_learns_the_number_of_lost_messages() {
    for capacity in [1, 2, 15, 16, 70] {
        let topic = topic(capacity as usize, Policy::Evict);
        let publisher = topic.publisher();
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let mut good = topic.subscribe_lossless(From::Latest).unwrap();
        for n in 0..capacity + 3 {
            publisher.publish_timeout(n, SHORT).unwrap();
            assert_eq!(good.try_recv(), Ok(n));
            assert_eq!(lossless.is_lossless(), n < capacity);
        }
        assert_eq!(lossless.try_recv(), Err(RecvError::Lagged(3)), "capacity {capacity}");
        assert_eq!((lossless.lost(), lossless.is_lossless(), good.is_lossless()), (3, false, true));
        assert_eq!(drain(&mut lossless), (3..capacity + 3).collect::<Vec<_>>());
        for n in 0..3 * capacity {
            publisher.try_publish(n).unwrap();
            good.try_recv().unwrap();
        }
        assert!(
            matches!(lossless.try_recv(), Err(RecvError::Lagged(_))),
            "it continues as a lossy subscriber"
        );
    }
}

#[test]
fn a_message_in_place_outlasts_the_eviction_of_its_reader() {
    let topic = topic(1, Policy::Evict);
    let publisher = topic.publisher();
    let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
    publisher.try_publish(0).unwrap();
    let held = lossless.try_recv_ref().unwrap();
    (1..50).for_each(|n| publisher.try_publish(n).unwrap());
    assert_eq!(*held, 0);
    drop(held);
    assert_eq!(lossless.try_recv_ref().map(|message| *message), Err(RecvError::Lagged(48)));
    assert_eq!(lossless.try_recv(), Ok(49));
}

#[test]
fn lossless_subscribers_begin_at_earlier_messages() {
    let topic = topic(8, Policy::Block);
    let publisher = topic.publisher();
    (0..20).for_each(|n| publisher.publish(n).unwrap());
    let seen = |from| drain(&mut topic.subscribe_lossless(from).unwrap());
    assert_eq!(seen(From::Earliest), (12..20).collect::<Vec<_>>());
    assert_eq!(seen(From::Last(3)), [17, 18, 19]);
    assert_eq!(seen(From::Position(15)), (15..20).collect::<Vec<_>>());
    assert!(topic.subscribe_lossless(From::Position(21)).is_err());
    let mut late = topic.subscribe_lossless(From::Position(2)).unwrap();
    assert_eq!(late.try_recv(), Err(RecvError::Lagged(10)));
    assert!(publisher.try_publish(20).is_err());
    assert_eq!(drain(&mut late), (12..20).collect::<Vec<_>>());
    publisher.try_publish(20).unwrap();
}

#[test]
fn the_policy_and_lossless_subscribers_are_shown() {
    let name = format!("test-topic-shown-{}", std::process::id());
    let topic = Topic::<u64>::builder(2).policy(Policy::Evict).create(&name).unwrap();
    assert_eq!(topic.policy(), Policy::Evict);
    let publishers = [topic.publisher(), topic.publisher()];
    let evicted = topic.subscribe_lossless(From::Latest).unwrap();
    (0..3).for_each(|n| publishers[0].try_publish(n).unwrap());
    let lossless = topic.subscribe_lossless(From::Latest).unwrap();
    publishers[0].try_publish(3).unwrap();
    let seen = inspect::segment(name.as_str()).unwrap();
    let state = &seen.objects[0].state;
    let assert_shown = |label: &str, text: &str| {
        let found = state.iter().find(|(other, _)| *other == label);
        assert_eq!(found.map(|(_, text)| text.as_str()), Some(text), "{label}");
    };
    assert_shown("policy", "evict");
    assert_shown("ends with publishers", "false");
    assert_shown("publishers", "2");
    assert_shown("subscribers", "2");
    assert_shown("lossless", "1");
    assert_shown("largest lag", "4");
    assert_shown(
        "subscribed",
        "participant 0: evicted, lag 4, lost 0; participant 0: lossless, lag 1, lost 0",
    );
    assert_shown("publishers wait", "false");
    drop((evicted, lossless));
}

fn idle_lossless((topic, ready): (Topic<u64>, Event)) {
    let subscriber = topic.subscribe_lossless(From::Latest).unwrap();
    ready.set();
    Event::new().unwrap().wait();
    drop(subscriber);
}

#[test]
fn a_killed_subscriber_does_not_hold_a_publisher_up() {
    let mut longest = Duration::ZERO;
    for policy in [Policy::Block, Policy::Fail, Policy::Evict] {
        for _ in 0..3 {
            let topic = topic(2, policy);
            let publisher = topic.publisher();
            let ready = Event::new().unwrap();
            let child = Process::spawn(idle_lossless, (topic.clone(), ready.clone())).unwrap();
            assert!(ready.wait_timeout(LONG));
            let mut own = topic.subscribe_lossless(From::Latest).unwrap();
            let next = match policy {
                Policy::Evict => (0..2).map(|n| publisher.publish(n).unwrap()).count() as u64,
                _ => fill(&publisher, 0),
            };
            drain(&mut own);
            let time = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    publisher.publish(next).unwrap();
                    Instant::now()
                });
                until("it sleeps", || format!("{topic:?}").contains("publishers_wait: true"));
                let killed = Instant::now();
                child.kill().unwrap();
                thread.join().unwrap().saturating_duration_since(killed)
            });
            assert!(child.join().is_err());
            longest = longest.max(time);
            assert!(own.is_lossless() && own.recv() == Ok(next));
        }
    }
    println!("held up for {longest:?} at most");
    // Other tests and other work keep the processors busy.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

fn count_lossless((topic, ready): (Topic<u64>, Event)) -> (u64, u64) {
    let mut subscriber = topic.subscribe_lossless(From::Latest).unwrap();
    ready.set();
    let count = subscriber.iter().enumerate().map(|(n, value)| assert_eq!(value, Ok(n as u64))).count();
    (count as u64, subscriber.lost())
}

#[test]
fn a_stopped_subscriber_is_not_dead() {
    for policy in [Policy::Block, Policy::Fail] {
        let topic = topic(4, policy);
        let publisher = topic.publisher();
        let ready = Event::new().unwrap();
        let child = Process::spawn(count_lossless, (topic.clone(), ready.clone())).unwrap();
        assert!(ready.wait_timeout(LONG));
        signal(child.pid(), libc::SIGSTOP);
        let next = fill(&publisher, 0);
        assert_eq!(next, 4);
        let error = publisher.publish_timeout(next, Duration::from_millis(200)).unwrap_err();
        assert!(error.is_full(), "{error}");
        signal(child.pid(), libc::SIGCONT);
        (next..100).for_each(|n| publisher.publish(n).unwrap());
        topic.close();
        assert_eq!(child.join().unwrap(), (100, 0));
    }
}

/// Joins again and again while the numbers from 0 on are published, and receives some of them.
/// Counts how often it has begun.
fn join_often((topic, seed, count): (Topic<u64>, u64, Value<u64>)) {
    let mut joins = 0;
    loop {
        joins += 1;
        count.fetch_add(1);
        let froms = [From::Latest, From::Earliest, From::Last(1 + joins % 5)];
        let mut own = topic.subscribe_lossless(froms[((joins + seed) % 3) as usize]).unwrap();
        let begin = own.position();
        for position in begin..begin + joins % 50 {
            match own.recv() {
                Ok(value) => assert_eq!((value, own.position()), (position, position + 1), "from {begin}"),
                Err(error) => {
                    assert_eq!((error, own.lost()), (RecvError::Closed, 0));
                    return;
                }
            }
        }
        assert!(own.is_lossless());
        if topic.is_closed() {
            return;
        }
    }
}

#[test]
fn joining_while_others_publish_loses_nothing() {
    for capacity in [1, 3, 20, 200] {
        let topic = topic(capacity, Policy::Block);
        let counts = [(); 3].map(|()| Value::new(0_u64).unwrap());
        let joiners: Vec<_> = (0..)
            .zip(&counts)
            .map(|(seed, count)| Process::spawn(join_often, (topic.clone(), seed, count.clone())).unwrap())
            .collect();
        let publisher = topic.publisher();
        let begin = Instant::now();
        // As long as it takes, because a joiner may start late, on a machine that is busy with
        // other work.
        for n in 0.. {
            publisher.publish_timeout(n, LONG).unwrap();
            let is_enough = || counts.iter().all(|count| count.get().unwrap() > 10);
            if n % 256 == 0 && n >= 2_000 && is_enough() {
                break;
            }
            assert!(n % 256 > 0 || begin.elapsed() < LONG, "{counts:?}");
        }
        topic.close();
        joiners.into_iter().for_each(|child| child.join().unwrap());
    }
}

#[test]
fn a_forked_child_is_not_a_lossless_subscriber() {
    let topic = topic(2, Policy::Block);
    let publisher = topic.publisher();
    let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
    // SAFETY: the child takes no lock that another thread of the test may hold except the
    // allocator's, which glibc hands over consistently, and ends without unwinding into the
    // harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_refused = matches!(lossless.try_recv(), Err(RecvError::NotInThisProcess(_)));
        drop((lossless, publisher));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if is_refused { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and status is ours to write.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(fill(&publisher, 0), 2, "the line is still taken");
    assert_eq!(drain(&mut lossless), [0, 1]);
}

#[test]
fn a_waiting_publisher_returns_at_its_deadline() {
    let topic = topic(1, Policy::Block);
    let publisher = topic.publisher();
    let _lossless = topic.subscribe_lossless(From::Latest).unwrap();
    publisher.publish(0).unwrap();
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            let is_full = publisher.publish_timeout(1, Duration::from_millis(120)).unwrap_err().is_full();
            done.send((is_full, begin.elapsed())).unwrap();
        });
        let (is_full, time) = ended.recv_timeout(LONG).unwrap();
        assert!(is_full && time >= Duration::from_millis(120) && time < LONG / 10, "{time:?}");
    });
}

/// Returns the kinds of barriers that this process is registered for: see membarrier(2).
fn barriers() -> i64 {
    const GET_REGISTRATIONS: i32 = 512;
    // SAFETY: this command only reads.
    unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) }
}

fn subscribes(topic: Topic<u64>) -> (i64, i64) {
    let _lossy = topic.subscribe(From::Latest).unwrap();
    let before = barriers();
    let _lossless = topic.subscribe_lossless(From::Latest).unwrap();
    (before, barriers())
}

/// The publishers' barrier must reach a subscriber that has no other object.
#[test]
fn a_lossless_subscriber_is_registered_for_barriers() {
    const GLOBAL_EXPEDITED: i64 = 4;
    if barriers() < 0 {
        return; // before Linux 6.3 the kernel does not say
    }
    let child = Process::spawn(subscribes, topic(2, Policy::Block)).unwrap();
    let (before, after) = child.join().unwrap();
    assert_eq!((before & GLOBAL_EXPEDITED, after & GLOBAL_EXPEDITED), (0, GLOBAL_EXPEDITED));
}
