//! The bytes of a segment with a dict, a list and their heap are overwritten, one at a time: each
//! that is not 0, or a quarter of these in a debug build. Every operation on the objects may fail,
//! but none panics, loops without end or leaves the segment.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use pagemate::collections::Ref;
use pagemate::{inspect, Dict, List, Manager, Place};

use crate::support::Random;

type Words = Dict<str, [u8]>;
type Names = List<str>;
type Handles = (Manager, Dict<u64, u64>, Words, Names, List<u64>, List<Ref<Names>>);

/// The offset of the first record, after the header and the table of participants. Those two are
/// damaged in tests/it/segment.rs.
const SPACE: u64 = 20_480;

fn handles(place: &Place) -> pagemate::Result<Handles> {
    let manager = Manager::open(place.clone())?;
    let (numbers, words) = (manager.dict("numbers")?, manager.dict("words")?);
    let (names, counts, references) =
        (manager.list("names")?, manager.list("counts")?, manager.list("references")?);
    Ok((manager, numbers, words, names, counts, references))
}

fn use_dict(numbers: &Dict<u64, u64>, words: &Words) {
    let _ = (numbers.get(&3), words.get("three"), words.get("nothing"));
    let _ = (numbers.insert(&3, &4), numbers.insert(&1000, &1), words.insert("three", b"another length"));
    let _ =
        (numbers.update(&3, |old| old.map(|old| old + 1)), words.compare_exchange("two", Some(b"2"), None));
    let _ = (numbers.iter().take(1000).count(), words.iter().take(1000).count());
    let _ = (words.keys().take(1000).count(), words.values().take(1000).count());
    let _ = (numbers.remove(&2), numbers.pop(), words.pop(), words.len(), numbers.is_empty());
    (2000..2020).for_each(|key| _ = numbers.insert(&key, &key));
    let _ = (words.clear(), numbers.clear());
}

fn use_lists(names: &Names, counts: &List<u64>) {
    let _ = (names.len(), names.get(1), names.iter().take(1000).count(), counts.iter().take(1000).count());
    let _ =
        (names.push("one more"), names.set(0, "changed"), names.insert(0, "first"), names.extend(["a", "b"]));
    let _ = (names.remove(1), names.pop(), names.update(0, |name| name + "!"), names.sort());
    let _ = (counts.extend(0..20), counts.remove(3), counts.sort(), counts.pop());
    let _ = (names.clear(), counts.clear(), names.push("again"));
}

fn use_everything(place: &Place, open: &Handles) {
    let (manager, numbers, words, names, counts, references) = open;
    use_dict(numbers, words);
    use_lists(names, counts);
    for reference in references.iter().take(10).flatten() {
        let _ = manager.get(reference).map(|list| list.iter().take(1000).count());
    }
    let _ = (manager.objects(), inspect::segment(place.clone()));
    // A later opener reads the words that the earlier handles have read already.
    if let Ok((_, numbers, words, names, counts, _)) = handles(place) {
        use_dict(&numbers, &words);
        use_lists(&names, &counts);
    }
    let _ = (manager.remove("names"), manager.dict::<u64, u64>("new"));
}

fn fill(place: &Place) {
    let (manager, numbers, words, names, counts, references) = handles(place).unwrap();
    (0..200).for_each(|key| _ = numbers.insert(&key, &!key).unwrap());
    words.extend([("one", &b"1"[..]), ("two", b"2"), ("three", &[3; 300])]).unwrap();
    words.remove("one").unwrap();
    names.extend(["Ada", "Grace", "Edsger"]).unwrap();
    counts.extend(0..30).unwrap();
    references.push(Ref::to(&names)).unwrap();
    drop(manager);
}

/// Writes the whole image into the file again.
fn restore(file: &File, image: &[u8]) {
    file.write_all_at(image, SPACE).unwrap();
}

#[test]
fn any_used_byte_may_be_wrong() {
    let name = format!("test-damage-{}", std::process::id());
    let place = Place::from(name.as_str()).reserve(1 << 21).persistent();
    let keeper = Manager::create(place.clone()).unwrap();
    fill(&place);
    let file = OpenOptions::new().read(true).write(true).open(keeper.path().unwrap()).unwrap();
    let committed = inspect::segment(place.clone()).unwrap().committed;
    let mut image = vec![0; (committed - SPACE) as usize];
    file.read_exact_at(&mut image, SPACE).unwrap();
    // Restores the words of the header too, because operations move the end of space.
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 128).unwrap();
    let mut random = Random::new();
    let used: Vec<usize> = (0..image.len()).filter(|&at| image[at] != 0).collect();
    assert!(used.len() > 1000, "only {} bytes are in use", used.len());
    let step = if cfg!(debug_assertions) { 4 } else { 1 };
    let some: Vec<usize> =
        used.into_iter().skip(random.below(step) as usize).step_by(step as usize).collect();
    for at in some {
        let value = [0, 0xff, image[at] ^ 1 << random.below(8)][random.below(3) as usize];
        let (done, ended) = mpsc::channel();
        let (thread_place, thread_file) = (place.clone(), file.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            let open = handles(&thread_place).unwrap();
            thread_file.write_all_at(&[value], SPACE + at as u64).unwrap();
            use_everything(&thread_place, &open);
            drop(open);
            let _ = done.send(());
        });
        match ended.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => thread.join().unwrap(),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("byte {at} set to {value:#x}: it hangs"),
            Err(_) => panic!("byte {at} set to {value:#x}: it panics"),
        }
        let now = inspect::segment(place.clone()).map_or(committed, |seen| seen.committed);
        let beyond = vec![0; now.saturating_sub(committed).min(1 << 21) as usize];
        restore(&file, &image);
        file.write_all_at(&beyond, committed).unwrap();
        file.write_all_at(&head[16..40], 144).unwrap();
    }
    place.remove().unwrap();
}
