//! Processes that send and receive are killed with SIGKILL at random moments, or stopped with
//! SIGSTOP inside an operation: the others go on, and lose only what the dead process held.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pagemate::{Event, Process, Queue};

use crate::support::{until, Log, Random};

/// The number of kills in each scene. There are a thousand in all.
const KILLS: u64 = 350;

/// Sends numbers for ever, half of them in place. Logs each number after its send.
fn endless_sender((queue, log, started): (Queue<u64>, String, Event)) {
    let log = Log::open(log);
    for value in 0.. {
        if value % 2 == 0 {
            queue.send(value).unwrap();
        } else {
            let mut loan = queue.loan().unwrap();
            *loan = value;
            loan.send().unwrap();
        }
        log.push(value);
        started.set();
        while log.is_full() {
            std::thread::park();
        }
    }
}

#[test]
fn senders_killed_at_random_moments() {
    let mut random = Random::new();
    let log = Log::create("senders");
    let (mut sent, mut in_flight) = (0, 0);
    for _ in 0..KILLS {
        log.clear();
        let queue = Queue::<u64>::new(1 + random.below(5) as usize).unwrap();
        let started = Event::new().unwrap();
        let path = log.path().to_str().unwrap().to_string();
        let victim = Process::spawn(endless_sender, (queue.clone(), path, started.clone())).unwrap();
        let killer = std::thread::spawn(move || {
            assert!(started.wait_timeout(Duration::from_secs(60)));
            random.moment(Duration::from_micros(300));
            victim.kill().unwrap();
            assert!(victim.join().is_err());
            random
        });
        let mut received = Vec::new();
        while !killer.is_finished() {
            received.extend(queue.recv_timeout(Duration::from_millis(1)).ok());
        }
        random = killer.join().unwrap();
        received.extend(queue.try_iter().map(Result::unwrap));
        let logged = log.values();
        assert_eq!(received[..logged.len()], logged, "each completed send exactly once and in order");
        let rest = &received[logged.len()..];
        assert!(
            rest.is_empty() || rest == [logged.len() as u64],
            "the interrupted send at most once: {rest:?}"
        );
        check_can_be_filled(&queue);
        sent += logged.len();
        in_flight += rest.len();
    }
    println!("{KILLS} senders killed: {sent} completed sends, {in_flight} interrupted ones arrived");
    log.remove();
}

/// Checks that all slots have come back. A slot that came back may have to wait for its turn, so
/// this drains in between.
fn check_can_be_filled(queue: &Queue<u64>) {
    until("all slots come back", || {
        while queue.recv_timeout(Duration::from_millis(1)).is_ok() {}
        (0..queue.capacity() as u64).all(|value| queue.try_send(value).is_ok())
    });
}

/// Receives for ever, holds up to three messages at a time, and logs each.
fn endless_receiver((queue, log, started): (Queue<u64>, String, Event)) {
    let log = Log::open(log);
    let mut held = std::collections::VecDeque::new();
    loop {
        let message = queue.recv_ref().unwrap();
        log.push(*message);
        started.set();
        held.push_back(message);
        if held.len() == 3 {
            held.pop_front();
        }
    }
}

fn receivers_killed(redeliver: bool) {
    let mut random = Random::new();
    let log = Log::create(&format!("receivers-{redeliver}"));
    let (mut total, mut lost_in_all, mut again_in_all) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        log.clear();
        let queue = Queue::<u64>::builder(4 + random.below(5) as usize).redeliver(redeliver).build().unwrap();
        let started = Event::new().unwrap();
        let path = log.path().to_str().unwrap().to_string();
        let victim = Process::spawn(endless_receiver, (queue.clone(), path, started.clone())).unwrap();
        let killer = std::thread::spawn(move || {
            assert!(started.wait_timeout(Duration::from_secs(60)));
            random.moment(Duration::from_micros(300));
            victim.kill().unwrap();
            assert!(victim.join().is_err());
            random
        });
        let mut sent = 0u64;
        while !killer.is_finished() {
            sent += u64::from(queue.send_timeout(sent, Duration::from_millis(1)).is_ok());
        }
        random = killer.join().unwrap();
        let logged = log.values();
        let begin = Instant::now();
        let mut drained = Vec::new();
        // The slots of the dead child are back when every sent message is logged, drained or
        // counted as lost.
        let known: HashSet<u64> = logged.iter().copied().collect();
        assert_eq!(known.len(), logged.len(), "delivered twice to the same receiver");
        until("everything sent is accounted for", || {
            drained.extend(queue.recv_timeout(Duration::from_millis(5)).ok());
            let missing =
                (0..sent).filter(|value| !known.contains(value) && !drained.contains(value)).count() as u64;
            missing <= queue.lost() && (!redeliver || missing == 0)
        });
        drained.extend(queue.try_iter().map(Result::unwrap));
        slowest = slowest.max(begin.elapsed());
        let again = drained.iter().filter(|value| known.contains(value)).count();
        assert_eq!(
            drained.iter().collect::<HashSet<_>>().len(),
            drained.len(),
            "delivered twice to the survivor"
        );
        if redeliver {
            assert_eq!(queue.lost(), 0);
            assert!(
                again <= 4,
                "{again} delivered again, but the dead one held at most three and the one it dropped last"
            );
        } else {
            assert_eq!(again, 0);
            assert!(queue.lost() <= 4);
        }
        lost_in_all += queue.lost();
        again_in_all += again;
        total += sent;
        check_can_be_filled(&queue);
    }
    println!(
        "{KILLS} receivers killed, redelivery {redeliver}: {total} sent, {lost_in_all} lost with their \
         holders, {again_in_all} delivered again, slowest accounting {slowest:?}"
    );
    log.remove();
}

#[test]
fn receivers_killed_at_random_moments() {
    receivers_killed(false);
}

#[test]
fn receivers_killed_with_redelivery() {
    receivers_killed(true);
}

/// Takes a loan and a message, reports that, and finishes both on demand. It is stopped meanwhile.
fn holds_both((queue, held, go): (Queue<u64>, Event, Event)) -> u64 {
    let message = queue.recv_ref().unwrap();
    let mut loan = queue.loan().unwrap();
    *loan = 4_000_000;
    held.set();
    go.wait();
    let value = *message;
    loan.send().unwrap();
    value
}

#[test]
fn a_process_stopped_inside_of_send_and_recv_blocks_nobody() {
    const COUNT: u64 = 100_000;
    let queue = Queue::<u64>::new(8).unwrap();
    let [held, go] = [(); 2].map(|_| Event::new().unwrap());
    queue.send(3_000_000).unwrap();
    let stopped = Process::spawn(holds_both, (queue.clone(), held.clone(), go.clone())).unwrap();
    assert!(held.wait_timeout(Duration::from_secs(60)));
    // SAFETY: the pid is that of our child, which we have not waited for.
    let signal = |signal| assert_eq!(unsafe { libc::kill(stopped.pid() as i32, signal) }, 0);
    signal(libc::SIGSTOP);
    go.set();
    let sum = std::thread::scope(|scope| {
        let senders = [0, 1].map(|id| {
            let queue = queue.clone();
            scope.spawn(move || (0..COUNT / 2).for_each(|i| queue.send(i * 2 + id).unwrap()))
        });
        let mut seen = vec![false; COUNT as usize];
        for _ in 0..COUNT {
            let value = queue.recv_timeout(Duration::from_secs(60)).unwrap() as usize;
            assert!(!std::mem::replace(&mut seen[value], true), "{value} came twice");
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        seen.into_iter().filter(|seen| *seen).count() as u64
    });
    assert_eq!(sum, COUNT);
    assert_eq!(queue.lost(), 0, "the stopped one is not dead");
    signal(libc::SIGCONT);
    assert_eq!(queue.recv_timeout(Duration::from_secs(60)).unwrap(), 4_000_000, "it goes on where it was");
    assert_eq!(stopped.join().unwrap(), 3_000_000, "nobody took what it held");
    assert!(queue.is_empty());
}

/// Sends and receives for ever.
fn busy((queue, started): (Queue<u64>, Event)) {
    loop {
        let _ = queue.send_timeout(u64::MAX, Duration::from_millis(1));
        let _ = queue.recv_timeout(Duration::from_millis(1));
        started.set();
    }
}

#[test]
fn a_process_stopped_at_random_moments_blocks_nobody() {
    let mut random = Random::new();
    let queue = Queue::<u64>::new(3).unwrap();
    let started = Event::new().unwrap();
    let victim = Process::spawn(busy, (queue.clone(), started.clone())).unwrap();
    assert!(started.wait_timeout(Duration::from_secs(60)));
    let pid = victim.pid() as i32;
    for _ in 0..200 {
        random.moment(Duration::from_micros(200));
        // SAFETY: the pid is that of our child, which we have not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        for value in 0..500 {
            queue.send_timeout(value, Duration::from_secs(60)).unwrap();
            // Messages of the stopped process may come first.
            let got = queue.recv_timeout(Duration::from_secs(60)).unwrap();
            if got == u64::MAX {
                queue.recv_timeout(Duration::from_secs(60)).unwrap();
            }
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0);
    }
    victim.kill().unwrap();
    assert!(victim.join().is_err());
}
