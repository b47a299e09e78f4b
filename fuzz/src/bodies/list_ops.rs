//! Operations on a list through two handles, beside a `Vec`: the same elements after each.

use std::fmt::Debug;

use pagemate::{ErrorKind, Item, List, Manager};

use super::Supply;

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    match supply.byte() % 3 {
        0 => with::<u64>(supply, |n| n),
        1 => with::<[u64; 3]>(supply, |n| [n, !n, n / 2]),
        _ => with::<str>(supply, |n| "€".repeat(n as usize % 300)),
    }
}

fn with<T: Item + Ord + ?Sized>(mut supply: Supply<'_>, value: fn(u64) -> T::Owned)
where
    T::Owned: Ord + Clone + Debug,
{
    let manager = Manager::new().expect("a manager");
    let open = || manager.list::<T>("list").expect("a list");
    let lists: [List<T>; 2] = [open(), open()];
    let mut twin: Vec<T::Owned> = Vec::new();
    let mut next = 0;
    while !supply.is_empty() {
        let (operation, number) = (supply.byte() % 10, u64::from(supply.byte()));
        let list = &lists[number as usize % 2];
        let at = number as usize % (twin.len() + 2);
        next += 7;
        match operation {
            0 | 1 => {
                list.push(value(next)).expect("room");
                twin.push(value(next));
            }
            2 => {
                list.extend((0..number % 20).map(value)).expect("room");
                twin.extend((0..number % 20).map(value));
            }
            3 => assert_eq!(list.pop().expect("a sound list"), twin.pop()),
            4 => match list.set(at, value(next)) {
                Ok(()) => twin[at] = value(next),
                Err(error) => assert!(error.kind() == ErrorKind::InvalidInput && at >= twin.len()),
            },
            5 => match list.insert(at, value(next)) {
                Ok(()) => twin.insert(at, value(next)),
                Err(error) => assert!(error.kind() == ErrorKind::InvalidInput && at > twin.len()),
            },
            6 => {
                let removed = (at < twin.len()).then(|| twin.remove(at));
                assert_eq!(list.remove(at).expect("a sound list"), removed);
            }
            7 => assert_eq!(lists[1].get(at).expect("a sound list"), twin.get(at).cloned()),
            8 => {
                list.sort().expect("room");
                twin.sort();
            }
            _ if number % 8 == 0 => {
                list.clear().expect("a sound list");
                twin.clear();
            }
            _ => assert_eq!(
                list.slice(1..at).expect("a sound list"),
                twin.get(1..at.min(twin.len())).unwrap_or(&[])
            ),
        }
        assert_eq!(lists[0].len().expect("a sound list"), twin.len());
    }
    assert_eq!(lists[1].to_vec().expect("a sound list"), twin);
}
