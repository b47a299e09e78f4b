//! Models of a topic that ends with its publishers: it ends when the last one leaves or dies, and
//! one word decides between that and one that joins.

use super::topic::{id, topic_that};
use super::{model, model_within, thread};
use crate::queue::blocked::Blocked;
use crate::queue::topic::locate::Wanted;
use crate::queue::topic::receive::Unread;

#[test]
fn the_last_two_leave_at_once() {
    model("topic: the last two publishers leave at once", || {
        let topic = topic_that(true, 2, 3);
        [1, 2].into_iter().for_each(|me| topic.ring.join_publisher(id(me)));
        let threads = [1, 2].map(|me| {
            let topic = topic.clone();
            thread::spawn(move || topic.ring.leave_publisher(id(me)))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(topic.ring.is_closed());
    });
}

#[test]
fn leaving_against_joining() {
    model_within(2, "topic: the last publisher leaves while another joins", || {
        let topic = topic_that(true, 2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.ring.join_publisher(id(1));
        let (leaving, joining) = (topic.clone(), topic.clone());
        let left = thread::spawn(move || leaving.ring.leave_publisher(id(1)));
        let joined = thread::spawn(move || {
            joining.ring.join_publisher(id(2));
            let is_in_time = !joining.ring.is_closed();
            let sent = joining.send(2, 7);
            assert!(!is_in_time || sent.is_ok(), "a publisher that has joined an open topic can publish");
            joining.ring.leave_publisher(id(2));
            sent
        });
        left.join().unwrap();
        match joined.join().unwrap() {
            Ok(()) => assert_eq!(topic.recv(&mut cursor), Ok(7)),
            Err(unsent) => assert_eq!(unsent, Blocked::Closed.into()),
        }
        assert_eq!(topic.recv(&mut cursor), Err(Unread::Blocked(Blocked::Closed)));
    });
}

#[test]
fn a_death_against_joining() {
    model_within(1, "topic: the last publisher dies while another joins", || {
        let topic = topic_that(true, 2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.ring.join_publisher(id(1));
        topic.send(1, 1).unwrap();
        let (reaper, joining) = (topic.clone(), topic.clone());
        let reaped = thread::spawn(move || reaper.ring.recover(id(1)));
        let joined = thread::spawn(move || {
            joining.ring.join_publisher(id(2));
            joining.ring.is_closed()
        });
        topic.ring.recover(id(1));
        reaped.join().unwrap();
        let is_over = joined.join().unwrap();
        assert_eq!(topic.recv(&mut cursor), Ok(1));
        assert_eq!(topic.ring.is_closed(), is_over);
        topic.ring.recover(id(2));
        assert_eq!(topic.recv(&mut cursor), Err(Unread::Blocked(Blocked::Closed)));
    });
}
