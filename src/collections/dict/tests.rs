//! Tests of one shard in one thread, compared with a `HashMap`, also if a writer dies after any
//! step of a change.

use std::cell::Cell;
use std::collections::HashMap;

use super::arena::{Arena, Mortal};
use super::read::{collect, get};
use super::shard::{Shard, STEPS};
use super::write::Writer;

fn bytes(bytes: super::read::Bytes<'_>) -> Vec<u8> {
    let mut copy = Vec::new();
    bytes.append_to(&mut copy);
    copy
}

/// Returns one of 13 hashes, so that hashes collide.
fn hash(key: &[u8]) -> u64 {
    super::hash::hash(3, key) % 13
}

#[test]
fn like_a_hash_map() {
    let (shard, arena) = (Shard::new(), Arena::new(60));
    let writer = Writer { shard: &shard, store: &arena };
    let mut twin: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut random = 1u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for _ in 0..20_000 {
        let key = vec![7; next(30) as usize];
        let value = vec![next(256) as u8; next(40) as usize];
        if next(500) == 0 {
            writer.clear().unwrap();
            twin.clear();
            assert_eq!(arena.in_use(), 0, "the table is freed, too");
        }
        match next(8) {
            0..=3 => {
                let was_missing = writer.put(hash(&key), &key, &value).unwrap();
                assert_eq!(was_missing, twin.insert(key, value).is_none());
            }
            4..=6 => assert_eq!(writer.remove(hash(&key), &key, bytes).unwrap(), twin.remove(&key)),
            _ => {
                if let Some((key, value)) = writer.pop(|key, value| (bytes(key), bytes(value))).unwrap() {
                    assert_eq!(twin.remove(&key), Some(value));
                }
            }
        }
        let key = vec![7; next(30) as usize];
        assert_eq!(get(&shard, &arena, hash(&key), &key, bytes).unwrap().as_ref(), twin.get(&key));
        assert_eq!(shard.count(), twin.len() as u64);
        assert_eq!(arena.in_use(), twin.len() + usize::from(shard.table().unwrap().is_some()));
    }
    let all = collect(&shard, &arena, |key, value| (bytes(key), bytes(value))).unwrap();
    assert_eq!(all.len(), twin.len());
    assert_eq!(all.into_iter().collect::<HashMap<_, _>>(), twin);
}

/// Like the test above, but each writer may die after any step of its change. Then the old value is
/// there or the new one. The next writer finds everything else unchanged, and no leaked block.
#[test]
fn like_a_hash_map_whose_writers_die() {
    let (shard, arena) = (Shard::new(), Arena::new(60));
    let mut twin: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut random = 7u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    let mut deaths = [0; 2];
    for _ in 0..20_000 {
        let key = vec![7; next(30) as usize];
        let value = vec![next(256) as u8; next(40) as usize];
        let steps = Cell::new(next(4 * STEPS as u32) as usize);
        let victim = Mortal { arena: &arena, steps };
        shard.finish_pending(&arena);
        let writer = Writer { shard: &shard, store: &victim };
        let before = twin.get(&key).cloned();
        let after = match next(8) {
            0..=4 => {
                // A writer that died between the growth of the table and the entry may find no
                // bucket for it.
                _ = writer.put(hash(&key), &key, &value);
                Some(value)
            }
            5..=6 => {
                _ = writer.remove(hash(&key), &key, bytes);
                None
            }
            // Removes one entry after the other, until it dies.
            _ if next(50) == 0 => {
                while victim.steps.get() > 0 && writer.pop(|_, _| ()).unwrap().is_some() {}
                let left = collect(&shard, &arena, |key, value| (bytes(key), bytes(value))).unwrap();
                assert!(left.iter().all(|(key, value)| twin.get(key) == Some(value)));
                twin = left.into_iter().collect();
                twin.get(&key).cloned()
            }
            _ => before.clone(),
        };
        let died = victim.steps.get() == 0;
        arena.reap();
        let there = get(&shard, &arena, hash(&key), &key, bytes).unwrap();
        assert!(there == after || (died && there == before), "{there:?} is neither the old nor the new");
        if died {
            deaths[usize::from(there == after)] += 1;
        }
        match &there {
            Some(value) => _ = twin.insert(key.clone(), value.clone()),
            None => _ = twin.remove(&key),
        }
        shard.finish_pending(&arena);
        assert_eq!(get(&shard, &arena, hash(&key), &key, bytes).unwrap(), there, "what was seen stays");
        assert_eq!(shard.count(), twin.len() as u64);
        assert_eq!(arena.in_use(), twin.len() + usize::from(shard.table().unwrap().is_some()));
    }
    let all = collect(&shard, &arena, |key, value| (bytes(key), bytes(value))).unwrap();
    assert_eq!(all.into_iter().collect::<HashMap<_, _>>(), twin);
    assert!(deaths.iter().all(|deaths| *deaths > 500), "{deaths:?}: before the change, and after");
}

#[test]
fn full_memory_changes_nothing() {
    let (shard, arena) = (Shard::new(), Arena::new(5));
    let writer = Writer { shard: &shard, store: &arena };
    let mut count = 0u8;
    while writer.put(u64::from(count), &[count], b"value of two words").is_ok() {
        count += 1;
    }
    assert_eq!((count, arena.in_use()), (4, 5));
    assert!(writer.put(0, &[0], b"another of two words").is_err());
    assert_eq!(get(&shard, &arena, 0, &[0], bytes).unwrap().unwrap(), b"value of two words");
    assert_eq!(writer.remove(0, &[0], bytes).unwrap().unwrap(), b"value of two words");
    assert!(writer.put(9, b"k", b"v").unwrap());
}

#[test]
fn damage_is_an_error() {
    let (shard, arena) = (Shard::new(), Arena::new(9));
    let writer = Writer { shard: &shard, store: &arena };
    writer.put(1, b"k", b"v").unwrap();
    let good = shard.table.load(std::sync::atomic::Ordering::Relaxed);
    for bad in [u64::MAX, good | 63 << 34, good & !0xffff | 0xfff0, 7 << 34 | 0xffff_fff0] {
        shard.table.store(bad, std::sync::atomic::Ordering::Relaxed);
        assert!(
            get(&shard, &arena, 1, b"k", bytes).is_err() && writer.put(1, b"k", b"v").is_err(),
            "{bad:#x}"
        );
        assert!(collect(&shard, &arena, |_, _| ()).is_err() && writer.pop(|_, _| ()).is_err());
        shard.finish_pending(&arena);
    }
}

/// The word of a table is damaged: it names a table that is larger than its block, or that begins
/// in the middle of it.
#[cfg(not(loom))]
#[test]
fn an_observer_takes_no_other_memory_for_a_table() {
    use crate::loom::atomic::Ordering::Relaxed;
    let name = format!("dict-observed-{}", std::process::id());
    let manager = crate::Manager::create(name.as_str()).unwrap();
    let dict = manager.dict::<u64, u64>("dict").unwrap();
    (0..1000).for_each(|key| _ = dict.insert(&key, &key).unwrap());
    let keys = |most| {
        crate::inspect::contents(name.as_str(), "dict", most, 8).map(|seen| seen.unwrap().entries.len())
    };
    let item = |key: u64| crate::inspect::item(name.as_str(), "dict", &key.to_string());
    assert_eq!(keys(2000).unwrap(), 1000);
    for more in [1 << 34, 10 << 34, 1u64.wrapping_sub(1 << 34)] {
        for shard in dict.shards() {
            shard.table.fetch_add(more, Relaxed);
        }
        assert_eq!(keys(2000).unwrap_err().kind(), crate::ErrorKind::Corrupted);
        let begin = std::time::Instant::now();
        (0..100).for_each(|key| _ = item(key));
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
        for shard in dict.shards() {
            shard.table.fetch_sub(more, Relaxed);
        }
    }
    assert_eq!(keys(2000).unwrap(), 1000);
}
