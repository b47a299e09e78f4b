//! `get`, `set`, and the output of `show` for dicts, lists, arrays, values and namespaces.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{directory, json, printed, refused, run};
use pagemate::{Array, Dict, List, Manager, Message, Namespace, Place, Queue, Value};
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    count: u32,
    side: Side,
    _pad: [u8; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy,
    Sell = 9,
}

#[test]
fn a_dict_in_a_manager() {
    let dir = directory();
    let path = dir.path();
    let manager = Manager::create(Place::in_dir(path, "shop")).unwrap();
    let prices = manager.dict::<str, f64>("prices").unwrap();
    prices.insert("apple", &0.5).unwrap();

    assert_eq!(printed(path, &["get", "shop/prices", "apple"]), "0.5\n");
    assert_eq!(printed(path, &["set", "shop/prices", "apple", "0.75"]), "");
    assert_eq!(prices.get("apple").unwrap(), Some(0.75), "this process sees it at once");
    printed(path, &["set", "shop/prices", "pear tree", "-2e3"]);
    assert_eq!(prices.get("pear tree").unwrap(), Some(-2000.0));
    assert_eq!(
        json(path, &["get", "shop/prices", "pear tree"]),
        json!({ "key": "pear tree", "type": "f64", "value": -2000.0 })
    );
    let raw = run(path, &["get", "--raw", "shop/prices", "apple"]);
    assert_eq!((raw.stdout.as_slice(), raw.status.code()), (&0.75f64.to_le_bytes()[..], Some(0)));

    let text = refused(path, &["get", "shop/prices", "plum"]);
    assert_eq!(text, "pagemate: shop/prices has no key \"plum\"\n");
    let text = refused(path, &["set", "shop/prices", "plum", "cheap"]);
    assert!(text.contains("\"cheap\" is no f64"), "{text}");
    assert!(refused(path, &["set", "shop/prices", "plum", "1", "--type", "u8"]).contains("values are f64"));
    assert!(refused(path, &["get", "shop/cars", "x"]).contains("no object named \"cars\""));
    assert!(refused(path, &["get", "shop", "x"]).contains("as SEGMENT/OBJECT"));
    assert!(refused(path, &["get", "mall/prices", "x"]).contains("nobody has created it"));
    assert!(refused(path, &["set", "mall/prices", "x", "1"]).contains("nobody has created it"));
    assert_eq!(prices.len().unwrap(), 2, "what is refused leaves nothing behind");

    let _jobs = manager.queue::<u64>("jobs", 4).unwrap();
    for command in [&["get", "shop/jobs", "x"][..], &["set", "shop/jobs", "x", "1"]] {
        assert!(refused(path, command).contains("it is a queue: only dicts and namespaces have keys"));
    }
}

#[test]
fn keys_and_values_of_all_kinds() {
    let dir = directory();
    let path = dir.path();
    let place = |name: &str| Place::in_dir(path, name);
    let (texts, bytes) = (
        Dict::<str, str>::create(place("texts")).unwrap(),
        Dict::<u64, [u8]>::create(place("bytes")).unwrap(),
    );
    let (flags, ticks) = (
        Dict::<str, bool>::create(place("flags")).unwrap(),
        Dict::<str, Tick>::create(place("ticks")).unwrap(),
    );

    printed(path, &["set", "texts", "motto", "viel hilft viel\n"]);
    assert_eq!(texts.get("motto").unwrap().as_deref(), Some("viel hilft viel\n"));
    assert_eq!(printed(path, &["get", "texts", "motto"]), "viel hilft viel\n\n");

    printed(path, &["set", "bytes", "7", "00ff10"]);
    assert_eq!(bytes.get(&7).unwrap(), Some(vec![0, 255, 16]));
    assert_eq!(printed(path, &["get", "bytes", "7"]), "00ff10\n");
    assert!(refused(path, &["set", "bytes", "7", "0"]).contains("two hexadecimal digits"));
    assert!(refused(path, &["get", "bytes", "seven"]).contains("\"seven\" is no u64"));

    printed(path, &["set", "flags", "ready", "true"]);
    assert_eq!(flags.get("ready").unwrap(), Some(true));
    assert!(refused(path, &["set", "flags", "ready", "2"]).contains("expected true or false"));
    assert_eq!(flags.get("ready").unwrap(), Some(true));

    printed(path, &["set", "ticks", "a", "Tick { price: 2.5, count: 3, side: Sell }"]);
    let tick = Tick { price: 2.5, count: 3, side: Side::Sell, _pad: [0; 3] };
    assert_eq!(ticks.get("a").unwrap(), Some(tick));
    let again = printed(path, &["get", "ticks", "a"]);
    assert_eq!(again, "Tick { price: 2.5, count: 3, side: Sell }\n");
    printed(path, &["set", "ticks", "b", again.trim()]);
    assert_eq!(ticks.get("b").unwrap(), Some(tick), "what get prints, set takes");
    assert!(refused(path, &["set", "ticks", "a", "{ price: 1, side: Up }"]).contains("one of Buy, Sell"));
}

#[test]
fn a_namespace() {
    let dir = directory();
    let path = dir.path();
    let space = Namespace::create(Place::in_dir(path, "space")).unwrap();
    space.set("rate", &0.5).unwrap();
    space.set::<str>("title", "first").unwrap();

    assert_eq!(printed(path, &["get", "space", "rate"]), "0.5\n");
    printed(path, &["set", "space", "rate", "1.5"]);
    printed(path, &["set", "space", "title", "second"]);
    assert_eq!(space.get::<f64>("rate").unwrap(), Some(1.5));
    assert_eq!(space.get::<str>("title").unwrap().as_deref(), Some("second"));
    assert!(refused(path, &["set", "space", "rate", "fast"]).contains("is no f64"));

    assert!(refused(path, &["set", "space", "count", "7"]).contains("must be said of which type"));
    printed(path, &["set", "space", "count", "7", "--type", "u64"]);
    assert_eq!(space.get::<u64>("count").unwrap(), Some(7));
    printed(path, &["set", "space", "count", "-7", "--type", "i64"]);
    assert_eq!(space.get::<i64>("count").unwrap(), Some(-7));
    assert!(refused(path, &["set", "space", "count", "7", "--type", "int"]).contains("type \"int\""));
    assert!(refused(path, &["set", "space", "count", "[7]", "--type", "[u16]"]).contains("type \"[u16]\""));
    assert_eq!(json(path, &["get", "space", "title"])["type"], "str");

    let text = printed(path, &["show", "space"]);
    assert!(text.contains("  holds    \"count\": -7\n") || text.contains("\"count\": -7\n"), "{text}");
    assert!(text.contains("\"title\": \"second\"\n"), "{text}");
}

#[test]
fn show_prints_what_is_there() {
    let dir = directory();
    let path = dir.path();
    let manager = Manager::create(Place::in_dir(path, "m")).unwrap();
    let dict = manager.dict::<str, u32>("ages").unwrap();
    for n in 0..100 {
        dict.insert(&format!("{n:03}"), &n).unwrap();
    }
    let list: List<Tick> = manager.list("ticks").unwrap();
    let tick = |count| Tick { price: 0.5, count, side: Side::Buy, _pad: [0; 3] };
    list.extend((0..3).map(tick)).unwrap();
    let small: List<u16> = manager.list("small").unwrap();
    small.extend([1, 65535]).unwrap();
    manager.list::<str>("names").unwrap().extend(["Ada", "Grace"]).unwrap();
    manager.list::<[u8]>("blobs").unwrap().push(&[0xab; 100][..]).unwrap();
    let array: Array<[i64; 2]> = manager.array("pairs", 5, [-1, 1]).unwrap();
    array.set(4, [8, 9]).unwrap();
    let value: Value<Tick> = manager.value("last", tick(9)).unwrap();
    let _queue: Queue<u8> = manager.queue("queue", 4).unwrap();

    let text = printed(path, &["show", "m"]);
    assert!(text.contains(".. 84 more: --entries N shows N, --all all of them\n"), "{text}");
    assert_eq!(text.matches(": Tick { price: 0.5, count: ").count(), 3, "{text}");
    assert!(text.contains("0: 1\n") && text.contains("1: 65535\n"), "{text}");
    assert!(text.contains("0: [-1, 1]\n") && text.contains("4: [8, 9]\n"), "{text}");
    assert!(text.contains("Tick { price: 0.5, count: 9, side: Buy }\n"), "{text}");

    assert!(text.contains("0: \"Ada\"\n") && text.contains("1: \"Grace\"\n"), "{text}");
    assert!(text.contains(&format!("0: {}.. (100 bytes)\n", "ab".repeat(60))), "{text}");

    let text = printed(path, &["show", "m/ages", "--all"]);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("\": ")).collect();
    assert_eq!(lines.len(), 100, "{text}");
    assert!(
        (0..100).all(|n| lines[n].trim_start_matches("  holds").trim() == format!("\"{n:03}\": {n}")),
        "{text}"
    );
    assert!(!text.contains("Tick"), "only this object: {text}");
    assert_eq!(printed(path, &["show", "m/ages", "--entries", "2"]).matches("\": ").count(), 2);
    assert!(refused(path, &["show", "m/none"]).contains("no object named \"none\""));

    let shown = json(path, &["show", "m/small", "--entries", "1"]);
    assert_eq!(shown["objects"][0]["contents"], json!({ "total": 2, "truncated": true, "entries": [1] }));
    let shown = json(path, &["show", "m/ages", "--all"]);
    let entries = shown["objects"][0]["contents"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 100);
    assert!(entries.contains(&json!({ "key": "007", "value": 7, "type": "u32" })));
    drop(value);
}

#[test]
fn long_texts_are_cut_unless_all_is_to_be_shown() {
    let dir = directory();
    let path = dir.path();
    let dict = Dict::<str, str>::create(Place::in_dir(path, "texts")).unwrap();
    dict.insert("long\u{1b}", &"ü".repeat(100_000)).unwrap();
    let text = printed(path, &["show", "texts"]);
    assert!(text.contains("\"long\\u{1b}\": \"ü") && text.contains("ü.. (200000 bytes)\n"), "{text}");
    assert!(text.len() < 2000);
    assert_eq!(printed(path, &["show", "texts", "--all"]).matches('ü').count(), 100_000);
    assert_eq!(printed(path, &["get", "texts", "long\u{1b}"]).matches('ü').count(), 100_000);
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Hidden {
    a: u32,
    _seen: u32,
    cells: [Cell; 50],
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Cell {
    _pad: [u8; 4],
    side: Side,
    _seen: [u8; 3],
    value: f64,
}

/// `get` prints the value, and `set` makes the same bytes of that output.
#[test]
fn get_then_set_changes_nothing() {
    fn round_trip<T: Message + PartialEq + std::fmt::Debug>(dir: &Path, name: &str, value: T) {
        let dict = Dict::<str, T>::create(Place::in_dir(dir, name).reserve(1 << 26)).unwrap();
        dict.insert("k", &value).unwrap();
        let text = printed(dir, &["get", name, "k"]);
        printed(dir, &["set", name, "copy", "--", text.trim_end_matches('\n')]);
        let raw = |key| run(dir, &["get", "--raw", name, key]).stdout;
        assert_eq!(raw("copy"), raw("k"), "{text}");
        assert_eq!(raw("k").len(), size_of::<T>());
        let as_text = |value: &serde_json::Value| match value.as_str() {
            Some(text) => text.to_string(),
            None => value.to_string(),
        };
        assert_eq!(as_text(&json(dir, &["get", name, "k"])["value"]), text.trim());
        let shown = json(dir, &["show", name, "--all"]);
        let mut objects = shown["objects"].as_array().unwrap().iter();
        let entries = objects.find_map(|object| object["contents"]["entries"].as_array()).unwrap();
        assert!(entries.len() == 2 && entries.iter().all(|entry| as_text(&entry["value"]) == text.trim()));
        let shown = printed(dir, &["show", name, "--all"]);
        assert_eq!(shown.matches(text.trim()).count(), 2, "{shown}");
        let shown = printed(dir, &["show", name]);
        assert!(shown.contains(text.trim()) || shown.contains(".. "), "{shown}");
    }
    let dir = directory();
    round_trip(dir.path(), "array", std::array::from_fn::<u64, 40, _>(|n| n as u64));
    round_trip(dir.path(), "nested", [[u64::MAX; 32]; 32]);
    let cell = |n: u8| Cell { _pad: [0; 4], side: Side::Sell, _seen: [0, n, 0], value: f64::from(n) / 3.0 };
    let cells = std::array::from_fn(|n| cell(n as u8 + 1));
    round_trip(dir.path(), "hidden", Hidden { a: 1, _seen: 77, cells });
    round_trip(dir.path(), "large", u128::MAX);
    round_trip(dir.path(), "small", i128::MIN);
    round_trip(dir.path(), "letters", ['\'', '\n', '\u{202e}', '\u{9b}', 'ü', ',']);
}

/// The last field of a large message is not missing because only the beginning was read.
#[test]
fn large_messages_are_read_whole() {
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    struct Large {
        bytes: [u8; 100_000],
        last: u32,
    }
    let dir = directory();
    let large = Dict::<str, Large>::create(Place::in_dir(dir.path(), "large").reserve(1 << 26)).unwrap();
    large.insert("k", &Large { bytes: [1; 100_000], last: 77 }).unwrap();
    let text = printed(dir.path(), &["show", "large"]);
    assert!(text.contains(".. 99968 more], last: 77 }"), "{text}");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let dir = directory();
    let (large, small) = (
        Dict::<str, f64>::create(Place::in_dir(dir.path(), "large").reserve(1 << 26)).unwrap(),
        Dict::<str, f32>::create(Place::in_dir(dir.path(), "small").reserve(1 << 26)).unwrap(),
    );
    for (name, number) in [("large", "1e400"), ("large", "-1e309"), ("small", "3.5e38"), ("small", "1e400")] {
        assert!(refused(dir.path(), &["set", name, "k", number]).contains("or inf"), "{number}");
    }
    assert_eq!((large.len().unwrap(), small.len().unwrap()), (0, 0));
    printed(dir.path(), &["set", "large", "k", "inf"]);
    printed(dir.path(), &["set", "small", "k", "-inf"]);
    assert!(refused(dir.path(), &["set", "small", "k", "-infinite"]).contains("is no f32"));
    assert_eq!(
        (large.get("k").unwrap(), small.get("k").unwrap()),
        (Some(f64::INFINITY), Some(f32::NEG_INFINITY))
    );
}

/// Another reader of JSON finds each number as it is.
#[test]
fn json_has_every_digit() {
    const READER: &str = "
import decimal, json, sys
for object in json.load(sys.stdin, parse_float=decimal.Decimal)['objects']:
    for entry in object.get('contents', {'entries': []})['entries']:
        print(entry['key'], entry['value'])
";
    let dir = directory();
    let path = dir.path();
    let manager = Manager::create(Place::in_dir(path, "m").reserve(1 << 28)).unwrap();
    let mut expected = Vec::new();
    let unsigned = manager.dict::<u128, u128>("unsigned").unwrap();
    for number in [0, u128::MAX, u128::MAX - 1, (1 << 64) + 1, u64::MAX.into()] {
        unsigned.insert(&number, &number).unwrap();
        expected.push(format!("{number} {number}"));
    }
    let signed = manager.dict::<i128, i128>("signed").unwrap();
    for number in [i128::MIN, i128::MAX, -(1 << 64) - 1, i64::MIN.into()] {
        signed.insert(&number, &number).unwrap();
        expected.push(format!("{number} {number}"));
    }
    let floats = manager.dict::<u64, f64>("floats").unwrap();
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    let random = std::iter::repeat_with(|| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits
    });
    let special = [0.0, -0.0, 5e-324, f64::MAX, 0.1, 1e300, 0.14955449029888535].map(f64::to_bits);
    let mut numbers: Vec<_> = special.into_iter().chain(random.take(2000)).collect();
    numbers.retain(|bits| f64::from_bits(*bits).is_finite());
    for bits in &numbers {
        floats.insert(bits, &f64::from_bits(*bits)).unwrap();
    }

    let mut python = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which reads the JSON");
    let text = printed(path, &["show", "m", "--all", "--json"]);
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let read = String::from_utf8(output.stdout).unwrap();
    let (floats, integers): (Vec<_>, Vec<_>) = read.lines().partition(|line| {
        let key = line.split(' ').next().unwrap();
        key.parse().is_ok_and(|key| numbers.contains(&key)) && line != &format!("{key} {key}")
    });
    let mut integers = integers;
    integers.sort();
    expected.sort();
    assert_eq!(integers, expected);
    assert_eq!(floats.len(), numbers.len());
    for line in floats {
        let (key, value) = line.split_once(' ').unwrap();
        assert_eq!(value.parse::<f64>().unwrap().to_bits(), key.parse::<u64>().unwrap(), "{line}");
    }
}

#[test]
fn what_is_cut_says_so_in_json() {
    let dir = directory();
    let queue = Queue::<[u64; 40]>::create(Place::in_dir(dir.path(), "q"), 4).unwrap();
    queue.send([7; 40]).unwrap();
    let head = |arguments: &[&str]| {
        let value = json(dir.path(), arguments);
        let object = if value.is_array() { &value[0]["objects"][0] } else { &value["objects"][0] };
        (object["head"].as_str().unwrap().matches('7').count(), object["head_truncated"] == true)
    };
    assert_eq!(head(&["ls"]), (32, true));
    assert_eq!(head(&["show", "q"]), (40, false));
    assert_eq!(printed(dir.path(), &["show", "q", "--all"]).matches("7,").count(), 39);
}

#[test]
fn on_a_disk_and_with_nobody_attached() {
    let dir = directory();
    let path = dir.path();
    let place = Place::in_dir(path, "kept").persistent();
    Manager::create(place.clone()).unwrap().dict::<str, u64>("counts").unwrap().insert("a", &1).unwrap();
    assert_eq!(printed(path, &["get", "kept/counts", "a"]), "1\n");
    printed(path, &["set", "kept/counts", "b", "2"]);
    let counts = Manager::open(place).unwrap().dict::<str, u64>("counts").unwrap();
    assert_eq!((counts.get("a").unwrap(), counts.get("b").unwrap()), (Some(1), Some(2)));
}
