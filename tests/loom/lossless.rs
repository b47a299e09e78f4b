//! Models of a topic's gate: a lossless subscriber loses nothing, whenever it joins; one that is
//! evicted learns the exact number of lost messages; one that dies holds nobody up.

use super::topic::{id, topic, Topic};
use super::{model_within, thread};
use crate::queue::blocked::Blocked;
use crate::queue::topic::gate::Lack;
use crate::queue::topic::locate::Wanted;
use crate::queue::topic::publish::Unsent;
use crate::queue::topic::receive::{Cursor, Unread};
use crate::sys::clock::Deadline;

impl Topic {
    fn subscribe_lossless(&self, me: usize, wanted: Wanted) -> Cursor {
        let line = self.ring.take_line(id(me)).unwrap();
        self.ring.begin_lossless(wanted, line).unwrap().unwrap()
    }

    /// Publishes, and sleeps until there is room.
    fn send_waiting(&self, me: usize, value: u64) -> Result<(), Unsent> {
        let attempt = || match self.send(me, value) {
            Err(Unsent::Gated(Lack::Position)) => None,
            done => Some(done),
        };
        self.ring.room().wait_heavy(Deadline::Never, || (), attempt).unwrap()
    }
}

#[test]
fn publish_waits_for_a_lossless_cursor() {
    model_within(2, "topic: publish waits for a lossless cursor", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe_lossless(0, Wanted::Last(0));
        let publisher = topic.clone();
        let thread =
            thread::spawn(move || (1..4).for_each(|value| publisher.send_waiting(1, value).unwrap()));
        for value in 1..4 {
            assert_eq!(topic.recv(&mut cursor), Ok(value));
        }
        thread.join().unwrap();
        assert_eq!((cursor.lost, cursor.is_lossless), (0, true));
    });
}

#[test]
fn two_publishers_wait_for_a_lossless_cursor() {
    model_within(1, "topic: two publishers wait for a lossless cursor", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe_lossless(0, Wanted::Last(0));
        let publishers = [1, 2].map(|me| {
            let topic = topic.clone();
            thread::spawn(move || topic.send_waiting(me, me as u64).unwrap())
        });
        let mut seen = [topic.recv(&mut cursor).unwrap(), topic.recv(&mut cursor).unwrap()];
        publishers.into_iter().for_each(|thread| thread.join().unwrap());
        seen.sort_unstable();
        assert_eq!((seen, cursor.lost), ([1, 2], 0));
    });
}

#[test]
fn joining_against_publish() {
    model_within(3, "topic: joining against publish", || {
        let topic = topic(1, 2);
        // The gate was raised before for a subscriber that has left.
        let first = topic.subscribe_lossless(3, Wanted::Last(0));
        topic.send(1, 1).unwrap();
        topic.ring.leave(id(3), first.line);
        topic.send(1, 2).unwrap();
        let publisher = topic.clone();
        let thread =
            thread::spawn(move || 2 + (3..6).take_while(|value| publisher.send(1, *value).is_ok()).count());
        let mut cursor = topic.subscribe_lossless(0, Wanted::Last(1));
        let start = cursor.ordinal;
        let sent = thread.join().unwrap();
        let seen = topic.drain(&mut cursor);
        assert!(start > 0 && cursor.lost == 0 && cursor.is_lossless, "{cursor:?}");
        assert_eq!(seen, (start + 1..=sent as u64).collect::<Vec<_>>());
    });
}

#[test]
fn eviction_against_receive() {
    model_within(2, "topic: eviction against receive", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe_lossless(0, Wanted::Last(0));
        topic.send(1, 1).unwrap();
        let publisher = topic.clone();
        let thread = thread::spawn(move || {
            for value in 2..4 {
                while publisher.send(1, value) == Err(Unsent::Gated(Lack::Position)) {
                    publisher.ring.evict(Lack::Position);
                }
            }
        });
        let mut seen = Vec::new();
        for _ in 0..2 {
            match topic.try_recv(&mut cursor) {
                Ok(value) => {
                    assert_eq!(value, seen.len() as u64 + cursor.lost + 1, "what is lost is exact");
                    seen.push(value);
                }
                Err(Unread::Lagged(count)) => assert!(count > 0),
                Err(blocked) => assert_eq!(blocked, Blocked::Later.into()),
            }
        }
        thread.join().unwrap();
        seen.extend(topic.drain(&mut cursor));
        assert_eq!((seen.last(), seen.len() as u64 + cursor.lost, cursor.ordinal), (Some(&3), 3, 3));
        assert!(seen.is_sorted() && (cursor.lost == 0 || !cursor.is_lossless));
    });
}

#[test]
fn a_lossless_subscriber_dies() {
    model_within(1, "topic: a lossless subscriber dies", || {
        let topic = topic(1, 2);
        topic.subscribe_lossless(0, Wanted::Last(0));
        topic.send(1, 1).unwrap();
        let (publisher, reaper) = (topic.clone(), topic.clone());
        let threads = [
            thread::spawn(move || publisher.send_waiting(1, 2).unwrap()),
            thread::spawn(move || reaper.ring.recover(id(0))),
        ];
        topic.ring.recover(id(0));
        // Its line may belong to another subscriber now, which is not freed with it.
        let mut next = topic.subscribe_lossless(3, Wanted::Last(1));
        let mut seen = vec![topic.recv(&mut next).unwrap()];
        if seen == [1] {
            seen.push(topic.recv(&mut next).unwrap());
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(seen == [1, 2] || seen == [2], "{seen:?}");
        assert!(next.is_lossless && !topic.ring.is_evicted(&next));
    });
}

#[test]
fn a_subscriber_dies_while_it_joins() {
    model_within(2, "topic: a subscriber dies while it joins", || {
        let topic = topic(1, 2);
        let dying = topic.clone();
        let dead = thread::spawn(move || {
            let line = dying.ring.take_line(id(0)).unwrap();
            dying.ring.begin_at(Wanted::Last(0), line).unwrap();
            dying.ring.announce(line);
        });
        topic.send(1, 1).unwrap();
        dead.join().unwrap();
        topic.ring.recover(id(0));
        (2..5).for_each(|value| topic.send(1, value).unwrap());
    });
}
