//! Dicts and namespaces between processes: they behave like a `HashMap`, also when writers are
//! killed or stopped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagemate::{inspect, Dict, ErrorKind, Event, Kind, Manager, Namespace, Origin, Place, Process, Segment};
use proptest::prelude::*;

use crate::support::{until, Random};

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(what: &str) -> String {
    format!("test-dict-{what}-{}", std::process::id())
}

#[test]
fn the_methods_of_a_dict() {
    let dict = Dict::<str, [u8]>::new().unwrap();
    assert!(dict.is_empty().unwrap());
    assert!(dict.insert("a", b"1").unwrap() && !dict.insert("a", b"one, and longer").unwrap());
    assert_eq!(dict.get("a").unwrap().unwrap(), b"one, and longer");
    assert_eq!(dict.get_with("a", <[u8]>::len).unwrap(), Some(15));
    assert!(dict.contains_key("a").unwrap() && !dict.contains_key("b").unwrap());
    assert_eq!(dict.get_or_insert_with("b", || vec![2]).unwrap(), [2]);
    assert_eq!(dict.get_or_insert_with("b", || vec![3]).unwrap(), [2]);
    assert_eq!(dict.update("b", |old| old.map(|old| [old, &[9]].concat())).unwrap(), Some(vec![2, 9]));
    assert_eq!(dict.update("c", |_| None).unwrap(), None);
    assert_eq!(dict.compare_exchange("b", Some(&[2]), None).unwrap(), Err(Some(vec![2, 9])));
    assert_eq!(dict.compare_exchange("b", Some(&[2, 9]), None).unwrap(), Ok(()));
    dict.extend([("x", &b"8"[..]), ("y", b"")]).unwrap();
    let mut keys: Vec<_> = dict.keys().collect::<Result<_, _>>().unwrap();
    keys.sort();
    assert_eq!(keys, ["a", "x", "y"]);
    assert_eq!(dict.values().count(), 3);
    let (key, value) = dict.pop().unwrap().unwrap();
    assert!(keys.contains(&key) && value.len() <= 15);
    assert_eq!(dict.len().unwrap(), 2);
    dict.clear().unwrap();
    assert_eq!((dict.len().unwrap(), dict.iter().count(), dict.pop().unwrap()), (0, 0, None));
}

#[test]
fn placement_and_types() {
    let name = name("place");
    let here = Dict::<u64, char>::create(&name).unwrap();
    here.insert(&1, &'x').unwrap();
    assert_eq!(Dict::<u64, char>::create(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let (there, origin) = Dict::<u64, char>::open_or_create(&name).unwrap();
    assert_eq!((origin, there.get(&1).unwrap()), (Origin::Opened, Some('x')));
    let error = Dict::<u64, [u8]>::open(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("u64 => [u8]") && error.to_string().contains("u64 => char"));
    assert_eq!(Namespace::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let seen = inspect::segment(name.as_str()).unwrap();
    let dict = seen.objects.iter().find(|object| object.info.name.is_empty()).unwrap();
    assert_eq!(dict.state[0], ("entries", "1".to_string()));
}

#[test]
fn a_full_segment_is_an_error_and_changes_nothing() {
    let segment = Segment::new(1 << 21).unwrap();
    let dict = Dict::<u64, [u8]>::create(segment.at("d")).unwrap();
    let mut count = 0;
    let error = loop {
        match dict.insert(&count, &[7; 4000]) {
            Ok(is_new) => assert!(is_new),
            Err(error) => break error,
        }
        count += 1;
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(count > 100 && dict.len().unwrap() as u64 == count && dict.get(&count).unwrap().is_none());
    assert_eq!(dict.remove(&0).unwrap().unwrap(), [7; 4000]);
    assert!(dict.insert(&count, &[8; 4000]).unwrap(), "what was freed is used again");
}

#[test]
fn two_processes_read_each_others_keys() {
    const KEYS: u64 = if cfg!(debug_assertions) { 20_000 } else { 500_000 };
    let dict = Dict::<u64, u64>::new().unwrap();
    let body = |(dict, first): (Dict<u64, u64>, u64)| {
        (0..KEYS).for_each(|i| assert!(dict.insert(&(2 * i + first), &(i * 7)).unwrap()));
        let other = 1 - first;
        for i in 0..KEYS {
            until("the other's key is there", || dict.get(&(2 * i + other)).unwrap() == Some(i * 7));
        }
    };
    let children = [0, 1].map(|first| Process::spawn(body, (dict.clone(), first)).unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(dict.len().unwrap() as u64, 2 * KEYS);
    let twin: HashMap<u64, u64> = (0..2 * KEYS).map(|key| (key, key / 2 * 7)).collect();
    assert_eq!(dict.iter().collect::<Result<HashMap<_, _>, _>>().unwrap(), twin);
}

/// Returns a text of words of very different frequency.
fn text(seed: u64) -> impl Iterator<Item = String> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let scale = 1 << (state >> 60);
        format!("word{}", (state >> 33) % scale * (state >> 59 & 1) + scale)
    })
    .take(if cfg!(debug_assertions) { 4_000 } else { 200_000 })
}

#[test]
fn four_processes_count_words() {
    let dict = Dict::<str, u64>::new().unwrap();
    let body = |(dict, seed): (Dict<str, u64>, u64)| {
        for word in text(seed) {
            dict.update(&word, |count| Some(count.map_or(1, |count| count + 1))).unwrap();
        }
    };
    let children = [1, 2, 3, 4].map(|seed| Process::spawn(body, (dict.clone(), seed)).unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
    let mut twin = HashMap::new();
    (1..=4).flat_map(text).for_each(|word| *twin.entry(word).or_insert(0u64) += 1);
    assert_eq!(dict.iter().collect::<Result<HashMap<_, _>, _>>().unwrap(), twin);
}

/// Returns whether a value is of one letter, as all values are.
fn is_whole(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| *byte == value[0])
}

/// Replaces, removes and inserts for ever.
fn churn((dict, started): (Dict<u64, [u8]>, Event)) {
    for round in 0u64.. {
        let key = round * 7 % 50;
        let letter = (round % 251) as u8;
        dict.insert(&key, &vec![letter; 1 + (round % 60) as usize]).unwrap();
        dict.remove(&((round * 3 + 1) % 50)).unwrap();
        started.set();
    }
}

#[test]
fn writers_killed_at_random_moments_leave_the_old_or_the_new() {
    let mut random = Random::new();
    let dict = Dict::<u64, [u8]>::new().unwrap();
    for _ in 0..60 {
        let started = Event::new().unwrap();
        let victim = Process::spawn(churn, (dict.clone(), started.clone())).unwrap();
        assert!(started.wait_timeout(LONG));
        random.moment(Duration::from_micros(300));
        victim.kill().unwrap();
        assert!(victim.join().is_err());
        for key in 0..50 {
            if let Some(value) = dict.get(&key).unwrap() {
                assert!(is_whole(&value), "half a value: {value:?}");
            }
            dict.insert(&key, &[b'x'; 20]).unwrap();
            assert_eq!(dict.get(&key).unwrap().unwrap(), [b'x'; 20]);
        }
        assert_eq!(dict.len().unwrap(), 50);
    }
}

#[test]
fn a_writer_of_another_key_does_not_starve_readers_of_a_large_value() {
    let dict = Dict::<u64, [u8]>::new().unwrap();
    let large = vec![7; 16 << 20];
    dict.insert(&0, &large).unwrap();
    let beside = (1..).find(|key| dict.shares_part(&0, key)).unwrap();
    let (done, writer) = (AtomicBool::new(false), dict.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                writer.insert(&beside, &n.to_le_bytes().repeat(1 + n as usize % 3)).unwrap();
            }
        });
        for _ in 0..20 {
            assert!(dict.get(&0).unwrap().unwrap() == large);
            assert!(dict.iter().any(|entry| entry.unwrap().1 == large));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Returns the number of blocks of the manager's heap that are in use.
fn blocks(place: &Place) -> u64 {
    let _reaper = Manager::open(place.clone()).unwrap();
    let seen = inspect::segment(place.clone()).unwrap();
    let states = seen
        .objects
        .iter()
        .filter(|object| object.info.kind == Some(Kind::Heap))
        .flat_map(|object| &object.state);
    states.filter(|(what, _)| *what == "blocks in use").map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_value_in_place_stays_until_its_guard_is_dropped() {
    let place = Place::from(name("guard"));
    let manager = Manager::create(place.clone()).unwrap();
    let dict = manager.dict::<str, [u8]>("d").unwrap();
    let texts = manager.dict::<u64, str>("texts").unwrap();
    let pairs = manager.dict::<u64, [u32; 4]>("pairs").unwrap();
    dict.insert("a", &[1; 5000]).unwrap();
    texts.insert(&1, "a text of some length").unwrap();
    pairs.insert(&1, &[7; 4]).unwrap();
    let before = blocks(&place);
    let (one, two) = (dict.get_ref("a").unwrap().unwrap(), dict.get_ref("a").unwrap().unwrap());
    assert!(std::ptr::eq(&*one, &*two), "it is not copied");
    let (text, pair) = (texts.get_ref(&1).unwrap().unwrap(), pairs.get_ref(&1).unwrap().unwrap());
    for n in 2..50 {
        dict.insert("a", &[n; 5000]).unwrap();
        texts.insert(&1, "another").unwrap();
        pairs.insert(&1, &[n.into(); 4]).unwrap();
    }
    assert!(dict.remove("a").unwrap().is_some());
    assert!(dict.get_ref("a").unwrap().is_none());
    assert_eq!(
        (&*one, &*two, &*text, *pair),
        (&[1; 5000][..], &[1; 5000][..], "a text of some length", [7; 4])
    );
    drop(one);
    assert_eq!(two[4999], 1);
    drop((two, text, pair));
    assert_eq!(blocks(&place), before - 1, "the entry that was removed");
}

#[test]
fn any_number_of_guards() {
    let dict = Dict::<u64, [u8]>::new().unwrap();
    (0..300).for_each(|key| _ = dict.insert(&key, &[key as u8; 100]).unwrap());
    dict.insert(&999, b"small").unwrap();
    let guards: Vec<_> = (0..300).map(|key| dict.get_ref(&key).unwrap().unwrap()).collect();
    let small = dict.get_ref(&999).unwrap().unwrap();
    (0..300).for_each(|key| _ = dict.insert(&key, &[0; 100]).unwrap());
    dict.insert(&999, b"SMALL").unwrap();
    assert!(guards.iter().enumerate().all(|(key, value)| **value == [key as u8; 100]));
    assert_eq!(&*small, b"small");
}

#[test]
fn a_guard_of_the_dead_is_released() {
    let place = Place::from(name("dead-guard"));
    let manager = Manager::create(place.clone()).unwrap();
    let dict = manager.dict::<u64, [u8]>("d").unwrap();
    dict.insert(&1, &[1; 5000]).unwrap();
    let before = blocks(&place);
    let holds = Event::new().unwrap();
    let hold = |(dict, holds): (Dict<u64, [u8]>, Event)| {
        let guard = dict.get_ref(&1).unwrap().unwrap();
        holds.set();
        while !guard.is_empty() {
            assert!(*guard == [1; 5000]);
        }
    };
    let victim = Process::spawn(hold, (dict.clone(), holds.clone())).unwrap();
    assert!(holds.wait_timeout(LONG));
    dict.insert(&1, &[2; 5000]).unwrap();
    assert_eq!(blocks(&place), before + 1, "a reader has it in place");
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    until("the block is free", || blocks(&place) == before);
}

#[test]
fn values_in_place_are_whole_while_others_replace_them() {
    let dict = Dict::<u64, [u8]>::new().unwrap();
    let (started, stop) = (Event::new().unwrap(), Event::new().unwrap());
    let read = |(dict, started, stop): (Dict<u64, [u8]>, Event, Event)| {
        let mut seen = 0u64;
        started.set();
        while !stop.is_set() {
            let guards: Vec<_> = (0..50).filter_map(|key| dict.get_ref(&key).unwrap()).collect();
            assert!(guards.iter().all(|value| is_whole(value)));
            assert!(guards.iter().all(|value| is_whole(value)), "and stays so");
            seen += guards.len() as u64;
        }
        seen
    };
    let writer = Process::spawn(churn, (dict.clone(), started.clone())).unwrap();
    assert!(started.wait_timeout(LONG));
    let readers = [(); 2].map(|()| {
        let started = Event::new().unwrap();
        let reader = Process::spawn(read, (dict.clone(), started.clone(), stop.clone())).unwrap();
        assert!(started.wait_timeout(LONG));
        reader
    });
    until("much is written", || dict.get(&49).unwrap().is_some());
    (0..20_000).for_each(|n| _ = dict.insert(&(n % 50), &[b'x'; 20]).unwrap());
    stop.set();
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    writer.kill().unwrap();
    assert!(writer.join().is_err());
}

#[test]
fn a_stopped_writer_blocks_no_reader() {
    let mut random = Random::new();
    let dict = Dict::<u64, [u8]>::new().unwrap();
    dict.insert(&1000, b"here").unwrap();
    let started = Event::new().unwrap();
    let victim = Process::spawn(churn, (dict.clone(), started.clone())).unwrap();
    assert!(started.wait_timeout(LONG));
    let pid = victim.pid() as i32;
    let impatient = dict.with_write_timeout(Duration::ZERO);
    let mut refused = 0;
    for _ in 0..100 {
        random.moment(Duration::from_micros(200));
        // SAFETY: the pid is that of our child, which we have not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        for key in 0..50 {
            assert!(dict.get(&key).unwrap().is_none_or(|value| is_whole(&value)));
        }
        assert!(dict.get(&1000).unwrap().is_none_or(|value| value == b"here"));
        assert!(dict.iter().all(|entry| entry.is_ok()));
        // Writes to the same shard, one in 64, are refused at once. All others succeed.
        for key in 2000..2100 {
            match impatient.insert(&key, b"mine") {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        // The stopped writer does not delay a process that takes any entry.
        let taken = (0..60).filter(|_| dict.pop().unwrap().is_some()).count();
        assert_eq!(taken, 60);
        match impatient.insert(&1000, b"here") {
            Err(error) if error.kind() != ErrorKind::TimedOut => panic!("{error}"),
            _ => {}
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0);
    }
    assert!(refused < 100 * 50, "{refused} refused");
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    (2000..2100).for_each(|key| _ = dict.insert(&key, b"mine").unwrap());
}

#[test]
fn a_namespace_goes_to_a_child() {
    let space = Namespace::new().unwrap();
    space.set("count", &7u64).unwrap();
    let body = |space: Namespace| {
        assert_eq!(space.get::<u64>("count").unwrap(), Some(7));
        space.set::<str>("count", "eight").unwrap();
        space.set::<[u8]>("bytes", &[1, 2]).unwrap();
    };
    Process::spawn(body, space.clone()).unwrap().join().unwrap();
    let error = space.get::<u64>("count").unwrap_err();
    assert!(error.to_string().contains("u64") && error.to_string().contains("str"), "{error}");
    assert_eq!(space.get::<str>("count").unwrap().unwrap(), "eight");
    assert_eq!(space.type_of("bytes").unwrap().unwrap(), "[u8]");
    assert!(space.remove("bytes").unwrap() && !space.remove("bytes").unwrap());
    assert_eq!(space.names().unwrap(), ["count"]);
    space.with_write_timeout(LONG).clear().unwrap();
    assert_eq!((space.names().unwrap().len(), space.type_of("count").unwrap()), (0, None));
}

#[test]
fn in_a_manager() {
    let manager = Manager::new().unwrap();
    manager.dict::<str, u64>("d").unwrap().insert("a", &1).unwrap();
    manager.namespace("n").unwrap().set("b", &2u8).unwrap();
    manager.value("v", 3u64).unwrap().set(4).unwrap();
    manager.array("a", 5, 0u16).unwrap().set(4, 6).unwrap();
    manager.queue("q", 2).unwrap().send(7u32).unwrap();
    let body = |manager: Manager| {
        assert_eq!(manager.dict::<str, u64>("d").unwrap().remove("a").unwrap(), Some(1));
        assert_eq!(manager.namespace("n").unwrap().get::<u8>("b").unwrap(), Some(2));
        assert_eq!(manager.dict::<str, u8>("d").unwrap_err().kind(), ErrorKind::TypeMismatch);
        assert_eq!(manager.value("v", 0u64).unwrap().get(), Ok(4));
        let array = manager.array("a", 1, 0u16).unwrap();
        assert_eq!((array.len(), array.get(4).unwrap()), (5, Some(6)));
        assert_eq!(manager.queue::<u32>("q", 1).unwrap().recv(), Ok(7));
    };
    Process::spawn(body, manager.clone()).unwrap().join().unwrap();
    assert!(manager.dict::<str, u64>("d").unwrap().is_empty().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_a_hash_map(
        ops in proptest::collection::vec((0..6u8, ".{0,12}", 0..4usize, any::<u64>()), 0..300),
    ) {
        let segment = Segment::new(1 << 22).unwrap();
        let text = Dict::<str, str>::create(segment.at("text")).unwrap();
        let numbers = Dict::<u64, u64>::create(segment.at("numbers")).unwrap();
        let (mut text_twin, mut twin) = (HashMap::new(), HashMap::new());
        for (op, word, repeat, number) in ops {
            let (key, long) = (number % 20, word.repeat(repeat));
            match op {
                0..=2 => {
                    prop_assert_eq!(
                        text.insert(&word, &long).unwrap(),
                        text_twin.insert(word, long).is_none()
                    );
                    prop_assert_eq!(
                        numbers.insert(&key, &number).unwrap(),
                        twin.insert(key, number).is_none()
                    );
                }
                3 => {
                    prop_assert_eq!(text.remove(&word).unwrap(), text_twin.remove(&word));
                    prop_assert_eq!(numbers.remove(&key).unwrap(), twin.remove(&key));
                }
                4 => {
                    let popped = numbers.pop().unwrap();
                    prop_assert_eq!(
                        popped.map(|(_, value)| value),
                        popped.and_then(|(key, _)| twin.remove(&key))
                    );
                }
                _ => {
                    prop_assert_eq!(text.get(&word).unwrap(), text_twin.get(&word).cloned());
                    prop_assert_eq!(numbers.get(&key).unwrap(), twin.get(&key).copied());
                }
            }
            prop_assert_eq!(numbers.len().unwrap(), twin.len());
        }
        prop_assert_eq!(text.iter().collect::<Result<HashMap<_, _>, _>>().unwrap(), text_twin);
        prop_assert_eq!(numbers.iter().collect::<Result<HashMap<_, _>, _>>().unwrap(), twin);
    }
}

fn in_and_out((dict, started): (Dict<u64, u64>, Event)) {
    loop {
        dict.insert(&1, &7).unwrap();
        dict.remove(&1).unwrap();
        started.set();
    }
}

fn counts_after_deaths((): ()) {
    for round in 0..100 {
        let (dict, started) = (Dict::<u64, u64>::new().unwrap(), Event::new().unwrap());
        let child = Process::spawn(in_and_out, (dict.clone(), started.clone())).unwrap();
        assert!(started.wait_timeout(Duration::from_secs(60)));
        (0..round * 37 % 4_000).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        assert!(child.join().is_err());
        // Nobody has reaped it.
        let (len, keys) = (dict.len().unwrap(), dict.keys().count());
        assert_eq!(len, keys, "round {round}: {:?}", dict.get(&1));
    }
}

#[test]
fn the_first_to_count_after_a_death_counts_right() {
    // In a process that starts nothing else. Another thread's program that has not come to its exec
    // would keep a dead child's lock a little longer.
    Process::spawn(counts_after_deaths, ()).unwrap().join().unwrap();
}

/// Returns a directory on a file system that has unnamed files: that of the working directory,
/// because a disk is wanted.
fn disk() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Counts rounds for ever. It stores each in the value of one key and, before that, in the length
/// of another value.
fn counts((name, started): (String, Event)) {
    let manager = Manager::open(Place::in_dir(disk(), name)).unwrap();
    let numbers = manager.dict::<u64, u64>("numbers").unwrap();
    let texts = manager.dict::<str, [u8]>("texts").unwrap();
    for round in numbers.get(&0).unwrap().unwrap_or(0).. {
        numbers.insert(&(1 + round % 500), &round).unwrap();
        texts
            .insert(&format!("key {}", round % 70), &vec![(round % 251) as u8 + 1; 1 + round as usize % 99])
            .unwrap();
        texts.remove(&format!("key {}", (round + 35) % 70)).unwrap();
        numbers.insert(&0, &(round + 1)).unwrap();
        started.set();
    }
}

#[test]
fn a_dict_on_disk_outlasts_all_processes() {
    let name = name("disk");
    let place = Place::in_dir(disk(), name.as_str()).persistent().reserve(1 << 28);
    drop(Manager::create(place.clone()).unwrap());
    let (mut random, mut least) = (Random::new(), 0);
    for _ in 0..10 {
        let started = Event::new().unwrap();
        let child = Process::spawn(counts, (name.clone(), started.clone())).unwrap();
        assert!(started.wait_timeout(LONG));
        random.moment(Duration::from_millis(1));
        child.kill().unwrap();
        assert!(child.join().is_err());
        // Nobody is attached now, so only the file is left.
        let manager = Manager::open(place.clone()).unwrap();
        let numbers = manager.dict::<u64, u64>("numbers").unwrap();
        let texts = manager.dict::<str, [u8]>("texts").unwrap();
        let rounds = numbers.get(&0).unwrap().unwrap();
        assert!(rounds > least, "{rounds} after {least}");
        for key in 0..rounds.min(500) {
            let last = numbers.get(&(1 + key)).unwrap().unwrap();
            // The interrupted round may have been written or not.
            let expected = (rounds - 1 - key) / 500 * 500 + key;
            assert!(last == expected || last == rounds, "{key}: {last} of {rounds}");
        }
        assert!(texts.iter().all(|entry| is_whole(&entry.unwrap().1)));
        assert_eq!(texts.len().unwrap(), texts.keys().count());
        assert_eq!(numbers.len().unwrap(), numbers.keys().count());
        least = rounds;
    }
    place.remove().unwrap();
}

/// `TEN_MILLION=1 cargo test --release --test it dict::ten_million`: takes a gigabyte of shared
/// memory.
#[test]
fn ten_million_entries_within_their_bound() {
    let count: u64 = if std::env::var_os("TEN_MILLION").is_some() { 10_000_000 } else { 50_000 };
    let name = name("many");
    let dict = Dict::<u64, u64>::create(&name).unwrap();
    (0..count).for_each(|key| assert!(dict.insert(&key, &!key).unwrap()));
    assert_eq!(dict.len().unwrap() as u64, count);
    (0..count).for_each(|key| assert_eq!(dict.get(&key).unwrap(), Some(!key)));
    let committed = inspect::segment(name.as_str()).unwrap().committed;
    println!("{count} entries: {} bytes each", committed / count);
    // This is the bound in the docs of Dict.
    let bound = count * if count >= 1_000_000 { 107 } else { 150 } + (1 << 20);
    assert!(committed <= bound, "{committed} bytes for {count} entries, more than {bound}");
    assert_eq!(dict.get(&count).unwrap(), None);
}
