//! Runs the program, and creates segments whose users can be killed.

#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pagemate::{inspect, Place};
use rustix::process::{kill_process, Pid, Signal};

/// The built program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pagemate");

/// Creates a directory in shared memory, so that tests see and sweep no segments of others.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("pagemate-test-").tempdir_in("/dev/shm").expect("a directory in /dev/shm")
}

/// Returns the names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns `pagemate COMMAND --dir DIR ARGUMENTS`, not yet started.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(arguments[0]).arg("--dir").arg(dir).args(&arguments[1..]);
    command
}

/// Runs it to its end.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

/// Returns the standard output of a run that must succeed without any standard error.
pub fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the same as JSON.
pub fn json(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let text = printed(dir, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns the standard error of a run that must fail with status 1 and print nothing else.
pub fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert_failure(&output, "");
    String::from_utf8(output.stderr).unwrap()
}

/// Checks that it has succeeded without any standard error.
#[track_caller]
pub fn assert_success(output: &Output) {
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// Checks that it has failed with status 1 and one line on standard error that contains `reason`.
#[track_caller]
pub fn assert_failure(output: &Output, word: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("pagemate: ") && text.contains(word) && text.lines().count() == 1, "{text}");
}

/// A process that runs the test `body` of the calling test program, and keeps its objects until it
/// is killed.
pub struct Holder(Child);

/// The environment variable with the directory of a holder.
pub const HOLDER: &str = "PAGEMATE_TEST_HOLDER";

impl Holder {
    /// Starts this test program again with only the test `body`, which calls [`hold`] when it has
    /// created its objects.
    pub fn start(body: &str, dir: &Path) -> Holder {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", body, "--nocapture", "--quiet"])
            .env(HOLDER, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("holding")), "{body} ended early");
        Holder(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it by SIGKILL. Returns when it is gone.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reports that the objects exist, and waits for the parent or for its death.
pub fn hold() {
    println!("holding");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Every run that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A run of the program that goes on while the test does. Killed when dropped.
pub struct Running(Option<Child>);

impl Running {
    /// Starts it with pipes on all three standard streams.
    pub fn start(dir: &Path, arguments: &[&str]) -> Running {
        let mut command = command(dir, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command)
    }

    /// Starts a prepared command, with the signals as a terminal's shell leaves them. Tests that
    /// run in the background of a script would inherit an ignored SIGINT.
    pub fn of(mut command: Command) -> Running {
        let defaults = || {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                // SAFETY: takes integers only, and may be called between fork and exec.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            no_core_dump()
        };
        // SAFETY: `defaults` makes system calls only.
        unsafe { command.pre_exec(defaults) };
        Running(Some(command.spawn().unwrap()))
    }

    /// Wraps a child that is started already.
    pub fn started(child: Child) -> Running {
        Running(Some(child))
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits until the program handles this signal itself.
    pub fn wait_for_handler(&self, signal: Signal) {
        eventually("a handler", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
            mask & 1 << (signal.as_raw() - 1) != 0
        });
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.as_ref().unwrap().id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end and returns the rest of its output. Panics if it hangs.
    pub fn end(mut self) -> Output {
        let child = self.0.take().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let (ended, end) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let is_late = end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if is_late {
                let _ = kill_process(pid, Signal::KILL);
            }
            is_late
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        assert!(!watchdog.join().unwrap(), "the program hung: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Prevents a core file after SIGQUIT. Makes system calls only.
pub fn no_core_dump() -> std::io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Core, none)?)
}

/// Waits until another process has done something. Panics if it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        // Leaves the processor to the other processes.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until a process has taken the role of a sender or a receiver in the stream of bytes "x":
/// the other side notices its death from now on. An attached process may not have a role yet.
pub fn wait_for_role(dir: &Path, role: &str) {
    // Each side takes its part in both rings, and this part last.
    let (object, part) = match role {
        "sender" => ("receipt", "consumer"),
        _ => ("bytes", "consumer"),
    };
    let has_taken = || {
        let stream = inspect::segment(Place::in_dir(dir, "x")).ok()?;
        let ring = stream.objects.into_iter().find(|seen| seen.info.name == object)?;
        let (_, holder) = ring.state.into_iter().find(|(word, _)| *word == part)?;
        holder.starts_with("participant").then_some(())
    };
    eventually(role, || has_taken().is_some());
}

/// Returns a number below `limit` that differs from run to run.
pub fn random(limit: usize) -> usize {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as usize % limit
}

/// Lets a random time pass. Nothing relies on its length.
pub fn a_while() {
    std::thread::sleep(Duration::from_micros(random(15_000) as u64));
}
