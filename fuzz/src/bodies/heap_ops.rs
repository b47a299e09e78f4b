//! Lists of many sizes that come and go in one small heap. Their elements are those of `Vec`s.
//! Being full is an error that changes nothing. When all lists are empty, not a block is in use.

use pagemate::{inspect, ErrorKind, Kind, List, Manager, Place};

use super::Supply;

/// Sizes of elements: small blocks, blocks of large chunks, blocks with chunks of their own.
type Elements = (List<[u64; 2]>, List<[u64; 40]>, List<[u64; 3000]>);

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let name = format!("fuzz-heap-{}-{:?}", std::process::id(), std::thread::current().id());
    let place = Place::from(name).reserve(1 << 20);
    let manager = Manager::create(place.clone()).expect("a manager");
    let open = |name| manager.list(name).expect("a list");
    let lists: Elements =
        (open("small"), manager.list("middle").expect("a list"), manager.list("large").expect("a list"));
    let mut twins = (Vec::new(), Vec::new(), Vec::new());
    while !supply.is_empty() {
        let (operation, number) = (supply.byte(), u64::from(supply.byte()));
        match operation % 3 {
            0 => step(&lists.0, &mut twins.0, operation / 3, [number; 2]),
            1 => step(&lists.1, &mut twins.1, operation / 3, [number; 40]),
            _ => step(&lists.2, &mut twins.2, operation / 3, [number; 3000]),
        }
    }
    assert_eq!(lists.0.to_vec().expect("a sound list"), twins.0);
    assert_eq!(lists.1.to_vec().expect("a sound list"), twins.1);
    assert_eq!(lists.2.to_vec().expect("a sound list"), twins.2);
    for cleared in [lists.0.clear(), lists.1.clear(), lists.2.clear()] {
        cleared.expect("a sound list");
    }
    let seen = inspect::segment(place).expect("a sound segment");
    for heap in seen.objects.iter().filter(|object| object.info.kind == Some(Kind::Heap)) {
        assert_eq!(heap.state[0], ("blocks in use", "0".to_string()));
        assert!(heap.state.contains(&("damaged", "false".to_string())));
    }
}

fn step<const N: usize>(list: &List<[u64; N]>, twin: &mut Vec<[u64; N]>, operation: u8, value: [u64; N])
where
    [u64; N]: pagemate::Message,
{
    let is_full = |error: pagemate::Error| assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    match operation % 8 {
        0..3 => match list.push(value) {
            Ok(()) => twin.push(value),
            Err(error) => is_full(error),
        },
        3 => match list.extend([value; 9]) {
            Ok(()) => twin.extend([value; 9]),
            Err(error) => is_full(error),
        },
        4 | 5 => assert_eq!(list.pop().expect("a sound list"), twin.pop()),
        6 if !twin.is_empty() => match list.remove(0) {
            Ok(removed) => assert_eq!(removed, Some(twin.remove(0))),
            Err(error) => is_full(error),
        },
        _ if value[0] % 16 == 0 => {
            list.clear().expect("a sound list");
            twin.clear();
        }
        _ => match list.set(0, value) {
            Ok(()) => twin[0] = value,
            Err(error) if twin.is_empty() => assert_eq!(error.kind(), ErrorKind::InvalidInput),
            Err(error) => is_full(error),
        },
    }
    assert_eq!(list.len().expect("a sound list"), twin.len());
}
