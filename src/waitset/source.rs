//! The words in shared memory that a set waits for: whether one is ready, how to announce a waiter,
//! where to sleep.
//!
//! Checking takes nothing: a message stays in its queue, a permit in its semaphore.
//!
//! The states, the orderings and the deaths are those of the objects, and of [`waitset`](super).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use crate::loom::Ordered;
use crate::queue::holders::Holders;
use crate::queue::mpmc::ring::Ring;
use crate::queue::spsc::cursor::Control;
use crate::queue::topic::ring::Ring as TopicRing;
use crate::segment::owner::OwnerId;
use crate::service::table::Table;
use crate::service::word::Outcome;
use crate::sync::event::state::Flag;
use crate::sync::semaphore::state::Counter;
use crate::sys::futex::WaitTarget;
use crate::sys::membarrier;
use crate::wait::Waiters;

/// One member of a set that is a word in shared memory.
pub(crate) enum Source<'a> {
    /// A message of a queue, or its end.
    Messages(Ring),
    /// Room in a queue, or its end.
    Writable(Ring),
    /// Bytes or messages to read in a ring of one writer and one reader, or its end.
    Items(&'a Control),
    /// Like `Items`, for a reader that may hold a message that is not in the ring any more.
    ItemsOr(&'a Control, Arc<AtomicBool>),
    /// Room in a ring of this capacity, or its end.
    Space(&'a Control, u64),
    /// An event that is set, or was set since the word had this value.
    Set(&'a Flag, u32),
    /// A message of a topic for the subscriber with this line, lost ones, or the end.
    Published(TopicRing, u32, OwnerId),
    /// A permit.
    Permit(&'a Counter),
    /// The end of the call in this slot. `Some`: it ends too if there are no servers.
    Answered(Table, Option<&'a Holders>, u32, Outcome),
}

impl Source<'_> {
    /// Begins a wait.
    pub(crate) fn begin(&mut self) {
        if let Source::Set(flag, since) = self {
            *since = flag.now();
        }
    }

    /// Returns whether a waiter for this member alone would not block now.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Source::Messages(ring) => ring.is_receivable(),
            Source::Writable(ring) => ring.is_sendable(),
            Source::Items(control) => has_items(control),
            Source::ItemsOr(control, held) => held.load(Relaxed) || has_items(control),
            Source::Space(control, capacity) => {
                control.consumer().is_gone() || control.len(*capacity) < *capacity
            }
            Source::Set(flag, since) => flag.was_set_since(*since),
            Source::Published(ring, line, me) => ring.is_receivable(*line, *me),
            Source::Permit(counter) => counter.permits() > 0,
            Source::Answered(table, servers, index, call) => {
                let seen = table.outcome(*index);
                let is_forsaken = || servers.is_some_and(|servers| servers.find(0).is_none());
                !seen.is_pending() || !seen.is_of_same_call(*call) || is_forsaken() && !table.is_taken(*index)
            }
        }
    }

    /// Returns whether the member is made ready by a plain store. Then a heavy barrier belongs
    /// between announcing and checking.
    fn is_light(&self) -> bool {
        matches!(self, Source::Items(_) | Source::ItemsOr(..) | Source::Space(..))
    }

    /// Announces a waiter; returns the word to sleep on and its expected value.
    fn announce(&self) -> WaitTarget {
        let waiters = match self {
            Source::Messages(ring) => ring.receivers(),
            Source::Writable(ring) => ring.senders(),
            Source::Published(ring, ..) => ring.sleepers(),
            Source::Items(control) | Source::ItemsOr(control, _) => control.items(),
            Source::Space(control, _) => control.space(),
            Source::Set(flag, _) => return WaitTarget::new(flag.futex(), flag.announce()),
            Source::Permit(counter) => return WaitTarget::new(counter.futex(), counter.announce(1)),
            Source::Answered(table, _, index, call) => {
                return WaitTarget::new(table.futex(*index), table.announce(*index, *call));
            }
        };
        WaitTarget::new(waiters.futex(), waiters.announce())
    }

    /// Records that a heavy barrier has run since the announcement.
    fn fenced(&self, target: &mut WaitTarget) {
        let waiters = match self {
            Source::Items(control) | Source::ItemsOr(control, _) => control.items(),
            Source::Space(control, _) => control.space(),
            _ => return,
        };
        if !Waiters::is_fenced(target.seen()) {
            *target = WaitTarget::new(waiters.futex(), waiters.fenced(target.seen()));
        }
    }

    /// Wakes another waiter of this member, if there is any, in the place of a set that may have
    /// swallowed its wake-up.
    pub(crate) fn pass_on(&self) {
        match self {
            Source::Messages(ring) => ring.receivers().notify_one(Ordered::by_fence()),
            Source::Writable(ring) => ring.senders().notify_one(Ordered::by_fence()),
            Source::Items(control) | Source::ItemsOr(control, _) => {
                control.items().notify_one(Ordered::by_fence())
            }
            Source::Space(control, _) => control.space().notify_one(Ordered::by_fence()),
            // Setting an event wakes all waiters, and so does publishing. A call has one waiter.
            Source::Set(..) | Source::Published(..) | Source::Answered(..) => {}
            Source::Permit(counter) => counter.pass_on(),
        }
    }
}

fn has_items(control: &Control) -> bool {
    // Checks the end first, because what was sent before it counts, and nothing follows it.
    control.producer().is_gone() || control.len(1) > 0
}

/// Announces a waiter on all sources, and fills `targets` with the words to sleep on. The caller
/// must check all sources again afterwards.
pub(crate) fn announce<'a, 'b: 'a>(
    sources: impl Iterator<Item = &'a Source<'b>> + Clone,
    targets: &mut Vec<WaitTarget>,
) {
    targets.clear();
    targets.extend(sources.clone().map(Source::announce));
    let needs_barrier = |(source, target): (&Source<'_>, &WaitTarget)| {
        source.is_light() && !Waiters::is_fenced(target.seen())
    };
    if sources.clone().zip(&*targets).any(needs_barrier) {
        membarrier::heavy(); // pairs with notify_one_light()
        for (source, target) in sources.zip(targets) {
            source.fenced(target);
        }
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Messages(_) => "queue",
            Source::Writable(_) => "room in a queue",
            Source::Items(_) => "consumer",
            Source::ItemsOr(..) => "pipe",
            Source::Space(..) => "producer",
            Source::Set(..) => "event",
            Source::Published(..) => "subscriber",
            Source::Permit(_) => "semaphore",
            Source::Answered(..) => "call",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::queue::spsc::cursor::{ReadCursor, WriteCursor};
    use crate::segment::owner::OwnerId;
    use crate::sys::clock::Deadline;

    #[test]
    fn a_ring_seen_from_both_sides() {
        let (me, control) = (OwnerId::new(0, 1).unwrap(), Control::new(2));
        control.producer().take(me).unwrap();
        control.consumer().take(me).unwrap();
        let (mut writer, mut reader) =
            (WriteCursor::start(&control, 2).unwrap(), ReadCursor::start(&control, 2).unwrap());
        let (items, space) = (Source::Items(&control), Source::Space(&control, 2));
        assert!(!items.is_ready() && space.is_ready());
        writer.room(&control, 2).unwrap();
        writer.publish(&control, 2);
        assert!(items.is_ready() && !space.is_ready());
        reader.ready(&control, 2).unwrap();
        reader.release(&control, 2);
        assert!(!items.is_ready() && space.is_ready());
        let held = Arc::new(AtomicBool::new(true));
        assert!(Source::ItemsOr(&control, held.clone()).is_ready());
        held.store(false, Relaxed);
        assert!(!Source::ItemsOr(&control, held).is_ready());
        control.close_producer(me);
        assert!(items.is_ready(), "the end counts");
    }

    #[test]
    fn an_event_that_was_set_and_cleared_since() {
        let flag = Flag::new();
        let mut source = Source::Set(&flag, 0);
        flag.set();
        flag.clear();
        source.begin();
        assert!(!source.is_ready(), "that was before");
        flag.set();
        flag.clear();
        assert!(source.is_ready());
    }

    #[test]
    fn what_was_swallowed_is_passed_on() {
        let counter = Counter::new(1);
        let mut targets = Vec::new();
        announce([Source::Permit(&counter)].iter(), &mut targets);
        assert!(targets.len() == 1 && counter.is_waited_on());
        Source::Permit(&counter).pass_on();
        assert!(!counter.is_waited_on() && counter.permits() == 1, "nobody was asleep");
        assert!(counter.acquire(1, Deadline::At(0)));
    }
}
