//! Segments: creation, removal by the last user, takeover of stale files, limits, forks, damage of
//! each byte, and deaths by SIGKILL.

use std::fs;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pagemate::{inspect, ErrorKind, Event, Origin, Place, Segment};

use crate::support::forked::Forked;
use crate::support::until;

fn name(what: &str) -> String {
    format!("test-segment-{what}-{}", std::process::id())
}

fn file(name: &str) -> PathBuf {
    format!("/dev/shm/pagemate.{name}").into()
}

#[test]
fn a_crash_leaves_a_stale_segment_that_open_or_create_replaces() {
    let name = name("stale");
    let ready = Event::new().unwrap();
    let child = Forked::run(|| {
        let event = Event::create(&name).unwrap();
        event.set();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    assert!(ready.wait_timeout(Duration::from_secs(30)));
    assert!(!inspect::segment(name.as_str()).unwrap().stale);
    child.kill();
    child.wait();
    let seen = inspect::segment(name.as_str()).unwrap();
    assert!(seen.stale && !seen.participants[0].alive);
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::NotFound, "stale is as good as not there");
    let (event, origin) = Event::open_or_create(&name).unwrap();
    assert_eq!(origin, Origin::Created);
    assert!(!event.is_set());
    drop(event);
    assert!(!file(&name).exists());
}

#[test]
fn the_sweep_takes_what_is_stale_and_nothing_else() {
    let dir = std::env::temp_dir().join(name("sweep"));
    fs::create_dir_all(&dir).unwrap();
    let place = |name: &str| Place::in_dir(&dir, name);
    let ready = Event::new().unwrap();
    let child = Forked::run(|| {
        let _left = Event::create(place("left")).unwrap();
        let _kept = Event::create(place("kept").persistent()).unwrap();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    assert!(ready.wait_timeout(Duration::from_secs(30)));
    let used = Event::create(place("used")).unwrap();
    child.kill();
    child.wait();
    fs::write(dir.join("pagemate.foreign"), b"hands off").unwrap();
    assert_eq!(inspect::segments(Some(&dir)).unwrap().len(), 4);
    assert_eq!(inspect::sweep(Some(&dir)).unwrap().removed, ["left"]);
    let left: Vec<_> = inspect::segments(Some(&dir)).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["foreign", "kept", "used"]);
    drop(used);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn racing_to_create_open_and_leave_one_name() {
    let name = name("race");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let (event, _) = Event::open_or_create(&name).unwrap();
                    event.set();
                }
            });
        }
    });
    assert!(!file(&name).exists());
}

#[test]
fn every_process_that_opens_sees_the_whole_object() {
    let name = name("whole");
    let go = Event::new().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            Forked::run(|| {
                go.wait();
                for _ in 0..200 {
                    let (segment, _) = Segment::open_or_create(&name, 1 << 20).unwrap();
                    let (event, _) = Event::open_or_create(segment.at("event")).unwrap();
                    event.set();
                }
                0
            })
        })
        .collect();
    go.set();
    assert!(children.into_iter().all(|child| child.wait() == 0));
    assert!(!file(&name).exists());
}

#[test]
fn a_fork_does_not_keep_its_parent_alive() {
    // A sweep of the shared-memory directory would remove files of other tests.
    let dir = std::env::temp_dir().join(name("fork"));
    fs::create_dir(&dir).unwrap();
    let place = || Place::in_dir(&dir, "fork");
    let [ready, go, done] = [(); 3].map(|_| Event::new().unwrap());
    let grandchild = Event::new().unwrap();
    let parent = Forked::run(|| {
        let segment = Segment::create(place(), 1 << 20).unwrap();
        let _child = Forked::run(|| {
            grandchild.set();
            go.wait();
            // The first use that needs an identity attaches anew.
            Event::create(segment.at("by the fork")).unwrap();
            done.set();
            loop {
                std::thread::park();
            }
        });
        grandchild.wait();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    assert!(ready.wait_timeout(Duration::from_secs(30)));
    let alive = || {
        let seen = inspect::segment(place()).unwrap();
        seen.participants.into_iter().filter(|p| p.alive).map(|p| p.pid).collect::<Vec<_>>()
    };
    assert_eq!(alive(), [parent.pid()]);
    parent.kill();
    parent.wait();
    assert_eq!(alive(), [] as [u32; 0], "the forked child must not hold its parent's lock");
    go.set();
    assert!(done.wait_timeout(Duration::from_secs(30)));
    let now = alive();
    assert_eq!(now.len(), 1);
    assert_eq!(inspect::segment(place()).unwrap().objects[0].info.name, "by the fork");
    // SAFETY: the pid is that of the grandchild, which lives until this line.
    unsafe { libc::kill(now[0] as libc::pid_t, libc::SIGKILL) };
    until("the grandchild is gone", || alive().is_empty());
    assert_eq!(inspect::sweep(Some(&dir)).unwrap().removed, ["fork"]);
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn the_dead_are_reaped_and_their_places_used_again() {
    let segment = Segment::create(name("places").as_str(), 1 << 20).unwrap();
    let name = name("places");
    for round in 0..20 {
        let ready = Event::new().unwrap();
        let child = Forked::run(|| {
            let own = Segment::open(&name).unwrap();
            Event::create(own.at(format!("{round}"))).unwrap();
            ready.set();
            loop {
                std::thread::park();
            }
        });
        assert!(ready.wait_timeout(Duration::from_secs(30)));
        child.kill();
        child.wait();
    }
    let seen = inspect::segment(name.as_str()).unwrap();
    // The fork left one line behind (its inherited attachment never attached anew), each open took
    // and lost one more.
    assert!(seen.participants.len() <= 2, "{:?}", seen.participants);
    assert_eq!(seen.objects.len(), 20, "what was published stays");
    drop(segment);
    assert!(!file(&name).exists());
}

#[test]
fn opening_what_is_not_a_segment_says_what_is_wrong() {
    let dir = std::env::temp_dir().join(name("wrong"));
    fs::create_dir_all(&dir).unwrap();
    let kind_of = |name: &str| Segment::open(Place::in_dir(&dir, name)).unwrap_err().kind();
    let good = {
        Event::create(Place::in_dir(&dir, "good").persistent()).unwrap();
        fs::read(dir.join("pagemate.good")).unwrap()
    };
    let put = |name: &str, bytes: &[u8]| fs::write(dir.join(format!("pagemate.{name}")), bytes).unwrap();
    put("empty", b"");
    assert_eq!(kind_of("empty"), ErrorKind::Corrupted);
    put("noise", &[7; 40_000]);
    assert_eq!(kind_of("noise"), ErrorKind::Corrupted);
    put("short", &good[..good.len() - 4096]);
    assert_eq!(kind_of("short"), ErrorKind::Corrupted);
    let mut newer = good.clone();
    newer[8] += 1;
    put("newer", &newer);
    assert_eq!(kind_of("newer"), ErrorKind::VersionMismatch);
    fs::create_dir(dir.join("pagemate.folder")).unwrap();
    assert!(Segment::open(Place::in_dir(&dir, "folder")).is_err());
    std::os::unix::fs::symlink(dir.join("pagemate.good"), dir.join("pagemate.link")).unwrap();
    assert!(Segment::open(Place::in_dir(&dir, "link")).is_err(), "links are not followed");
    assert_eq!(kind_of("nothing"), ErrorKind::NotFound);
    let mut damaged = Event::create(Place::in_dir(&dir, "noise")).unwrap_err().to_string();
    damaged.retain(|c| c != '\n');
    assert!(damaged.contains("not a pagemate segment"), "{damaged}");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn without_permission_nothing_opens() {
    let name = name("permission");
    let _event = Event::create(&name).unwrap();
    let group = Event::create(Place::in_dir(std::env::temp_dir(), &name).mode(0o666)).unwrap();
    // SAFETY: no pointers; returns the user id.
    if unsafe { libc::geteuid() } != 0 {
        // Without root we own the file and cannot become another user, so only the mode can be
        // checked.
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file(&name)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        return;
    }
    let child = Forked::run(|| {
        // SAFETY: no pointers. The child stays the user "nobody" until it ends.
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
        assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::PermissionDenied);
        let group = || Place::in_dir(std::env::temp_dir(), &name);
        let error = Event::open(group()).unwrap_err();
        assert!(
            error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("user 0"),
            "{error}"
        );
        assert_eq!(
            Event::open_or_create(group().mode(0o660)).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
        Event::open(group().mode(0o666)).unwrap().set();
        0
    });
    assert_eq!(child.wait(), 0);
    assert!(group.is_set());
}

#[test]
fn a_full_file_system_is_an_error_and_not_a_fault() {
    let dir = std::env::temp_dir().join(name("full"));
    fs::create_dir_all(&dir).unwrap();
    let child = Forked::run(|| {
        let target = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
        // SAFETY: the child gets a mount namespace of its own and mounts 128 KiB of tmpfs in it;
        // all strings end with NUL.
        let mounted = unsafe {
            let own = libc::unshare(libc::CLONE_NEWNS) == 0
                || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0;
            own && libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
                && libc::mount(
                    c"tmpfs".as_ptr(),
                    target.as_ptr(),
                    c"tmpfs".as_ptr(),
                    0,
                    c"size=128k".as_ptr().cast(),
                ) == 0
        };
        if !mounted {
            return 77;
        }
        let segment = Segment::create(Place::in_dir(&dir, "large"), 1 << 30).unwrap();
        let mut events = Vec::new();
        let error = loop {
            match Event::create(segment.at(format!("{}", events.len()))) {
                Ok(event) => events.push(event),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(events.len() > 100, "{}", events.len());
        events.iter().for_each(|event| {
            event.set();
            assert!(event.is_set());
        });
        assert_eq!(
            Segment::create(Place::in_dir(&dir, "other"), 1 << 20).unwrap_err().kind(),
            ErrorKind::OutOfMemory
        );
        0
    });
    let code = child.wait();
    fs::remove_dir(&dir).unwrap();
    if code == 77 {
        println!("not tried: this machine lets no process mount a small tmpfs in a namespace of its own");
    } else {
        assert_eq!(code, 0);
    }
}

#[test]
fn more_than_the_machine_has_is_an_error_and_kills_nobody() {
    let error = pagemate::Queue::<[u8; 1 << 20]>::new(200_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert_eq!(pagemate::Queue::<u64>::new(usize::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Makes all calls on the segment. They must return; the results do not matter.
fn use_it(place: &Place) {
    let _ = inspect::segment(place.clone());
    let Ok(segment) = Segment::open(place.clone()) else { return };
    let _ = segment.objects();
    for name in ["first", "second", "nothing"] {
        if let Ok(event) = Event::open(segment.at(name)) {
            event.set();
            event.clear();
            event.wait_timeout(Duration::ZERO);
        }
    }
    let _ = Event::create(segment.at("new"));
}

#[test]
fn every_damaged_byte_gives_an_answer() {
    let dir = std::env::temp_dir().join(name("damage"));
    fs::create_dir_all(&dir).unwrap();
    let place = Place::in_dir(&dir, "victim").persistent();
    {
        let segment = Segment::create(place.clone(), 1 << 16).unwrap();
        Event::create(segment.at("first")).unwrap();
        Event::create(segment.at("second")).unwrap();
    }
    let path = dir.join("pagemate.victim");
    let good = fs::read(&path).unwrap();
    let space = 20480;
    // The header with its path's length and some of the path, the first lines of the table, both
    // records and their end.
    let bytes = (0..240).chain(4096..4096 + 48).chain(space..space + 1024);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut cases = 0;
    for at in bytes {
        random = random.rotate_left(17).wrapping_mul(0xd129_0d3c_8bb1_4a6d);
        for value in [0x00, 0xff, random as u8] {
            if good[at] != value {
                let mut bytes = good.clone();
                bytes[at] = value;
                within_time(&path, &bytes, &place, at, value);
                cases += 1;
            }
        }
    }
    println!("{cases} damaged segments");
    assert!(cases > 2000);
    fs::remove_dir_all(&dir).unwrap();
}

fn within_time(path: &Path, bytes: &[u8], place: &Place, at: usize, value: u8) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    let begin = Instant::now();
    use_it(place);
    assert!(begin.elapsed() < Duration::from_secs(20), "byte {at} = {value:#x} took {:?}", begin.elapsed());
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_signal() {
    let name = name("limit");
    let child = || {
        let limit = libc::rlimit { rlim_cur: 1 << 16, rlim_max: 1 << 16 };
        // SAFETY: a limit of this process, which is a child of the test's.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let named = Segment::create(name.as_str(), 1 << 20).map(drop);
        let anonymous = Segment::new(1 << 20).map(drop);
        i32::from(![named, anonymous].iter().all(|made| made.is_err()))
    };
    // After a death by a signal the exit code is 0 too, so the child adds 7.
    assert_eq!(Forked::run(|| 7 + child()).wait(), 7);
}

/// A descriptor leads to the same memory, and to nothing but a segment without a name.
#[test]
fn a_segment_through_a_descriptor() {
    let segment = Segment::new(1 << 20).unwrap();
    let event = Event::create(segment.at("event")).unwrap();
    let other = Segment::from_descriptor(segment.descriptor().unwrap()).unwrap();
    Event::open(other.at("event")).unwrap().set();
    drop((segment, event));
    // The memory outlives the participant that created it.
    let last = Segment::from_descriptor(other.descriptor().unwrap()).unwrap();
    drop(other);
    assert!(Event::open(last.at("event")).unwrap().is_set());

    let name = format!("descriptor-{}", std::process::id());
    let named = Segment::create(name.as_str(), 1 << 20).unwrap();
    let refused = Segment::from_descriptor(named.descriptor().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(Segment::from_descriptor(null.into()).is_err());

    // A copy that others could shrink.
    // SAFETY: the name is a C string, and the descriptor is new and our own.
    let mut copy = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"copy".as_ptr(), 0)) };
    let original = last.descriptor().unwrap();
    let mut bytes = vec![0; 1 << 20];
    std::fs::File::from(original).read_exact_at(&mut bytes, 0).unwrap();
    copy.write_all(&bytes).unwrap();
    let refused = Segment::from_descriptor(copy.into()).unwrap_err();
    assert!(refused.to_string().contains("sealed"), "{refused}");
}
