//! Values, small and large, between threads and processes: writers that die, are stopped or panic,
//! and damaged bytes.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pagemate::collections::ValueError;
use pagemate::{inspect, ErrorKind, Event, Mutex, Origin, Process, Segment, Value};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked::Forked;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

type Large = [u64; 9];

fn name(what: &str) -> String {
    format!("test-value-{what}-{}", std::process::id())
}

fn get_set_update<T: pagemate::Message + PartialEq + std::fmt::Debug>(values: [T; 3]) {
    let [a, b, c] = values;
    let value = Value::new(a).unwrap();
    assert_eq!(value.get(), Ok(a));
    value.set(b).unwrap();
    assert_eq!((value.get(), value.clone().get()), (Ok(b), Ok(b)));
    value.try_set(a).unwrap();
    value.set_timeout(c, Duration::ZERO).unwrap();
    value.set_deadline(a, Instant::now()).unwrap();
    assert_eq!(value.update(|before| if before == a { b } else { c }), Ok(a));
    assert_eq!((value.try_update(|_| c), value.update_timeout(SHORT, |_| a)), (Ok(b), Ok(c)));
    assert_eq!(value.update_deadline(Instant::now(), |_| b), Ok(a));
    assert_eq!(value.compare_exchange(a, c), Ok(Err(b)));
    assert_eq!((value.compare_exchange(b, c), value.try_compare_exchange(c, a)), (Ok(Ok(())), Ok(Ok(()))));
    assert_eq!(format!("{value:?}"), format!("Value({a:?})"));
}

#[test]
fn of_every_size() {
    get_set_update([1_u8, 2, 255]);
    get_set_update([-1_i16, 2, i16::MIN]);
    get_set_update([1.5_f32, -0.0, f32::MAX]);
    get_set_update([[1_u8, 2, 3], [4, 5, 6], [7, 8, 9]]);
    get_set_update(['a', 'ö', '\u{10ffff}']);
    get_set_update([[1_u8; 8], [2; 8], [3; 8]]);
    get_set_update([u128::MAX, 1, 1 << 64]);
    get_set_update([[1_u8; 13], [2; 13], [3; 13]]);
    get_set_update([[1_u64; 1000], [2; 1000], [3; 1000]]);
    let nothing = Value::new(()).unwrap();
    nothing.set(()).unwrap();
    assert_eq!((nothing.get(), nothing.compare_exchange((), ())), (Ok(()), Ok(Ok(()))));
}

#[test]
fn integers_count() {
    let value = Value::new(250_u8).unwrap();
    assert_eq!((value.fetch_add(10), value.load()), (250, 4), "it wraps");
    assert_eq!((value.fetch_sub(5), value.load()), (4, 255));
    assert_eq!((value.fetch_and(0x0f), value.fetch_or(0x30), value.fetch_xor(0x11)), (255, 15, 0x3f));
    assert_eq!((value.fetch_max(3), value.fetch_min(9), value.swap(7)), (0x2e, 0x2e, 9));
    value.store(1);
    assert_eq!((value.load(), value.get()), (1, Ok(1)));
    let signed = Value::new(-3_i64).unwrap();
    assert_eq!((signed.fetch_max(-5), signed.fetch_min(-9), signed.load()), (-3, -3, -9));
}

#[test]
fn placement() {
    let name = name("place");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let value = Value::create(segment.at("large"), [3_u64; 3]).unwrap();
    assert_eq!(Value::create(segment.at("large"), 1_u8).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Value::<[i64; 3]>::open(segment.at("large")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(Mutex::<[u64; 3]>::open(segment.at("large")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(Value::<u8>::open(segment.at("small")).unwrap_err().kind(), ErrorKind::NotFound);
    let elsewhere = Segment::open(&name).unwrap();
    let (same, origin) = Value::open_or_create(elsewhere.at("large"), [9_u64; 3]).unwrap();
    assert_eq!((origin, same.get()), (Origin::Opened, Ok([3; 3])));
    same.set([4; 3]).unwrap();
    assert_eq!(value.get(), Ok([4; 3]));
    assert_eq!(Value::open_or_create(elsewhere.at("small"), 0x1234_u16).unwrap().1, Origin::Created);
    let seen = inspect::segment(name.as_str()).unwrap();
    let head = |name: &str| seen.objects.iter().find(|object| object.info.name == name).unwrap().head.clone();
    assert_eq!(head("small"), Some(vec![0x34, 0x12]));
    assert_eq!(head("large"), Some([4_u64; 3].map(u64::to_le_bytes).concat()));
}

fn counts((small, large, rounds): (Value<u64>, Value<Large>, u64)) {
    for _ in 0..rounds {
        small.fetch_add(1);
        small.update(|number| number + 1).unwrap();
        large.update(|value| value.map(|number| number + 1)).unwrap();
        let value = large.get().unwrap();
        assert_eq!(value, [value[0]; 9], "half of a change");
    }
}

#[test]
fn processes_count_together_and_never_see_half_a_change() {
    let (small, large) = (Value::new(0).unwrap(), Value::new([0; 9]).unwrap());
    let children = [(); 2].map(|_| Process::spawn(counts, (small.clone(), large.clone(), 3_000)).unwrap());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while last < 6_000 {
                let value = large.get().unwrap();
                assert!(value == [value[0]; 9] && value[0] >= last, "half of a change, or back in time");
                last = value[0];
            }
        });
        children.into_iter().for_each(|child| child.join().unwrap());
        reader.join().unwrap();
    });
    assert_eq!((small.load(), large.get()), (12_000, Ok([6_000; 9])));
}

/// Starts a child that is in the middle of an update.
fn in_the_middle(value: &Value<Large>, on: &Event) -> Forked {
    let here = Event::new().unwrap();
    let child = Forked::run(|| {
        let changed = value.update(|_| {
            here.set();
            on.wait();
            [5; 9]
        });
        i32::from(changed != Ok([1; 9]))
    });
    assert!(here.wait_timeout(LONG));
    child
}

#[test]
fn a_writer_that_dies_leaves_the_old_value_and_blocks_nobody() {
    for _ in 0..5 {
        let (value, never) = (Value::new([1; 9]).unwrap(), Event::new().unwrap());
        let child = in_the_middle(&value, &never);
        assert_eq!(value.get(), Ok([1; 9]));
        assert_eq!(value.try_set([2; 9]), Err(ValueError::NotAcquired));
        let begin = Instant::now();
        assert_eq!(value.set_timeout([2; 9], SHORT), Err(ValueError::NotAcquired));
        assert!(begin.elapsed() >= SHORT);
        child.kill();
        child.wait();
        assert_eq!(value.get(), Ok([1; 9]));
        value.set_timeout([3; 9], LONG).unwrap();
        assert_eq!((value.get(), value.try_update(|_| [4; 9])), (Ok([3; 9]), Ok([3; 9])));
    }
}

#[test]
fn a_stopped_writer_keeps_out_writers_but_no_reader() {
    let (value, on) = (Value::new([1; 9]).unwrap(), Event::new().unwrap());
    let child = in_the_middle(&value, &on);
    child.signal(libc::SIGSTOP);
    assert_eq!(value.set_timeout([2; 9], Duration::from_millis(300)), Err(ValueError::NotAcquired));
    assert_eq!(value.get(), Ok([1; 9]));
    child.signal(libc::SIGCONT);
    on.set();
    assert_eq!(value.update_timeout(LONG, |_| [3; 9]), Ok([5; 9]));
    assert_eq!(child.wait(), 0);
}

#[test]
fn a_panicking_update_changes_nothing() {
    let value = Value::new([1; 9]).unwrap();
    let panicked =
        std::panic::catch_unwind(AssertUnwindSafe(|| value.update(|_: Large| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert_eq!((value.get(), value.try_set([2; 9])), (Ok([1; 9]), Ok(())));
}

#[test]
fn any_bytes_are_survivable() {
    let name = name("damage");
    let value = Value::create(&name, ['a'; 5]).unwrap();
    let object = damage::Object::find(&name, &[20 << 32, 0, 0x61 << 32 | 0x61]);
    damage::each(16 + 2 * 24, move |offset, byte| {
        object.set(offset, byte);
        let _ = (value.get(), value.try_set(['b'; 5]), value.update_timeout(SHORT, |_| ['c'; 5]));
        drop((Value::<[char; 5]>::open(&name), inspect::segment(name.as_str())));
        // The owner word names nobody alive. The next `set` repairs a damaged value.
        value.set_timeout(['d'; 5], LONG).unwrap();
        assert_eq!(value.get(), Ok(['d'; 5]));
        object.set(4, 20);
        (5..8).for_each(|offset| object.set(offset, 0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_a_variable(ops in proptest::collection::vec((0..4u8, 0..4u64, 0..4u64), 0..60)) {
        let (small, large) = (Value::new(0).unwrap(), Value::new([0; 9]).unwrap());
        let mut twin = 0_u64;
        for (op, m, n) in ops {
            match op {
                0 => {
                    small.set(n).unwrap();
                    large.set([n; 9]).unwrap();
                    twin = n;
                }
                1 => {
                    prop_assert_eq!(small.update(|number| number.wrapping_mul(n)), Ok(twin));
                    let product = large.update(|value| value.map(|number| number.wrapping_mul(n)));
                    prop_assert_eq!(product, Ok([twin; 9]));
                    twin = twin.wrapping_mul(n);
                }
                2 => {
                    let expected = if twin == m { Ok(()) } else { Err(twin) };
                    prop_assert_eq!(small.compare_exchange(m, n), Ok(expected));
                    prop_assert_eq!(
                        large.compare_exchange([m; 9], [n; 9]),
                        Ok(expected.map_err(|there| [there; 9]))
                    );
                    twin = if expected.is_ok() { n } else { twin };
                }
                _ => {
                    prop_assert_eq!(small.fetch_add(n), twin);
                    large.update(|value| value.map(|number| number + n)).unwrap();
                    twin += n;
                }
            }
            prop_assert_eq!((small.get(), large.get()), (Ok(twin), Ok([twin; 9])));
        }
    }
}
