//! Condition variables between threads and processes: which waiters a notification wakes, with each
//! type of lock, and what deaths do.

use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pagemate::process::Argument;
use pagemate::sync::{LockError, MutexGuard};
use pagemate::{inspect, Condvar, ErrorKind, Event, Lock, Mutex, Origin, Process, ReentrantLock, Segment};
use proptest::prelude::*;

use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// A number of things to take, and a condition to wait on.
type Shop = (Mutex<u64>, Condvar);

fn shop() -> Shop {
    (Mutex::new(0).unwrap(), Condvar::new().unwrap())
}

/// Waits for a thing and takes it.
fn take((things, more): Shop) {
    *more.wait_while(things.lock().unwrap(), |things| *things == 0).unwrap() -= 1;
}

/// Waits once, without a condition. Returns the number of things.
fn wait_once((things, more): Shop) -> u64 {
    *more.wait(things.lock().unwrap()).unwrap()
}

/// Starts `count` children and returns when the condvar counts all of them as waiters.
fn waiting<R: Argument + 'static>(count: usize, shop: &Shop, body: fn(Shop) -> R) -> Vec<Process<R>> {
    let before = shop.1.waiting();
    let children = (0..count).map(|_| Process::spawn(body, shop.clone()).unwrap()).collect();
    until("they wait", || shop.1.waiting() == before + count);
    children
}

/// Returns the result of a child that must end by itself.
fn joined<R: Argument + 'static>(child: Process<R>) -> R {
    until("the child ends", || !child.is_alive());
    child.join().unwrap()
}

#[test]
fn a_notification_to_nobody_is_not_stored() {
    let (things, more) = shop();
    more.notify_one();
    more.notify(3);
    more.notify_all();
    let (guard, notified) = more.wait_timeout(things.lock().unwrap(), SHORT).unwrap();
    assert!(!notified && more.waiting() == 0);
    // A deadline that has passed does not wait, and the lock is acquired again.
    let (guard, notified) = more.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(!notified);
    let (guard, notified) = more.wait_deadline(guard, Instant::now()).unwrap();
    assert!(!notified && things.try_lock().is_err());
    drop(guard);
    assert!(things.try_lock().is_ok());
}

#[test]
fn notify_wakes_the_number_of_waiters_that_it_names() {
    let shop = shop();
    let mut children = waiting(5, &shop, wait_once);
    let ended = |children: &mut Vec<Process<u64>>| {
        let before = children.len();
        children.retain(|child| child.is_alive());
        before - children.len()
    };
    for (notify, left) in [(0, 5), (1, 4), (2, 2)] {
        let before = children.len();
        shop.1.notify(notify);
        assert_eq!(shop.1.waiting(), left, "a notified process is not a waiter any more");
        let mut count = 0;
        until("they end", || {
            count += ended(&mut children);
            count == before - left
        });
    }
    shop.1.notify(100);
    assert_eq!(shop.1.waiting(), 0);
    until("all end", || {
        ended(&mut children);
        children.is_empty()
    });
}

#[test]
fn all_are_woken() {
    let shop = shop();
    let children = waiting(3, &shop, wait_once);
    let guard = {
        let mut guard = shop.0.lock().unwrap();
        *guard = 7;
        shop.1.notify_all();
        guard
    };
    assert_eq!(shop.1.waiting(), 0);
    drop(guard);
    children.into_iter().for_each(|child| assert_eq!(joined(child), 7));
}

#[test]
fn things_are_taken_once_each() {
    const EACH: u64 = 500;
    let shop = shop();
    let body = |shop: Shop| (0..EACH).for_each(|_| take(shop.clone()));
    let children = [(); 3].map(|_| Process::spawn(body, shop.clone()).unwrap());
    for _ in 0..3 * EACH {
        *shop.0.lock().unwrap() += 1;
        shop.1.notify_one();
    }
    children.into_iter().for_each(joined);
    assert_eq!((*shop.0.lock().unwrap(), shop.1.waiting()), (0, 0));
}

#[test]
fn wait_while_checks_before_and_after() {
    let (things, more) = shop();
    // The condition is false at once, so this does not wait.
    let guard = more.wait_while(things.lock().unwrap(), |_| false).unwrap();
    drop(guard);
    // The last answer of the condition is returned, in time and late.
    let (guard, still) = more.wait_timeout_while(things.lock().unwrap(), SHORT, |n| *n == 0).unwrap();
    assert!(still && *guard == 0);
    let (mut guard, still) = more.wait_timeout_while(guard, Duration::ZERO, |n| *n != 0).unwrap();
    assert!(!still, "the condition was false from the start");
    let (_guard, still) = more
        .wait_deadline_while(guard, Instant::now(), |n| {
            *n += 1; // the condition may change what it sees
            *n < 2
        })
        .unwrap();
    assert!(!still, "the condition is checked a last time when the time is over");
    guard = _guard;
    drop(guard);
    // A notification alone does not end the wait.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| *more.wait_while(things.lock().unwrap(), |n| *n < 9).unwrap());
        for n in [3, 5, 9] {
            until("it waits", || more.waiting() == 1);
            *things.lock().unwrap() = n;
            more.notify_one();
        }
        assert_eq!(waiter.join().unwrap(), 9);
    });
}

#[test]
fn timed_waits_end_in_time_beside_stops_and_deaths() {
    let shop = shop();
    let mut children = waiting(2, &shop, wait_once);
    let stopped = children.pop().unwrap();
    // SAFETY: the pid is that of our child, which we have not waited for.
    assert_eq!(unsafe { libc::kill(stopped.pid() as i32, libc::SIGSTOP) }, 0);
    for child in children {
        child.kill().unwrap();
        assert!(child.join().is_err());
    }
    let begin = Instant::now();
    let (guard, notified) = shop.1.wait_timeout(shop.0.lock().unwrap(), Duration::from_millis(200)).unwrap();
    let took = begin.elapsed();
    assert!(!notified && took >= Duration::from_millis(200));
    assert!(took < Duration::from_secs(5), "{took:?}, even on a busy machine");
    drop(guard);
    let begin = Instant::now();
    shop.1.notify_all();
    assert!(begin.elapsed() < Duration::from_secs(5), "notify_all waits for no waiter");
    stopped.kill().unwrap();
    assert!(stopped.join().is_err());
}

#[test]
fn a_reentrant_lock_is_released_as_a_whole_and_restored() {
    let (lock, more, ready) = (ReentrantLock::new().unwrap(), Condvar::new().unwrap(), Event::new().unwrap());
    let body = |(lock, more, ready): (ReentrantLock, Condvar, Event)| {
        ready.wait();
        let guard = lock.lock_timeout(LONG).unwrap();
        assert!(!guard.owner_died());
        more.notify_one();
    };
    let child = Process::spawn(body, (lock.clone(), more.clone(), ready.clone())).unwrap();
    let outer = lock.lock().unwrap();
    lock.acquire().unwrap();
    let inner = lock.lock().unwrap();
    ready.set();
    let inner = more.wait(inner).unwrap();
    child.join().unwrap();
    let is_free = || std::thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap());
    drop(inner);
    assert!(lock.is_held() && !is_free());
    lock.release().unwrap();
    assert!(lock.is_held() && !is_free(), "held three times, as before");
    drop(outer);
    assert!(!lock.is_held() && is_free());
    // The same holds if the wait was in vain.
    let outer = lock.lock().unwrap();
    let (inner, notified) = more.wait_timeout(lock.lock().unwrap(), SHORT).unwrap();
    drop(inner);
    assert!(!notified && lock.is_held());
    drop(outer);
    assert!(!lock.is_held());
}

#[test]
fn with_a_lock_without_data() {
    let (lock, more) = (Lock::new().unwrap(), Condvar::new().unwrap());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(more.wait(lock.lock().unwrap()).unwrap()));
        until("it waits", || more.waiting() == 1);
        drop(lock.lock_timeout(LONG).unwrap());
        more.notify_one();
        waiter.join().unwrap();
    });
    assert!(!lock.is_locked());
}

#[test]
fn a_waiter_is_told_of_the_dead_owner_of_the_lock() {
    let shop = shop();
    let inside = Event::new().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| match shop.1.wait(shop.0.lock().unwrap()) {
            Err(LockError::OwnerDied(mut guard)) => {
                MutexGuard::mark_consistent(&mut guard);
                *guard
            }
            other => panic!("{other:?}"),
        });
        until("it waits", || shop.1.waiting() == 1);
        let body = |((things, more), inside): (Shop, Event)| {
            let mut guard = things.lock().unwrap();
            *guard = 3;
            more.notify_one();
            inside.set();
            Event::new().unwrap().wait();
            drop(guard);
        };
        let child = Process::spawn(body, (shop.clone(), inside.clone())).unwrap();
        assert!(inside.wait_timeout(LONG));
        child.kill().unwrap();
        assert!(child.join().is_err());
        assert_eq!(waiter.join().unwrap(), 3);
    });
    assert!(shop.0.lock().is_ok());
}

#[test]
fn a_notification_does_not_die_with_its_receiver() {
    for _ in 0..5 {
        let shop = shop();
        let first = waiting(1, &shop, take).pop().unwrap();
        let heir = waiting(1, &shop, take).pop().unwrap();
        let mut guard = shop.0.lock().unwrap();
        *guard = 1;
        // The oldest waiter gets the notification, and cannot continue without the lock.
        shop.1.notify_one();
        assert_eq!(shop.1.waiting(), 1);
        first.kill().unwrap();
        assert!(first.join().is_err());
        drop(guard);
        joined(heir);
        assert_eq!(*shop.0.lock().unwrap(), 0);
    }
}

#[test]
fn a_dead_waiter_blocks_no_other() {
    let shop = shop();
    let dead = waiting(1, &shop, take).pop().unwrap();
    let alive = waiting(1, &shop, take).pop().unwrap();
    dead.kill().unwrap();
    assert!(dead.join().is_err());
    *shop.0.lock().unwrap() = 1;
    shop.1.notify_one();
    joined(alive);
    until("the dead waiter is forgotten", || {
        drop(shop.1.wait_timeout(shop.0.lock().unwrap(), Duration::from_millis(1)));
        shop.1.waiting() == 0
    });
}

/// There are more waiters than the table has entries. One process with a thousand waits takes all
/// entries.
#[test]
fn a_waiter_without_an_entry_still_ends_in_time() {
    let name = format!("test-condvar-crowd-{}", std::process::id());
    let more = Condvar::create(&name).unwrap();
    let things = Mutex::new(0_u64).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| *more.wait_while(things.lock().unwrap(), |n| *n == 0).unwrap());
        until("it waits", || more.waiting() == 1);
        let path = format!("/dev/shm/pagemate.{name}");
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        // Two tickets were taken and one entry was used. The entry follows the padding.
        let head: Vec<u8> =
            [2_u32, 0, 1].iter().flat_map(|word| word.to_le_bytes()).chain([0; 116]).collect();
        let at = (0..bytes.len()).step_by(128).find(|at| bytes[*at..].starts_with(&head)).unwrap() + 128;
        let owner = &bytes[at + 12..at + 16];
        let claim = |i: usize, owner| file.write_all_at(owner, (at + 16 * i + 12) as u64).unwrap();
        (1..1024).for_each(|i| claim(i, owner));
        let begin = Instant::now();
        let (guard, notified) = more.wait_timeout(things.lock().unwrap(), SHORT).unwrap();
        assert!(notified, "the waiter checks for itself, every millisecond");
        let (guard, still) = more.wait_timeout_while(guard, SHORT, |n| *n == 0).unwrap();
        assert!(still && begin.elapsed() < Duration::from_secs(10));
        let (mut guard, notified) = more.wait_timeout(guard, Duration::ZERO).unwrap();
        assert!(!notified);
        *guard = 1;
        drop(guard);
        more.notify_all();
        assert_eq!(waiter.join().unwrap(), 1);
        (1..1024).for_each(|i| claim(i, &[0; 4]));
    });
}

#[test]
fn placement() {
    let name = format!("test-condvar-place-{}", std::process::id());
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = Condvar::create(segment.at("c")).unwrap();
    assert_eq!(Condvar::create(segment.at("c")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Condvar::open(segment.at("d")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Event::open(segment.at("c")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (there, origin) = Condvar::open_or_create(segment.at("c")).unwrap();
    assert_eq!(origin, Origin::Opened);
    let things = Mutex::new(0_u64).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(here.wait(things.lock().unwrap()).unwrap()));
        until("it waits", || there.waiting() == 1);
        let state = &inspect::segment(name.as_str()).unwrap().objects[0].state;
        assert_eq!(state, &[("waiters", "1".to_string())]);
        there.notify_one();
        waiter.join().unwrap();
    });
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait,
    WaitInVain,
    Notify(usize),
    NotifyAll,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Threads wait one after the other. A notification of `n` wakes the first `n` of them.
    #[test]
    fn sequences_follow_the_model(
        steps in prop::collection::vec(
            prop_oneof![
                3 => Just(Step::Wait),
                1 => Just(Step::WaitInVain),
                2 => (0..4_usize).prop_map(Step::Notify),
                1 => Just(Step::NotifyAll),
            ],
            0..24,
        )
    ) {
        let (lock, more) = (Mutex::new(0_u64).unwrap(), Condvar::new().unwrap());
        // The number of wake-ups of each waiter.
        let woken: Vec<AtomicUsize> = steps.iter().map(|_| AtomicUsize::new(0)).collect();
        let is_woken = |waiter: usize| woken[waiter].load(SeqCst) == 1;
        std::thread::scope(|scope| {
            let (mut came, mut went) = (0, 0);
            for step in steps {
                match step {
                    Step::Wait => {
                        let (lock, more, woken) = (&lock, &more, &woken[came]);
                        scope.spawn(move || {
                            drop(more.wait(lock.lock().unwrap()).unwrap());
                            woken.store(1, SeqCst);
                        });
                        came += 1;
                        until("it waits", || more.waiting() == came - went);
                    }
                    Step::WaitInVain => {
                        let waited =
                            more.wait_timeout(lock.lock().unwrap(), Duration::from_nanos(1)).unwrap();
                        assert!(!waited.1);
                    }
                    Step::Notify(count) => {
                        more.notify(count);
                        went = came.min(went + count);
                    }
                    Step::NotifyAll => {
                        more.notify_all();
                        went = came;
                    }
                }
                assert_eq!(more.waiting(), came - went);
                until("the notified waiters continue", || (0..went).all(is_woken));
                assert!(!(went..came).any(is_woken), "a waiter that was not notified continues");
            }
            more.notify_all();
        });
    }
}

/// Waits until the call for an interruption panics, after it has done what is to be done.
fn wait_and_panic(changed: &Condvar, mut before: impl FnMut()) {
    let lock = Lock::new().unwrap();
    let wait = || {
        let _ = changed.wait_interruptible(lock.lock().unwrap(), None, || {
            before();
            panic!("interrupted")
        });
    };
    std::panic::catch_unwind(AssertUnwindSafe(wait)).unwrap_err();
    assert!(lock.try_lock().is_ok());
}

#[test]
fn a_waiter_that_panics_takes_no_notification() {
    let changed = Condvar::new().unwrap();
    wait_and_panic(&changed, || assert_eq!(changed.waiting(), 1));
    assert_eq!((changed.waiting(), changed.notify_one()), (0, false));
}

#[test]
fn the_notification_of_a_waiter_that_panics_goes_to_another() {
    let (changed, lock) = (Condvar::new().unwrap(), Lock::new().unwrap());
    std::thread::scope(|scope| {
        let mut other = None;
        wait_and_panic(&changed, || {
            other = Some(scope.spawn(|| {
                let (_, is_notified) = changed.wait_timeout(lock.lock().unwrap(), LONG).unwrap();
                is_notified
            }));
            until("another waits", || changed.waiting() == 2);
            assert!(changed.notify_one(), "it has waited longest");
        });
        assert!(other.unwrap().join().unwrap());
    });
}
