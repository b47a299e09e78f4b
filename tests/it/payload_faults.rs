//! Messages of any length: what a death leaves, and damaged bytes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::queue::RecvError;
use pagemate::{inspect, Message, Process, Queue};

use crate::payload::{bytes, UNIT};
use crate::support::{damage, until};

const LONG: Duration = Duration::from_secs(30);

fn name(what: &str) -> String {
    format!("test-payload-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Deed {
    Loans,
    Reads,
    Sends,
}

/// Holds a long message in one of three ways, until it is killed.
fn hold((queue, deed, ready): (Queue<[u8]>, Deed, pagemate::Event)) {
    match deed {
        Deed::Loans => {
            let _loan = queue.loan(30_000).unwrap().zeroed();
            ready.set();
            std::thread::sleep(LONG);
        }
        Deed::Reads => {
            let _message = queue.recv_ref().unwrap();
            ready.set();
            std::thread::sleep(LONG);
        }
        Deed::Sends => {
            ready.set();
            loop {
                queue.send(&bytes(1, 30_000)).unwrap();
            }
        }
    }
}

#[test]
fn a_death_frees_what_was_held() {
    for (deed, redeliver) in
        [(Deed::Loans, false), (Deed::Reads, false), (Deed::Reads, true), (Deed::Sends, false)]
    {
        let queue = Queue::<[u8]>::builder(8).quota(64 * UNIT).redeliver(redeliver).build().unwrap();
        let message = bytes(11, 40_000);
        if deed == Deed::Reads {
            queue.send(&message).unwrap();
        }
        let ready = pagemate::Event::new().unwrap();
        let child = Process::spawn(hold, (queue.clone(), deed, ready.clone())).unwrap();
        ready.wait();
        child.kill().unwrap();
        child.join().unwrap_err();
        if redeliver {
            assert!(queue.recv_timeout(LONG).unwrap() == message);
        }
        if deed == Deed::Sends {
            while queue.recv_timeout(Duration::from_millis(200)).is_ok() {}
        }
        until("the quota is free", || {
            assert!(queue.try_recv().is_err());
            queue.quota_in_use() == 0
        });
        assert_eq!(queue.lost(), u64::from(deed == Deed::Reads && !redeliver));
        queue.try_send(&bytes(12, 50 * UNIT as usize)).unwrap();
    }
}

#[test]
fn damaged_headers_are_errors() {
    let name = name("damage");
    let queue = Queue::<[u32]>::builder(2).quota(4 * UNIT).create(name.as_str()).unwrap();
    let object = damage::Object::find(&name, &[2, 128, 24, 4]);
    // The first slot: word, length, block.
    damage::each(24, move |offset, value| {
        let queue = Queue::<[u32]>::open(name.as_str());
        let Ok(queue) = queue else { return };
        for len in [3, 5000] {
            _ = queue.try_send(&vec![1; len]);
            object.set(640 + offset, value);
            object.set(640 + 128 + offset, value);
            _ = queue.try_recv_ref().map(|message| message.iter().map(|n| u64::from(*n)).sum::<u64>());
            _ = queue.try_recv();
            _ = queue.try_recv_into(&mut Vec::new());
            _ = queue.force_send(&vec![2; len], |_| {});
            _ = inspect::segment(name.as_str());
        }
    });
    drop(queue);
}

/// A hostile process clears the header while a sender is between its steps. The sender must not
/// write its long message over the slot and what follows.
#[test]
fn a_header_that_changes_meanwhile_leads_no_sender_astray() {
    const LEN: usize = 100_000;
    // In the store, behind the slot: the claim log of a participant that never exists.
    const UNUSED: usize = 640 + 128 + 1152 + 64 * 1000;
    let message = vec![0xaa_u8; LEN];
    for round in 0..20 {
        let name = name(&format!("astray-{round}"));
        // Enough for all blocks whose names are cleared.
        let queue = Queue::<[u8]>::builder(1).quota(2000 * UNIT).create(name.as_str()).unwrap();
        let object = damage::Object::find(&name, &[1, 128, 24, 1]);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    object.write(640 + 8, &[0; 16]);
                }
            });
            for _ in 0..60 {
                _ = queue.try_send(&message);
                _ = queue.try_recv();
                _ = queue.try_loan_from(&message).map(drop);
                _ = queue.force_send(&message, |_| {});
                _ = queue.try_recv();
            }
            is_over.store(true, Relaxed);
        });
        let mut bytes = [0; 64];
        object.read(UNUSED, &mut bytes);
        assert_eq!(bytes, [0; 64], "written over");
    }
}

#[test]
fn a_panic_of_the_caller_keeps_no_slot_and_no_block() {
    let message = bytes(3, 50_000);
    // The first queue has memory for one message, the second a slot for one.
    for (capacity, quota) in [(2, 4 * UNIT), (1, 16 * UNIT)] {
        let queue = Queue::<[u8]>::builder(capacity).quota(quota).build().unwrap();
        for _ in 0..20 {
            queue.force_send(&message, |_| unreachable!()).unwrap();
            let replace = || queue.force_send(&message, |_| panic!("expected"));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(replace)).unwrap_err();
            while queue.try_recv().is_ok() {}
            assert_eq!((queue.quota_in_use(), queue.is_full()), (0, false));
        }
    }
}

#[test]
fn invalid_utf8_is_an_error() {
    let name = name("no-text");
    let queue = Queue::<str>::create(name.as_str(), 2).unwrap();
    let object = damage::Object::find(&name, &[2, 128, 24, 1]);
    queue.send("abc").unwrap();
    object.set(640 + 24, 0xff);
    assert_eq!(queue.recv(), Err(RecvError::Corrupted));
    queue.send("abc").unwrap();
    object.set(640 + 128 + 24, 0xff);
    let mut text = String::from("before");
    assert_eq!(queue.recv_into(&mut text), Err(RecvError::Corrupted));
    assert_eq!(text, "");
    queue.send("intact").unwrap();
    assert_eq!(queue.recv().unwrap(), "intact");
}
