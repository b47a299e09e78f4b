//! No system call when nobody waits: the operations run in a child that may only exit.
//!
//! Under `SECCOMP_MODE_STRICT` the kernel kills a process at any call but `read`, `write`, `exit` and `sigreturn`.

use pagemate::{Event, Queue, WaitSet};

/// Runs `body` in a forked child without system calls; gives its wait status.
fn confined(body: impl Fn()) -> i32 {
    // SAFETY: the child touches only what it was given and its stack, and exits without unwinding.
    match unsafe { libc::fork() } {
        0 => {
            // The first use after the fork attaches anew and may allocate; the second is the rule.
            body();
            // SAFETY: no pointers are passed; after this the child can do nothing that needs the kernel.
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
            (0..1000).for_each(|_| body());
            // SAFETY: exit_group is not allowed here, exit is.
            unsafe { libc::syscall(libc::SYS_exit, 7) };
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

#[test]
fn a_system_call_is_noticed() {
    let status = confined(|| {
        // SAFETY: asks for the parent's pid.
        unsafe { libc::getppid() };
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
}

#[test]
fn event() {
    let event = Event::new().unwrap();
    let body = || {
        event.set();
        assert!(event.wait() && event.is_set());
        event.clear();
    };
    assert!(exited_well(confined(body)));
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
    assert!(exited_well(confined(body)));
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
    assert!(exited_well(confined(body)));
}

#[test]
fn spsc() {
    // Roles do not pass through a fork, so both ends are made in the child.
    let (producer, consumer) = pagemate::spsc::<u64>(4).unwrap();
    drop((producer, consumer));
    // SAFETY: as in `confined`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let (mut producer, mut consumer) = pagemate::spsc::<u64>(4).unwrap();
        // SAFETY: as in `confined`.
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        for i in 0..1000 {
            producer.try_send(i).unwrap();
            producer.try_send(i).unwrap();
            assert!(
                consumer.try_recv().is_ok() && consumer.try_recv().is_ok() && consumer.try_recv().is_err()
            );
        }
        // SAFETY: as in `confined`.
        unsafe { libc::syscall(libc::SYS_exit, 7) };
    }
    let mut status = 0;
    // SAFETY: the pid is our child's, and status is ours to write.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert!(exited_well(status));
}

/// What ends a busy poll that finds nothing: the death of the other side, seen by who only ever tries.
#[test]
fn a_death_is_seen_by_a_busy_poll() {
    let name = format!("test-busy-poll-{}", std::process::id());
    let mut consumer = pagemate::Consumer::<u64>::create(&name, 4).unwrap();
    // SAFETY: as in `confined`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut producer = pagemate::Producer::<u64>::open(&name).unwrap();
        producer.send(7).unwrap();
        std::mem::forget(producer);
        // SAFETY: ends the process as a kill would, without closing anything.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the pid is our child's.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    assert_eq!(consumer.try_recv(), Ok(7));
    let begin = std::time::Instant::now();
    while consumer.try_recv() == Err(pagemate::RecvError::Empty) {
        assert!(begin.elapsed().as_secs() < 30, "the producer is dead");
    }
    assert_eq!(consumer.try_recv(), Err(pagemate::RecvError::Closed));
}
