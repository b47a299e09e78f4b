//! A participant's lock ends with its address space: what ends it, what prolongs it, and what a
//! dump of it contains.
//!
//! See docs/liveness.md, which names these tests.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use pagemate::sync::LockError;
use pagemate::{Dict, Event, Mutex, Process, Queue, Value};

use crate::support::deeds;
use crate::support::forked::Forked;
use crate::support::until;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// How long others try to take a living holder's lock: several times as long as to notice a death.
const TEMPTATION: Duration = Duration::from_millis(400);

fn is_owner_dead(mutex: &Mutex<u64>) -> bool {
    matches!(mutex.lock_timeout(LONG), Err(LockError::OwnerDied(_)))
}

fn is_held(mutex: &Mutex<u64>) -> bool {
    matches!(mutex.lock_timeout(TEMPTATION), Err(LockError::NotAcquired))
}

#[test]
fn a_process_that_executes_another_program_is_dead() {
    let mutex = Mutex::new(0u64).unwrap();
    let ready = Event::new().unwrap();
    let child = Forked::run(|| {
        let _guard = mutex.lock().unwrap();
        ready.set();
        Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).exec();
        99
    });
    assert!(ready.wait_timeout(LONG));
    assert!(is_owner_dead(&mutex));
    assert!(child.is_running(), "the other program has the process's pid");
    child.kill();
}

/// Starts a program by `posix_spawn` that opens `first`, then `second`, before it is executed.
fn start(first: &CString, second: &CString) {
    // SAFETY: the structures are initialised before they are used, and all strings end with NUL.
    unsafe {
        let mut actions = std::mem::zeroed();
        libc::posix_spawn_file_actions_init(&mut actions);
        let create = libc::O_CREAT | libc::O_WRONLY;
        libc::posix_spawn_file_actions_addopen(&mut actions, 100, first.as_ptr(), create, 0o600);
        libc::posix_spawn_file_actions_addopen(&mut actions, 101, second.as_ptr(), libc::O_RDONLY, 0);
        let (mut pid, arguments) = (0, [c"true".as_ptr().cast_mut(), std::ptr::null_mut()]);
        let (attributes, environment) = (std::ptr::null(), [std::ptr::null_mut()]);
        let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
        libc::posix_spawnp(&mut pid, c"true".as_ptr(), &actions, attributes, arguments, environment);
    }
}

/// `posix_spawn`, like `vfork`, gives the child the parent's address space until it executes its
/// program. This is a limit of the platform.
#[test]
fn a_process_counts_as_alive_while_a_child_shares_its_address_space() {
    let dir = std::env::temp_dir().join(format!("test-address-space-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (begun, fifo) = (dir.join("begun"), dir.join("fifo"));
    let [first, second] =
        [&begun, &fifo].map(|path| CString::new(path.as_os_str().as_encoded_bytes()).unwrap());
    // SAFETY: the path ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(second.as_ptr(), 0o600) }, 0);
    let mutex = Mutex::new(0u64).unwrap();
    let child = Forked::run(|| {
        let _guard = mutex.lock().unwrap();
        // Opening the FIFO blocks until somebody writes to it.
        start(&first, &second);
        99
    });
    until("the child's child has begun", || begun.exists());
    child.kill();
    child.wait();
    assert!(is_held(&mutex), "the child's child keeps the lock");
    drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    assert!(is_owner_dead(&mutex));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Pids mean nothing, so a process in another pid namespace is alive and notices deaths like all.
#[test]
fn a_pid_namespace_changes_nothing() {
    let (inner, outer) = (Mutex::new(0u64).unwrap(), Mutex::new(0u64).unwrap());
    let [ready, noticed] = [(); 2].map(|()| Event::new().unwrap());
    let pid = Value::new(0u64).unwrap();
    let holder = Forked::run(|| {
        let _guard = outer.lock().unwrap();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    assert!(ready.wait_timeout(LONG));
    ready.clear();
    let parent = Forked::run(|| {
        let pid_only = libc::CLONE_NEWPID;
        if !deeds::unshare(pid_only) && !deeds::unshare(pid_only | libc::CLONE_NEWUSER) {
            return 77;
        }
        let child = Forked::run(|| {
            assert_eq!(std::process::id(), 1);
            let _guard = inner.lock().unwrap();
            assert!(is_held(&outer), "a process of the other namespace lives");
            ready.set();
            assert!(is_owner_dead(&outer), "and has died");
            noticed.set();
            loop {
                std::thread::park();
            }
        });
        pid.set(child.pid().into()).unwrap();
        child.wait()
    });
    let is_there = || ready.wait_timeout(TEMPTATION) || !parent.is_running();
    until("the child has looked from its namespace", is_there);
    if ready.is_set() {
        assert!(is_held(&inner), "its first process lives");
        holder.kill();
        assert!(noticed.wait_timeout(LONG), "a death in the other namespace");
        until("its pid is known", || pid.get().unwrap() != 0);
        deeds::kill(pid.get().unwrap() as i32);
        assert!(is_owner_dead(&inner));
        assert_eq!(parent.wait(), 0);
    } else {
        assert_eq!(parent.wait(), 77);
        println!("SKIPPED: this machine lets no process have a pid namespace of its own");
    }
    holder.kill();
    holder.wait();
}

/// A dump reads every page, and so fills what is only reserved.
#[test]
fn segments_are_left_out_of_core_dumps() {
    /// Returns the mappings of segments that a dump of this process would contain.
    fn dumped(name: String) -> Vec<String> {
        let _named = Queue::<u64>::create(name.as_str(), 4).unwrap();
        let _opened = Queue::<u64>::open(name.as_str()).unwrap();
        let _anonymous = Dict::<u64, u64>::new().unwrap();
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut dumped, mut mapping) = (Vec::new(), "");
        let mut segments = 0;
        for line in text.lines() {
            match line.strip_prefix("VmFlags:") {
                Some(flags) if mapping.contains("pagemate") && mapping.contains(" rw-s ") => {
                    segments += 1;
                    if !flags.split(' ').any(|flag| flag == "dd") {
                        dumped.push(mapping.to_string());
                    }
                }
                None if !line.split(' ').next().unwrap_or_default().ends_with(':') => mapping = line,
                _ => {}
            }
        }
        assert!(segments >= 2, "{text}");
        dumped
    }
    let name = format!("test-address-space-dump-{}", std::process::id());
    assert_eq!(Process::spawn(dumped, name).unwrap().join().unwrap(), Vec::<String>::new());
}
