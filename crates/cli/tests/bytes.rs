//! `send` and `recv`: bytes from one process to another. They arrive complete or with an error,
//! whichever side dies at any moment.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use common::{
    a_while, assert_failure, assert_success, command, directory, eventually, names, random, run,
    wait_for_role, Running,
};
use pagemate::{inspect, Event, Place, Segment};
use rustix::process::Signal;

/// Returns bytes that do not repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Waits until `count` are attached to the stream "x". They may not have a role yet: see
/// [`wait_for_role`].
fn wait_for_attached(dir: &Path, count: usize) {
    eventually("attached", || {
        let segment = inspect::segment(Place::in_dir(dir, "x"));
        segment.is_ok_and(|segment| segment.participants.iter().filter(|seen| seen.alive).count() >= count)
    });
}

/// Sends `bytes` from a file to a file, one side attached before the other starts.
fn exchange(dir: &Path, bytes: &[u8], first: &str) {
    let (input, output) = (dir.join("input"), dir.join("output"));
    std::fs::write(&input, bytes).unwrap();
    let start = |verb: &str| {
        let mut command = command(dir, &[verb, "x"]);
        command.stderr(std::process::Stdio::piped());
        match verb {
            "send" => command.stdin(File::open(&input).unwrap()),
            _ => command.stdout(File::create(&output).unwrap()),
        };
        Running::of(command)
    };
    let one = start(first);
    wait_for_attached(dir, 1);
    let other = start(if first == "send" { "recv" } else { "send" });
    assert_success(&other.end());
    assert_success(&one.end());
    assert!(std::fs::read(&output).unwrap() == bytes, "{} bytes differ", bytes.len());
    assert_eq!(names(dir), ["input", "output"]);
}

#[test]
fn either_may_start_first() {
    let dir = directory();
    for len in [0, 1, 65_536, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 20 << 20] {
        let bytes = noise(len);
        exchange(dir.path(), &bytes, "recv");
        exchange(dir.path(), &bytes, "send");
    }
}

#[test]
fn what_is_there_goes_at_once() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x"]);
    let mut receiver = Running::start(dir.path(), &["recv", "x"]);
    for word in ["one\n", "two\n"] {
        sender.child().stdin.as_mut().unwrap().write_all(word.as_bytes()).unwrap();
        let mut seen = [0; 4];
        receiver.child().stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
        assert_eq!(seen, word.as_bytes());
    }
    drop(sender.child().stdin.take());
    assert_success(&sender.end());
    assert_success(&receiver.end());
}

#[test]
fn one_after_another_under_the_same_name() {
    let dir = directory();
    for round in 0..20 {
        let bytes = noise(round * 1000);
        let receiver = Running::start(dir.path(), &["recv", "x"]);
        let mut sender = Running::start(dir.path(), &["send", "x"]);
        sender.child().stdin.take().unwrap().write_all(&bytes).unwrap();
        // The next pair starts when this sender has ended, whether or not its receiver is gone.
        assert_success(&sender.end());
        let output = receiver.end();
        assert_success(&output);
        assert!(output.stdout == bytes);
    }
}

#[test]
fn only_two() {
    let dir = directory();
    let sender = Running::start(dir.path(), &["send", "x"]);
    wait_for_role(dir.path(), "sender");
    assert_failure(&run(dir.path(), &["send", "x"]), "--lines");
    let receiver = Running::start(dir.path(), &["recv", "x"]);
    wait_for_role(dir.path(), "receiver");
    assert_failure(&run(dir.path(), &["recv", "x"]), "--lines");
    assert_failure(&run(dir.path(), &["recv", "x", "--lines"]), "without --lines");
    sender.signal(Signal::KILL);
    assert_failure(&receiver.end(), "the sender died");
}

#[test]
fn names_of_others_are_left_alone() {
    let dir = directory();
    let _event = Event::create(Place::in_dir(dir.path(), "event")).unwrap();
    let segment = Segment::create(Place::in_dir(dir.path(), "segment"), 1 << 20).unwrap();
    let _inside = Event::create(segment.at("inside")).unwrap();
    for name in ["event", "segment"] {
        for verb in ["send", "recv"] {
            assert_failure(&run(dir.path(), &[verb, name]), "is not a stream");
        }
    }
    assert_eq!(segment.objects().unwrap().len(), 1);
    assert_failure(&run(dir.path(), &["send", "a/b"]), "names are not paths");
}

#[test]
fn a_killed_sender_is_not_the_end_of_the_stream() {
    let dir = directory();
    let bytes = noise(8 << 20);
    for _ in 0..30 {
        let mut sender = Running::start(dir.path(), &["send", "x"]);
        let mut receiver = Running::start(dir.path(), &["recv", "x"]);
        wait_for_attached(dir.path(), 2);
        let mut input = sender.child().stdin.take().unwrap();
        let mut output = receiver.child().stdout.take().unwrap();
        let mut seen = vec![0; 1 + random(4 << 20)];
        std::thread::scope(|scope| {
            scope.spawn(|| input.write_all(&bytes));
            output.read_exact(&mut seen).unwrap();
            sender.signal(Signal::KILL);
            output.read_to_end(&mut seen).unwrap();
        });
        assert_failure(&receiver.end(), "the sender died or gave up before the end of the stream");
        assert!(bytes.starts_with(&seen), "what came is the beginning");
        assert_eq!(sender.end().status.signal(), Some(9));
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_killed_receiver_is_an_error() {
    let dir = directory();
    let bytes = noise(8 << 20);
    for _ in 0..30 {
        let mut sender = Running::start(dir.path(), &["send", "x"]);
        let mut receiver = Running::start(dir.path(), &["recv", "x"]);
        wait_for_attached(dir.path(), 2);
        let mut input = sender.child().stdin.take().unwrap();
        let mut output = receiver.child().stdout.take().unwrap();
        let bytes = &bytes;
        std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(bytes));
            output.read_exact(&mut vec![0; 1 + random(4 << 20)]).unwrap();
            receiver.signal(Signal::KILL);
            assert_failure(&sender.end(), "the receiver died or gave up before the end of the stream");
        });
        receiver.end();
        assert!(names(dir.path()).is_empty());
    }
}

/// One side is killed while both start. The other one notices, or never met it and serves the next.
#[test]
fn killed_on_the_way_in() {
    let dir = directory();
    // This fits into a pipe, which may be read late.
    let bytes = noise(30_000);
    for round in 0..40 {
        let verbs = if round % 2 == 0 { ["send", "recv"] } else { ["recv", "send"] };
        let [mut killed, mut other] = verbs.map(|verb| Running::start(dir.path(), &[verb, "x"]));
        let _open = killed.child().stdin.take();
        a_while();
        killed.signal(Signal::KILL);
        killed.end();

        let mut next = Running::start(dir.path(), &[verbs[0], "x"]);
        let sender = if verbs[0] == "send" { &mut next } else { &mut other };
        // This fails if the sender has ended.
        let mut input = sender.child().stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(|| drop(input.write_all(&bytes).map(|()| input)));
            other.end()
        });
        let received = match (output.status.success(), verbs) {
            (true, ["send", _]) => {
                assert_success(&next.end());
                output
            }
            (true, _) => next.end(),
            (false, ["send", _]) => {
                assert_failure(&output, "the sender died");
                let received = Running::start(dir.path(), &["recv", "x"]).end();
                assert_success(&next.end());
                received
            }
            (false, _) => {
                assert_failure(&output, "the receiver died");
                let mut sender = Running::start(dir.path(), &["send", "x"]);
                sender.child().stdin.take().unwrap().write_all(&bytes).unwrap();
                let received = next.end();
                assert_success(&sender.end());
                received
            }
        };
        assert_success(&received);
        assert!(received.stdout == bytes, "round {round}");
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_death_is_noticed_while_standard_input_is_silent() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x"]);
    let receiver = Running::start(dir.path(), &["recv", "x"]);
    // Nobody would notice the death of a receiver without a role.
    ["sender", "receiver"].iter().for_each(|role| wait_for_role(dir.path(), role));
    let _open = sender.child().stdin.take();
    receiver.signal(Signal::KILL);
    assert_failure(&sender.end(), "the receiver died");
}

#[test]
fn both_killed_leave_a_name_that_can_be_taken_over() {
    let dir = directory();
    let pair = ["send", "recv"].map(|verb| Running::start(dir.path(), &[verb, "x"]));
    wait_for_attached(dir.path(), 2);
    for running in pair {
        running.signal(Signal::KILL);
        running.end();
    }
    assert_eq!(names(dir.path()), ["pagemate.x"]);
    exchange(dir.path(), &noise(100_000), "send");
}

#[test]
fn ctrl_c_leaves_nothing() {
    let dir = directory();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        for verb in ["send", "recv"] {
            let mut alone = Running::start(dir.path(), &[verb, "x"]);
            let _open = alone.child().stdin.take();
            wait_for_attached(dir.path(), 1);
            alone.signal(signal);
            let output = alone.end();
            assert_eq!((output.status.signal(), output.stderr.len()), (Some(signal.as_raw()), 0));
            assert!(names(dir.path()).is_empty());
        }
        let mut pair = ["send", "recv"].map(|verb| Running::start(dir.path(), &[verb, "x"]));
        let _open = pair.each_mut().map(|running| running.child().stdin.take());
        wait_for_attached(dir.path(), 2);
        pair.iter().for_each(|running| running.signal(signal));
        pair.into_iter().for_each(|running| drop(running.end()));
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn ctrl_c_while_standard_output_is_stuck() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x"]);
    let receiver = Running::start(dir.path(), &["recv", "x"]);
    let mut input = sender.child().stdin.take().unwrap();
    // More than fits into the pipes and the ring, so this ends with an error when the sender has
    // ended.
    let writer = std::thread::spawn(move || input.write_all(&noise(64 << 20)));
    // Nobody reads the receiver's output, so it is stuck, and the ring becomes full.
    eventually("stuck", || {
        let segment = inspect::segment(Place::in_dir(dir.path(), "x")).ok();
        let ring = segment.and_then(|mut seen| {
            seen.objects.retain(|object| object.info.name == "bytes");
            seen.objects.pop()
        });
        let number = |word: &str| {
            let ring = ring.as_ref()?;
            ring.state.iter().find(|(what, _)| *what == word).map(|(_, value)| value.clone())
        };
        ring.is_some() && number("depth") == number("capacity")
    });
    receiver.signal(Signal::INT);
    let output = receiver.end();
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()));
    assert_failure(&sender.end(), "the receiver");
    assert!(writer.join().unwrap().is_err());
}

#[test]
fn ctrl_c_of_one_is_an_error_of_the_other() {
    let dir = directory();
    for (gone, left) in [("send", "recv"), ("recv", "send")] {
        let mut gone = Running::start(dir.path(), &[gone, "x"]);
        let mut left = Running::start(dir.path(), &[left, "x"]);
        let _open = [&mut gone, &mut left].map(|running| running.child().stdin.take());
        ["sender", "receiver"].iter().for_each(|role| wait_for_role(dir.path(), role));
        gone.signal(Signal::INT);
        gone.end();
        assert_failure(&left.end(), "before the end of the stream");
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_broken_pipe_ends_the_receiver() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x"]);
    let mut receiver = Running::start(dir.path(), &["recv", "x"]);
    drop(receiver.child().stdout.take());
    let mut input = sender.child().stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&noise(64 << 20)));
    assert_success(&receiver.end());
    assert_failure(&sender.end(), "the receiver");
    assert!(writer.join().unwrap().is_err());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn the_sum_is_printed_on_request() {
    let dir = directory();
    let mut sender = Running::start(dir.path(), &["send", "x", "--progress"]);
    let receiver = Running::start(dir.path(), &["recv", "x", "--progress"]);
    let mut input = sender.child().stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(&noise(3 << 20)));
        for running in [receiver, sender] {
            let output = running.end();
            assert!(output.status.success());
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains("3.0 MiB in ") && text.ends_with("/s\n"), "{text:?}");
        }
    });
}
