//! Zombies, threads, descriptors: a spawn leaves none behind.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use pagemate::process::active_children;
use pagemate::{Event, Process, Segment};

use super::{alone, becomes_readable, descriptors, kernel_children, threads, until};

#[test]
fn dropped_handles_leave_no_zombies_and_no_thread() {
    alone(|()| {
        let (descriptors_before, threads_before) = (descriptors(), threads());
        for _ in 0..3 {
            let go = Event::new().unwrap();
            for n in 0..20 {
                drop(Process::spawn(|(go, _): (Event, u32)| go.wait(), (go.clone(), n)).unwrap());
            }
            let ended = Process::spawn(|()| (), ()).unwrap();
            assert!(becomes_readable(ended.as_fd()));
            assert_eq!(kernel_children().len(), 21);
            drop(ended);
            assert_eq!(kernel_children().len(), 20, "what has ended is waited for at once");
            assert_eq!(active_children().len(), 20);
            go.set();
            until("all are waited for", || kernel_children().is_empty());
            until("the reaper has ended", || threads() == threads_before);
            assert_eq!(active_children(), []);
        }
        assert_eq!(descriptors(), descriptors_before);
    });
}

#[test]
fn nothing_leaks_whatever_happens() {
    alone(|()| {
        let segment = Segment::new(1 << 20).unwrap();
        let event = Event::create(segment.at("event")).unwrap();
        let before = descriptors();
        for _ in 0..10 {
            let child = Process::spawn(|_: (Event, Segment)| (), (event.clone(), segment.clone())).unwrap();
            child.join().unwrap();
            assert!(Process::spawn(|_: Event| -> u8 { panic!("as it should") }, event.clone())
                .unwrap()
                .join()
                .is_err());
        }
        assert_eq!(descriptors(), before);

        // Each descriptor that a spawn opens is unavailable once. SAFETY: plain data, read and
        // written by the calls.
        let limit = unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit
        };
        let first = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        let mut failed = 0;
        for room in 0.. {
            let tight = libc::rlimit { rlim_cur: first + room, ..limit };
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &tight) };
            let child = Process::spawn(|_: (Event, Segment)| (), (event.clone(), segment.clone()));
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
            match child {
                Ok(child) => {
                    // The child inherits the limit, which may be too low for it.
                    if child.join().is_ok() {
                        break;
                    }
                }
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().contains("Too many open files"), "{error}");
                }
            }
            assert_eq!(descriptors(), before, "with room for {room}");
            assert_eq!(kernel_children(), [] as [u32; 0]);
        }
        assert!(failed >= 3, "only {failed} failures");
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn a_child_has_no_descriptors_but_its_own() {
    alone(|()| {
        let event = Event::new().unwrap();
        // SAFETY: a plain read of flags.
        let inherited = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC == 0 };
        let open: Vec<i32> =
            descriptors().into_iter().map(|(fd, _)| fd).filter(|&fd| inherited(fd)).collect();
        let list_open = |open: Vec<i32>| {
            let new = descriptors().into_iter().filter(|(fd, _)| !open.contains(fd));
            // SAFETY: a plain read of flags.
            let closed = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 };
            new.map(|(fd, path)| {
                assert!(closed(fd), "{path:?} would be inherited by what the child starts");
                path.to_string_lossy().into_owned()
            })
            .collect::<Vec<String>>()
        };
        let mut all = Process::spawn(list_open, open.clone()).unwrap().join().unwrap();
        all.sort();
        assert_eq!(all, ["/memfd:pagemate-process (deleted)", "anon_inode:[pidfd]"]);
        let with_event = |(_event, open): (Event, Vec<i32>)| {
            descriptors().into_iter().filter(|(fd, _)| !open.contains(fd)).count()
        };
        assert_eq!(Process::spawn(with_event, (event, open)).unwrap().join().unwrap(), 3);
    });
}
