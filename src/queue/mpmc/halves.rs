//! The halves of a queue: handles that are counted, so that the queue ends when all on one side
//! have left.

use std::fmt;
use std::ops::Deref;

use super::handle::Queue;
use super::ring::Ring;
use crate::message::Payload;
use crate::queue::holders::{Holders, Tenure};
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::Result;

/// The words behind the slots and the store of a queue: how many halves each participant has.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Halves {
    pub(crate) senders: Holders,
    pub(crate) receivers: Holders,
}

impl Halves {
    /// Closes the queue if one side had halves and all of them have left.
    pub(crate) fn close_if_left(&self, ring: &Ring) {
        if (self.senders.have_left() || self.receivers.have_left()) && !ring.is_closed() {
            ring.close();
        }
    }

    /// Takes the halves of `dead` back.
    pub(crate) fn recover(&self, ring: &Ring, dead: OwnerId) {
        self.senders.recover(dead);
        self.receivers.recover(dead);
        self.close_if_left(ring);
    }
}

/// One of the two sides.
trait Side {
    fn of(halves: &Halves) -> &Holders;
}

#[derive(Debug)]
struct Senders;
#[derive(Debug)]
struct Receivers;

impl Side for Senders {
    fn of(halves: &Halves) -> &Holders {
        &halves.senders
    }
}

impl Side for Receivers {
    fn of(halves: &Halves) -> &Holders {
        &halves.receivers
    }
}

/// A counted handle: what [`Sender`] and [`Receiver`] have in common.
struct Half<T: Payload + ?Sized, S: Side> {
    queue: Queue<T>,
    /// `None` if this process has no place in the segment, and the handle does nothing.
    tenure: Option<Tenure>,
    side: std::marker::PhantomData<S>,
}

impl<T: Payload + ?Sized, S: Side> Half<T, S> {
    fn join(queue: Queue<T>) -> Half<T, S> {
        let tenure = queue.me().ok().map(|me| {
            if S::of(queue.halves()).join(me) {
                queue.close();
            }
            Tenure::new(me)
        });
        Half { queue, tenure, side: std::marker::PhantomData }
    }

    /// Counts the half of a child that is about to be started. Its process takes it over with
    /// [`adopt`](Half::adopt).
    fn into_child(self, register: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<()> {
        let child = register(&self.queue.object)?;
        // Before this half leaves, so that the queue does not end in between.
        if S::of(self.queue.halves()).join(child) {
            self.queue.close();
        }
        Ok(())
    }

    fn adopt(queue: Queue<T>) -> Half<T, S> {
        let tenure = queue.me().ok().map(Tenure::new);
        Half { queue, tenure, side: std::marker::PhantomData }
    }
}

impl<T: Payload + ?Sized, S: Side> Drop for Half<T, S> {
    fn drop(&mut self) {
        if let Some(tenure) = self.tenure.filter(Tenure::is_mine) {
            if S::of(self.queue.halves()).leave(tenure.me) {
                self.queue.halves().close_if_left(&self.queue.ring);
            }
        }
    }
}

macro_rules! half {
    ($name:ident, $side:ident, $($doc:literal)*) => {
        $(#[doc = $doc])*
        pub struct $name<T: Payload + ?Sized>(Half<T, $side>);

        impl<T: Payload + ?Sized> $name<T> {
            pub(super) fn join(queue: Queue<T>) -> $name<T> {
                $name(Half::join(queue))
            }

            /// Hands this half to the child that `register` adds.
            pub(crate) fn into_child(
                self,
                register: impl FnOnce(&ObjectRef) -> Result<OwnerId>,
            ) -> Result<()> {
                self.0.into_child(register)
            }

            /// Creates, in a child, the half that its parent has counted.
            pub(crate) fn from_parent(queue: Queue<T>) -> $name<T> {
                $name(Half::adopt(queue))
            }
        }

        impl<T: Payload + ?Sized> Deref for $name<T> {
            type Target = Queue<T>;

            #[inline(always)]
            fn deref(&self) -> &Queue<T> {
                &self.0.queue
            }
        }

        impl<T: Payload + ?Sized> Clone for $name<T> {
            fn clone(&self) -> $name<T> {
                $name::join(self.0.queue.clone())
            }
        }

        impl<T: Payload + ?Sized> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0.queue).finish()
            }
        }
    };
}

half! { Sender, Senders,
    "The sending half of a [`Queue`]: see [`Queue::sender`]."
    ""
    "It derefs to the queue, so it has all of its methods. Clone it, share it, or pass it to a child;"
    "each copy counts, and the process that has it. When the last sender of all processes has been"
    "dropped, or its process has died, the queue is closed: receivers get what was sent, and then"
    "`Closed`. In a child made by `fork` it counts nothing, because it stays with the parent."
}

half! { Receiver, Receivers,
    "The receiving half of a [`Queue`]: see [`Queue::receiver`]."
    ""
    "It derefs to the queue, so it has all of its methods. Clone it, share it, or pass it to a child;"
    "each copy counts, and the process that has it. When the last receiver of all processes has been"
    "dropped, or its process has died, the queue is closed: senders get `Closed`, with their message."
    "In a child made by `fork` it counts nothing, because it stays with the parent."
}

impl<T: Payload + ?Sized> Queue<T> {
    /// Returns a half that counts as a sender. The queue is closed when all senders have left.
    ///
    /// A sender leaves when it is dropped, or when its process ends, however it ends; a death is
    /// noticed within 100 ms. A queue without halves stays open for later ones. A `Queue` handle
    /// does not count, so drop none and keep none for this. A queue that was closed stays closed,
    /// and a later sender gets `Closed`. A process that has had 4,095 senders at the same time
    /// counts as one until it ends.
    ///
    /// ```
    /// use pagemate::Queue;
    /// use pagemate::queue::RecvError;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = Queue::<u32>::new(4)?;
    /// let (sender, receiver) = (queue.sender(), queue.receiver());
    /// let other = sender.clone();
    /// sender.send(1)?;
    /// drop(sender);
    /// other.send(2)?;
    /// drop(other);
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert_eq!(receiver.recv(), Ok(2));
    /// assert_eq!(receiver.recv(), Err(RecvError::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn sender(&self) -> Sender<T> {
        Sender::join(self.clone())
    }

    /// Returns a half that counts as a receiver. The queue is closed when all receivers have left.
    /// See [`sender`](Queue::sender).
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let queue = pagemate::Queue::<u32>::new(4)?;
    /// let (sender, receiver) = (queue.sender(), queue.receiver());
    /// drop(receiver);
    /// assert_eq!(sender.send(7).unwrap_err().into_inner(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn receiver(&self) -> Receiver<T> {
        Receiver::join(self.clone())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::WaitSet;

    #[test]
    fn a_queue_whose_last_half_was_stopped_before_it_closed_it_ends() {
        let queue = Queue::<u32>::new(2).unwrap();
        let sender = queue.sender();
        assert!(queue.halves().senders.leave(queue.me().unwrap()));
        std::mem::forget(sender);
        let mut set = WaitSet::new();
        set.add(7, &queue).unwrap();
        assert_eq!(set.wait_timeout(Duration::from_secs(30)).unwrap(), [7]);
        assert!(queue.is_closed());
    }
}
