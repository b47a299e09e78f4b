//! Events between threads and processes' attachments: semantics, placement, waiting.

use pagemate::{ErrorKind, Event, Kind, Origin, Place, Segment};
use std::time::{Duration, Instant};

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
fn set_then_clear_wakes_everybody_who_waited() {
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
fn a_name_lives_as_long_as_somebody_is_attached() {
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
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let other = Segment::open(&name).unwrap();
    Event::open(other.at("a")).unwrap().set();
    assert!(a.is_set());
    assert_eq!(other.objects().unwrap(), [("a".to_string(), Some(Kind::Event))]);
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
    assert_eq!(Event::create(nowhere).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Segment::new(1 << 50).unwrap_err().kind(), ErrorKind::InvalidInput);
}
