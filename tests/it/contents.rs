//! Inspecting containers from outside. No item is seen half-written, whatever writers do meanwhile,
//! and an inspection of damaged bytes returns values or an error.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use pagemate::inspect::{self, Contents};
use pagemate::{Array, Event, Manager, Place, Process};

use crate::support::Random;

fn name(what: &str) -> String {
    format!("test-contents-{what}-{}", std::process::id())
}

/// Returns whether the value is one byte, repeated as often as `write` repeats that byte.
fn is_whole(bytes: &[u8]) -> bool {
    let expected = bytes.first().map_or(0, |&byte| 1 + usize::from(byte) * 7);
    bytes.len() == expected && bytes.windows(2).all(|pair| pair[0] == pair[1])
}

fn write((manager, stop): (Manager, Event)) -> Result<(), String> {
    let said = |error: pagemate::Error| error.to_string();
    let dict = manager.dict::<str, [u8]>("dict").map_err(said)?;
    let list = manager.list::<[u8; 64]>("list").map_err(said)?;
    let mut round = 0u32;
    while !stop.is_set() {
        round = round.wrapping_add(1);
        let byte = round as u8;
        let key = format!("k{}", round % 5);
        dict.insert(&key, &vec![byte; 1 + usize::from(byte) * 7]).map_err(said)?;
        if round % 11 == 0 {
            dict.remove(&key).map_err(said)?;
        }
        if round % 64 == 0 {
            list.clear().map_err(said)?;
        }
        list.push([byte; 64]).map_err(said)?;
        list.set(0, [byte; 64]).map_err(said)?;
    }
    Ok(())
}

#[test]
fn no_item_is_half_written_while_another_process_writes() {
    let name = name("busy");
    let manager = Manager::create(&name).unwrap();
    let (dict, list) =
        (manager.dict::<str, [u8]>("dict").unwrap(), manager.list::<[u8; 64]>("list").unwrap());
    let stop = Event::new().unwrap();
    let writer = Process::spawn(write, (manager, stop.clone())).unwrap();
    let contents_of = |object| inspect::contents(name.as_str(), object, 100, usize::MAX);
    let (mut values, mut elements) = (0, 0);
    let begin = Instant::now();
    while (values < 500 || elements < 500) && begin.elapsed() < Duration::from_secs(60) {
        // An inspection fails if the writer adds an arena to the heap during each of its attempts.
        if let Some(Contents { entries, .. }) = contents_of("dict").ok().flatten() {
            entries.iter().for_each(|(_, value)| assert!(is_whole(&value.bytes), "{value:?}"));
            values += entries.len();
        }
        if let Some(Contents { entries, .. }) = contents_of("list").ok().flatten() {
            let is_one = |bytes: &[u8]| bytes.len() == 64 && bytes.iter().all(|byte| *byte == bytes[0]);
            entries.iter().for_each(|(_, value)| assert!(is_one(&value.bytes), "{value:?}"));
            elements += entries.len();
        }
        if let Ok(Some(item)) = inspect::item(name.as_str(), "dict", "k1") {
            assert!(is_whole(&item.bytes), "{item:?}");
        }
    }
    stop.set();
    writer.join().unwrap().unwrap();
    assert!(values >= 500 && elements >= 500, "{values} values, {elements} elements in a minute");
    let totals = ["dict", "list"].map(|name| contents_of(name).unwrap().unwrap().total);
    assert_eq!(totals, [dict.len(), list.len()].map(|len| len.unwrap() as u64));
}

#[test]
fn damaged_bytes_give_contents_or_an_error() {
    let name = name("damage");
    let manager = Manager::create(Place::from(&name).reserve(1 << 20)).unwrap();
    let dict = manager.dict::<str, [u64; 3]>("dict").unwrap();
    (0..40u64).for_each(|n| _ = dict.insert(&n.to_string(), &[n; 3]).unwrap());
    manager.list::<[u64; 3]>("list").unwrap().extend((0..9).map(|n| [n; 3])).unwrap();
    manager.list::<str>("names").unwrap().extend(["Ada", "Grace", "Edsger"]).unwrap();
    manager.list::<u16>("small").unwrap().extend([1, 2]).unwrap();
    manager.array("array", 5, 7u64).unwrap();
    manager.namespace("space").unwrap().set("rate", &0.5).unwrap();

    let path = manager.path().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut image = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut image, 0).unwrap();
    // Only bytes behind the header and the table of participants, which have tests of their own.
    let spots: Vec<usize> = (20480..image.len()).filter(|at| image[*at] != 0).collect();
    let mut random = Random::new();
    let mut answers = [0; 2];
    for spot in spots.iter().flat_map(|&spot| [spot, spot + 1, spot + 7]).filter(|spot| *spot < image.len()) {
        let byte = [0, 0xff, 1 << random.below(8), random.below(256) as u8][random.below(4) as usize];
        file.write_all_at(&[image[spot] ^ byte], spot as u64).unwrap();
        for object in ["dict", "list", "names", "small", "array", "space"] {
            let found = inspect::contents(name.as_str(), object, 20, 4096);
            answers[usize::from(found.is_ok())] += 1;
            for (key, value) in found.ok().flatten().map_or(Vec::new(), |contents| contents.entries) {
                assert!(value.render().len() < 1 << 20 && key.map_or(0, |key| key.render().len()) < 1 << 20);
            }
        }
        let _ = inspect::item(name.as_str(), "dict", "7");
        let _ = inspect::item(name.as_str(), "space", "rate");
        file.write_all_at(&[image[spot]], spot as u64).unwrap();
    }
    assert!(answers[0] > 100 && answers[1] > 100, "[errors, contents]: {answers:?}");
    let names = inspect::contents(name.as_str(), "names", 2, 4).unwrap().unwrap();
    let shown: Vec<_> = names.entries.iter().map(|(_, name)| (name.render(), name.len)).collect();
    assert_eq!((names.total, shown), (3, vec![("Ada".to_string(), 3), ("Grac".to_string(), 5)]));
    assert_eq!(inspect::item(name.as_str(), "dict", "7").unwrap().unwrap().render(), "[7, 7, 7]");
}

/// 2^64 - 1 elements of size 0 take no memory in the object, and the answer contains only 1,024 of
/// them.
#[test]
fn elements_without_bytes() {
    let name = name("units");
    let units = Array::<()>::create(name.as_str(), usize::MAX, ()).unwrap();
    drop(units.reset(()).unwrap());
    let contents = inspect::contents(name.as_str(), "", usize::MAX, usize::MAX).unwrap().unwrap();
    assert_eq!((contents.total, contents.entries.len()), (u64::MAX, 1024));
}
