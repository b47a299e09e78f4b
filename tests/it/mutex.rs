//! The mutex between threads and processes: its holders, the errors that report a death or a panic,
//! forks and damaged bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use pagemate::sync::{LockError, MutexGuard};
use pagemate::{inspect, ErrorKind, Event, Mutex, Origin, Process, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("test-mutex-{what}-{}", std::process::id())
}

#[test]
fn excludes_and_times_out() {
    let mutex = Mutex::new(5_u64).unwrap();
    let guard = mutex.lock().unwrap();
    assert!(mutex.is_locked());
    assert!(mutex.try_lock().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(mutex.lock_timeout(Duration::from_millis(120)).unwrap_err().is_not_acquired());
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(mutex.lock_timeout(Duration::ZERO).unwrap_err().is_not_acquired());
    assert!(mutex.lock_deadline(Instant::now()).unwrap_err().is_not_acquired());
    drop(guard);
    assert!(!mutex.is_locked());
    *mutex.lock_timeout(LONG).unwrap() += 1;
    *mutex.lock_deadline(Instant::now() + LONG).unwrap() += 1;
    assert_eq!(*mutex.try_lock().unwrap(), 7);
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let here = Mutex::create(segment.at("m"), [1_u32; 3]).unwrap();
    assert_eq!(Mutex::create(segment.at("m"), [1_u32; 3]).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Mutex::<[u32; 4]>::open(segment.at("m")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(Event::open(segment.at("m")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (there, origin) = Mutex::open_or_create(segment.at("m"), [9_u32; 3]).unwrap();
    assert_eq!((origin, *there.lock().unwrap()), (Origin::Opened, [1; 3]));
    assert_eq!(Mutex::open_or_create(segment.at("n"), 1_u8).unwrap().1, Origin::Created);
    let guard = here.lock().unwrap();
    assert!(Mutex::<[u32; 3]>::open(segment.at("m")).unwrap().try_lock().unwrap_err().is_not_acquired());
    let seen = inspect::segment(name.as_str()).unwrap();
    let state = &seen.objects.iter().find(|object| object.info.name == "m").unwrap().state;
    assert!(state.iter().any(|(what, how)| *what == "holder" && how.starts_with("participant")), "{state:?}");
    assert!(state.iter().any(|(what, how)| *what == "poisoned" && how == "false"), "{state:?}");
    drop(guard);
}

const EACH: u64 = 5_000;

fn count((mutex, begin): (Mutex<[u64; 2]>, Event)) {
    begin.wait();
    for _ in 0..EACH {
        let mut value = mutex.lock().unwrap();
        assert_eq!(value[0], value[1]);
        value[0] += 1;
        std::hint::spin_loop();
        value[1] += 1;
    }
}

#[test]
fn processes_and_threads_count_together() {
    let (mutex, begin) = (Mutex::new([0_u64; 2]).unwrap(), Event::new().unwrap());
    let children = [(); 2].map(|_| Process::spawn(count, (mutex.clone(), begin.clone())).unwrap());
    begin.set();
    std::thread::scope(|scope| {
        (0..2).for_each(|_| _ = scope.spawn(|| count((mutex.clone(), begin.clone()))));
    });
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*mutex.lock().unwrap(), [4 * EACH; 2]);
}

/// Leaves the value half-changed.
fn dies_inside((mutex, inside): (Mutex<[u64; 2]>, Event)) {
    let mut value = mutex.lock().unwrap();
    value[0] += 1;
    inside.set();
    Event::new().unwrap().wait();
}

fn killed_inside(mutex: &Mutex<[u64; 2]>) {
    let inside = Event::new().unwrap();
    let child = Process::spawn(dies_inside, (mutex.clone(), inside.clone())).unwrap();
    assert!(inside.wait_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
}

#[test]
fn owner_died_is_returned_until_a_holder_repairs() {
    let mutex = Mutex::new([0_u64; 2]).unwrap();
    killed_inside(&mutex);
    let LockError::OwnerDied(guard) = mutex.lock_timeout(LONG).unwrap_err() else { panic!("no error") };
    assert_eq!(*guard, [1, 0], "as it was left");
    drop(guard);
    assert!(mutex.try_lock().unwrap_err().is_owner_died(), "it is not repaired yet");
    assert_eq!(pagemate::Error::from(mutex.lock().unwrap_err()).kind(), ErrorKind::OwnerDied);
    let mut guard = mutex.lock().unwrap_err().into_guard().unwrap();
    guard[1] = 1;
    MutexGuard::mark_consistent(&mut guard);
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), [1, 1]);
    assert!(!mutex.is_poisoned(), "a death is not a panic");
}

fn panics_inside<T: pagemate::Message>(mutex: &Mutex<T>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock().or_else(|error| error.into_guard().ok_or(()));
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
}

#[test]
fn panic_and_death_are_kept_apart() {
    let mutex = Mutex::new([0_u64; 2]).unwrap();
    panics_inside(&mutex);
    assert!(mutex.is_poisoned());
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned(_))));
    mutex.clear_poison();
    assert!(mutex.lock().is_ok());

    panics_inside(&mutex);
    killed_poisoned(&mutex);
    // The death is reported first. Each of the two is repaired separately.
    let LockError::OwnerDied(mut guard) = mutex.lock_timeout(LONG).unwrap_err() else { panic!("no error") };
    MutexGuard::mark_consistent(&mut guard);
    drop(guard);
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned(_))));
    mutex.clear_poison();
    assert!(mutex.lock().is_ok());
}

/// Kills a child that holds the poisoned mutex.
fn killed_poisoned(mutex: &Mutex<[u64; 2]>) {
    let inside = Event::new().unwrap();
    let body = |(mutex, inside): (Mutex<[u64; 2]>, Event)| {
        let _guard = mutex.lock().unwrap_err().into_guard().unwrap();
        inside.set();
        Event::new().unwrap().wait();
    };
    let child = Process::spawn(body, (mutex.clone(), inside.clone())).unwrap();
    assert!(inside.wait_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
}

fn panics_in_a_child(mutex: Mutex<u64>) {
    let _guard = mutex.lock().unwrap();
    panic!("on purpose");
}

#[test]
fn a_child_that_panics_poisons_and_is_not_taken_for_killed() {
    let mutex = Mutex::new(0_u64).unwrap();
    assert!(Process::spawn(panics_in_a_child, mutex.clone()).unwrap().join().is_err());
    assert!(matches!(mutex.lock_timeout(LONG), Err(LockError::Poisoned(_))));
}

#[test]
fn a_panic_from_before_the_lock_does_not_poison() {
    struct LocksInDrop<'a>(&'a Mutex<u64>);
    impl Drop for LocksInDrop<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0_u64).unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _last = LocksInDrop(&mutex);
        panic!("on purpose");
    }));
    assert!(outcome.is_err() && *mutex.lock().unwrap() == 1);
}

#[test]
fn try_lock_notices_a_death_too() {
    let mutex = Mutex::new([0_u64; 2]).unwrap();
    killed_inside(&mutex);
    until("try_lock finds the holder dead", || mutex.try_lock().is_err_and(|error| error.is_owner_died()));
}

#[test]
fn a_fork_holds_nothing() {
    let mutex = Mutex::new(1_u64).unwrap();
    let guard = mutex.lock().unwrap();
    let child = Forked::run(|| {
        let mine = mutex.lock_timeout(Duration::from_millis(1));
        i32::from(mine.is_err_and(|error| error.is_not_acquired()) && mutex.is_locked())
    });
    assert_eq!(child.wait(), 1);
    assert!(mutex.is_locked(), "the child's end has released nothing");
    drop(guard);
    assert!(mutex.try_lock().is_ok());
}

/// The bytes of a mutex in its file, found by its value.
struct Bytes {
    file: File,
    at: u64,
}

impl Bytes {
    const VALUE: u64 = 8;

    fn of(name: &str, value: &[u8]) -> Bytes {
        let path = format!("/dev/shm/pagemate.{name}");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let whole = std::fs::read(path).unwrap();
        let starts = (0..whole.len()).step_by(128).map(|at| at + Bytes::VALUE as usize);
        let at = starts.into_iter().find(|at| whole[*at..].starts_with(value)).unwrap();
        Bytes { file, at: at as u64 - Bytes::VALUE }
    }

    fn set(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at + offset).unwrap();
    }
}

#[test]
fn an_invalid_value_can_be_reset() {
    let name = name("reset");
    let mutex = Mutex::create(&name, ['x'; 4]).unwrap();
    let bytes = Bytes::of(&name, &['x' as u32; 4].map(u32::to_le_bytes).concat());
    bytes.set(Bytes::VALUE, &[0xff; 4]);
    assert!(matches!(mutex.lock(), Err(LockError::Corrupted)));
    assert!(matches!(mutex.try_lock(), Err(LockError::Corrupted)), "and it is not held");
    assert_eq!(*mutex.reset(['y'; 4]).unwrap(), ['y'; 4]);
    assert_eq!(*mutex.lock().unwrap(), ['y'; 4]);
}

#[test]
fn damaged_bytes_give_errors_or_nothing() {
    let name = name("damage");
    let value = [0x0123_4567_89ab_cdef_u64; 2];
    let mutex = Mutex::create(&name, value).unwrap();
    let bytes = Bytes::of(&name, &value.map(u64::to_le_bytes).concat());
    damage::each(24, move |offset, byte| {
        bytes.set(offset as u64, &[byte]);
        for _ in 0..2 {
            drop(mutex.lock_timeout(Duration::from_micros(50)));
            drop(mutex.try_lock());
        }
        let guard = mutex.try_lock();
        bytes.set(offset as u64, &[!byte]);
        drop(guard);
        let _ = (mutex.is_locked(), format!("{mutex:?}"), inspect::segment(&name));
        bytes.set(0, &[0; 8]);
        drop(mutex.lock().unwrap());
    });
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Try,
    LockBriefly,
    Unlock,
    Panic,
    Clear,
    Add(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Try),
        Just(Step::LockBriefly),
        Just(Step::Unlock),
        Just(Step::Panic),
        Just(Step::Clear),
        any::<u32>().prop_map(Step::Add),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_follow_the_model(steps in prop::collection::vec((step(), any::<bool>()), 0..60)) {
        let mutex = Mutex::new(0_u32).unwrap();
        let handles = [mutex.clone(), mutex.clone()];
        let (mut guard, mut value, mut poisoned) = (None, 0_u32, false);
        for (step, which) in steps {
            let handle = &handles[usize::from(which)];
            match step {
                Step::Try | Step::LockBriefly => {
                    let outcome = match step {
                        Step::Try => handle.try_lock(),
                        _ => handle.lock_timeout(Duration::from_nanos(1)),
                    };
                    match outcome {
                        Ok(got) => { prop_assert!(guard.is_none() && !poisoned); guard = Some(got) }
                        Err(LockError::Poisoned(got)) => {
                            prop_assert!(guard.is_none() && poisoned);
                            guard = Some(got)
                        }
                        Err(error) => prop_assert!(guard.is_some() && error.is_not_acquired()),
                    }
                }
                Step::Unlock => guard = None,
                Step::Panic => if guard.is_none() {
                    // As `panics_inside`, but without the message of each.
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        let _guard = handle.lock().or_else(|error| error.into_guard().ok_or(()));
                        std::panic::resume_unwind(Box::new(()));
                    }));
                    prop_assert!(outcome.is_err());
                    poisoned = true;
                },
                Step::Clear => { handle.clear_poison(); poisoned = false }
                Step::Add(n) => if let Some(guard) = &mut guard {
                    **guard = guard.wrapping_add(n);
                    value = value.wrapping_add(n);
                },
            }
            prop_assert_eq!(handle.is_locked(), guard.is_some());
            prop_assert_eq!(handle.is_poisoned(), poisoned);
            if let Some(guard) = &guard {
                prop_assert_eq!(**guard, value);
            }
        }
    }
}
