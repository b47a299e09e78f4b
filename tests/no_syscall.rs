//! No system call where nobody waits: the operations run in a child that may only exit.
//!
//! A filter makes the kernel kill the child at any other call. (`SECCOMP_MODE_STRICT` would forbid
//! the time stamp counter too, by which the clock is read without a system call.)

use pagemate::queue::topic::From;
use pagemate::{Event, Queue, Service, Topic, WaitSet};

/// Forbids this process every system call except to exit.
fn confine() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IS_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut filter = [
        libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 }, // the number of the call
        libc::sock_filter { code: IS_EQUAL, jt: 0, jf: 1, k: libc::SYS_exit_group as u32 },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_KILL_PROCESS },
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its four instructions are there until the call returns, which copies
    // them.
    let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(refused, 0);
}

/// The number of times that the child repeats its operations: some milliseconds in all.
const ROUNDS: usize = 100;

/// Runs `body` in a forked child without system calls; returns its wait status.
fn confined(body: impl Fn()) -> i32 {
    // SAFETY: the child touches only what it was given and its stack, and exits without unwinding.
    match unsafe { libc::fork() } {
        0 => {
            // The first use after the fork attaches again and may allocate. Later ones do not.
            body();
            confine();
            (0..ROUNDS).for_each(|_| body());
            // SAFETY: ends the process.
            unsafe { libc::syscall(libc::SYS_exit_group, 7) };
            unreachable!("the process has exited")
        }
        pid => {
            let mut status = 0;
            // SAFETY: the pid is our child's, and status is ours to write.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            status
        }
    }
}

fn exited_well(status: i32) -> bool {
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7
}

/// Returns whether the operations make no system call. Failed attempts check for deaths when 40 ms
/// have passed, which takes system calls. So the rounds are few, and they are repeated if they were
/// interrupted for that long.
fn makes_none(body: impl Fn()) -> bool {
    (0..10).any(|_| exited_well(confined(&body)))
}

#[test]
fn a_system_call_is_noticed() {
    let status = confined(|| {
        // SAFETY: asks for the parent's pid.
        unsafe { libc::getppid() };
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS);
}

#[test]
fn event() {
    let event = Event::new().unwrap();
    let body = || {
        event.set();
        assert!(event.wait() && event.is_set());
        event.clear();
    };
    assert!(makes_none(body));
}

#[test]
fn queue() {
    let queue = Queue::<u64>::new(4).unwrap();
    let body = || {
        queue.try_send(1).unwrap();
        queue.send(2).unwrap();
        assert!(queue.try_recv().is_ok() && queue.recv().is_ok());
        *queue.try_loan().unwrap() = 3;
        assert!(queue.try_recv().is_err());
        queue.try_send(4).unwrap();
        drop(queue.try_recv_ref().unwrap());
        (0..4).for_each(|i| queue.try_send(i).unwrap());
        assert!(queue.try_send(5).is_err());
        while queue.try_recv().is_ok() {}
    };
    assert!(makes_none(body));
}

#[test]
fn service() {
    let service = Service::<u64, u64>::new(4).unwrap();
    let (client, server) = (service.client(), service.server());
    let body = || {
        let call = client.start(&1).unwrap();
        let request = server.recv().unwrap();
        request.reply(&2).unwrap();
        assert_eq!(call.wait(), Ok(2));
        let call = client.loan().unwrap().start().unwrap();
        let call = call.try_wait().unwrap_err();
        server.try_recv().unwrap().reply_loan().unwrap().send().unwrap();
        assert!(call.wait_ref().is_ok());
        drop(client.start(&3).unwrap());
        assert!(server.try_recv().is_err());
        let calls = [(); 4].map(|()| client.try_start(&4).unwrap());
        assert!(client.try_start(&5).is_err());
        drop(server.try_recv().unwrap());
        drop(calls);
        assert!(server.try_recv().is_err());
    };
    assert!(makes_none(body));
}

#[test]
fn topic() {
    let topic = Topic::<u64>::new(2).unwrap();
    // Subscribers do not pass through a fork, so they are created in the child.
    let parts = std::cell::OnceCell::new();
    let body = || {
        let parts = parts.get_or_init(|| {
            let subscribers = (topic.subscribe(From::Latest), topic.subscribe_lossless(From::Latest));
            std::cell::RefCell::new((topic.publisher(), subscribers.0.unwrap(), subscribers.1.unwrap()))
        });
        let (publisher, lossy, lossless) = &mut *parts.borrow_mut();
        publisher.publish(1).unwrap();
        let mut loan = publisher.try_loan().unwrap();
        *loan = 2;
        loan.publish().unwrap();
        assert!(publisher.try_publish(3).is_err());
        for subscriber in [lossy, lossless] {
            assert!(subscriber.recv().is_ok() && subscriber.try_recv_ref().is_ok());
            assert!(subscriber.try_recv().is_err());
        }
    };
    assert!(makes_none(body));
}

#[test]
fn topic_of_messages_of_any_length() {
    let topic = Topic::<[u64]>::builder(2).quota(1 << 18).build().unwrap();
    let (numbers, samples) = ([7; 500], std::cell::RefCell::new(Vec::with_capacity(500)));
    // Subscribers do not pass through a fork, so they are created in the child.
    let parts = std::cell::OnceCell::new();
    let body = || {
        let parts = parts.get_or_init(|| {
            let subscribers = (topic.subscribe(From::Latest), topic.subscribe_lossless(From::Latest));
            std::cell::RefCell::new((topic.publisher(), subscribers.0.unwrap(), subscribers.1.unwrap()))
        });
        let (publisher, lossy, lossless) = &mut *parts.borrow_mut();
        let mut samples = samples.borrow_mut();
        for len in [3, 500, 70, 20, 499] {
            publisher.publish(&numbers[..len]).unwrap();
            publisher.try_loan(len).unwrap().write_slice(&numbers[..len]).publish().unwrap();
            assert!(publisher.try_publish(&numbers[..len]).is_err());
            for subscriber in [&mut *lossy, &mut *lossless] {
                assert!(subscriber.recv_into(&mut samples) == Ok(len));
                assert!(subscriber.recv_ref().unwrap().len() == len);
                assert!(subscriber.try_recv_into(&mut samples).is_err());
            }
        }
    };
    assert!(makes_none(body));
}

#[test]
fn messages_of_any_length() {
    let queue = Queue::<[u64]>::builder(4).quota(1 << 20).build().unwrap();
    let (numbers, samples) = ([7; 500], std::cell::RefCell::new(Vec::with_capacity(500)));
    let body = || {
        let mut samples = samples.borrow_mut();
        for len in [3, 500, 70, 20, 499] {
            queue.send(&numbers[..len]).unwrap();
            queue.try_loan(len).unwrap().write_slice(&numbers[..len]).send().unwrap();
            drop(queue.try_loan(len).unwrap());
            assert!(queue.recv_ref().unwrap().len() == len);
            assert!(queue.recv_into(&mut samples) == Ok(len));
            assert!(queue.try_recv_into(&mut samples).is_err());
        }
    };
    assert!(makes_none(body));
}

#[test]
fn waitset() {
    let (event, queue) = (Event::new().unwrap(), Queue::<u64>::new(4).unwrap());
    let set = std::cell::RefCell::new(WaitSet::new());
    set.borrow_mut().add(0, &event).unwrap();
    set.borrow_mut().add(1, &queue).unwrap();
    let body = || {
        let mut set = set.borrow_mut();
        assert!(set.try_wait().unwrap().is_empty());
        queue.try_send(1).unwrap();
        assert_eq!(set.wait().unwrap(), [1]);
        event.set();
        assert_eq!(set.wait().unwrap(), [0, 1]);
        event.clear();
        queue.try_recv().unwrap();
    };
    assert!(makes_none(body));
}

#[test]
fn spsc() {
    // Roles do not pass through a fork, so both ends are created in the child.
    let ends = std::cell::OnceCell::new();
    let body = || {
        let ends = ends.get_or_init(|| std::cell::RefCell::new(pagemate::spsc::<u64>(4).unwrap()));
        let (producer, consumer) = &mut *ends.borrow_mut();
        producer.try_send(1).unwrap();
        producer.try_send(2).unwrap();
        assert!(consumer.try_recv().is_ok() && consumer.try_recv().is_ok() && consumer.try_recv().is_err());
    };
    assert!(makes_none(body));
}

/// A caller that only polls notices the death of the other side.
#[test]
fn a_death_is_seen_by_a_busy_poll() {
    let name = format!("test-busy-poll-{}", std::process::id());
    let mut consumer = pagemate::queue::spsc::Consumer::<u64>::create(&name, 4).unwrap();
    // SAFETY: as in `confined`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut producer = pagemate::queue::spsc::Producer::<u64>::open(&name).unwrap();
        producer.send(7).unwrap();
        std::mem::forget(producer);
        // SAFETY: ends the process as a kill would, without closing anything.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the pid is our child's.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    assert_eq!(consumer.try_recv(), Ok(7));
    let begin = std::time::Instant::now();
    while consumer.try_recv() == Err(pagemate::queue::RecvError::Empty) {
        assert!(begin.elapsed().as_secs() < 30, "the producer is dead");
    }
    assert_eq!(consumer.try_recv(), Err(pagemate::queue::RecvError::Closed));
}
