//! Callers that only poll and never block notice deaths too: with one handle or several in turn,
//! often or seldom.

use std::time::{Duration, Instant};

use pagemate::pipe::{pipe_one_way, PipeReader, PipeWriter};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::{spsc, BoundedSemaphore, Event, Mutex, Once, Process, Queue, RwLock, WaitSet};

/// Longer than any call takes on a busy machine. A death that a poll misses would never be noticed.
const LONG: Duration = Duration::from_secs(20);

fn stay(ready: &Event) {
    ready.set();
    loop {
        std::thread::park();
    }
}

/// An object with two ends, of which one process holds one and another one polls the other.
trait Held: Sized {
    /// Returns the end to poll, and the child that holds the other one.
    fn new(ready: &Event) -> (Self, Process<()>);
}

impl Held for PipeReader {
    fn new(ready: &Event) -> (PipeReader, Process<()>) {
        let (reader, writer) = pipe_one_way().unwrap();
        (
            reader,
            Process::spawn(|(_writer, ready): (PipeWriter, Event)| stay(&ready), (writer, ready.clone()))
                .unwrap(),
        )
    }
}

impl Held for Consumer<u64> {
    fn new(ready: &Event) -> (Consumer<u64>, Process<()>) {
        let (producer, consumer) = spsc(4).unwrap();
        let hold = |(_producer, ready): (Producer<u64>, Event)| stay(&ready);
        (consumer, Process::spawn(hold, (producer, ready.clone())).unwrap())
    }
}

impl Held for Producer<u64> {
    fn new(ready: &Event) -> (Producer<u64>, Process<()>) {
        let (mut producer, consumer) = spsc(1).unwrap();
        producer.send(1).unwrap();
        let hold = |(_consumer, ready): (Consumer<u64>, Event)| stay(&ready);
        (producer, Process::spawn(hold, (consumer, ready.clone())).unwrap())
    }
}

impl Held for Queue<u64> {
    fn new(ready: &Event) -> (Queue<u64>, Process<()>) {
        let queue = Queue::builder(1).redeliver(true).build().unwrap();
        queue.send(1).unwrap();
        let hold = |(queue, ready): (Queue<u64>, Event)| {
            let _message = queue.recv_ref().unwrap();
            stay(&ready);
        };
        let child = Process::spawn(hold, (queue.clone(), ready.clone())).unwrap();
        (queue, child)
    }
}

impl Held for Mutex<u64> {
    fn new(ready: &Event) -> (Mutex<u64>, Process<()>) {
        let mutex = Mutex::new(0).unwrap();
        let hold = |(mutex, ready): (Mutex<u64>, Event)| {
            let _guard = mutex.lock().unwrap();
            stay(&ready);
        };
        let child = Process::spawn(hold, (mutex.clone(), ready.clone())).unwrap();
        (mutex, child)
    }
}

impl Held for RwLock<u64> {
    fn new(ready: &Event) -> (RwLock<u64>, Process<()>) {
        let lock = RwLock::new(0).unwrap();
        let hold = |(lock, ready): (RwLock<u64>, Event)| {
            let _guard = lock.write().unwrap();
            stay(&ready);
        };
        let child = Process::spawn(hold, (lock.clone(), ready.clone())).unwrap();
        (lock, child)
    }
}

impl Held for BoundedSemaphore {
    fn new(ready: &Event) -> (BoundedSemaphore, Process<()>) {
        let permits = BoundedSemaphore::new(1).unwrap();
        let hold = |(permits, ready): (BoundedSemaphore, Event)| {
            let _permit = permits.acquire().unwrap();
            stay(&ready);
        };
        let child = Process::spawn(hold, (permits.clone(), ready.clone())).unwrap();
        (permits, child)
    }
}

impl Held for Once {
    fn new(ready: &Event) -> (Once, Process<()>) {
        let once = Once::new().unwrap();
        let hold = |(once, ready): (Once, Event)| {
            let _initialiser = once.begin().unwrap();
            stay(&ready);
        };
        let child = Process::spawn(hold, (once.clone(), ready.clone())).unwrap();
        (once, child)
    }
}

/// A set with a ring in it.
struct Set(WaitSet);

impl Held for Set {
    fn new(ready: &Event) -> (Set, Process<()>) {
        let (consumer, child) = <Consumer<u64> as Held>::new(ready);
        let mut set = WaitSet::new();
        set.add(0, &consumer).unwrap();
        // The role must stay, because the set has only the words.
        std::mem::forget(consumer);
        (Set(set), child)
    }
}

/// Polls `count` objects in turn, `pause` between two rounds, until the last one shows that its
/// holder is dead.
fn notices<T: Held>(count: usize, pause: Duration, mut shows: impl FnMut(&mut T) -> bool) -> Duration {
    let ready: Vec<_> = (0..count).map(|_| Event::new().unwrap()).collect();
    let (mut objects, mut children): (Vec<T>, Vec<_>) = ready.iter().map(T::new).unzip();
    ready.iter().for_each(|ready| assert!(ready.wait()));
    // Polls for some rounds while all are alive.
    for _ in 0..1000 {
        assert!(!objects.iter_mut().any(&mut shows), "nobody is dead");
    }
    let mut child = children.pop().unwrap();
    child.kill().unwrap();
    assert!(child.join_timeout(LONG).is_err(), "it was killed");
    let began = Instant::now();
    while began.elapsed() < LONG {
        let dead = objects.iter_mut().map(&mut shows).rposition(|dead| dead);
        if dead.is_some() {
            assert_eq!(dead, Some(count - 1), "the others live");
            children.iter().for_each(|child| child.kill().unwrap());
            return began.elapsed();
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    panic!("not noticed in {LONG:?}, as the last of {count}");
}

/// Polls in turn with others, alone, and seldom.
fn polled<T: Held>(what: &str, mut shows: impl FnMut(&mut T) -> bool) {
    for (count, pause) in [(1, 0), (2, 0), (4, 0), (2, 5)] {
        let took = notices(count, Duration::from_millis(pause), &mut shows);
        println!("{what}, {count} in turn, every {pause} ms: {took:?}");
    }
}

const ZERO: Duration = Duration::ZERO;

#[test]
fn rings_and_pipes() {
    polled("PipeReader::try_recv", |reader: &mut PipeReader| {
        reader.try_recv::<u64>().is_err_and(|error| error.is_closed())
    });
    polled("PipeReader::is_closed", |reader: &mut PipeReader| reader.is_closed());
    polled("Consumer::try_recv", |consumer: &mut Consumer<u64>| {
        consumer.try_recv() == Err(pagemate::queue::RecvError::Closed)
    });
    polled("Consumer::recv_timeout(0)", |consumer: &mut Consumer<u64>| {
        consumer.recv_timeout(ZERO) == Err(pagemate::queue::RecvError::Closed)
    });
    polled("Producer::try_send", |producer: &mut Producer<u64>| {
        producer.try_send(2).is_err_and(|error| error.is_closed())
    });
    polled("Producer::is_closed", |producer: &mut Producer<u64>| producer.is_closed());
    polled("WaitSet::try_wait", |set: &mut Set| !set.0.try_wait().unwrap().is_empty());
}

#[test]
fn queues() {
    polled("Queue::try_recv", |queue: &mut Queue<u64>| queue.try_recv_ref().map(std::mem::forget).is_ok());
    polled("Queue::recv_timeout(0)", |queue: &mut Queue<u64>| queue.recv_timeout(ZERO).is_ok());
    polled("Queue::try_send", |queue: &mut Queue<u64>| {
        queue.try_send(2).is_err() && queue.try_recv().is_ok()
    });
    polled("Queue::is_empty", |queue: &mut Queue<u64>| !queue.is_empty());
}

#[test]
fn locks() {
    polled(
        "Mutex::try_lock",
        |mutex: &mut Mutex<u64>| !matches!(mutex.try_lock(), Err(error) if error.is_not_acquired()),
    );
    polled(
        "Mutex::lock_timeout(0)",
        |mutex: &mut Mutex<u64>| !matches!(mutex.lock_timeout(ZERO), Err(error) if error.is_not_acquired()),
    );
    polled("Mutex::is_locked", |mutex: &mut Mutex<u64>| !mutex.is_locked());
    polled(
        "RwLock::try_read",
        |lock: &mut RwLock<u64>| !matches!(lock.try_read(), Err(error) if error.is_not_acquired()),
    );
    polled(
        "RwLock::write_timeout(0)",
        |lock: &mut RwLock<u64>| !matches!(lock.write_timeout(ZERO), Err(error) if error.is_not_acquired()),
    );
}

#[test]
fn permits_and_beginnings() {
    polled("BoundedSemaphore::try_acquire", |permits: &mut BoundedSemaphore| permits.try_acquire().is_ok());
    polled("Once::try_begin", |once: &mut Once| once.try_begin().is_ok());
    polled("Once::begin_timeout(0)", |once: &mut Once| once.begin_timeout(ZERO).is_ok());
}
