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

    /// Counts a publisher of `me` less.
    pub(crate) fn leave_publisher(&self, me: OwnerId) {
        if self.descriptor().publishers.leave(me) {
            self.end_if_left();
        }
    }

    /// Takes the publishers of `dead` back.
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

    /// Returns the number of publishers, for others to see.
    pub(crate) fn publishers(&self) -> u64 {
        self.descriptor().publishers.number()
    }
}
