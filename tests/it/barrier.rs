//! Barriers between threads and processes: Python's semantics, actions, and parties that die or are
//! stopped; and damaged bytes.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pagemate::sync::BarrierError;
use pagemate::{inspect, Barrier, ErrorKind, Event, Origin, Process, Segment, Semaphore};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn name(what: &str) -> String {
    format!("test-barrier-{what}-{}", std::process::id())
}

#[test]
fn alone() {
    let barrier = Barrier::new(1).unwrap();
    for _ in 0..100 {
        assert_eq!(barrier.wait(), Ok(0));
        assert_eq!(barrier.wait_timeout(Duration::ZERO), Ok(0));
        assert_eq!(barrier.wait_deadline(Instant::now()), Ok(0));
    }
    assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (1, 0, false));
    for bad in [0, 4097] {
        let error = Barrier::new(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), format!("a barrier of {bad} parties is not possible: 1 to 4096 are"));
    }
}

#[test]
fn each_has_an_index_of_its_own_in_every_round() {
    const PARTIES: usize = 4;
    let barrier = Barrier::new(PARTIES as u32).unwrap();
    let rounds: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let party = || (0..300).map(|_| barrier.wait_timeout(LONG).unwrap()).collect();
        let parties = [(); PARTIES].map(|_| scope.spawn(party));
        parties.into_iter().map(|party| party.join().unwrap()).collect()
    });
    for round in 0..300 {
        let mut places: Vec<usize> = rounds.iter().map(|places| places[round]).collect();
        places.sort();
        assert_eq!(places, [0, 1, 2, 3]);
    }
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = Barrier::create(segment.at("b"), 2).unwrap();
    assert_eq!(Barrier::create(segment.at("b"), 2).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Barrier::open(segment.at("c")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Event::open(segment.at("b")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (there, origin) = Barrier::open_or_create(Segment::open(&name).unwrap().at("b"), 9).unwrap();
    assert_eq!((origin, there.parties()), (Origin::Opened, 2));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| there.wait());
        until("the other one waits", || here.waiting() == 1);
        let seen = inspect::segment(name.as_str()).unwrap();
        let state: Vec<_> =
            seen.objects[0].state.iter().map(|(what, value)| format!("{what} {value}")).collect();
        assert_eq!(state[..4], ["parties 2", "waiting 1", "broken false", "action runs false"]);
        assert_eq!(format!("{here:?}"), "Barrier { parties: 2, waiting: 1, is_broken: false, .. }");
        assert_eq!(here.wait().unwrap() + other.join().unwrap().unwrap(), 1);
    });
}

#[test]
fn a_timeout_breaks_it_for_all() {
    let barrier = Barrier::new(3).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        until("the other one waits", || barrier.waiting() == 1);
        let begin = Instant::now();
        assert_eq!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut));
        assert!(begin.elapsed() >= SHORT);
        assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
    });
    assert!(barrier.is_broken() && barrier.waiting() == 0);
    assert_eq!(barrier.wait(), Err(BarrierError::Broken), "immediately, for every party");
    assert_eq!(pagemate::Error::from(BarrierError::Broken).kind(), ErrorKind::Broken);
    assert_eq!(pagemate::Error::from(BarrierError::TimedOut).kind(), ErrorKind::TimedOut);
}

#[test]
fn abort_stays_until_reset() {
    let barrier = Barrier::new(2).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        until("the other one waits", || barrier.waiting() == 1);
        barrier.abort();
        barrier.abort();
        assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        assert!(barrier.is_broken());
        barrier.reset();
        assert!(!barrier.is_broken());
        let other = scope.spawn(|| barrier.wait().unwrap());
        assert_eq!(barrier.wait().unwrap() + other.join().unwrap(), 1);
    });
}

#[test]
fn reset_sends_waiters_away_and_leaves_the_barrier_usable() {
    let barrier = Barrier::new(3).unwrap();
    std::thread::scope(|scope| {
        let waiters = [(); 2].map(|_| scope.spawn(|| barrier.wait()));
        until("two wait", || barrier.waiting() == 2);
        barrier.reset();
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken)));
        assert_eq!((barrier.is_broken(), barrier.waiting()), (false, 0));
        let waiters = [(); 2].map(|_| scope.spawn(|| barrier.wait()));
        assert!(barrier.wait().is_ok());
        waiters.into_iter().for_each(|waiter| assert!(waiter.join().unwrap().is_ok()));
    });
}

#[test]
fn more_than_the_parties_form_rounds() {
    let barrier = Barrier::new(2).unwrap();
    let rounds = std::sync::atomic::AtomicUsize::new(0);
    let party = || {
        let mut places = [0; 2];
        while let Ok(place) = barrier.wait_timeout(LONG) {
            places[place] += 1;
            if place == 0 && rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 500 {
                barrier.abort();
            }
        }
        places
    };
    let all = std::thread::scope(|scope| [(); 5].map(|_| scope.spawn(party)).map(|one| one.join().unwrap()));
    let sum = |place: usize| all.iter().map(|places| places[place]).sum::<usize>();
    assert!(sum(0) > 500 && sum(0) == sum(1), "{all:?}");
}

#[test]
fn the_action_runs_in_one_before_any_goes_on() {
    let laps = Semaphore::new(0).unwrap();
    let count = laps.clone();
    let plain = Barrier::new(3).unwrap();
    let counting = plain.clone().with_action(move || count.release().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for lap in 1..=100 {
                    counting.wait_timeout(LONG).unwrap();
                    assert_eq!(laps.available(), lap);
                    // No thread begins the next lap before all have checked.
                    plain.wait_timeout(LONG).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_panicking_action_breaks_it() {
    let barrier = Barrier::new(2).unwrap();
    let rude = barrier.clone().with_action(|| panic!("on purpose"));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        until("the other one waits", || barrier.waiting() == 1);
        assert!(std::panic::catch_unwind(AssertUnwindSafe(|| rude.wait())).is_err());
        assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
    });
    barrier.reset();
    assert_eq!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut));
}

#[test]
fn an_abort_in_the_middle_of_an_action_wins() {
    let barrier = Barrier::new(1).unwrap();
    let same = barrier.clone();
    let aborting = barrier.clone().with_action(move || same.abort());
    assert_eq!(aborting.wait(), Err(BarrierError::Broken));
    let same = barrier.clone();
    barrier.reset();
    let resetting = barrier.clone().with_action(move || same.reset());
    assert_eq!(resetting.wait(), Err(BarrierError::Broken));
    assert_eq!(barrier.wait(), Ok(0));
}

fn laps((barrier, arrived, rounds): (Barrier, Semaphore, u32)) -> u64 {
    let mut led = 0;
    for round in 1..=rounds {
        arrived.release().unwrap();
        led += u64::from(barrier.wait_timeout(LONG).unwrap() == 0);
        assert!(arrived.available() >= round * barrier.parties(), "passed before all have arrived");
    }
    led
}

#[test]
fn a_thousand_rounds_of_five_processes() {
    let (barrier, arrived) = (Barrier::new(5).unwrap(), Semaphore::new(0).unwrap());
    let children = [(); 4].map(|_| Process::spawn(laps, (barrier.clone(), arrived.clone(), 1_000)).unwrap());
    let mine = laps((barrier, arrived, 1_000));
    let led: u64 = children.into_iter().map(|child| child.join().unwrap()).sum();
    assert_eq!(mine + led, 1_000, "one leads each round");
}

#[test]
fn a_party_that_arrived_and_died_does_not_count() {
    for _ in 0..5 {
        let barrier = Barrier::new(3).unwrap();
        let dead = Forked::run(|| i32::from(barrier.wait().is_ok()));
        until("it has arrived", || barrier.waiting() == 1);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
            until("the other one too", || barrier.waiting() == 2);
            dead.kill();
            dead.wait();
            let begin = Instant::now();
            until("the dead party is not counted", || barrier.waiting() == 1);
            println!("a party's death was noticed after {:?}", begin.elapsed());
            let other = scope.spawn(|| barrier.wait_timeout(LONG));
            assert!(barrier.wait_timeout(LONG).is_ok(), "in the place of the dead party");
            assert!(waiter.join().unwrap().is_ok() && other.join().unwrap().is_ok());
        });
    }
}

#[test]
fn an_old_death_is_noticed_by_the_party_that_completes_the_round() {
    let barrier = Barrier::new(2).unwrap();
    let dead = Forked::run(|| i32::from(barrier.wait().is_ok()));
    until("it has arrived", || barrier.waiting() == 1);
    dead.kill();
    dead.wait();
    // This takes longer than the time between two checks for the dead. Nobody waits meanwhile.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
    assert_eq!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut), "not with the dead");
}

#[test]
fn a_death_in_the_action_breaks_it() {
    let (barrier, here) = (Barrier::new(2).unwrap(), Event::new().unwrap());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
        until("one waits", || barrier.waiting() == 1);
        let set = here.clone();
        let acting = barrier.clone().with_action(move || {
            set.set();
            Event::new().unwrap().wait();
        });
        let dead = Forked::run(|| i32::from(acting.wait().is_ok()));
        assert!(here.wait_timeout(LONG));
        assert!(!barrier.is_broken());
        dead.kill();
        dead.wait();
        assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
    });
    barrier.reset();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait_timeout(LONG).is_ok());
        assert!(barrier.wait_timeout(LONG).is_ok() && other.join().unwrap());
    });
}

#[test]
fn a_stopped_party_counts_and_keeps_nobody_from_the_next_rounds() {
    let barrier = Barrier::new(2).unwrap();
    let stopped = Forked::run(|| i32::from(barrier.wait().is_err()));
    until("it has arrived", || barrier.waiting() == 1);
    stopped.signal(libc::SIGSTOP);
    std::thread::scope(|scope| {
        assert!(barrier.wait_timeout(LONG).is_ok(), "it is not dead");
        // The stopped party has not left yet, and two others go on.
        for _ in 0..5 {
            let other = scope.spawn(|| barrier.wait_timeout(LONG).unwrap());
            assert_eq!(barrier.wait_timeout(LONG).unwrap() + other.join().unwrap(), 1);
        }
    });
    stopped.signal(libc::SIGCONT);
    assert_eq!(stopped.wait(), 0, "it has passed, five rounds ago");
}

#[test]
fn any_bytes_are_survivable() {
    let name = name("damage");
    let barrier = Barrier::create(&name, 2).unwrap();
    // The state, no round broken, nobody waits, two parties.
    let object = damage::Object::find(&name, &[0, 0, 2 << 32]);
    damage::each(128 + 16, move |offset, value| {
        object.set(offset, value);
        let _ = (barrier.waiting(), barrier.is_broken(), barrier.wait_timeout(Duration::from_millis(1)));
        drop((Barrier::open(&name), inspect::segment(name.as_str())));
        object.set(20, 2);
        (21..24).for_each(|offset| object.set(offset, 0));
        barrier.abort();
        barrier.reset();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait_timeout(LONG).unwrap());
            assert_eq!(barrier.wait_timeout(LONG).unwrap() + other.join().unwrap(), 1);
        });
        (0..20).chain(128..144).for_each(|offset| object.set(offset, 0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Random operations of one thread at a barrier of one and of two.
    #[test]
    fn like_a_flag(parties in 1..3u32, ops in proptest::collection::vec(0..4u8, 0..40)) {
        let barrier = Barrier::new(parties).unwrap();
        let mut is_broken = false;
        for op in ops {
            match op {
                0 => {
                    let expected = match (is_broken, parties) {
                        (true, _) => Err(BarrierError::Broken),
                        (false, 1) => Ok(0),
                        (false, _) => Err(BarrierError::TimedOut),
                    };
                    prop_assert_eq!(barrier.wait_timeout(Duration::from_nanos(1)), expected);
                    is_broken |= expected == Err(BarrierError::TimedOut);
                }
                1 => {
                    barrier.abort();
                    is_broken = true;
                }
                2 => {
                    barrier.reset();
                    is_broken = false;
                }
                _ => {}
            }
            prop_assert_eq!((barrier.is_broken(), barrier.waiting()), (is_broken, 0));
        }
    }
}

#[test]
fn a_party_that_panics_breaks_the_barrier() {
    let barrier = Barrier::new(2).unwrap();
    let wait = || _ = barrier.wait_interruptible(None, || panic!("interrupted"));
    std::panic::catch_unwind(AssertUnwindSafe(wait)).unwrap_err();
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait_timeout(LONG), Err(BarrierError::Broken));
    barrier.reset();
    let other = barrier.clone();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || other.wait_timeout(LONG));
        assert!(barrier.wait_timeout(LONG).is_ok() && thread.join().unwrap().is_ok());
    });
}
