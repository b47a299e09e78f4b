//! Arrays between threads and processes: single elements, the whole under its lock, deaths of lock
//! holders, panics and damaged bytes.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pagemate::collections::ArrayGuard;
use pagemate::sync::LockError;
use pagemate::{inspect, Array, ErrorKind, Event, Origin, Process, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn name(what: &str) -> String {
    format!("test-array-{what}-{}", std::process::id())
}

#[test]
fn elements() {
    let array = Array::new(5, 1_u16).unwrap();
    assert_eq!((array.len(), array.is_empty(), array.is_locked()), (5, false, false));
    assert_eq!((array.set(4, 9), array.get(4), array.get(3)), (Ok(Some(1)), Ok(Some(9)), Ok(Some(1))));
    assert_eq!((array.set(5, 9), array.get(5), array.get(usize::MAX)), (Ok(None), Ok(None), Ok(None)));
    array.lock().unwrap().copy_from_slice(&[5, 4, 3, 2, 1]);
    array.with_lock(|elements| elements.sort()).unwrap();
    assert_eq!(array.to_vec(), Ok(vec![1, 2, 3, 4, 5]));
    let empty = Array::new(0, 1_u16).unwrap();
    assert_eq!((empty.get(0), empty.to_vec(), empty.is_empty()), (Ok(None), Ok(vec![]), true));
    assert_eq!(Array::new(usize::MAX, 1_u16).unwrap_err().kind(), ErrorKind::InvalidInput);
    let wide = Array::new(3, 1_u128).unwrap();
    wide.set(2, u128::MAX).unwrap();
    assert_eq!(wide.to_vec(), Ok(vec![1, 1, u128::MAX]));
}

#[test]
fn the_lock_excludes() {
    let array = Array::new(2, 1_u64).unwrap();
    let guard = array.lock().unwrap();
    assert_eq!(ArrayGuard::array(&guard).len(), 2);
    assert!(array.is_locked() && array.try_lock().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(array.lock_timeout(SHORT).unwrap_err().is_not_acquired() && begin.elapsed() >= SHORT);
    assert!(array.lock_deadline(Instant::now()).unwrap_err().is_not_acquired());
    std::thread::scope(|scope| {
        let other = scope.spawn(|| array.get(0));
        drop(guard);
        assert_eq!(other.join().unwrap(), Ok(Some(1)));
    });
    drop((array.try_lock().unwrap(), format!("{array:?}")));
    drop((array.lock_timeout(LONG).unwrap(), array.clone()));
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let array = Array::create(segment.at("a"), 3, 7_u8).unwrap();
    assert_eq!(Array::create(segment.at("a"), 3, 7_u8).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Array::<i8>::open(segment.at("a")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(Array::<u8>::open(segment.at("b")).unwrap_err().kind(), ErrorKind::NotFound);
    let (same, origin) = Array::open_or_create(Segment::open(&name).unwrap().at("a"), 99, 0_u8).unwrap();
    assert_eq!((origin, same.len()), (Origin::Opened, 3));
    same.set(0, 1).unwrap();
    assert_eq!(array.to_vec(), Ok(vec![1, 7, 7]));
    let seen = inspect::segment(name.as_str()).unwrap();
    assert_eq!(seen.objects[0].state[0], ("elements", "3".to_string()));
}

fn counts((array, rounds): (Array<u64>, u64)) {
    for _ in 0..rounds {
        let mut guard = array.lock().unwrap();
        assert!(guard.iter().all(|number| *number == guard[0]), "half of a change: {guard:?}");
        guard.iter_mut().for_each(|number| *number += 1);
        drop(guard);
        assert!(array.get(2).unwrap() >= Some(1));
    }
}

#[test]
fn processes_count_together() {
    let array = Array::new(20, 0).unwrap();
    let children = [(); 3].map(|_| Process::spawn(counts, (array.clone(), 2_000)).unwrap());
    counts((array.clone(), 2_000));
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(array.to_vec(), Ok(vec![8_000; 20]));
}

#[test]
fn owner_died_is_returned_until_a_holder_repairs() {
    let (array, here) = (Array::new(3, 1_u64).unwrap(), Event::new().unwrap());
    let child = Forked::run(|| {
        let mut guard = array.lock().unwrap();
        guard[0] = 9;
        here.set();
        Event::new().unwrap().wait();
        drop(guard);
        0
    });
    assert!(here.wait_timeout(LONG));
    child.signal(libc::SIGSTOP);
    assert!(
        array.lock_timeout(Duration::from_millis(300)).unwrap_err().is_not_acquired(),
        "stopped, not dead"
    );
    child.kill();
    child.wait();
    assert_eq!(array.get(0), Err(LockError::OwnerDied(Some(9))));
    assert_eq!(array.set(0, 2), Err(LockError::OwnerDied(Some(9))));
    assert_eq!(array.to_vec(), Err(LockError::OwnerDied(vec![2, 1, 1])));
    assert!(array.with_lock(|_| unreachable!()).unwrap_err().is_owner_died());
    let mut guard = array.lock().unwrap_err().into_guard().unwrap();
    guard.fill(3);
    ArrayGuard::mark_consistent(&mut guard);
    drop(guard);
    assert_eq!(array.to_vec(), Ok(vec![3; 3]));
}

#[test]
fn a_panic_poisons() {
    let array = Array::new(2, 'a').unwrap();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _guard = array.lock().unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err() && array.is_poisoned());
    assert_eq!(array.get(1), Err(LockError::Poisoned(Some('a'))));
    array.clear_poison();
    assert_eq!(array.get(1), Ok(Some('a')));
}

#[test]
fn any_bytes_are_survivable() {
    let name = name("damage");
    let array = Array::create(&name, 3, 'a').unwrap();
    let object = damage::Object::find(&name, &[0, 3, 0x61 << 32 | 0x61]);
    damage::each(16 + 12, move |offset, byte| {
        object.set(offset, byte);
        let _ = (array.get(0), array.get(2), array.set(1, 'b'), array.to_vec());
        drop((Array::<char>::open(&name), inspect::segment(name.as_str()), array.lock_timeout(SHORT)));
        drop(array.reset('a').unwrap());
        assert_eq!(array.to_vec(), Ok(vec!['a'; 3]));
        object.set(8, 3);
        (9..16).for_each(|offset| object.set(offset, 0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_a_vector(
        len in 0..6usize,
        ops in proptest::collection::vec((0..4u8, 0..8usize, any::<u32>()), 0..60),
    ) {
        let array = Array::new(len, 7).unwrap();
        let mut twin = vec![7; len];
        for (op, index, value) in ops {
            match op {
                0 => prop_assert_eq!(array.get(index), Ok(twin.get(index).copied())),
                1 => {
                    let before = twin.get_mut(index).map(|element| std::mem::replace(element, value));
                    prop_assert_eq!(array.set(index, value), Ok(before));
                }
                2 => {
                    array.lock().unwrap().reverse();
                    twin.reverse();
                }
                _ => {
                    array.with_lock(|elements| elements.fill(value)).unwrap();
                    twin.fill(value);
                }
            }
            prop_assert_eq!(array.to_vec(), Ok(twin.clone()));
        }
    }
}
