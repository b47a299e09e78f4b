//! Ways to end, and the result of `join` for each.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use std::time::Instant;

use pagemate::{Error, ErrorKind, Event, Process};

use super::{becomes_readable, LONG};

#[test]
fn a_panic_gives_its_message() {
    let child = Process::builder().name("sorter").spawn(|n: u32| assert!(n > 7, "{n} is too small"), 5);
    let child = child.unwrap();
    let pid = child.pid();
    let error = child.join().unwrap_err();
    assert_eq!(error.exit_code(), Some(101));
    assert_eq!((error.name(), error.pid(), error.signal(), error.is_timeout()), ("sorter", pid, None, false));
    let message = error.panic_message().unwrap();
    assert!(message.starts_with("5 is too small (tests/it/process/ends.rs:"), "{message}");
    assert_eq!(error.to_string(), format!("child \"sorter\" (pid {pid}) panicked: {message}"));
    assert_eq!(Error::from(error).kind(), ErrorKind::ChildFailed);

    let error = Process::spawn(|()| -> () { panic!("plain") }, ()).unwrap().join().unwrap_err();
    assert!(error.panic_message().unwrap().starts_with("plain"));

    let error = Process::spawn(|()| -> () { std::panic::panic_any(7u8) }, ()).unwrap().join().unwrap_err();
    assert!(error.panic_message().is_some());
}

#[test]
fn a_caught_panic_does_not_fail_the_child() {
    let child =
        Process::spawn(|()| std::panic::catch_unwind(|| -> () { panic!("caught") }).is_err(), ()).unwrap();
    assert!(child.join().unwrap());
    let child = Process::spawn(
        |()| -> () {
            let _ = std::panic::catch_unwind(|| -> () { panic!("caught") });
            std::process::exit(3)
        },
        (),
    );
    let error = child.unwrap().join().unwrap_err();
    assert_eq!((error.exit_code(), error.panic_message()), (Some(3), None));
}

#[test]
fn a_panic_that_aborts_gives_its_message_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("second");
        }
    }
    fn body((): ()) {
        let _bomb = Bomb;
        panic!("first");
    }
    let error = Process::spawn(body, ()).unwrap().join().unwrap_err();
    assert_eq!(error.signal(), Some(libc::SIGABRT));
    assert!(error.to_string().contains("panicked: "), "{error}");
}

#[test]
fn exit_codes_and_signals() {
    for code in [0, 1, 7, 255] {
        let error = Process::spawn(|code: i32| -> u8 { std::process::exit(code) }, code).unwrap().join();
        let error = error.unwrap_err();
        assert_eq!((error.exit_code(), error.signal(), error.panic_message()), (Some(code), None, None));
        assert!(error.to_string().ends_with(&format!("ended with exit code {code} and without a result")));
    }
    let child = Process::spawn(|()| -> () { std::process::abort() }, ()).unwrap();
    let error = child.join().unwrap_err();
    assert_eq!(error.signal(), Some(libc::SIGABRT));
    assert!(error.to_string().contains("was ended by signal: 6 (SIGABRT)"), "{error}");
}

#[test]
fn a_result_does_not_count_if_the_exit_code_is_not_0() {
    extern "C" fn crash() {
        // SAFETY: ends the process.
        unsafe { libc::_exit(9) }
    }
    let body = |()| {
        // SAFETY: registers a plain function.
        unsafe { libc::atexit(crash) };
        5u8
    };
    assert_eq!(Process::spawn(body, ()).unwrap().join().unwrap_err().exit_code(), Some(9));
}

/// A thread that panics after the result was written does not replace it.
#[test]
fn a_panic_after_the_result_does_not_replace_it() {
    extern "C" fn panic_elsewhere() {
        std::thread::spawn(|| panic!("late")).join().unwrap_err();
    }
    let body = |()| {
        // SAFETY: registers a plain function.
        unsafe { libc::atexit(panic_elsewhere) };
        5u64
    };
    assert_eq!(Process::spawn(body, ()).unwrap().join().unwrap(), 5);
}

/// The messages of a thread that panics all the time neither replace the result nor mix with it.
#[test]
fn panics_beside_the_result_do_not_mix_with_it() {
    let body = |()| {
        // Standard error gets a line for each panic.
        let nowhere = std::fs::File::create("/dev/null").unwrap();
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(nowhere.as_raw_fd(), 2) };
        // SAFETY: this child has one thread.
        unsafe { std::env::set_var("RUST_BACKTRACE", "0") };
        let (begun, begins) = std::sync::mpsc::channel();
        std::thread::spawn(move || loop {
            let _ = std::panic::catch_unwind(|| panic!("12345678"));
            let _ = begun.send(());
        });
        begins.recv().unwrap();
        7u64
    };
    for _ in 0..300 {
        assert_eq!(Process::spawn(body, ()).unwrap().join().unwrap(), 7);
    }
}

#[test]
fn kill_and_terminate() {
    for at_once in [false, true] {
        let (here, never) = (Event::new().unwrap(), Event::new().unwrap());
        let body = |(here, never): (Event, Event)| {
            here.set();
            never.wait()
        };
        let mut child = Process::spawn(body, (here.clone(), never)).unwrap();
        assert!(here.wait_timeout(LONG));
        assert!(child.is_alive());
        assert_eq!(child.exit_status(), None);
        assert!(child.try_join().unwrap_err().is_timeout());
        if at_once {
            // The same holds for a stopped child. SAFETY: the pid is our child's, which has not
            // been waited for.
            unsafe { libc::kill(child.pid() as i32, libc::SIGSTOP) };
            child.kill().unwrap();
        } else {
            child.terminate().unwrap();
        }
        assert!(becomes_readable(child.as_fd()), "its descriptor");
        assert!(!child.is_alive());
        let signal = if at_once { libc::SIGKILL } else { libc::SIGTERM };
        assert_eq!(child.exit_status().unwrap().signal(), Some(signal));
        child.terminate().unwrap();
        child.kill().unwrap();
        let error = child.join_timeout(LONG).unwrap_err();
        assert_eq!((error.signal(), error.exit_code()), (Some(signal), None));
        assert!(error.to_string().contains(if at_once { "SIGKILL" } else { "SIGTERM" }), "{error}");
        assert!(child.join().unwrap_err().to_string().contains("was joined before"));
    }
}

#[test]
fn joining_times_out_while_the_child_runs() {
    let go = Event::new().unwrap();
    let mut child = Process::spawn(|go: Event| u8::from(go.wait()), go.clone()).unwrap();
    for error in [
        child.try_join().unwrap_err(),
        child.join_timeout(Duration::ZERO).unwrap_err(),
        child.join_timeout(Duration::from_millis(20)).unwrap_err(),
        child.join_deadline(Instant::now()).unwrap_err(),
    ] {
        assert!(error.is_timeout() && error.exit_status().is_none(), "{error}");
        assert_eq!(Error::from(error).kind(), ErrorKind::TimedOut);
    }
    go.set();
    assert_eq!(child.join_deadline(Instant::now() + LONG).unwrap(), 1);
    assert_eq!(Error::from(child.try_join().unwrap_err()).kind(), ErrorKind::InvalidInput);
}
