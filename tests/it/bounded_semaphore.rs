//! Bounded semaphores between threads and processes: each permit has a holder, and what deaths,
//! stops and damaged bytes do.

use std::time::{Duration, Instant};

use pagemate::sync::ReleaseError;
use pagemate::{inspect, BoundedSemaphore, ErrorKind, Event, Origin, Process, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("test-bounded-{what}-{}", std::process::id())
}

#[test]
fn permits_are_taken_and_given_back() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    assert_eq!((semaphore.available(), semaphore.bound()), (2, 2));
    let one = semaphore.acquire().unwrap();
    let other = semaphore.try_acquire().unwrap();
    assert!(semaphore.try_acquire().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(semaphore.acquire_timeout(Duration::from_millis(120)).unwrap_err().is_not_acquired());
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(semaphore.acquire_deadline(Instant::now()).is_err());
    assert_eq!(
        format!("{semaphore:?} {one:?}"),
        "BoundedSemaphore { available: 0, bound: 2, .. } Permit { .. }"
    );
    drop(one);
    drop(semaphore.acquire_timeout(Duration::ZERO).unwrap());
    drop(semaphore.clone().acquire_deadline(Instant::now()).unwrap());
    // From another thread too: the process is the holder.
    std::thread::scope(|scope| scope.spawn(|| drop(other)).join().unwrap());
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn one_too_many_given_back_is_an_error_that_changes_nothing() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    assert_eq!(semaphore.release(), Err(ReleaseError::NotHeld));
    let guarded = semaphore.acquire().unwrap();
    assert_eq!(
        semaphore.release(),
        Err(ReleaseError::NotHeld),
        "what a guard has is not there to be given back"
    );
    semaphore.acquire().unwrap().keep();
    assert!(semaphore.try_acquire().is_err());
    semaphore.release().unwrap();
    assert_eq!(semaphore.release(), Err(ReleaseError::NotHeld));
    assert_eq!(semaphore.available(), 1);
    drop(guarded);
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn placement_and_limits() {
    for bad in [0, 4097, u32::MAX] {
        assert_eq!(BoundedSemaphore::new(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let most = BoundedSemaphore::new(4096).unwrap();
    let all: Vec<_> = (0..4096).map(|_| most.try_acquire().unwrap()).collect();
    assert!(most.try_acquire().is_err());
    drop(all);
    assert_eq!(most.available(), 4096);
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = BoundedSemaphore::create(segment.at("s"), 3).unwrap();
    assert_eq!(BoundedSemaphore::create(segment.at("s"), 3).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let (there, origin) = BoundedSemaphore::open_or_create(segment.at("s"), 9).unwrap();
    assert_eq!((origin, there.bound()), (Origin::Opened, 3));
    here.acquire().unwrap().keep();
    let elsewhere = BoundedSemaphore::open(Segment::open(&name).unwrap().at("s")).unwrap();
    assert_eq!(elsewhere.available(), 2);
    assert_eq!(Event::open(segment.at("s")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let seen = inspect::segment(name.as_str()).unwrap();
    let state = [("available", "2"), ("bound", "3"), ("waited on", "false")];
    assert_eq!(seen.objects[0].state, state.map(|(what, value)| (what, value.to_string())));
    // Another participant returns it, as users of Python do.
    elsewhere.release().unwrap();
    assert_eq!(here.available(), 3);
}

/// Takes permits, keeps one of them, reports that, and waits for its end.
fn takes((semaphore, count, here): (BoundedSemaphore, u32, Event)) {
    let permits: Vec<_> = (1..count).map(|_| semaphore.acquire().unwrap()).collect();
    semaphore.acquire().unwrap().keep();
    here.set();
    Event::new().unwrap().wait();
    drop(permits);
}

#[test]
fn permits_of_the_dead_go_to_waiters() {
    for _ in 0..10 {
        let (semaphore, here) = (BoundedSemaphore::new(3).unwrap(), Event::new().unwrap());
        let child = Process::spawn(takes, (semaphore.clone(), 3, here.clone())).unwrap();
        assert!(here.wait_timeout(LONG));
        assert!(semaphore.try_acquire().is_err());
        std::thread::scope(|scope| {
            let waiters =
                [(); 3].map(|_| scope.spawn(|| semaphore.acquire_timeout(LONG).map(|permit| permit.keep())));
            child.kill().unwrap();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap().is_ok()));
        });
        assert!(child.join().is_err());
        assert!(semaphore.try_acquire().is_err());
        (0..3).for_each(|_| semaphore.release().unwrap());
        assert_eq!(semaphore.release(), Err(ReleaseError::NotHeld));
    }
}

#[test]
fn polling_gets_the_permits_of_the_dead_too() {
    let (semaphore, here) = (BoundedSemaphore::new(2).unwrap(), Event::new().unwrap());
    let child = Process::spawn(takes, (semaphore.clone(), 2, here.clone())).unwrap();
    assert!(here.wait_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
    until("try_acquire finds the holder dead", || semaphore.try_acquire().is_ok());
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_stopped_holder_keeps_its_permit() {
    let semaphore = BoundedSemaphore::new(1).unwrap();
    let (here, on) = (Event::new().unwrap(), Event::new().unwrap());
    let holder = Forked::run(|| {
        let permit = semaphore.acquire().unwrap();
        here.set();
        on.wait();
        drop(permit);
        0
    });
    assert!(here.wait_timeout(LONG));
    holder.signal(libc::SIGSTOP);
    assert!(semaphore.acquire_timeout(Duration::from_millis(300)).is_err());
    holder.signal(libc::SIGCONT);
    on.set();
    drop(semaphore.acquire_timeout(LONG).unwrap());
    assert_eq!(holder.wait(), 0);
}

#[test]
fn a_forked_child_has_no_part_in_a_permit() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let permit = semaphore.acquire().unwrap();
    let child = Forked::run(|| {
        // SAFETY: a copy of the parent's permit, which is not used again here.
        let copy = unsafe { std::ptr::read(&permit) };
        drop(copy);
        // The copy has one of its own.
        drop(semaphore.acquire().unwrap());
        i32::from(semaphore.available() != 1)
    });
    assert_eq!(child.wait(), 0);
    assert_eq!(semaphore.available(), 1);
    drop(permit);
    assert_eq!(semaphore.available(), 2);
}

/// Checks that there are never more inside than permits.
fn works((semaphore, inside, rounds): (BoundedSemaphore, pagemate::Semaphore, u32)) {
    for _ in 0..rounds {
        let permit = semaphore.acquire().unwrap();
        assert!(inside.try_acquire(), "more inside than there are permits");
        inside.release().unwrap();
        drop(permit);
    }
}

#[test]
fn processes_share_the_permits() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let inside = pagemate::Semaphore::new(2).unwrap();
    let children =
        [(); 3].map(|_| Process::spawn(works, (semaphore.clone(), inside.clone(), 3_000)).unwrap());
    works((semaphore.clone(), inside.clone(), 3_000));
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!((semaphore.available(), inside.available()), (2, 2));
}

#[test]
fn a_killed_waiter_takes_nothing_and_blocks_nobody() {
    let semaphore = BoundedSemaphore::new(1).unwrap();
    for _ in 0..10 {
        let permit = semaphore.acquire().unwrap();
        let here = Event::new().unwrap();
        let waiter = Forked::run(|| {
            here.set();
            drop(semaphore.acquire());
            0
        });
        assert!(here.wait_timeout(LONG));
        waiter.kill();
        waiter.wait();
        drop(permit);
        drop(semaphore.acquire_timeout(LONG).unwrap());
    }
}

#[test]
fn any_bytes_are_survivable() {
    let name = name("damage");
    let semaphore = BoundedSemaphore::create(&name, 5).unwrap();
    let object = damage::Object::find(&name, &[5 << 32]);
    damage::each(8 + 4 * 5, move |offset, value| {
        object.set(offset, value);
        let permits: Vec<_> = (0..5).map_while(|_| semaphore.try_acquire().ok()).collect();
        drop(semaphore.acquire_timeout(Duration::from_millis(1)));
        let _ = (semaphore.release(), semaphore.available());
        drop((BoundedSemaphore::open(&name), inspect::segment(name.as_str())));
        drop(permits);
        object.set(offset, 0);
        object.set(4, 5);
        // The word names nobody alive, or nobody at all.
        for _ in 0..4 {
            semaphore.acquire_timeout(LONG).unwrap().keep();
        }
        (0..4).for_each(|_| semaphore.release().unwrap());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_a_number_with_a_bound(
        bound in 1..4u32,
        ops in proptest::collection::vec((0..5u8, 0..4usize), 0..60),
    ) {
        let semaphore = BoundedSemaphore::new(bound).unwrap();
        let (mut guards, mut kept) = (Vec::new(), 0);
        for (op, n) in ops {
            let free = bound - kept - guards.len() as u32;
            match op {
                0 | 1 => {
                    let taken = if op == 0 {
                        semaphore.try_acquire()
                    } else {
                        semaphore.acquire_timeout(Duration::from_nanos(n as u64))
                    };
                    prop_assert_eq!(taken.is_ok(), free > 0);
                    guards.extend(taken);
                }
                2 if n < guards.len() => drop(guards.swap_remove(n)),
                3 if n < guards.len() => {
                    guards.swap_remove(n).keep();
                    kept += 1;
                }
                4 => {
                    prop_assert_eq!(semaphore.release().is_ok(), kept > 0);
                    kept = kept.saturating_sub(1);
                }
                _ => {}
            }
            prop_assert_eq!(semaphore.available(), bound - kept - guards.len() as u32);
        }
    }
}
