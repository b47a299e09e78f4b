//! Once and once values: initialised once across processes, also if an initialiser fails, panics,
//! dies or is stopped.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pagemate::sync::{OnceError, SetError};
use pagemate::{inspect, ErrorKind, Event, Once, OnceValue, Origin, Process, Segment, Semaphore};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn name(what: &str) -> String {
    format!("test-once-{what}-{}", std::process::id())
}

#[test]
fn a_completed_once_is_not_called_again() {
    let once = Once::new().unwrap();
    assert!(!once.is_completed() && !once.wait_timeout(SHORT) && !once.wait_deadline(Instant::now()));
    let mut calls = 0;
    assert_eq!(once.call_once(|| calls += 1), Ok(true));
    assert_eq!(once.call_once(|| calls += 1), Ok(false));
    assert_eq!(once.try_call_once(|| calls += 1), Ok(false));
    assert_eq!(once.call_once_timeout(Duration::ZERO, || calls += 1), Ok(false));
    assert_eq!(once.call_once_deadline(Instant::now(), || calls += 1), Ok(false));
    assert!(once.begin().unwrap().is_none() && once.try_begin().unwrap().is_none());
    assert!(once.is_completed() && once.wait_timeout(Duration::ZERO));
    once.wait();
    assert_eq!((calls, format!("{once:?}")), (1, "Once { is_completed: true, .. }".to_string()));
}

#[test]
fn calls_while_an_initialiser_runs_wait_for_it() {
    let once = Once::new().unwrap();
    let initialiser = once.begin().unwrap().unwrap();
    assert!(!initialiser.is_after_failure());
    assert_eq!(once.try_call_once(|| unreachable!()), Err(OnceError::NotCompleted));
    assert_eq!(once.try_begin().unwrap_err(), OnceError::NotCompleted);
    let begin = Instant::now();
    assert_eq!(once.call_once_timeout(SHORT, || unreachable!()), Err(OnceError::NotCompleted));
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(once.begin_deadline(Instant::now()).unwrap_err(), OnceError::NotCompleted);
    assert_eq!(once.begin_timeout(SHORT).unwrap_err(), OnceError::NotCompleted);
    assert!(!once.is_completed());
    std::thread::scope(|scope| {
        let waiters = [(); 2].map(|_| scope.spawn(|| once.call_once(|| unreachable!())));
        let reader = scope.spawn(|| once.wait());
        initialiser.complete();
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), Ok(false)));
        reader.join().unwrap();
    });
}

#[test]
fn a_failure_lets_the_next_one_try() {
    let once = Once::new().unwrap();
    drop(once.begin().unwrap().unwrap());
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("on purpose"))));
    assert!(panicked.is_err() && !once.is_completed());
    let initialiser = once.try_begin().unwrap().unwrap();
    assert!(initialiser.is_after_failure());
    std::thread::scope(|scope| {
        let next = scope.spawn(|| once.call_once(|| ()));
        drop(initialiser);
        assert_eq!(next.join().unwrap(), Ok(true));
    });
}

#[test]
fn onces_and_their_values_by_name() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let once = Once::create(segment.at("once")).unwrap();
    assert_eq!(Once::create(segment.at("once")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Once::open_or_create(segment.at("once")).unwrap().1, Origin::Opened);
    assert_eq!(Once::open(segment.at("value")).unwrap_err().kind(), ErrorKind::NotFound);
    once.call_once(|| ()).unwrap();
    let elsewhere = Segment::open(&name).unwrap();
    assert!(Once::open(elsewhere.at("once")).unwrap().is_completed());
    let value = OnceValue::<u32>::create(segment.at("value")).unwrap();
    assert_eq!(OnceValue::<u64>::open(segment.at("value")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(Once::open(segment.at("value")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    value.set(7).unwrap();
    let (same, origin) = OnceValue::<u32>::open_or_create(elsewhere.at("value")).unwrap();
    assert_eq!((origin, same.get()), (Origin::Opened, Some(&7)));
    let seen = inspect::segment(name.as_str()).unwrap();
    for object in &seen.objects {
        assert_eq!(object.state[0], ("completed", "true".to_string()), "{}", object.info.name);
    }
}

#[test]
fn a_value_is_written_once() {
    let value = OnceValue::<[u64; 3]>::new().unwrap();
    assert_eq!((value.get(), format!("{value:?}")), (None, "OnceValue(<not set>)".to_string()));
    assert_eq!(value.wait_timeout(SHORT), Err(OnceError::NotCompleted));
    let failed: Result<_, pagemate::Error> = value.get_or_try_init(|| Err(OnceError::Corrupted.into()));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Corrupted);
    assert_eq!(value.get_or_init(|| [1, 2, 3]), Ok(&[1, 2, 3]));
    assert_eq!(value.get(), Some(&[1, 2, 3]));
    assert_eq!(value.try_get_or_init(|| unreachable!()), Ok(&[1, 2, 3]));
    assert_eq!(value.get_or_init_timeout(Duration::ZERO, || unreachable!()), Ok(&[1, 2, 3]));
    assert_eq!(value.get_or_init_deadline(Instant::now(), || unreachable!()), Ok(&[1, 2, 3]));
    assert_eq!(value.set([0; 3]), Err(SetError::AlreadySet([0; 3])));
    assert_eq!(value.try_set([0; 3]).unwrap_err().into_value(), [0; 3]);
    let error: pagemate::Error = value.set_timeout([0; 3], SHORT).unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(value.set_deadline([0; 3], Instant::now()).is_err());
    assert_eq!((value.wait(), value.wait_deadline(Instant::now())), (Ok(&[1, 2, 3]), Ok(&[1, 2, 3])));
    assert_eq!(format!("{value:?}"), "OnceValue([1, 2, 3])");
}

#[test]
fn calls_while_the_value_is_made_find_it_busy() {
    let value = OnceValue::<u64>::new().unwrap();
    value
        .get_or_init(|| {
            // Another thread does this, because this one would wait for itself.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    assert_eq!(value.try_set(1), Err(SetError::Busy(1)));
                    assert_eq!(value.set_timeout(1, SHORT), Err(SetError::Busy(1)));
                    assert_eq!(value.try_get_or_init(|| 1), Err(OnceError::NotCompleted));
                    assert_eq!(value.get(), None);
                });
                other.join().unwrap();
            });
            5
        })
        .unwrap();
    assert_eq!(value.get(), Some(&5));
}

fn calls((once, value, calls): (Once, OnceValue<[u64; 8]>, Semaphore)) -> u64 {
    once.call_once(|| calls.release().unwrap()).unwrap();
    assert_eq!(calls.available(), 1);
    value.get_or_init(|| [u64::from(std::process::id()); 8]).unwrap()[7]
}

#[test]
fn processes_agree() {
    let all = (Once::new().unwrap(), OnceValue::new().unwrap(), Semaphore::new(0).unwrap());
    let children = [(); 4].map(|_| Process::spawn(calls, all.clone()).unwrap());
    let mine = calls(all);
    assert!(children.into_iter().all(|child| child.join().unwrap() == mine));
}

/// Becomes the initialiser, reports that, and never completes.
fn begins((once, value, here): (Once, OnceValue<u64>, Semaphore)) {
    let initialiser = once.begin().unwrap();
    here.release().unwrap();
    let _ = value.get_or_init(|| {
        here.release().unwrap();
        Event::new().unwrap().wait();
        0
    });
    drop(initialiser);
}

#[test]
fn the_next_one_initialises_if_one_dies() {
    for _ in 0..10 {
        let all = (Once::new().unwrap(), OnceValue::<u64>::new().unwrap(), Semaphore::new(0).unwrap());
        let (once, value, here) = all.clone();
        let child = Process::spawn(begins, all).unwrap();
        assert!(here.acquire_timeout(LONG) && here.acquire_timeout(LONG));
        assert_eq!(once.try_begin().unwrap_err(), OnceError::NotCompleted);
        std::thread::scope(|scope| {
            let heir = scope.spawn(|| {
                let initialiser = once.begin_timeout(LONG).unwrap().unwrap();
                assert!(initialiser.is_after_failure());
                initialiser.complete();
            });
            let other = scope.spawn(|| *value.get_or_init_timeout(LONG, || 9).unwrap());
            let reader = scope.spawn(|| once.wait_timeout(LONG) && value.wait_timeout(LONG) == Ok(&9));
            child.kill().unwrap();
            heir.join().unwrap();
            assert!(other.join().unwrap() == 9 && reader.join().unwrap());
        });
        assert!(child.join().is_err());
    }
}

#[test]
fn polling_notices_a_death_too() {
    let all = (Once::new().unwrap(), OnceValue::<u64>::new().unwrap(), Semaphore::new(0).unwrap());
    let (once, value, here) = all.clone();
    let child = Process::spawn(begins, all).unwrap();
    assert!(here.acquire_timeout(LONG) && here.acquire_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
    until("try_begin finds it dead", || once.try_begin().is_ok());
    until("try_set finds it dead", || value.try_set(3).is_ok());
    assert_eq!(value.get(), Some(&3));
}

#[test]
fn a_stopped_initialiser_is_waited_for() {
    let (once, here, on) = (Once::new().unwrap(), Event::new().unwrap(), Event::new().unwrap());
    let child = Forked::run(|| {
        once.call_once(|| {
            here.set();
            on.wait();
        })
        .unwrap();
        0
    });
    assert!(here.wait_timeout(LONG));
    child.signal(libc::SIGSTOP);
    assert!(!once.wait_timeout(Duration::from_millis(300)));
    assert_eq!(once.call_once_timeout(SHORT, || unreachable!()), Err(OnceError::NotCompleted));
    child.signal(libc::SIGCONT);
    on.set();
    assert_eq!(once.call_once_timeout(LONG, || unreachable!()), Ok(false));
    assert_eq!(child.wait(), 0);
}

#[test]
fn killed_waiters_block_no_other() {
    let (once, here) = (Once::new().unwrap(), Semaphore::new(0).unwrap());
    let waiters = [(); 2].map(|_| {
        Forked::run(|| {
            here.release().unwrap();
            once.wait();
            0
        })
    });
    assert!((0..2).all(|_| here.acquire_timeout(LONG)));
    for waiter in waiters {
        waiter.kill();
        waiter.wait();
    }
    assert_eq!(once.call_once_timeout(LONG, || ()), Ok(true));
}

#[test]
fn a_forked_child_has_no_right_to_initialise() {
    let once = Once::new().unwrap();
    let initialiser = once.begin().unwrap().unwrap();
    let child = Forked::run(|| {
        // SAFETY: a copy of the parent's right, which is not used again here.
        unsafe { std::ptr::read(&initialiser) }.complete();
        i32::from(once.is_completed() || once.try_begin().is_ok())
    });
    assert_eq!(child.wait(), 0);
    initialiser.complete();
    assert!(once.is_completed());
}

#[test]
fn any_bytes_are_survivable() {
    let name = name("damage");
    let value = OnceValue::<char>::create(&name).unwrap();
    value.set('x').unwrap();
    let object = damage::Object::find(&name, &[1, u64::from(u32::from('x'))]);
    damage::each(12, move |offset, byte| {
        object.set(offset, byte);
        let _ = (value.get(), value.try_set('y'), value.wait_timeout(Duration::from_millis(1)));
        let _ = value.get_or_init_timeout(LONG, || 'z');
        drop((OnceValue::<char>::open(&name), inspect::segment(name.as_str())));
        if offset >= 10 && byte == 0xff {
            assert_eq!((value.get(), value.get_or_init(|| 'z')), (None, Err(OnceError::Corrupted)));
        }
        for (offset, byte) in [1, 0, 0, 0, 0, 0, 0, 0, b'x', 0, 0, 0].into_iter().enumerate() {
            object.set(offset, byte);
        }
        assert_eq!(value.get(), Some(&'x'));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_an_option(ops in proptest::collection::vec((0..4u8, any::<u64>()), 0..20)) {
        let value = OnceValue::<u64>::new().unwrap();
        let mut twin = None;
        for (op, n) in ops {
            match op {
                0 => {
                    let is_set = value.try_set(n).is_ok();
                    prop_assert_eq!(is_set, twin.is_none());
                    twin.get_or_insert(n);
                }
                1 => {
                    prop_assert_eq!(value.get_or_init(|| n), Ok(&*twin.get_or_insert(n)));
                }
                2 => {
                    let outcome = value.get_or_try_init(|| Err(OnceError::NotCompleted));
                    prop_assert_eq!(outcome.ok(), twin.as_ref());
                }
                _ => {}
            }
            prop_assert_eq!(value.get(), twin.as_ref());
        }
    }
}
