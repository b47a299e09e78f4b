//! `pub`, `sub`, `hz`, and what `show`, `ls` and `top` say about topics.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{assert_failure, assert_success, directory, eventually, json, printed, refused, run, Running};
use pagemate::queue::topic::{From, Policy, RecvError};
use pagemate::{inspect, Manager, Message, Place, Queue, Topic};
use rustix::process::Signal;
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    count: u32,
    _pad: u32,
}

/// Runs the program with this standard input.
fn fed(dir: &Path, arguments: &[&str], input: &str) -> std::process::Output {
    let mut running = Running::start(dir, arguments);
    let mut pipe = running.child().stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    drop(pipe);
    running.end()
}

/// Waits until the topic has this number of subscribers.
fn wait_for_subscribers(dir: &Path, name: &str, count: &str) {
    let has = || {
        let seen = inspect::segment(Place::in_dir(dir, name)).ok()?;
        let state = &seen.objects.first()?.state;
        state.iter().any(|(what, value)| *what == "subscribers" && value == count).then_some(())
    };
    eventually("subscribers", || has().is_some());
}

#[test]
fn published_by_text_and_printed() {
    let dir = directory();
    let path = dir.path();
    let topic = Topic::<Tick>::create(Place::in_dir(path, "ticks"), 4).unwrap();
    let mut own = topic.subscribe(From::Latest).unwrap();
    assert_success(&fed(path, &["pub", "ticks"], "Tick {\n  price: 1.5,\n  count: 2\n}\n"));
    assert_eq!(own.recv(), Ok(Tick { price: 1.5, count: 2, _pad: 0 }));

    let sub = Running::start(path, &["sub", "ticks", "--from", "earliest"]);
    wait_for_subscribers(path, "ticks", "2");
    let lines = "{ price: -2, count: 3 }\n{ count: 4, price: 2.25 }\nTick { price: 3, count: 5 }";
    let refusal = refused(path, &["sub", "ticks", "--from", "position:7"]);
    assert!(refusal.contains("not published yet"), "{refusal}");
    assert_success(&fed(path, &["pub", "--lines", "ticks"], lines));
    let json = Running::start(path, &["sub", "ticks", "--from=position:2", "--json"]);
    wait_for_subscribers(path, "ticks", "3");
    topic.close();
    let output = sub.end();
    assert_success(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [(1.5, 2), (-2.0, 3), (2.25, 4), (3.0, 5)];
    let expected: String = expected
        .iter()
        .map(|(price, count)| format!("Tick {{ price: {price:?}, count: {count} }}\n"))
        .collect();
    assert_eq!(text, expected);
    let text = String::from_utf8(json.end().stdout).unwrap();
    let expected = "{\"position\":2,\"value\":\"Tick { price: 2.25, count: 4 }\"}\n\
                    {\"position\":3,\"value\":\"Tick { price: 3.0, count: 5 }\"}\n";
    assert_eq!(text, expected);
    assert_failure(&fed(path, &["pub", "ticks"], "{ price: 1, count: 1 }"), "the topic is closed");
}

#[test]
fn messages_of_any_length() {
    let dir = directory();
    let path = dir.path();
    let text = Topic::<str>::create(Place::in_dir(path, "text"), 8).unwrap();
    let bytes = Topic::<[u8]>::create(Place::in_dir(path, "bytes"), 8).unwrap();
    let numbers = Topic::<[u16]>::create(Place::in_dir(path, "numbers"), 8).unwrap();
    let (mut lines, mut all) =
        (text.subscribe(From::Latest).unwrap(), bytes.subscribe(From::Latest).unwrap());
    let long = "long ".repeat(1000);
    assert_success(&fed(path, &["pub", "--lines", "text"], &format!("one\n 17\n{long}\n\nlast")));
    assert_success(&fed(path, &["pub", "text"], "two\nlines\n"));
    for line in ["one", " 17", &long, "", "last", "two\nlines"] {
        assert_eq!(lines.try_recv().as_deref(), Ok(line));
    }
    assert_success(&fed(path, &["pub", "--lines", "bytes"], "00ff\n\n0a\n"));
    for expected in [&[0, 255][..], &[], &[10]] {
        assert_eq!(all.try_recv().as_deref(), Ok(expected));
    }
    assert_failure(&fed(path, &["pub", "bytes"], "xy"), "hexadecimal");
    assert_success(&fed(path, &["pub", "numbers"], "[1, 2]"));
    numbers.publisher().publish(&[7; 5000]).unwrap();
    assert!(text.close() && bytes.close() && numbers.close());
    assert_eq!(printed(path, &["sub", "bytes", "--from", "earliest"]), "00ff\n\n0a\n");
    let seen = printed(path, &["sub", "text", "--from", "earliest"]);
    assert_eq!(seen, format!("one\n 17\n{long}\n\nlast\ntwo\\nlines\n"));
    assert_eq!(
        printed(path, &["sub", "text", "--from", "position:1", "--json"]).lines().next(),
        Some("{\"position\":1,\"value\":\" 17\"}")
    );
    let seen = printed(path, &["sub", "numbers", "--from", "earliest"]);
    assert!(seen.starts_with("[1, 2]\n[7, 7, ") && seen.lines().count() == 2);
    let all = json(path, &["ls"]);
    let state = &all[1]["objects"][0]["state"]; // bytes, numbers, text
    assert_eq!((&state["inline"], &state["quota"]), (&json!(96), &json!(1_048_576)));
    let shown = printed(path, &["show", "text"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("two\\nlines") || shown.contains("two lines"), "{shown}");
    assert!(shown.contains("quota in use 5112"), "{shown}");
}

#[test]
fn slices_published_by_text() {
    let dir = directory();
    let path = dir.path();
    let numbers = Topic::<[i16]>::create(Place::in_dir(path, "numbers"), 4).unwrap();
    let ticks = Topic::<[Tick]>::create(Place::in_dir(path, "ticks"), 4).unwrap();
    let (mut all, mut own) =
        (numbers.subscribe(From::Latest).unwrap(), ticks.subscribe(From::Latest).unwrap());
    let many: Vec<i16> = (-1000..1000).collect();
    let lines = format!("[1, -2]\n[]\n{many:?}");
    assert_success(&fed(path, &["pub", "--lines", "numbers"], &lines));
    for expected in [&[1, -2][..], &[], &many] {
        assert_eq!(all.try_recv().as_deref(), Ok(expected));
    }
    assert_success(&fed(
        path,
        &["pub", "ticks"],
        "[\n  { price: 1.5, count: 2 },\n  { count: 3, price: -1 },\n]\n",
    ));
    let tick = |price, count| Tick { price, count, _pad: 0 };
    assert_eq!(own.try_recv().unwrap(), [tick(1.5, 2), tick(-1.0, 3)]);
    assert_failure(&fed(path, &["pub", "numbers"], "[1, 40000]"), "a i16 from -32768 to 32767");
    assert_failure(&fed(path, &["pub", "--lines", "numbers"], "[4]\n5\n"), "line 2 of standard input");
    assert_eq!((all.try_recv().as_deref(), all.try_recv()), (Ok(&[4][..]), Err(RecvError::Empty)));

    // What `sub` prints can be published again.
    numbers.publisher().publish(&many).unwrap();
    ticks.publisher().publish(&[tick(0.25, 7)]).unwrap();
    for name in ["numbers", "ticks"] {
        let mut sub = Running::start(path, &["sub", name, "--from", "last:1"]);
        let mut line = String::new();
        BufReader::new(sub.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_success(&fed(path, &["pub", name], &line));
        sub.signal(Signal::INT);
        sub.end();
    }
    assert_eq!([all.try_recv(), all.try_recv()], [Ok(many.clone()), Ok(many)]);
    assert_eq!([own.try_recv(), own.try_recv()], [Ok(vec![tick(0.25, 7)]), Ok(vec![tick(0.25, 7)])]);
}

#[test]
fn losses_are_reported() {
    let dir = directory();
    let path = dir.path();
    let topic = Topic::<u64>::create(Place::in_dir(path, "numbers"), 2).unwrap();
    (0..9).for_each(|n| topic.publisher().publish(n).unwrap());
    topic.close();
    let output = run(path, &["sub", "numbers", "--from", "position:3"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n8\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "pagemate: 4 messages were overwritten\n");
    let text = printed(path, &["sub", "numbers", "--json", "--from", "position:3"]);
    assert_eq!(
        text,
        "{\"lost\":4,\"position\":7}\n{\"position\":7,\"value\":7}\n{\"position\":8,\"value\":8}\n"
    );
    assert_eq!(printed(path, &["sub", "numbers", "--from", "last:1"]), "8\n");
    assert_eq!(printed(path, &["sub", "numbers"]), "");
}

#[test]
fn invalid_messages_and_other_objects_are_refused() {
    let dir = directory();
    let path = dir.path();
    let manager = Manager::create(Place::in_dir(path, "shop")).unwrap();
    let topic = manager.topic::<u8>("counts", 4).unwrap();
    let _queue = Queue::<u8>::create(Place::in_dir(path, "jobs"), 4).unwrap();
    let mut own = topic.subscribe(From::Latest).unwrap();
    assert_failure(&fed(path, &["pub", "shop/counts"], "300"), "is no u8");
    assert_failure(
        &fed(path, &["pub", "--lines", "shop/counts"], "1\n2\nx\n3\n"),
        "line 3 of standard input",
    );
    assert_eq!([own.try_recv(), own.try_recv(), own.try_recv()], [Ok(1), Ok(2), Err(RecvError::Empty)]);
    for command in ["pub", "sub", "hz"] {
        assert!(refused(path, &[command, "jobs"]).contains("jobs: it is not a topic but a queue"));
        assert!(refused(path, &[command, "shop/x"]).contains("no object named \"x\""));
        assert!(refused(path, &[command, "nothing"]).contains("nobody has created it"));
    }
    assert_eq!(run(path, &["sub", "shop/counts", "--from", "newest"]).status.code(), Some(2));
}

#[test]
fn pub_waits_for_lossless_subscribers() {
    let dir = directory();
    let path = dir.path();
    for (name, policy) in [("block", Policy::Block), ("fail", Policy::Fail), ("evict", Policy::Evict)] {
        let place = Place::in_dir(path, name);
        let topic = Topic::<u64>::builder(2).policy(policy).create(place).unwrap();
        let mut own = topic.subscribe_lossless(From::Latest).unwrap();
        let mut publish = Running::start(path, &["pub", "--lines", name]);
        let mut pipe = publish.child().stdin.take().unwrap();
        pipe.write_all(b"1\n2\n3\n").unwrap();
        drop(pipe);
        if policy == Policy::Block {
            eventually("it waits", || format!("{topic:?}").contains("publishers_wait: true"));
            assert!(own.iter().take(3).eq([1, 2, 3].map(Ok)));
            assert_success(&publish.end());
            continue;
        }
        let output = publish.end();
        match policy {
            Policy::Fail => {
                assert_failure(&output, &format!("process {}", std::process::id()));
                assert!(own.is_lossless());
            }
            _ => {
                assert_success(&output);
                assert_eq!((own.recv(), own.recv()), (Err(RecvError::Lagged(1)), Ok(2)));
            }
        }
    }
}

#[test]
fn rates() {
    let dir = directory();
    let path = dir.path();
    let topic = Topic::<[u64; 2]>::create(Place::in_dir(path, "steps"), 64).unwrap();
    let mut hz = Running::start(path, &["hz", "steps", "--every", "0.2", "--json"]);
    let mut text = Running::start(path, &["hz", "steps", "--every", "0.2"]);
    wait_for_subscribers(path, "steps", "2");
    let publisher = topic.publisher();
    let [mut lines, mut texts] =
        [&mut hz, &mut text].map(|run| BufReader::new(run.child().stdout.take().unwrap()).lines());
    let is_over = AtomicBool::new(false);
    let over = &is_over;
    // The results are checked after the scope, because its thread publishes until `over` is set.
    let (line, text_line) = std::thread::scope(|scope| {
        scope.spawn(move || {
            while !over.load(Relaxed) {
                publisher.publish([1, 2]).unwrap();
                // The gaps that are measured.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let is_busy = |line: &String| {
            let line = serde_json::from_str::<serde_json::Value>(line);
            line.is_ok_and(|line| line["messages"].as_u64() > Some(3))
        };
        let line = lines.by_ref().map_while(Result::ok).find(is_busy);
        let text = texts.by_ref().map_while(Result::ok).find(|line| line.contains("jitter"));
        over.store(true, Relaxed);
        (line.unwrap_or_default(), text.unwrap_or_default())
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let number = |what: &str| line[what].as_f64().unwrap();
    assert_eq!((&line["size"], &line["lost"]), (&json!(16), &json!(0)));
    assert!(number("per_second") > 1.0 && number("per_second") < 1000.0, "{line}");
    assert!(number("gap_min") <= number("gap_mean") && number("gap_mean") <= number("gap_max"), "{line}");
    assert!(number("gap_max") > 0.001 && number("jitter") >= 0.0, "{line}");
    assert!(text_line.contains("/s, gaps ") && text_line.contains(", 16 B each, "), "{text_line}");
    text.signal(Signal::INT);
    topic.close();
    assert!(hz.end().status.success());
}

#[test]
fn show_prints_publishers_and_subscribers() {
    let dir = directory();
    let path = dir.path();
    let place = Place::in_dir(path, "prices");
    let topic = Topic::<u64>::builder(2).policy(Policy::Evict).create(place).unwrap();
    let publisher = topic.publisher();
    let lossless = topic.subscribe_lossless(From::Latest).unwrap();
    let mut lossy = topic.subscribe(From::Latest).unwrap();
    (0..3).for_each(|n| publisher.try_publish(n).unwrap());
    assert_eq!(lossy.try_recv(), Err(RecvError::Lagged(1)));
    let shown = printed(path, &["show", "prices"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        [" publishers 1 subscribers 2 ", "participant 0: evicted, lag 3, lost 0", "lossy, lag 2, lost 1"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let all = json(path, &["ls"]);
    let state = &all[0]["objects"][0]["state"];
    assert_eq!(state["policy"], json!("evict"), "{all}");
    let top = json(path, &["top", "--once", "--interval", "0.05"]);
    let expected = json!([{
        "name": "prices", "publishers": 1, "subscribers": 2, "lossless": 0, "lag": 3, "lost": 1,
        "capacity": 2, "quota": null, "published_per_second": 0.0, "closed": false,
    }]);
    assert_eq!(top["topics"], expected);
    assert!(printed(path, &["top", "--once", "--interval", "0.05"]).contains("TOPIC"));
    drop(lossless);
}
