//! Waiting on several words: nobody sleeps through any of them, a set takes nobody's wake-up, and a
//! helper hands its words back.

use super::spsc::Scene;
use super::{model, model_within, thread, Arc};
use crate::queue::spsc::cursor::WriteCursor;
use crate::sync::event::state::Flag;
use crate::sync::semaphore::state::Counter;
use crate::sys::clock::{Deadline, Until};
use crate::sys::futex::{wait_any, WaitTarget};
use crate::wait::{wait_by, Pace};
use crate::waitset::handoff::Orders;
use crate::waitset::source::{announce, Source};

/// Waits as the handle of a set does. Returns the sources that are ready.
fn wait(sources: &[Source<'_>]) -> Vec<usize> {
    let targets = std::cell::RefCell::new(Vec::new());
    let has_announced = std::cell::Cell::new(false);
    let ready = wait_by(
        Deadline::Never,
        Pace::of(0),
        || (),
        || {
            let ready: Vec<_> = (0..sources.len()).filter(|index| sources[*index].is_ready()).collect();
            (!ready.is_empty()).then_some(ready)
        },
        || {
            has_announced.set(true);
            announce(sources.iter(), &mut targets.borrow_mut());
        },
        |(), slice| {
            // SAFETY: the caller has the words.
            unsafe { wait_any(&targets.borrow(), slice) };
            true
        },
    );
    let ready = ready.unwrap();
    if has_announced.get() {
        ready.iter().for_each(|index| sources[*index].pass_on());
    }
    ready
}

#[test]
fn two_words_two_notifiers() {
    model("waitset: an event and a semaphore, each from another thread", || {
        let words = Arc::new((Flag::new(), Counter::new(0)));
        let (one, other) = (words.clone(), words.clone());
        let setter = thread::spawn(move || one.0.set());
        let releaser = thread::spawn(move || assert!(other.1.release(1)));
        let both = [Source::Set(&words.0, 0), Source::Permit(&words.1)];
        let first = wait(&both);
        for (index, source) in both.into_iter().enumerate() {
            assert!(first.contains(&index) || wait(&[source]) == [0]);
        }
        finish([setter, releaser]);
    });
}

fn finish(threads: [thread::JoinHandle<()>; 2]) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A plain waiter sleeps for the only permit. The set may be woken instead, by the permit or by the
/// event, and does not take the permit.
#[test]
fn a_swallowed_wake_up_is_passed_on() {
    model_within(2, "waitset: a set that leaves the permit to a plain acquirer", || {
        let words = Arc::new((Flag::new(), Counter::new(0)));
        let (one, other) = (words.clone(), words.clone());
        let acquirer = thread::spawn(move || assert!(one.1.acquire(1, Deadline::Never)));
        let set = thread::spawn(move || {
            wait(&[Source::Set(&other.0, 0), Source::Permit(&other.1)]);
        });
        assert!(words.1.release(1));
        words.0.set();
        finish([acquirer, set]);
        assert_eq!(words.1.permits(), 0);
    });
}

/// A ring whose producer publishes with a plain store.
#[test]
fn a_plain_store() {
    model("waitset: a ring and an event", || {
        let (scene, flag) = (Scene::new(2, 16), Arc::new(Flag::new()));
        let other = scene.clone();
        let sender = thread::spawn(move || {
            let mut writer = WriteCursor::start(&other.control, 2).unwrap();
            writer.room(&other.control, 1).unwrap();
            writer.publish(&other.control, 1);
        });
        assert_eq!(wait(&[Source::Set(&flag, 0), Source::Items(&scene.control)]), [1]);
        sender.join().unwrap();
    });
}

/// A helper: its orders, its list, and the bell of its set.
struct Helper {
    orders: Orders,
    list: Cell<Vec<WaitTarget>>,
    bell: Flag,
}

#[cfg(loom)]
use ::loom::cell::UnsafeCell as Cell;

#[cfg(not(loom))]
struct Cell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> Cell<T> {
    fn new(value: T) -> Self {
        Cell(std::cell::UnsafeCell::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

// SAFETY: the orders name the owner of the list, as the model shows.
unsafe impl Send for Helper {}
// SAFETY: as above.
unsafe impl Sync for Helper {}

impl Helper {
    fn serve(&self) {
        while self.orders.next() {
            self.list.with(|list| {
                // SAFETY: the set keeps the words until the helper is idle.
                unsafe { wait_any(&*list, Until::Never) };
            });
            if self.orders.is_armed() {
                self.bell.set();
            }
            self.orders.done();
        }
    }
}

#[test]
fn a_helper_rings_and_hands_back() {
    model_within(2, "waitset: a helper rings for its set", || {
        let shared =
            Arc::new(Helper { orders: Orders::new(), list: Cell::new(Vec::new()), bell: Flag::new() });
        let counter = Arc::new(Counter::new(0));
        let own = shared.clone();
        let helper = thread::spawn(move || own.serve());
        let other = counter.clone();
        let releaser = thread::spawn(move || assert!(other.release(1)));
        // SAFETY: the list is the set's while the helper is idle.
        shared.list.with_mut(|list| unsafe {
            *list = vec![WaitTarget::new(counter.futex(), counter.announce(1)), shared.orders.target()];
        });
        if counter.permits() == 0 {
            shared.orders.arm();
            assert!(shared.bell.wait(Deadline::Never));
            shared.orders.dismiss();
            shared.orders.wait_idle();
        }
        // The helper that rang saw the permit. This thread may see it a moment later, and a set
        // checks again.
        while !counter.try_acquire(1) {
            thread::yield_now();
        }
        // SAFETY: it has been handed back.
        shared.list.with_mut(|list| unsafe { (*list).clear() });
        shared.orders.end();
        finish([helper, releaser]);
    });
}

/// The set's wait ends. The helper hands its words back, whether it sleeps already or not.
#[test]
fn a_helper_is_dismissed() {
    model("waitset: a helper is dismissed", || {
        let shared =
            Arc::new(Helper { orders: Orders::new(), list: Cell::new(Vec::new()), bell: Flag::new() });
        let counter = Arc::new(Counter::new(0));
        let own = shared.clone();
        let helper = thread::spawn(move || own.serve());
        for _ in 0..2 {
            // SAFETY: the list is the set's while the helper is idle.
            shared.list.with_mut(|list| unsafe {
                *list = vec![WaitTarget::new(counter.futex(), counter.announce(1)), shared.orders.target()];
            });
            shared.orders.arm();
            shared.orders.dismiss();
            shared.orders.wait_idle();
        }
        shared.orders.end();
        helper.join().unwrap();
    });
}
