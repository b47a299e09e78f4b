//! What a set waits for, as words in shared memory: whether it is ready, how to say that one waits, where to sleep.
//!
//! Looking takes nothing: a message stays in its queue, a permit in its semaphore.
//!
//! The states, the orderings and the deaths are those of the objects, and of [`waitset`](super).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use crate::queue::mpmc::ring::Ring;
use crate::queue::ring::Control;
use crate::sync::event::Flag;
use crate::sync::semaphore::Counter;
use crate::sys::barrier;
use crate::sys::futex::Spot;

/// One member of a set that is a word in shared memory.
pub(crate) enum Source<'a> {
    /// A message of a queue, or its end.
    Messages(Ring),
    /// Room in a queue, or its end.
    Room(Ring),
    /// Something to read in a ring of one writer and one reader, or its end.
    Items(&'a Control),
    /// Like `Items`, for a reader that may hold a message that is not in the ring any more.
    ItemsOr(&'a Control, Arc<AtomicBool>),
    /// Room in a ring of this capacity, or its end.
    Space(&'a Control, u64),
    /// An event that is set, or was set since the word was this one.
    Set(&'a Flag, u32),
    /// A permit.
    Permit(&'a Counter),
}

impl Source<'_> {
    /// A wait begins.
    pub(crate) fn begin(&mut self) {
        if let Source::Set(flag, since) = self {
            *since = flag.now();
        }
    }

    /// Whether who waits for this alone would not have to wait now.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Source::Messages(ring) => ring.is_receivable(),
            Source::Room(ring) => ring.is_sendable(),
            Source::Items(control) => has_items(control),
            Source::ItemsOr(control, held) => held.load(Relaxed) || has_items(control),
            Source::Space(control, capacity) => {
                control.consumer().is_gone() || control.len(*capacity) < *capacity
            }
            Source::Set(flag, since) => flag.was_set_since(*since),
            Source::Permit(counter) => counter.permits() > 0,
        }
    }

    /// Whether it is made ready by a plain store, so that a heavy barrier belongs between announcing and looking.
    fn is_light(&self) -> bool {
        matches!(self, Source::Items(_) | Source::ItemsOr(..) | Source::Space(..))
    }

    /// Says that somebody is about to sleep; gives where, and on which value.
    fn announce(&self) -> Spot {
        let waiters = match self {
            Source::Messages(ring) => ring.receivers(),
            Source::Room(ring) => ring.senders(),
            Source::Items(control) | Source::ItemsOr(control, _) => control.items(),
            Source::Space(control, _) => control.space(),
            Source::Set(flag, _) => return Spot::new(flag.futex(), flag.announce()),
            Source::Permit(counter) => return Spot::new(counter.futex(), counter.announce()),
        };
        Spot::new(waiters.futex(), waiters.announce())
    }

    /// Wakes somebody else who waits for it, if there is anybody, in the place of a set that may have been woken for it.
    pub(crate) fn pass_on(&self) {
        match self {
            Source::Messages(ring) => ring.receivers().notify_one(),
            Source::Room(ring) => ring.senders().notify_one(),
            Source::Items(control) | Source::ItemsOr(control, _) => control.items().notify_one(),
            Source::Space(control, _) => control.space().notify_one(),
            // Whoever sets it wakes all.
            Source::Set(..) => {}
            Source::Permit(counter) => counter.pass_on(),
        }
    }
}

fn has_items(control: &Control) -> bool {
    // The end first: what was sent before it counts, and after it nothing comes.
    control.producer().is_gone() || control.len(1) > 0
}

/// Says of all of them that somebody is about to sleep; `spots` is where. Look at all of them again afterwards.
pub(crate) fn announce<'a, 'b: 'a>(
    sources: impl Iterator<Item = &'a Source<'b>> + Clone,
    spots: &mut Vec<Spot>,
) {
    spots.clear();
    spots.extend(sources.clone().map(Source::announce));
    if sources.into_iter().any(Source::is_light) {
        barrier::heavy(); // pairs with notify_one_light()
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Messages(_) => "queue",
            Source::Room(_) => "room in a queue",
            Source::Items(_) => "consumer",
            Source::ItemsOr(..) => "pipe",
            Source::Space(..) => "producer",
            Source::Set(..) => "event",
            Source::Permit(_) => "semaphore",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::owner::OwnerId;
    use crate::queue::ring::{ReadCursor, WriteCursor};
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
        let mut spots = Vec::new();
        announce([Source::Permit(&counter)].iter(), &mut spots);
        assert!(spots.len() == 1 && counter.is_waited_on());
        Source::Permit(&counter).pass_on();
        assert!(!counter.is_waited_on() && counter.permits() == 1, "nobody was asleep");
        assert!(counter.acquire(Deadline::At(0)));
    }
}
