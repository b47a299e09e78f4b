//! Results, and their order.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagemate::pool::{worker, TaskError};
use pagemate::{ErrorKind, Pool};

const LONG: Duration = Duration::from_secs(30);

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn map_keeps_the_order_whatever_the_chunks() {
    let pool = Pool::new(3).unwrap();
    let expected: Vec<u64> = (0..1000).map(square).collect();
    assert_eq!(pool.map(square, 0..1000).unwrap(), expected);
    for size in [1, 7, 999, 1000, 5000] {
        assert_eq!(
            pool.task_options().chunk_size(size).map(square, 0..1000).unwrap(),
            expected,
            "chunks of {size}"
        );
    }
    assert_eq!(pool.map(square, Vec::new()).unwrap(), []);
    let filtered = pool.map(square, (0..1000).filter(|n| n % 2 == 0)).unwrap();
    assert_eq!(filtered, (0..1000).step_by(2).map(square).collect::<Vec<_>>());
}

#[test]
fn more_chunks_than_slots() {
    let pool = Pool::new(2).unwrap();
    let expected: Vec<u64> = (0..20_000).map(square).collect();
    assert_eq!(pool.task_options().chunk_size(1).map(square, 0..20_000).unwrap(), expected);
    let task = pool.task_options().chunk_size(1).map_async(square, 0..20_000).unwrap();
    assert_eq!(task.get().unwrap(), expected);
}

#[test]
fn values_of_every_kind_and_length() {
    let pool = Pool::new(2).unwrap();
    let texts: Vec<String> = (0..300).map(|n| "é".repeat(n * 7)).collect();
    let twice = pool.map(|text: String| text.repeat(2), texts.clone()).unwrap();
    assert_eq!(twice, texts.iter().map(|text| text.repeat(2)).collect::<Vec<_>>());
    let long = pool.apply(|n: usize| vec![7_u8; n], 10 << 20).unwrap();
    assert!(long.len() == 10 << 20 && long.iter().all(|byte| *byte == 7));
    assert_eq!(pool.apply(|bytes: Vec<u8>| bytes.len(), long).unwrap(), 10 << 20);
    assert_eq!(
        pool.apply(|(a, b): (Option<String>, Result<u8, String>)| (b, a), (None, Err("x".into()))).unwrap(),
        (Err("x".into()), None)
    );
    assert_eq!(pool.map(|()| (), vec![(); 100]).unwrap().len(), 100);
    assert_eq!(
        pool.task_options().starmap(|a: u32, b: String| b.repeat(a as usize), [(2, "a".to_owned())]).unwrap(),
        ["aa"]
    );
}

#[test]
fn imap_yields_in_order_and_unordered_yields_all() {
    let pool = Pool::new(2).unwrap();
    let got: Result<Vec<u64>, TaskError> = pool.imap(square, 0..5000).collect();
    assert_eq!(got.unwrap(), (0..5000).map(square).collect::<Vec<_>>());
    let mut got: Vec<u64> =
        pool.task_options().chunk_size(3).imap_unordered(square, 0..5000).map(Result::unwrap).collect();
    got.sort_unstable();
    assert_eq!(got, (0..5000).map(square).collect::<Vec<_>>());
    let mixed: Vec<Result<u64, TaskError>> = pool.imap(|n: u64| 6 / n, [1, 0, 3]).collect();
    assert_eq!((mixed[0].clone(), mixed[2].clone(), mixed.len()), (Ok(6), Ok(2), 3));
    assert!(matches!(&mixed[1], Err(TaskError::Panicked(text)) if text.contains("divide by zero")));
}

#[test]
fn imap_takes_no_more_than_it_may() {
    let pool = Pool::new(2).unwrap();
    let taken = AtomicUsize::new(0);
    let endless = (0_u64..).inspect(|_| _ = taken.fetch_add(1, Relaxed));
    let mut results = pool.task_options().look_ahead(10).imap(square, endless);
    for n in 0..1000 {
        assert_eq!(results.next().unwrap().unwrap(), n * n);
        assert!(taken.load(Relaxed) <= n as usize + 10, "{} taken for {n}", taken.load(Relaxed));
    }
}

#[test]
fn a_failed_task_concerns_no_other() {
    let pool = Pool::new(2).unwrap();
    let error = pool.task_options().chunk_size(50).map(|n: u64| 100 / (n % 10), 0..200).unwrap_err();
    assert_eq!((error.index(), error.results().len()), (0, 200));
    for (n, result) in error.results().iter().enumerate() {
        match n % 10 {
            0 => assert!(matches!(result, Err(TaskError::Panicked(_))), "{n}: {result:?}"),
            m => assert_eq!(*result, Ok(100 / m as u64), "{n}"),
        }
    }
}

#[test]
fn callbacks_are_called_before_the_task_is_ready() {
    let pool = Pool::new(2).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let other = heard.clone();
    let task = pool
        .task_options()
        .apply_async_with(square, 5, move |result| other.lock().unwrap().push(*result.unwrap()));
    let task = task.unwrap();
    assert!(task.wait_timeout(LONG));
    assert_eq!(*heard.lock().unwrap(), [25]);
    assert_eq!(task.get().unwrap(), 25);
    let other = heard.clone();
    let all = pool
        .task_options()
        .map_async_with(square, 0..100, move |all| other.lock().unwrap().push(all.len() as u64));
    assert_eq!(all.unwrap().get().unwrap().len(), 100);
    assert_eq!(*heard.lock().unwrap(), [25, 100]);
}

#[test]
fn a_callback_comes_without_anybody_waiting() {
    let pool = Pool::new(1).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let task =
        pool.task_options().apply_async_with(square, 6, move |result| sender.send(*result.unwrap()).unwrap());
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), 36);
    drop(task);
    let (sender, receiver) = std::sync::mpsc::channel();
    let task = pool
        .task_options()
        .chunk_size(1)
        .map_async_with(square, 0..5000, move |all| sender.send(all.len()).unwrap());
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), 5000);
    drop(task);
}

#[test]
fn closing_and_joining() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.join().unwrap_err().kind(), ErrorKind::InvalidInput);
    let task = pool.map_async(square, 0..1000).unwrap();
    pool.close();
    let refused = pool.apply(square, 1).unwrap_err();
    assert!(matches!(refused, TaskError::Refused { kind: ErrorKind::Closed, .. }), "{refused}");
    pool.join().unwrap();
    assert_eq!(task.get().unwrap().len(), 1000);
    assert!(pool.pids().is_empty());
}

#[test]
fn bad_numbers_are_errors_that_say_so() {
    assert_eq!(Pool::new(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Pool::builder().queue_depth(0).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Pool::builder().max_tasks_per_child(0).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    let pool = Pool::builder().workers(1).max_tasks_per_child(u64::MAX).build().unwrap();
    let error = pool.task_options().chunk_size(0).map(square, [1]).unwrap_err();
    assert!(error.to_string().contains("chunk size of 0"), "{error}");
    let error = pool.task_options().look_ahead(0).imap(square, [1]).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("look-ahead"), "{error}");
}

#[test]
fn a_worker_knows_what_it_is_and_makes_no_pool() {
    let pool = Pool::builder().workers(1).name(format!("pool-test-{}", std::process::id())).build().unwrap();
    assert!(worker().is_none());
    let seen =
        pool.apply(|()| worker().map(|me| (me.index() as u64, me.pool().to_owned(), me.tasks_done())), ());
    assert_eq!(seen.unwrap(), Some((0, pool.name().to_owned(), 0)));
    let nested = pool.apply(|()| Pool::new(1).err().map(|error| error.to_string()), ()).unwrap();
    assert!(nested.unwrap().contains("nested(true)"));
    let allowed = pool
        .apply(|()| Pool::builder().workers(1).nested(true).build().unwrap().apply(square, 3).unwrap(), ());
    assert_eq!(allowed.unwrap(), 9);
}

#[test]
fn a_worker_ends_after_its_maximum_of_tasks() {
    let pool = Pool::builder().workers(2).max_tasks_per_child(10).build().unwrap();
    let pids = pool.task_options().chunk_size(7).map(|_: u32| std::process::id(), 0..200).unwrap();
    let mut counts = std::collections::HashMap::new();
    pids.iter().for_each(|pid| *counts.entry(pid).or_insert(0) += 1);
    assert!(counts.len() >= 20 && counts.values().all(|count| *count <= 10), "{counts:?}");
}

#[test]
fn progress_is_reported() {
    let pool = Pool::new(2).unwrap();
    let mut told = Vec::new();
    pool.task_options()
        .chunk_size(10)
        .progress(|done, total| told.push((done, total)))
        .map(square, 0..500)
        .unwrap();
    assert_eq!(told.last(), Some(&(500, Some(500))));
    assert!(told.is_sorted());
}

#[test]
fn slices_of_arrays_are_filled_in_place() {
    use pagemate::Array;
    let pool = Pool::new(2).unwrap();
    let (numbers, squares) = (Array::new(100_000, 0_u64).unwrap(), Array::new(100_000, 0_u64).unwrap());
    numbers.with_lock(|all| all.iter_mut().enumerate().for_each(|(n, at)| *at = n as u64)).unwrap();
    let fill =
        |from: &[u64], to: &mut [u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to = from * from);
    for size in [None, Some(1000), Some(99_999), Some(1 << 20)] {
        let options = pool.task_options();
        let options = if let Some(size) = size { options.chunk_size(size) } else { options };
        options.map_slice(fill, &numbers, &squares).unwrap();
        assert!(squares.to_vec().unwrap().into_iter().eq((0..100_000).map(square)), "{size:?}");
        squares.with_lock(|all| all.fill(0)).unwrap();
    }
    let nothing = Array::new(0, 0_u64).unwrap();
    pool.map_slice(fill, &nothing, &Array::new(0, 0_u64).unwrap()).unwrap();
    assert!(pool.map_slice(fill, &numbers, &nothing).unwrap_err().to_string().contains("100000 elements"));
    assert!(pool.map_slice(fill, &numbers, &numbers).unwrap_err().to_string().contains("same array"));
    assert!(pool.task_options().chunk_size(0).map_slice(fill, &numbers, &squares).is_err());
    let picky = |from: &[u64], _: &mut [u64]| assert!(!from.contains(&50_000), "that one");
    let error = pool.task_options().chunk_size(1000).map_slice(picky, &numbers, &squares).unwrap_err();
    assert_eq!((error.index(), error.results().iter().filter(|result| result.is_ok()).count()), (50, 99));
    assert!(error.to_string().contains("that one"), "{error}");
}

#[test]
fn a_callback_that_blocks_or_panics_hurts_nobody() {
    let pool = Pool::new(2).unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let blocked = pool.task_options().apply_async_with(square, 3, move |_| _ = wait.recv()).unwrap();
    for n in 0..200 {
        assert_eq!(pool.apply(square, n).unwrap(), n * n, "while a callback waits");
    }
    assert!(!blocked.is_ready());
    go.send(()).unwrap();
    assert_eq!(blocked.get().unwrap(), 9);
    let panics = pool.task_options().apply_async_with(square, 3, |_| panic!("callback")).unwrap();
    assert_eq!(panics.get().unwrap(), 9);
    let panics = pool.task_options().map_async_with(|n: u64| 6 / n, 0..3, |_| panic!("callback")).unwrap();
    assert_eq!(panics.get().unwrap_err().results()[1..], [Ok(6), Ok(3)]);
}

#[test]
fn joining_waits_for_callbacks_and_ends_what_has_begun() {
    let pool = Pool::new(2).unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let other = called.clone();
    let task = pool.task_options().apply_async_with(square, 3, move |_| {
        // This is long enough to notice a join that does not wait.
        std::thread::sleep(Duration::from_millis(200));
        other.store(1, Relaxed);
    });
    let mut begun = pool.imap(square, 0..100);
    assert_eq!(begun.next(), Some(Ok(0)));
    pool.close();
    pool.join().unwrap();
    assert_eq!((called.load(Relaxed), task.unwrap().get()), (1, Ok(9)));
    let rest: Vec<_> = begun.collect();
    // Items that were not taken from the input before are not taken any more.
    assert!(rest.len() < 99, "{}", rest.len());
    assert!(
        matches!(rest.last(), Some(Err(TaskError::Refused { kind: ErrorKind::Closed, .. }))),
        "{:?}",
        rest.last()
    );
}

/// Arrays are identified by their files, and not by their creation times.
#[test]
fn arrays_of_the_same_moment_are_two() {
    use pagemate::Array;
    use std::os::unix::fs::FileExt;
    let pool = Pool::new(1).unwrap();
    let names = [1, 2].map(|n| format!("pool-array-{n}-{}", std::process::id()));
    let _kept = names.each_ref().map(|name| Array::create(name.as_str(), 10, 3_u64).unwrap());
    let [one, other] = names.each_ref().map(|name| {
        let path = format!("/dev/shm/pagemate.{name}");
        std::fs::File::options().read(true).write(true).open(path).unwrap()
    });
    // The offset of the segment's creation time in the header.
    let mut created = [0; 8];
    one.read_exact_at(&mut created, 24).unwrap();
    other.write_all_at(&created, 24).unwrap();
    let [from, to] = names.each_ref().map(|name| Array::<u64>::open(name.as_str()).unwrap());
    let double = |from: &[u64], to: &mut [u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to = 2 * from);
    pool.map_slice(double, &from, &to).unwrap();
    assert_eq!(to.get(9).unwrap(), Some(6));
}

#[test]
fn arrays_in_both_directions_at_once() {
    use pagemate::Array;
    let pool = Pool::new(2).unwrap();
    let name = format!("pool-array-{}", std::process::id());
    let (one, other) = (Array::create(name.as_str(), 100, 1_u64).unwrap(), Array::new(100, 2_u64).unwrap());
    let add = |from: &[u64], to: &mut [u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|_| pool.map_slice(add, &one, &other).unwrap()));
        (0..50).for_each(|_| pool.map_slice(add, &other, &one).unwrap());
    });
    let again = Array::<u64>::open(name.as_str()).unwrap();
    let error = pool.map_slice(add, &one, &again).unwrap_err();
    assert!(error.to_string().contains("same array"), "{error}");
}

#[test]
fn a_damaged_slot_lets_nobody_write_beside_a_guard() {
    use pagemate::Array;
    use std::os::unix::fs::FileExt;
    let name = format!("pool-damaged-{}", std::process::id());
    let pool = Pool::builder().workers(1).name(&name).build().unwrap();
    let (input, output) = (Array::new(1, 0_u64).unwrap(), Array::new(1, 0_u64).unwrap());
    let count = |_: &[u64], to: &mut [u64]| {
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_secs(60) {
            to[0] = std::hint::black_box(to[0] + 1);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = format!("/dev/shm/pagemate.{name}");
            let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
            let word = |at: u64| {
                let mut word = [0; 8];
                file.read_exact_at(&mut word, at).unwrap();
                u64::from_le_bytes(word)
            };
            // The first record's object is the pool's. The word of the first slot follows its
            // header and run queue.
            let at = word(20480 + 32) + 384 + 4352;
            let begin = std::time::Instant::now();
            while word(at) & 7 != 2 && begin.elapsed() < std::time::Duration::from_secs(60) {
                std::thread::yield_now(); // until its worker runs
            }
            file.write_all_at(&[0; 8], at).unwrap();
        });
        let error = pool.map_slice(count, &input, &output).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    });
    let guard = output.lock().unwrap();
    let first = std::hint::black_box(&guard)[0];
    // Nothing writes there any more, so nothing can wake a waiter. This checks many times instead.
    assert!((0..10_000_000).all(|_| std::hint::black_box(&guard)[0] == first));
}
