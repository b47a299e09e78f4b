//! A writer is killed at random moments. After each death its dict and list equal, byte for byte, a
//! `HashMap` and a `Vec` that saw the same operations: with the interrupted one or without it.

use std::collections::HashMap;
use std::time::Duration;

use pagemate::{Dict, List, Manager, Process, Value};

use crate::support::{until, Random};

const ROUNDS: u64 = if cfg!(debug_assertions) { 60 } else { 400 };

/// Returns a number without a pattern for each operation.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (n ^ n >> 27).wrapping_mul(0x81da_de0c_6f26_7c41) >> 8
}

fn text(number: u64) -> String {
    char::from(b'a' + (number % 26) as u8).to_string().repeat((number / 26 % 70) as usize)
}

/// Does operation number `n` on the dict or the list.
fn act(n: u64, dict: &Dict<u64, [u8]>, list: &List<str>) -> pagemate::Result<()> {
    let number = mixed(n);
    let (key, place, text) = (number % 97, number as usize % (list.len()? + 1), text(number));
    match number >> 20 & 15 {
        0..5 => dict.insert(&key, text.as_bytes()).map(drop),
        5 | 6 => dict.remove(&key).map(drop),
        7 if number >> 24 & 63 == 0 => dict.clear(),
        7 => dict.compare_exchange(&key, None, Some(text.as_bytes())).map(drop),
        8 => list.push(text),
        9 => list.extend([text.as_str(), "", "x"]),
        10 => list.insert(place, text),
        11 if place < list.len()? => list.set(place, text),
        11 => Ok(()),
        12 => list.remove(place).map(drop),
        13 => list.pop().map(drop),
        14 => list.sort(),
        _ if number >> 24 & 15 == 0 => list.clear(),
        _ => Ok(()),
    }
}

/// Does the same on the twins.
fn act_twin(n: u64, dict: &mut HashMap<u64, Vec<u8>>, list: &mut Vec<String>) {
    let number = mixed(n);
    let (key, place, text) = (number % 97, number as usize % (list.len() + 1), text(number));
    match number >> 20 & 15 {
        0..5 => _ = dict.insert(key, text.into_bytes()),
        5 | 6 => _ = dict.remove(&key),
        7 if number >> 24 & 63 == 0 => dict.clear(),
        7 => _ = dict.entry(key).or_insert(text.into_bytes()),
        8 => list.push(text),
        9 => list.extend([text, String::new(), "x".into()]),
        10 => list.insert(place, text),
        11 if place < list.len() => list[place] = text,
        12 if place < list.len() => _ = list.remove(place),
        13 => _ = list.pop(),
        14 => list.sort(),
        12 | 11 => {}
        _ if number >> 24 & 15 == 0 => list.clear(),
        _ => {}
    }
}

fn write((manager, done): (Manager, Value<u64>)) {
    let dict = manager.dict("dict").unwrap();
    let list = manager.list("list").unwrap();
    for n in done.get().unwrap().. {
        act(n, &dict, &list).unwrap();
        done.set(n + 1).unwrap();
    }
}

/// Returns whether this operation clears the dict. That removes one entry after the other, so any
/// of them may be left.
fn clears(n: u64) -> bool {
    let number = mixed(n);
    number >> 20 & 15 == 7 && number >> 24 & 63 == 0
}

#[test]
fn old_or_new_after_each_death() {
    let mut random = Random::new();
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, [u8]>("dict").unwrap();
    let list = manager.list::<str>("list").unwrap();
    let done = Value::<u64>::new(0).unwrap();
    let (mut dict_twin, mut list_twin) = (HashMap::new(), Vec::new());
    let (mut next, mut finished) = (0, 0);
    for round in 0..ROUNDS {
        let child = Process::spawn(write, (manager.clone(), done.clone())).unwrap();
        until("it writes", || done.get().unwrap() > next);
        random.moment(Duration::from_micros(300));
        child.kill().unwrap();
        assert!(child.join().is_err());
        let count = done.get().unwrap();
        (next..count).for_each(|n| act_twin(n, &mut dict_twin, &mut list_twin));
        next = count;
        // After a death a reader may see the old contents until the next writer finishes the
        // change. So this writes.
        list.push("settle").unwrap();
        assert_eq!(list.pop().unwrap().as_deref(), Some("settle"));
        let found: HashMap<_, _> = dict.iter().collect::<Result<_, _>>().unwrap();
        let elements = list.to_vec().unwrap();
        let (old_dict, old_list) = (dict_twin.clone(), list_twin.clone());
        let is_old = found == dict_twin && elements == list_twin;
        act_twin(count, &mut dict_twin, &mut list_twin);
        if clears(count) {
            // Finishes the operation, so that both are equal again.
            assert!(
                found.iter().all(|(key, value)| old_dict.get(key) == Some(value)) && elements == old_list
            );
            act(count, &dict, &list).unwrap();
        } else if is_old && (old_dict != dict_twin || old_list != list_twin) {
            (dict_twin, list_twin) = (old_dict, old_list);
            continue;
        } else {
            assert!(
                found == dict_twin && elements == list_twin,
                "round {round}, operation {count}: neither old nor new (kind {}, dict as before {} as after \
                 {}, list as before {} as after {})",
                mixed(count) >> 20 & 15,
                found == old_dict,
                found == dict_twin,
                elements == old_list,
                elements == list_twin
            );
        }
        // The operation is done, so the next writer does not begin with it.
        finished += 1;
        next = count + 1;
        done.set(next).unwrap();
    }
    println!("{next} operations, {ROUNDS} deaths, {finished} of them after the change");
    assert_eq!(dict.len().unwrap(), dict_twin.len());
}

#[test]
fn twins_without_deaths() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, [u8]>("dict").unwrap();
    let list = manager.list::<str>("list").unwrap();
    let (mut dict_twin, mut list_twin) = (HashMap::new(), Vec::new());
    for n in 0..17000 {
        act(n, &dict, &list).unwrap();
        act_twin(n, &mut dict_twin, &mut list_twin);
        let elements = list.to_vec().unwrap();
        assert!(
            elements == list_twin,
            "operation {n} kind {} len {} {}",
            mixed(n) >> 20 & 15,
            elements.len(),
            list_twin.len()
        );
    }
}
