//! The options of a new topic.

use std::fmt;
use std::marker::PhantomData;

use super::handle::Topic;
use super::layout::Plan;
use super::policy::Policy;
use crate::message::{Payload, Varied};
use crate::queue::payload::QUOTA;
use crate::segment::object::Object;
use crate::segment::place::{Origin, Place};
use crate::Result;

/// The options of a new topic: see [`Topic::builder`].
pub struct TopicBuilder<T: Payload + ?Sized> {
    pub(super) plan: Plan,
    _messages: PhantomData<fn(&T) -> &T>,
}

impl<T: Payload + ?Sized> TopicBuilder<T> {
    pub(super) fn of(capacity: usize) -> TopicBuilder<T> {
        let plan = Plan { capacity, policy: Policy::Block, ends: false, inline: 0, quota: QUOTA };
        TopicBuilder { plan, _messages: PhantomData }
    }

    /// Sets what a publisher does at its deadline about a [lossless](Topic::subscribe_lossless)
    /// subscriber that lags. The default is [`Policy::Block`].
    pub fn policy(mut self, policy: Policy) -> TopicBuilder<T> {
        self.plan.policy = policy;
        self
    }

    /// Sets whether the topic is closed when its last publisher has been dropped, or its process
    /// has died, which is noticed within 100 ms. The default is false.
    ///
    /// Subscribers receive everything that was published, and then `Closed`. A topic that never had
    /// a publisher stays open. One that has ended stays closed, also for later publishers. A
    /// [`Publisher`](super::Publisher) that a `fork` has copied does not count. A process that has
    /// had 4,095 of them at the same time counts as a publisher until it ends.
    ///
    /// ```
    /// use pagemate::queue::topic::{From, RecvError};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let topic = pagemate::Topic::<u32>::builder(8).ends_with_publishers(true).build()?;
    /// let mut subscriber = topic.subscribe(From::Earliest)?;
    /// let publisher = topic.publisher();
    /// publisher.publish(1)?;
    /// drop(publisher);
    /// assert_eq!((subscriber.recv(), subscriber.recv()), (Ok(1), Err(RecvError::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn ends_with_publishers(mut self, ends_with_publishers: bool) -> TopicBuilder<T> {
        self.plan.ends = ends_with_publishers;
        self
    }

    /// Creates a topic like [`Topic::new`].
    ///
    /// # Errors
    ///
    /// As [`Topic::new`].
    pub fn build(self) -> Result<Topic<T>> {
        Object::new(self)
    }

    /// Creates a topic like [`Topic::create`].
    ///
    /// # Errors
    ///
    /// As [`Topic::create`].
    pub fn create(self, place: impl Into<Place>) -> Result<Topic<T>> {
        Object::create(place, self)
    }

    /// Opens or creates a topic like [`Topic::open_or_create`]. An existing topic keeps its own
    /// options.
    ///
    /// # Errors
    ///
    /// As [`Topic::open_or_create`].
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<(Topic<T>, Origin)> {
        Object::open_or_create(place, self)
    }
}

impl<T: Varied + ?Sized> TopicBuilder<T> {
    /// Sets the number of bytes for messages that do not fit into a slot. The default is 1 MiB.
    ///
    /// It is part of the topic, and never grows. When it is used up, the oldest messages are
    /// discarded, as if they were overwritten: the topic then keeps fewer messages than its
    /// capacity. A message takes up to a quarter more than its length. One that would not fit even
    /// into an empty quota is [`TooLarge`](crate::queue::SendError::TooLarge). The number is
    /// rounded up to 16 KiB, and to 64 KiB at least. With 0, all messages must fit into a slot.
    ///
    /// ```
    /// use pagemate::queue::topic::{From, RecvError};
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let frames = pagemate::Topic::<[u8]>::builder(16).quota(1 << 20).build()?;
    /// let mut subscriber = frames.subscribe(From::Latest)?;
    /// let publisher = frames.publisher();
    /// publisher.publish(&[1; 700_000])?;
    /// publisher.publish(&[2; 700_000])?;
    /// assert_eq!(subscriber.recv(), Err(RecvError::Lagged(1)));
    /// assert_eq!(subscriber.recv()?[0], 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn quota(mut self, bytes: u64) -> TopicBuilder<T> {
        self.plan.quota = bytes;
        self
    }

    /// Sets the length in bytes of the longest message that is stored in its slot, without using
    /// the quota. It is rounded up so that slots are multiples of 128 bytes, and words and header
    /// take 32 bytes of a slot. The default is 96: one such multiple.
    pub fn inline(mut self, bytes: usize) -> TopicBuilder<T> {
        self.plan.inline = bytes;
        self
    }
}

impl<T: Payload + ?Sized> fmt::Debug for TopicBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { capacity, policy, ends, inline, quota } = self.plan;
        let mut out = f.debug_struct("TopicBuilder");
        out.field("capacity", &capacity).field("policy", &policy);
        out.field("ends_with_publishers", &ends);
        if !T::IS_FIXED {
            out.field("inline", &inline).field("quota", &quota);
        }
        out.finish()
    }
}
