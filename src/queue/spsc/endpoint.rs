//! The view that one handle has of the ring between one producer and one consumer; creating and
//! opening rings.
//!
//! For two parties the ring is several times as fast as a [`Queue`](crate::Queue). It omits what
//! makes the queue slower: further producers and consumers, and redelivery after the death of a
//! consumer. Messages are packed, so eight messages of eight bytes share a cache line. Messages
//! that differ in length have slots as in a queue, and a store for those that do not fit
//! ([`super::slot`]).
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | [`Control`]: positions, roles, sleepers |
//! | 384.. | `capacity` slots of `stride` bytes; position `p` is in slot `p % capacity` |
//! | after them | the [`Store`](crate::heap::Store), if messages differ in length |
//!
//! Each handle stores its own position, the slot of it, and the other side's position at the last
//! read. It reads the other side's position again only when it runs out, so a busy ring moves one
//! cache line of positions for many messages.
//!
//! # Memory ordering
//!
//! That of [`crate::queue::spsc::cursor`]. Only the side that owns a position touches its slot
//! (Invariant 2 there).
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | producer dies while writing | the consumer, on empty | [`recover`] | what was not sent |
//! | producer dies after sending | the consumer, on empty | it reads all first | nothing |
//! | consumer dies | the producer, in its next send | [`recover`] | what was not released |
//! | either is stopped | nobody: it is not dead | itself, when it continues | nothing |
//!
//! "Writing" includes holding a [`Loan`](super::Loan) or a [`SendChunk`](super::SendChunk), "not
//! released" what a [`Received`](super::Received) still holds. [`recover`] ends the role, and the
//! other side gets `Closed`.

use std::marker::PhantomData;

use super::slot::{self, Plan};
use super::{Consumer, Producer};
use crate::message::Payload;
use crate::queue::blocked::Blocked;
use crate::queue::payload::area::Area;
use crate::queue::spsc::cursor::Control;
use crate::queue::spsc::role::{Refused, Role};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::sys::{fork, membarrier};
use crate::{Error, ErrorKind, Result};

/// The offset of the slots.
pub(super) const SLOTS: usize = size_of::<Control>();
/// The number of dead holders that one attempt to take a role reaps.
const TRIES: usize = 100;

/// Creates an anonymous ring of `capacity` messages. Either handle can be moved to another thread
/// or passed to a child process.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut producer, mut consumer) = pagemate::spsc::<u64>(1024)?;
/// std::thread::spawn(move || {
///     for n in 0..10 {
///         producer.send(n).unwrap();
///     }
/// });
/// // The iterator ends when the producer is gone and everything was received.
/// assert_eq!(consumer.iter().sum::<Result<u64, _>>()?, 45);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open files).
pub fn spsc<T: Payload + ?Sized>(capacity: usize) -> Result<(Producer<T>, Consumer<T>)> {
    both(Plan::of(capacity))
}

/// Creates an anonymous ring with both of its handles.
pub(super) fn both<T: Payload + ?Sized>(plan: Plan) -> Result<(Producer<T>, Consumer<T>)> {
    let endpoint = Endpoint::<T>::new(plan)?;
    let consumer = Endpoint::from_object(endpoint.object.clone())?;
    Ok((Producer::join(endpoint)?, Consumer::join(consumer)?))
}

/// One handle's view of the ring: the mapping and its geometry, checked once.
#[derive(Debug)]
pub(crate) struct Endpoint<T: ?Sized> {
    pub(super) object: ObjectRef,
    /// At least 1. All slots are within the object.
    pub(super) capacity: usize,
    /// The number of bytes of a slot. Used only if messages differ in length, like the next two.
    stride: usize,
    /// The number of bytes for a message in its slot.
    pub(super) inline: usize,
    pub(super) area: Option<Area>,
    /// The identity of this process when it took the role.
    pub(super) me: OwnerId,
    /// The fork epoch of the process that made the handle.
    epoch: u32,
    _messages: PhantomData<fn(&T) -> &T>,
}

impl<T: Payload + ?Sized> Object for Endpoint<T> {
    const KIND: Kind = Kind::Spsc;
    const LEN: usize = SLOTS;
    type Initial = Plan;

    fn schema() -> String {
        T::layout()
    }

    fn len_for(plan: &Plan) -> Result<usize> {
        plan.len::<T>()
    }

    unsafe fn init(base: *mut u8, plan: &Plan) {
        // SAFETY: as the caller promises; any bytes are a Control.
        plan.init::<T>(unsafe { &*base.cast::<Control>() });
    }

    fn attach(object: ObjectRef) -> Result<Endpoint<T>> {
        let () = <T::Element as crate::Message>::CHECKED;
        const {
            assert!(
                align_of::<T::Element>() <= 128,
                "messages aligned to more than 128 bytes do not fit into objects"
            )
        };
        membarrier::register();
        let me = object.owner()?;
        let damaged = || Error::new(ErrorKind::Corrupted, "the ring's capacity does not fit its size");
        // SAFETY: mapped, aligned to 128, and long enough (checked in from_object); `object` is
        // stored beside the result.
        let found = unsafe { slot::Any::check(object.base(), object.len()) }.ok_or_else(damaged)?;
        if !found.is_of::<T>() {
            return Err(damaged());
        }
        let slot::Any { capacity, stride, area, .. } = found;
        let inline = area.as_ref().map_or(0, Area::inline);
        Ok(Endpoint {
            object,
            capacity,
            stride,
            inline,
            area,
            me,
            epoch: fork::epoch(),
            _messages: PhantomData,
        })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Payload + ?Sized> Endpoint<T> {
    #[inline(always)]
    pub(super) fn control(&self) -> &Control {
        // SAFETY: checked in from_object: mapped as long as `object` lives, aligned, long enough;
        // any bytes are a Control, which is atomics only.
        unsafe { &*self.object.base().cast::<Control>() }
    }

    /// Returns the address of `slot`, which is less than `capacity`.
    #[inline(always)]
    pub(super) fn slot(&self, slot: usize) -> *mut T::Element {
        debug_assert!(slot < self.capacity);
        let stride = if T::IS_FIXED { size_of::<T::Element>() } else { self.stride };
        // SAFETY: checked in attach(): all slots are within the object.
        unsafe { self.object.base().add(SLOTS + slot * stride).cast() }
    }

    /// Returns whether this process made the handle. False in a fork.
    #[inline(always)]
    pub(super) fn is_mine(&self) -> bool {
        fork::epoch() == self.epoch
    }

    /// Counts a failed attempt, because callers that poll without blocking must notice deaths too.
    #[inline]
    pub(super) fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.object.note_failed_try();
        }
        blocked
    }

    pub(super) fn len(&self) -> usize {
        self.control().len(self.capacity as u64) as usize
    }
}

/// Takes a role for `me`. If its last holder is dead, reaps it first.
pub(crate) fn take_role(object: &ObjectRef, role: &Role, me: OwnerId, what: &str) -> Result<()> {
    // Repeats only if a dead participant holds the role, a different one each time.
    for _ in 0..TRIES {
        let (kind, text) = match role.take(me) {
            Ok(()) => return Ok(()),
            Err(Refused::Taken(id)) if id != me && !object.is_alive(id) => {
                object.attachment().reap(id);
                if !role.is_of(id) {
                    continue;
                }
                // Damage: no participant has had this id, or reaping would have ended the role.
                (ErrorKind::Corrupted, format!("the word that names the {what} is not valid"))
            }
            Err(Refused::Taken(_)) => (
                ErrorKind::RoleTaken,
                format!("a living process is the {what} already: there can be only one"),
            ),
            Err(Refused::Gone) => {
                (ErrorKind::Closed, format!("the {what} has closed or died, and there will be no other"))
            }
            Err(Refused::Damaged) => {
                (ErrorKind::Corrupted, format!("the word that names the {what} is not valid"))
            }
        };
        return Err(Error::new(kind, text));
    }
    Err(Error::new(ErrorKind::Busy, format!("the role of the {what} keeps changing hands")))
}

/// Hands a role of this process to another.
pub(super) fn hand_over(role: &Role, me: OwnerId, to: OwnerId, what: &str) -> Result<()> {
    if role.hand_over(me, to) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotInThisProcess,
        format!(
            "this process is not the {what}, so it cannot hand the role over: it was forked from the \
             process that is"
        ),
    ))
}

/// Checks, in a child, that it has the role that its parent handed over.
pub(super) fn check_role(role: &Role, me: OwnerId, what: &str) -> Result<()> {
    if role.is_of(me) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupted, format!("the ring names another participant as its {what}")))
}

pub(super) fn damaged_positions() -> Error {
    Error::new(ErrorKind::Corrupted, "the positions of the ring contradict each other")
}
