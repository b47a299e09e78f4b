//! The current process, its parent and its children; daemons.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use pagemate::process::{active_children, current_process, parent_process};
use pagemate::{Event, Process};

use super::{alone, becomes_readable, pidfd, until, LONG};

#[test]
fn a_child_knows_itself_its_parent_and_its_children() {
    assert_eq!(current_process().name(), "MainProcess");
    assert!(parent_process().is_none());
    let body = |depth: u32| {
        let (me, parent) = (current_process(), parent_process().unwrap());
        assert_eq!((me.name(), me.pid(), me.is_daemon()), ("outer", std::process::id(), false));
        assert_eq!(fs::read_to_string("/proc/self/comm").unwrap(), "outer\n");
        assert_eq!(parent.name(), "MainProcess");
        assert!(parent.is_alive() && !parent.join_timeout(Duration::ZERO).unwrap());
        assert_eq!(active_children(), []);
        let inner = Process::builder().name("inner").daemon(true).spawn(
            |depth: u32| {
                assert!(current_process().is_daemon());
                (depth + 1, parent_process().unwrap().name().to_owned(), parent_process().unwrap().pid())
            },
            depth + 1,
        );
        let (depth, name, pid) = inner.unwrap().join().unwrap();
        assert_eq!((&*name, pid), ("outer", me.pid()));
        (depth, parent.pid())
    };
    let child = Process::builder().name("outer").spawn(body, 1).unwrap();
    assert_eq!(child.name(), "outer");
    assert_eq!(child.join().unwrap(), (3, std::process::id()));
}

#[test]
fn children_are_listed_while_they_run() {
    alone(|()| {
        let go = Event::new().unwrap();
        let wait = |go: Event| go.wait();
        let first = Process::spawn(wait, go.clone()).unwrap();
        let second = Process::builder().name("b").daemon(true).spawn(wait, go.clone()).unwrap();
        let dropped = Process::spawn(wait, go.clone()).unwrap();
        let pids = [first.pid(), second.pid(), dropped.pid()];
        drop(dropped);
        let list = active_children();
        assert_eq!(list.iter().map(|child| child.pid()).collect::<Vec<_>>(), pids);
        let names: Vec<_> = list.iter().map(|child| (child.name(), child.is_daemon())).collect();
        assert_eq!(names, [("Process-1", false), ("b", true), ("Process-2", false)]);
        first.kill().unwrap();
        assert!(becomes_readable(first.as_fd()));
        assert_eq!(active_children().len(), 2);
        assert_eq!(first.exit_status().unwrap().signal(), Some(libc::SIGKILL), "the list took nothing away");
        go.set();
        assert!(second.join().unwrap());
        until("the dropped one is gone", || active_children().is_empty());
        assert!(first.join().is_err());
    });
}

/// Starts two children and then ends, by `kill` or by itself.
fn orphans(kill: bool) {
    let events: Vec<Event> = (0..5).map(|_| Event::new().unwrap()).collect();
    let dir = std::env::temp_dir().join(format!("pagemate-orphans-{}-{kill}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let body = |(kill, dir, events): (bool, PathBuf, Vec<Event>)| {
        let inner = |(path, events, daemon): (PathBuf, Vec<Event>, bool)| {
            fs::write(path, std::process::id().to_string()).unwrap();
            let [daemon_here, other_here, never, seen, _] = &events[..] else { panic!() };
            if daemon {
                daemon_here.set();
                never.wait();
            }
            let parent = parent_process().unwrap();
            assert!(parent.is_alive());
            other_here.set();
            assert!(parent.join_timeout(LONG).unwrap());
            assert!(!parent.is_alive());
            seen.set();
        };
        // A thread that ends at once starts it, because a daemon ends with its parent process and
        // not with a thread.
        let (path, its) = (dir.join("daemon"), events.clone());
        let spawned = std::thread::spawn(move || {
            Process::builder().daemon(true).spawn(inner, (path, its, true)).unwrap()
        });
        let daemon = spawned.join().unwrap();
        let other = Process::spawn(inner, (dir.join("other"), events.clone(), false)).unwrap();
        assert!(events[0].wait_timeout(LONG) && events[1].wait_timeout(LONG));
        assert!(daemon.is_alive() && other.is_alive());
        if kill {
            events[4].set();
            events[2].wait();
        }
    };
    let mut child = Process::spawn(body, (kill, dir.clone(), events.clone())).unwrap();
    let pid = |name: &str| fs::read_to_string(dir.join(name)).unwrap().parse::<u32>().unwrap();
    if kill {
        assert!(events[4].wait_timeout(LONG));
        let daemon = pidfd(pid("daemon"));
        let begin = Instant::now();
        child.kill().unwrap();
        assert!(becomes_readable(daemon.as_fd()), "the daemon must end with its parent");
        println!("the daemon was gone {:?} after its parent was killed", begin.elapsed());
    }
    assert_eq!(child.join_timeout(LONG).is_err(), kill);
    let daemon = format!("/proc/{}/stat", pid("daemon"));
    let is_gone = |stat: std::io::Result<String>| stat.map_or(true, |stat| stat.contains(") Z "));
    until("the daemon is gone", || is_gone(fs::read_to_string(&daemon)));
    assert!(events[3].wait_timeout(LONG), "the other goes on, and sees that its parent is gone");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn daemons_end_when_their_parent_is_killed() {
    orphans(true);
}

#[test]
fn daemons_end_when_their_parent_ends() {
    orphans(false);
}
