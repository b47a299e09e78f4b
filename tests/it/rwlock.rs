//! Readers-writer locks between threads and processes: which holders exclude each other, which
//! waiters go first, deaths, panics and damaged bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pagemate::sync::{LockError, RwLockWriteGuard};
use pagemate::{ErrorKind, Event, Origin, Process, RwLock, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::until;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn name(what: &str) -> String {
    format!("test-rwlock-{what}-{}", std::process::id())
}

#[test]
fn many_readers_or_one_writer() {
    let lock = RwLock::new(7_u64).unwrap();
    let readers = [lock.read().unwrap(), lock.try_read().unwrap(), lock.read_timeout(LONG).unwrap()];
    assert!(readers.iter().all(|value| **value == 7));
    assert_eq!((lock.reader_count(), lock.is_write_locked()), (3, false));
    assert!(lock.try_write().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(lock.write_timeout(SHORT).unwrap_err().is_not_acquired());
    assert!(begin.elapsed() >= SHORT);
    assert!(lock.write_deadline(Instant::now()).unwrap_err().is_not_acquired());
    // A writer that timed out has left nothing.
    drop(lock.read_deadline(Instant::now() + LONG).unwrap());
    drop(readers);
    let mut writer = lock.write().unwrap();
    *writer = 8;
    assert_eq!((lock.reader_count(), lock.is_write_locked()), (0, true));
    assert!(lock.try_read().unwrap_err().is_not_acquired());
    assert!(lock.read_timeout(SHORT).unwrap_err().is_not_acquired());
    assert!(lock.try_write().unwrap_err().is_not_acquired());
    assert!(lock.write_timeout(SHORT).unwrap_err().is_not_acquired());
    drop(writer);
    assert_eq!(*lock.clone().read().unwrap(), 8);
    drop((lock.write_timeout(LONG).unwrap(), format!("{lock:?}")));
    drop(lock.try_write().unwrap());
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let lock = RwLock::create(segment.at("a"), [1_u8; 3]).unwrap();
    assert_eq!(RwLock::create(segment.at("a"), [0_u8; 3]).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(RwLock::<[u8; 4]>::open(segment.at("a")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(RwLock::<u8>::open(segment.at("b")).unwrap_err().kind(), ErrorKind::NotFound);
    let (same, origin) = RwLock::open_or_create(Segment::open(&name).unwrap().at("a"), [9_u8; 3]).unwrap();
    assert_eq!(origin, Origin::Opened);
    same.write().unwrap()[0] = 2;
    assert_eq!(*lock.read().unwrap(), [2, 1, 1]);
    assert_eq!(RwLock::open_or_create(segment.at("b"), ()).unwrap().1, Origin::Created);
    let seen = pagemate::inspect::segment(&name).unwrap();
    let shown = seen.objects.iter().find(|object| object.info.name == "a").unwrap();
    assert!(shown.state.iter().any(|(what, _)| *what == "readers"), "{:?}", shown.state);
}

#[test]
fn a_writer_that_asks_keeps_new_readers_out() {
    let lock = RwLock::new(0_u32).unwrap();
    let reader = lock.read().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write_timeout(LONG).unwrap() += 1);
        until("the writer asks", || lock.is_write_locked());
        assert!(lock.try_read().unwrap_err().is_not_acquired());
        let late = scope.spawn(|| *lock.read_timeout(LONG).unwrap());
        drop(reader);
        writer.join().unwrap();
        assert_eq!(late.join().unwrap(), 1);
    });
}

#[test]
fn a_writer_that_gives_up_lets_readers_in_again() {
    let lock = RwLock::new(0_u32).unwrap();
    let _reader = lock.read().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| lock.write_timeout(Duration::from_millis(100)).is_ok());
        let late = scope.spawn(|| lock.read_timeout(LONG).is_ok());
        assert!(!writer.join().unwrap() && late.join().unwrap());
    });
    assert_eq!(lock.reader_count(), 1);
}

fn adds((lock, begin): (RwLock<[u64; 2]>, Event)) {
    begin.wait();
    for _ in 0..2_000 {
        let mut value = lock.write().unwrap();
        value[0] += 1;
        std::hint::spin_loop();
        value[1] += 1;
        drop(value);
        let value = lock.read().unwrap();
        assert_eq!(value[0], value[1]);
    }
}

#[test]
fn processes_and_threads_never_see_half_a_change() {
    let (lock, begin) = (RwLock::new([0_u64; 2]).unwrap(), Event::new().unwrap());
    let children = [(); 2].map(|_| Process::spawn(adds, (lock.clone(), begin.clone())).unwrap());
    begin.set();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let value = lock.read().unwrap();
                    assert_eq!(value[0], value[1]);
                }
            });
        }
        scope.spawn(|| adds((lock.clone(), begin.clone())));
    });
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(*lock.read().unwrap(), [6_000; 2]);
    assert_eq!(lock.reader_count(), 0);
}

/// Holds the lock until it is killed.
fn holds((lock, writes, inside): (RwLock<u64>, bool, Event)) {
    if writes {
        let mut value = lock.write().unwrap();
        *value = 1;
        inside.set();
        Event::new().unwrap().wait();
        drop(value);
    } else {
        let value = lock.read().unwrap();
        inside.set();
        Event::new().unwrap().wait();
        drop(value);
    }
}

fn held_elsewhere(lock: &RwLock<u64>, writes: bool) -> Process<()> {
    let inside = Event::new().unwrap();
    let child = Process::spawn(holds, (lock.clone(), writes, inside.clone())).unwrap();
    assert!(inside.wait_timeout(LONG));
    child
}

#[test]
fn a_dead_reader_blocks_no_other() {
    let lock = RwLock::new(0_u64).unwrap();
    let child = held_elsewhere(&lock, false);
    assert!(lock.try_write().unwrap_err().is_not_acquired());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| lock.write_timeout(LONG).is_ok());
        until("the writer asks", || lock.is_write_locked());
        child.kill().unwrap();
        let begin = Instant::now();
        assert!(writer.join().unwrap());
        println!("a reader's death was noticed after {:?}", begin.elapsed());
    });
    assert!(child.join().is_err());
    assert_eq!(lock.reader_count(), 0);
}

#[test]
fn owner_died_is_returned_until_a_writer_repairs() {
    let lock = RwLock::new(0_u64).unwrap();
    let child = held_elsewhere(&lock, true);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| match lock.read_timeout(LONG) {
            Err(LockError::OwnerDied(value)) => *value,
            other => panic!("{other:?}"),
        });
        child.kill().unwrap();
        let begin = Instant::now();
        assert_eq!(reader.join().unwrap(), 1);
        println!("a writer's death was noticed after {:?}", begin.elapsed());
    });
    assert!(child.join().is_err());
    assert!(lock.read().unwrap_err().is_owner_died());
    assert!(lock.try_write().unwrap_err().is_owner_died(), "and again, until a holder marks it consistent");
    let mut guard = lock.write().unwrap_err().into_guard().unwrap();
    *guard = 2;
    RwLockWriteGuard::mark_consistent(&mut guard);
    drop(guard);
    assert_eq!(*lock.read().unwrap(), 2);
}

/// Waits for writing while the parent reads.
fn asks(lock: RwLock<u64>) {
    drop(lock.write());
}

#[test]
fn a_writer_that_dies_asking_blocks_no_other_and_breaks_nothing() {
    let lock = RwLock::new(0_u64).unwrap();
    let reader = lock.read().unwrap();
    let child = Process::spawn(asks, lock.clone()).unwrap();
    until("it asks", || lock.is_write_locked());
    assert!(lock.try_read().is_err());
    child.kill().unwrap();
    assert!(child.join().is_err());
    drop(lock.read_timeout(LONG).unwrap());
    drop(reader);
    drop(lock.write_timeout(LONG).unwrap());
}

#[test]
fn try_write_notices_a_death_too() {
    let lock = RwLock::new(0_u64).unwrap();
    let child = held_elsewhere(&lock, false);
    child.kill().unwrap();
    assert!(child.join().is_err());
    until("try_write finds the reader dead", || lock.try_write().is_ok());
}

#[test]
fn a_stopped_holder_keeps_the_lock() {
    for writes in [false, true] {
        let lock = RwLock::new(0_u64).unwrap();
        let child = held_elsewhere(&lock, writes);
        // SAFETY: the pid is that of our child, which we have not waited for.
        let signal = |signal| assert_eq!(unsafe { libc::kill(child.pid() as i32, signal) }, 0);
        signal(libc::SIGSTOP);
        assert!(lock.write_timeout(Duration::from_millis(400)).unwrap_err().is_not_acquired());
        assert_eq!(lock.read_timeout(Duration::from_millis(200)).is_ok(), !writes, "readers need not care");
        signal(libc::SIGCONT);
        assert!(lock.try_write().unwrap_err().is_not_acquired(), "it still has it");
        child.kill().unwrap();
        assert!(child.join().is_err());
        assert_eq!(lock.write_timeout(LONG).is_ok(), !writes);
    }
}

#[test]
fn a_panic_poisons_as_in_std() {
    let lock = RwLock::new(0_u64).unwrap();
    let panics = |writes: bool| {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _guards = if writes { (None, lock.write().ok()) } else { (lock.read().ok(), None) };
            panic!("on purpose");
        }));
        assert!(outcome.is_err());
    };
    panics(false);
    assert!(!lock.is_poisoned() && lock.read().is_ok(), "a reader breaks nothing");
    panics(true);
    assert!(lock.is_poisoned());
    assert!(matches!(lock.read(), Err(LockError::Poisoned(_))));
    assert!(matches!(lock.try_write(), Err(LockError::Poisoned(_))));
    lock.clear_poison();
    assert!(lock.write().is_ok());
}

#[test]
fn a_fork_holds_nothing() {
    let lock = RwLock::new(0_u64).unwrap();
    let guard = lock.read().unwrap();
    // SAFETY: the child only reads the lock and exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(guard);
        let fine = lock.reader_count() == 1 && lock.try_write().is_err() && lock.try_read().is_ok();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if fine { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the pid is our child's, and status is ours to write.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(lock.reader_count(), 1);
    drop(guard);
    drop(lock.write_timeout(LONG).unwrap());
}

/// The bytes of a lock in its file. It is found by its value, since its own bytes are zero.
struct Bytes {
    file: File,
    at: u64,
}

impl Bytes {
    const VALUE: u64 = 128 + 64 * 1024;

    fn of(name: &str, value: &[u8]) -> Bytes {
        let path = format!("/dev/shm/pagemate.{name}");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let whole = std::fs::read(path).unwrap();
        let at = (0..whole.len()).step_by(128).find(|at| whole[*at..].starts_with(value)).unwrap();
        Bytes { file, at: at as u64 - Bytes::VALUE }
    }

    fn set(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at + offset).unwrap();
    }
}

#[test]
fn an_invalid_value_can_be_reset() {
    let name = name("reset");
    let lock = RwLock::create(&name, ['x'; 4]).unwrap();
    let bytes = Bytes::of(&name, &['x' as u32; 4].map(u32::to_le_bytes).concat());
    bytes.set(Bytes::VALUE, &[0xff; 4]);
    assert!(matches!(lock.read(), Err(LockError::Corrupted)));
    assert!(matches!(lock.write(), Err(LockError::Corrupted)));
    assert_eq!(*lock.reset(['y'; 4]).unwrap(), ['y'; 4]);
    assert_eq!(*lock.read().unwrap(), ['y'; 4]);
}

#[test]
fn damaged_bytes_give_errors_or_nothing() {
    const LEN: usize = 128 + 16;
    let name = name("damage");
    let value = [0x0123_4567_89ab_cdef_u64; 2];
    let lock = RwLock::create(&name, value).unwrap();
    let bytes = Bytes::of(&name, &value.map(u64::to_le_bytes).concat());
    damage::each(LEN, move |offset, byte| {
        bytes.set(offset as u64, &[byte]);
        for _ in 0..2 {
            drop(lock.read_timeout(Duration::from_micros(50)));
            drop(lock.write_timeout(Duration::from_micros(50)));
            drop((lock.try_read(), lock.try_write()));
        }
        let guard = lock.try_read();
        bytes.set(offset as u64, &[!byte]);
        drop(guard);
        let _ = (lock.reader_count(), format!("{lock:?}"), pagemate::inspect::segment(&name));
        bytes.set(0, &[0; LEN]);
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
    });
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Read,
    Write,
    LeaveRead,
    LeaveWrite,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_of_attempts_follow_the_model(
        steps in prop::collection::vec(
            prop::sample::select(vec![Step::Read, Step::Write, Step::LeaveRead, Step::LeaveWrite]), 0..60)
    ) {
        let lock = RwLock::new(0_u64).unwrap();
        let (mut readers, mut writer) = (Vec::new(), None);
        for step in steps {
            match step {
                Step::Read => match lock.try_read() {
                    Ok(guard) => { prop_assert!(writer.is_none()); readers.push(guard) }
                    Err(error) => prop_assert!(writer.is_some() && error.is_not_acquired()),
                },
                Step::Write => match lock.try_write() {
                    Ok(guard) => {
                        prop_assert!(writer.is_none() && readers.is_empty());
                        writer = Some(guard)
                    }
                    Err(_) => prop_assert!(writer.is_some() || !readers.is_empty()),
                },
                Step::LeaveRead => drop(readers.pop()),
                Step::LeaveWrite => writer = None,
            }
            prop_assert_eq!(lock.reader_count(), readers.len() as u64);
            prop_assert_eq!(lock.is_write_locked(), writer.is_some());
        }
    }
}
