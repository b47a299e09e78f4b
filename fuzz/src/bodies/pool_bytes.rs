//! A pool whose words are overwritten while it works. Every task ends with a result or an error,
//! whatever the words contain. Where nothing was overwritten, the result is the right one.

use pagemate::PoolRehearsal as Rehearsal;

use super::Supply;

/// More rounds than any line needs.
const ROUNDS: usize = 100;

fn task(n: u64) -> Vec<u8> {
    vec![n as u8; n as usize % 90]
}

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let mut next = 0..;
    let mut items = |count: u8| next.by_ref().take(usize::from(count)).collect::<Vec<u64>>();
    let chunks: Vec<_> = (0..1 + supply.byte() % 5).map(|_| items(1 + supply.byte() % 4)).collect();
    let count = chunks.iter().flatten().count();
    let pool = Rehearsal::new(task, chunks, 0).expect("a pool");
    let mut is_damaged = false;
    while !supply.is_empty() {
        let operation = supply.byte();
        if operation >= 8 {
            is_damaged = true;
            let place = usize::from(supply.byte()) * 3 + usize::from(operation) % 3;
            let bytes = supply.bytes(8);
            let value = bytes.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            match operation / 3 % 3 {
                0 => pool.damage(place, |_| value),
                1 => pool.damage(place, |word| word ^ value),
                _ => pool.damage(place, |word| word.wrapping_add(value)),
            }
            continue;
        }
        match operation {
            0..3 => _ = pool.work(usize::from(operation % 2)),
            3 => _ = pool.done(),
            4 => _ = pool.overdue(),
            5 => _ = pool.running(),
            // Nobody dies in a task here.
            _ => pool.reap_worker(usize::from(operation % 2)),
        }
    }
    // A word that assigns the task to a worker is believed until that worker ends.
    (0..2).for_each(|worker| pool.reap_worker(worker));
    let results = (0..ROUNDS).find_map(|_| {
        while pool.work(1) {}
        pool.results()
    });
    let results = results.unwrap_or_else(|| panic!("some results never come: {}", pool.words()));
    assert_eq!(results.len(), count);
    if !is_damaged {
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(result, Ok(task(n as u64)));
        }
        assert_eq!(pool.blocks(), 0);
    }
}
