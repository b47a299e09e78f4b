//! The lock without data: acquired in one place and released in another, released under a guard,
//! deaths, closed handles and forks.

use std::time::{Duration, Instant};

use pagemate::sync::{LockGuard, ReleaseError};
use pagemate::{inspect, ErrorKind, Event, Lock, Origin, Process, Segment};
use proptest::prelude::*;

use crate::support::forked::Forked;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn excludes_and_times_out() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert!(lock.is_locked() && lock.try_lock().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(lock.lock_timeout(Duration::from_millis(120)).unwrap_err().is_not_acquired());
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(lock.lock_timeout(Duration::ZERO).unwrap_err().is_not_acquired());
    assert!(lock.lock_deadline(Instant::now()).unwrap_err().is_not_acquired());
    drop(guard);
    drop(lock.lock_timeout(LONG).unwrap());
    drop(lock.lock_deadline(Instant::now() + LONG).unwrap());
    assert!(lock.try_lock().is_ok() && !lock.is_locked());
}

#[test]
fn placement() {
    let name = format!("test-lock-place-{}", std::process::id());
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = Lock::create(segment.at("l")).unwrap();
    assert_eq!(Lock::create(segment.at("l")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Lock::open(segment.at("m")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Event::open(segment.at("l")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (there, origin) = Lock::open_or_create(segment.at("l")).unwrap();
    assert_eq!(origin, Origin::Opened);
    here.acquire().unwrap();
    assert!(there.is_locked() && Lock::open(segment.at("l")).unwrap().try_lock().is_err());
    let state = &inspect::segment(name.as_str()).unwrap().objects[0].state;
    assert!(state.iter().any(|(what, how)| *what == "holder" && how.starts_with("participant")), "{state:?}");
    there.release().unwrap();
}

#[test]
fn what_nobody_holds_cannot_be_released() {
    let lock = Lock::new().unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    lock.acquire().unwrap();
    lock.release().unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    assert_eq!(pagemate::Error::from(ReleaseError::NotHeld).kind(), ErrorKind::InvalidInput);
}

#[test]
fn anybody_may_release() {
    let lock = Lock::new().unwrap();
    lock.acquire().unwrap();
    let other = lock.clone();
    std::thread::spawn(move || other.release().unwrap()).join().unwrap();
    lock.lock().unwrap().keep();
    Process::spawn(|lock: Lock| lock.release().unwrap(), lock.clone()).unwrap().join().unwrap();
    assert!(!lock.is_locked());
    // The other way round: a child acquires, goes on living, and the parent releases.
    let (has_it, may_end) = (Event::new().unwrap(), Event::new().unwrap());
    let body = |(lock, has_it, may_end): (Lock, Event, Event)| {
        lock.acquire().unwrap();
        has_it.set();
        may_end.wait();
    };
    let child = Process::spawn(body, (lock.clone(), has_it.clone(), may_end.clone())).unwrap();
    assert!(has_it.wait_timeout(LONG) && lock.try_lock().is_err());
    lock.release().unwrap();
    let guard = lock.try_lock().unwrap();
    may_end.set();
    child.join().unwrap();
    assert!(!guard.owner_died() && lock.is_locked(), "the child's end does not touch what is ours");
}

#[test]
fn a_guard_whose_lock_was_released_holds_nothing() {
    let lock = Lock::new().unwrap();
    let stale = lock.lock().unwrap();
    lock.release().unwrap();
    let guard = lock.try_lock().unwrap();
    drop(stale);
    assert!(lock.is_locked(), "it is another's turn");
    drop(guard);
    assert!(!lock.is_locked());
}

#[test]
fn a_death_is_told_once() {
    let lock = Lock::new().unwrap();
    let inside = Event::new().unwrap();
    let body = |(lock, inside): (Lock, Event)| {
        let _guard = lock.lock().unwrap();
        inside.set();
        Event::new().unwrap().wait();
    };
    let child = Process::spawn(body, (lock.clone(), inside.clone())).unwrap();
    assert!(inside.wait_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
    assert!(!lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn leaving_with_the_lock_is_like_dying_with_it() {
    let name = format!("test-lock-leave-{}", std::process::id());
    let here = Lock::create(&name).unwrap();
    let body = |name: String| Lock::open(name.as_str()).unwrap().acquire().unwrap();
    Process::spawn(body, name.clone()).unwrap().join().unwrap();
    assert!(here.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn processes_take_it_in_turns() {
    const EACH: usize = 5_000;
    let (lock, count) = (Lock::new().unwrap(), pagemate::RwLock::new(0_u64).unwrap());
    // The count is not guarded by its own lock: read, then write.
    let body = |(lock, count): (Lock, pagemate::RwLock<u64>)| {
        for _ in 0..EACH {
            let _guard = lock.lock().unwrap();
            let seen = *count.read().unwrap();
            *count.write().unwrap() = seen + 1;
        }
    };
    let children = [(); 2].map(|_| Process::spawn(body, (lock.clone(), count.clone())).unwrap());
    body((lock, count.clone()));
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*count.read().unwrap(), 3 * EACH as u64);
}

#[test]
fn a_fork_holds_nothing() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    let child = Forked::run(|| i32::from(lock.try_lock().is_err()));
    assert_eq!(child.wait(), 1);
    assert!(lock.is_locked());
    drop(guard);
    assert!(!lock.is_locked());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Lock,
    Acquire,
    Keep,
    DropGuard,
    Release,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_follow_the_model(
        steps in prop::collection::vec(
            prop::sample::select(
                vec![Step::Lock, Step::Acquire, Step::Keep, Step::DropGuard, Step::Release]), 0..60)
    ) {
        let lock = Lock::new().unwrap();
        let mut is_held = false;
        // Guards, and whether each (still) holds the lock.
        let mut guards: Vec<(LockGuard<'_>, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Lock => match lock.try_lock() {
                    Ok(guard) => { prop_assert!(!is_held); is_held = true; guards.push((guard, true)) }
                    Err(error) => prop_assert!(is_held && error.is_not_acquired()),
                },
                Step::Acquire => match lock.lock_timeout(Duration::from_nanos(1)) {
                    Ok(guard) => { prop_assert!(!is_held); is_held = true; guard.keep() }
                    Err(error) => prop_assert!(is_held && error.is_not_acquired()),
                },
                Step::Keep => if let Some((guard, _)) = guards.pop() { guard.keep() },
                Step::DropGuard => if let Some((guard, holds)) = guards.pop() {
                    drop(guard);
                    is_held &= !holds;
                },
                Step::Release => {
                    prop_assert_eq!(lock.release().is_ok(), is_held);
                    is_held = false;
                    guards.iter_mut().for_each(|(_, holds)| *holds = false);
                }
            }
            prop_assert_eq!(lock.is_locked(), is_held);
        }
    }
}
