//! The end of a pool, its callbacks, and the threads that run them.

use std::collections::HashSet;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pagemate::pool::{PoolBuilder, Task, TaskError};
use pagemate::{ErrorKind, Event, Pool, Process, Queue};

use super::deaths::{kill, kill_self, LONG};

fn square(n: u64) -> u64 {
    n * n
}

fn park(_: u64) {
    loop {
        std::thread::park();
    }
}

extern "C" fn park_at_the_end() {
    park(0);
}

/// Keeps the worker from exiting by itself. An initialiser.
fn never_end(_: ()) {
    // SAFETY: registers a plain function.
    unsafe { libc::atexit(park_at_the_end) };
}

/// Runs `body` in a process of its own, which may crash.
#[track_caller]
fn alone(body: fn(())) {
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn a_pool_in_a_small_address_space_reserves_less() {
    alone(|()| {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: reads the limit from a variable.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let error = Pool::new(1).unwrap_err();
        assert!(error.kind() == ErrorKind::OutOfMemory && error.to_string().contains("PoolBuilder::reserve"));
        let name = format!("test-pool-reserve-{}", std::process::id());
        for builder in [Pool::builder(), Pool::builder().name(name)] {
            let pool = builder.workers(1).reserve(64 << 20).build().unwrap();
            assert_eq!(pool.apply(|text: String| text.len(), "x".repeat(1 << 20)), Ok(1 << 20));
        }
        // The segment has its own minimum of memory, and none for arguments that do not fit into
        // slots.
        let pool = Pool::builder().workers(1).reserve(0).build().unwrap();
        assert_eq!(pool.apply(square, 7), Ok(49));
        assert!(pool.apply(|text: String| text.len(), "x".repeat(1 << 20)).is_err());
        assert_eq!(pool.apply(square, 7), Ok(49));
    });
}

#[test]
fn processors_that_do_not_exist_have_no_effect() {
    let pool = Pool::builder().workers(2).processors([usize::MAX, usize::MAX - 1]).build().unwrap();
    assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
}

#[test]
fn callbacks_have_room_for_large_values() {
    alone(|()| {
        let pool = Pool::new(1).unwrap();
        let (sender, receiver) = channel();
        let task = pool.task_options().apply_async_with(
            |n: u8| [n; 1 << 17],
            7,
            move |result| sender.send(result.unwrap()[9]).unwrap(),
        );
        assert_eq!(receiver.recv_timeout(LONG), Ok(7));
        assert_eq!(task.unwrap().get().unwrap()[10], 7);
    });
}

/// After a death the monitor skips the arguments of finished tasks, and it alone collects results.
#[test]
fn a_death_among_large_arguments() {
    alone(|()| {
        let pool = Pool::new(1).unwrap();
        let (sender, receiver) = channel();
        let task = |(n, _): (u64, [u8; 100_000])| {
            if n == 2 {
                kill_self();
            }
            [n as u8; 100_000]
        };
        let items = (0..4).map(|n| (n, [0; 100_000]));
        let all = pool.task_options().chunk_size(4).map_async_with(task, items, move |all| {
            sender.send(all.iter().map(Result::is_ok).collect::<Vec<_>>()).unwrap();
        });
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), [true, true, false, true]);
        drop(all);
    });
}

fn blocked_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn callbacks_have_the_signal_mask_of_the_submitter() {
    let pool = Pool::new(1).unwrap();
    let (sender, receiver) = channel();
    let task = pool
        .task_options()
        .apply_async_with(square, 2, move |_| sender.send(blocked_signals()).unwrap())
        .unwrap();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), blocked_signals());
    assert_eq!(task.get(), Ok(4));
}

#[test]
fn joining_in_a_callback_waits_for_the_tasks() {
    let pool = Arc::new(Pool::new(1).unwrap());
    let (go, wait) = channel::<()>();
    let (sender, receiver) = channel();
    let (own, first) = (pool.clone(), sender.clone());
    let task = pool.task_options().apply_async_with(square, 2, move |_| {
        wait.recv().unwrap();
        own.close();
        first.send(own.join().is_ok()).unwrap();
    });
    let second =
        pool.task_options().apply_async_with(square, 3, move |result| sender.send(result == Ok(&9)).unwrap());
    go.send(()).unwrap();
    assert_eq!(receiver.recv_timeout(LONG), Ok(true), "joined");
    assert_eq!(receiver.recv_timeout(LONG), Ok(true), "and the second is called after that");
    assert_eq!((task.unwrap().get(), second.unwrap().get()), (Ok(4), Ok(9)));
}

#[test]
fn a_callback_that_waits_for_another_is_refused() {
    let pool = Pool::new(1).unwrap();
    let (give, given) = channel::<(Task<u64>, Task<u64>)>();
    let (sender, receiver) = channel();
    let task = pool.task_options().apply_async_with(square, 2, move |_| {
        let (with, without) = given.recv().unwrap();
        with.wait();
        sender.send((with.wait_timeout(LONG), with.get(), without.get())).unwrap();
    });
    let with = pool.task_options().apply_async_with(square, 3, |_| ()).unwrap();
    give.send((with, pool.apply_async(square, 4).unwrap())).unwrap();
    let (ready, with, without) = receiver.recv_timeout(LONG).expect("no hang");
    assert!(
        !ready && matches!(with, Err(TaskError::Refused { kind: ErrorKind::InvalidInput, .. })),
        "{with:?}"
    );
    assert_eq!((without, task.unwrap().get()), (Ok(16), Ok(4)));
}

#[test]
fn a_map_that_has_begun_is_done() {
    let pool = Pool::new(2).unwrap();
    let (here, begun) = channel();
    let (go, wait) = channel::<()>();
    // There are more items than are packed at once, and then the input is slow.
    let items = (0..100).inspect(|n| {
        if *n == 80 {
            here.send(()).unwrap();
            wait.recv().unwrap();
        }
    });
    let pool = &pool;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            begun.recv().unwrap();
            pool.close();
            let (sender, joined) = channel();
            scope.spawn(move || sender.send(pool.join().is_ok()).unwrap());
            let early = joined.recv_timeout(Duration::from_millis(300));
            go.send(()).unwrap();
            assert_eq!(early, Err(RecvTimeoutError::Timeout));
            assert_eq!(joined.recv_timeout(LONG), Ok(true));
        });
        let results = pool.task_options().chunk_size(1).map(square, items);
        assert_eq!(results.unwrap(), (0..100).map(square).collect::<Vec<_>>());
    });
}

#[test]
fn a_worker_that_retires_and_does_not_end_is_replaced() {
    let builder = Pool::builder().workers(1).initializer(never_end, ()).max_tasks_per_child(1);
    let pool = builder.build().unwrap();
    let (sender, receiver) = channel();
    for n in [1, 2] {
        let sender = sender.clone();
        let call = move |result: Result<&u64, &TaskError>| {
            sender.send(result.copied().map_err(Clone::clone)).unwrap()
        };
        // Only the monitor waits for them.
        drop(pool.task_options().apply_async_with(square, n, call).unwrap());
    }
    assert_eq!([(); 2].map(|()| receiver.recv_timeout(LONG).unwrap()), [Ok(1), Ok(4)]);
}

static HERE: OnceLock<Event> = OnceLock::new();

/// Creates a pool of one worker, which is in a task that never ends.
fn parked(builder: PoolBuilder) -> (Pool, Task<()>) {
    let here = Event::new().unwrap();
    let builder = builder.workers(1).initializer(|here| HERE.set(here).unwrap(), here.clone());
    let pool = builder.build().unwrap();
    let body = |()| {
        HERE.get().unwrap().set();
        park(0);
    };
    let task = pool.apply_async(body, ()).unwrap();
    assert!(here.wait_timeout(LONG));
    (pool, task)
}

/// Every waiting call also exists as a try, with a timeout, and with a deadline.
#[test]
fn every_way_to_wait() {
    let (pool, gate) = parked(Pool::builder());
    let (soon, short) = (|| Instant::now() + Duration::from_millis(5), Duration::from_millis(5));
    let task = pool.apply_async(square, 2).unwrap();
    let task = task.try_get().unwrap_err().get_timeout(short).unwrap_err().get_deadline(soon()).unwrap_err();
    assert!(!task.wait_timeout(short) && !task.wait_deadline(soon()) && !task.is_ready());
    let batch = pool.map_async(square, 0..10).unwrap();
    let batch =
        batch.try_get().unwrap_err().get_timeout(short).unwrap_err().get_deadline(soon()).unwrap_err();
    assert!(!batch.wait_timeout(short) && !batch.wait_deadline(soon()) && !batch.is_ready());
    let mut results = pool.imap(square, 3..5);
    assert!(results.try_next().is_err() && results.next_timeout(short).is_err());
    assert!(results.next_deadline(soon()).is_err());
    let late = || [pool.try_join(), pool.join_timeout(short), pool.join_deadline(soon())];
    assert_eq!(late().map(|result| result.unwrap_err().kind()), [ErrorKind::InvalidInput; 3]);
    pool.close();
    assert_eq!(late().map(|result| result.unwrap_err().kind()), [ErrorKind::TimedOut; 3]);
    pool.pids().into_iter().for_each(kill);
    assert!(matches!(gate.get(), Err(TaskError::WorkerDied { .. })));
    assert!(task.wait_deadline(Instant::now() + LONG) && batch.wait_deadline(Instant::now() + LONG));
    assert_eq!((task.try_get().unwrap(), batch.try_get().unwrap().unwrap().len()), (Ok(4), 10));
    let next = results.next_deadline(Instant::now() + LONG).unwrap();
    assert_eq!((next, results.next(), results.try_next()), (Some(Ok(9)), Some(Ok(16)), Ok(None)));
    let deadline = Instant::now() + LONG;
    while pool.try_join().is_err() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(late().map(|result| result.is_ok()), [true; 3]);
}

/// `apply_async` would wait for room here.
#[test]
fn a_batch_of_one_never_waits_to_be_submitted() {
    let (pool, gate) = parked(Pool::builder().queue_depth(1));
    let batches = [(); 5].map(|()| pool.map_async(square, [3]).unwrap());
    assert!(batches.iter().all(|batch| !batch.is_ready()) && !gate.is_ready());
    pool.pids().into_iter().for_each(kill);
    assert_eq!(batches.map(|batch| batch.get().unwrap()), [[9]; 5]);
}

/// A caller that only ever tries to join a pool also sees the end of a worker that does not exit by
/// itself.
#[test]
fn trying_to_join_is_enough() {
    let pool = Pool::builder().workers(2).initializer(never_end, ()).build().unwrap();
    pool.close();
    let deadline = Instant::now() + LONG;
    while let Err(error) = pool.try_join() {
        assert!(error.kind() == ErrorKind::TimedOut && Instant::now() < deadline, "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn joining_takes_as_long_for_many_workers_as_for_one() {
    let pool = Pool::builder().workers(8).initializer(never_end, ()).build().unwrap();
    pool.close();
    let start = Instant::now();
    pool.join().unwrap();
    // The limit of two seconds is for all of them, not for each.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn all_joiners_wait_for_the_workers() {
    let pool = Pool::builder().workers(2).initializer(never_end, ()).build().unwrap();
    let pids: HashSet<u32> = pool.pids().into_iter().collect();
    pool.close();
    let left = || pids.iter().filter(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap()).count();
    std::thread::scope(|scope| {
        scope.spawn(|| pool.join().unwrap());
        while !pool.pids().is_empty() {
            std::thread::yield_now();
        }
        pool.join().unwrap();
        assert_eq!(left(), 0);
    });
}

#[test]
fn an_endless_imap_ends_with_its_pool() {
    let pool = Pool::new(1).unwrap();
    let mut results = pool.imap(square, 0..);
    assert_eq!(results.next(), Some(Ok(0)));
    pool.terminate();
    let rest: Vec<_> = results.by_ref().take(10_000).collect();
    assert!(rest.len() < 100, "{}", rest.len());
    assert_eq!((rest.last(), results.next()), (Some(&Err(TaskError::Terminated)), None));
}

#[test]
fn the_task_of_a_fork_is_not_in_this_process() {
    let pool = Pool::new(1).unwrap();
    let task = pool.apply_async(park, 1).unwrap();
    // SAFETY: the child calls nothing but the pool's refusals, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let is_refused = !task.is_ready() && !task.wait_timeout(LONG);
        let error = task.get().unwrap_err();
        let is_refused =
            is_refused && matches!(error, TaskError::Refused { kind: ErrorKind::NotInThisProcess, .. });
        // SAFETY: ends the child without destructors.
        unsafe { libc::_exit(if is_refused { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child from above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    // The child of a test's thread ends with 0 if it panics.
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

static ORDERS: OnceLock<Queue<u32>> = OnceLock::new();

/// An initialiser's order: begin, or panic.
const BEGIN: u32 = 1;
const FAIL: u32 = 2;

#[test]
fn failures_with_successes_between_them_are_not_in_a_row() {
    let orders = Queue::new(8).unwrap();
    let initialize = |orders: Queue<u32>| {
        assert_eq!(orders.recv(), Ok(BEGIN));
        ORDERS.set(orders).unwrap();
    };
    let pool = Pool::builder().workers(3).initializer(initialize, orders.clone()).build().unwrap();
    let begun = |count: usize| {
        let deadline = Instant::now() + LONG;
        let mut pids = HashSet::new();
        while pids.len() < count {
            assert!(Instant::now() < deadline, "{} have begun", pids.len());
            pids.extend(pool.task_options().chunk_size(1).map(|_: u32| std::process::id(), 0..100).unwrap());
        }
    };
    orders.send(BEGIN).unwrap();
    begun(1);
    let fail = || {
        let before: HashSet<u32> = pool.pids().into_iter().collect();
        orders.send(FAIL).unwrap();
        // Another worker takes its place.
        let deadline = Instant::now() + LONG;
        while pool.pids().len() < 3 || pool.pids().into_iter().collect::<HashSet<_>>() == before {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    };
    fail();
    orders.send(BEGIN).unwrap();
    begun(2);
    fail();
    fail();
    orders.send(BEGIN).unwrap();
    begun(3);
}

/// More items than are packed at once.
const MANY: u64 = 1000;

#[test]
fn a_pool_that_ends_while_a_map_packs_its_chunks_fails_all_of_them() {
    let pool = Pool::new(2).unwrap();
    let items = (0..MANY).inspect(|&item| {
        if item == 0 {
            pool.terminate();
        }
    });
    let error = pool.task_options().chunk_size(1).map(square, items).unwrap_err();
    assert_eq!(error.results().len(), MANY as usize);
    assert!(error.results().iter().all(|result| *result == Err(TaskError::Terminated)));

    let pool = Pool::new(2).unwrap();
    let items = (0..MANY).inspect(|&item| {
        if item == 0 {
            pool.terminate();
        }
    });
    let task = pool.task_options().chunk_size(1).map_async(square, items).unwrap();
    assert_eq!(task.get().unwrap_err().results().len(), MANY as usize);
}

/// The arguments of these tasks need more memory than the pool has.
#[test]
fn a_map_without_memory_fails_all_of_its_tasks() {
    let pool = Pool::builder().workers(1).reserve(1 << 20).build().unwrap();
    let items = (0..100).map(|_| vec![0; 2 << 20]);
    let error = pool.task_options().chunk_size(1).map(|bytes: Vec<u8>| bytes.len(), items).unwrap_err();
    assert_eq!(error.results().len(), 100);
    assert!(error.results().iter().all(|result| matches!(result, Err(TaskError::Lost(_)))));
    assert_eq!(pool.apply(square, 7), Ok(49));
}

/// With this limit the monitor cannot open descriptors, and notices deaths all the same.
#[test]
fn deaths_are_noticed_without_descriptors() {
    alone(|()| {
        let pool = Pool::new(2).unwrap();
        let (sender, receiver) = channel();
        let other = sender.clone();
        let parked = |()| -> u64 {
            park(0);
            0
        };
        let died = move |result: Result<&u64, &TaskError>| other.send(result.is_err()).unwrap();
        let task = pool.task_options().apply_async_with(parked, (), died).unwrap();
        // The other worker does the tasks.
        let other = pool.apply(|()| std::process::id(), ()).unwrap();
        let limit = libc::rlimit { rlim_cur: 3, rlim_max: 1024 };
        // SAFETY: reads the limit, which is ours.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        for _ in 0..2 {
            let sender = sender.clone();
            let called = move |result: Result<&u64, &TaskError>| sender.send(result.is_ok()).unwrap();
            drop(pool.task_options().apply_async_with(square, 1, called).unwrap());
            assert_eq!(receiver.recv_timeout(LONG), Ok(true));
        }
        pool.pids().into_iter().filter(|pid| *pid != other).for_each(kill);
        assert_eq!(receiver.recv_timeout(LONG), Ok(true), "its death is noticed");
        drop(task);
    });
}
