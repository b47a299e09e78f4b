//! The semaphore: no release is slept through, and no permit is taken twice.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::semaphore::state::Counter;
use crate::sys::clock::Deadline;

#[test]
fn two_acquirers_two_releases() {
    model("semaphore: two acquirers, two releases", || {
        let counter = Arc::new(Counter::new(0));
        let acquirers = [(); 2].map(|_| {
            let counter = counter.clone();
            thread::spawn(move || assert!(counter.acquire(1, Deadline::Never)))
        });
        assert!(counter.release(1) && counter.release(1));
        acquirers.into_iter().for_each(|acquirer| acquirer.join().unwrap());
        assert_eq!(counter.permits(), 0);
    });
}

#[test]
fn two_releasers_one_acquirer() {
    model("semaphore: an acquirer of two, two releasers", || {
        let counter = Arc::new(Counter::new(0));
        let releasers = [(); 2].map(|_| {
            let counter = counter.clone();
            thread::spawn(move || assert!(counter.release(1)))
        });
        assert!(counter.acquire(1, Deadline::Never) && counter.acquire(1, Deadline::Never));
        releasers.into_iter().for_each(|releaser| releaser.join().unwrap());
        assert!(!counter.try_acquire(1));
    });
}

#[test]
fn one_release_of_two_wakes_two() {
    model("semaphore: two permits at once wake two", || {
        let counter = Arc::new(Counter::new(0));
        let acquirers = [(); 2].map(|_| {
            let counter = counter.clone();
            thread::spawn(move || assert!(counter.acquire(1, Deadline::Never)))
        });
        assert!(counter.release(2));
        acquirers.into_iter().for_each(|acquirer| acquirer.join().unwrap());
    });
}

#[test]
fn one_permit_excludes() {
    model("semaphore: one permit passed between two", || {
        let shared = Arc::new((Counter::new(1), AtomicU32::new(0)));
        let enter = |shared: &(Counter, AtomicU32)| {
            assert!(shared.0.acquire(1, Deadline::Never));
            assert_eq!(shared.1.fetch_add(1, Relaxed), 0, "two with one permit");
            shared.1.store(0, Relaxed);
            assert!(shared.0.release(1));
        };
        let other = shared.clone();
        let thread = thread::spawn(move || (0..2).for_each(|_| enter(&other)));
        enter(&shared);
        thread.join().unwrap();
        assert_eq!(shared.0.permits(), 1);
    });
}

#[test]
fn a_release_shows_what_came_before_it() {
    model("semaphore: what was written before a release is seen after the acquire", || {
        let shared = Arc::new((Counter::new(0), AtomicU32::new(0)));
        let other = shared.clone();
        let releaser = thread::spawn(move || {
            other.1.store(1, Relaxed);
            assert!(other.0.release(1));
        });
        let other = shared.clone();
        let acquirer = thread::spawn(move || {
            // Without sleeping, because a sleep orders more under loom than in the kernel.
            if other.0.try_acquire(1) {
                assert_eq!(other.1.load(Relaxed), 1);
            }
        });
        releaser.join().unwrap();
        acquirer.join().unwrap();
    });
}

#[test]
fn a_waiter_for_two_and_single_releases() {
    model("semaphore: a waiter for two, two releasers", || {
        let counter = Arc::new(Counter::new(0));
        let releasers = [(); 2].map(|_| {
            let counter = counter.clone();
            thread::spawn(move || assert!(counter.release(1)))
        });
        assert!(counter.acquire(2, Deadline::Never));
        releasers.into_iter().for_each(|releaser| releaser.join().unwrap());
        assert_eq!(counter.permits(), 0);
    });
}

#[test]
fn a_waiter_for_two_beside_a_waiter_for_one() {
    model_within(2, "semaphore: a waiter for two and a waiter for one, single releases", || {
        let counter = Arc::new(Counter::new(0));
        let waiters = [1, 2].map(|count| {
            let counter = counter.clone();
            thread::spawn(move || assert!(counter.acquire(count, Deadline::Never)))
        });
        (0..3).for_each(|_| assert!(counter.release(1)));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(counter.permits(), 0);
    });
}

#[test]
fn two_takers_of_two() {
    model_within(2, "semaphore: two takers of two of three permits", || {
        let counter = Arc::new(Counter::new(3));
        let take = |counter: &Counter| {
            assert!(counter.acquire(2, Deadline::Never));
            assert!(counter.release(2));
        };
        let other = counter.clone();
        let taker = thread::spawn(move || take(&other));
        take(&counter);
        taker.join().unwrap();
        assert_eq!(counter.permits(), 3);
    });
}
