//! Operations on a topic beside a `Vec` of all that was published: each subscriber gets a message
//! after the other, what it loses is counted, and publishers stop where a lossless one is full.

use pagemate::queue::topic::{From, Policy, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use super::Supply;

/// A subscriber, and what it must have.
struct Seen {
    subscriber: Subscriber<u64>,
    /// The number of messages before its next.
    position: u64,
    lost: u64,
    /// The number of positions that may have been skipped since it received the last one.
    skipped: u64,
}

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let capacity = u64::from(supply.byte() % 6) + 1;
    let policy = [Policy::Block, Policy::Fail, Policy::Evict][usize::from(supply.byte() % 3)];
    let topic = Topic::<u64>::builder(capacity as usize).policy(policy).build().expect("a small topic");
    let publisher = topic.publisher();
    let mut all = Vec::<Seen>::new();
    let mut loans = Vec::new();
    let mut published = 0u64;
    let mut closed = false;
    while !supply.is_empty() {
        // Publishers skip the slot of a loan once in each turn.
        let holes = 2 * loans.len() as u64;
        let laggard = all.iter().any(|seen| {
            seen.subscriber.is_lossless() && published - seen.position + seen.skipped + holes >= capacity
        });
        let surely = all
            .iter()
            .any(|seen| seen.subscriber.is_lossless() && published - seen.subscriber.position() >= capacity);
        match supply.byte() % 12 {
            0..=3 => match publisher.try_publish(published) {
                Ok(()) => {
                    assert!(!closed && (!surely || policy == Policy::Evict));
                    published += 1;
                }
                Err(SendError::Full(value)) => {
                    assert!(value == published && !closed && laggard && policy == Policy::Block);
                }
                Err(SendError::Lagging(value, who)) => {
                    assert!(value == published && !closed && laggard && policy == Policy::Fail);
                    assert_eq!(who.pid(), std::process::id());
                }
                Err(SendError::Closed(value)) => assert!(value == published && closed),
                Err(error) => panic!("{error}"),
            },
            4..=6 if !all.is_empty() => {
                let index = usize::from(supply.byte()) % all.len();
                let in_place = supply.byte() % 2 == 0;
                receive(&mut all[index], in_place, published, closed);
            }
            7 => {
                let from = match supply.byte() % 4 {
                    0 => From::Latest,
                    1 => From::Earliest,
                    2 => From::Last(u64::from(supply.byte() % 8)),
                    _ => From::Position(u64::from(supply.byte())),
                };
                let subscriber = match supply.byte() % 2 {
                    0 => topic.subscribe(from),
                    _ => topic.subscribe_lossless(from),
                };
                match (subscriber, from) {
                    (Ok(subscriber), _) if all.len() < 8 => {
                        let position = match from {
                            From::Position(position) => position,
                            _ => subscriber.position(),
                        };
                        assert!(position <= published);
                        // Positions that were skipped before count for a lossless one.
                        let skipped = if position == published { 0 } else { u64::MAX >> 1 };
                        all.push(Seen { position, subscriber, lost: 0, skipped });
                    }
                    (Ok(_), _) => {}
                    (Err(_), From::Position(position)) => assert!(position > published),
                    (Err(error), _) => panic!("{error}"),
                }
            }
            8 if !all.is_empty() => {
                let index = usize::from(supply.byte()) % all.len();
                drop(all.swap_remove(index));
            }
            9 if loans.len() < 2 => {
                if let Ok(mut loan) = publisher.try_loan() {
                    assert!(!closed);
                    *loan = u64::MAX;
                    loans.push(loan);
                    all.iter_mut().for_each(|seen| seen.skipped = seen.skipped.saturating_add(8));
                }
            }
            10 => {
                all.iter_mut().for_each(|seen| seen.skipped = seen.skipped.saturating_add(8));
                drop(loans.pop());
            }
            11 if supply.byte() > 250 => {
                topic.close();
                loans.clear();
                closed = true;
            }
            _ => {}
        }
    }
    for seen in &mut all {
        while seen.position < published {
            receive(seen, false, published, closed);
        }
    }
}

/// Receives once, and checks the result.
fn receive(seen: &mut Seen, in_place: bool, published: u64, closed: bool) {
    let was_lossless = seen.subscriber.is_lossless();
    let is_new = seen.lost == 0 && seen.subscriber.position() > seen.position;
    let received = match in_place {
        true => seen.subscriber.try_recv_ref().map(|message| *message),
        false => seen.subscriber.try_recv(),
    };
    match received {
        Ok(value) => {
            assert_eq!(value, seen.position);
            seen.position += 1;
            seen.skipped = u64::MAX >> 1;
        }
        Err(RecvError::Lagged(count)) => {
            assert!(count > 0 && (!was_lossless || is_new));
            seen.position += count;
            seen.lost += count;
        }
        Err(RecvError::Empty) => assert!(seen.position == published && !closed),
        Err(RecvError::Closed) => assert!(seen.position == published && closed),
        Err(error) => panic!("{error}"),
    }
    if seen.position == published {
        seen.skipped = 0;
    }
    assert_eq!(seen.subscriber.lost(), seen.lost);
    assert_eq!(seen.subscriber.position(), seen.position);
}
