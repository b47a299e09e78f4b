//! Signals from a terminal or another process to workers, and the errors of a pool that cannot
//! begin.

use std::time::Instant;

use pagemate::pool::worker;
use pagemate::{Event, Pool, Process};

use super::deaths::LONG;

fn signal(pid: u32, signal: i32) {
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(pid as i32, signal) };
}

const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM];

/// Restores the default of signals that end a process, and prevents core files. The pool ignores
/// SIGINT in its workers, and `nohup` ignores SIGHUP in all that it starts.
fn begin((begins, go): (Event, Event)) {
    // SAFETY: plain calls; the default action installs no handler.
    unsafe {
        ENDING.into_iter().for_each(|number| _ = libc::signal(number, libc::SIG_DFL));
        libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
    }
    begins.set();
    go.wait();
}

#[test]
fn a_signal_while_a_worker_begins_is_nobodys_failure() {
    for number in ENDING {
        let (begins, go) = (Event::new().unwrap(), Event::new().unwrap());
        let pool =
            Pool::builder().workers(1).initializer(begin, (begins.clone(), go.clone())).build().unwrap();
        for _ in 0..2 {
            assert!(begins.wait_timeout(LONG), "no worker begins after signal {number}");
            begins.clear();
            signal(pool.pids()[0], number);
        }
        go.set();
        assert_eq!(pool.apply(|n: u64| n, 7), Ok(7), "signal {number}");
    }
}

/// Ctrl-C reaches the workers too; the parent answers it.
#[test]
fn workers_ignore_interrupts_unless_told_otherwise() {
    fn ignores(_: ()) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (libc::SIGINT - 1) & 1 == 1
    }
    assert_eq!(Pool::new(1).unwrap().apply(ignores, ()), Ok(true));
    let default = |()| {
        // SAFETY: the default action installs no handler.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    };
    let pool = Pool::builder().workers(1).initializer(default, ()).build().unwrap();
    assert_eq!(pool.apply(ignores, ()), Ok(false));
}

#[test]
fn a_broken_pool_keeps_its_first_reason() {
    let one_panics = |()| match worker().unwrap().index() {
        0 => panic!("no model here"),
        _ => std::thread::park(),
    };
    let pool = Pool::builder().workers(3).initializer(one_panics, ()).build().unwrap();
    let first = pool.apply(|()| (), ()).unwrap_err();
    assert!(first.to_string().contains("no model here"), "{first}");
    // The workers that did not fail are killed, and their deaths are not the reason.
    let begin = Instant::now();
    while !pool.pids().is_empty() {
        assert!(begin.elapsed() < LONG);
        std::thread::yield_now();
    }
    assert!(pool.join().is_err());
    assert_eq!(
        pool.apply(|()| (), ()).unwrap_err().to_string().split(": ").last(),
        first.to_string().split(": ").last()
    );
}

/// /proc/self is empty once the main thread has ended; the other threads run on.
#[test]
fn a_program_without_its_main_thread_still_starts_workers() {
    let child = Process::spawn(
        |()| {
            std::thread::spawn(|| {
                while std::fs::read_dir("/proc/self/fd").is_ok_and(|mut files| files.next().is_some()) {
                    std::thread::yield_now();
                }
                let pool = Pool::new(1).unwrap();
                signal(pool.pids()[0], libc::SIGKILL);
                assert_eq!(pool.apply(|n: u64| n, 7), Ok(7));
                Event::new().unwrap().set();
                // SAFETY: ends the process; nothing is used after it.
                unsafe { libc::_exit(7) }
            });
            // SAFETY: ends this thread only, which holds nothing that the other needs.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        },
        (),
    );
    assert_eq!(child.unwrap().join().unwrap_err().exit_code(), Some(7));
}
