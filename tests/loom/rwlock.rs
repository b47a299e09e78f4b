//! The readers-writer lock: readers and a writer are never inside together, nobody sleeps through a
//! release, and a death between any two steps blocks nobody.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::rwlock::state::Shared;
use crate::sys::clock::Deadline;

/// The lock, and a value of two words, which are equal unless a writer changes them.
struct Scene {
    shared: Shared,
    value: [AtomicU32; 2],
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene { shared: Shared::new(), value: [(); 2].map(|_| AtomicU32::new(0)) })
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn read_value(&self) -> u32 {
        let [a, b] = [0, 1].map(|i| self.value[i].load(Relaxed));
        assert_eq!(a, b, "a reader and a writer are inside together");
        a
    }

    fn change(&self) {
        let next = self.read_value() + 1;
        self.value.iter().for_each(|word| word.store(next, Relaxed));
    }

    /// Locks for reading. Returns whether a writer has died.
    fn read(&self, me: OwnerId) -> bool {
        let admitted = self.shared.read(me, Deadline::Never, || ()).unwrap();
        if !admitted.after_death {
            self.read_value();
        }
        self.shared.leave(me);
        admitted.after_death
    }

    /// Locks for writing. Returns whether a writer has died.
    fn write(&self, me: OwnerId) -> bool {
        let admitted = self.shared.write(me, Deadline::Never, || ()).unwrap();
        if !admitted.after_death {
            self.change();
        }
        self.shared.release(me);
        admitted.after_death
    }
}

#[test]
fn two_readers_one_writer() {
    model_within(2, "rwlock: two readers, one writer", || {
        let scene = scene();
        let readers = [1, 2].map(|index| {
            let scene = scene.clone();
            thread::spawn(move || scene.read(id(index)))
        });
        scene.write(id(0));
        readers.into_iter().for_each(|reader| assert!(!reader.join().unwrap()));
        assert_eq!(scene.read_value(), 1);
    });
}

#[test]
fn two_writers_one_reader() {
    model_within(2, "rwlock: two writers, one reader", || {
        let scene = scene();
        let other = scene.clone();
        let writer = thread::spawn(move || other.write(id(1)));
        let other = scene.clone();
        let reader = thread::spawn(move || other.read(id(2)));
        scene.write(id(0));
        assert!(!writer.join().unwrap() && !reader.join().unwrap());
        assert_eq!(scene.read_value(), 2);
    });
}

#[test]
fn two_threads_of_one_process() {
    model("rwlock: a reader and a writer of one process", || {
        let scene = scene();
        let other = scene.clone();
        let reader = thread::spawn(move || other.read(id(1)));
        scene.write(id(1));
        assert!(!reader.join().unwrap());
    });
}

#[test]
fn failed_attempts_leave_nothing() {
    model("rwlock: attempts against attempts", || {
        let scene = scene();
        let other = scene.clone();
        let reader = thread::spawn(move || {
            if other.shared.try_read(id(1)).is_some() {
                other.read_value();
                other.shared.leave(id(1));
            }
        });
        if scene.shared.try_write(id(0)).is_some() {
            scene.change();
            scene.shared.release(id(0));
        }
        reader.join().unwrap();
        assert!(scene.shared.try_write(id(1)).is_some(), "the lock counts a reader that has left");
    });
}

#[test]
fn a_failed_attempt_to_write_wakes_the_reader_that_it_kept_out() {
    model("rwlock: try_write against a blocked reader", || {
        let scene = scene();
        assert!(scene.shared.try_read(id(1)).is_some());
        let other = scene.clone();
        let reader = thread::spawn(move || other.read(id(2)));
        assert!(scene.shared.try_write(id(0)).is_none());
        reader.join().unwrap();
    });
}

/// Lets a victim die somewhere in an operation. Two threads reap it at once, while another one
/// waits for its lock.
fn death(name: &'static str, victim: fn(&Shared), survivor: fn(&Scene) -> bool, owner_died: Option<bool>) {
    model_within(2, name, move || {
        let scene = scene();
        let other = scene.clone();
        let dead = thread::spawn(move || victim(&other.shared));
        let other = scene.clone();
        let waiting = thread::spawn(move || survivor(&other));
        dead.join().unwrap();
        let other = scene.clone();
        let reaper = thread::spawn(move || other.shared.recover(id(3)));
        scene.shared.recover(id(3));
        let found = waiting.join().unwrap();
        reaper.join().unwrap();
        if let Some(owner_died) = owner_died {
            assert_eq!(found, owner_died);
        }
    });
}

#[test]
fn a_reader_dies_announced() {
    let announced = |shared: &Shared| shared.die_announced(id(3));
    death("rwlock: a reader dies announced", announced, |scene| scene.write(id(0)), Some(false));
}

#[test]
fn a_reader_dies_inside() {
    let inside = |shared: &Shared| _ = shared.try_read(id(3));
    death("rwlock: a reader dies inside", inside, |scene| scene.write(id(0)), Some(false));
}

#[test]
fn a_reader_dies_before_its_wake() {
    let left = |shared: &Shared| {
        if shared.try_read(id(3)).is_some() {
            shared.die_left(id(3));
        }
    };
    death("rwlock: a reader dies before its wake", left, |scene| scene.write(id(0)), Some(false));
}

#[test]
fn a_writer_dies_draining() {
    let draining = |shared: &Shared| shared.die_claimed(id(3));
    death("rwlock: a writer dies draining, a reader waits", draining, |scene| scene.read(id(0)), Some(false));
    death(
        "rwlock: a writer dies draining, a writer waits",
        draining,
        |scene| scene.write(id(0)),
        Some(false),
    );
}

#[test]
fn a_writer_dies_inside() {
    // The survivor may have locked and unlocked before it.
    let inside = |shared: &Shared| _ = shared.try_write(id(3));
    death("rwlock: a writer dies inside, a reader waits", inside, |scene| scene.read(id(0)), None);
    death("rwlock: a writer dies inside, a writer waits", inside, |scene| scene.write(id(0)), None);
}

#[test]
fn a_writer_dies_before_its_wake() {
    let released = |shared: &Shared| {
        if shared.try_write(id(3)).is_some() {
            shared.die_released(id(3));
        }
    };
    death(
        "rwlock: a writer dies before its wake, a reader waits",
        released,
        |scene| scene.read(id(0)),
        Some(false),
    );
    death(
        "rwlock: a writer dies before its wake, a writer waits",
        released,
        |scene| scene.write(id(0)),
        Some(false),
    );
}

#[test]
fn a_dead_writer_is_reported_until_marked_consistent() {
    model("rwlock: a dead writer, then a reader and a writer", || {
        let scene = scene();
        assert!(scene.shared.try_write(id(3)).is_some());
        let other = scene.clone();
        let reader = thread::spawn(move || other.read(id(1)));
        let other = scene.clone();
        let writer = thread::spawn(move || other.write(id(2)));
        scene.shared.recover(id(3));
        assert!(reader.join().unwrap() && writer.join().unwrap());
        assert!(scene.shared.try_write(id(0)).unwrap().after_death);
        scene.shared.mark_consistent();
        scene.shared.release(id(0));
        assert!(!scene.read(id(1)));
    });
}

#[test]
fn a_writer_becomes_a_reader() {
    model_within(2, "rwlock: a writer becomes a reader, a writer and a reader", || {
        let scene = scene();
        let other = scene.clone();
        let writer = thread::spawn(move || other.write(id(1)));
        let other = scene.clone();
        let reader = thread::spawn(move || other.read(id(2)));
        scene.shared.write(id(0), Deadline::Never, || ()).unwrap();
        scene.change();
        let mine = scene.read_value();
        assert!(scene.shared.downgrade(id(0)));
        assert_eq!(scene.read_value(), mine, "a writer was in between");
        scene.shared.leave(id(0));
        assert!(!writer.join().unwrap() && !reader.join().unwrap());
        assert_eq!(scene.read_value(), 2);
    });
}

#[test]
fn a_writer_dies_becoming_a_reader() {
    // The survivor may have locked and unlocked before it.
    let announced = |shared: &Shared| {
        if shared.try_write(id(3)).is_some() {
            shared.die_announced(id(3));
        }
    };
    death(
        "rwlock: a writer dies becoming a reader, a reader waits",
        announced,
        |scene| scene.read(id(0)),
        None,
    );
    death(
        "rwlock: a writer dies becoming a reader, a writer waits",
        announced,
        |scene| scene.write(id(0)),
        None,
    );
    let became = |shared: &Shared| {
        if shared.try_write(id(3)).is_some() {
            assert!(shared.downgrade(id(3)));
        }
    };
    death("rwlock: a reader that was a writer dies", became, |scene| scene.write(id(0)), Some(false));
}
