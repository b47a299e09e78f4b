//! Futex wait and wake through [`Waiters`]: no waiter sleeps through its change.

use super::{model, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::*};
use crate::loom::OrderedChange;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

struct Scene {
    tokens: AtomicU32,
    waiters: Waiters,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene { tokens: AtomicU32::new(0), waiters: Waiters::new() })
}

impl Scene {
    fn take(&self) -> Option<()> {
        self.tokens.fetch_update(SeqCst, SeqCst, |tokens| tokens.checked_sub(1)).ok().map(drop)
    }
}

#[test]
fn one_waiter_one_notifier() {
    model("wait: one waiter, one notifier", || {
        let scene = scene();
        let other = scene.clone();
        let waiter = thread::spawn(move || {
            other.waiters.wait(Deadline::Never, || (), || other.take()).unwrap();
        });
        let (_, change) = scene.tokens.add_ordered(1);
        scene.waiters.notify_one(change);
        waiter.join().unwrap();
    });
}

#[test]
fn two_waiters_two_tokens() {
    model("wait: two waiters, two tokens", || {
        let scene = scene();
        let waiters = [(); 2].map(|_| {
            let other = scene.clone();
            thread::spawn(move || {
                other.waiters.wait(Deadline::Never, || (), || other.take()).unwrap();
            })
        });
        for _ in 0..2 {
            let (_, change) = scene.tokens.add_ordered(1);
            scene.waiters.notify_one(change);
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn plain_store_and_heavy_barrier() {
    model("wait: plain store, asymmetric barrier", || {
        let scene = scene();
        let other = scene.clone();
        let waiter = thread::spawn(move || {
            other
                .waiters
                .wait_heavy(Deadline::Never, || (), || (other.tokens.load(Acquire) == 1).then_some(()))
                .unwrap();
        });
        scene.tokens.store(1, Release);
        scene.waiters.notify_one_light();
        waiter.join().unwrap();
    });
}

#[test]
fn the_second_sleep_without_a_barrier() {
    model("wait: asymmetric barrier, two sleeps in a row", || {
        let scene = scene();
        let other = scene.clone();
        let waiter = thread::spawn(move || {
            for token in 1..=2 {
                let arrived = || (other.tokens.load(Acquire) >= token).then_some(());
                other.waiters.wait_heavy(Deadline::Never, || (), arrived).unwrap();
            }
        });
        for token in 1..=2 {
            scene.tokens.store(token, Release);
            scene.waiters.notify_one_light();
        }
        waiter.join().unwrap();
    });
}
