//! Pipes: messages and bytes of any length between two ends, each of which two processes can hold.
//!
//! Message boundaries are kept; an empty message is a message. The end of file comes after everything that
//! was sent, also when the sender was killed. Each message is copied once into shared memory and once out of
//! it; for messages in place, use [`spsc`](crate::spsc()).
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | control block of the way there: creator to opener |
//! | 384..768 | control block of the way back; its capacity is 0 if there is none |
//! | 768.. | the bytes of the ring there, then those of the ring back; each a power of two |
//!
//! Four roles in two control blocks, so that an end can be split. An end that is opened is decided by its
//! role on the way there; the other role follows.
//!
//! The type of a message goes with it as a fingerprint. In front of the first message of a type the sender
//! puts the text of its layout, so that a receiver that expects another one can show both.
//!
//! # Memory ordering
//!
//! That of [`crate::queue::ring`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | an end dies | the other one, once it has run dry or when it sends | its roles are gone: [`recover`] | nothing that was sent whole |
//! | in the middle of a message in parts | the same | the receiver drops the parts, and is at the end of file | that message |
//! | an opener dies having taken one role of two | whoever reaps it | [`recover`] gives up the other one too | nothing |
//! | an end is stopped | nobody: it is not dead | itself, when it goes on | nothing |

mod connection;
mod error;
mod reader;
mod writer;

pub use connection::{pipe, pipe_with_capacity, Connection};
pub use error::PipeError;
pub(crate) use reader::Luggage;
pub use reader::PipeReader;
pub use writer::PipeWriter;

use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::queue::area::Area;
use crate::queue::bytes::{is_possible, RING_MAX, RING_MIN};
use crate::queue::ring::Control;
use crate::queue::role::Role;
use crate::queue::spsc::take_role;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// How many bytes each way has room for, unless said: what Linux gives to its own pipes.
const CAPACITY: usize = 64 * 1024;
/// So that the second ring's bytes do not share cache lines with the first's.
const CAPACITY_MIN: usize = 128;
const CAPACITY_MAX: usize = 1 << 30;
const _: () = assert!(CAPACITY_MIN as u64 >= RING_MIN && CAPACITY_MAX as u64 <= RING_MAX);

const CONTROL: usize = size_of::<Control>();
const BYTES: usize = 2 * CONTROL;

/// Creates a pipe in one direction that only its two ends lead to. Either can be given to another thread or
/// to a child process.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut reader, mut writer) = pagemate::pipe_one_way()?;
/// writer.send_bytes(b"hello")?;
/// drop(writer);
/// assert_eq!(reader.recv_bytes()?, b"hello");
/// assert!(reader.recv_bytes().unwrap_err().is_closed()); // end of file
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `OutOfMemory`, `System` (too many open files).
pub fn pipe_one_way() -> Result<(PipeReader, PipeWriter)> {
    pipe_one_way_with_capacity(CAPACITY)
}

/// [`pipe_one_way`] with room for `capacity` bytes, rounded up to a power of two. Longer messages go in
/// parts.
///
/// # Errors
///
/// `InvalidInput` (more than a gigabyte), `OutOfMemory`, `System` (too many open files).
pub fn pipe_one_way_with_capacity(capacity: usize) -> Result<(PipeReader, PipeWriter)> {
    let object = Place::anonymous(&shape(capacity, false)?, init(capacity, false))?;
    let frame = Frame::new(object, false)?;
    Ok((PipeReader::take(frame.clone(), Way::There)?, PipeWriter::take(frame, Way::There)?))
}

/// Which of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the creator to the opener; the only one of a pipe in one direction.
    There,
    /// From the opener to the creator.
    Back,
}

/// What a ring of `capacity` bytes really has.
fn rounded(capacity: usize) -> Result<usize> {
    if capacity > CAPACITY_MAX {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a pipe has room for {CAPACITY_MAX} bytes at most, not {capacity}; longer messages go in parts"),
        ));
    }
    Ok(capacity.next_power_of_two().max(CAPACITY_MIN))
}

fn shape(capacity: usize, is_duplex: bool) -> Result<Shape> {
    let len = BYTES + rounded(capacity)? * (1 + usize::from(is_duplex));
    Ok(Shape { kind: Kind::Pipe, schema: String::new(), len })
}

fn init(capacity: usize, is_duplex: bool) -> impl Fn(*mut u8) {
    let capacity = rounded(capacity).unwrap_or(CAPACITY_MIN) as u64;
    move |base| {
        // SAFETY: an object of this shape begins with two control blocks, zeroed and aligned, and nobody else
        // can see it.
        let (there, back) = unsafe { (&*base.cast::<Control>(), &*base.add(CONTROL).cast::<Control>()) };
        there.init(capacity, 1);
        back.init(if is_duplex { capacity } else { 0 }, 1);
    }
}

/// What all handles stand on: the mapping, and its geometry, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    object: ObjectRef,
    /// Bytes of the ring there; a power of two.
    there: usize,
    /// Bytes of the ring back; a power of two, or 0.
    back: usize,
    /// Who the handle's process was when it took the roles.
    me: OwnerId,
    /// Which of the processes that fork from one another made it.
    epoch: u32,
}

impl Frame {
    fn new(object: ObjectRef, is_duplex: bool) -> Result<Frame> {
        let me = object.owner()?;
        let damaged = || Error::new(ErrorKind::Corrupted, "the pipe's capacities do not fit its size");
        let (there, back) = controls_at(object.base(), object.len()).ok_or_else(damaged)?;
        let capacities = [there.capacity(), back.capacity()];
        let is_sound = is_possible(capacities[0]) && (capacities[1] == 0 || is_possible(capacities[1]));
        let room = (object.len() - BYTES) as u64;
        // Neither sum nor conversion overflows: both are at most 2^31.
        if !is_sound || capacities[0] + capacities[1] > room {
            return Err(damaged());
        }
        let [there, back] = capacities.map(|capacity| capacity as usize);
        if is_duplex != (back > 0) {
            let (wanted, found) =
                if is_duplex { ("both directions", "one") } else { ("one direction", "both") };
            return Err(Error::new(
                ErrorKind::TypeMismatch,
                format!("a pipe in {wanted} was asked for, and there is one in {found}"),
            ));
        }
        Ok(Frame { object, there, back, me, epoch: fork::epoch() })
    }

    fn create(place: Place, capacity: usize, is_duplex: bool) -> Result<Frame> {
        Frame::new(place.create(&shape(capacity, is_duplex)?, init(capacity, is_duplex))?, is_duplex)
    }

    fn open(place: Place, is_duplex: bool) -> Result<Frame> {
        Frame::new(place.open(Kind::Pipe, "")?, is_duplex)
    }

    fn open_or_create(place: Place, capacity: usize, is_duplex: bool) -> Result<(Frame, Origin)> {
        let (object, origin) =
            place.open_or_create(&shape(capacity, is_duplex)?, init(capacity, is_duplex))?;
        Ok((Frame::new(object, is_duplex)?, origin))
    }

    fn control(&self, way: Way) -> &Control {
        let offset = match way {
            Way::There => 0,
            Way::Back => CONTROL,
        };
        // SAFETY: checked by `new`: mapped as long as `object` lives, aligned, long enough; any bytes are a
        // Control, which is atomics only.
        unsafe { &*self.object.base().add(offset).cast::<Control>() }
    }

    /// The bytes of a ring, for a handle that keeps the frame. `None`: the pipe does not go that way.
    fn area(&self, way: Way) -> Option<Area> {
        let (offset, len) = match way {
            Way::There => (BYTES, self.there),
            Way::Back => (BYTES + self.there, self.back),
        };
        // SAFETY: checked by `new`: both rings lie within the object, which `object` keeps mapped, and their
        // lengths are powers of two if they are not 0.
        (len > 0).then(|| unsafe { Area::new(self.object.base().add(offset), len) })
    }

    /// Whether this is the process that the handle was made in, not a fork of it.
    fn is_mine(&self) -> bool {
        fork::epoch() == self.epoch
    }

    /// The same frame for a process to which the roles have been handed over.
    pub(crate) fn adopt(object: ObjectRef) -> Result<Frame> {
        let is_duplex = controls_at(object.base(), object.len()).is_some_and(|(_, back)| back.capacity() > 0);
        Frame::new(object, is_duplex)
    }

    fn take(&self, role: &Role, what: &str) -> Result<()> {
        take_role(&self.object, role, self.me, what)
    }
}

/// Gives a role of this process to the process that `seat` finds a place for.
fn hand_over(role: &Role, me: OwnerId, to: OwnerId) -> Result<()> {
    match role.hand_over(me, to) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NotInThisProcess,
            "this process does not have the end of the pipe that it wants to give away",
        )),
    }
}

fn controls_at<'a>(base: *const u8, len: usize) -> Option<(&'a Control, &'a Control)> {
    // SAFETY: objects are mapped as long as somebody looks at them, aligned to 128, and this one is long
    // enough; any bytes are a Control.
    (len >= BYTES).then(|| unsafe { (&*base.cast::<Control>(), &*base.add(CONTROL).cast::<Control>()) })
}

/// Ends the roles of `dead` and wakes whoever waits on it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    let Some((there, back)) = controls_at(base, len) else { return };
    // It may have died between its first role and its second. The first one goes last, so that this can be
    // repeated.
    let mut abandoned = false;
    if there.producer().is_of(dead) {
        abandoned |= back.consumer().abandon();
    }
    if there.consumer().is_of(dead) {
        abandoned |= back.producer().abandon();
    }
    if abandoned {
        back.wake_all();
    }
    back.recover(dead);
    there.recover(dead);
}

/// What `pagemate show` says about a pipe.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some((there, back)) = controls_at(base, len) else { return Vec::new() };
    let depth = |control: &Control| format!("{} bytes", control.len(control.capacity()));
    let mut state = vec![
        ("capacity", format!("{} bytes", there.capacity())),
        ("depth there", depth(there)),
        ("writer there", there.producer().describe()),
        ("reader there", there.consumer().describe()),
    ];
    if back.capacity() > 0 {
        state.extend([
            ("depth back", depth(back)),
            ("writer back", back.producer().describe()),
            ("reader back", back.consumer().describe()),
        ]);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end whose holder died after the first of its two roles: nobody may wait for the second for ever.
    #[test]
    fn an_opener_that_died_half_way() {
        let object = Place::anonymous(&shape(128, true).unwrap(), init(128, true)).unwrap();
        let frame = Frame::new(object.clone(), true).unwrap();
        let dead = OwnerId::new(700, 3).unwrap();
        frame.control(Way::There).consumer().take(dead).unwrap();
        let recover = || recover(object.base(), object.len(), dead);
        // Two reapers, one after the other.
        recover();
        recover();
        assert!(frame.control(Way::There).consumer().is_gone());
        assert!(frame.control(Way::Back).producer().is_gone());
        // The creator's roles are nobody's business.
        assert_eq!(frame.control(Way::There).producer().take(frame.me), Ok(()));
        assert_eq!(frame.control(Way::Back).consumer().take(frame.me), Ok(()));
    }

    #[test]
    fn capacities() {
        assert_eq!(rounded(0).unwrap(), CAPACITY_MIN);
        assert_eq!(rounded(65_537).unwrap(), 128 * 1024);
        assert!(rounded(CAPACITY_MAX + 1).is_err() && rounded(usize::MAX).is_err());
    }
}
