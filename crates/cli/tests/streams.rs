//! The standard streams: closed, full, non-blocking, without a reader. If a byte is lost, the
//! status is not 0.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{assert_failure, assert_success, command, directory, names, wait_for_role, Running};
use pagemate::{Dict, Place};
use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use rustix::pipe::{pipe_with, PipeFlags};

/// Standard output, or another standard stream, as a careless parent leaves it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    Full,
    ReadOnly,
}

const UNWRITABLE: [State; 3] = [State::Closed, State::Full, State::ReadOnly];

impl State {
    /// Puts the stream `descriptor` of the command in this state.
    fn put(self, command: &mut Command, descriptor: i32) {
        if self == State::Closed {
            // SAFETY: close(2) is a plain system call, and the number is a standard stream of the
            // child.
            let close = move || match unsafe { libc::close(descriptor) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            // SAFETY: `close` makes one system call.
            unsafe { command.pre_exec(close) };
            return;
        }
        let file = match self {
            State::Full => OpenOptions::new().write(true).open("/dev/full").unwrap(),
            _ => File::open("/dev/null").unwrap(),
        };
        match descriptor {
            1 => command.stdout(file),
            _ => command.stderr(file),
        };
    }
}

/// Creates a dict "d" with a large value, and returns commands that print something.
fn printing(dir: &Path) -> (Dict<str, str>, Vec<Command>) {
    let dict = Dict::<str, str>::create(Place::in_dir(dir, "d").reserve(1 << 28)).unwrap();
    dict.insert("big", &"x".repeat(1 << 20)).unwrap();
    let commands: &[&[&str]] = &[
        &["ls"],
        &["ls", "--json"],
        &["show", "d", "--all"],
        &["show", "d", "--all", "--json"],
        &["get", "d", "big"],
        &["get", "d", "big", "--raw"],
        &["get", "d", "big", "--json"],
        &["top", "--once", "--interval", "0.01"],
        &["top", "--once", "--interval", "0.01", "--json"],
        &["gc", "--json"],
    ];
    let mut commands: Vec<_> = commands.iter().map(|arguments| command(dir, arguments)).collect();
    for arguments in [&["demo"][..], &["--help"], &["help", "recv"], &["top", "--help"], &["--version"]] {
        let mut command = Command::new(common::PROGRAM);
        command.args(arguments);
        commands.push(command);
    }
    (dict, commands)
}

#[test]
fn what_cannot_be_printed_is_a_failure() {
    let dir = directory();
    for state in UNWRITABLE {
        let (_dict, commands) = printing(dir.path());
        for mut command in commands {
            command.stderr(Stdio::piped());
            state.put(&mut command, 1);
            let output = Running::of(command).end();
            assert_failure(&output, "standard output");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_not_a_failure() {
    let dir = directory();
    let (_dict, commands) = printing(dir.path());
    for mut command in commands {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::of(command);
        let mut reader = running.child().stdout.take().unwrap();
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        assert_success(&running.end());
    }
}

/// Returns a pipe whose end for writing does not block.
fn non_blocking() -> (File, File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setfl(&writer, fcntl_getfl(writer.as_fd()).unwrap() | OFlags::NONBLOCK).unwrap();
    (reader.into(), writer.into())
}

#[test]
fn a_non_blocking_standard_output_gets_everything() {
    let dir = directory();
    let (_dict, commands) = printing(dir.path());
    for mut command in commands {
        let expected = command.output().unwrap().stdout;
        let (mut reader, writer) = non_blocking();
        command.stdout(writer).stderr(Stdio::piped());
        let running = Running::of(command);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_success(&running.end());
        // Ages and times differ from run to run, the large value does not.
        let value = |text: &[u8]| text.iter().filter(|byte| **byte == b'x').count();
        assert_eq!(value(&text), value(&expected));
    }
}

#[test]
fn streams_through_non_blocking_pipes() {
    let dir = directory();
    for mode in [&[][..], &["--lines"]] {
        let bytes = "0123456\n".repeat(1 << 17).into_bytes();
        let ((from_sender, to_sender), (mut from_receiver, to_receiver)) = (non_blocking(), non_blocking());
        fcntl_setfl(&from_sender, OFlags::NONBLOCK).unwrap();
        fcntl_setfl(&to_sender, OFlags::empty()).unwrap();
        let [mut send, mut recv] =
            ["send", "recv"].map(|verb| command(dir.path(), &[&[verb, "x"], mode].concat()));
        send.stdin(from_sender).stderr(Stdio::piped());
        recv.stdout(to_receiver).stderr(Stdio::piped());
        let running = [send, recv].map(Running::of);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let mut to_sender = to_sender;
            let bytes = &bytes;
            scope.spawn(move || to_sender.write_all(bytes).unwrap());
            from_receiver.read_to_end(&mut seen).unwrap();
        });
        running.into_iter().for_each(|running| assert_success(&running.end()));
        assert!(seen == bytes, "{} bytes instead of {}", seen.len(), bytes.len());
    }
}

#[test]
fn a_closed_standard_input_is_not_an_empty_one() {
    let dir = directory();
    for mode in [&[][..], &["--lines"]] {
        let mut command = command(dir.path(), &[&["send", "x"], mode].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        State::Closed.put(&mut command, 0);
        assert_failure(&Running::of(command).end(), "standard input is closed");
        assert!(names(dir.path()).is_empty());
    }
}

/// If a receiver cannot write, it fails, and if something is lost, the sender fails too.
#[test]
fn a_receiver_that_cannot_write() {
    let dir = directory();
    for mode in [&[][..], &["--lines"]] {
        for state in UNWRITABLE {
            let mut sender = Running::start(dir.path(), &[&["send", "x"], mode].concat());
            sender.child().stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
            let mut recv = command(dir.path(), &[&["recv", "x"], mode].concat());
            recv.stderr(Stdio::piped());
            state.put(&mut recv, 1);
            assert_failure(&Running::of(recv).end(), "standard output");
            if state == State::Closed {
                // It has not joined, so the next receiver gets everything.
                let output = common::run(dir.path(), &[&["recv", "x"], mode].concat());
                assert_success(&output);
                assert_eq!(output.stdout, b"one\ntwo\n");
                assert_success(&sender.end());
            } else {
                assert_failure(&sender.end(), "receiver");
            }
            assert!(names(dir.path()).is_empty());
        }
    }
}

#[test]
fn a_limit_of_file_sizes_is_a_failure_with_a_message() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x"]);
    wait_for_role(dir.path(), "sender");
    let mut recv = command(dir.path(), &["recv", "x"]);
    let copy = dir.path().join("copy");
    recv.stdout(File::create(&copy).unwrap()).stderr(Stdio::piped());
    // The segment of the stream exists already, because it is larger than the limit. The output
    // file is smaller at first.
    let limit = || {
        let most = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        Ok(rustix::process::setrlimit(rustix::process::Resource::Fsize, most)?)
    };
    // SAFETY: `limit` makes one system call.
    unsafe { recv.pre_exec(limit) };
    let receiver = Running::of(recv);
    let mut input = sender.child().stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&[7; 8 << 20]));
    assert_failure(&receiver.end(), "standard output: File too large");
    assert_failure(&sender.end(), "receiver");
    assert!(writer.join().unwrap().is_err());
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), 1 << 20);
}

#[track_caller]
fn assert_quiet_failure(output: &Output) {
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(1), 0, 0));
}

#[test]
fn an_unwritable_standard_error_changes_no_status() {
    let dir = directory();
    for state in UNWRITABLE {
        let run = |mut command: Command| {
            command.stdout(Stdio::piped());
            state.put(&mut command, 2);
            Running::of(command).end()
        };
        assert_quiet_failure(&run(command(dir.path(), &["show", "none"])));
        // This process has the environment variable of pagemate's children, and is not one of them.
        let mut child = command(dir.path(), &["ls"]);
        child.env("PAGEMATE_CHILD", "nothing");
        assert_quiet_failure(&run(child));
        assert_eq!(run(command(dir.path(), &["ls", "--none"])).status.code(), Some(2), "usage");
        assert_eq!(run(command(dir.path(), &["ls"])).status.code(), Some(0), "nothing to say");
    }
}

/// A pipe that nobody empties must not keep a failing program for ever.
#[test]
fn a_full_non_blocking_standard_error() {
    let dir = directory();
    let (reader, mut writer) = non_blocking();
    while writer.write(&[0; 4096]).is_ok() {}
    let mut show = command(dir.path(), &["show", "none"]);
    show.stdout(Stdio::piped()).stderr(writer);
    assert_quiet_failure(&Running::of(show).end());
    drop(reader);
}

/// `--progress` cannot print its final line.
#[test]
fn a_final_line_that_cannot_be_printed_is_a_failure() {
    let dir = directory();
    let receiver = Running::start(dir.path(), &["recv", "x"]);
    wait_for_role(dir.path(), "receiver");
    let mut send = command(dir.path(), &["send", "x", "--progress"]);
    send.stdin(Stdio::null()).stdout(Stdio::piped());
    State::Full.put(&mut send, 2);
    assert_quiet_failure(&Running::of(send).end());
    assert_success(&receiver.end());
}

#[test]
fn a_failure_is_one_line_whatever_the_names() {
    let dir = directory();
    for odd in ["a\nb", "\u{1b}[2J", "\u{9b}31m", "ü\r"] {
        for arguments in [
            &["show", odd][..],
            &["rm", odd],
            &["get", odd, "k"],
            &["get", odd, odd],
            &["set", odd, odd, odd],
            &["send", &format!("{odd}/{odd}")],
            &["recv", &format!("{odd}/{odd}"), "--lines"],
        ] {
            let text = common::refused(dir.path(), arguments);
            assert!(!text.trim_end_matches('\n').chars().any(char::is_control), "{text:?}");
        }
    }
}
