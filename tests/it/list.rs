//! Lists and managers between processes: each process reads what the others write, also after
//! writers were killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::{ErrorKind, Event, Kind, List, Manager, Origin, Place, Process, Queue, Value};

use crate::support::{until, Random};

/// A value of equal parts, so that a mixture shows.
type Wide = [u64; 9];

fn wide(n: u64) -> Wide {
    std::array::from_fn(|part| n * 10 + part as u64)
}

fn is_whole(value: Wide) -> bool {
    value == wide(value[0] / 10)
}

#[test]
fn two_processes_append_to_one_list() {
    const COUNT: u64 = 20_000;
    let list = List::<Wide>::new().unwrap();
    let append = |(list, first): (List<Wide>, u64)| {
        (0..COUNT).for_each(|n| list.push(wide(first + n)).unwrap());
    };
    let children = [0, COUNT].map(|first| Process::spawn(append, (list.clone(), first)).unwrap());
    let mut read = 0;
    while read < 2 * COUNT as usize {
        assert!(list.iter().skip(read).all(|value| is_whole(value.unwrap())));
        read = list.len().unwrap();
    }
    children.into_iter().for_each(|child| child.join().unwrap());
    let mut all = list.to_vec().unwrap();
    for first in [0, COUNT] {
        let theirs = all.iter().map(|value| value[0] / 10).filter(|n| n / COUNT * COUNT == first);
        assert!(theirs.eq(first..first + COUNT), "the values of each process are in order");
    }
    all.sort();
    assert_eq!(all, (0..2 * COUNT).map(wide).collect::<Vec<_>>());
    list.sort().unwrap();
    assert_eq!(list.to_vec().unwrap(), all);
}

#[test]
fn readers_never_see_half_a_value() {
    let list = List::<Wide>::new().unwrap();
    list.extend((0..50).map(wide)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    for value in &list {
                        let value = value.unwrap();
                        assert!(is_whole(value), "{value:?}");
                    }
                }
            });
        }
        for round in 0..3_000u64 {
            list.set(round as usize % 40, wide(round)).unwrap();
            list.insert(3, wide(round)).unwrap();
            assert!(list.remove(7).unwrap().is_some_and(is_whole));
            list.push(wide(round)).unwrap();
            assert_eq!(list.pop().unwrap(), Some(wide(round)));
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(list.len().unwrap(), 50);
}

fn changes_for_ever((list, started): (List<Wide>, Event)) {
    for n in 0.. {
        list.push(wide(n)).unwrap();
        list.insert(0, wide(n)).unwrap();
        list.set(1, wide(n + 1)).unwrap();
        if n % 3 > 0 {
            list.remove(2).unwrap();
            list.pop().unwrap();
        }
        if n % 50 == 0 {
            list.clear().unwrap();
        }
        started.set();
    }
}

#[test]
fn writers_killed_at_random_moments_leave_whole_values() {
    let mut random = Random::new();
    let name = format!("test-list-kill-{}", std::process::id());
    let place = Place::from(name).reserve(1 << 26);
    let manager = Manager::create(place.clone()).unwrap();
    let list = manager.list::<Wide>("list").unwrap();
    for _ in 0..100 {
        let started = Event::new().unwrap();
        let children =
            [(); 2].map(|()| Process::spawn(changes_for_ever, (list.clone(), started.clone())).unwrap());
        started.wait();
        random.moment(Duration::from_micros(500));
        for child in children {
            child.kill().unwrap();
            assert!(child.join().is_err());
        }
        assert!(list.iter().all(|value| is_whole(value.unwrap())));
        list.push(wide(1)).unwrap();
        assert_eq!(list.pop().unwrap(), Some(wide(1)));
    }
    list.clear().unwrap();
    until("all blocks come back", || {
        // Attaching reaps.
        let _others = [(); 3].map(|()| Manager::open(place.clone()).unwrap());
        let seen = pagemate::inspect::segment(place.clone()).unwrap();
        let mut heap = seen.objects.iter().filter(|object| object.info.kind == Some(Kind::Heap));
        heap.all(|object| object.state[0].1 == "0")
    });
}

#[test]
fn a_manager_holds_objects_of_all_types_by_name() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<u32>("numbers").unwrap();
    list.extend([3, 1, 2]).unwrap();
    assert_eq!(manager.list::<u32>("numbers").unwrap().to_vec().unwrap(), [3, 1, 2]);
    let error = manager.list::<u64>("numbers").unwrap_err();
    assert!(error.kind() == ErrorKind::TypeMismatch && error.to_string().contains("u32"), "{error}");
    assert_eq!(manager.event("numbers").unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(manager.list::<u8>("a/b").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(manager.list::<u8>("/heap/1").unwrap_err().kind(), ErrorKind::InvalidInput);
    let (queue, origin) = Queue::<u64>::open_or_create(manager.at("queue"), 4).unwrap();
    assert_eq!(origin, Origin::Created);
    queue.send(5).unwrap();
    let mut listed = manager.objects().unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let listed: Vec<_> =
        listed.iter().map(|one| (one.name.as_str(), one.kind, one.schema.as_str())).collect();
    assert_eq!(listed, [("numbers", Some(Kind::List), "u32"), ("queue", Some(Kind::Queue), "u64")]);
    // A child gets the manager, and creates an object of its own.
    let child = |manager: Manager| {
        let (queue, _) = Queue::<u64>::open_or_create(manager.at("queue"), 4).unwrap();
        manager.list::<u64>("theirs").unwrap().push(queue.recv().unwrap()).unwrap();
        manager.list::<u32>("numbers").unwrap().len().unwrap()
    };
    assert_eq!(Process::spawn(child, manager.clone()).unwrap().join().unwrap(), 3);
    assert_eq!(manager.list::<u64>("theirs").unwrap().to_vec().unwrap(), [5]);
}

/// Returns a directory on a file system that has unnamed files: cargo's directory for tests,
/// because a disk is wanted.
fn disk() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf()
}

fn fills((name, ready): (String, Event)) {
    let manager = Manager::open(Place::in_dir(disk(), name)).unwrap();
    let list = manager.list::<Wide>("list").unwrap();
    for n in list.len().unwrap().. {
        list.push(wide(n as u64)).unwrap();
        ready.set();
    }
}

#[test]
fn a_list_on_disk_outlasts_all_processes() {
    let name = format!("test-manager-disk-{}", std::process::id());
    let place = Place::in_dir(disk(), name.as_str()).persistent().reserve(1 << 28);
    drop(Manager::create(place.clone()).unwrap());
    let mut random = Random::new();
    let mut least = 0;
    for _ in 0..10 {
        let ready = Event::new().unwrap();
        let child = Process::spawn(fills, (name.clone(), ready.clone())).unwrap();
        ready.wait();
        random.moment(std::time::Duration::from_millis(1));
        child.kill().unwrap();
        assert!(child.join().is_err());
        // Nobody is attached now, so only the file is left.
        let list = List::<Wide>::open(Manager::open(place.clone()).unwrap().at("list")).unwrap();
        let all = list.to_vec().unwrap();
        assert!(all.len() > least);
        assert!(all.iter().enumerate().all(|(n, value)| *value == wide(n as u64)));
        least = all.len();
    }
    place.remove().unwrap();
}

#[test]
fn a_full_segment_leaves_the_list_as_it_was() {
    let name = format!("test-list-full-{}", std::process::id());
    let list = List::<Wide>::create(Place::from(name).reserve(1 << 20)).unwrap();
    let mut count = 0;
    let error = loop {
        match list.push(wide(count)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert_eq!(list.extend((0..100).map(wide)).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(list.to_vec().unwrap(), (0..count).map(wide).collect::<Vec<_>>());
    for n in 0..100 {
        assert_eq!(list.pop().unwrap(), Some(wide(count - 1 - n)));
    }
    assert_eq!(list.len().unwrap() as u64, count - 100);
}

#[test]
fn indices_beyond_the_end() {
    let list = List::<u64>::new().unwrap();
    list.extend(0..4).unwrap();
    for index in [4, 5, usize::MAX] {
        assert_eq!(list.remove(index).unwrap(), None);
        assert_eq!(list.get(index).unwrap(), None);
        assert!(list.set(index, 9).is_err());
        assert!(list.update(index, |value| value).is_err());
        assert!(index == 4 || list.insert(index, 9).is_err());
    }
    assert_eq!(list.to_vec().unwrap(), [0, 1, 2, 3]);
}

/// Holds the list for ever.
fn never_ends((list, holds): (List<Wide>, Event)) {
    let hold = |value| {
        holds.set();
        loop {
            std::thread::park();
            if is_whole(value) {
                continue;
            }
            return value;
        }
    };
    list.update(0, hold).unwrap();
}

#[test]
fn a_write_with_a_timeout_names_the_holder_and_takes_over_from_the_dead() {
    let list = List::<Wide>::new().unwrap();
    list.push(wide(1)).unwrap();
    let holds = Event::new().unwrap();
    let victim = Process::spawn(never_ends, (list.clone(), holds.clone())).unwrap();
    holds.wait();
    let impatient = list.with_write_timeout(Duration::ZERO);
    let error = impatient.push(wide(2)).unwrap_err();
    assert!(
        error.kind() == ErrorKind::TimedOut && error.to_string().contains("changing the list"),
        "{error}"
    );
    assert_eq!(
        impatient.with_write_timeout(Duration::from_millis(5)).clear().unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!((list.get(0).unwrap(), list.len().unwrap()), (Some(wide(1)), 1));
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    impatient.push(wide(2)).unwrap();
    assert_eq!(impatient.snapshot().unwrap(), [wide(1), wide(2)]);
}

#[test]
fn a_child_forked_in_a_closure_changes_nothing() {
    let list = List::<Wide>::new().unwrap();
    list.extend([wide(2), wide(1)]).unwrap();
    let value = Value::new(wide(1)).unwrap();
    let mut children = Vec::new();
    // The child continues from here too. Its calls must fail.
    let mut fork = || {
        // SAFETY: the child goes on in this test only, which takes no lock that another thread may
        // hold except the allocator's, which glibc hands over consistently, and ends below without
        // unwinding into the harness.
        children.push(unsafe { libc::fork() });
        *children.last().unwrap() == 0
    };
    let mut is_child = false;
    let updated = list.update(0, |old| {
        is_child = fork();
        wide(old[0] / 10 + 1)
    });
    end_of_child(is_child, updated.as_ref().err().map(pagemate::Error::kind));
    let sorted = list.sort_by(|a, b| {
        is_child = is_child || fork();
        a.cmp(b)
    });
    end_of_child(is_child, sorted.as_ref().err().map(pagemate::Error::kind));
    let changed = value.update(|old| {
        is_child = fork();
        wide(old[0] / 10 + 1)
    });
    end_of_child(is_child, changed.as_ref().err().map(|error| pagemate::Error::from(*error).kind()));
    for child in children {
        let mut status = 0;
        // SAFETY: our child, and status is ours to write.
        unsafe { libc::waitpid(child, &mut status, 0) };
        // The child of a test's thread ends with 0 if it panics.
        assert_eq!(libc::WEXITSTATUS(status), 7);
    }
    assert_eq!((updated.unwrap(), sorted.unwrap(), changed.unwrap()), (wide(3), (), wide(1)));
    assert_eq!((list.snapshot().unwrap(), value.get().unwrap()), (vec![wide(1), wide(3)], wide(2)));
}

/// Ends the child. The exit code says whether it got the right error.
fn end_of_child(is_child: bool, error: Option<ErrorKind>) {
    if is_child {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if error == Some(ErrorKind::NotInThisProcess) { 7 } else { 1 }) };
    }
}

#[test]
fn strings_and_bytes() {
    let list = List::<str>::new().unwrap();
    let mut twin: Vec<String> = (0..50).map(|n| "x".repeat(n * n)).collect();
    list.extend(twin.iter().map(String::as_str)).unwrap();
    list.push("plain").unwrap();
    list.push(String::from("owned")).unwrap();
    list.insert(3, "between").unwrap();
    list.set(4, "").unwrap();
    twin.extend(["plain".into(), "owned".into()]);
    twin.insert(3, "between".into());
    twin[4].clear();
    assert_eq!(list.to_vec().unwrap(), twin);
    assert_eq!(list.update(4, |old| old + "more").unwrap(), "more");
    twin[4] = "more".into();
    list.sort().unwrap();
    twin.sort();
    assert_eq!(list.to_vec().unwrap(), twin);
    assert_eq!((list.remove(7).unwrap(), list.pop().unwrap()), (Some(twin.remove(7)), twin.pop()));
    assert_eq!(list.slice(5..9).unwrap(), twin[5..9]);
    let other: Vec<&str> = twin.iter().rev().map(String::as_str).collect();
    assert!(!list.compare_exchange_all(&twin[1..], &other).unwrap(), "another length");
    assert!(!list.compare_exchange_all(&other, &twin).unwrap(), "other elements");
    assert!(list.compare_exchange_all(&twin, &other).unwrap());
    assert_eq!(list.snapshot().unwrap(), other);
    assert!(list.compare_exchange_all(&other, &[] as &[&str]).unwrap() && list.is_empty().unwrap());
    assert!(list.compare_exchange_all(&[] as &[&str], &twin).unwrap());
    let child = |list: List<str>| list.push("from the child").unwrap();
    Process::spawn(child, list.clone()).unwrap().join().unwrap();
    assert_eq!(list.get(twin.len()).unwrap().as_deref(), Some("from the child"));
    let bytes = Manager::new().unwrap().list::<[u8]>("bytes").unwrap();
    bytes.push([0xff, 0, 1]).unwrap();
    bytes.push(vec![]).unwrap();
    bytes.push(&[7; 100_000][..]).unwrap();
    assert_eq!(bytes.to_vec().unwrap(), [vec![0xff, 0, 1], vec![], vec![7; 100_000]]);
}

#[test]
fn readers_never_see_half_a_string() {
    let list = List::<str>::new().unwrap();
    // Lengths below and above the limit of a copy without a second read.
    let text = |n: usize| char::from(b'a' + (n % 26) as u8).to_string().repeat(1 + n * 977 % 9000);
    list.extend((0..20).map(text)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                for value in &list {
                    let value = value.unwrap();
                    assert!(value.bytes().all(|byte| byte == value.as_bytes()[0]) && value.len() <= 9000);
                }
            }
        });
        for round in 0..2_000 {
            list.set(round % 20, text(round)).unwrap();
            list.insert(3, text(round)).unwrap();
            list.remove(7).unwrap();
        }
        stop.store(true, Relaxed);
    });
}
