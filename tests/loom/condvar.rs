//! The condition variable: no waiter sleeps through its notification, no notification wakes more
//! than it should, and none is lost when its receiver dies.

use super::{model, model_within, thread, Arc};
use crate::segment::owner::OwnerId;
use crate::sync::condvar::state::{Registration, WaiterTable};
use crate::sys::clock::Deadline;

#[cfg(loom)]
use ::loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

/// The table, and a token count behind a lock.
struct Scene {
    table: WaiterTable,
    tokens: Mutex<u32>,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene { table: WaiterTable::new(), tokens: Mutex::new(0) })
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    /// Waits until there is a token and takes it.
    fn take(&self, me: OwnerId) {
        let mut tokens = self.tokens.lock().unwrap();
        while *tokens == 0 {
            let registration = self.table.join(me).unwrap();
            drop(tokens);
            assert!(self.sleep(&registration));
            tokens = self.tokens.lock().unwrap();
            self.table.leave(&registration);
        }
        *tokens -= 1;
    }

    fn sleep(&self, registration: &Registration) -> bool {
        self.table.wait(registration, Deadline::Never, || ())
    }
}

#[test]
fn notified_with_the_lock() {
    model("condvar: notified with the lock", || {
        let scene = scene();
        let other = scene.clone();
        let waiter = thread::spawn(move || other.take(id(1)));
        let other = scene.clone();
        let notifier = thread::spawn(move || {
            let mut tokens = other.tokens.lock().unwrap();
            *tokens = 1;
            other.table.notify(1);
        });
        waiter.join().unwrap();
        notifier.join().unwrap();
        assert_eq!(scene.table.count(), 0);
    });
}

#[test]
fn notified_without_the_lock() {
    model("condvar: notified without the lock", || {
        let scene = scene();
        let other = scene.clone();
        let waiter = thread::spawn(move || other.take(id(1)));
        let notifier = thread::spawn(move || {
            *scene.tokens.lock().unwrap() = 1;
            scene.table.notify(1);
        });
        waiter.join().unwrap();
        notifier.join().unwrap();
    });
}

#[test]
fn two_waiters_two_notifications() {
    model_within(2, "condvar: two waiters, two notifications", || {
        let scene = scene();
        let waiters = [1, 2].map(|index| {
            let scene = scene.clone();
            thread::spawn(move || scene.take(id(index)))
        });
        let notifier = thread::spawn(move || {
            for _ in 0..2 {
                *scene.tokens.lock().unwrap() += 1;
                scene.table.notify(1);
            }
        });
        notifier.join().unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn two_waiters_one_notification_for_all() {
    model_within(2, "condvar: two waiters, notify all", || {
        let scene = scene();
        let waiters = [1, 2].map(|index| {
            let scene = scene.clone();
            thread::spawn(move || scene.take(id(index)))
        });
        let notifier = thread::spawn(move || {
            *scene.tokens.lock().unwrap() = 2;
            scene.table.notify(usize::MAX);
        });
        notifier.join().unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn two_notifiers_wake_two_of_three() {
    model("condvar: two notifiers, three waiters", || {
        let scene = scene();
        let registrations = [1, 2, 3].map(|index| scene.table.join(id(index)).unwrap());
        let notifiers = [(); 2].map(|_| {
            let scene = scene.clone();
            thread::spawn(move || scene.table.notify(1))
        });
        notifiers.into_iter().for_each(|notifier| assert_eq!(notifier.join().unwrap(), 1));
        assert_eq!(scene.table.count(), 1);
        assert!(scene.table.retract(&registrations[2]), "the last one still waits");
        // They were notified, so they do not sleep.
        assert!(scene.sleep(&registrations[0]) && scene.sleep(&registrations[1]));
    });
}

#[test]
fn one_times_out_while_it_is_notified() {
    model("condvar: timeout against notification", || {
        let scene = scene();
        let [first, second] = [1, 2].map(|index| scene.table.join(id(index)).unwrap());
        let other = scene.clone();
        let asleep = thread::spawn(move || {
            let notified = other.sleep(&second);
            other.table.leave(&second);
            notified
        });
        let other = scene.clone();
        let impatient = thread::spawn(move || {
            let notified = !other.table.retract(&first);
            if notified {
                other.table.leave(&first);
                // The other waiter is still there, and only one was woken.
                assert_eq!(other.table.count(), 1);
                other.table.notify(1);
            }
        });
        let other = scene.clone();
        let notifier = thread::spawn(move || other.table.notify(1));
        notifier.join().unwrap();
        impatient.join().unwrap();
        assert!(asleep.join().unwrap());
        assert_eq!(scene.table.count(), 0);
    });
}

#[test]
fn a_dead_waiter_is_notified() {
    model_within(2, "condvar: a dead waiter is notified and reaped twice", || {
        let scene = scene();
        let _dead = scene.table.join(id(3)).unwrap();
        let registration = scene.table.join(id(1)).unwrap();
        let other = scene.clone();
        let heir = thread::spawn(move || {
            assert!(other.sleep(&registration));
            other.table.leave(&registration);
        });
        let other = scene.clone();
        let reaper = thread::spawn(move || other.table.recover(id(3)));
        let other = scene.clone();
        let notifier = thread::spawn(move || {
            other.table.notify(1);
            other.table.recover(id(3));
        });
        notifier.join().unwrap();
        heir.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.table.count(), 0);
    });
}

#[test]
fn a_waiter_dies_at_any_step() {
    model_within(2, "condvar: a waiter dies in the middle, and is notified", || {
        let scene = scene();
        let other = scene.clone();
        let dead = thread::spawn(move || _ = other.table.join(id(3)));
        let other = scene.clone();
        let waiter = thread::spawn(move || other.take(id(1)));
        *scene.tokens.lock().unwrap() = 1;
        scene.table.notify(1);
        dead.join().unwrap();
        scene.table.recover(id(3));
        waiter.join().unwrap();
    });
}
