//! Names of segments: which files can be opened, which names are removed and which stay, and the
//! errors.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::sync::LockError;
use pagemate::{inspect, ErrorKind, Event, Manager, Mutex, Place, Process, Queue, Segment, Value};

use crate::support::forked::Forked;

/// Creates a directory.
fn dir(what: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("test-names-{what}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    // Other users may use it too.
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    dir
}

/// Returns the processor time of this thread, because other processes may use the processor
/// meanwhile.
fn worked() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock of this thread, and a place for its time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Starts a process that creates an event at `place` and ends without leaving it.
fn die_with(place: Place) {
    let child = Forked::run(|| {
        std::mem::forget(Event::create(place).unwrap());
        0
    });
    assert_eq!(child.wait(), 0);
}

fn is_root() -> bool {
    // SAFETY: no pointers; returns the user id.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes nobody, whose group is nobody's.
fn become_nobody() {
    // SAFETY: of this process, which is a child of the test's.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(65534), 0);
        assert_eq!(libc::setuid(65534), 0);
    }
}

/// A process between `vfork` and `exec` has copies of its parent's descriptors. It may have begun
/// while the parent attached to a segment, and end after the parent has left that.
#[test]
fn a_name_goes_with_its_last_user_beside_processes_that_start() {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let mut started = 0;
            while !is_done.load(Relaxed) || started < 100 {
                assert!(Command::new("true").status().unwrap().success());
                started += 1;
            }
        });
        for n in 0..3000 {
            let name = format!("test-names-starting-{}-{n}", std::process::id());
            drop(Event::create(&name).unwrap());
            let file = format!("/dev/shm/pagemate.{name}");
            let is_left = fs::remove_file(&file).is_ok();
            if is_left || starter.is_finished() {
                is_done.store(true, Relaxed);
                panic!("{file} was left: {is_left}");
            }
        }
        is_done.store(true, Relaxed);
    });
}

#[test]
fn a_mode_that_shuts_out_its_owner_is_refused() {
    let dir = dir("mode");
    for mode in [0o400, 0o200, 0o060, 0] {
        let error = Event::create(Place::in_dir(&dir, "x").mode(mode)).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("0600"), "{error}");
    }
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn an_object_on_a_segments_name_is_refused_at_once() {
    let dir = dir("kind");
    let place = || Place::in_dir(&dir, "x");
    let segment = Segment::create(place(), 1 << 20).unwrap();
    let begin = worked();
    for error in [
        Event::open_or_create(place()).unwrap_err(),
        Queue::<u64>::open_or_create(place(), 64).unwrap_err(),
        Value::open_or_create(place(), 0u64).unwrap_err(),
        Event::open(place()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        assert!(error.to_string().contains("open it as a Segment"), "{error}");
    }
    let worked = worked() - begin;
    assert!(worked.as_millis() < 1000, "{worked:?}");
    drop(segment);
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn a_missing_directory_is_not_a_missing_segment() {
    let nowhere = std::env::temp_dir().join("test-names-nowhere");
    let place = || Place::in_dir(&nowhere, "x");
    for error in [Event::create(place()).unwrap_err(), Event::open_or_create(place()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no directory"), "{error}");
    }
}

#[test]
fn removing_takes_what_has_the_name_and_says_when_nothing_has() {
    let dir = dir("remove");
    let place = || Place::in_dir(&dir, "x");
    let event = Event::create(place()).unwrap();
    assert_eq!(place().remove_unused().unwrap_err().kind(), ErrorKind::Busy);
    place().remove().unwrap();
    assert_eq!(place().remove().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(place().remove_unused().unwrap_err().kind(), ErrorKind::NotFound);
    let newer = Event::create(place()).unwrap();
    event.set();
    drop(event);
    assert!(!Event::open(place()).unwrap().is_set(), "the older one's last user has taken the name");
    drop(newer);
    let file = dir.join("pagemate.x");
    fs::write(&file, "no segment").unwrap();
    assert_eq!(place().remove_unused().unwrap_err().kind(), ErrorKind::Corrupted);
    place().remove().unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    place().remove().unwrap();
    fs::create_dir(&file).unwrap();
    assert!(place().remove().is_err());
    fs::remove_dir(&file).unwrap();
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn the_last_one_finds_the_name_in_a_renamed_directory() {
    let (dir, renamed) = (dir("before"), dir("after"));
    fs::remove_dir(&renamed).unwrap();
    let creator = Event::create(Place::in_dir(&dir, "x")).unwrap();
    let opener = Event::open(Place::in_dir(&dir, "x")).unwrap();
    fs::rename(&dir, &renamed).unwrap();
    drop(creator);
    assert!(renamed.join("pagemate.x").exists());
    drop(opener);
    fs::remove_dir(&renamed).expect("the last one to leave has removed the name");
}

#[test]
fn a_sweep_takes_other_layout_versions_and_what_removers_left() {
    let dir = dir("sweep");
    let bump = |name: &str| {
        let file = fs::File::options().write(true).open(dir.join(name)).unwrap();
        file.write_all_at(&77u32.to_le_bytes(), 8).unwrap();
    };
    die_with(Place::in_dir(&dir, "left"));
    bump("pagemate.left");
    let used = Event::create(Place::in_dir(&dir, "used")).unwrap();
    bump("pagemate.used");
    // One remover died after its rename, another one before it, and a third one with a file that is
    // no segment.
    fs::write(dir.join(".pagemate-aside.000000000000000c.pagemate.y"), "what is left").unwrap();
    for (permit, file) in
        [(".pagemate-removal.000000000000000a", true), (".pagemate-removal.000000000000000b", false)]
    {
        make_dir(&dir.join(permit), 0o700);
        if file {
            fs::write(dir.join(permit).join("pagemate.x"), "what is left").unwrap();
        }
    }
    let swept = inspect::sweep(Some(&dir)).unwrap();
    assert_eq!(swept.removed, ["left"]);
    assert!(swept.failed.is_empty(), "{swept:?}");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pagemate.used"]);
    drop(used);
    fs::remove_dir(&dir).unwrap();
}

/// Creates a directory with these permissions.
fn make_dir(dir: &Path, mode: u32) {
    fs::create_dir(dir).unwrap();
    set_mode(dir, mode);
}

#[test]
fn a_sweep_follows_no_link_and_empties_no_directory_of_others() {
    let (dir, home) = (dir("planted"), dir("home"));
    let permit = |number: u32| dir.join(format!(".pagemate-removal.{number:016x}"));
    let precious = |dir: &Path| {
        fs::write(dir.join("pagemate.thesis"), "precious").unwrap();
        dir.join("pagemate.thesis")
    };
    set_mode(&home, 0o700);
    std::os::unix::fs::symlink(&home, permit(1)).unwrap();
    make_dir(&permit(2), 0o700);
    set_mode(&permit(2), 0o777);
    let mut kept = vec![precious(&home), precious(&permit(2))];
    // Things that no remover makes: a directory with another name, and a file with another name in
    // a directory with a right one. The latter is reported.
    let mine = dir.join(".pagemate-removal.mine");
    make_dir(&mine, 0o700);
    kept.push(precious(&mine));
    make_dir(&permit(5), 0o700);
    fs::write(permit(5).join("thesis"), "precious").unwrap();
    kept.push(permit(5).join("thesis"));
    for name in [".pagemate-aside.mine.pagemate.x", ".pagemate-aside.0000000000000001.thesis"] {
        fs::write(dir.join(name), "precious").unwrap();
        kept.push(dir.join(name));
    }
    if is_root() {
        let aside = dir.join(".pagemate-aside.0000000000000002.pagemate.x");
        fs::write(&aside, "another user's").unwrap();
        std::os::unix::fs::chown(&aside, Some(65534), Some(65534)).unwrap();
        kept.push(aside);
        make_dir(&permit(3), 0o700);
        kept.push(precious(&permit(3)));
        std::os::unix::fs::chown(permit(3), Some(65534), Some(65534)).unwrap();
        make_dir(&permit(4), 0o700);
        std::os::unix::fs::chown(permit(4), Some(65534), Some(65534)).unwrap();
        kept.push(permit(4));
    } else {
        println!("SKIPPED in part: only root can give a directory to another user");
    }
    let swept = inspect::sweep(Some(&dir)).unwrap();
    for kept in kept {
        assert!(kept.exists(), "{} is gone", kept.display());
    }
    assert!(swept.removed.is_empty() && swept.failed.len() == 2, "{swept:?}");
    assert!(swept.failed.iter().all(|(_, error)| error.to_string().contains("thesis")), "{swept:?}");
    fs::remove_dir_all(&dir).unwrap();
    fs::remove_dir_all(&home).unwrap();
}

/// A remover died with its permit registered, a sweep removed the directory, and another user
/// creates one with that name.
#[test]
fn a_forged_permit_keeps_nobody_out() {
    if !is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let dir = dir("forged-permit");
    let permit = dir.join(".pagemate-removal.0000000000000abc");
    for is_empty in [true, false] {
        make_dir(&permit, 0o755);
        if !is_empty {
            fs::write(permit.join("pagemate.x"), "").unwrap();
        }
        std::os::unix::fs::chown(&permit, Some(1), Some(1)).unwrap();
        as_nobody(|| {
            let place = Place::in_dir(&dir, "x");
            let event = Event::create(place.clone()).unwrap();
            let file = fs::File::options().write(true).open(dir.join("pagemate.x")).unwrap();
            file.write_all_at(&0xabcu64.to_le_bytes(), 32).unwrap();
            event.set();
            assert!(Event::open(place.clone()).unwrap().is_set());
            file.write_all_at(&0xabcu64.to_le_bytes(), 32).unwrap();
            drop(event);
            assert_eq!(Event::open(place).unwrap_err().kind(), ErrorKind::NotFound);
        });
        assert!(permit.exists());
        fs::remove_dir_all(&permit).unwrap();
    }
    fs::remove_dir(&dir).unwrap();
}

/// Runs `body` in a process of a user whom permissions restrict, unlike root.
fn as_nobody(body: impl FnOnce()) {
    let child = Forked::run(|| {
        if is_root() {
            become_nobody();
        }
        body();
        0
    });
    assert_eq!(child.wait(), 0);
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_segment_that_cannot_be_opened_is_not_removed_as_something_else() {
    let dir = dir("unopened");
    as_nobody(|| {
        let (place, file) = (Place::in_dir(&dir, "x"), dir.join("pagemate.x"));
        let _used = Event::create(place.clone()).unwrap();
        set_mode(&file, 0);
        assert_eq!(place.remove().unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(file.exists(), "removed without a permit");
        set_mode(&file, 0o600);
        place.remove().unwrap();
        assert!(!file.exists());
    });
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn a_directory_that_is_not_writable_is_the_reason_that_is_given() {
    if !is_root() {
        println!("SKIPPED: only root can make a directory that its user cannot write to");
        return;
    }
    let dir = dir("read-only");
    as_nobody(|| die_with(Place::in_dir(&dir, "x")));
    set_mode(&dir, 0o755);
    as_nobody(|| {
        let error = Place::in_dir(&dir, "x").remove().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("user 65534 may not write to its directory"), "{error}");
    });
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_sweep_puts_back_a_segment_and_leaves_what_it_cannot_open() {
    let dir = dir("aside");
    as_nobody(|| {
        let (place, file) = (Place::in_dir(&dir, "x"), dir.join("pagemate.x"));
        let aside = dir.join(".pagemate-aside.000000000000000c.pagemate.x");
        let used = Event::create(place.clone()).unwrap();
        fs::rename(&file, &aside).unwrap();
        set_mode(&aside, 0);
        assert_eq!(inspect::sweep(Some(&dir)).unwrap().failed.len(), 1);
        assert!(aside.exists(), "nobody could tell that it is not a segment");
        set_mode(&aside, 0o600);
        assert!(inspect::sweep(Some(&dir)).unwrap().failed.is_empty());
        used.set();
        assert!(Event::open(place).unwrap().is_set());
    });
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn without_room_for_a_permit_the_last_one_still_removes_the_name() {
    let dir = dir("no-room");
    let child = Forked::run(|| {
        if !mount_tmpfs(&dir, c"nr_inodes=8") {
            return 77;
        }
        let (place, file) = (Place::in_dir(&dir, "x"), dir.join("pagemate.x"));
        let event = Event::create(place.clone()).unwrap();
        let fill = (0..).map(|number| fs::write(dir.join(number.to_string()), "")).find_map(Result::err);
        assert_eq!(fill.unwrap().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(place.remove_unused().unwrap_err().kind(), ErrorKind::Busy);
        drop(event);
        assert!(!file.exists());
        0
    });
    match child.wait() {
        77 => {
            println!("not tried: this machine lets no process mount a small tmpfs in a namespace of its own")
        }
        code => assert_eq!(code, 0),
    }
    fs::remove_dir(&dir).unwrap();
}

/// Mounts a small tmpfs for this process only. Returns false if that is not permitted.
fn mount_tmpfs(dir: &Path, options: &CStr) -> bool {
    let target = CString::new(dir.to_str().unwrap()).unwrap();
    let (tmpfs, null) = (c"tmpfs".as_ptr(), std::ptr::null());
    // SAFETY: the caller, a child, gets a mount namespace of its own; all strings end with NUL.
    unsafe {
        let own = libc::unshare(libc::CLONE_NEWNS) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        own && libc::mount(null, c"/".as_ptr(), null, private, null.cast()) == 0
            && libc::mount(tmpfs, target.as_ptr(), tmpfs, 0, options.as_ptr().cast()) == 0
    }
}

#[test]
fn a_file_of_another_user_is_opened_only_by_a_process_that_trusts_it() {
    if !is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let dir = dir("owner");
    let place = |name: &str| Place::in_dir(&dir, name);
    // The user nobody creates one for everybody and leaves one behind. Root creates one with a mode
    // for everybody.
    let ready = Event::new().unwrap();
    let done = Event::new().unwrap();
    let nobody = Forked::run(|| {
        become_nobody();
        let _planted = Event::create(place("planted").mode(0o666)).unwrap();
        let _group = Event::create(place("group").mode(0o660)).unwrap();
        std::mem::forget(Event::create(place("left").mode(0o666)).unwrap());
        ready.set();
        done.wait();
        0
    });
    ready.wait();
    let _open = Event::create(place("open").mode(0o666)).unwrap();
    for (name, word) in [("planted", "user 65534"), ("group", "user 65534"), ("open", "0666")] {
        for error in [Event::open(place(name)).unwrap_err(), Event::open_or_create(place(name)).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains(word) && error.to_string().contains("mode"), "{error}");
        }
    }
    assert!(Event::open(place("group").mode(0o660)).is_err(), "a group that root is not in");
    assert!(Event::open(place("planted").mode(0o666)).is_ok());
    assert!(Event::open(place("open").mode(0o666)).is_ok());
    assert!(inspect::segment(place("planted")).is_ok(), "root may inspect it");
    let nobody_else = Forked::run(|| {
        become_nobody();
        assert_eq!(inspect::segment(place("open")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        0
    });
    assert_eq!(nobody_else.wait(), 0);
    done.set();
    assert_eq!(nobody.wait(), 0);
    // Now no process uses the one that was left behind.
    assert_eq!(Event::open(place("left")).unwrap_err().kind(), ErrorKind::NotFound);
    let error = Event::create(place("left")).unwrap_err();
    assert!(error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("65534"), "{error}");
    place("left").remove_unused().unwrap();
    drop(_open);
    fs::remove_dir_all(&dir).unwrap();
}

/// The variable with the place of the handle that the program below does not drop.
const LEFT_TO_EXIT: &str = "TEST_NAMES_LEFT_TO_EXIT";

/// Run as a program of its own, by the next test.
#[test]
fn handles_in_statics() {
    static HANDLES: std::sync::OnceLock<(Segment, Event, Queue<u64>, Manager)> = std::sync::OnceLock::new();
    let Some(dir) = std::env::var_os(LEFT_TO_EXIT) else { return };
    let place = |name: &str| Place::in_dir(&dir, name);
    let segment = Segment::create(place("segment"), 1 << 20).unwrap();
    let event = Event::create(segment.at("event")).unwrap();
    let queue = Queue::create(place("queue"), 4).unwrap();
    queue.send(1).unwrap();
    HANDLES.set((segment, event, queue, Manager::create(place("manager")).unwrap())).unwrap();
    assert_eq!(fs::read_dir(dir).unwrap().count(), 3);
}

#[test]
fn a_program_that_returns_from_main_leaves_no_names() {
    let dir = dir("main");
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    // The harness returns from main if all tests have passed.
    let output =
        program.args(["--exact", "names::handles_in_statics"]).env(LEFT_TO_EXIT, &dir).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(output.status.success() && left.is_empty(), "{left:?} has stayed, {output:?}");
    fs::remove_dir(&dir).unwrap();
}

/// Run as a program of its own, by the next test.
#[test]
fn a_lock_that_is_held_at_exit() {
    static ENDING: std::sync::OnceLock<(Event, Event)> = std::sync::OnceLock::new();
    extern "C" fn at_exit() {
        let (ends, go) = ENDING.get().unwrap();
        ends.set();
        go.wait();
    }
    let Some(dir) = std::env::var_os(LEFT_TO_EXIT) else { return };
    // Installed before the library's own handler, so it runs after that. SAFETY: a plain function
    // that stays, and does not unwind.
    unsafe { libc::atexit(at_exit) };
    let open = |name: &str| Event::open(Place::in_dir(&dir, name)).unwrap();
    assert!(ENDING.set((open("ends"), open("go"))).is_ok());
    let mutex = Box::leak(Box::new(Mutex::<u64>::open(Place::in_dir(&dir, "mutex")).unwrap()));
    std::mem::forget(mutex.lock().unwrap());
}

#[test]
fn an_exiting_process_keeps_what_it_holds_until_it_has_ended() {
    let dir = dir("held");
    let create = |name: &str| Event::create(Place::in_dir(&dir, name)).unwrap();
    let (ends, go) = (create("ends"), create("go"));
    let mutex = Mutex::create(Place::in_dir(&dir, "mutex"), 0u64).unwrap();
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "names::a_lock_that_is_held_at_exit"]).env(LEFT_TO_EXIT, &dir);
    let mut child = program.stdout(std::process::Stdio::null()).spawn().unwrap();
    assert!(ends.wait_timeout(Duration::from_secs(60)));
    // Several times as long as to notice a death, since other threads of the process may still work
    // under the lock.
    let error =
        mutex.lock_timeout(Duration::from_millis(400)).map(drop).map_err(|error| error.is_not_acquired());
    assert_eq!(error, Err(true), "it lost the lock while it ends");
    go.set();
    assert!(child.wait().unwrap().success());
    assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
    drop((ends, go, mutex));
    fs::remove_dir(&dir).unwrap();
}

/// A program that ends normally, in some way, with a handle that nothing drops.
#[test]
fn the_last_one_to_end_normally_removes_the_name() {
    // In a process with one thread: a child that is forked while another thread creates a segment
    // may leave the name to the next opener (see src/segment/exit.rs).
    Process::spawn(the_last_one_to_end_normally, ()).unwrap().join().unwrap();
}

/// A program may end while one of its threads drops the last handle.
#[test]
fn a_name_is_removed_if_the_process_ends_while_a_thread_leaves() {
    let dir = dir("leaving");
    for round in 0..100 {
        let leave = |(dir, round): (String, u32)| {
            let (event, _) = Event::open_or_create(Place::in_dir(&dir, "x")).unwrap();
            let (begin, begun) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                begin.send(()).unwrap();
                drop(event);
            });
            begun.recv().unwrap();
            // At different moments of the removal.
            (0..round * 20).for_each(|_| std::hint::spin_loop());
        };
        let path = dir.to_str().unwrap().to_string();
        Process::spawn(leave, (path, round)).unwrap().join().unwrap();
        assert!(!dir.join("pagemate.x").exists(), "round {round}");
    }
    fs::remove_dir(&dir).unwrap(); // nothing else is left in it
}

fn the_last_one_to_end_normally((): ()) {
    static HANDLE: std::sync::OnceLock<Event> = std::sync::OnceLock::new();
    let dir = dir("exit");
    let place = || Place::in_dir(&dir, "x");
    let end = |in_thread: bool| {
        Forked::run(move || {
            let (event, _) = Event::open_or_create(place()).unwrap();
            if in_thread {
                let ready = Event::new().unwrap();
                let other = ready.clone();
                std::thread::spawn(move || {
                    other.set();
                    event.wait();
                });
                ready.wait();
            } else {
                HANDLE.set(event).unwrap();
            }
            // A copy that has not used the handle removes nothing, however it ends.
            let copy = Forked::run(|| std::process::exit(0));
            copy.wait();
            assert_eq!(inspect::segment(place()).unwrap().participants.iter().filter(|p| p.alive).count(), 1);
            std::process::exit(7)
        })
    };
    for in_thread in [false, true] {
        assert_eq!(end(in_thread).wait(), 7);
        assert!(!dir.join("pagemate.x").exists());
    }
    // While another process uses the segment, it stays. If several end at once, one of them removes
    // it.
    let event = Event::create(place()).unwrap();
    let go = Event::new().unwrap();
    for _ in 0..50 {
        let children: Vec<_> = (0..3)
            .map(|_| {
                Forked::run(|| {
                    std::mem::forget(Event::open_or_create(place()).unwrap());
                    go.wait();
                    std::process::exit(7)
                })
            })
            .collect();
        go.set();
        assert!(children.into_iter().all(|child| child.wait() == 7));
        go.clear();
        assert!(Event::open(place()).is_ok(), "one is still in it");
    }
    drop(event);
    let both = Event::new().unwrap();
    for _ in 0..50 {
        let children = [(); 2].map(|()| {
            Forked::run(|| {
                std::mem::forget(Event::open_or_create(place()).unwrap());
                both.wait();
                std::process::exit(7)
            })
        });
        while inspect::segment(place()).map_or(0, |segment| segment.participants.len()) < 2 {
            std::thread::yield_now();
        }
        both.set();
        assert!(children.into_iter().all(|child| child.wait() == 7));
        both.clear();
        assert!(!dir.join("pagemate.x").exists(), "both have left it to the other");
    }
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn creating_many_objects_in_a_segment_takes_time_for_each_and_not_for_all() {
    let segment = Segment::new(1 << 28).unwrap();
    let time = |names: std::ops::Range<u32>| {
        let begin = worked();
        for name in names {
            Event::create(segment.at(name.to_string())).unwrap();
        }
        worked() - begin
    };
    time(0..1000);
    let (few, many) = (time(1000..2000), time(2000..12_000));
    assert!(many < 40 * few, "1,000 events take {few:?}, 10,000 more {many:?}");
    assert_eq!(Event::create(segment.at("7")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    segment.at("7").remove().unwrap();
    assert_eq!(Event::open(segment.at("7")).unwrap_err().kind(), ErrorKind::NotFound);
    Event::create(segment.at("7")).unwrap().set();
    assert!(Event::open(segment.at("7")).unwrap().is_set());
}

#[test]
fn a_damaged_directory_and_a_sparse_copy_raise_no_signal_on_a_full_file_system() {
    let dir = dir("full");
    let child = Forked::run(|| {
        let target = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
        let mount = |source: *const libc::c_char, target: *const libc::c_char, flags, data| {
            // SAFETY: all strings end with NUL or are null; only this child's own namespace
            // changes.
            unsafe { libc::mount(source, target, c"tmpfs".as_ptr(), flags, data) == 0 }
        };
        // SAFETY: of this process, which is a child of the test's.
        let own = unsafe { libc::unshare(libc::CLONE_NEWNS) == 0 };
        if !own
            || !mount(std::ptr::null(), c"/".as_ptr(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null())
            || !mount(c"tmpfs".as_ptr(), target.as_ptr(), 0, c"size=1m".as_ptr().cast())
        {
            return 77;
        }
        let place = |name: &str| Place::in_dir(&dir, name).persistent();
        let segment = Segment::create(place("victim"), 64 << 20).unwrap();
        Queue::<u64>::create(segment.at("queue"), 1000).unwrap();
        drop(segment);
        // A copy as `cp --sparse=always` makes it: without the pages that hold zeros only.
        let bytes = fs::read(dir.join("pagemate.victim")).unwrap();
        let copy = fs::File::create(dir.join("pagemate.copy")).unwrap();
        copy.set_len(bytes.len() as u64).unwrap();
        for (page, chunk) in
            bytes.chunks(4096).enumerate().filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0))
        {
            copy.write_all_at(chunk, page as u64 * 4096).unwrap();
        }
        // The word of the directory leads to an offset without memory.
        let file = fs::File::options().write(true).open(dir.join("pagemate.victim")).unwrap();
        file.write_all_at(&(32u64 << 20).to_le_bytes(), 144).unwrap();
        let mut filler = fs::File::create(dir.join("filler")).unwrap();
        while std::io::Write::write(&mut filler, &[7; 4096]).is_ok() {}
        let victim = Segment::open(place("victim")).unwrap();
        assert_eq!(victim.objects().unwrap_err().kind(), ErrorKind::Corrupted);
        drop(victim);
        // The end of space is there too, because an observer commits nothing.
        file.write_all_at(&(64u64 << 20).to_le_bytes(), 152).unwrap();
        assert!(inspect::segment(place("victim")).unwrap().objects.is_empty());
        assert!(inspect::contents(place("victim"), "queue", 9, 9).is_err());
        assert_eq!(inspect::segment(place("copy")).unwrap().objects[0].info.name, "queue");
        assert_eq!(Segment::open(place("copy")).unwrap_err().kind(), ErrorKind::OutOfMemory);
        drop(filler);
        fs::remove_file(dir.join("filler")).unwrap();
        let queue = Queue::<u64>::open(Segment::open(place("copy")).unwrap().at("queue")).unwrap();
        let mut filler = fs::File::create(dir.join("filler")).unwrap();
        while std::io::Write::write(&mut filler, &[7; 4096]).is_ok() {}
        (0..1000).for_each(|n| queue.send(n).unwrap());
        7
    });
    match child.wait() {
        77 => println!("SKIPPED: this machine lets no process mount a small tmpfs in a namespace of its own"),
        code => assert_eq!(code, 7),
    }
    fs::remove_dir(&dir).unwrap();
}
