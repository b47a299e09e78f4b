//! The event: no waiter sleeps through a set, not even through one that is cleared at once.

use super::{model, thread, Arc};
use crate::sync::event::state::Flag;
use crate::sys::clock::Deadline;

#[test]
fn set_wakes_two_waiters() {
    model("event: set wakes two waiters", || {
        let flag = Arc::new(Flag::new());
        let waiters = [(); 2].map(|_| {
            let flag = flag.clone();
            thread::spawn(move || assert!(flag.wait(Deadline::Never)))
        });
        flag.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn set_and_cleared_at_once() {
    model("event: set, cleared at once, set", || {
        let flag = Arc::new(Flag::new());
        let other = flag.clone();
        let waiter = thread::spawn(move || assert!(other.wait(Deadline::Never)));
        flag.set();
        flag.clear();
        // For the waiter that began only after the clear.
        flag.set();
        waiter.join().unwrap();
    });
}

#[test]
fn a_set_meets_the_clear_that_follows_it() {
    use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
    model("event: what was written before a set is seen after the clear", || {
        let shared = Arc::new((Flag::new(), AtomicU32::new(0)));
        shared.0.set();
        let other = shared.clone();
        let setter = thread::spawn(move || {
            other.1.store(1, Relaxed);
            other.0.set();
        });
        shared.0.clear();
        let seen = shared.1.load(Relaxed);
        setter.join().unwrap();
        assert!(seen == 1 || shared.0.is_set(), "neither the data nor a flag that says to check again");
    });
}
