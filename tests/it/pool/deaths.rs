//! Workers that die: only their task is lost, and no thread waits for ever.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pagemate::pool::TaskError;
use pagemate::{Event, Pool, Process, Queue};

pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Less than the time after which the pool abandons one worker that does not end.
const QUICK: Duration = Duration::from_millis(1500);

/// Returns whether `body` returns less than [`QUICK`] in one of ten tries. On a busy machine some
/// tries take longer, but if the pool waited for its workers to end by themselves all would.
fn is_quick(body: fn() -> Duration) -> bool {
    (0..10).map(|_| body()).inspect(|took| println!("ended in {took:?}")).any(|took| took < QUICK)
}

pub(crate) fn kill(pid: u32) {
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

pub(crate) fn kill_self() {
    kill(std::process::id());
}

#[test]
fn a_task_that_kills_its_worker_is_the_only_one_lost() {
    let pool = Pool::new(2).unwrap();
    let error = pool
        .task_options()
        .chunk_size(25)
        .map(
            |n: u64| {
                if n % 40 == 13 {
                    kill_self();
                }
                n
            },
            0..200,
        )
        .unwrap_err();
    for (n, result) in error.results().iter().enumerate() {
        match n % 40 {
            13 => {
                assert!(matches!(result, Err(TaskError::WorkerDied { exit: Some(_), .. })), "{n}: {result:?}")
            }
            _ => assert_eq!(*result, Ok(n as u64)),
        }
    }
    assert_eq!(pool.apply(|n: u8| n, 7).unwrap(), 7);
    assert_eq!(pool.pids().len(), 2);
}

#[test]
fn a_task_that_exits_says_so() {
    let pool = Pool::new(1).unwrap();
    let error = pool.apply(|code: i32| -> u8 { std::process::exit(code) }, 3).unwrap_err();
    let TaskError::WorkerDied { exit, .. } = error else { panic!("{error}") };
    assert_eq!(exit.unwrap().code(), Some(3));
}

#[test]
fn idle_workers_are_replaced() {
    let pool = Pool::new(2).unwrap();
    for _ in 0..20 {
        pool.pids().into_iter().for_each(kill);
        assert_eq!(pool.map(|n: u64| n + 1, 0..100).unwrap().len(), 100, "with new workers");
    }
}

static STARTED: OnceLock<(Queue<u32>, Event)> = OnceLock::new();

#[test]
fn retries_are_tries_by_other_workers() {
    let tries = Queue::new(100).unwrap();
    let event = Event::new().unwrap();
    let pool = Pool::builder()
        .workers(1)
        .retries(3)
        .initializer(|handles| STARTED.set(handles).unwrap(), (tries.clone(), event))
        .build()
        .unwrap();
    let task = |deaths: u64| {
        let tries = &STARTED.get().unwrap().0;
        tries.send(std::process::id()).unwrap();
        if (tries.len() as u64) <= deaths {
            kill_self();
        }
        deaths
    };
    assert_eq!(pool.apply(task, 3).unwrap(), 3);
    let mut pids: Vec<u32> = tries.try_iter().map(Result::unwrap).collect();
    pids.dedup();
    assert_eq!(pids.len(), 4);
    assert!(matches!(pool.apply(task, 100).unwrap_err(), TaskError::WorkerDied { .. }));
    assert_eq!(tries.try_iter().count(), 4);
}

#[test]
fn a_task_that_takes_too_long_times_out() {
    let pool = Pool::builder().workers(2).task_timeout(Duration::from_secs(1)).build().unwrap();
    let endless = |n: u64| {
        if n == 1 {
            loop {
                std::thread::park();
            }
        }
        n
    };
    let error = pool.map(endless, 0..4).unwrap_err();
    assert_eq!(error.results()[1], Err(TaskError::TimedOut(Duration::from_secs(1))));
    assert_eq!(error.results().iter().filter(|result| result.is_ok()).count(), 3);
}

/// A task's time begins when it runs, not when it is submitted.
#[test]
fn the_wait_for_a_worker_is_not_a_part_of_the_timeout() {
    let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(2)).build().unwrap();
    let nap = |n: u64| {
        std::thread::sleep(Duration::from_millis(n));
        n
    };
    assert_eq!(pool.task_options().chunk_size(1).map(nap, [150; 20]).unwrap(), [150; 20]);
}

/// If a task forks, the child returns into the worker's code. It takes no part in the pool.
#[test]
fn a_task_that_forks_is_one_worker_still() {
    let pool = Pool::new(1).unwrap();
    let fork = |panics: bool| {
        // SAFETY: the child allocates nothing before it comes back, but for its panic, if any.
        let pid = unsafe { libc::fork() };
        assert!(pid != 0 || !panics, "child");
        u64::from(pid == 0)
    };
    for panics in [false, true] {
        assert_eq!(pool.apply(fork, panics).unwrap(), 0, "the parent's result");
    }
    let pids = pool.task_options().chunk_size(1).map(|_: u32| std::process::id(), 0..200).unwrap();
    assert!(pids.iter().all(|pid| *pid == pids[0]));
}

#[test]
fn initialisers_that_fail_break_the_pool() {
    let pool = Pool::builder().workers(3).initializer(|()| panic!("no licence"), ()).build().unwrap();
    let start = Instant::now();
    let error = pool.apply(|n: u8| n, 1).unwrap_err();
    assert!(matches!(&error, TaskError::Broken(text) if text.contains("no licence")), "{error}");
    assert!(start.elapsed() < LONG);
    assert!(matches!(pool.apply(|n: u8| n, 1), Err(TaskError::Broken(_))));
    assert!(pool.join().is_err());
}

#[test]
fn terminating_is_quick_and_ends_all_tasks() {
    assert!(is_quick(terminating_tells_all));
}

/// Returns how long terminating took.
fn terminating_tells_all() -> Duration {
    let pool = Pool::new(2).unwrap();
    let endless = |()| loop {
        std::thread::park();
    };
    let tasks: Vec<_> = (0..50).map(|_| pool.apply_async(endless, ()).unwrap()).collect();
    pool.pids().into_iter().for_each(|pid| {
        // SAFETY: a signal to a process that this test started.
        unsafe { libc::kill(pid as i32, libc::SIGSTOP) };
    });
    let start = Instant::now();
    pool.terminate();
    pool.join().unwrap();
    let took = start.elapsed();
    assert!(pool.pids().is_empty());
    for task in tasks {
        let task: Result<(), TaskError> = task.get();
        assert_eq!(task, Err(TaskError::Terminated));
    }
    took
}

#[test]
fn workers_end_with_a_parent_that_is_killed() {
    let parent = |queue: Queue<u32>| {
        let pool = Pool::new(2).unwrap();
        let endless = |()| loop {
            std::thread::park();
        };
        let task: pagemate::pool::Task<()> = pool.apply_async(endless, ()).unwrap();
        // One worker is in a task, the other one is idle.
        assert_eq!(pool.apply(|n: u8| n, 1).unwrap(), 1);
        pool.pids().into_iter().for_each(|pid| queue.send(pid).unwrap());
        task.wait();
    };
    let queue = Queue::new(2).unwrap();
    let process = Process::spawn(parent, queue.clone()).unwrap();
    let workers = [(); 2].map(|()| queue.recv_timeout(LONG).unwrap());
    process.kill().unwrap();
    let deadline = Instant::now() + LONG;
    for pid in workers {
        // A zombie has no memory map any more.
        let lives = || std::fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| !maps.is_empty());
        while lives() {
            assert!(Instant::now() < deadline, "worker {pid} has survived its parent");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_fork_has_no_part_in_the_pool() {
    let pool = Pool::new(1).unwrap();
    let task = pool.apply_async(|n: u8| n + 1, 1).unwrap();
    // SAFETY: the child calls nothing but the pool's refusals, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = pool.apply(|n: u8| n, 1).is_err() && pool.join().is_err() && pool.pids().is_empty();
        pool.terminate();
        // SAFETY: ends the child without destructors.
        unsafe { libc::_exit(if refused { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child from above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    // The child of a test's thread ends with 0 if it panics.
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(task.get().unwrap(), 2, "and the parent's pool still works");
}

#[test]
fn dropping_a_pool_ends_everything_at_once() {
    assert!(is_quick(dropping_ends_everything));
}

/// Returns how long dropping took.
fn dropping_ends_everything() -> Duration {
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..10).map(|n| pool.apply_async(|n: u64| n, n).unwrap()).collect();
    let endless = |()| loop {
        std::thread::park();
    };
    let stuck: pagemate::pool::Task<()> = pool.apply_async(endless, ()).unwrap();
    let start = Instant::now();
    drop(pool);
    let took = start.elapsed();
    assert_eq!(stuck.get(), Err(TaskError::Terminated));
    for (n, task) in tasks.into_iter().enumerate() {
        let result = task.get();
        assert!(result == Ok(n as u64) || result == Err(TaskError::Terminated), "{result:?}");
    }
    took
}

#[test]
fn a_queue_depth_of_one_and_dropped_tasks() {
    let pool = Pool::builder().workers(2).queue_depth(1).build().unwrap();
    for n in 0..100_u64 {
        drop(pool.apply_async(|n: u64| n, n).unwrap());
    }
    assert_eq!(pool.task_options().chunk_size(3).map(churn, 0..100).unwrap().len(), 100);
    pool.close();
    pool.join().unwrap();
}

/// Computes for some microseconds, as a task.
fn churn(n: u64) -> u64 {
    (0..2000).fold(n, |hash, round| (hash ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7))
}

/// Workers are killed at random moments under many tasks: every result arrives once, and is right.
#[test]
fn kill_storm_with_retries() {
    storm(1000, |pool, count| {
        let results = pool.task_options().retries(1000).chunk_size(10).map(churn, 0..count).unwrap();
        assert!(results.into_iter().eq((0..count).map(churn)));
        0
    });
}

#[test]
fn kill_storm_without_retries() {
    storm(0, |pool, count| {
        let results = match pool.task_options().chunk_size(10).map(churn, 0..count) {
            Ok(all) => all.into_iter().map(Ok).collect(),
            Err(error) => error.into_results(),
        };
        assert_eq!(results.len() as u64, count);
        let mut died = 0;
        for (n, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(value, churn(n as u64)),
                Err(TaskError::WorkerDied { .. }) => died += 1,
                Err(other) => panic!("{other}"),
            }
        }
        died
    });
}

/// Runs rounds of `POOL_TASKS` tasks while the two workers are killed at random moments, until
/// there were twice `POOL_KILLS` kills.
fn storm(retries: u32, round: impl Fn(&Pool, u64) -> u64) {
    let number = |name, or| std::env::var(name).ok().map_or(or, |text| text.parse().unwrap());
    let (kills, tasks) = (number("POOL_KILLS", 20), number("POOL_TASKS", 5_000));
    let pool = Pool::builder().workers(2).retries(retries).build().unwrap();
    let (mut killed, mut died) = (0, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut random = 0x2545_f491_4f6c_dd1d_u64;
            let mut killed = 0;
            while killed < 2 * kills && !done.load(std::sync::atomic::Ordering::Relaxed) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Each kill has its own moment, for which nothing waits.
                std::thread::sleep(Duration::from_micros(random % 8000));
                let pids = pool.pids();
                if let Some(pid) = pids.get(random as usize / 8 % pids.len().max(1)) {
                    kill(*pid);
                    killed += 1;
                }
            }
            killed
        });
        while !killer.is_finished() {
            died += round(&pool, tasks);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        killed += killer.join().unwrap();
    });
    println!("{killed} kills, {died} tasks reported a death");
    assert!(died <= killed, "{died} tasks died of {killed} kills");
    assert_eq!(pool.map(|n: u64| n, 0..1000).unwrap().len(), 1000);
}
