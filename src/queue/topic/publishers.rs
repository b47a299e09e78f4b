//! The publishers of a topic, and the end of a topic that ends with them.
//!
//! Their counts, and the decision that all have left, are in [`holders`](crate::queue::holders).

use super::ring::Ring;
use crate::segment::owner::OwnerId;

impl Ring {
    /// Counts a new publisher of `me`, which was enlisted before.
    pub(crate) fn join_publisher(&self, me: OwnerId) {
        if self.descriptor().publishers.join(me) {
            self.close();
        }
    }

    /// Subtracts a publisher of `me`.
    pub(crate) fn leave_publisher(&self, me: OwnerId) {
        if self.descriptor().publishers.leave(me) {
            self.end_if_left();
        }
    }

    /// Subtracts the publishers of `dead`.
    pub(super) fn recover_publishers(&self, dead: OwnerId) {
        self.descriptor().publishers.recover(dead);
        self.end_if_left();
    }

    /// Closes the topic if it ends with its publishers, had some, and all have left.
    pub(crate) fn end_if_left(&self) {
        if self.shape.ends && self.descriptor().publishers.have_left() && !self.is_closed() {
            self.close();
        }
    }

    /// Returns the number of publishers, for observers.
    pub(crate) fn publishers(&self) -> u64 {
        self.descriptor().publishers.number()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crate::queue::topic::{From, Topic};
    use crate::WaitSet;

    #[test]
    fn a_topic_ends_although_its_last_publisher_stopped_before_the_close() {
        let topic = Topic::<u32>::builder(2).ends_with_publishers(true).build().unwrap();
        let subscriber = topic.subscribe(From::Latest).unwrap();
        let publisher = topic.publisher();
        let me = topic.port.me().unwrap();
        assert!(topic.port.ring.descriptor().publishers.leave(me));
        std::mem::forget(publisher);
        let mut set = WaitSet::new();
        set.add(7, &subscriber).unwrap();
        assert_eq!(set.wait_timeout(Duration::from_secs(30)).unwrap(), [7]);
        assert!(subscriber.is_closed());
    }
}
