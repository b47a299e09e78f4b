//! `send --lines` and `recv --lines`: each line goes to exactly one receiver, and every side ends,
//! whichever dies at any moment.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Output;

use common::{a_while, assert_failure, assert_success, directory, eventually, names, run, Running};
use pagemate::{inspect, Place, Queue, Segment};
use rustix::process::Signal;

/// Waits until `count` members of this side take part in the stream "x", so that the others notice
/// the death of each.
fn wait_for(dir: &Path, side: &str, count: usize) {
    let members = || {
        let stream = inspect::segment(Place::in_dir(dir, "x")).ok()?;
        let permits = stream.objects.into_iter().find(|object| object.info.name == side)?;
        let number = |what: &str| {
            let (_, value) = permits.state.iter().find(|(word, _)| *word == what)?;
            value.parse::<usize>().ok()
        };
        Some(number("bound")? - number("available")?)
    };
    eventually(side, || members() == Some(count));
}

fn sender(dir: &Path) -> Running {
    Running::start(dir, &["send", "x", "--lines"])
}

/// Starts a receiver, and waits until it takes part.
fn receiver(dir: &Path, earlier: usize) -> Running {
    let receiver = Running::start(dir, &["recv", "x", "--lines"]);
    wait_for(dir, "receivers", earlier + 1);
    receiver
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_string).collect()
}

#[test]
fn each_line_goes_to_exactly_one_receiver() {
    let dir = directory();
    let receivers = [receiver(dir.path(), 0), receiver(dir.path(), 1)];
    let mut senders = [sender(dir.path()), sender(dir.path())];
    wait_for(dir.path(), "senders", 2);
    let text = |sender: usize| (0..200_000).map(|line| format!("{sender} {line}\n")).collect::<String>();
    let inputs = [0, 1].map(|at| senders[at].child().stdin.take().unwrap());
    let outputs = std::thread::scope(|scope| {
        for (sender, mut input) in inputs.into_iter().enumerate() {
            scope.spawn(move || input.write_all(text(sender).as_bytes()).unwrap());
        }
        let outputs = receivers.map(|receiver| scope.spawn(|| receiver.end()));
        outputs.map(|output| output.join().unwrap())
    });
    senders.into_iter().for_each(|sender| assert_success(&sender.end()));
    outputs.iter().for_each(assert_success);
    let outputs = outputs.each_ref().map(lines);
    for output in &outputs {
        for sender in ["0 ", "1 "] {
            let numbers = output.iter().filter_map(|line| line.strip_prefix(sender)?.parse::<u32>().ok());
            assert!(numbers.is_sorted(), "the lines of one sender stay in order");
        }
    }
    let mut all = outputs.concat();
    all.sort();
    let mut expected: Vec<_> = [0, 1]
        .iter()
        .flat_map(|sender| text(*sender).lines().map(str::to_string).collect::<Vec<_>>())
        .collect();
    expected.sort();
    assert!(all == expected, "{} lines instead of {}", all.len(), expected.len());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn senders_may_start_first() {
    let dir = directory();
    let mut one = sender(dir.path());
    one.child().stdin.take().unwrap().write_all(b"a\nb").unwrap();
    let mut two = sender(dir.path());
    two.child().stdin.take().unwrap().write_all(b"c\n").unwrap();
    wait_for(dir.path(), "senders", 2);
    let output = run(dir.path(), &["recv", "x", "--lines"]);
    assert_success(&output);
    let mut seen = lines(&output);
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"], "the last line gets its newline");
    assert_success(&one.end());
    assert_success(&two.end());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn one_after_another_under_the_same_name() {
    let dir = directory();
    for round in 0..20 {
        let receivers = Running::start(dir.path(), &["recv", "x", "--lines"]);
        let mut sender = sender(dir.path());
        sender.child().stdin.take().unwrap().write_all(format!("{round}\n").as_bytes()).unwrap();
        assert_success(&sender.end());
        assert_eq!(lines(&receivers.end()), [round.to_string()]);
    }
}

#[test]
fn long_lines() {
    let dir = directory();
    let longest = "x".repeat(1 << 20);
    let receiving = receiver(dir.path(), 0);
    let mut sending = sender(dir.path());
    let mut input = sending.child().stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(format!("short\n{longest}\n\n").as_bytes()));
        let output = receiving.end();
        assert_success(&output);
        assert_eq!(lines(&output).iter().map(String::len).collect::<Vec<_>>(), [5, 1 << 20, 0]);
    });
    assert_success(&sending.end());

    let receiving = receiver(dir.path(), 0);
    let mut sending = sender(dir.path());
    let mut input = sending.child().stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(format!("short\n{}\n", "x".repeat((1 << 20) + 1)).as_bytes()));
        assert_failure(&sending.end(), "line 2 of standard input is longer than 1 MiB");
    });
    let output = receiving.end();
    assert_failure(&output, "a sender ended before the end of its lines");
    assert_eq!(lines(&output), ["short"]);
    assert!(names(dir.path()).is_empty());
}

/// The last sender leaves while another one joins. The latter takes part in this stream or in the
/// next.
#[test]
fn a_sender_joins_while_the_last_one_leaves() {
    let dir = directory();
    for _ in 0..30 {
        let first_receiver = Running::start(dir.path(), &["recv", "x", "--lines"]);
        let mut first = sender(dir.path());
        first.child().stdin.take().unwrap().write_all(b"1\n").unwrap();
        a_while();
        let mut second = sender(dir.path());
        second.child().stdin.take().unwrap().write_all(b"2\n").unwrap();
        // Either sender may be the first one in its stream, and both or one of them.
        let output = first_receiver.end();
        assert_success(&output);
        let mut seen = lines(&output);
        if seen.len() == 1 {
            let output = run(dir.path(), &["recv", "x", "--lines"]);
            assert_success(&output);
            seen.extend(lines(&output));
        }
        seen.sort();
        assert_eq!(seen, ["1", "2"]);
        assert_success(&first.end());
        assert_success(&second.end());
        assert!(names(dir.path()).is_empty());
    }
}

/// Other programs' names of objects do not disturb a stream.
#[test]
fn names_that_resemble_the_stream_are_left_alone() {
    let dir = directory();
    let place = |name: &str| Place::in_dir(dir.path(), name);
    let queue = Queue::<u32>::create(place("x.senders"), 4).unwrap();
    let segment = Segment::create(place("x.receivers"), 1 << 20).unwrap();
    queue.send(7).unwrap();
    let receiving = receiver(dir.path(), 0);
    let mut sending = sender(dir.path());
    wait_for(dir.path(), "senders", 1);
    assert_eq!(names(dir.path()), ["pagemate.x", "pagemate.x.receivers", "pagemate.x.senders"]);
    sending.child().stdin.take().unwrap().write_all(b"a\n").unwrap();
    let output = receiving.end();
    assert_success(&output);
    assert_eq!(output.stdout, b"a\n");
    assert_success(&sending.end());
    assert_eq!((queue.try_recv(), segment.objects().unwrap().len()), (Ok(7), 0));
    assert_eq!(names(dir.path()), ["pagemate.x.receivers", "pagemate.x.senders"]);
}

/// A file system that has room for one side has room for all.
#[test]
fn the_first_side_commits_for_all() {
    let dir = directory();
    let committed = || inspect::segment(Place::in_dir(dir.path(), "x")).unwrap().committed;
    let mut sending = sender(dir.path());
    wait_for(dir.path(), "senders", 1);
    let before = committed();
    let receiving = receiver(dir.path(), 0);
    assert_eq!((committed(), names(dir.path()).as_slice()), (before, &["pagemate.x".to_string()][..]));
    drop(sending.child().stdin.take());
    assert_success(&sending.end());
    assert_success(&receiving.end());
}

#[test]
fn a_segment_of_a_program_is_left_alone() {
    let dir = directory();
    let segment = Segment::create(Place::in_dir(dir.path(), "mine"), 1 << 20).unwrap();
    for arguments in [&["send", "mine"][..], &["send", "mine", "--lines"], &["recv", "mine", "--lines"]] {
        assert_failure(&run(dir.path(), arguments), "\"mine\" is not a stream");
    }
    assert!(segment.objects().unwrap().is_empty());
}

#[test]
fn bytes_and_lines_do_not_mix() {
    let dir = directory();
    let _receiver = receiver(dir.path(), 0);
    for verb in ["send", "recv"] {
        assert_failure(&run(dir.path(), &[verb, "x"]), "is used with --lines");
    }
}

#[test]
fn a_killed_sender_is_not_the_end_of_its_lines() {
    let dir = directory();
    for _ in 0..10 {
        let receivers = [receiver(dir.path(), 0), receiver(dir.path(), 1)];
        let mut killed = sender(dir.path());
        let mut other = sender(dir.path());
        wait_for(dir.path(), "senders", 2);
        let mut input = killed.child().stdin.take().unwrap();
        let writer = std::thread::spawn(move || while input.write_all(b"line\n").is_ok() {});
        other.child().stdin.take().unwrap().write_all(b"other\n").unwrap();
        std::thread::scope(|scope| {
            let outputs = receivers.map(|receiver| scope.spawn(|| receiver.end()));
            a_while();
            killed.signal(Signal::KILL);
            let outputs = outputs.map(|output| output.join().unwrap());
            outputs.iter().for_each(|output| assert_failure(output, "a sender ended before the end"));
            let all = outputs.each_ref().map(lines).concat();
            assert_eq!(all.iter().filter(|line| *line == "other").count(), 1);
            assert!(all.iter().all(|line| line == "line" || line == "other"), "whole lines only");
        });
        assert_success(&other.end());
        killed.end();
        writer.join().unwrap();
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn killed_receivers_are_an_error() {
    let dir = directory();
    for _ in 0..10 {
        let receivers = [receiver(dir.path(), 0), receiver(dir.path(), 1)];
        let mut sending = sender(dir.path());
        wait_for(dir.path(), "senders", 1);
        let mut input = sending.child().stdin.take().unwrap();
        let writer = std::thread::spawn(move || while input.write_all(b"line\n").is_ok() {});
        for mut receiver in receivers {
            let mut output = BufReader::new(receiver.child().stdout.take().unwrap());
            output.read_line(&mut String::new()).unwrap();
            receiver.signal(Signal::KILL);
            let _ = output.read_to_end(&mut Vec::new());
        }
        assert_failure(&sending.end(), "receiver");
        writer.join().unwrap();
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn one_of_two_receivers_is_killed() {
    let dir = directory();
    let killed = receiver(dir.path(), 0);
    let other = receiver(dir.path(), 1);
    killed.signal(Signal::KILL);
    killed.end();
    let mut sending = Running::start(dir.path(), &["send", "x", "--lines", "--progress"]);
    sending.child().stdin.take().unwrap().write_all(b"a\nb\n").unwrap();
    let sent = sending.end();
    let text = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert_eq!(sent.status.code(), Some(1), "{text}");
    assert!(text.contains("a receiver died") && text.contains("at most 4 B in"), "{text}");
    let output = other.end();
    assert_success(&output);
    assert_eq!(lines(&output), ["a", "b"]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn ctrl_c_leaves_nothing() {
    let dir = directory();
    let all = [receiver(dir.path(), 0), receiver(dir.path(), 1), sender(dir.path()), sender(dir.path())];
    wait_for(dir.path(), "senders", 2);
    all.iter().for_each(|running| running.signal(Signal::INT));
    all.into_iter().for_each(|running| drop(running.end()));
    assert!(names(dir.path()).is_empty());
}
