//! The view that one handle has of the ring between one producer and one consumer; creating and
//! opening rings.
//!
//! For two parties the ring is several times as fast as a [`Queue`](crate::Queue). It omits what
//! makes the queue slower: further producers and consumers, and redelivery after the death of a
//! consumer. Messages are packed, so eight messages of eight bytes share a cache line.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | [`Control`]: positions, roles, sleepers |
//! | 384.. | `capacity` slots of `size_of::<T>()`; position `p` is in slot `p % capacity` |
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

use crate::loom::atomic::Ordering::Acquire;
use std::marker::PhantomData;

use super::{Consumer, Producer};
use crate::message::Message;
use crate::queue::blocked::Blocked;
use crate::queue::spsc::cursor::{Control, CAPACITY_MAX};
use crate::queue::spsc::role::{Refused, Role};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::sys::{fork, membarrier};
use crate::{Error, ErrorKind, Result};

/// The offset of the slots.
const SLOTS: usize = size_of::<Control>();
/// Attempts of a peek whose message is received meanwhile.
const PEEKS: usize = 8;
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
pub fn spsc<T: Message>(capacity: usize) -> Result<(Producer<T>, Consumer<T>)> {
    let endpoint = Endpoint::<T>::new(capacity)?;
    let consumer = Endpoint::from_object(endpoint.object.clone())?;
    Ok((Producer::join(endpoint)?, Consumer::join(consumer)?))
}

/// One handle's view of the ring: the mapping and its geometry, checked once.
#[derive(Debug)]
pub(crate) struct Endpoint<T> {
    pub(super) object: ObjectRef,
    /// At least 1. All slots are within the object.
    pub(super) capacity: usize,
    /// The identity of this process when it took the role.
    pub(super) me: OwnerId,
    /// The fork epoch of the process that made the handle.
    epoch: u32,
    _messages: PhantomData<T>,
}

impl<T: Message> Object for Endpoint<T> {
    const KIND: Kind = Kind::Spsc;
    const LEN: usize = SLOTS;
    /// The capacity.
    type Initial = usize;

    fn schema() -> String {
        T::schema().to_string()
    }

    fn len_for(&capacity: &usize) -> Result<usize> {
        let len = capacity.checked_mul(size_of::<T>()).and_then(|len| len.checked_add(SLOTS));
        match len {
            Some(len) if (1..=CAPACITY_MAX).contains(&(capacity as u64)) && len as u64 <= CAPACITY_MAX => {
                Ok(len)
            }
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a ring of {capacity} messages is not possible: 1 to {CAPACITY_MAX} bytes and \
                     messages are"
                ),
            )),
        }
    }

    unsafe fn init(base: *mut u8, &capacity: &usize) {
        // SAFETY: as the caller promises; any bytes are a Control.
        unsafe { &*base.cast::<Control>() }.init(capacity as u64, size_of::<T>() as u64);
    }

    fn attach(object: ObjectRef) -> Result<Endpoint<T>> {
        let () = T::CHECKED;
        const {
            assert!(align_of::<T>() <= 128, "messages aligned to more than 128 bytes do not fit into objects")
        };
        membarrier::register();
        let me = object.owner()?;
        let damaged = || Error::new(ErrorKind::Corrupted, "the ring's capacity does not fit its size");
        // SAFETY: mapped, aligned to 128, and long enough (checked in from_object).
        let control = unsafe { &*object.base().cast::<Control>() };
        let capacity = usize::try_from(control.capacity()).map_err(|_| damaged())?;
        let is_sound = (1..=CAPACITY_MAX).contains(&(capacity as u64))
            && control.stride() == size_of::<T>() as u64
            && capacity.checked_mul(size_of::<T>()).is_some_and(|len| len <= object.len() - SLOTS);
        if !is_sound {
            return Err(damaged());
        }
        Ok(Endpoint { object, capacity, me, epoch: fork::epoch(), _messages: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> Endpoint<T> {
    #[inline(always)]
    pub(super) fn control(&self) -> &Control {
        // SAFETY: checked in from_object: mapped as long as `object` lives, aligned, long enough;
        // any bytes are a Control, which is atomics only.
        unsafe { &*self.object.base().cast::<Control>() }
    }

    /// Returns the address of the message in `slot`, which is less than `capacity`.
    #[inline(always)]
    pub(super) fn slot(&self, slot: usize) -> *mut T {
        debug_assert!(slot < self.capacity);
        // SAFETY: checked in attach(): all slots are within the object.
        unsafe { self.object.base().add(SLOTS).cast::<T>().add(slot) }
    }

    /// Returns whether this process made the handle. False in a fork.
    #[inline(always)]
    pub(super) fn is_mine(&self) -> bool {
        fork::epoch() == self.epoch
    }

    /// Counts a failed attempt: callers that poll without blocking must notice deaths too.
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
    // Repeats only if a dead participant holds the role, each time another one.
    for _ in 0..TRIES {
        let (kind, text) = match role.take(me) {
            Ok(()) => return Ok(()),
            Err(Refused::Taken(id)) if id != me && !object.is_alive(id) => {
                object.attachment().reap(id);
                if !role.is_of(id) {
                    continue;
                }
                // Damage: no participant has had this id, or reaping would have ended the role.
                (ErrorKind::Corrupted, format!("the word that says who is the {what} makes no sense"))
            }
            Err(Refused::Taken(_)) => {
                (ErrorKind::RoleTaken, format!("somebody alive is the {what} already: there can be only one"))
            }
            Err(Refused::Gone) => {
                (ErrorKind::Closed, format!("the {what} has closed or died, and there will be no other"))
            }
            Err(Refused::Damaged) => {
                (ErrorKind::Corrupted, format!("the word that says who is the {what} makes no sense"))
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
            "this process is not the {what}, and cannot give away that it is: it \
             was forked from the one that is"
        ),
    ))
}

/// Checks, in a child, that it has the role that its parent handed over.
pub(super) fn check_role(role: &Role, me: OwnerId, what: &str) -> Result<()> {
    if role.is_of(me) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupted, format!("the ring names somebody else as its {what}")))
}

pub(super) fn damaged_positions() -> Error {
    Error::new(ErrorKind::Corrupted, "the positions of the ring contradict each other")
}

/// Returns the control block of an object of any content.
fn control_at<'a>(base: *const u8, len: usize) -> Option<&'a Control> {
    // SAFETY: the caller keeps the object mapped while it uses the result; objects are aligned to
    // 128, and this one is long enough; any bytes are a Control.
    (len >= SLOTS).then(|| unsafe { &*base.cast::<Control>() })
}

/// Ends the roles of `dead` and wakes the waiters.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(control) = control_at(base, len) {
        control.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a ring.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(control) = control_at(base, len) else { return Vec::new() };
    let (head, tail) = control.positions();
    let (consumer_waits, producer_waits) = control.is_waited_on();
    vec![
        ("capacity", control.capacity().to_string()),
        ("depth", tail.wrapping_sub(head).min(control.capacity()).to_string()),
        ("sent", tail.to_string()),
        ("received", head.to_string()),
        ("producer", control.producer().describe()),
        ("consumer", control.consumer().describe()),
        ("producer waits", producer_waits.to_string()),
        ("consumer waits", consumer_waits.to_string()),
    ]
}

/// Returns the bytes of the message that is next in order. `None`: there is no message, or each is
/// received at once.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    let control = control_at(base, len)?;
    let (capacity, stride) = (control.capacity(), usize::try_from(control.stride()).ok()?);
    for _ in 0..PEEKS {
        let (head, tail) = control.positions();
        if head == tail || capacity == 0 {
            return None;
        }
        let start = usize::try_from(head % capacity).ok()?.checked_mul(stride)?.checked_add(SLOTS)?;
        start.checked_add(stride).filter(|end| *end <= len)?;
        // SAFETY: within the object. The producer may write there only after the head has moved,
        // which is checked below. Volatile, so that the bytes are read now.
        let bytes = (0..stride).map(|i| unsafe { base.add(start + i).read_volatile() }).collect();
        crate::loom::atomic::fence(Acquire); // the reads above, then the check of the head
        if control.positions().0 == head {
            return Some(bytes);
        }
    }
    None
}
