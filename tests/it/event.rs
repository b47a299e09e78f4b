//! Events between threads and processes: semantics, where they can be created, waiting, and use in
//! signal handlers.

use pagemate::{inspect, ErrorKind, Event, Kind, Origin, Place, Process, Segment};
use proptest::prelude::*;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("test-event-{what}-{}", std::process::id())
}

fn file(name: &str) -> std::path::PathBuf {
    format!("/dev/shm/pagemate.{name}").into()
}

#[test]
fn flag() {
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    event.set();
    event.set();
    assert!(event.is_set() && event.wait() && event.wait_timeout(Duration::ZERO));
    event.clear();
    assert!(!event.wait_timeout(Duration::ZERO));
    let begin = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(120)));
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(!event.wait_deadline(Instant::now()));
}

#[test]
fn set_then_clear_wakes_all_waiters() {
    for _ in 0..200 {
        let (event, begun) = (Event::new().unwrap(), std::sync::Barrier::new(4));
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let waiting = event.clone();
                        begun.wait();
                        waiting.wait_timeout(Duration::from_secs(20))
                    })
                })
                .collect();
            begun.wait();
            // Waiters that begin only after the clear are released by the last set.
            event.set();
            event.clear();
            event.set();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
    }
}

#[test]
fn a_process_that_waits_sees_a_set_that_was_cleared_at_once() {
    let name = name("flash");
    let event = Event::create(&name).unwrap();
    let waits = || {
        let seen = inspect::segment(name.as_str()).unwrap();
        seen.objects[0].state.contains(&("waited on", "true".to_string()))
    };
    for _ in 0..20 {
        let child = Process::spawn(|event: Event| event.wait_timeout(LONG), event.clone()).unwrap();
        until("it waits", waits);
        event.set();
        event.clear();
        assert!(child.join().unwrap() && !event.is_set());
    }
}

#[test]
fn a_killed_waiter_blocks_no_set() {
    let name = name("killed");
    let event = Event::create(&name).unwrap();
    let child = Process::spawn(|event: Event| event.wait(), event.clone()).unwrap();
    until("it waits", || {
        inspect::segment(name.as_str()).unwrap().objects[0].state.contains(&("waited on", "true".to_string()))
    });
    child.kill().unwrap();
    assert!(child.join().is_err());
    event.set();
    assert!(event.wait_timeout(Duration::ZERO));
}

static SIGNALLED: OnceLock<Event> = OnceLock::new();

extern "C" fn sets(_: i32) {
    let Some(event) = SIGNALLED.get() else { return };
    event.is_set();
    event.clear();
    event.set();
}

#[test]
fn a_signal_handler_may_set_while_the_thread_is_in_the_middle_of_anything() {
    // The handler belongs to the whole process.
    Process::spawn(signals_in_the_middle_of_anything, ()).unwrap().join().unwrap();
}

fn signals_in_the_middle_of_anything((): ()) {
    let event = SIGNALLED.get_or_init(|| Event::new().unwrap());
    // SAFETY: the handler makes atomic operations and futex calls only.
    unsafe { libc::signal(libc::SIGUSR1, sets as *const () as usize) };
    // SAFETY: no arguments.
    let thread = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        let signals = scope.spawn(move || {
            for _ in 0..2_000 {
                // SAFETY: the thread is that of the test, which waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        });
        while !signals.is_finished() {
            event.set();
            event.clear();
            event.is_set();
            event.wait_timeout(Duration::from_micros(1));
        }
    });
    event.set();
    assert!(event.wait_timeout(LONG));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Set,
    Clear,
    Check,
    WaitInVain,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_follow_the_model(
        steps in prop::collection::vec(
            (
                prop::sample::select(vec![Step::Set, Step::Clear, Step::Check, Step::WaitInVain]),
                any::<bool>(),
            ),
            0..80,
        )
    ) {
        let event = Event::new().unwrap();
        let handles = [event.clone(), event];
        let mut is_set = false;
        for (step, which) in steps {
            let handle = &handles[usize::from(which)];
            match step {
                Step::Set => { handle.set(); is_set = true }
                Step::Clear => { handle.clear(); is_set = false }
                Step::Check => prop_assert_eq!(handle.wait_timeout(Duration::ZERO), is_set),
                Step::WaitInVain => prop_assert_eq!(handle.wait_timeout(Duration::from_nanos(1)), is_set),
            }
            prop_assert!(handles.iter().all(|handle| handle.is_set() == is_set));
        }
    }
}

#[test]
fn a_name_lives_as_long_as_a_process_is_attached() {
    let name = name("life");
    let first = Event::create(&name).unwrap();
    assert!(file(&name).exists());
    assert_eq!(Event::create(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let second = Event::open(&name).unwrap();
    second.set();
    assert!(first.is_set());
    drop(first);
    assert!(file(&name).exists());
    assert_eq!(Event::open_or_create(&name).unwrap().1, Origin::Opened);
    drop(second);
    assert!(!file(&name).exists(), "the last one removes the name");
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let (again, origin) = Event::open_or_create(&name).unwrap();
    assert_eq!(origin, Origin::Created);
    assert!(!again.is_set());
}

#[test]
fn persistent_names_stay() {
    let name = name("stays");
    Event::create(Place::from(&name).persistent()).unwrap().set();
    assert!(file(&name).exists());
    assert!(Event::open(&name).unwrap().is_set());
    Place::from(&name).remove().unwrap();
    assert!(!file(&name).exists());
}

#[test]
fn inside_of_a_segment() {
    let name = name("inside");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let a = Event::create(segment.at("a")).unwrap();
    assert_eq!(Event::create(segment.at("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Event::open(segment.at("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let other = Segment::open(&name).unwrap();
    Event::open(other.at("a")).unwrap().set();
    assert!(a.is_set());
    let objects = other.objects().unwrap();
    assert_eq!((objects.len(), objects[0].name.as_str(), objects[0].kind), (1, "a", Some(Kind::Event)));
    drop((segment, other));
    assert!(file(&name).exists(), "an object keeps its segment");
    drop(a);
    assert!(!file(&name).exists());
}

#[test]
fn names_are_unique_among_threads_that_race() {
    let segment = Segment::new(1 << 22).unwrap();
    for round in 0..200 {
        let won = std::thread::scope(|scope| {
            let racers = [(); 4].map(|_| {
                let place = segment.at(format!("event {round}"));
                scope.spawn(move || Event::create(place).is_ok())
            });
            racers.into_iter().filter_map(|racer| racer.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }
    assert_eq!(segment.objects().unwrap().len(), 200);
}

#[test]
fn a_full_segment_says_so_and_loses_nothing() {
    let segment = Segment::new(24 * 1024 + 4096).unwrap();
    let mut events = Vec::new();
    let error = loop {
        match Event::create(segment.at(format!("{}", events.len()))) {
            Ok(event) => events.push(event),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(events.len() > 10);
    events.iter().for_each(Event::set);
    assert_eq!(segment.objects().unwrap().len(), events.len());
}

#[test]
fn bad_names_and_places() {
    for bad in ["", "..", "a/b", "a\nb"] {
        assert_eq!(Event::create(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
    let nowhere = Place::in_dir("/nonexistent", "x");
    let error = Event::create(nowhere).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "a missing directory is not a missing name");
    assert!(error.to_string().contains("/nonexistent"), "{error}");
    assert_eq!(Segment::new(1 << 50).unwrap_err().kind(), ErrorKind::InvalidInput);
}
