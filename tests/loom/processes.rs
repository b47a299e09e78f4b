//! Models of the public objects: processes that share them, with deaths.
//!
//! These are models of programs, not of algorithms: they have few operations, and each death is
//! tried at every step.

use crate::model::{self, kill_somewhere, process, Summary};
use crate::queue::topic::From;
use crate::sync::error::LockError;
use crate::{
    Barrier, BoundedSemaphore, Condvar, Event, Lock, Mutex, Once, Place, Queue, ReentrantLock, RwLock,
    Segment, Semaphore, Topic, Value,
};

fn model(name: &str, body: impl Fn() + Send + Sync + 'static) -> Summary {
    model_within(2, name, body)
}

fn model_within(preemptions: usize, name: &str, body: impl Fn() + Send + Sync + 'static) -> Summary {
    let begin = std::time::Instant::now();
    let summary = model::model_within(preemptions, body);
    let Summary { executions, deaths, .. } = summary;
    println!("model {name}: {executions} runs, {deaths} deaths, {:.1?}", begin.elapsed());
    assert!(executions > 1, "one execution is not a model");
    summary
}

#[test]
fn an_event() {
    model_within(3, "public: event", || {
        let event = Event::new().unwrap();
        let theirs = event.clone();
        let setter = process(move || theirs.set());
        assert!(event.wait());
        setter.join().unwrap();
    });
}

#[test]
fn the_setter_of_an_event_dies() {
    let summary = model("public: the setter of an event dies", || {
        let (go, data) = (Event::new().unwrap(), Value::new(0_u64).unwrap());
        let (theirs, their_data) = (go.clone(), data.clone());
        let setter = process(move || {
            their_data.set(7).unwrap();
            theirs.set();
        });
        kill_somewhere(&setter);
        if setter.join().is_some() {
            assert!(go.is_set());
        }
        if go.is_set() {
            assert_eq!(data.get().unwrap(), 7, "the event was set before the data");
        }
    });
    assert!(summary.deaths > 1);
}

/// Moves ten between two numbers, whose sum is 100 unless their holder has died.
fn move_ten(account: &Mutex<[u64; 2]>) {
    let mut account = account.lock().unwrap();
    account[0] -= 10;
    account[1] += 10;
}

#[test]
fn the_holder_of_a_mutex_dies() {
    let died = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = died.clone();
    let summary = model("public: the holder of a mutex dies", move || {
        let account = Mutex::new([100_u64, 0]).unwrap();
        let theirs = account.clone();
        let clerk = process(move || move_ten(&theirs));
        kill_somewhere(&clerk);
        let account = match account.lock() {
            Ok(account) => account,
            Err(LockError::OwnerDied(mut account)) => {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                account[1] = 100 - account[0];
                account
            }
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(account[0] + account[1], 100);
    });
    assert!(summary.deaths > 1);
    assert!(died.load(std::sync::atomic::Ordering::Relaxed) > 0, "no death while the lock was held");
}

#[test]
fn a_value_survives_its_writer() {
    let summary = model("public: the writer of a value dies", || {
        let value = Value::new([1_u64; 3]).unwrap();
        let theirs = value.clone();
        let writer = process(move || theirs.set([2; 3]).unwrap());
        kill_somewhere(&writer);
        let seen = value.get().unwrap();
        assert!(seen == [1; 3] || seen == [2; 3], "{seen:?}");
        let is_done = writer.join().is_some();
        let seen = value.get().unwrap();
        assert!(seen == [2; 3] || seen == [1; 3] && !is_done, "{seen:?}");
        value.set([3; 3]).unwrap();
        assert_eq!(value.get().unwrap(), [3; 3]);
    });
    assert!(summary.deaths > 1);
}

fn drain(queue: &Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

#[test]
fn a_sender_dies() {
    let summary = model("public: the sender of a queue dies", || {
        let queue = Queue::<u32>::new(2).unwrap();
        let theirs = queue.clone();
        let sender = process(move || {
            theirs.send(1).unwrap();
            theirs.send(2).unwrap();
        });
        kill_somewhere(&sender);
        let mut got: Vec<u32> = queue.try_recv().into_iter().collect();
        let is_done = sender.join().is_some();
        got.extend(drain(&queue));
        assert!([1, 2].starts_with(&got), "{got:?}");
        assert!(!is_done || got.len() == 2, "{got:?}");
        // Nothing is left that blocks later senders.
        queue.send(3).unwrap();
        queue.send(4).unwrap();
        assert_eq!(drain(&queue), [3, 4]);
    });
    assert!(summary.deaths > 1);
}

#[test]
fn a_receiver_waits_for_a_sender_that_dies() {
    let summary = model_within(0, "public: a receiver waits, a sender dies, another sends", || {
        let queue = Queue::<u32>::new(1).unwrap();
        let [dying, living] = [queue.clone(), queue.clone()];
        let victim = process(move || dying.try_send(1));
        kill_somewhere(&victim);
        let other = process(move || living.send(2).unwrap());
        let first = queue.recv().unwrap();
        let sent = victim.join().is_some_and(|sent| sent.is_ok());
        if first == 1 {
            assert_eq!(queue.recv().unwrap(), 2);
        } else if sent {
            assert_eq!(queue.recv().unwrap(), 1);
        }
        other.join().unwrap();
    });
    assert!(summary.deaths > 1);
}

#[test]
fn a_receiver_dies() {
    let summary = model("public: the receiver of a queue that redelivers dies", || {
        let queue = Queue::<u32>::builder(2).redeliver(true).build().unwrap();
        let theirs = queue.clone();
        queue.send(1).unwrap();
        let receiver = process(move || theirs.recv().unwrap());
        kill_somewhere(&receiver);
        queue.send(2).unwrap();
        match receiver.join() {
            Some(1) => assert_eq!(queue.recv().unwrap(), 2),
            Some(other) => panic!("{other} came first"),
            // It may have died just after it had received the message.
            None => {
                let first = queue.recv().unwrap();
                assert!(first == 2 || first == 1 && queue.recv().unwrap() == 2);
            }
        }
        assert!(queue.is_empty());
    });
    assert!(summary.deaths > 1);
}

/// In the ledger: the number of the payment under way; 0: none.
const UNDER_WAY: usize = 0;
/// Its amount.
const AMOUNT: usize = 1;
/// The total before it.
const BEFORE: usize = 2;
/// The number of the last payment that was booked.
const BOOKED: usize = 3;

/// Payments that are handed over in two phases: from the queue into the ledger, and from there into
/// the total. examples/model has the same as a program.
#[derive(Clone)]
struct Office {
    /// The numbers of payments, and amounts.
    jobs: Queue<[u64; 2]>,
    ledger: Mutex<[u64; 4]>,
    total: Value<u64>,
}

impl Office {
    fn new() -> Office {
        Office {
            jobs: Queue::builder(2).redeliver(true).build().unwrap(),
            ledger: Mutex::new([0; 4]).unwrap(),
            total: Value::new(0).unwrap(),
        }
    }

    /// Books one job, if there is one.
    fn work(&self, heeds_deaths: bool) {
        let mut ledger = match self.ledger.lock() {
            Ok(ledger) => ledger,
            Err(LockError::OwnerDied(mut ledger)) => {
                // The second phase, for the dead clerk. It may have been in it, or before it.
                if heeds_deaths && ledger[UNDER_WAY] != 0 {
                    self.book(&mut ledger);
                }
                ledger
            }
            Err(other) => panic!("{other:?}"),
        };
        let Ok(job) = self.jobs.try_recv_ref() else { return };
        // A clerk that died while it had the job may have booked it.
        if job[0] > ledger[BOOKED] {
            // The first phase: the payment is in the ledger before it leaves the queue.
            ledger[AMOUNT] = job[1];
            ledger[BEFORE] = self.total.get().unwrap();
            ledger[UNDER_WAY] = job[0];
        }
        drop(job);
        if ledger[UNDER_WAY] != 0 {
            self.book(&mut ledger);
        }
    }

    /// Performs the second phase. Doing it twice changes nothing.
    fn book(&self, ledger: &mut [u64; 4]) {
        self.total.set(ledger[BEFORE] + ledger[AMOUNT]).unwrap();
        ledger[BOOKED] = ledger[UNDER_WAY];
        ledger[UNDER_WAY] = 0;
    }
}

fn hand_over(heeds_deaths: bool) {
    let office = Office::new();
    let theirs = office.clone();
    office.jobs.send([1, 5]).unwrap();
    let clerk = process(move || theirs.work(heeds_deaths));
    kill_somewhere(&clerk);
    office.work(heeds_deaths);
    clerk.join();
    // Another clerk repairs what a dead one has left.
    office.work(heeds_deaths);
    assert_eq!(office.total.get().unwrap(), 5, "a payment was lost or doubled");
}

#[test]
fn two_phases() {
    let summary = model_within(1, "public: a hand-over in two phases", || hand_over(true));
    assert!(summary.deaths > 10);
}

#[test]
fn a_fault_in_two_phases_is_found() {
    let found = std::panic::catch_unwind(|| model::model_within(1, || hand_over(false)));
    assert!(found.is_err(), "a clerk that ignores the death of another was not noticed");
}

#[test]
fn a_semaphore_and_a_condvar() {
    model("public: semaphore", || {
        let permits = Semaphore::new(0).unwrap();
        let theirs = permits.clone();
        let releaser = process(move || theirs.release().unwrap());
        permits.acquire();
        releaser.join().unwrap();
        assert_eq!(permits.available(), 0);
    });
    model("public: condvar", || {
        let (ready, changed) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
        let (theirs, their_change) = (ready.clone(), changed.clone());
        let notifier = process(move || {
            *theirs.lock().unwrap() = 1;
            their_change.notify_one();
        });
        let mut guard = ready.lock().unwrap();
        while *guard == 0 {
            guard = changed.wait(guard).unwrap();
        }
        drop(guard);
        notifier.join().unwrap();
    });
}

#[test]
fn a_topic() {
    let summary = model_within(1, "public: the publisher of a topic dies", || {
        let topic = Topic::<u32>::new(2).unwrap();
        let theirs = topic.clone();
        let mut reader = topic.subscribe(From::Earliest).unwrap();
        let writer = process(move || {
            let publisher = theirs.publisher();
            publisher.publish(1).unwrap();
            publisher.publish(2).unwrap();
        });
        kill_somewhere(&writer);
        let mut got: Vec<u32> = reader.try_recv().into_iter().collect();
        let is_done = writer.join().is_some();
        got.extend(std::iter::from_fn(|| reader.try_recv().ok()));
        assert!([1, 2].starts_with(&got), "{got:?}");
        assert!(!is_done || got.len() == 2, "{got:?}");
        topic.publisher().publish(3).unwrap();
        assert_eq!(reader.recv().unwrap(), 3);
    });
    assert!(summary.deaths > 1);
}

#[test]
fn a_deadline_passes_or_not() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static OUTCOMES: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    model("public: a deadline", || {
        let event = Event::new().unwrap();
        let theirs = event.clone();
        let setter = process(move || theirs.set());
        let is_set = event.wait_timeout(std::time::Duration::from_secs(1));
        OUTCOMES[usize::from(is_set)].fetch_add(1, Relaxed);
        setter.join().unwrap();
    });
    assert!(OUTCOMES.iter().all(|count| count.load(Relaxed) > 0), "{OUTCOMES:?}");
}

#[test]
fn a_name_and_a_segment() {
    model("public: a name", || {
        let place = || Place::from("model-name");
        let event = Event::create(place()).unwrap();
        let other = process(move || Event::open(place()).unwrap().set());
        assert!(event.wait());
        other.join().unwrap();
        assert!(Event::create(place()).is_err(), "the name is taken");
        drop(event);
        assert!(Event::open(place()).is_err(), "the last participant has left");
    });
    model("public: an object that is created in a segment", || {
        let segment = Segment::new(1 << 20).unwrap();
        let theirs = segment.clone();
        let creator = process(move || {
            Event::create(theirs.at("go")).unwrap().set();
        });
        if let Ok(event) = Event::open(segment.at("go")) {
            assert!(event.wait());
        }
        creator.join().unwrap();
        assert!(Event::open(segment.at("go")).unwrap().is_set());
    });
}

#[test]
fn other_objects_between_two_processes() {
    model("public: other objects", || {
        let barrier = Barrier::new(2).unwrap();
        let bounded = BoundedSemaphore::new(1).unwrap();
        let (lock, reentrant) = (Lock::new().unwrap(), ReentrantLock::new().unwrap());
        let (once, shared) = (Once::new().unwrap(), RwLock::new(1_u32).unwrap());
        let (theirs, bounded2, lock2) = (barrier.clone(), bounded.clone(), lock.clone());
        let other = process(move || {
            drop(bounded2.acquire().unwrap());
            drop(lock2.lock().unwrap());
            theirs.wait().unwrap();
        });
        drop((lock.lock().unwrap(), reentrant.lock().unwrap()));
        once.call_once(|| ()).unwrap();
        assert_eq!(*shared.read().unwrap(), 1);
        barrier.wait().unwrap();
        other.join().unwrap();
    });
}
