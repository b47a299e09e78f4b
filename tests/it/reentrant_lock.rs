//! The reentrant lock between threads and processes: its depth, its owner, and deaths at any depth.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pagemate::sync::ReleaseError;
use pagemate::{inspect, ErrorKind, Event, Origin, Process, ReentrantLock, Segment};
use proptest::prelude::*;

use crate::support::forked::Forked;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Returns whether another thread gets the lock.
fn is_free_for_others(lock: &ReentrantLock) -> bool {
    std::thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap())
}

#[test]
fn as_often_released_as_acquired() {
    let lock = ReentrantLock::new().unwrap();
    let outer = lock.lock().unwrap();
    let middle = lock.try_lock().unwrap();
    let inner = lock.lock_timeout(Duration::ZERO).unwrap();
    lock.acquire().unwrap();
    assert!(lock.is_held() && lock.is_locked());
    // Guards may be dropped in any order.
    drop((outer, inner));
    lock.release().unwrap();
    assert!(lock.is_held() && !is_free_for_others(&lock));
    drop(middle);
    assert!(!lock.is_held() && is_free_for_others(&lock));
}

#[test]
fn excludes_other_threads_and_times_out() {
    let lock = ReentrantLock::new().unwrap();
    let _guard = lock.lock_deadline(Instant::now() + LONG).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_lock().unwrap_err().is_not_acquired() && !lock.is_held());
            let begin = Instant::now();
            assert!(lock.lock_timeout(Duration::from_millis(120)).unwrap_err().is_not_acquired());
            assert!(begin.elapsed() >= Duration::from_millis(120));
            assert!(lock.lock_deadline(Instant::now()).unwrap_err().is_not_acquired());
        });
    });
}

#[test]
fn only_the_holder_can_release() {
    let lock = ReentrantLock::new().unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    let guard = lock.lock().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| lock.release());
        assert_eq!(other.join().unwrap(), Err(ReleaseError::NotYours), "another thread of this process");
    });
    let child =
        Process::spawn(|lock: ReentrantLock| lock.release() == Err(ReleaseError::NotYours), lock.clone());
    assert!(child.unwrap().join().unwrap(), "another process");
    assert_eq!(pagemate::Error::from(ReleaseError::NotYours).kind(), ErrorKind::InvalidInput);
    assert!(lock.is_held());
    drop(guard);
    assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
}

#[test]
fn placement() {
    let name = format!("test-rlock-place-{}", std::process::id());
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = ReentrantLock::create(segment.at("r")).unwrap();
    assert_eq!(ReentrantLock::create(segment.at("r")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(ReentrantLock::open(segment.at("s")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Event::open(segment.at("r")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (there, origin) = ReentrantLock::open_or_create(segment.at("r")).unwrap();
    assert_eq!(origin, Origin::Opened);
    let _guards = (here.lock().unwrap(), there.lock().unwrap());
    let state = &inspect::segment(name.as_str()).unwrap().objects[0].state;
    assert!(state.contains(&("depth", "2".to_string())), "{state:?}");
}

#[test]
fn a_process_that_dies_deep_inside_leaves_it_at_depth_one() {
    let lock = ReentrantLock::new().unwrap();
    let inside = Event::new().unwrap();
    let body = |(lock, inside): (ReentrantLock, Event)| {
        (0..3).for_each(|_| lock.acquire().unwrap());
        inside.set();
        Event::new().unwrap().wait();
    };
    let child = Process::spawn(body, (lock.clone(), inside.clone())).unwrap();
    assert!(inside.wait_timeout(LONG) && lock.try_lock().is_err());
    child.kill().unwrap();
    assert!(child.join().is_err());
    let guard = lock.lock_timeout(LONG).unwrap();
    assert!(guard.owner_died() && !lock.lock().unwrap().owner_died());
    drop(guard);
    assert!(!lock.is_locked() && !lock.lock().unwrap().owner_died(), "it is reported once");
}

#[test]
fn processes_nest_and_take_turns() {
    const EACH: u64 = 3_000;
    let (lock, count) = (ReentrantLock::new().unwrap(), pagemate::RwLock::new(0_u64).unwrap());
    let body = |(lock, count): (ReentrantLock, pagemate::RwLock<u64>)| {
        for _ in 0..EACH {
            let _outer = lock.lock().unwrap();
            let seen = *count.read().unwrap();
            let _inner = lock.lock().unwrap();
            *count.write().unwrap() = seen + 1;
        }
    };
    let children = [(); 2].map(|_| Process::spawn(body, (lock.clone(), count.clone())).unwrap());
    std::thread::scope(|scope| _ = scope.spawn(|| body((lock.clone(), count.clone()))));
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*count.read().unwrap(), 3 * EACH);
}

#[test]
fn a_fork_holds_nothing() {
    let lock = ReentrantLock::new().unwrap();
    let guard = lock.lock().unwrap();
    let child = Forked::run(|| {
        let not_mine = !lock.is_held() && lock.try_lock().is_err();
        i32::from(not_mine && lock.release() == Err(ReleaseError::NotYours))
    });
    assert_eq!(child.wait(), 1);
    assert!(lock.is_held());
    drop(guard);
    assert!(!lock.is_locked());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Try,
    LockBriefly,
    Release,
}

/// Performs one step; returns whether it was granted, and whether the thread holds the lock then.
fn take_step(lock: &ReentrantLock, step: Step) -> (bool, bool) {
    let granted = match step {
        Step::Try => lock.try_lock().map(|guard| guard.keep()).is_ok(),
        Step::LockBriefly => lock.lock_timeout(Duration::from_nanos(1)).map(|guard| guard.keep()).is_ok(),
        Step::Release => lock.release().is_ok(),
    };
    (granted, lock.is_held())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Three threads, one step at a time.
    #[test]
    fn sequences_follow_the_model(
        steps in prop::collection::vec(
            (0..3_usize, prop::sample::select(vec![Step::Try, Step::LockBriefly, Step::Release])), 0..60)
    ) {
        let lock = ReentrantLock::new().unwrap();
        std::thread::scope(|scope| {
            let threads = [(); 3].map(|_| {
                let (say, told) = mpsc::channel::<Step>();
                let (answer, answered) = mpsc::channel();
                let lock = &lock;
                scope.spawn(move || told.iter().for_each(|step| answer.send(take_step(lock, step)).unwrap()));
                (say, answered)
            });
            let mut holder: Option<(usize, u32)> = None;
            for (one, step) in steps {
                threads[one].0.send(step).unwrap();
                let outcome = threads[one].1.recv().unwrap();
                let is_mine = holder.is_some_and(|(holder, _)| holder == one);
                let expected = match (step, holder) {
                    (Step::Release, Some((_, 1))) if is_mine => { holder = None; true }
                    (Step::Release, Some((_, depth))) if is_mine => { holder = Some((one, depth - 1)); true }
                    (Step::Release, _) => false,
                    (_, None) => { holder = Some((one, 1)); true }
                    (_, Some((_, depth))) if is_mine => { holder = Some((one, depth + 1)); true }
                    _ => false,
                };
                let holds = holder.is_some_and(|(holder, _)| holder == one);
                prop_assert_eq!(outcome, (expected, holds), "{:?} of thread {}", step, one);
                prop_assert_eq!(lock.is_locked(), holder.is_some());
            }
            Ok(())
        })?;
    }
}
