//! The ring between one producer and one consumer: wait-free, in place, in batches.
//!
//! For two parties it is several times as fast as a [`Queue`](crate::Queue), and refuses what makes that one
//! slower: no second producer or consumer, no redelivery of what a dead consumer held. Messages are packed,
//! so that eight of eight bytes share a cache line.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | [`Control`]: positions, roles, sleepers |
//! | 384.. | `capacity` slots of `size_of::<T>()`; the message at position `p` is in slot `p % capacity` |
//!
//! The handles keep their own position, its slot, and the other side's position as it was when they last ran
//! out. They read the other's position again only then, so a lively ring moves one cache line of positions
//! for many messages.
//!
//! # Memory ordering
//!
//! That of [`crate::queue::ring`]. A slot is touched only by the side whose position has come to it
//! (Invariant 2 there).
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | producer dies holding a [`SendSlot`] or a [`SendChunk`] | the consumer, once it has run dry | its role is gone: [`recover`] | what was not sent |
//! | producer dies after sending | the same | the consumer reads it all, then gets `Closed` | nothing |
//! | consumer dies holding [`RecvSlot`] or not | the producer, in its next send: `Closed` | [`recover`] | what nobody else may read |
//! | either is stopped | nobody: it is not dead | itself, when it goes on | nothing |

mod chunk;
mod consumer;
mod in_place;
mod producer;

use std::marker::PhantomData;
use std::sync::atomic::Ordering::Acquire;

pub use chunk::{RecvChunk, SendChunk};
pub use consumer::Consumer;
pub use in_place::{RecvSlot, SendSlot};
pub use producer::Producer;

use crate::kind::Kind;
use crate::message::Message;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::queue::error::Denied;
use crate::queue::ring::{Control, Stuck, CAPACITY_MAX};
use crate::queue::role::{Refused, Role};
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Where the slots begin.
const SLOTS: usize = size_of::<Control>();
/// A peek that finds its message gone tries again so often.
const PEEKS: usize = 8;

/// Creates a ring of `capacity` messages that only its two handles lead to. Either can be given to another
/// thread or to a child process.
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
/// // The iterator ends when the producer has gone and everything was received.
/// assert_eq!(consumer.iter().sum::<u64>(), 45);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `InvalidInput` (a capacity of 0, or too large), `OutOfMemory`, `System` (too many open files).
pub fn spsc<T: Message>(capacity: usize) -> Result<(Producer<T>, Consumer<T>)> {
    let object = Place::anonymous(&shape::<T>(capacity)?, init::<T>(capacity))?;
    let consumer = Frame::new(object.clone())?;
    Ok((Producer::join(Frame::new(object)?)?, Consumer::join(consumer)?))
}

fn shape<T: Message>(capacity: usize) -> Result<Shape> {
    const { assert!(align_of::<T>() <= 128, "messages aligned to more than 128 bytes do not fit into objects") };
    let len = capacity.checked_mul(size_of::<T>()).and_then(|len| len.checked_add(SLOTS));
    match len {
        Some(len) if (1..=CAPACITY_MAX).contains(&(capacity as u64)) && len as u64 <= CAPACITY_MAX => {
            Ok(Shape { kind: Kind::Spsc, schema: T::schema().to_string(), len })
        }
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a ring of {capacity} messages is not possible: 1 to {CAPACITY_MAX} bytes and messages are"
            ),
        )),
    }
}

fn init<T: Message>(capacity: usize) -> impl Fn(*mut u8) {
    move |base| {
        // SAFETY: an object of this shape begins with a Control, zeroed and aligned, and nobody else can see
        // it.
        unsafe { &*base.cast::<Control>() }.init(capacity as u64, size_of::<T>() as u64);
    }
}

/// What both handles stand on: the mapping, and its geometry, checked once.
#[derive(Debug)]
struct Frame<T> {
    object: ObjectRef,
    /// At least 1, and all slots lie within the object.
    capacity: usize,
    /// Who this handle's process was when it took the role.
    me: OwnerId,
    /// Which of the processes that fork from one another made it.
    epoch: u32,
    _messages: PhantomData<T>,
}

impl<T: Message> Frame<T> {
    fn new(object: ObjectRef) -> Result<Frame<T>> {
        let me = object.owner()?;
        let damaged = || Error::new(ErrorKind::Corrupted, "the ring's capacity does not fit its size");
        if object.len() < SLOTS {
            return Err(damaged());
        }
        // SAFETY: mapped, aligned to 128, and long enough.
        let control = unsafe { &*object.base().cast::<Control>() };
        let capacity = usize::try_from(control.capacity()).map_err(|_| damaged())?;
        let is_sound = (1..=CAPACITY_MAX).contains(&(capacity as u64))
            && control.stride() == size_of::<T>() as u64
            && capacity.checked_mul(size_of::<T>()).is_some_and(|len| len <= object.len() - SLOTS);
        match is_sound {
            true => Ok(Frame { object, capacity, me, epoch: fork::epoch(), _messages: PhantomData }),
            false => Err(damaged()),
        }
    }

    fn create(place: Place, capacity: usize) -> Result<Frame<T>> {
        Frame::new(place.create(&shape::<T>(capacity)?, init::<T>(capacity))?)
    }

    fn open(place: Place) -> Result<Frame<T>> {
        Frame::new(place.open(Kind::Spsc, &T::schema().to_string())?)
    }

    fn open_or_create(place: Place, capacity: usize) -> Result<(Frame<T>, Origin)> {
        let (object, origin) = place.open_or_create(&shape::<T>(capacity)?, init::<T>(capacity))?;
        Ok((Frame::new(object)?, origin))
    }

    #[inline(always)]
    fn control(&self) -> &Control {
        // SAFETY: checked by `new`: mapped as long as `object` lives, aligned, long enough; any bytes are a
        // Control, which is atomics only.
        unsafe { &*self.object.base().cast::<Control>() }
    }

    /// Where the message of `slot`, less than `capacity`, lies.
    #[inline(always)]
    fn slot(&self, slot: usize) -> *mut T {
        debug_assert!(slot < self.capacity);
        // SAFETY: checked by `new`: all slots lie within the object.
        unsafe { self.object.base().add(SLOTS).cast::<T>().add(slot) }
    }

    /// Whether this is the process that the handle was made in, not a fork of it.
    #[inline(always)]
    fn is_mine(&self) -> bool {
        fork::epoch() == self.epoch
    }

    /// Why an attempt came to nothing. Who only ever tries must notice deaths too.
    #[inline]
    fn denied(&self, stuck: Stuck) -> Denied {
        if stuck == Stuck::Later {
            self.object.miss();
        }
        stuck.into()
    }

    fn len(&self) -> usize {
        self.control().len(self.capacity as u64) as usize
    }
}

/// Takes a role for `me`; reaps its last holder first, if that one is dead.
pub(crate) fn take_role(object: &ObjectRef, role: &Role, me: OwnerId, what: &str) -> Result<()> {
    loop {
        let (kind, text) = match role.take(me) {
            Ok(()) => return Ok(()),
            Err(Refused::Taken(id)) if id != me && !object.is_alive(id) => {
                object.attachment().reap(id);
                match role.is_of(id) {
                    // Damage: no participant has had this id, or reaping would have ended the role.
                    true => {
                        (ErrorKind::Corrupted, format!("the word that says who is the {what} makes no sense"))
                    }
                    false => continue,
                }
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
}

/// Gives a role of this process to another.
fn hand_over(role: &Role, me: OwnerId, to: OwnerId, what: &str) -> Result<()> {
    match role.hand_over(me, to) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NotInThisProcess,
            format!("this process is not the {what}, and cannot give away that it is: it was forked from the one that is"),
        )),
    }
}

/// In a child: whether it has the role that its parent handed over.
fn check_role(role: &Role, me: OwnerId, what: &str) -> Result<()> {
    match role.is_of(me) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Corrupted, format!("the ring names somebody else as its {what}"))),
    }
}

fn damaged_positions() -> Error {
    Error::new(ErrorKind::Corrupted, "the positions of the ring contradict each other")
}

/// The control block of an object of any content.
fn control_at<'a>(base: *const u8, len: usize) -> Option<&'a Control> {
    // SAFETY: objects are mapped as long as somebody looks at them, aligned to 128, and this one is long
    // enough; any bytes are a Control.
    (len >= SLOTS).then(|| unsafe { &*base.cast::<Control>() })
}

/// Ends the roles of `dead` and wakes whoever waits on it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(control) = control_at(base, len) {
        control.recover(dead);
    }
}

/// What `pagemate show` says about a ring.
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

/// The bytes of the message that would be received next. `None`: there is none, or it is being received all
/// the time.
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
        // SAFETY: within the object. The producer may write there only after the head has moved on, which
        // shows below; volatile, so that the bytes are read now.
        let bytes = (0..stride).map(|i| unsafe { base.add(start + i).read_volatile() }).collect();
        std::sync::atomic::fence(Acquire); // the reads above, then the look at the head
        if control.positions().0 == head {
            return Some(bytes);
        }
    }
    None
}
