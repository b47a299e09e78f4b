//! The positions of a ring with one writer and one reader: the control block of the message ring
//! and of the byte ring.
//!
//! Wait-free: every step is a bounded number of instructions, whatever the other side does. This
//! file says which positions belong to which side. The ring around it decides what is stored at a
//! position.
//!
//! # State
//!
//! | word | meaning | written by |
//! |---|---|---|
//! | `tail` | total amount written | the producer |
//! | `head` | total amount released for reuse, at most `tail` | the consumer |
//! | `producer`, `consumer` | the holder of the role | see [`Role`] |
//! | `items` | futex of a sleeping consumer | waiters and notifiers |
//! | `space` | futex of a sleeping producer | waiters and notifiers |
//! | `capacity` | largest possible `tail - head` | the creator, once |
//! | `stride` | bytes of the ring for each step of a position | the creator, once |
//! | `varied` | geometry of messages that differ in length | the creator, once |
//!
//! Zero is the fresh state, except for the last two. The positions have 64 bits and do not wrap in
//! centuries.
//!
//! Invariant 1: `tail - head <= capacity`. Each side checks this when it reads the other side's
//! position. A violation is damage.
//!
//! Invariant 2: the positions from `head` to `tail` belong to the consumer, the others to the
//! producer. A side may know of fewer positions than it owns, because it reads the other side's
//! position only when it runs out. It never assumes more.
//!
//! # Memory ordering
//!
//! `tail` is stored with Release by `publish` and loaded with Acquire by `ready`, so the reader
//! sees what was written. `head` is stored with Release by `release` and loaded with Acquire by
//! `room`, so the reading is over. Both are plain stores, so sleepers announce themselves with a
//! heavy barrier (see [`crate::sys::membarrier`]). A side never reads its own position from memory
//! again.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | producer dies before its store of `tail` | the consumer, on empty | `recover` | that write |
//! | producer dies after it | the consumer, on empty | it reads everything first | nothing |
//! | producer dies before the wake-up | the consumer, after its slice | itself | up to 50 ms |
//! | consumer dies | the producer, in its next send | `recover` | what it had not released |
//! | reaper dies before the wake-up | the sleeper, after its slice | itself | up to 50 ms |
//!
//! [`recover`](Control::recover) ends the role, then wakes the other side. Messages that a dead
//! consumer had not released are lost, because nobody else may read them.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::Ordered;
use crate::message::CachePadded;
use crate::queue::blocked::Blocked;
use crate::queue::spsc::role::Role;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// The largest capacity, so that sums of positions and capacities do not overflow.
pub(crate) const CAPACITY_MAX: u64 = 1 << 48;

/// The control block in shared memory. Three pairs of cache lines, so that the two positions and
/// the rarely written words do not disturb each other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    shared: CachePadded<Shared>,
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
}

/// Words that both sides often read and rarely write.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    capacity: AtomicU64,
    stride: AtomicU64,
    producer: Role,
    consumer: Role,
    items: Waiters,
    space: Waiters,
    /// Of a ring whose messages differ in length: size and alignment of an element, and the units
    /// of the store behind the slots. Else 0.
    varied: [AtomicU64; 3],
}

const _: () = assert!(size_of::<Control>() == 384 && size_of::<Shared>() == 56);

impl Control {
    /// Creates a fresh ring outside of shared memory.
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
                varied: [(); 3].map(|()| AtomicU64::new(0)),
            }),
            tail: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Makes zeroed memory a fresh ring. Call it before any other process can see the memory.
    pub(crate) fn init(&self, capacity: u64, stride: u64) {
        self.shared.capacity.store(capacity, Relaxed);
        self.shared.stride.store(stride, Relaxed);
    }

    /// Completes [`init`](Control::init) of a ring whose messages differ in length.
    pub(crate) fn init_varied(&self, size: u64, align: u64, units: u64) {
        let values = [size, align, units];
        self.shared.varied.iter().zip(values).for_each(|(word, value)| word.store(value, Relaxed));
    }

    /// Returns size and alignment of an element, and the units of the store, to be checked once
    /// when a handle is created. All are 0 if messages do not differ in length.
    pub(crate) fn varied(&self) -> (u64, u64, u64) {
        let [size, align, units] = &self.shared.varied;
        (size.load(Relaxed), align.load(Relaxed), units.load(Relaxed))
    }

    /// Returns the value in memory, to be checked once when a handle is created.
    pub(crate) fn capacity(&self) -> u64 {
        self.shared.capacity.load(Relaxed)
    }

    /// Returns the value in memory, to be checked once when a handle is created.
    pub(crate) fn stride(&self) -> u64 {
        self.shared.stride.load(Relaxed)
    }

    pub(crate) fn producer(&self) -> &Role {
        &self.shared.producer
    }

    pub(crate) fn consumer(&self) -> &Role {
        &self.shared.consumer
    }

    /// Returns head and tail, unchecked and possibly stale.
    pub(crate) fn positions(&self) -> (u64, u64) {
        // Pairs with release(). First, so that a race does not resemble damage.
        let head = self.head.load(Acquire);
        (head, self.tail.load(Acquire)) // pairs with publish()
    }

    /// Returns the amount that can be read, at most `capacity`. The answer may be out of date
    /// immediately, in both directions.
    pub(crate) fn len(&self, capacity: u64) -> u64 {
        let (head, tail) = self.positions();
        tail.wrapping_sub(head).min(capacity)
    }

    /// Returns whether a consumer and whether a producer may be asleep on the ring.
    pub(crate) fn is_waited_on(&self) -> (bool, bool) {
        (self.shared.items.is_waited_on(), self.shared.space.is_waited_on())
    }

    /// Ends the producer's role of `holder` and wakes the other side. Returns false if `holder`
    /// does not hold it.
    pub(crate) fn close_producer(&self, holder: OwnerId) -> bool {
        let is_closed = self.shared.producer.close(holder);
        if is_closed {
            self.wake_all();
        }
        is_closed
    }

    /// Ends the consumer's role of `holder` and wakes the other side. Returns false if `holder`
    /// does not hold it.
    pub(crate) fn close_consumer(&self, holder: OwnerId) -> bool {
        let is_closed = self.shared.consumer.close(holder);
        if is_closed {
            self.wake_all();
        }
        is_closed
    }

    /// Ends the roles of `dead`. Idempotent; any number of processes may call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.close_producer(dead);
        self.close_consumer(dead);
    }

    /// Wakes both sides, after a role has ended.
    pub(crate) fn wake_all(&self) {
        let change = Ordered::by_fence();
        self.shared.items.notify_all(change);
        self.shared.space.notify_all(change);
    }

    /// Returns the futex of sleeping consumers. They announce themselves with the heavy barrier.
    pub(crate) fn items(&self) -> &Waiters {
        &self.shared.items
    }

    /// Returns the futex of sleeping producers. They announce themselves with the heavy barrier.
    pub(crate) fn space(&self) -> &Waiters {
        &self.shared.space
    }

    /// Blocks a consumer until `attempt` returns a value or the deadline passes (`None`).
    pub(crate) fn wait_for_items<T>(
        &self,
        deadline: Deadline,
        reap_dead: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.shared.items.wait_heavy(deadline, reap_dead, attempt)
    }

    /// Blocks a producer until `attempt` returns a value or the deadline passes (`None`).
    pub(crate) fn wait_for_space<T>(
        &self,
        deadline: Deadline,
        reap_dead: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.shared.space.wait_heavy(deadline, reap_dead, attempt)
    }
}

/// The producer's position and limit, local to the handle.
#[derive(Debug)]
pub(crate) struct WriteCursor {
    /// The value of `tail`, which nobody else changes: never read again from memory.
    position: u64,
    /// `head + capacity` at the last read. The real limit may be further, never nearer.
    limit: u64,
    capacity: u64,
}

impl WriteCursor {
    /// Starts at the ring's present position. `None` if the positions are impossible. The caller
    /// has checked `capacity`.
    pub(crate) fn start(control: &Control, capacity: u64) -> Option<WriteCursor> {
        let (head, position) = control.positions();
        let is_possible = position.wrapping_sub(head) <= capacity;
        is_possible.then(|| WriteCursor { position, limit: head.wrapping_add(capacity), capacity })
    }

    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns how much may be written from the position on: at least `want`, or all there is, but
    /// not 0.
    #[inline(always)]
    pub(crate) fn room(&mut self, control: &Control, want: u64) -> Result<u64, Blocked> {
        debug_assert!(want > 0);
        if control.shared.consumer.is_gone() {
            return Err(Blocked::Closed);
        }
        let known = self.limit.wrapping_sub(self.position);
        if known >= want {
            return Ok(known);
        }
        let head = control.head.load(Acquire); // pairs with release()
        if self.position.wrapping_sub(head) > self.capacity {
            return Err(Blocked::Corrupted);
        }
        self.limit = head.wrapping_add(self.capacity);
        match self.limit.wrapping_sub(self.position) {
            0 => Err(Blocked::Later),
            room => Ok(room),
        }
    }

    /// Publishes `count` steps from the position on, which `room` has granted and the caller has
    /// written.
    #[inline(always)]
    pub(crate) fn publish(&mut self, control: &Control, count: u64) {
        debug_assert!(count <= self.limit.wrapping_sub(self.position));
        self.position = self.position.wrapping_add(count);
        control.tail.store(self.position, Release); // pairs with ready()
        control.shared.items.notify_one_light();
    }
}

/// The consumer's position and limit, local to the handle.
#[derive(Debug)]
pub(crate) struct ReadCursor {
    /// The value of `head`, which nobody else changes: never read again from memory.
    position: u64,
    /// `tail` at the last read. The real one may be further, never nearer.
    limit: u64,
    capacity: u64,
}

impl ReadCursor {
    /// Starts at the ring's present position. `None` if the positions are impossible. The caller
    /// has checked `capacity`.
    pub(crate) fn start(control: &Control, capacity: u64) -> Option<ReadCursor> {
        let (position, limit) = control.positions();
        let is_possible = limit.wrapping_sub(position) <= capacity;
        is_possible.then_some(ReadCursor { position, limit, capacity })
    }

    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns how much may be read from the position on: at least `want`, or all there is, but not
    /// 0.
    #[inline(always)]
    pub(crate) fn ready(&mut self, control: &Control, want: u64) -> Result<u64, Blocked> {
        debug_assert!(want > 0);
        let known = self.limit.wrapping_sub(self.position);
        if known >= want {
            return Ok(known);
        }
        match self.refresh(control)? {
            0 => self.refresh_at_end(control),
            ready => Ok(ready),
        }
    }

    /// Reads `tail` again. Returns how much may be read.
    #[inline(always)]
    fn refresh(&mut self, control: &Control) -> Result<u64, Blocked> {
        let tail = control.tail.load(Acquire); // pairs with publish()
        let ready = tail.wrapping_sub(self.position);
        if ready > self.capacity {
            return Err(Blocked::Corrupted);
        }
        self.limit = tail;
        Ok(ready)
    }

    /// Decides whether an empty ring is empty for good. Messages that were sent between the two
    /// reads of `tail` count.
    #[inline(always)]
    fn refresh_at_end(&mut self, control: &Control) -> Result<u64, Blocked> {
        if !control.shared.producer.is_gone() {
            return Err(Blocked::Later);
        }
        match self.refresh(control)? {
            0 => Err(Blocked::Closed),
            ready => Ok(ready),
        }
    }

    /// Releases `count` steps from the position on, which `ready` has granted and the caller has
    /// read.
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
        assert_eq!(writer.room(&control, 1), Err(Blocked::Later));
        for head in [5, u64::MAX, 1 << 63] {
            control.head.store(head, Relaxed);
            assert_eq!(writer.room(&control, 1), Err(Blocked::Corrupted));
            assert!(WriteCursor::start(&control, 4).is_none());
        }
        for tail in [5, u64::MAX, 1 << 63] {
            control.tail.store(tail, Relaxed);
            assert_eq!(reader.ready(&control, 1), Err(Blocked::Corrupted));
        }
    }

    #[test]
    fn the_end_comes_after_everything_sent() {
        let (me, control) = (OwnerId::new(0, 1).unwrap(), Control::new(2));
        control.producer().take(me).unwrap();
        control.consumer().take(me).unwrap();
        let mut writer = WriteCursor::start(&control, 2).unwrap();
        let mut reader = ReadCursor::start(&control, 2).unwrap();
        assert_eq!(reader.ready(&control, 1), Err(Blocked::Later));
        writer.room(&control, 1).unwrap();
        writer.publish(&control, 1);
        control.close_producer(me);
        assert_eq!(reader.ready(&control, 1), Ok(1));
        reader.release(&control, 1);
        assert_eq!(reader.ready(&control, 1), Err(Blocked::Closed));
        assert_eq!(writer.room(&control, 1), Ok(1));
        control.recover(me);
        assert_eq!(writer.room(&control, 1), Err(Blocked::Closed));
    }
}
