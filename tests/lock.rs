//! Mutex, lock and recursive lock: semantics, two processes, deaths, stops, panics, forks.

mod support;

use std::time::{Duration, Instant};

use pagemate::Mutex;

pagemate::init_tests!();

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn mutex_excludes_and_times_out() {
    let mutex = Mutex::new(5_u64).unwrap();
    let guard = mutex.lock().unwrap();
    assert!(mutex.is_locked());
    assert!(mutex.try_lock().unwrap_err().is_not_acquired());
    let begin = Instant::now();
    assert!(mutex.lock_timeout(Duration::from_millis(120)).unwrap_err().is_not_acquired());
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(mutex.lock_deadline(Instant::now()).unwrap_err().is_not_acquired());
    drop(guard);
    assert!(!mutex.is_locked());
    *mutex.lock_timeout(LONG).unwrap() += 1;
    *mutex.lock_deadline(Instant::now() + LONG).unwrap() += 1;
    assert_eq!(*mutex.try_lock().unwrap(), 7);
}
