//! Waiting for several things at once, between processes: each kind of member alone, a thousand of
//! all kinds, lost wake-ups, plain waiters beside sets, deaths, stops, forks, and kernels without
//! `futex_waitv`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pagemate::pipe::{pipe_one_way_with_capacity, PipeReader, PipeWriter};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::waitset::{Waitable, Writable};
use pagemate::{pipe, spsc, ErrorKind, Event, Process, Queue, Semaphore, WaitSet};

use crate::support::forked::Forked;

/// Longer than any call takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Long enough to tell a wait that was woken from one that was not.
const SHORT: Duration = Duration::from_millis(5);

/// Creates a set of one member.
fn alone<W: Waitable>(member: &W) -> WaitSet {
    let mut set = WaitSet::new();
    set.add(7, member).unwrap();
    set
}

fn is_ready(set: &mut WaitSet) -> bool {
    let tried = !set.try_wait().unwrap().is_empty();
    assert_eq!(tried, !set.wait_timeout(Duration::ZERO).unwrap().is_empty());
    assert_eq!(tried, !set.wait_timeout(SHORT).unwrap().is_empty());
    tried
}

#[test]
fn queues() {
    let queue = Queue::<u32>::new(2).unwrap();
    let (mut messages, mut room) = (alone(&queue), alone(&Writable(&queue)));
    assert!(!is_ready(&mut messages) && is_ready(&mut room));
    queue.send(1).unwrap();
    assert!(is_ready(&mut messages) && is_ready(&mut room));
    let held = queue.try_loan().unwrap();
    assert!(is_ready(&mut messages) && !is_ready(&mut room), "a loan takes room and is not a message");
    drop(held);
    queue.recv().unwrap();
    assert!(!is_ready(&mut messages) && is_ready(&mut room));
    queue.close();
    assert!(is_ready(&mut messages) && is_ready(&mut room), "the end counts");
}

#[test]
fn rings() {
    let (mut producer, mut consumer) = spsc::<u32>(1).unwrap();
    let (mut items, mut space) = (alone(&consumer), alone(&producer));
    assert!(!is_ready(&mut items) && is_ready(&mut space));
    producer.send(1).unwrap();
    assert!(is_ready(&mut items) && !is_ready(&mut space));
    consumer.recv().unwrap();
    assert!(!is_ready(&mut items) && is_ready(&mut space));
    producer.send(2).unwrap();
    drop(consumer);
    assert!(is_ready(&mut space), "nobody will receive it");
    drop(producer);
    assert!(is_ready(&mut items));
}

#[test]
fn pipes() {
    let (mut here, mut there) = pipe().unwrap();
    let mut set = alone(&there);
    assert!(!is_ready(&mut set));
    here.send_bytes(b"").unwrap();
    assert!(is_ready(&mut set), "an empty message is one");
    there.recv_bytes().unwrap();
    assert!(!is_ready(&mut set));
    drop(here);
    assert!(is_ready(&mut set));
    assert!(there.try_recv_bytes().unwrap_err().is_closed());
}

/// `poll` has put a message together from its parts, so it is not in the pipe any more. It can
/// still be received.
#[test]
fn a_message_that_the_reader_holds_is_ready() {
    let (mut reader, mut writer) = pipe_one_way_with_capacity(128).unwrap();
    let sender = std::thread::spawn(move || {
        writer.send_bytes(&[7; 1000]).unwrap();
        writer
    });
    let mut set = alone(&reader);
    assert!(reader.wait_readable(LONG).unwrap());
    let writer = sender.join().unwrap();
    assert!(is_ready(&mut set));
    assert!(reader.recv::<u64>().is_err(), "another type: it stays");
    assert!(is_ready(&mut set));
    assert_eq!(reader.recv_bytes().unwrap(), [7; 1000]);
    assert!(!is_ready(&mut set));
    drop(writer);
    assert!(is_ready(&mut set));
}

#[test]
fn events_and_semaphores() {
    let (event, semaphore) = (Event::new().unwrap(), Semaphore::new(1).unwrap());
    let (mut flag, mut permit) = (alone(&event), alone(&semaphore));
    assert!(!is_ready(&mut flag) && is_ready(&mut permit));
    event.set();
    assert!(is_ready(&mut flag) && is_ready(&mut permit), "nothing was taken");
    event.clear();
    semaphore.acquire();
    assert!(!is_ready(&mut flag) && !is_ready(&mut permit));
}

/// An event that is set and cleared at once ends a wait that has begun, as without a set.
#[test]
fn an_event_that_is_set_and_cleared_at_once_ends_a_wait() {
    let [event, other, here] = [(); 3].map(|_| Event::new().unwrap());
    let body = |(event, other, here): (Event, Event, Event)| {
        let mut set = WaitSet::new();
        set.add(0, &event).unwrap();
        set.add(1, &other).unwrap();
        here.set();
        set.wait_timeout(LONG).unwrap().to_vec() == [0]
    };
    let mut child = Process::spawn(body, (event.clone(), other, here.clone())).unwrap();
    assert!(here.wait_timeout(LONG));
    loop {
        event.set();
        event.clear();
        match child.join_timeout(SHORT) {
            Ok(well) => return assert!(well),
            Err(error) => assert!(error.is_timeout(), "{error}"),
        }
    }
}

#[test]
fn processes_and_files() {
    let go = Event::new().unwrap();
    let child = Process::spawn(|go: Event| _ = go.wait(), go.clone()).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut set = WaitSet::new();
    set.add(0, &child).unwrap();
    set.add(1, &near).unwrap();
    assert!(!is_ready(&mut set));
    far.write_all(b"x").unwrap();
    assert_eq!(set.wait().unwrap(), [1]);
    go.set();
    assert!(set.remove(1) && !set.remove(1));
    assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
    child.join().unwrap();
    assert_eq!(set.wait().unwrap(), [0], "an ended process stays ready");
    let mut set = alone(&near);
    drop(near);
    drop(far);
    assert!(is_ready(&mut set), "something to read, and the end");
}

#[test]
fn tokens() {
    let event = Event::new().unwrap();
    let mut set = WaitSet::new();
    assert!(set.is_empty() && set.wait().unwrap().is_empty(), "nothing to wait for");
    set.add(9, &event).unwrap();
    assert_eq!(set.add(9, &event).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(set.add(9, &file).unwrap_err().kind(), ErrorKind::AlreadyExists);
    set.add(3, &event).unwrap();
    event.set();
    assert_eq!(set.wait().unwrap(), [9, 3], "all that are ready");
    assert!(set.remove(9) && !set.remove(9));
    assert_eq!((set.len(), set.wait().unwrap()), (1, &[3][..]));
    assert_eq!(format!("{set:?}"), "WaitSet { words: [(3, event)], files: [], .. }");
}

#[test]
fn timeouts() {
    let (event, semaphore) = (Event::new().unwrap(), Semaphore::new(0).unwrap());
    let (near, _far) = UnixStream::pair().unwrap();
    let mut set = WaitSet::new();
    set.add(0, &event).unwrap();
    // The steps add members: one word, two words, words and a file. The last has only the file.
    for step in 0..4 {
        match step {
            1 => set.add(1, &semaphore).unwrap(),
            2 => set.add(2, &near).unwrap(),
            3 => assert!(set.remove(0) && set.remove(1)),
            _ => {}
        }
        let begin = Instant::now();
        let long = Duration::from_millis(120); // more than two slices
        assert!(set.wait_timeout(long).unwrap().is_empty());
        assert!(begin.elapsed() >= long);
        assert!(set.wait_deadline(begin + 2 * long).unwrap().is_empty());
        assert!(begin.elapsed() >= 2 * long && begin.elapsed() < LONG);
        assert!(set.wait_deadline(begin).unwrap().is_empty());
    }
}

/// Members of all kinds, a thousand of those that are words.
struct Crowd {
    set: WaitSet,
    queues: Vec<Queue<u32>>,
    events: Vec<Event>,
    semaphores: Vec<Semaphore>,
    sockets: Vec<(UnixStream, UnixStream)>,
}

impl Crowd {
    /// Creates `each` objects of every kind in one segment, and `sockets` pairs of sockets.
    fn new(each: usize, sockets: usize) -> Crowd {
        let name = format!("test-waitset-crowd-{}-{each}-{sockets}", std::process::id());
        let segment = pagemate::Segment::create(&name, 16 << 20).unwrap();
        let place = |what: &str, index: usize| segment.at(format!("{what}-{index}"));
        let mut crowd = Crowd {
            set: WaitSet::new(),
            queues: (0..each).map(|index| Queue::create(place("q", index), 2).unwrap()).collect(),
            events: (0..each).map(|index| Event::create(place("e", index)).unwrap()).collect(),
            semaphores: (0..each).map(|index| Semaphore::create(place("s", index), 0).unwrap()).collect(),
            sockets: (0..sockets).map(|_| UnixStream::pair().unwrap()).collect(),
        };
        for index in 0..each {
            crowd.set.add(4 * index, &crowd.queues[index]).unwrap();
            crowd.set.add(4 * index + 1, &crowd.events[index]).unwrap();
            crowd.set.add(4 * index + 2, &crowd.semaphores[index]).unwrap();
        }
        for (index, (near, _)) in crowd.sockets.iter().enumerate() {
            crowd.set.add(4 * index + 3, near).unwrap();
        }
        crowd
    }

    /// Makes the member with this token ready, if there is one.
    fn ring(
        queues: &[Queue<u32>],
        events: &[Event],
        semaphores: &[Semaphore],
        far: &[UnixStream],
        token: usize,
    ) {
        let index = token / 4;
        match token % 4 {
            0 => queues[index].send(1).unwrap(),
            1 => events[index].set(),
            2 => semaphores[index].release().unwrap(),
            _ => (&far[index]).write_all(b"x").unwrap(),
        }
    }

    /// Makes each member ready, in another thread, while the set sleeps, or is about to. The set
    /// must report it.
    fn assert_each_is_reported(mut self, tokens: impl Iterator<Item = usize>) {
        let (near, far): (Vec<_>, Vec<_>) = self.sockets.into_iter().unzip();
        let (queues, events, semaphores) =
            (self.queues.clone(), self.events.clone(), self.semaphores.clone());
        let (order, orders) = std::sync::mpsc::channel();
        let ringer = std::thread::spawn(move || {
            for token in orders {
                Crowd::ring(&queues, &events, &semaphores, &far, token);
            }
        });
        for token in tokens {
            order.send(token).unwrap();
            assert_eq!(self.set.wait_timeout(LONG).unwrap(), [token]);
            let index = token / 4;
            match token % 4 {
                0 => _ = self.queues[index].recv().unwrap(),
                1 => self.events[index].clear(),
                2 => assert!(self.semaphores[index].try_acquire()),
                _ => std::io::Read::read_exact(&mut (&near[index]), &mut [0]).unwrap(),
            }
        }
        drop(order);
        ringer.join().unwrap();
    }
}

#[test]
fn a_thousand_members() {
    let crowd = Crowd::new(334, 0);
    assert!(crowd.set.len() > 1000);
    crowd.assert_each_is_reported((0..4 * 334).filter(|token| token % 4 < 3).step_by(3));
}

#[test]
fn a_thousand_members_of_all_kinds() {
    let crowd = Crowd::new(300, 100);
    assert_eq!(crowd.set.len(), 1000);
    crowd.assert_each_is_reported((0..400).chain(800..1200).filter(|token| token % 4 < 3 || *token < 400));
}

#[test]
fn members_around_the_limit_of_one_call() {
    for count in [127, 128, 129, 254, 255] {
        let mut crowd = Crowd::new(count / 3 + 1, 0);
        let tokens: Vec<_> = (0..4 * crowd.queues.len()).filter(|token| token % 4 < 3).collect();
        tokens[count..].iter().for_each(|token| assert!(crowd.set.remove(*token)));
        assert_eq!(crowd.set.len(), count);
        crowd.assert_each_is_reported(
            [tokens[0], tokens[count - 1], tokens[count / 2], tokens[count - 2]].into_iter(),
        );
    }
}

/// Two processes pass a message back and forth. Each waits in a set with other members, which are
/// never ready. A lost wake-up costs 50 ms.
#[test]
fn no_wake_up_is_lost() {
    const ROUNDS: u32 = 10_000;
    type Members = (Queue<u32>, Queue<u32>, Semaphore, Event);
    fn echo((from, to, semaphore, never): Members) {
        let mut set = WaitSet::new();
        set.add(0, &never).unwrap();
        set.add(1, &from).unwrap();
        set.add(2, &semaphore).unwrap();
        for round in 0..ROUNDS {
            let ready = set.wait_timeout(LONG).unwrap().to_vec();
            match &ready[..] {
                [1] => assert_eq!(from.try_recv().unwrap(), round),
                [2] => assert!(semaphore.try_acquire()),
                other => panic!("{other:?}"),
            }
            to.send(round).unwrap();
        }
    }
    let (there, back) = (Queue::new(1).unwrap(), Queue::new(1).unwrap());
    let (semaphore, never) = (Semaphore::new(0).unwrap(), Event::new().unwrap());
    let members = (there.clone(), back.clone(), semaphore.clone(), never.clone());
    let child = Process::spawn(echo, members).unwrap();
    let mut set = WaitSet::new();
    set.add(0, &never).unwrap();
    set.add(1, &back).unwrap();
    let mut slow = 0;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        match round % 3 {
            0 => semaphore.release().unwrap(),
            _ => there.send(round).unwrap(),
        }
        assert_eq!(set.wait_timeout(LONG).unwrap(), [1]);
        assert_eq!(back.try_recv().unwrap(), round);
        slow += u32::from(begin.elapsed() > Duration::from_millis(45));
    }
    child.join().unwrap();
    // On a busy machine some rounds take that long. If wake-ups were lost, most would.
    assert!(slow < ROUNDS / 2, "{slow} of {ROUNDS} rounds took as long as a slice");
}

/// A set and plain receivers on one queue. The set leaves the messages that it reports, and the
/// others take them before the end of their slices.
#[test]
fn a_set_takes_no_wake_ups_from_plain_receivers() {
    const ROUNDS: u32 = 300;
    let (queue, back) = (Queue::<u32>::new(4).unwrap(), Queue::<u32>::new(4).unwrap());
    let stop = Event::new().unwrap();
    let idle = |(queue, stop): (Queue<u32>, Event)| {
        let mut set = WaitSet::new();
        set.add(0, &queue).unwrap();
        set.add(1, &stop).unwrap();
        // The set learns of every message and takes none.
        while !set.wait_timeout(LONG).unwrap().contains(&1) {
            std::thread::yield_now();
        }
    };
    let taker =
        |(queue, back): (Queue<u32>, Queue<u32>)| queue.iter().for_each(|n| back.send(n.unwrap()).unwrap());
    let sets: Vec<_> = (0..2).map(|_| Process::spawn(idle, (queue.clone(), stop.clone())).unwrap()).collect();
    let receiver = Process::spawn(taker, (queue.clone(), back.clone())).unwrap();
    let mut slow = 0;
    for round in 0..ROUNDS {
        // The pause lets all of them fall asleep most of the time.
        assert!(back.recv_timeout(Duration::from_millis(2)).is_err());
        let begin = Instant::now();
        queue.send(round).unwrap();
        assert_eq!(back.recv_timeout(LONG).unwrap(), round);
        slow += u32::from(begin.elapsed() > Duration::from_millis(20));
    }
    stop.set();
    sets.into_iter().for_each(|set| set.join().unwrap());
    queue.close();
    receiver.join().unwrap();
    // On a busy machine some take that long. If the sets kept wake-ups, two of three would.
    assert!(slow < ROUNDS / 2, "{slow} of {ROUNDS} messages came with the end of a slice");
}

#[test]
fn the_death_of_the_other_side() {
    let (producer, consumer) = spsc::<u32>(4).unwrap();
    let (reader, writer) = pipe_one_way_with_capacity(128).unwrap();
    let never = Event::new().unwrap();
    let mut set = WaitSet::new();
    set.add(0, &consumer).unwrap();
    set.add(1, &reader).unwrap();
    set.add(2, &never).unwrap();
    let here = Event::new().unwrap();
    type Ends = (Producer<u32>, PipeWriter, Event);
    fn body((_producer, _writer, here): Ends) {
        here.set();
        Event::new().unwrap().wait();
    }
    let child = Process::spawn(body, (producer, writer, here.clone())).unwrap();
    assert!(here.wait_timeout(LONG));
    assert!(!is_ready(&mut set));
    child.kill().unwrap();
    assert!(set.wait_timeout(LONG).unwrap().iter().all(|token| *token < 2));
    assert!(child.join().is_err());
    // A caller that only polls sees it too.
    let begin = Instant::now();
    while set.try_wait().unwrap() != [0, 1] {
        assert!(begin.elapsed() < LONG);
    }
    let _: (Consumer<u32>, PipeReader) = (consumer, reader);
}

/// Processes that wait in a set are killed or stopped; nothing changes for the others.
#[test]
fn a_waiting_set_that_is_killed_or_stopped() {
    let (queue, semaphore) = (Queue::<u32>::new(4).unwrap(), Semaphore::new(0).unwrap());
    for round in 0..20 {
        let (queue_too, semaphore_too) = (queue.clone(), semaphore.clone());
        let child = Forked::run(move || {
            let (near, _far) = UnixStream::pair().unwrap();
            let mut set = WaitSet::new();
            set.add(0, &queue_too).unwrap();
            set.add(1, &semaphore_too).unwrap();
            if round % 2 == 1 {
                set.add(2, &near).unwrap(); // and so with a helper
            }
            loop {
                assert!(!set.wait().unwrap().is_empty());
            }
        });
        std::thread::sleep(Duration::from_millis(round)); // a different moment in each round
        child.signal(if round % 4 < 2 { libc::SIGSTOP } else { libc::SIGKILL });
        queue.send(1).unwrap();
        semaphore.release().unwrap();
        assert_eq!(queue.recv_timeout(LONG), Ok(1));
        assert!(semaphore.acquire_timeout(LONG));
        child.kill();
        child.wait();
    }
}

/// A set with helper threads goes on in a forked child, which has none of them, and in the parent.
#[test]
fn a_fork_leaves_the_helpers_behind() {
    let [event, ready] = [(); 2].map(|_| Event::new().unwrap());
    let (near, _far) = UnixStream::pair().unwrap();
    let mut set = WaitSet::new();
    set.add(0, &event).unwrap();
    set.add(1, &near).unwrap();
    assert!(!is_ready(&mut set));
    let (other, ready_too) = (event.clone(), ready.clone());
    let set_in_child = std::panic::AssertUnwindSafe(&mut set);
    let child = Forked::run(move || {
        let std::panic::AssertUnwindSafe(set) = { set_in_child };
        assert!(!is_ready(set));
        ready_too.set();
        let well = set.wait_timeout(LONG).unwrap() == [0] && other.is_set();
        set.remove(0);
        i32::from(!well)
    });
    assert!(ready.wait_timeout(LONG));
    let setter = std::thread::spawn({
        let event = event.clone();
        move || event.set()
    });
    assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
    setter.join().unwrap();
    assert_eq!(child.wait(), 0);
}

/// A program that closes all descriptors it does not know, also closes the one that the helpers
/// ring. The set neither polls it in a loop nor misses an event.
#[test]
fn a_program_closes_the_bell_of_the_helpers() {
    let [event, ready] = [(); 2].map(|_| Event::new().unwrap());
    let (event_too, ready_too) = (event.clone(), ready.clone());
    let child = Forked::run(move || {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut set = WaitSet::new();
        set.add(0, &event_too).unwrap();
        set.add(1, &near).unwrap();
        let before = eventfds();
        assert!(!is_ready(&mut set));
        assert!(set.wait_timeout(Duration::from_millis(1)).unwrap().is_empty());
        let bells: Vec<i32> = eventfds().into_iter().filter(|file| !before.contains(file)).collect();
        assert_eq!(bells.len(), 1, "{bells:?}");
        // SAFETY: this test is about a program that does so.
        unsafe { libc::close(bells[0]) };
        let spent = processor_time();
        assert!(set.wait_timeout(Duration::from_millis(400)).unwrap().is_empty());
        let spent = processor_time() - spent;
        assert!(spent < Duration::from_millis(100), "{spent:?}");
        ready_too.set();
        i32::from(set.wait_timeout(LONG).unwrap() != [0])
    });
    assert!(ready.wait_timeout(LONG));
    event.set();
    assert_eq!(child.wait(), 0);
}

/// Returns the eventfds of this process.
fn eventfds() -> Vec<i32> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let eventfds = files.filter(|file| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[eventfd]")
    });
    eventfds.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the processor time that this process has used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Without `futex_waitv`, which a filter of system calls refuses, everything still works, but
/// later.
#[test]
fn a_kernel_without_futex_waitv() {
    let (queue, event, back) =
        (Queue::<u32>::new(4).unwrap(), Event::new().unwrap(), Queue::<u32>::new(4).unwrap());
    let (queue_too, event_too, back_too) = (queue.clone(), event.clone(), back.clone());
    let child = Forked::run(move || {
        without_waitv();
        let (near, _far) = UnixStream::pair().unwrap();
        let mut set = WaitSet::new();
        set.add(0, &queue_too).unwrap();
        set.add(1, &event_too).unwrap();
        assert!(!is_ready(&mut set));
        back_too.send(77).unwrap();
        for round in 0..20 {
            match round {
                10 => set.add(2, &near).unwrap(),
                15 => assert!(set.remove(1)),
                _ => {}
            }
            assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
            back_too.send(queue_too.try_recv().unwrap()).unwrap();
        }
        set.add(1, &event_too).unwrap();
        i32::from(set.wait_timeout(LONG).unwrap() != [1])
    });
    assert_eq!(back.recv_timeout(LONG).unwrap(), 77, "the other waiter has checked, and found nothing");
    for round in 0..20 {
        assert!(back.recv_timeout(Duration::from_millis(10)).is_err());
        queue.send(round).unwrap();
        assert_eq!(back.recv_timeout(LONG).unwrap(), round);
    }
    event.set();
    assert_eq!(child.wait(), 0);
}

/// Takes `futex_waitv` from this process.
fn without_waitv() {
    const SYS_FUTEX_WAITV: u32 = 449;
    let load_number = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let is_waitv = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: SYS_FUTEX_WAITV };
    let refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | libc::ENOSYS as u32 };
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let mut filter = [load_number, is_waitv, refuse, allow];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its four instructions are here until the calls return, which only
    // read them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
        assert_eq!(libc::syscall(libc::c_long::from(SYS_FUTEX_WAITV), 0, 0, 0, 0, 0), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS));
    }
}
