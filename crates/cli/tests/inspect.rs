//! `ls`, `show`, `rm` and `gc` on real segments: in use, persistent, stale, damaged.

mod common;

use std::path::PathBuf;

use common::{directory, hold, json, names, printed, refused, run, Holder, HOLDER};
use pagemate::queue::spsc::Producer;
use pagemate::{Event, Message, Place, Segment};
use serde_json::json;

/// The body of the processes that the tests below start and kill, and no test of its own.
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
    assert_eq!(json(dir.path(), &["gc"]), json!({ "swept": [], "failed": [] }));
    for command in ["show", "rm"] {
        assert!(refused(dir.path(), &[command, "x"]).contains("nobody has created it"));
    }
    assert!(refused(dir.path(), &["rm", "a/b"]).contains("removes whole segments"));
    assert!(refused(dir.path(), &["show", "a/b"]).contains("nobody has created it"));
    for command in [&["show", "/a"][..], &["get", "/a", "k"], &["set", "/a", "k", "v"]] {
        assert!(refused(dir.path(), command).contains("\"/a\" is not a name: it is SEGMENT"));
    }
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

/// A message of an unknown program.
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
    assert_eq!(json(dir.path(), &["gc"]), json!({ "swept": ["several"], "failed": [] }));
    assert_eq!(names(dir.path()), ["pagemate.kept"], "persistent ones stay");
    assert_eq!(json(dir.path(), &["rm", "kept"]), json!({ "removed": "kept", "attached": [] }));

    Holder::start("holder", dir.path()).kill();
    assert_eq!(printed(dir.path(), &["gc"]), "alone\nseveral\n");
}

#[test]
fn what_reserves_more_than_there_is_address_space_can_be_removed() {
    use std::os::unix::process::CommandExt;
    let dir = directory();
    let used = Segment::create(Place::in_dir(dir.path(), "used"), 16 << 30).unwrap();
    drop(Segment::create(Place::in_dir(dir.path(), "kept").persistent(), 16 << 30).unwrap());
    let remove = |name: &str| {
        let limit = || {
            let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
            // SAFETY: reads the limit from a variable.
            match unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        let mut command = common::command(dir.path(), &["rm", name]);
        // SAFETY: the closure makes a system call only.
        unsafe { command.pre_exec(limit) };
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    assert_eq!(remove("kept"), (true, "removed kept\n".to_string()));
    let (removed, text) = remove("used");
    assert!(!removed && text.contains("in use"), "{text}");
    drop(used);
}

#[test]
fn damaged() {
    let dir = directory();
    std::fs::write(dir.path().join("pagemate.odd"), b"not a segment").unwrap();
    std::fs::write(dir.path().join("other"), b"not ours").unwrap();
    assert!(printed(dir.path(), &["ls"]).starts_with("odd: cannot be read: "));
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
fn what_cannot_be_swept_is_a_failure() {
    let dir = directory();
    // Two removers' directories with files that no remover puts there.
    for number in [1, 2] {
        let permit = dir.path().join(format!(".pagemate-removal.{number:016x}"));
        std::fs::create_dir(&permit).unwrap();
        std::fs::set_permissions(&permit, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(permit.join("thesis"), "precious").unwrap();
    }
    for arguments in [&["gc"][..], &["gc", "--json"]] {
        let output = common::run(dir.path(), arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 2), "{text}");
        assert!(text.lines().all(|line| line.starts_with("pagemate: ") && line.contains("thesis")), "{text}");
        let is_json = serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .is_ok_and(|swept| swept["failed"].as_array().is_some_and(|failed| failed.len() == 2));
        assert_eq!(is_json, arguments.len() == 2);
    }
    assert_eq!(names(dir.path()).len(), 2);
}

/// `gc` and `ls` agree on what is damaged.
#[test]
fn a_stale_segment_of_another_length_is_damaged() {
    let dir = directory();
    Holder::start("holder", dir.path()).kill();
    for name in ["alone", "several"] {
        let file =
            std::fs::File::options().write(true).open(dir.path().join(format!("pagemate.{name}"))).unwrap();
        file.set_len(100 << 20).unwrap();
    }
    assert_eq!(printed(dir.path(), &["ls"]).matches("truncated or damaged").count(), 2);
    assert_eq!(printed(dir.path(), &["gc"]), "");
    assert!(refused(dir.path(), &["rm", "alone"]).contains("--force"));
    assert_eq!(printed(dir.path(), &["rm", "alone", "--force"]), "removed alone\n");
    assert_eq!(names(dir.path()), ["pagemate.kept", "pagemate.several"]);
}

/// The reason is true for any file with the name, and mentions `--force` if that helps.
#[test]
fn no_segment_at_all() {
    let dir = directory();
    let file = dir.path().join("pagemate.odd");
    let link = || std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let socket = || drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
    let makers: [(&dyn Fn(), &str); 2] = [(&link, "is a symbolic link"), (&socket, "is a socket")];
    for (make, what) in makers {
        make();
        for command in [&["show", "odd"][..], &["rm", "odd"], &["send", "odd"]] {
            let text = refused(dir.path(), command);
            assert!(text.contains(what) && !text.contains("os error"), "{text}");
            assert_eq!(text.contains("--force"), command[0] == "rm", "{text}");
        }
        assert_eq!(printed(dir.path(), &["gc"]), "");
        assert_eq!(printed(dir.path(), &["rm", "odd", "--force"]), "removed odd\n");
    }
    std::fs::create_dir(&file).unwrap();
    for command in [&["rm", "odd"][..], &["rm", "--force", "odd"], &["show", "odd"]] {
        let text = refused(dir.path(), command);
        assert!(text.contains("is a directory and no segment") && !text.contains("--force"), "{text}");
    }
}

/// The file size limit is named as the reason.
#[test]
fn a_limit_of_file_sizes_is_named() {
    let dir = directory();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", r#"ulimit -f 0; exec "$0" recv --dir "$1" x"#, common::PROGRAM]).arg(dir.path());
    let output = limited.output().unwrap();
    common::assert_failure(&output, "ulimit -f");
}

#[test]
fn a_reader_that_goes_away_is_not_a_failure() {
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
