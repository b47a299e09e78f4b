//! The time until a blocked waiter gets the lock of a dead process. A stopped process keeps its
//! lock.
//!
//! `cargo test --release --test it death:: -- --nocapture` prints the distribution over 1,000
//! deaths; without `--release` there are fewer.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pagemate::queue::topic::From;
use pagemate::{Array, Dict, Event, Lock, Mutex, Process, ReentrantLock, RwLock, Segment, Topic};

use crate::support::{until, Random};

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const DEATHS: usize = if cfg!(debug_assertions) { 100 } else { 1_000 };

/// How long the others try to take a stopped holder's lock.
const TEMPTATION: Duration = Duration::from_secs(5);

/// Every kind of lock.
type Locks = (Mutex<u64>, Lock, ReentrantLock, RwLock<u64>);

fn locks() -> Locks {
    (Mutex::new(0).unwrap(), Lock::new().unwrap(), ReentrantLock::new().unwrap(), RwLock::new(0).unwrap())
}

/// Holds all locks until `go`, and then releases them.
fn holds(((mutex, lock, rlock, rwlock), inside, go): (Locks, Event, Event)) {
    let guards =
        (mutex.lock().unwrap(), lock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap());
    inside.set();
    go.wait();
    drop(guards);
}

/// Waits for one of the locks and repairs its value. Returns whether the lock reported a death, or
/// `None` if it was not acquired in `time`.
fn wait_for(which: usize, (mutex, lock, rlock, rwlock): &Locks, time: Duration) -> Option<bool> {
    use pagemate::sync::LockError::OwnerDied;
    use pagemate::sync::{MutexGuard, RwLockWriteGuard};
    match which {
        0 => match mutex.lock_timeout(time) {
            Err(OwnerDied(mut guard)) => {
                MutexGuard::mark_consistent(&mut guard);
                Some(true)
            }
            other => other.ok().map(|_| false),
        },
        1 => lock.lock_timeout(time).ok().map(|guard| guard.owner_died()),
        2 => rlock.lock_timeout(time).ok().map(|guard| guard.owner_died()),
        _ => match rwlock.write_timeout(time) {
            Err(OwnerDied(mut guard)) => {
                RwLockWriteGuard::mark_consistent(&mut guard);
                Some(true)
            }
            other => other.ok().map(|_| false),
        },
    }
}

const NAMES: [&str; 4] = ["Mutex", "Lock", "ReentrantLock", "RwLock"];

#[test]
fn a_killed_holder_is_noticed_within_100_ms() {
    let mut random = Random::new();
    let locks = locks();
    let mut times = NAMES.map(|_| Vec::with_capacity(DEATHS));
    std::thread::scope(|scope| {
        // A thread for each lock, which waits on demand, and reports the time at which it had the
        // lock.
        let waiters = [0, 1, 2, 3].map(|which| {
            let (say, told) = mpsc::channel::<()>();
            let (answer, answered) = mpsc::channel();
            let locks = &locks;
            scope.spawn(move || {
                for () in told {
                    let is_after_death = wait_for(which, locks, LONG);
                    answer.send((Instant::now(), is_after_death)).unwrap();
                }
            });
            (say, answered)
        });
        for _ in 0..DEATHS {
            let (inside, never) = (Event::new().unwrap(), Event::new().unwrap());
            let child = Process::spawn(holds, (locks.clone(), inside.clone(), never)).unwrap();
            assert!(inside.wait_timeout(LONG));
            waiters.iter().for_each(|(say, _)| say.send(()).unwrap());
            // The sleep varies the moment of the death within the waiters' slices. Nothing depends
            // on their progress.
            std::thread::sleep(Duration::from_micros(random.below(100_000)));
            let death = Instant::now();
            child.kill().unwrap();
            for ((_, answered), times) in waiters.iter().zip(&mut times) {
                let (when, is_after_death) = answered.recv_timeout(LONG).unwrap();
                assert_eq!(is_after_death, Some(true), "not reported, or never noticed");
                times.push(when - death);
            }
            assert!(child.join().is_err());
        }
    });
    for (name, times) in NAMES.iter().zip(&mut times) {
        times.sort();
        let [min, p50, p99, max] = [0, DEATHS / 2, DEATHS * 99 / 100, DEATHS - 1].map(|at| times[at]);
        println!(
            "{name}: {DEATHS} deaths noticed after min {min:.1?}, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}"
        );
        assert!(
            p50 <= Duration::from_millis(100),
            "{name}: half of the deaths were noticed after more than {p50:?}"
        );
        // A limit for busy machines. On an idle one the slowest takes about 100 ms.
        assert!(max <= Duration::from_secs(10), "{name}: a death was noticed after {max:?}");
    }
}

#[test]
fn a_stopped_holder_keeps_its_locks() {
    let (locks, inside, go) = (locks(), Event::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(holds, (locks.clone(), inside.clone(), go.clone())).unwrap();
    assert!(inside.wait_timeout(LONG));
    // SAFETY: the pid is that of our child, which we have not waited for.
    let signal = |signal| assert_eq!(unsafe { libc::kill(child.pid() as i32, signal) }, 0);
    signal(libc::SIGSTOP);
    go.set();
    let wait = |time| {
        std::thread::scope(|scope| {
            let locks = &locks;
            [0, 1, 2, 3]
                .map(|which| scope.spawn(move || wait_for(which, locks, time)))
                .map(|t| t.join().unwrap())
        })
    };
    assert_eq!(wait(TEMPTATION), [None; 4], "a stopped holder lost a lock");
    signal(libc::SIGCONT);
    assert_eq!(wait(LONG), [Some(false); 4], "it has released all of them, and nobody died");
    child.join().unwrap();
}

/// Waits for the parent's lock for a while.
fn waits_for_a_while((mutex, begun): (Mutex<u64>, Event)) -> u64 {
    begun.set();
    let begin = Instant::now();
    assert!(mutex.lock_timeout(Duration::from_millis(300)).unwrap_err().is_not_acquired());
    begin.elapsed().as_millis() as u64
}

#[test]
fn timed_waits_end_in_time_beside_deaths() {
    let mutex = Mutex::new(0_u64).unwrap();
    let guard = mutex.lock().unwrap();
    let begun = [(); 6].map(|_| Event::new().unwrap());
    let children =
        begun.clone().map(|begun| Process::spawn(waits_for_a_while, (mutex.clone(), begun)).unwrap());
    assert!(begun.iter().all(|begun| begun.wait_timeout(LONG)));
    for (count, child) in children.into_iter().enumerate() {
        if count % 2 == 0 {
            child.kill().unwrap();
            let _ = child.join(); // it may have ended before
            continue;
        }
        let took = child.join().unwrap();
        println!("a wait of 300 ms took {took} ms");
        assert!((300..5_000).contains(&took), "{took} ms, on however busy a machine");
    }
    drop(guard);
    until("nobody holds it", || mutex.try_lock().is_ok());
}

/// Stores a large value again and again.
fn stores((dict, is_ready): (Dict<u64, [u8]>, Event)) {
    let value = vec![1; LARGE];
    loop {
        dict.insert(&1, &value).unwrap();
        is_ready.set();
    }
}

/// The bytes of a value, which take most of the time of storing it.
const LARGE: usize = 8 << 20;

/// Nobody waits for anything here, so only those who need the memory look for the dead.
#[test]
fn memory_of_the_dead_is_there_for_the_next_value() {
    let mut random = Random::new();
    for _ in 0..10 {
        let segment = Segment::new(2 * LARGE as u64 + (6 << 20)).unwrap();
        let dict = Dict::<u64, [u8]>::create(segment.at("dict")).unwrap();
        let is_ready = Event::new().unwrap();
        let child = Process::spawn(stores, (dict.clone(), is_ready.clone())).unwrap();
        assert!(is_ready.wait_timeout(LONG));
        random.moment(Duration::from_millis(20));
        child.kill().unwrap();
        assert!(child.join().is_err());
        dict.insert(&1, &vec![2; LARGE]).unwrap();
    }
}

/// Creates a large array.
fn creates((segment, is_ready): (Segment, Event)) {
    is_ready.set();
    Array::create(segment.at("first"), LARGE, 1_u8).unwrap();
    Event::new().unwrap().wait();
}

#[test]
fn memory_of_the_dead_is_there_for_the_next_object() {
    let mut random = Random::new();
    for _ in 0..20 {
        let segment = Segment::new(LARGE as u64 + (1 << 20)).unwrap();
        let is_ready = Event::new().unwrap();
        let child = Process::spawn(creates, (segment.clone(), is_ready.clone())).unwrap();
        assert!(is_ready.wait_timeout(LONG));
        random.moment(Duration::from_millis(10));
        child.kill().unwrap();
        assert!(child.join().is_err());
        let second = Array::create(segment.at("second"), LARGE, 2_u8);
        // It may have been created before the kill.
        assert!(second.is_ok() || Array::<u8>::open(segment.at("first")).is_ok(), "{second:?}");
    }
}

/// Takes all places of subscribers.
fn subscribes((topic, is_ready): (Topic<u64>, Event)) {
    let subscribers: Vec<_> = std::iter::from_fn(|| topic.subscribe(From::Latest).ok()).collect();
    is_ready.set();
    Event::new().unwrap().wait();
    drop(subscribers);
}

#[test]
fn the_places_of_dead_subscribers_are_there_for_others() {
    for _ in 0..5 {
        let topic = Topic::<u64>::new(4).unwrap();
        let is_ready = Event::new().unwrap();
        let child = Process::spawn(subscribes, (topic.clone(), is_ready.clone())).unwrap();
        assert!(is_ready.wait_timeout(LONG));
        assert!(topic.subscribe(From::Latest).is_err(), "all are taken");
        child.kill().unwrap();
        assert!(child.join().is_err());
        topic.subscribe(From::Latest).unwrap();
    }
}
