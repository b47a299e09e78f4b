//! Locks: a writer that becomes a reader, numbers of notified waiters, several permits at once,
//! permits with a guard, and values without one.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use pagemate::sync::{LockError, RwLockWriteGuard};
use pagemate::{Condvar, Event, Mutex, Process, RwLock, Semaphore};

use crate::support::forked::Forked;
use crate::support::until;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_writer_becomes_a_reader() {
    let lock = RwLock::new(0_u32).unwrap();
    std::thread::scope(|scope| {
        let mut writer = lock.write().unwrap();
        let reader = scope.spawn(|| *lock.read_timeout(LONG).unwrap());
        *writer = 1;
        let guard = RwLockWriteGuard::downgrade(writer);
        assert_eq!((reader.join().unwrap(), *guard, lock.is_write_locked()), (1, 1, false));
        assert_eq!(lock.reader_count(), 1);
        assert!(lock.try_write().unwrap_err().is_not_acquired());
        drop(guard);
        drop(lock.try_write().unwrap());
        assert_eq!(lock.reader_count(), 0);
    });
}

/// Writes, and checks as a reader that no other writer has come in between.
fn writes_and_checks((lock, begin): (RwLock<u64>, Event)) {
    begin.wait();
    for _ in 0..2_000 {
        let mut writer = lock.write().unwrap();
        *writer += 1;
        let mine = *writer;
        let reader = RwLockWriteGuard::downgrade(writer);
        assert_eq!(*reader, mine, "a writer was in between");
    }
}

#[test]
fn no_writer_comes_in_between() {
    let (lock, begin) = (RwLock::new(0_u64).unwrap(), Event::new().unwrap());
    let arguments = || (lock.clone(), begin.clone());
    let children: Vec<_> = (0..2).map(|_| Process::spawn(writes_and_checks, arguments()).unwrap()).collect();
    let threads = [(); 2].map(|()| {
        let arguments = arguments();
        std::thread::spawn(move || writes_and_checks(arguments))
    });
    begin.set();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(lock.reader_count(), 0);
    assert_eq!(*lock.read().unwrap(), 8_000);
}

#[test]
fn a_killed_reader_that_was_a_writer_leaves_nothing() {
    let (lock, is_reader) = (RwLock::new(1_u32).unwrap(), Event::new().unwrap());
    let child = |(lock, is_reader): (RwLock<u32>, Event)| {
        let mut writer = lock.write().unwrap();
        *writer = 2;
        let _reader = RwLockWriteGuard::downgrade(writer);
        is_reader.set();
        Event::new().unwrap().wait();
    };
    let child = Process::spawn(child, (lock.clone(), is_reader.clone())).unwrap();
    assert!(is_reader.wait_timeout(LONG));
    assert!(lock.write_timeout(SHORT).unwrap_err().is_not_acquired());
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert_eq!(*lock.write_timeout(LONG).unwrap(), 2, "no writer has died");
}

#[test]
fn a_panic_and_a_fork_with_a_downgrade() {
    let lock = RwLock::new(0_u32).unwrap();
    struct Downgrades<'a>(Option<RwLockWriteGuard<'a, u32>>);
    impl Drop for Downgrades<'_> {
        fn drop(&mut self) {
            drop(self.0.take().map(RwLockWriteGuard::downgrade));
        }
    }
    let panics = || {
        let _guard = Downgrades(Some(lock.write().unwrap()));
        panic!("on purpose");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert!(lock.is_poisoned());
    lock.clear_poison();
    let mut writer = Some(lock.write().unwrap());
    let child = Forked::run(|| {
        drop(writer.take().map(RwLockWriteGuard::downgrade));
        0
    });
    assert_eq!(child.wait(), 0);
    assert_eq!((lock.is_write_locked(), lock.reader_count()), (true, 0), "a copy has let it go");
    drop(writer);
    assert!(lock.try_write().is_ok());
}

#[test]
fn notifications_are_counted() {
    let (lock, more) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
    assert_eq!((more.notify_one(), more.notify(3), more.notify_all()), (false, 0, 0));
    std::thread::scope(|scope| {
        let waits = || drop(more.wait(lock.lock().unwrap()).unwrap());
        let waiters: Vec<_> = (0..5).map(|_| scope.spawn(waits)).collect();
        until("they wait", || more.waiting() == 5);
        let _guard = lock.lock().unwrap();
        assert_eq!((more.notify(0), more.notify_one(), more.notify(2)), (0, true, 2));
        assert_eq!((more.waiting(), more.notify_all(), more.notify_one()), (2, 2, false));
        drop(_guard);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn each_waiter_is_counted_once() {
    const WAITERS: usize = 8;
    let (lock, more) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
    std::thread::scope(|scope| {
        let waits = || drop(more.wait(lock.lock().unwrap()).unwrap());
        let waiters: Vec<_> = (0..WAITERS).map(|_| scope.spawn(waits)).collect();
        until("they wait", || more.waiting() == WAITERS);
        let one_by_one = scope.spawn(|| std::iter::from_fn(|| more.notify_one().then_some(())).count());
        let all = scope.spawn(|| more.notify_all());
        assert_eq!(one_by_one.join().unwrap() + all.join().unwrap(), WAITERS);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn all_permits_or_none() {
    let semaphore = Semaphore::new(3).unwrap();
    assert!(!semaphore.try_acquire_many(4) && !semaphore.acquire_many_timeout(4, SHORT));
    assert!(!semaphore.acquire_many_deadline(u32::MAX, Instant::now()));
    assert_eq!(semaphore.available(), 3);
    assert!(semaphore.try_acquire_many(0) && semaphore.try_acquire_many(3));
    assert!(semaphore.try_acquire_many(0) && !semaphore.try_acquire_many(1));
    semaphore.acquire_many(0);
    semaphore.release_many(7).unwrap();
    semaphore.acquire_many(2);
    assert!(semaphore.acquire_many_timeout(3, LONG) && semaphore.acquire_many_deadline(2, Instant::now()));
    assert_eq!(semaphore.available(), 0);
}

/// Acquires and releases `count` permits.
fn takes((semaphore, count): (Semaphore, u32)) {
    for _ in 0..3_000 {
        semaphore.acquire_many(count);
        semaphore.release_many(count).unwrap();
    }
}

#[test]
fn takers_of_several_do_not_block_each_other() {
    let semaphore = Semaphore::new(5).unwrap();
    let arguments = |count| (semaphore.clone(), count);
    let children: Vec<_> = [3, 4].map(|count| Process::spawn(takes, arguments(count)).unwrap()).into();
    let threads = [1, 2, 5].map(|count| {
        let arguments = arguments(count);
        std::thread::spawn(move || takes(arguments))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(semaphore.available(), 5);
}

#[test]
fn single_releases_wake_a_waiter_for_several() {
    let semaphore = Semaphore::new(0).unwrap();
    std::thread::scope(|scope| {
        let several = scope.spawn(|| semaphore.acquire_many_timeout(3, LONG));
        let one = scope.spawn(|| semaphore.acquire_timeout(LONG));
        (0..4).for_each(|_| semaphore.release().unwrap());
        assert!(several.join().unwrap() && one.join().unwrap());
    });
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn permits_with_a_guard() {
    let semaphore = Semaphore::new(2).unwrap();
    let (one, other) = (semaphore.permit(), semaphore.permit_timeout(LONG).unwrap());
    assert!(semaphore.try_permit().is_none() && semaphore.permit_timeout(SHORT).is_none());
    assert!(semaphore.permit_deadline(Instant::now()).is_none());
    let child = Forked::run(|| {
        drop(semaphore.permit_deadline(Instant::now()));
        // SAFETY: the child does not use the original.
        drop(unsafe { std::ptr::read(&one) });
        0
    });
    assert_eq!((child.wait(), semaphore.available()), (0, 0), "a copy has released it");
    std::thread::scope(|scope| drop(scope.spawn(move || drop(one))));
    other.keep();
    assert_eq!(semaphore.available(), 1);
    let panics = || {
        let _permit = semaphore.permit();
        panic!("on purpose");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(semaphore.available(), 1);
    semaphore.release().unwrap();
}

#[test]
fn values_without_a_guard() {
    let mutex = Mutex::new([1_u32, 2]).unwrap();
    assert_eq!(mutex.get_cloned(), Ok([1, 2]));
    assert_eq!(mutex.set([3, 4]), Ok(()));
    assert_eq!(mutex.clone().replace([5, 6]), Ok([3, 4]));
    assert!(!mutex.is_locked());
    let panics = || {
        let _guard = mutex.lock().unwrap();
        panic!("on purpose");
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(mutex.get_cloned(), Err(LockError::Poisoned(())));
    assert_eq!(mutex.set([7, 8]), Err(LockError::Poisoned([7, 8])));
    mutex.clear_poison();
    assert_eq!(mutex.get_cloned(), Ok([5, 6]), "nothing was stored");
    let child = Forked::run(|| {
        std::mem::forget(mutex.lock());
        0
    });
    assert_eq!(child.wait(), 0);
    assert_eq!(mutex.replace([9, 9]), Err(LockError::OwnerDied([9, 9])));
    assert_eq!(mutex.get_cloned(), Err(LockError::OwnerDied(())), "the mark stays");
    drop(mutex.reset([9, 9]).unwrap());
    assert_eq!(mutex.get_cloned(), Ok([9, 9]));
}
