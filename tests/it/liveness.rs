//! Liveness: nothing that a process does to its descriptors, and no copy of the process, makes it
//! appear dead while it lives or alive after its death.
//!
//! docs/liveness.md lists what a process can do, explains why this is so, and names the tests.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pagemate::sync::LockError;
use pagemate::{Event, Mutex, Once, Process, Segment, Value};

use crate::support::deeds::{self, close_all, descriptors, kill};
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// How long the others try to take a living holder's lock: several times as long as to notice a
/// death.
const TEMPTATION: Duration = Duration::from_millis(400);

/// The objects that holder and survivor share.
type Stage = (Mutex<u64>, Event, Event, Value<u64>);

fn stage() -> Stage {
    let segment = Segment::new(1 << 20).unwrap();
    (
        Mutex::create(segment.at("mutex"), 0).unwrap(),
        Event::create(segment.at("ready")).unwrap(),
        Event::create(segment.at("go")).unwrap(),
        Value::create(segment.at("copy"), 0).unwrap(),
    )
}

/// Takes the mutex, does the deed, reports that, and keeps the mutex until `go`.
fn holder(((mutex, ready, go, copy), deed): (Stage, u32)) {
    let mut guard = mutex.lock().unwrap();
    copy.set(deeds::ALL[deed as usize].1()).unwrap();
    ready.set();
    go.wait();
    *guard += 1;
    drop(guard);
    // Its descriptors may be gone, so it cannot return a result.
    std::process::exit(0);
}

fn start(deed: usize) -> (Stage, Process) {
    let stage = stage();
    let process = Process::spawn(holder, (stage.clone(), deed as u32)).unwrap();
    assert!(stage.1.wait_timeout(LONG), "{}", deeds::ALL[deed].0);
    (stage, process)
}

/// Ends the copy of the holder, if there is one.
fn end_copy((_, _, _, copy): &Stage) {
    kill(copy.get().unwrap() as i32);
}

#[test]
fn a_living_holder_keeps_the_lock_whatever_it_does_to_its_descriptors() {
    for (index, (what, _)) in deeds::ALL.iter().enumerate() {
        let (stage, process) = start(index);
        let outcome = stage.0.lock_timeout(TEMPTATION).map(drop).map_err(|error| error.is_not_acquired());
        assert_eq!(outcome, Err(true), "{what}");
        stage.2.set();
        // An error of any other kind would mean a death.
        let value = stage.0.lock_timeout(LONG).map(|guard| *guard).map_err(|error| format!("{error:?}"));
        assert_eq!(value, Ok(1), "{what}");
        let _ = process.join();
        end_copy(&stage);
    }
}

#[test]
fn a_dead_holder_is_noticed_whatever_it_did_before() {
    for (index, (what, _)) in deeds::ALL.iter().enumerate() {
        let (stage, process) = start(index);
        process.kill().unwrap();
        // The copy, if there is one, lives on.
        match stage.0.lock_timeout(LONG) {
            Err(LockError::OwnerDied(guard)) => assert_eq!(*guard, 0, "{what}"),
            other => panic!("{what}: {:?}", other.map(drop)),
        }
        let _ = process.join();
        end_copy(&stage);
    }
}

#[test]
fn a_stopped_holder_is_not_dead() {
    let (stage, process) = start(0);
    // SAFETY: the child has not been waited for, so the pid is its own.
    unsafe { libc::kill(process.pid() as i32, libc::SIGSTOP) };
    assert!(matches!(stage.0.lock_timeout(TEMPTATION), Err(LockError::NotAcquired)));
    // SAFETY: as above.
    unsafe { libc::kill(process.pid() as i32, libc::SIGCONT) };
    stage.2.set();
    assert!(stage.0.lock_timeout(LONG).is_ok());
}

/// Makes every call that checks for the dead, in a process that cannot check.
fn blind((mutex, once, ready, go): (Mutex<u64>, Once, Event, Event)) {
    close_all();
    // The files that have the numbers now are not the segment.
    let others: Vec<_> = (0..64).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    deeds::drop_all_rights();
    let _ = mutex.lock_timeout(TEMPTATION).map(drop);
    let _ = once.wait_timeout(TEMPTATION);
    ready.set();
    go.wait();
    drop((mutex, once));
    // Its handles are dropped, and the other files are still open.
    let open = others.iter().all(|file| file.metadata().is_ok());
    std::process::exit(if open { 7 } else { 8 });
}

#[test]
fn a_process_that_cannot_ask_calls_nobody_dead_and_closes_only_its_own() {
    let segment = Segment::new(1 << 20).unwrap();
    let mutex = Mutex::create(segment.at("mutex"), 0).unwrap();
    let once = Once::create(segment.at("once")).unwrap();
    let (ready, go) = (Event::new().unwrap(), Event::new().unwrap());
    let begun = once.begin().unwrap();
    let guard = mutex.lock().unwrap();
    let process = Process::spawn(blind, (mutex.clone(), once.clone(), ready.clone(), go.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    assert!(mutex.is_locked(), "the holder lost the lock");
    drop(guard);
    begun.unwrap().complete();
    assert!(once.is_completed(), "the initialiser lost its role");
    go.set();
    let error = process.join().unwrap_err();
    assert_eq!(error.exit_code(), Some(7), "{error}");
}

#[test]
fn a_fork_beside_an_open_or_a_spawn_takes_no_lock_along() {
    fn rest((mutex,): (Mutex<u64>,)) {
        drop(mutex);
    }
    let name = format!("test-liveness-fork-{}", std::process::id());
    let keep = Mutex::create(name.as_str(), 0u64).unwrap();
    let over = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                drop(Mutex::<u64>::open(name.as_str()).unwrap());
                rounds.fetch_add(1, Relaxed);
            }
        });
        scope.spawn(|| {
            while !over.load(Relaxed) {
                Process::spawn(rest, (keep.clone(),)).unwrap().join().unwrap();
            }
        });
        let mut forks = 0;
        while forks < 400 || rounds.load(Relaxed) < 100 {
            forks += 1;
            // SAFETY: the child makes system calls only, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                deeds::exit_with(deeds::has_lock());
            }
            let mut status = 0;
            // SAFETY: the child is ours, and the status is written to this variable.
            unsafe { libc::waitpid(child, &mut status, 0) };
            if status != 0 {
                over.store(true, Relaxed);
            }
            assert_eq!(status, 0, "a fork has a descriptor with a lock, in round {forks}");
        }
        over.store(true, Relaxed);
    });
}

#[test]
fn no_descriptor_is_a_standard_stream() {
    fn quiet((ready, mutex): (Event, Mutex<u64>)) -> Vec<i32> {
        for file in 0..3 {
            // SAFETY: a program may close its standard streams.
            unsafe { libc::close(file) };
        }
        let name = format!("test-liveness-std-{}", std::process::id());
        let made = (Event::new().unwrap(), Mutex::create(name.as_str(), 1u64).unwrap());
        let opened = Mutex::<u64>::open(name.as_str()).unwrap();
        let mut set = pagemate::WaitSet::new();
        set.add(1, &ready).unwrap();
        ready.set();
        let _ = set.wait_timeout(LONG);
        let found = descriptors().into_iter().filter(|file| *file < 3).collect();
        drop((made, opened, mutex));
        found
    }
    let (ready, mutex) = (Event::new().unwrap(), Mutex::new(0).unwrap());
    let found = Process::spawn(quiet, (ready, mutex)).unwrap().join().unwrap();
    assert_eq!(found, Vec::<i32>::new());
}

/// The number of descriptors that a program would inherit if this one started it before `init`, and
/// one more if the variable is set.
static BEFORE_INIT: AtomicU32 = AtomicU32::new(0);

extern "C" fn look_before_init() {
    // SAFETY: asks for the flags of a number, open or not.
    let is_inherited = |file: &i32| unsafe { libc::fcntl(*file, libc::F_GETFD) } == 0;
    // Few numbers, because every child of this program runs this.
    let inherited = (3..128).filter(is_inherited).count() as u32;
    BEFORE_INIT.store(inherited + u32::from(std::env::var_os("PAGEMATE_CHILD").is_some()), Relaxed);
}

/// Runs after the library's own constructor, and before that of `init_tests!`.
#[used]
#[unsafe(link_section = ".init_array.00099")]
static LOOK_BEFORE_INIT: extern "C" fn() = look_before_init;

#[test]
fn what_a_child_starts_before_init_inherits_nothing() {
    fn child((mutex, _file): (Mutex<u64>, Event)) -> u32 {
        drop(mutex);
        BEFORE_INIT.load(Relaxed)
    }
    // Descriptors that the test program itself has inherited are inherited by its children too.
    let own = BEFORE_INIT.load(Relaxed);
    let arguments = (Mutex::new(0).unwrap(), Event::new().unwrap());
    assert_eq!(Process::spawn(child, arguments).unwrap().join().unwrap(), own);
}

#[test]
fn a_deadline_holds_while_another_process_traces_the_child() {
    fn child((ready, go): (Event, Event)) {
        // SAFETY: lets a process that is no relative trace this one.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
        ready.set();
        go.wait();
    }
    let (ready, go) = (Event::new().unwrap(), Event::new().unwrap());
    let mut process = Process::spawn(child, (ready.clone(), go.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let pid = process.pid() as i32;
    let traced = Event::new().unwrap();
    // SAFETY: the child makes system calls, and uses handles that may be used after a fork.
    let tracer = unsafe { libc::fork() };
    if tracer == 0 {
        // SAFETY: as above; it never waits for what it traces. A join that does not keep its
        // deadline ends with it, and is late.
        let seized = unsafe {
            libc::alarm(30);
            libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0
        };
        traced.set();
        deeds::pause_or_exit(seized);
    }
    assert!(traced.wait_timeout(LONG));
    go.set();
    // The pidfd tells that it has ended, but the kernel keeps the status for the tracer.
    until("the child has ended", || deeds::is_readable(process.as_fd().as_raw_fd()));
    let begin = Instant::now();
    let result = process.join_timeout(Duration::from_millis(50));
    let is_timeout = result.is_err_and(|error| error.is_timeout());
    let late = begin.elapsed();
    kill(tracer);
    assert!(is_timeout && late < Duration::from_secs(20), "after {late:?}");
    process.join().unwrap();
}

#[test]
fn a_refusal_keeps_its_own_reason() {
    let (full, free) = (Mutex::new(0u64).unwrap(), Mutex::new(0u64).unwrap());
    let (mut producer, _consumer) = pagemate::spsc::<u8>(4).unwrap();
    // SAFETY: the child uses handles that may be used after a fork, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let limit = |files: u64| {
            let limit = libc::rlimit { rlim_cur: files, rlim_max: 1024 };
            // SAFETY: reads a limit for this process.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        };
        limit(0);
        let refused = full.try_lock().map(drop).map_err(|error| error.map(drop)).unwrap_err();
        // The error for a role that stays with the parent has another reason.
        let role = producer.try_send(1).unwrap_err();
        let said = role.to_string().contains("give it to a child");
        let said = said && pagemate::Error::from(role).kind() == pagemate::ErrorKind::NotInThisProcess;
        // Neither another thread nor a later success changes the reason of the first error.
        limit(512);
        let said = said && free.try_lock().map(drop).is_ok() && refused.to_string().contains("open files");
        let there = std::thread::spawn(move || refused.to_string()).join();
        deeds::exit_with(!(said && there.is_ok_and(|text| text.contains("open files"))));
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is written to this variable.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn a_forked_child_that_cannot_attach_says_why() {
    let mutex = Mutex::new(0u64).unwrap();
    let queue = pagemate::Queue::<u64>::new(4).unwrap();
    let child = Forked::run(|| {
        deeds::leave_no_descriptor();
        let error = mutex.try_lock().map(drop).unwrap_err();
        let said = error.to_string().contains("open files");
        let said = said && queue.try_send(1).unwrap_err().to_string().contains("open files");
        let kind = pagemate::Error::from(error).kind();
        if said && kind == pagemate::ErrorKind::System {
            7
        } else {
            8
        }
    });
    assert_eq!(child.wait(), 7);
}
