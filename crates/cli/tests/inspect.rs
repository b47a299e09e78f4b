//! `ls`, `show`, `rm` and `gc` on real segments: in use, persistent, stale, damaged.

mod common;

use std::path::PathBuf;

use common::{directory, hold, json, names, printed, refused, run, Holder, HOLDER};
use pagemate::{Event, Message, Place, Producer, Segment};
use serde_json::json;

/// Not a test of its own: the body of the processes that the tests below start and kill.
#[test]
fn holder() {
    let Some(dir) = std::env::var_os(HOLDER).map(PathBuf::from) else { return };
    let alone = Event::create(Place::in_dir(&dir, "alone")).unwrap();
    let several = Segment::create(Place::in_dir(&dir, "several"), 1 << 20).unwrap();
    let objects = ["a", "b"].map(|name| Event::create(several.at(name)).unwrap());
    objects[0].set();
    let kept = Event::create(Place::in_dir(&dir, "kept").persistent()).unwrap();
    hold();
    drop((alone, several, objects, kept));
}

#[test]
fn nothing_there() {
    let dir = directory();
    assert_eq!(printed(dir.path(), &["ls"]), "");
    assert_eq!(json(dir.path(), &["ls"]), json!([]));
    assert_eq!(printed(dir.path(), &["gc"]), "");
    assert_eq!(json(dir.path(), &["gc"]), json!({ "swept": [] }));
    for command in ["show", "rm"] {
        assert!(refused(dir.path(), &[command, "x"]).contains("nobody has created it"));
    }
    assert!(refused(dir.path(), &["rm", "a/b"]).contains("removes whole segments"));
    assert!(refused(dir.path(), &["show", "a/b"]).contains("nobody has created it"));
    let nowhere = dir.path().join("nowhere");
    for command in ["ls", "gc"] {
        assert!(refused(&nowhere, &[command]).contains("cannot read the directory"));
    }
    assert_eq!(run(dir.path(), &["show"]).status.code(), Some(2), "usage");
}

#[test]
fn in_use() {
    let dir = directory();
    let holder = Holder::start("holder", dir.path());
    let pid = holder.pid();

    let text = printed(dir.path(), &["ls"]);
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "SIZE", "COMMITTED", "ALIVE", "DEAD", "STATE", "AGE", "OBJECTS"]);
    let firsts: Vec<_> = words[1..].iter().map(|words| words[0]).collect();
    assert_eq!(firsts, ["alone", "kept", "several"]);
    assert!(text.lines().last().unwrap().ends_with("2 event"), "{text}");

    let listed = json(dir.path(), &["ls"]);
    assert_eq!(listed[0]["name"], "alone");
    assert_eq!(listed[0]["stale"], false);
    assert_eq!(listed[0]["participants"][0]["pid"], pid);
    assert_eq!(listed[0]["participants"][0]["alive"], true);
    assert_eq!(listed[1]["persistent"], true);
    assert_eq!(listed[2]["size"], 1 << 20);

    let shown = json(dir.path(), &["show", "several"]);
    assert_eq!(shown, listed[2]);
    assert_eq!(shown["objects"][0]["name"], "b");
    assert_eq!(shown["objects"][1]["kind"], "event");
    assert_eq!(shown["objects"][1]["state"]["set"], true);

    let text = printed(dir.path(), &["show", "several"]);
    assert!(text.starts_with("several: in use, "), "{text}");
    assert!(text.contains(&format!("0  {pid}  alive")), "{text}");
    assert!(text.contains("\na: event, ") && text.contains("  set        true\n"), "{text}");

    assert!(printed(dir.path(), &["gc"]).is_empty());
    let text = refused(dir.path(), &["rm", "alone"]);
    assert!(text.contains(&format!("in use by process {pid}; --force")), "{text}");
    let text = printed(dir.path(), &["rm", "alone", "--force"]);
    assert_eq!(text, format!("removed alone; process {pid} may go on using what is mapped\n"));
    assert_eq!(names(dir.path()), ["pagemate.kept", "pagemate.several"]);
    holder.kill();
}

/// What a program of somebody else might send.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    count: u32,
    side: Side,
    _pad: [u8; 3],
}

#[derive(Clone, Copy, Message)]
#[repr(u8)]
enum Side {
    Buy,
    Sell = 9,
}

#[test]
fn the_message_at_the_head() {
    let dir = directory();
    let mut ticks = Producer::<Tick>::create(Place::in_dir(dir.path(), "ticks"), 8).unwrap();
    assert!(json(dir.path(), &["show", "ticks"])["objects"][0]["head"].is_null());
    for (count, side) in [(1, Side::Sell), (2, Side::Buy)] {
        ticks.send(Tick { price: 2.5, count, side, _pad: [0; 3] }).unwrap();
    }

    let object = &json(dir.path(), &["show", "ticks"])["objects"][0];
    assert_eq!(object["head"], "Tick { price: 2.5, count: 1, side: Sell }");
    assert_eq!(object["schema"], Tick::schema().to_string());
    assert_eq!((&object["state"]["depth"], &object["state"]["capacity"]), (&json!(2), &json!(8)));

    let text = printed(dir.path(), &["show", "ticks"]);
    assert!(text.contains("  Tick { price: 2.5, count: 1, side: Sell }\n"), "{text}");
    assert!(text.contains("struct Tick {"), "{text}");
    assert!(text.contains("producer        participant 0\n"), "{text}");
}

#[test]
fn left_behind() {
    let dir = directory();
    Holder::start("holder", dir.path()).kill();

    let listed = json(dir.path(), &["ls"]);
    let states =
        [0, 1, 2].map(|at| (listed[at]["stale"].clone(), listed[at]["participants"][0]["alive"].clone()));
    assert_eq!(states, [(true, false), (false, false), (true, false)].map(|(a, b)| (json!(a), json!(b))));
    let text = printed(dir.path(), &["ls"]);
    assert_eq!(text.matches("stale").count(), 2, "{text}");
    assert!(printed(dir.path(), &["show", "alone"]).contains("dead"));

    assert_eq!(printed(dir.path(), &["rm", "alone"]), "removed alone\n");
    assert_eq!(json(dir.path(), &["gc"]), json!({ "swept": ["several"] }));
    assert_eq!(names(dir.path()), ["pagemate.kept"], "persistent ones stay");
    assert_eq!(json(dir.path(), &["rm", "kept"]), json!({ "removed": "kept", "attached": [] }));

    Holder::start("holder", dir.path()).kill();
    assert_eq!(printed(dir.path(), &["gc"]), "alone\nseveral\n");
}

#[test]
fn damaged() {
    let dir = directory();
    std::fs::write(dir.path().join("pagemate.odd"), b"not a segment").unwrap();
    std::fs::write(dir.path().join("other"), b"not ours").unwrap();
    assert!(printed(dir.path(), &["ls"]).starts_with("odd: cannot be looked at: "));
    let listed = json(dir.path(), &["ls"]);
    assert_eq!(listed[0]["name"], "odd");
    assert!(listed[0]["error"].is_string());
    assert_eq!(listed.as_array().unwrap().len(), 1);
    refused(dir.path(), &["show", "odd"]);
    assert_eq!(printed(dir.path(), &["gc"]), "");
    assert!(refused(dir.path(), &["rm", "odd"]).contains("--force"));
    assert_eq!(printed(dir.path(), &["rm", "odd", "--force"]), "removed odd\n");
    assert_eq!(names(dir.path()), ["other"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = directory();
    let _event = Event::create(Place::in_dir(dir.path(), "x")).unwrap();
    let mut child = common::command(dir.path(), &["show", "x"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
