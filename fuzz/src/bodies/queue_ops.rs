//! Operations on a queue beside a `VecDeque`: the same messages in the same order, and `Full` only
//! when it may be.

use std::collections::VecDeque;

use pagemate::queue::{RecvError, SendError};
use pagemate::Queue;

use super::Supply;

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let capacity = usize::from(supply.byte() % 5) + 1;
    let queue = Queue::<u64>::new(capacity).expect("a small queue");
    let mut twin = VecDeque::new();
    let mut held = Vec::new();
    let mut loans = Vec::new();
    let mut next = 0u64;
    let mut closed = false;
    let mut skipped = false;
    while !supply.is_empty() {
        let room = capacity - held.len() - loans.len() - twin.len();
        match supply.byte() % 10 {
            0..=2 => match queue.try_send(next) {
                Ok(()) => {
                    assert!(!closed && room > 0);
                    twin.push_back(next);
                    next += 1;
                }
                Err(SendError::Full(value)) => {
                    // A slot that was abandoned or held may have missed its turn. The next one
                    // comes when everything sent meanwhile has been received.
                    let reachable = room > 0 && (twin.is_empty() || !skipped);
                    assert!(value == next && !reachable && !closed);
                }
                Err(SendError::Closed(value)) => assert!(value == next && closed),
                Err(error) => panic!("{error}"),
            },
            3..=4 => match queue.try_recv() {
                Ok(value) => assert_eq!(Some(value), twin.pop_front()),
                Err(RecvError::Empty) => assert!(twin.is_empty() && !closed),
                Err(RecvError::Closed) => assert!(twin.is_empty() && closed),
                Err(error) => panic!("{error}"),
            },
            5 => {
                if let Ok(message) = queue.try_recv_ref() {
                    assert_eq!(Some(*message), twin.pop_front());
                    held.push(message);
                }
            }
            6 => {
                let which = usize::from(supply.byte());
                if !held.is_empty() {
                    skipped = true;
                    drop(held.swap_remove(which % held.len()));
                }
            }
            7 => {
                if let Ok(mut loan) = queue.try_loan() {
                    assert!(room > 0 && !closed);
                    *loan = u64::MAX;
                    loans.push(loan);
                }
            }
            8 => {
                // A loan is sent at the position that it claimed, or abandoned.
                let give_up = supply.byte() % 2 == 0;
                if give_up || closed {
                    skipped |= loans.pop().is_some();
                }
            }
            _ => {
                if supply.byte() > 250 {
                    queue.close();
                    loans.clear();
                    closed = true;
                }
            }
        }
        assert_eq!(queue.len(), twin.len());
        assert_eq!(queue.is_empty(), twin.is_empty());
    }
}
