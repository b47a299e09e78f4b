//! Operations on an SPSC ring beside a `VecDeque`: the same messages in the same order, `Full` and
//! `Empty` at the same times.

use std::collections::VecDeque;

use pagemate::queue::{RecvError, SendError};
use pagemate::spsc;

use super::Supply;

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let capacity = usize::from(supply.byte() % 7) + 1;
    let (producer, consumer) = spsc::<u64>(capacity).expect("a small ring");
    let (mut producer, mut consumer) = (Some(producer), Some(consumer));
    let mut twin = VecDeque::new();
    let mut next = 0u64;
    while !supply.is_empty() {
        let room = capacity - twin.len();
        let (operation, count) = (supply.byte() % 12, usize::from(supply.byte() % 9));
        if let Some(producer) = &mut producer {
            let closed = consumer.is_none();
            match operation {
                0 => match producer.try_send(next) {
                    Ok(()) => {
                        assert!(room > 0 && !closed);
                        twin.push_back(next);
                        next += 1;
                    }
                    Err(SendError::Full(value)) => assert!(value == next && room == 0 && !closed),
                    Err(SendError::Closed(value)) => assert!(value == next && closed),
                    Err(error) => panic!("{error}"),
                },
                1 => {
                    if let Ok(mut loan) = producer.try_loan() {
                        *loan = next;
                        if count % 2 == 0 {
                            loan.send();
                            twin.push_back(next);
                            next += 1;
                        }
                    }
                }
                2 => {
                    let values: Vec<u64> = (next..).take(count).collect();
                    if let Ok(sent) = producer.try_send_batch(&values) {
                        assert!(closed && count == 0 || sent == count.min(room));
                        twin.extend(&values[..sent]);
                        next += sent as u64;
                    }
                }
                3 if count > 0 => {
                    if let Ok(chunk) = producer.try_chunk(count) {
                        assert!(chunk.len() <= room);
                        let sent = chunk.fill_from(next..next + u64::from(supply.byte() % 9)) as u64;
                        twin.extend(next..next + sent);
                        next += sent;
                    }
                }
                _ => {}
            }
        }
        if let Some(consumer) = &mut consumer {
            match operation {
                4 | 5 => match consumer.try_recv() {
                    Ok(value) => assert_eq!(Some(value), twin.pop_front()),
                    Err(RecvError::Empty) => assert!(twin.is_empty() && producer.is_some()),
                    Err(RecvError::Closed) => assert!(twin.is_empty() && producer.is_none()),
                    Err(error) => panic!("{error}"),
                },
                6 => {
                    if let Ok(message) = consumer.try_recv_ref() {
                        assert_eq!(Some(*message), twin.pop_front());
                    }
                }
                7 => {
                    let mut received = Vec::new();
                    let _ = consumer.try_recv_batch(&mut received, count);
                    assert!(received.len() <= count);
                    assert!(received.iter().copied().eq(twin.drain(..received.len())));
                }
                8 if count > 0 => {
                    if let Ok(chunk) = consumer.try_chunk(count) {
                        assert!(chunk.iter().zip(&twin).all(|(received, sent)| received == sent));
                        let released = chunk.len().min(usize::from(supply.byte() % 9));
                        chunk.release(released);
                        twin.drain(..released);
                    }
                }
                _ => {}
            }
            assert_eq!(consumer.len(), twin.len());
        }
        match (operation, count) {
            (10, 8) => producer = None,
            (11, 8) => {
                consumer = None;
                twin.clear();
            }
            _ => {}
        }
        if consumer.is_none() && producer.is_none() {
            return;
        }
        if consumer.is_none() {
            // Nobody counts any more: the messages sent before stay in the ring, unread.
            let producer = producer.as_mut().expect("one of the two");
            assert!(matches!(producer.try_send(0), Err(SendError::Closed(0))));
            return;
        }
    }
}
