//! Counters in shared memory that wrap around: the objects behave as before.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pagemate::sync::BarrierError;
use pagemate::{Barrier, Condvar, Event, Lock, Mutex, Queue, Value};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(1);

/// The only object of a segment.
struct Object {
    file: File,
    at: u64,
}

impl Object {
    fn find(name: &str) -> Object {
        let file =
            OpenOptions::new().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
        let mut at = [0; 8];
        // Its record follows the header and the table of participants.
        file.read_exact_at(&mut at, 20_480 + 32).unwrap();
        Object { file, at: u64::from_le_bytes(at) }
    }

    fn get_u64(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, self.at + offset).unwrap();
        u64::from_le_bytes(word)
    }

    fn set_u32(&self, offset: u64, value: u32) {
        self.file.write_all_at(&value.to_le_bytes(), self.at + offset).unwrap();
    }

    fn set_u64(&self, offset: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), self.at + offset).unwrap();
    }
}

fn name(what: &str) -> String {
    format!("test-counters-{what}-{}", std::process::id())
}

#[test]
fn laps_of_a_queue() {
    let name = name("queue");
    let queue = Queue::<u64>::create(&name, 3).unwrap();
    let object = Object::find(&name);
    let lap = (1u64 << 31) - 3;
    object.set_u64(128, lap << 32);
    object.set_u64(256, lap << 32);
    (0..3).for_each(|slot| object.set_u64(640 + 128 * slot, lap << 33));
    // A message and a loan are held while the laps wrap.
    queue.send(1000).unwrap();
    queue.send(1001).unwrap();
    let held = queue.recv_ref().unwrap();
    assert_eq!(queue.recv(), Ok(1001));
    for n in 0..30 {
        let loan = queue.loan_with(n).unwrap();
        loan.send().unwrap();
        drop(queue.try_loan());
        assert_eq!(queue.recv_timeout(LONG), Ok(n));
        assert!(queue.is_empty() && !queue.is_full());
    }
    assert_eq!(*held, 1000);
    drop(held);
    (0..3).for_each(|n| queue.send(n).unwrap());
    assert!(queue.try_send(3).is_err());
    queue.close();
    assert!(queue.iter().eq((0..3).map(Ok)));
}

#[test]
fn sets_of_an_event() {
    let name = name("event");
    let event = Event::create(&name).unwrap();
    // Bits 2..32 count.
    Object::find(&name).set_u32(0, ((1 << 30) - 2) << 2);
    for _ in 0..5 {
        assert!(!event.is_set() && !event.wait_timeout(SHORT));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| event.wait_timeout(LONG));
            event.set();
            assert!(waiter.join().unwrap());
        });
        event.clear();
    }
}

#[test]
fn notifications_of_sleepers() {
    let name = name("sleepers");
    let queue = Queue::<u64>::create(&name, 1).unwrap();
    // The word on which consumers sleep: bits 1..32 count.
    Object::find(&name).set_u32(384, u32::MAX - 5);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| (0..1000).all(|n| queue.recv_timeout(LONG) == Ok(n)));
        (0..1000).for_each(|n| queue.send_timeout(n, LONG).unwrap());
        assert!(consumer.join().unwrap());
    });
}

#[test]
fn turns_of_a_lock() {
    let name = name("lock");
    let lock = Lock::create(&name).unwrap();
    Object::find(&name).set_u32(4, u32::MAX - 1);
    for _ in 0..5 {
        let guard = lock.lock().unwrap();
        assert!(lock.is_locked() && lock.try_lock().is_err());
        drop(guard);
        assert!(!lock.is_locked());
    }
}

#[test]
fn rounds_of_a_barrier() {
    let name = name("barrier");
    let barrier = Barrier::create(&name, 2).unwrap();
    let object = Object::find(&name);
    // Bits 0..32 of the first word are the round.
    object.set_u32(0, u32::MAX - 2);
    for _ in 0..6 {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait_timeout(LONG));
            barrier.wait_timeout(LONG).unwrap();
            other.join().unwrap().unwrap();
        });
    }
    object.set_u32(0, u32::MAX - 1);
    for _ in 0..4 {
        assert!(matches!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut)));
        assert!(barrier.is_broken());
        barrier.reset();
        assert!(!barrier.is_broken());
    }
}

#[test]
fn writes_of_a_large_value() {
    let name = name("value");
    let value = Value::create(&name, [7u64; 9]).unwrap();
    Object::find(&name).set_u64(8, u64::MAX - 2);
    for n in 0..6 {
        value.set([n; 9]).unwrap();
        assert_eq!(value.get(), Ok([n; 9]));
    }
}

#[test]
fn waiters_of_a_condition_whom_others_overtook() {
    let name = name("condvar");
    let condvar = Condvar::create(&name).unwrap();
    let mutex = Mutex::new(()).unwrap();
    let object = Object::find(&name);
    // The next ticket: an old waiter, 2^31 others and more, and a young one.
    object.set_u64(0, u64::from(u32::MAX) - 1);
    let wait = || condvar.wait_timeout(mutex.lock().unwrap(), LONG).map(|(_, notified)| notified).unwrap();
    let has_waiters = |count| {
        while condvar.waiting() != count {
            std::thread::sleep(SHORT);
        }
    };
    for overtaken in [1u64 << 31, (1 << 31) + 1, 3 << 30, 1 << 32, 1 << 40] {
        std::thread::scope(|scope| {
            let old = scope.spawn(wait);
            has_waiters(1);
            object.set_u64(0, object.get_u64(0) + overtaken);
            let young = scope.spawn(wait);
            has_waiters(2);
            condvar.notify_one();
            assert!(old.join().unwrap(), "the older one is first");
            assert_eq!(condvar.waiting(), 1);
            condvar.notify_all();
            assert!(young.join().unwrap());
        });
    }
}
