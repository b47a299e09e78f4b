//! Unusual surroundings: the environment, the program's file, signals and forks.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::process::{Command, Output};
use std::time::Instant;

use pagemate::process::active_children;
use pagemate::{Error, ErrorKind, Event, Process};

use super::{alone, LONG};

#[test]
fn a_child_address_from_no_parent_is_refused() {
    fn run(address: &str) -> (Option<i32>, String) {
        let output = Command::new("/proc/self/exe")
            .arg("--list")
            .env("PAGEMATE_CHILD", address)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
    for address in ["", "x", "0:0", "1:0", "-5:0", "77:0", "2147483647:1", "3:0:0", "99999999999:1"] {
        let (code, text) = run(address);
        assert_eq!(code, Some(1), "{address:?}: {text}");
        assert!(text.contains("PAGEMATE_CHILD") && text.contains("unset it"), "{address:?}: {text}");
    }
    // The child inherits an unrelated descriptor. No child of another test may do so.
    alone(|()| {
        let file = fs::File::open("/proc/self/exe").unwrap();
        // SAFETY: duplicates a descriptor that is open, without close-on-exec.
        let open = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 50) };
        let (code, text) = run(&format!("{open}:0"));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("holds no arguments"), "{text}");
    });
}

/// Runs a program whose file was just written. A child that another test started meanwhile may have
/// it open for writing until it executes its own program. Until then the kernel refuses to run the
/// file.
fn output_of_a_copy(command: &mut Command) -> Output {
    let begin = Instant::now();
    loop {
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && begin.elapsed() < LONG => {}
            output => return output.unwrap(),
        }
    }
}

#[test]
fn the_file_of_the_program_may_be_gone() {
    const GONE: &str = "PAGEMATE_TEST_GONE";
    if std::env::var_os(GONE).is_some() {
        fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Process::spawn(|n: u8| n + 1, 1).unwrap().join().unwrap(), 2);
        return;
    }
    let copy = std::env::temp_dir().join(format!("pagemate-gone-{}", std::process::id()));
    fs::copy("/proc/self/exe", &copy).unwrap();
    let mut command = Command::new(&copy);
    command.args(["--exact", "process::surroundings::the_file_of_the_program_may_be_gone"]).env(GONE, "");
    let output = output_of_a_copy(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!copy.exists());
}

#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn spawn_fails_in_a_program_started_through_its_loader() {
    const LOADED: &str = "PAGEMATE_TEST_LOADED";
    if std::env::var_os(LOADED).is_some() {
        let error = Process::spawn(|()| (), ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("started through a loader"), "{error}");
        return;
    }
    let output = Command::new("/lib64/ld-linux-x86-64.so.2")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "process::surroundings::spawn_fails_in_a_program_started_through_its_loader"])
        .env(LOADED, "")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_setuid_program_ignores_the_variable_and_cannot_spawn() {
    const SET: &str = "PAGEMATE_TEST_PRIVILEGED";
    if std::env::var_os(SET).is_some() {
        let error = Process::spawn(|()| (), ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("setuid"), "{error}");
        return;
    }
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        println!("not shown: only root can make a program that runs as another user");
        return;
    }
    let copy = std::env::temp_dir().join(format!("pagemate-privileged-{}", std::process::id()));
    fs::copy("/proc/self/exe", &copy).unwrap();
    std::os::unix::fs::chown(&copy, Some(65534), None).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["--exact", "process::surroundings::a_setuid_program_ignores_the_variable_and_cannot_spawn"])
        .env(SET, "")
        .env("PAGEMATE_CHILD", "77:0");
    let output = output_of_a_copy(&mut command);
    fs::remove_file(&copy).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn spawn_fails_while_sigchld_is_ignored() {
    alone(|()| {
        // SAFETY: sets a disposition, installs no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let error = Process::spawn(|()| (), ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("SIGCHLD"), "{error}");
    });
}

#[test]
fn a_result_survives_the_theft_of_the_exit_status() {
    alone(|()| {
        for dies in [false, true] {
            let go = Event::new().unwrap();
            let body = |(go, dies): (Event, bool)| {
                go.wait();
                if dies {
                    std::process::abort();
                }
                5u8
            };
            let child = Process::spawn(body, (go.clone(), dies)).unwrap();
            go.set();
            // SAFETY: no status is asked for.
            assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) }, child.pid() as i32);
            assert!(!child.is_alive());
            assert_eq!(child.exit_status(), None);
            match (dies, child.join()) {
                (false, result) => assert_eq!(result.unwrap(), 5),
                (true, result) => {
                    let text = result.unwrap_err().to_string();
                    assert!(text.contains("took its exit status"), "{text}");
                }
            }
        }
    });
}

#[test]
fn forks_take_no_part_in_spawn_and_join() {
    alone(|()| {
        let go = Event::new().unwrap();
        let mut child = Process::spawn(
            |go: Event| {
                go.wait();
                // A fork of the child returns from the function too. SAFETY: the process has one
                // thread, so its copy can go on.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    return 0u8;
                }
                // SAFETY: no status is asked for.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                1
            },
            go.clone(),
        )
        .unwrap();
        // SAFETY: as above.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let error = child.try_join().unwrap_err();
            let fine = Error::from(error).kind() == ErrorKind::NotInThisProcess
                && child.is_alive()
                && active_children().is_empty();
            let own = Process::spawn(|n: u8| n, 3).unwrap();
            assert_eq!(own.join().unwrap(), 3);
            drop(child);
            // SAFETY: ends this copy.
            unsafe { libc::_exit(if fine { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the status is ours to write.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 7, "in the fork, which ends with 0 if it panics");
        assert!(child.is_alive());
        go.set();
        assert_eq!(child.join().unwrap(), 1);
    });
}
