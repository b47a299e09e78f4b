//! `get`, `set`, and what `show` prints of dicts, lists, arrays, values and namespaces.

mod common;

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
    assert_eq!(shown["objects"][0]["contents"], json!({ "total": 2, "entries": [1] }));
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
