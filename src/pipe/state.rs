//! The shared memory of a pipe: two byte rings, one for each direction.
//!
//! Message boundaries are kept; an empty message is a message. The end of file comes after
//! everything that was sent, even if the sender was killed. Each message is copied once into shared
//! memory and once out of it; for messages in place, use [`spsc`](crate::spsc()).
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | control block of [`There`](Direction::There): creator to opener |
//! | 384..768 | control block of [`Back`](Direction::Back); its capacity is 0 if there is none |
//! | 768.. | the bytes of the ring there, then those of the ring back; each a power of two |
//!
//! There are four roles in two control blocks, so that an end can be split. The role in direction
//! `There` decides which process has an end; the role in direction `Back` follows.
//!
//! Each typed message carries the fingerprint of its layout. Before the first message of a type,
//! the sender sends the text of the layout, so that a receiver that expects a different layout can
//! show both.
//!
//! # Memory ordering
//!
//! That of [`crate::queue::spsc::cursor`].
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | an end dies | the other, on empty or in a send | [`recover`] ends its roles | nothing whole |
//! | a sender dies within a message in parts | the receiver | it drops the parts | that message |
//! | an opener dies with one role of two | its reaper | [`recover`] ends the other too | nothing |
//! | an end is stopped | nobody: it is not dead | itself, when it continues | nothing |

use super::{PipeReader, PipeWriter};
use crate::queue::byte_ring::area::Area;
use crate::queue::byte_ring::{is_possible, RING_MAX, RING_MIN};
use crate::queue::spsc::cursor::Control;
use crate::queue::spsc::role::Role;
use crate::queue::spsc::take_role;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::sys::{fork, membarrier};
use crate::{Error, ErrorKind, Result};

/// The default capacity of each direction in bytes: that of Linux's own pipes.
pub(super) const CAPACITY: usize = 64 * 1024;
/// The minimum, so that the rings do not share cache lines.
const CAPACITY_MIN: usize = 128;
const CAPACITY_MAX: usize = 1 << 30;
const _: () = assert!(CAPACITY_MIN as u64 >= RING_MIN && CAPACITY_MAX as u64 <= RING_MAX);

const CONTROL: usize = size_of::<Control>();
const BYTES: usize = 2 * CONTROL;

/// Creates an anonymous pipe in one direction. Either end can be moved to another thread or passed
/// to a child process.
///
/// # Examples
///
/// ```
/// # fn main() -> pagemate::Result<()> {
/// let (mut reader, mut writer) = pagemate::pipe::pipe_one_way()?;
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

/// Creates a pipe like [`pipe_one_way`] with room for `capacity` bytes, rounded up to a power of
/// two. Longer messages are sent in parts.
///
/// # Errors
///
/// `InvalidInput` (more than a gigabyte), `OutOfMemory`, `System` (too many open files).
pub fn pipe_one_way_with_capacity(capacity: usize) -> Result<(PipeReader, PipeWriter)> {
    let rings = Rings::new(Directions { capacity, is_duplex: false })?;
    Ok((PipeReader::take(rings.clone(), Direction::There)?, PipeWriter::take(rings, Direction::There)?))
}

/// The direction of one of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the creator to the opener. The only direction of a one-way pipe.
    There,
    /// From the opener to the creator.
    Back,
}

/// Returns the real capacity of a ring of `capacity` bytes.
fn rounded(capacity: usize) -> Result<usize> {
    if capacity > CAPACITY_MAX {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a pipe has room for {CAPACITY_MAX} bytes at most, not \
                 {capacity}; longer messages go in parts"
            ),
        ));
    }
    Ok(capacity.next_power_of_two().max(CAPACITY_MIN))
}

/// One process's view of a pipe: the mapping and its geometry, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Rings {
    pub(super) object: ObjectRef,
    /// The bytes of the ring there; a power of two.
    there: usize,
    /// The bytes of the ring back; a power of two, or 0.
    back: usize,
    /// The identity of this process when it took the roles.
    pub(super) me: OwnerId,
    /// The fork epoch of the process that made the handle.
    epoch: u32,
}

/// The arguments of a named pipe in one direction.
pub(super) const ONE_WAY: Directions = Directions { capacity: CAPACITY, is_duplex: false };

/// The arguments of a new pipe.
pub(crate) struct Directions {
    /// In bytes, of each direction.
    pub(super) capacity: usize,
    pub(super) is_duplex: bool,
}

impl Object for Rings {
    const KIND: Kind = Kind::Pipe;
    const LEN: usize = BYTES;
    type Initial = Directions;

    fn len_for(directions: &Directions) -> Result<usize> {
        Ok(BYTES + rounded(directions.capacity)? * (1 + usize::from(directions.is_duplex)))
    }

    unsafe fn init(base: *mut u8, directions: &Directions) {
        let capacity = rounded(directions.capacity).unwrap_or(CAPACITY_MIN) as u64;
        // SAFETY: as the caller promises; any bytes are two control blocks.
        let (there, back) = unsafe { (&*base.cast::<Control>(), &*base.add(CONTROL).cast::<Control>()) };
        there.init(capacity, 1);
        back.init(if directions.is_duplex { capacity } else { 0 }, 1);
    }

    fn attach(object: ObjectRef) -> Result<Rings> {
        membarrier::register();
        let me = object.owner()?;
        let damaged = || Error::new(ErrorKind::Corrupted, "the pipe's capacities do not fit its size");
        let (there, back) = controls_at(object.base(), object.len()).ok_or_else(damaged)?;
        let capacities = [there.capacity(), back.capacity()];
        let is_sound = is_possible(capacities[0]) && (capacities[1] == 0 || is_possible(capacities[1]));
        let room = (object.len() - BYTES) as u64;
        // Neither the sum nor the conversion overflows, because both are at most 2^31.
        if !is_sound || capacities[0] + capacities[1] > room {
            return Err(damaged());
        }
        let [there, back] = capacities.map(|capacity| capacity as usize);
        Ok(Rings { object, there, back, me, epoch: fork::epoch() })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Rings {
    /// Returns the rings if the pipe has the number of rings that the caller asked for.
    pub(super) fn checked(self, is_duplex: bool) -> Result<Rings> {
        if is_duplex != (self.back > 0) {
            let (wanted, found) =
                if is_duplex { ("both directions", "one") } else { ("one direction", "both") };
            return Err(Error::new(
                ErrorKind::TypeMismatch,
                format!("a pipe in {wanted} was asked for, and there is one in {found}"),
            ));
        }
        Ok(self)
    }

    pub(super) fn control(&self, direction: Direction) -> &Control {
        let offset = match direction {
            Direction::There => 0,
            Direction::Back => CONTROL,
        };
        // SAFETY: checked in from_object: mapped as long as `object` lives, aligned, long enough;
        // any bytes are a Control, which is atomics only.
        unsafe { &*self.object.base().add(offset).cast::<Control>() }
    }

    /// Returns the bytes of a ring, for a handle that keeps the rings. `None` if the pipe has no
    /// such direction.
    pub(super) fn area(&self, direction: Direction) -> Option<Area> {
        let (offset, len) = match direction {
            Direction::There => (BYTES, self.there),
            Direction::Back => (BYTES + self.there, self.back),
        };
        // SAFETY: checked in attach(): both rings are within the object, which `object` keeps
        // mapped, and their lengths are powers of two if they are not 0.
        (len > 0).then(|| unsafe { Area::new(self.object.base().add(offset), len) })
    }

    /// Returns whether this process made the handle. False in a fork.
    pub(super) fn is_mine(&self) -> bool {
        fork::epoch() == self.epoch
    }

    pub(super) fn take(&self, role: &Role, what: &str) -> Result<()> {
        take_role(&self.object, role, self.me, what)
    }
}

/// Hands a role of this process to another.
pub(super) fn hand_over(role: &Role, me: OwnerId, to: OwnerId) -> Result<()> {
    if role.hand_over(me, to) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotInThisProcess,
        "this process does not have the end of the pipe that it wants to give away",
    ))
}

fn controls_at<'a>(base: *const u8, len: usize) -> Option<(&'a Control, &'a Control)> {
    // SAFETY: the caller keeps the object mapped while it uses the result; objects are aligned to
    // 128, and this one is long enough; any bytes are a Control.
    (len >= BYTES).then(|| unsafe { (&*base.cast::<Control>(), &*base.add(CONTROL).cast::<Control>()) })
}

/// Ends the roles of `dead` and wakes the waiters.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    let Some((there, back)) = controls_at(base, len) else { return };
    // It may have died between its first role and its second. The first one ends last, so that this
    // can be repeated.
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

/// Returns what `pagemate show` prints about a pipe.
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

    /// An end whose holder died after taking the first of its two roles. Nobody may wait for the
    /// second for ever.
    #[test]
    fn an_opener_that_died_half_way() {
        let rings = Rings::new(Directions { capacity: 128, is_duplex: true }).unwrap();
        let object = rings.object.clone();
        let dead = OwnerId::new(700, 3).unwrap();
        rings.control(Direction::There).consumer().take(dead).unwrap();
        let recover = || recover(object.base(), object.len(), dead);
        // Two reapers, one after the other.
        recover();
        recover();
        assert!(rings.control(Direction::There).consumer().is_gone());
        assert!(rings.control(Direction::Back).producer().is_gone());
        // The creator's roles stay as they are.
        assert_eq!(rings.control(Direction::There).producer().take(rings.me), Ok(()));
        assert_eq!(rings.control(Direction::Back).consumer().take(rings.me), Ok(()));
    }

    #[test]
    fn capacities() {
        assert_eq!(rounded(0).unwrap(), CAPACITY_MIN);
        assert_eq!(rounded(65_537).unwrap(), 128 * 1024);
        assert!(rounded(CAPACITY_MAX + 1).is_err() && rounded(usize::MAX).is_err());
    }
}
