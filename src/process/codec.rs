//! Packing arguments and results: bytes, descriptors that travel, and participant ids in segments.
//!
//! Numbers are little-endian, one after the other, without alignment. Unpacking checks everything:
//! every length against the number of bytes left, every descriptor against the list of those that
//! arrived.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::segment::attachment::Attachment;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::sys::backing::{inherited, received};
use crate::sys::fork::Window;
use crate::sys::hold::Hold;
use crate::sys::process::inheritable;
use crate::{Error, ErrorKind, Result};

/// Packs values for another process.
#[derive(Debug)]
pub struct Packer {
    /// Memory that is filled first: where the next byte goes, and the number of bytes left.
    next: *mut u8,
    room: usize,
    /// The bytes that did not fit, in order.
    bytes: Vec<u8>,
    /// Dropped before the files; see [`Packed`].
    participants: Vec<ReservedId>,
    files: Vec<OwnedFd>,
    /// Dropped last; see [`Packed`].
    windows: Vec<Window>,
    /// Whether the receiver is a child that is about to be started, and not the parent of this
    /// process.
    downwards: bool,
}

/// A participant id that was reserved for the child; `file` is the index of its descriptor. Unless
/// the child was started, it is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct ReservedId {
    attachment: Arc<Attachment>,
    pub(crate) file: usize,
    pub(crate) owner: OwnerId,
    is_given: bool,
}

impl Drop for ReservedId {
    fn drop(&mut self) {
        if !self.is_given {
            // Another thread that starts a program may have a copy of the descriptor for a moment,
            // and with it the lock. This participant must not count as using the segment then.
            self.attachment.view().line(self.owner.index()).set_leaving(self.owner);
        }
    }
}

/// Packed values, ready to travel.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    /// The participant ids whose locks travel with the files. Dropped before the files are closed,
    /// so that none of them is another participant's by then.
    pub(crate) participants: Vec<ReservedId>,
    /// Descriptors that the child inherits, each under its own number, none of them 0, 1 or 2.
    pub(crate) files: Vec<OwnedFd>,
    /// Forbid forks until the files are closed, because a copy of a participant's lock would keep
    /// the child alive. Dropped last.
    pub(crate) _windows: Vec<Window>,
}

impl Packed {
    /// Leaves the participant ids to the child, which was started.
    pub(crate) fn give(&mut self) {
        self.participants.iter_mut().for_each(|id| id.is_given = true);
    }
}

impl Packer {
    /// Creates a packer for the arguments of a child.
    pub(crate) fn for_child() -> Packer {
        Packer {
            next: std::ptr::null_mut(),
            room: 0,
            bytes: Vec::new(),
            files: Vec::new(),
            participants: Vec::new(),
            windows: Vec::new(),
            downwards: true,
        }
    }

    /// Creates a packer for a result, which goes to the parent and can only have bytes.
    pub(crate) fn for_parent() -> Packer {
        Packer { downwards: false, ..Packer::for_child() }
    }

    /// Creates a packer for values that stay where they are packed: in `room` bytes from `start`;
    /// see [`spilled`](Packer::spilled).
    ///
    /// # Safety
    ///
    /// `room` bytes from `start` are valid, and nobody else's while the packer lives.
    pub(crate) unsafe fn over(start: *mut u8, room: usize) -> Packer {
        Packer { next: start, room, ..Packer::for_parent() }
    }

    /// Returns where the next byte would go, if it fits.
    pub(crate) fn end(&self) -> *const u8 {
        self.next
    }

    /// Returns the bytes that did not fit: the end of what was packed.
    pub(crate) fn spilled(&self) -> &[u8] {
        &self.bytes
    }

    /// Packs bytes without their length.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room {
            return self.spill(bytes);
        }
        // SAFETY: `room` bytes are valid there (see `over`) and nobody else's, and `bytes` is no
        // longer.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.next, bytes.len()) };
        self.next = self.next.wrapping_add(bytes.len());
        self.room -= bytes.len();
    }

    fn spill(&mut self, bytes: &[u8]) {
        self.room = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Packs a descriptor, which the child will inherit.
    pub(crate) fn file(&mut self, file: OwnedFd) -> Result<()> {
        if !self.downwards {
            return Err(Error::new(ErrorKind::InvalidInput, "a descriptor cannot be a result"));
        }
        self.number(self.files.len() as u64);
        self.files.push(inheritable(file)?);
        Ok(())
    }

    /// Packs a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Packs bytes with their length before them.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len().saturating_add(8));
        self.number(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Reserves a participant id in the segment for the child, unless it has one, and returns it.
    /// From here on the child counts as a living participant, by the lock on a description that
    /// travels to it.
    pub(crate) fn attachment(&mut self, attachment: &Arc<Attachment>) -> Result<OwnerId> {
        if !self.downwards {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a handle cannot be a result: give it to the child as an argument, or open it by name",
            ));
        }
        let known = self.participants.iter().position(|seat| Arc::ptr_eq(&seat.attachment, attachment));
        let index = match known {
            Some(index) => index,
            None => {
                let seat = attachment.seat()?;
                let file = self.files.len();
                self.files.push(inheritable(inherited(seat.file)?)?);
                self.windows.push(seat.window);
                self.participants.push(ReservedId {
                    attachment: attachment.clone(),
                    file,
                    owner: seat.owner,
                    is_given: false,
                });
                self.participants.len() - 1
            }
        };
        self.number(index as u64);
        Ok(self.participants[index].owner)
    }

    /// Packs a reference to the object; see [`attachment`](Packer::attachment).
    pub(crate) fn object(&mut self, object: &ObjectRef) -> Result<OwnerId> {
        let owner = self.attachment(object.attachment())?;
        self.number(object.record());
        Ok(owner)
    }

    /// Returns everything that was packed, except for the bytes that fitted into the room of
    /// [`over`](Packer::over).
    pub(crate) fn finish(self) -> Packed {
        let Packer { bytes, participants, files, windows, .. } = self;
        Packed { bytes, participants, files, _windows: windows }
    }
}

/// Unpacks values that arrived from another process.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    files: Vec<Option<OwnedFd>>,
    participants: Vec<ReceivedId>,
}

/// A participant id that arrived; `file` is the index of the segment's descriptor.
#[derive(Debug)]
pub(crate) struct ReceivedId {
    file: usize,
    owner: u32,
    /// The lock; `None` if it still belongs to the descriptor.
    hold: Option<Hold>,
    /// The attachment, once it was unpacked.
    attachment: Option<Arc<Attachment>>,
}

impl ReceivedId {
    pub(crate) fn new(file: usize, owner: u32, hold: Option<Hold>) -> ReceivedId {
        ReceivedId { file, owner, hold, attachment: None }
    }
}

impl<'a> Unpacker<'a> {
    /// Creates an unpacker of `bytes`, which arrived without descriptors.
    pub(crate) fn new(bytes: &'a [u8]) -> Unpacker<'a> {
        Unpacker::with_files(bytes, Vec::new(), Vec::new())
    }

    /// Creates an unpacker of `bytes`, which arrived with `files`. Files that are not unpacked are
    /// closed in the end.
    pub(crate) fn with_files(
        bytes: &'a [u8],
        files: Vec<OwnedFd>,
        participants: Vec<ReceivedId>,
    ) -> Unpacker<'a> {
        Unpacker { bytes, files: files.into_iter().map(Some).collect(), participants }
    }

    /// Returns the number of bytes left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Unpacks `len` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(|| damaged("is too short"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Unpacks a number.
    pub(crate) fn number(&mut self) -> Result<u64> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Unpacks a number that counts something in memory.
    pub(crate) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| damaged("has an impossible length"))
    }

    /// Unpacks bytes with their length before them.
    pub(crate) fn block(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.bytes(len)
    }

    /// Unpacks the attachment by the participant id that the parent reserved. Handles of one
    /// segment share one.
    pub(crate) fn attachment(&mut self) -> Result<Arc<Attachment>> {
        let index = self.count()?;
        let seat = self
            .participants
            .get_mut(index)
            .ok_or_else(|| damaged("names a participant that did not arrive"))?;
        if let Some(attachment) = &seat.attachment {
            return Ok(attachment.clone());
        }
        let owner = OwnerId::from_bits(seat.owner).ok_or_else(|| damaged("has an impossible owner"))?;
        let file = self.files.get_mut(seat.file).and_then(Option::take);
        let file = file.ok_or_else(|| damaged("names a descriptor that did not arrive"))?;
        let (file, hold) = received(file, seat.hold.take())?;
        let attachment = Attachment::adopt(file, owner, hold)?;
        seat.attachment = Some(attachment.clone());
        Ok(attachment)
    }

    /// Unpacks a reference to an object, as a handle of the type that its kind must have.
    pub(crate) fn handle<O: Object>(&mut self) -> Result<O> {
        let attachment = self.attachment()?;
        O::from_record(attachment, self.number()?)
    }

    /// Unpacks a descriptor.
    pub(crate) fn file(&mut self) -> Result<OwnedFd> {
        let index = self.count()?;
        let file = self.files.get_mut(index).and_then(Option::take);
        file.ok_or_else(|| damaged("names a descriptor that did not arrive"))
    }

    /// Returns an error unless everything has been unpacked.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(damaged("is too long"))
    }
}

/// Returns the error for data that this program does not send.
#[cold]
pub(crate) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupted, format!("the data from the other process {what}"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::process::Argument;
    use crate::Event;

    /// The id of a child that cannot be started is given up at once, although a thread that starts
    /// another program may still have a copy of its descriptor.
    #[test]
    fn an_id_reserved_for_a_child_that_never_starts_keeps_no_name() {
        let name = format!("id-without-child-{}", std::process::id());
        for is_given in [false, true] {
            let event = Event::create(name.as_str()).unwrap();
            let mut packer = Packer::for_child();
            event.clone().pack(&mut packer).unwrap();
            let copy = packer.files[0].try_clone().unwrap();
            let mut packed = packer.finish();
            if is_given {
                packed.give();
            }
            drop(packed);
            drop(event);
            let opened = Event::open(name.as_str());
            assert_eq!(opened.is_ok(), is_given, "{opened:?}");
            drop(copy);
        }
    }
}
