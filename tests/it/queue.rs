//! Queues between threads and processes: order, capacity, messages in place, closing, redelivery,
//! and damaged bytes.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pagemate::queue::{RecvError, SendError};
use pagemate::{inspect, ErrorKind, Event, Message, Origin, Process, Queue, Segment};

const LONG: Duration = Duration::from_secs(30);

fn name(what: &str) -> String {
    format!("test-queue-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[test]
fn first_in_first_out() {
    for capacity in [1, 2, 3, 7] {
        let queue = Queue::new(capacity).unwrap();
        assert_eq!((queue.capacity(), queue.len()), (capacity, 0));
        assert_eq!(queue.try_recv(), Err(RecvError::Empty));
        let (mut sent, mut received) = (0u64, 0u64);
        for round in 0..5 * capacity {
            for len in 1..=1 + round % capacity {
                assert!(!queue.is_full());
                queue.try_send(sent).unwrap();
                sent += 1;
                assert_eq!((queue.len(), queue.is_empty()), (len, false));
                assert_eq!(queue.is_full(), len == capacity);
            }
            if queue.is_full() {
                assert_eq!(queue.try_send(0), Err(SendError::Full(0)));
            }
            while let Ok(value) = queue.try_recv() {
                assert_eq!(value, received);
                received += 1;
            }
            assert!(queue.is_empty() && !queue.is_full() && sent == received);
        }
    }
}

#[test]
fn full_gives_the_message_back() {
    let queue = Queue::new(1).unwrap();
    queue.send([1u8; 4]).unwrap();
    assert_eq!(queue.try_send([2; 4]), Err(SendError::Full([2; 4])));
    let begin = Instant::now();
    assert_eq!(queue.send_timeout([2; 4], Duration::from_millis(20)).unwrap_err().into_inner(), [2; 4]);
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(queue.send_deadline([2; 4], Instant::now()), Err(SendError::Full([2; 4])));
    assert!(matches!(queue.try_loan(), Err(SendError::Full(()))));
    assert!(matches!(queue.loan_timeout(Duration::ZERO), Err(SendError::Full(()))));
    assert!(matches!(queue.try_loan_with([3; 4]), Err(SendError::Full([3, ..]))));
    assert_eq!(queue.recv(), Ok([1; 4]));
    let begin = Instant::now();
    assert_eq!(queue.recv_timeout(Duration::from_millis(20)), Err(RecvError::Empty));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(queue.recv_deadline(Instant::now()), Err(RecvError::Empty));
}

#[test]
fn impossible_capacities() {
    for capacity in [0, usize::MAX, u32::MAX as usize + 1] {
        assert_eq!(Queue::<u64>::new(capacity).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn loans() {
    let queue = Queue::<u64>::new(2).unwrap();
    let mut first = queue.loan().unwrap();
    let second = queue.loan_with(2).unwrap();
    assert_eq!(*second, 2);
    assert!(queue.is_full() && queue.is_empty(), "taken, and nothing to receive yet");
    *first = 1;
    first.send().unwrap();
    second.send().unwrap();
    assert_eq!([queue.recv(), queue.recv()], [Ok(1), Ok(2)]);
    drop(queue.loan().unwrap());
    queue.send(3).unwrap();
    assert_eq!(queue.try_recv(), Ok(3), "what was not sent is skipped");
    assert!(queue.is_empty() && !queue.is_full());
}

#[test]
fn a_loan_that_was_skipped_gets_a_new_place() {
    let queue = Queue::<u64>::new(2).unwrap();
    let mut early = queue.loan().unwrap();
    *early = 10;
    queue.send(1).unwrap();
    assert_eq!(queue.try_recv(), Ok(1), "nobody waits for the loan");
    queue.send(2).unwrap();
    *early = 11;
    early.try_send().unwrap();
    queue.try_send(3).unwrap_err();
    assert_eq!([queue.try_recv(), queue.try_recv()], [Ok(2), Ok(11)], "behind what was sent before it");
    assert_eq!(queue.try_recv(), Err(RecvError::Empty));
}

#[test]
fn a_loan_that_was_skipped_and_finds_no_room_comes_back() {
    let queue = Queue::<u64>::new(3).unwrap();
    queue.send(0).unwrap();
    let early = queue.loan_with(10).unwrap();
    queue.send(1).unwrap();
    assert_eq!([queue.recv(), queue.recv()], [Ok(0), Ok(1)]);
    (2..4).for_each(|n| queue.send(n).unwrap());
    // Its own slot comes after one with a message.
    let early = early.try_send().unwrap_err();
    assert!(early.is_full());
    let mut early = early.into_inner();
    assert_eq!(*early, 10);
    *early = 11;
    let early = early.send_timeout(Duration::from_millis(5)).unwrap_err().into_inner();
    assert_eq!(queue.try_recv(), Ok(2));
    early.send().unwrap();
    assert_eq!([queue.recv(), queue.recv()], [Ok(3), Ok(11)]);
    assert_eq!(queue.try_recv(), Err(RecvError::Empty));
}

#[test]
fn a_loan_can_get_its_own_slot_again() {
    let queue = Queue::<u64>::new(2).unwrap();
    let early = queue.loan_with(10).unwrap();
    queue.send(1).unwrap();
    let held = queue.recv_ref().unwrap();
    // One slot is the loan's, the other is being read.
    early.send().unwrap();
    assert_eq!((*held, queue.try_recv()), (1, Ok(10)));
}

#[test]
fn what_is_never_sent_wears_nothing_out() {
    for capacity in 1..4 {
        let queue = Queue::<u64>::new(capacity).unwrap();
        for _ in 0..100 {
            drop(queue.loan().unwrap()); // the queue goes on without a consumer
        }
        assert_eq!(queue.try_recv(), Err(RecvError::Empty));
        (0..capacity as u64).for_each(|n| queue.try_send(n).unwrap());
        assert!(queue.try_iter().eq((0..capacity as u64).map(Ok)));
    }
}

#[test]
fn messages_without_a_valid_zero() {
    let queue = Queue::<Side>::new(2).unwrap();
    let mut loan = queue.loan_with(Side::Sell).unwrap();
    assert_eq!(*loan, Side::Sell);
    *loan = Side::Buy;
    loan.send().unwrap();
    assert_eq!(*queue.recv_ref().unwrap(), Side::Buy);
}

#[test]
fn a_held_message_costs_one_slot_and_nothing_else() {
    let queue = Queue::<u64>::new(3).unwrap();
    queue.send(100).unwrap();
    let held = queue.recv_ref().unwrap();
    for n in 0..1000 {
        queue.send(n).unwrap();
        queue.send(n + 1).unwrap();
        assert!(queue.is_full());
        assert_eq!(queue.try_send(0), Err(SendError::Full(0)));
        assert_eq!([queue.recv(), queue.recv()], [Ok(n), Ok(n + 1)]);
    }
    assert_eq!(*held, 100);
    drop(held);
    (0..3).for_each(|n| queue.try_send(n).unwrap());
    assert!(queue.is_full());
    assert!(queue.try_iter().eq([0, 1, 2].map(Ok)));
}

#[test]
fn all_slots_held_is_full_and_not_an_endless_loop() {
    let queue = Queue::<u64>::new(3).unwrap();
    (0..3).for_each(|n| queue.send(n).unwrap());
    let held: Vec<_> = (0..3).map(|_| queue.recv_ref().unwrap()).collect();
    for _ in 0..10 {
        assert!(queue.is_full() && queue.is_empty());
        assert_eq!(queue.try_send(7), Err(SendError::Full(7)));
        assert_eq!(queue.try_recv(), Err(RecvError::Empty));
    }
    drop(held);
    queue.send(8).unwrap();
    assert_eq!(queue.recv(), Ok(8));
}

#[test]
fn one_mebibyte_in_place() {
    type Frame = [u64; 1 << 17];
    // This stack has no room for one message.
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let queue = Queue::<Frame>::new(2).unwrap();
        for n in 1..10 {
            let mut frame = queue.loan().unwrap();
            (frame[0], frame[(1 << 17) - 1]) = (n, n + 1);
            frame.send().unwrap();
            let frame = queue.recv_ref().unwrap();
            assert_eq!((frame[0], frame[(1 << 17) - 1]), (n, n + 1));
        }
        // A skipped loan is copied to another slot.
        let mut early = queue.loan().unwrap();
        (early[0], early[(1 << 17) - 1]) = (77, 78);
        queue.loan().unwrap().send().unwrap();
        drop(queue.recv_ref().unwrap());
        early.send().unwrap();
        let frame = queue.recv_ref().unwrap();
        assert_eq!((frame[0], frame[(1 << 17) - 1]), (77, 78));
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn close_lets_consumers_drain() {
    let queue = Queue::<u64>::new(4).unwrap();
    (0..3).for_each(|n| queue.send(n).unwrap());
    let loan = queue.loan_with(9).unwrap();
    assert!(!queue.is_closed());
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert_eq!(queue.try_send(5), Err(SendError::Closed(5)));
    assert_eq!(queue.send(5), Err(SendError::Closed(5)));
    assert!(matches!(queue.loan(), Err(SendError::Closed(()))));
    assert!(queue.iter().eq([0, 1, 2].map(Ok)));
    assert_eq!([queue.try_recv(), queue.recv()], [Err(RecvError::Closed); 2]);
    assert_eq!(*loan.send().unwrap_err().into_inner(), 9, "too late, and it comes back");
    assert_eq!(queue.recv(), Err(RecvError::Closed));
}

#[test]
fn close_over_every_state_of_the_last_slot() {
    for capacity in 1..4 {
        for sent in 0..=capacity as u64 {
            for held in 0..=sent as usize {
                let queue = Queue::<u64>::new(capacity).unwrap();
                (0..sent).for_each(|n| queue.send(n).unwrap());
                let held: Vec<_> = (0..held).map(|_| queue.recv_ref().unwrap()).collect();
                queue.close();
                assert!(queue.iter().eq((held.len() as u64..sent).map(Ok)));
                drop(held);
                assert_eq!(queue.try_recv(), Err(RecvError::Closed));
                assert_eq!(queue.try_send(1), Err(SendError::Closed(1)));
            }
        }
    }
}

#[test]
fn close_wakes_everybody() {
    let (empty, full) = (Queue::<u64>::new(1).unwrap(), Queue::<u64>::new(1).unwrap());
    full.send(0).unwrap();
    std::thread::scope(|scope| {
        let receivers = [(); 3].map(|_| scope.spawn(|| empty.recv()));
        let senders = [(); 3].map(|_| scope.spawn(|| full.send(1)));
        empty.close();
        full.close();
        receivers.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Err(RecvError::Closed)));
        senders.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Err(SendError::Closed(1))));
    });
    assert_eq!(full.recv(), Ok(0));
}

#[test]
fn threads_exchange_everything_once() {
    const EACH: u64 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    for (capacity, producers, consumers) in [(1, 2, 2), (2, 3, 2), (5, 2, 3), (64, 4, 4)] {
        let queue = Queue::<u64>::new(capacity).unwrap();
        let received: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..consumers)
                .map(|_| scope.spawn(|| queue.iter().collect::<Result<Vec<_>, _>>().unwrap()))
                .collect();
            let queue = &queue;
            let producers: Vec<_> = (0..producers)
                .map(|id| scope.spawn(move || (0..EACH).for_each(|n| queue.send(id << 32 | n).unwrap())))
                .collect();
            producers.into_iter().for_each(|thread| thread.join().unwrap());
            queue.close();
            consumers.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for own in &received {
            for id in 0..producers {
                assert!(own.iter().filter(|value| **value >> 32 == id).is_sorted());
            }
        }
        let all: HashSet<_> = received.iter().flatten().collect();
        let count: usize = received.iter().map(Vec::len).sum();
        assert_eq!((count, all.len()), ((producers * EACH) as usize, count));
    }
}

#[test]
fn loans_and_held_messages_among_threads() {
    const EACH: u64 = 5_000;
    for capacity in [2, 3, 8] {
        let queue = Queue::<[u64; 20]>::new(capacity).unwrap();
        let (sum, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let consumers = [(); 2].map(|_| {
                scope.spawn(|| loop {
                    match queue.recv_ref() {
                        Ok(message) => {
                            assert!(message.iter().all(|word| *word == message[0]), "torn");
                            sum.fetch_add(message[0] as usize, Relaxed);
                            count.fetch_add(1, Relaxed);
                        }
                        Err(error) => break assert_eq!(error, RecvError::Closed),
                    }
                })
            });
            let producers = [(); 3].map(|_| {
                scope.spawn(|| {
                    for n in 0..EACH {
                        let mut loan = queue.loan().unwrap();
                        loan.fill(n);
                        if n % 5 == 0 {
                            drop(loan);
                            queue.send([n; 20]).unwrap();
                        } else {
                            loan.send().unwrap();
                        }
                    }
                })
            });
            producers.into_iter().for_each(|thread| thread.join().unwrap());
            queue.close();
            consumers.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(count.into_inner() as u64, 3 * EACH);
        assert_eq!(sum.into_inner() as u64, 3 * EACH * (EACH - 1) / 2);
    }
}

#[test]
fn names_and_types() {
    let name = name("names");
    let queue = Queue::<u64>::create(&name, 4).unwrap();
    assert_eq!(Queue::<u64>::create(&name, 4).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let error = Queue::<i64>::open(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("u64") && error.to_string().contains("i64"), "{error}");
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (other, origin) = Queue::<u64>::open_or_create(&name, 99).unwrap();
    assert_eq!((origin, other.capacity()), (Origin::Opened, 4));
    queue.send(5).unwrap();
    let seen = inspect::segment(name.as_str()).unwrap();
    assert_eq!(seen.objects[0].head.as_deref(), Some(&5u64.to_le_bytes()[..]));
    assert!(seen.objects[0].state.contains(&("depth", "1".into())), "{:?}", seen.objects[0].state);
    assert_eq!(other.recv(), Ok(5));
    let segment = Segment::new(1 << 20).unwrap();
    let inside = Queue::<u8>::create(segment.at("a"), 3).unwrap();
    inside.send(1).unwrap();
    assert_eq!(Queue::<u8>::open(segment.at("a")).unwrap().recv(), Ok(1));
}

fn echo((from, to): (Queue<[u32; 2]>, Queue<[u32; 2]>)) -> u64 {
    let mut count = 0;
    for message in &from {
        let [n, twice] = message.unwrap();
        assert_eq!(twice, 2 * n);
        to.send([n, n]).unwrap();
        count += 1;
    }
    count
}

#[test]
fn processes_exchange_everything_once() {
    let (there, back) = (Queue::new(4).unwrap(), Queue::new(4).unwrap());
    let children = [(); 3].map(|_| Process::spawn(echo, (there.clone(), back.clone())).unwrap());
    let mut seen = vec![false; 3000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..3000).for_each(|n| there.send([n, 2 * n]).unwrap());
            there.close();
        });
        for _ in 0..3000 {
            let [n, same] = back.recv_timeout(LONG).unwrap();
            assert!(n == same && !std::mem::replace(&mut seen[n as usize], true));
        }
    });
    assert_eq!(children.into_iter().map(|child| child.join().unwrap()).sum::<u64>(), 3000);
}

fn hold((queue, ready): (Queue<u64>, Event)) {
    let message = queue.recv_ref().unwrap();
    let _loan = queue.loan();
    assert_eq!(*message, 1);
    ready.set();
    Event::new().unwrap().wait();
}

/// Lets a process die with a message and a loan.
fn after_a_death(redeliver: bool, lap_it: bool) -> Queue<u64> {
    let queue = Queue::builder(3).redeliver(redeliver).build().unwrap();
    let ready = Event::new().unwrap();
    queue.send(1).unwrap();
    let child = Process::spawn(hold, (queue.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    if lap_it {
        // Its slots get later laps.
        for n in 10..20 {
            queue.send(n).unwrap();
            assert_eq!(queue.recv(), Ok(n));
        }
    }
    child.kill().unwrap();
    assert!(child.join().is_err());
    queue
}

#[test]
fn what_the_dead_held_is_counted_or_comes_back() {
    for lap_it in [false, true] {
        let queue = after_a_death(false, lap_it);
        let begin = Instant::now();
        (0..3).for_each(|n| queue.send_timeout(n, LONG).unwrap());
        assert!(begin.elapsed() < LONG / 2, "a sender waited for the dead");
        assert_eq!(queue.lost(), 1);
        assert!(queue.try_iter().eq([0, 1, 2].map(Ok)));

        let queue = after_a_death(true, lap_it);
        let begin = Instant::now();
        assert_eq!(queue.recv_timeout(LONG), Ok(1));
        assert!(begin.elapsed() < LONG / 2, "the message came back late");
        assert_eq!((queue.lost(), queue.try_recv()), (0, Err(RecvError::Empty)));
        (0..3).for_each(|n| queue.send_timeout(n, LONG).unwrap());
        assert!(queue.try_iter().eq([0, 1, 2].map(Ok)));
    }
}

#[test]
fn a_forked_child_frees_nothing_of_its_parents() {
    let queue = Queue::<u64>::new(2).unwrap();
    queue.send(1).unwrap();
    let held = queue.recv_ref().unwrap();
    let loan = queue.loan_with(2).unwrap();
    // SAFETY: the child takes no lock that another thread of the test may hold except the
    // allocator's, which glibc hands over consistently, and ends without unwinding into the
    // harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let loan = loan.send().unwrap_err();
        let refused = matches!(loan, SendError::NotInThisProcess(..));
        drop((held, loan));
        let sees = queue.try_send(3) == Err(SendError::Full(3));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if refused && sees { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and status is ours to write.
    unsafe { libc::waitpid(child, &mut status, 0) };
    // The child of a test's thread ends with 0 if it panics.
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(*held, 1);
    loan.send().unwrap();
    assert_eq!(queue.recv(), Ok(2));
}

/// Aborts the test if it has not ended in time, because a test cannot detect an endless loop
/// otherwise.
fn watched<R>(what: &'static str, body: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let begin = Instant::now();
            while !done.load(Relaxed) {
                std::thread::park_timeout(Duration::from_millis(100));
                if begin.elapsed() > 4 * LONG {
                    eprintln!("{what}: an endless loop");
                    std::process::abort();
                }
            }
        });
        let result = body();
        done.store(true, Relaxed);
        watch.thread().unpark();
        result
    })
}

/// Uses the queue, which must not panic, hang or fault. The results do not matter.
fn use_it(queue: &Queue<u64>) {
    for n in 0..4 {
        let _ = queue.try_send(n);
        let _ = queue.try_loan().map(|loan| loan.try_send().is_ok());
        let _ = queue.try_recv();
    }
    let held = queue.try_recv_ref();
    let loan = queue.try_loan();
    let _ = (queue.len(), queue.is_full(), queue.is_empty(), queue.lost(), queue.is_closed());
    drop((held, loan));
    let _ = queue.send_timeout(1, Duration::ZERO);
    let _ = queue.recv_timeout(Duration::ZERO);
    queue.try_iter().take(10).for_each(drop);
    queue.close();
    let _ = queue.try_recv();
    let _ = queue.try_send(1);
}

#[test]
fn damaged_bytes_give_errors_or_nothing() {
    const CONTROL: usize = 640;
    const SLOTS: usize = 3;
    let name = name("damage");
    let queue = Queue::<u64>::create(&name, SLOTS).unwrap();
    let file = File::options().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
    let mut whole = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut whole, 0).unwrap();
    let geometry = [SLOTS as u64, 128, 8, 8].map(u64::to_le_bytes).concat();
    let at = (0..whole.len()).step_by(128).find(|at| whole[*at..].starts_with(&geometry)).unwrap();
    let end = at + CONTROL + SLOTS * 128;
    let restore = |bytes: &[u8]| file.write_all_at(bytes, at as u64).unwrap();
    let mut fresh = vec![0; end - at];
    file.read_exact_at(&mut fresh, at as u64).unwrap();
    let words = (0..CONTROL).chain((0..SLOTS).flat_map(|slot| (0..8).map(move |b| CONTROL + slot * 128 + b)));
    let mut random = 0x9e37_79b9u32;
    watched("damaged bytes", || {
        for offset in words {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            for value in [0x00, 0xff, random as u8] {
                for state in 0..4 {
                    restore(&fresh);
                    let _: Vec<_> = (0..state).map(|n| queue.try_send(n)).collect();
                    let held = (state == 2).then(|| queue.try_recv_ref());
                    file.write_all_at(&[value], (at + offset) as u64).unwrap();
                    use_it(&queue);
                    drop(held);
                    if let Ok(other) = Queue::<u64>::open(&name) {
                        use_it(&other);
                    }
                    let _ = inspect::segment(name.as_str());
                }
            }
        }
    });
    restore(&fresh);
    queue.send(1).unwrap();
    assert_eq!(queue.recv(), Ok(1));
}

#[test]
fn a_message_that_is_not_a_valid_value() {
    let name = name("invalid");
    let queue = Queue::<Side>::create(&name, 2).unwrap();
    queue.send(Side::Buy).unwrap();
    queue.send(Side::Sell).unwrap();
    let file = File::options().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
    let mut whole = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut whole, 0).unwrap();
    let geometry = [2u64, 128, 8, 1].map(u64::to_le_bytes).concat();
    let at = (0..whole.len()).step_by(128).find(|at| whole[*at..].starts_with(&geometry)).unwrap();
    for slot in 0..2 {
        file.write_all_at(&[7], (at + 640 + slot * 128 + 8) as u64).unwrap();
    }
    assert_eq!(queue.recv(), Err(RecvError::Corrupted));
    assert!(matches!(queue.recv_ref(), Err(RecvError::Corrupted)));
    // Both slots are free again.
    (0..2).for_each(|_| queue.try_send(Side::Sell).unwrap());
    assert_eq!(queue.recv(), Ok(Side::Sell));
}
