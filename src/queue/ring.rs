//! One writer, one reader, positions that only grow: the control block of the message ring and of the byte
//! ring.
//!
//! Wait-free: every step is a bounded number of instructions, whatever the other side does or has stopped
//! doing. What lies at a position is the business of the ring around it; this file says which positions are
//! whose.
//!
//! # State
//!
//! | word | meaning | who writes it |
//! |---|---|---|
//! | `tail` | how much was ever written | the producer |
//! | `head` | how much was ever released for reuse, at most `tail` | the consumer |
//! | `producer`, `consumer` | who has the role | see [`Role`] |
//! | `items` | where a consumer sleeps | waiters and notifiers |
//! | `space` | where a producer sleeps | waiters and notifiers |
//! | `capacity` | the largest possible `tail - head` | the creator, once |
//! | `stride` | bytes of the ring for each step of a position | the creator, once |
//!
//! Zero is the fresh state, but for the last two. The positions have 64 bits and do not wrap in centuries.
//!
//! Invariant 1: `tail - head <= capacity`. Whoever reads the other side's position checks it; what breaks it
//! is damage.
//!
//! Invariant 2: from `head` to `tail` is the consumer's, the rest is the producer's. A side may believe that
//! it has less than it has, since it looks at the other's position only when it runs out; never that it has
//! more.
//!
//! # Memory ordering
//!
//! `tail` is stored with Release by `publish` and loaded with Acquire by `ready`: what was written is seen.
//! `head` is stored with Release by `release` and loaded with Acquire by `room`: reading was over. Both
//! stores are plain, so the sleepers announce themselves with a heavy barrier (see [`crate::sys::barrier`]).
//! Own positions are never read again.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | producer dies before its store of `tail` | the consumer, once it has run dry | [`recover`]: the role is gone | what it was writing |
//! | producer dies after it | the same | the consumer reads all of it first | nothing |
//! | producer dies before the wake-up | the consumer at the end of its slice | itself | up to 50 ms |
//! | consumer dies | the producer, in its next send | [`recover`] | what it had not released: nobody else may read it |
//! | reaper dies between ending the role and waking | the sleeper at the end of its slice | itself | up to 50 ms |

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::message::CachePadded;
use crate::owner::OwnerId;
use crate::queue::role::Role;
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;

/// No ring is larger, so that sums of positions and capacities do not overflow.
pub(crate) const CAPACITY_MAX: u64 = 1 << 48;

/// The memory side: what both processes look at. Three pairs of cache lines, so that the two positions and
/// the words that hardly ever change do not disturb each other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    shared: CachePadded<Shared>,
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
}

/// Read by both sides all the time, written hardly ever.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    capacity: AtomicU64,
    stride: AtomicU64,
    producer: Role,
    consumer: Role,
    items: Waiters,
    space: Waiters,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Control>() == 384 && size_of::<Shared>() == 32);

/// Why there is no room, or nothing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// Not now: full, or empty.
    Later,
    /// Never again: the other side is gone, and for a reader everything has been read.
    Closed,
    /// The words in memory contradict each other.
    Corrupted,
}

impl Control {
    /// A fresh ring outside of shared memory.
    #[cfg(test)]
    pub(crate) fn new(capacity: u64) -> Control {
        Control {
            shared: CachePadded::new(Shared {
                capacity: AtomicU64::new(capacity),
                stride: AtomicU64::new(1),
                producer: Role::new(),
                consumer: Role::new(),
                items: Waiters::new(),
                space: Waiters::new(),
            }),
            tail: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Makes zeroed memory a fresh ring. Before anybody else can see it.
    pub(crate) fn init(&self, capacity: u64, stride: u64) {
        self.shared.capacity.store(capacity, Relaxed);
        self.shared.stride.store(stride, Relaxed);
    }

    /// As it stands in memory: to be checked once, when a handle is made.
    pub(crate) fn capacity(&self) -> u64 {
        self.shared.capacity.load(Relaxed)
    }

    /// As it stands in memory.
    pub(crate) fn stride(&self) -> u64 {
        self.shared.stride.load(Relaxed)
    }

    pub(crate) fn producer(&self) -> &Role {
        &self.shared.producer
    }

    pub(crate) fn consumer(&self) -> &Role {
        &self.shared.consumer
    }

    /// Head and tail as they happen to be, for people and for whoever checks them.
    pub(crate) fn positions(&self) -> (u64, u64) {
        let head = self.head.load(Acquire); // pairs with release(); first, so that a race does not look like damage
        (head, self.tail.load(Acquire)) // pairs with publish()
    }

    /// How much there is to read, if the positions are possible at all. May be out of date at once, in both
    /// directions.
    pub(crate) fn len(&self, capacity: u64) -> u64 {
        let (head, tail) = self.positions();
        tail.wrapping_sub(head).min(capacity)
    }

    /// Whether somebody may be asleep on the ring: a consumer, a producer.
    pub(crate) fn is_waited_on(&self) -> (bool, bool) {
        (self.shared.items.is_waited_on(), self.shared.space.is_waited_on())
    }

    /// Ends a role of `holder` and wakes whoever waits on it.
    pub(crate) fn close_producer(&self, holder: OwnerId) {
        if self.shared.producer.bury(holder) {
            self.wake_all();
        }
    }

    /// Ends a role of `holder` and wakes whoever waits on it.
    pub(crate) fn close_consumer(&self, holder: OwnerId) {
        if self.shared.consumer.bury(holder) {
            self.wake_all();
        }
    }

    /// Clears what names `dead`. Idempotent; any number of processes may do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.close_producer(dead);
        self.close_consumer(dead);
    }

    /// After a role has ended.
    pub(crate) fn wake_all(&self) {
        self.shared.items.notify_all();
        self.shared.space.notify_all();
    }

    /// Where consumers sleep. They announce themselves with the heavy barrier.
    pub(crate) fn items(&self) -> &Waiters {
        &self.shared.items
    }

    /// Where producers sleep. They announce themselves with the heavy barrier.
    pub(crate) fn space(&self) -> &Waiters {
        &self.shared.space
    }

    /// Blocks a consumer until `attempt` gives something or the deadline passes (`None`).
    pub(crate) fn wait_for_items<T>(
        &self,
        deadline: Deadline,
        tend: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.shared.items.wait_heavy(deadline, tend, attempt)
    }

    /// Blocks a producer until `attempt` gives something or the deadline passes (`None`).
    pub(crate) fn wait_for_space<T>(
        &self,
        deadline: Deadline,
        tend: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.shared.space.wait_heavy(deadline, tend, attempt)
    }
}

/// The producer's position, and how far it may go. Local to the handle.
#[derive(Debug)]
pub(crate) struct WriteCursor {
    /// The value of `tail`, which nobody else changes: never read again from memory.
    position: u64,
    /// Head plus capacity when last looked: the real one may be further, never less far.
    limit: u64,
    capacity: u64,
}

impl WriteCursor {
    /// Begins where the ring stands. `None`: its positions are impossible. `capacity` has been checked.
    pub(crate) fn start(control: &Control, capacity: u64) -> Option<WriteCursor> {
        let (head, position) = control.positions();
        let is_possible = position.wrapping_sub(head) <= capacity;
        is_possible.then(|| WriteCursor { position, limit: head.wrapping_add(capacity), capacity })
    }

    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How much may be written from the position on: at least `want`, or all there is, but not nothing.
    #[inline(always)]
    pub(crate) fn room(&mut self, control: &Control, want: u64) -> Result<u64, Stuck> {
        debug_assert!(want > 0);
        if control.shared.consumer.is_gone() {
            return Err(Stuck::Closed);
        }
        let known = self.limit.wrapping_sub(self.position);
        if known >= want {
            return Ok(known);
        }
        let head = control.head.load(Acquire); // pairs with release()
        if self.position.wrapping_sub(head) > self.capacity {
            return Err(Stuck::Corrupted);
        }
        self.limit = head.wrapping_add(self.capacity);
        match self.limit.wrapping_sub(self.position) {
            0 => Err(Stuck::Later),
            room => Ok(room),
        }
    }

    /// Hands over `count` from the position on, which `room` has granted and the caller has written.
    #[inline(always)]
    pub(crate) fn publish(&mut self, control: &Control, count: u64) {
        debug_assert!(count <= self.limit.wrapping_sub(self.position));
        self.position = self.position.wrapping_add(count);
        control.tail.store(self.position, Release); // pairs with ready()
        control.shared.items.notify_one_light();
    }
}

/// The consumer's position, and how far it may go. Local to the handle.
#[derive(Debug)]
pub(crate) struct ReadCursor {
    /// The value of `head`, which nobody else changes: never read again from memory.
    position: u64,
    /// Tail when last looked: the real one may be further, never less far.
    limit: u64,
    capacity: u64,
}

impl ReadCursor {
    /// Begins where the ring stands. `None`: its positions are impossible. `capacity` has been checked.
    pub(crate) fn start(control: &Control, capacity: u64) -> Option<ReadCursor> {
        let (position, limit) = control.positions();
        let is_possible = limit.wrapping_sub(position) <= capacity;
        is_possible.then_some(ReadCursor { position, limit, capacity })
    }

    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How much may be read from the position on: at least `want`, or all there is, but not nothing.
    #[inline(always)]
    pub(crate) fn ready(&mut self, control: &Control, want: u64) -> Result<u64, Stuck> {
        debug_assert!(want > 0);
        let known = self.limit.wrapping_sub(self.position);
        if known >= want {
            return Ok(known);
        }
        match self.look(control)? {
            0 => self.look_after_the_end(control),
            ready => Ok(ready),
        }
    }

    #[inline(always)]
    fn look(&mut self, control: &Control) -> Result<u64, Stuck> {
        let tail = control.tail.load(Acquire); // pairs with publish()
        let ready = tail.wrapping_sub(self.position);
        if ready > self.capacity {
            return Err(Stuck::Corrupted);
        }
        self.limit = tail;
        Ok(ready)
    }

    /// Empty: at this moment, or for good? What was sent between the look and the end counts.
    #[inline(always)]
    fn look_after_the_end(&mut self, control: &Control) -> Result<u64, Stuck> {
        if !control.shared.producer.is_gone() {
            return Err(Stuck::Later);
        }
        match self.look(control)? {
            0 => Err(Stuck::Closed),
            ready => Ok(ready),
        }
    }

    /// Gives back `count` from the position on, which `ready` has granted and the caller has done with.
    #[inline(always)]
    pub(crate) fn release(&mut self, control: &Control, count: u64) {
        debug_assert!(count <= self.limit.wrapping_sub(self.position));
        self.position = self.position.wrapping_add(count);
        control.head.store(self.position, Release); // pairs with room()
        control.shared.space.notify_one_light();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn positions_that_contradict_each_other() {
        let control = Control::new(4);
        let mut writer = WriteCursor::start(&control, 4).unwrap();
        let mut reader = ReadCursor::start(&control, 4).unwrap();
        assert_eq!(writer.room(&control, 9), Ok(4));
        writer.publish(&control, 4);
        assert_eq!(writer.room(&control, 1), Err(Stuck::Later));
        for head in [5, u64::MAX, 1 << 63] {
            control.head.store(head, Relaxed);
            assert_eq!(writer.room(&control, 1), Err(Stuck::Corrupted));
            assert!(WriteCursor::start(&control, 4).is_none());
        }
        for tail in [5, u64::MAX, 1 << 63] {
            control.tail.store(tail, Relaxed);
            assert_eq!(reader.ready(&control, 1), Err(Stuck::Corrupted));
        }
    }

    #[test]
    fn the_end_comes_after_everything_sent() {
        let (me, control) = (OwnerId::new(0, 1).unwrap(), Control::new(2));
        control.producer().take(me).unwrap();
        control.consumer().take(me).unwrap();
        let mut writer = WriteCursor::start(&control, 2).unwrap();
        let mut reader = ReadCursor::start(&control, 2).unwrap();
        assert_eq!(reader.ready(&control, 1), Err(Stuck::Later));
        writer.room(&control, 1).unwrap();
        writer.publish(&control, 1);
        control.close_producer(me);
        assert_eq!(reader.ready(&control, 1), Ok(1));
        reader.release(&control, 1);
        assert_eq!(reader.ready(&control, 1), Err(Stuck::Closed));
        assert_eq!(writer.room(&control, 1), Ok(1));
        control.recover(me);
        assert_eq!(writer.room(&control, 1), Err(Stuck::Closed));
    }
}
