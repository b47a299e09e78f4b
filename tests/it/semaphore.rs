//! Semaphores between threads and processes: Python's semantics, and deaths.

use std::time::{Duration, Instant};

use pagemate::{inspect, ErrorKind, Event, Origin, Process, Segment, Semaphore};
use proptest::prelude::*;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("test-semaphore-{what}-{}", std::process::id())
}

#[test]
fn counting() {
    let semaphore = Semaphore::new(2).unwrap();
    assert_eq!(semaphore.available(), 2);
    semaphore.acquire();
    assert!(semaphore.try_acquire() && !semaphore.try_acquire());
    assert!(!semaphore.acquire_timeout(Duration::ZERO) && !semaphore.acquire_deadline(Instant::now()));
    let begin = Instant::now();
    assert!(!semaphore.acquire_timeout(Duration::from_millis(120)));
    assert!(begin.elapsed() >= Duration::from_millis(120));
    // This goes beyond the initial count, in a process that never acquired.
    semaphore.release_many(5).unwrap();
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 5, .. }");
    assert!(semaphore.acquire_timeout(Duration::ZERO) && semaphore.acquire_deadline(Instant::now()));
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn limits() {
    const MOST: u32 = (1 << 31) - 1;
    assert_eq!(Semaphore::new(MOST + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    let semaphore = Semaphore::new(MOST).unwrap();
    assert_eq!(semaphore.release().unwrap_err(), semaphore.release_many(u32::MAX).unwrap_err());
    assert_eq!(semaphore.available(), MOST);
    semaphore.release_many(0).unwrap();
    semaphore.acquire();
    semaphore.release().unwrap();
    let error: pagemate::Error = semaphore.release().unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = Semaphore::create(segment.at("s"), 3).unwrap();
    assert_eq!(Semaphore::create(segment.at("s"), 3).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let (there, origin) = Semaphore::open_or_create(segment.at("s"), 9).unwrap();
    assert_eq!((origin, there.available()), (Origin::Opened, 3));
    here.acquire();
    assert_eq!(Semaphore::open(Segment::open(&name).unwrap().at("s")).unwrap().available(), 2);
    assert_eq!(Event::open(segment.at("s")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let seen = inspect::segment(name.as_str()).unwrap();
    assert_eq!(seen.objects[0].state, [("available", "2".to_string()), ("waited on", "false".to_string())]);
}

#[test]
fn processes_take_turns() {
    const ROUNDS: u32 = 20_000;
    let pair = [(); 2].map(|_| Semaphore::new(0).unwrap());
    let echo = |(there, back): (Semaphore, Semaphore)| {
        for _ in 0..ROUNDS {
            there.acquire();
            back.release().unwrap();
        }
    };
    let child = Process::spawn(echo, (pair[0].clone(), pair[1].clone())).unwrap();
    for _ in 0..ROUNDS {
        pair[0].release().unwrap();
        assert!(pair[1].acquire_timeout(LONG));
    }
    child.join().unwrap();
    assert_eq!((pair[0].available(), pair[1].available()), (0, 0));
}

#[test]
fn each_release_lets_one_through() {
    let (semaphore, through) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let body = |(semaphore, through): (Semaphore, Semaphore)| {
        semaphore.acquire();
        through.release().unwrap();
    };
    let children: Vec<_> =
        (0..4).map(|_| Process::spawn(body, (semaphore.clone(), through.clone())).unwrap()).collect();
    semaphore.release_many(3).unwrap();
    for _ in 0..3 {
        assert!(through.acquire_timeout(LONG));
    }
    assert!(!through.acquire_timeout(Duration::from_millis(100)), "three permits, four processes");
    semaphore.release().unwrap();
    assert!(through.acquire_timeout(LONG));
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_killed_waiter_takes_nothing_and_blocks_nobody() {
    let semaphore = Semaphore::new(0).unwrap();
    let here = Event::new().unwrap();
    for _ in 0..20 {
        here.clear();
        let body = |(semaphore, here): (Semaphore, Event)| {
            here.set();
            semaphore.acquire();
        };
        let child = Process::spawn(body, (semaphore.clone(), here.clone())).unwrap();
        assert!(here.wait_timeout(LONG));
        child.kill().unwrap();
        assert!(child.join().is_err());
        semaphore.release().unwrap();
        assert!(semaphore.acquire_timeout(LONG));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn like_a_number(start in 0..4u32, ops in proptest::collection::vec((0..4u8, 0..5u32), 0..60)) {
        const MOST: u32 = (1 << 31) - 1;
        let semaphore = Semaphore::new(start).unwrap();
        let mut count = start;
        for (op, n) in ops {
            match op {
                0 => {
                    prop_assert_eq!(semaphore.try_acquire(), count > 0);
                    count = count.saturating_sub(1);
                }
                1 => {
                    semaphore.release_many(n).unwrap();
                    count += n;
                }
                2 => {
                    prop_assert_eq!(semaphore.acquire_timeout(Duration::from_nanos(n.into())), count > 0);
                    count = count.saturating_sub(1);
                }
                _ => {
                    let fits = n >= count;
                    prop_assert_eq!(semaphore.release_many(MOST - n).is_ok(), fits);
                    if fits {
                        break;
                    }
                }
            }
            prop_assert_eq!(semaphore.available(), count);
        }
    }
}
