//! Packing arguments and results: bytes, descriptors that travel, and seats in segments.
//!
//! All numbers are little-endian and stand one after the other without alignment. What is read is checked: every length
//! against the bytes that are left, every descriptor against the list of those that came.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::attachment::Attachment;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::sys::process::inheritable;
use crate::{Error, ErrorKind, Result};

/// Takes values on their way into another process.
#[derive(Debug)]
pub struct Packer {
    /// Memory that is filled first: where the next byte goes, and how many have room.
    next: *mut u8,
    room: usize,
    /// What had no room there, in order.
    bytes: Vec<u8>,
    files: Vec<OwnedFd>,
    seats: Vec<Reserved>,
    /// Whether the receiver is a child that is about to be started, and not the parent of this one.
    downwards: bool,
}

/// A seat that was taken for the child: `file` is the index of its descriptor.
#[derive(Debug)]
struct Reserved {
    attachment: Arc<Attachment>,
    file: usize,
    owner: OwnerId,
}

/// What a packer has taken, ready to travel.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) bytes: Vec<u8>,
    /// Descriptors that the child inherits; each under its own number, none of them 0, 1 or 2.
    pub(crate) files: Vec<OwnedFd>,
    /// Which of the files are seats, with the owner ids that go with them.
    pub(crate) seats: Vec<(usize, u32)>,
}

impl Packer {
    /// For the arguments of a child.
    pub(crate) fn for_child() -> Packer {
        Packer {
            next: std::ptr::null_mut(),
            room: 0,
            bytes: Vec::new(),
            files: Vec::new(),
            seats: Vec::new(),
            downwards: true,
        }
    }

    /// For the result that goes to the parent, by which only bytes can go.
    pub(crate) fn for_parent() -> Packer {
        Packer { downwards: false, ..Packer::for_child() }
    }

    /// For values that stay where they are packed, to `room` bytes from `start`; see [`spilled`](Packer::spilled).
    ///
    /// # Safety
    ///
    /// So many bytes are there, and nobody else's as long as the packer lives.
    pub(crate) unsafe fn over(start: *mut u8, room: usize) -> Packer {
        Packer { next: start, room, ..Packer::for_parent() }
    }

    /// Where the next byte would go, if it had room.
    pub(crate) fn end(&self) -> *const u8 {
        self.next
    }

    /// What had no room: the end of what was packed.
    pub(crate) fn spilled(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room {
            return self.spill(bytes);
        }
        // SAFETY: so many bytes have room there (see `over`), and are nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.next, bytes.len()) };
        self.next = self.next.wrapping_add(bytes.len());
        self.room -= bytes.len();
    }

    fn spill(&mut self, bytes: &[u8]) {
        self.room = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// A descriptor that the child is to have; gives the number by which it asks for it.
    pub(crate) fn file(&mut self, file: OwnedFd) -> Result<()> {
        if !self.downwards {
            return Err(Error::new(ErrorKind::InvalidInput, "a descriptor cannot be a result"));
        }
        self.number(self.files.len() as u64);
        self.files.push(inheritable(file)?);
        Ok(())
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Bytes with their length before them.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len().saturating_add(8));
        self.number(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Gives the child a seat in the segment, if it has none yet: from here on it counts as a living participant, by the
    /// lock on a description that travels to it. Gives the id that it will have.
    pub(crate) fn attachment(&mut self, attachment: &Arc<Attachment>) -> Result<OwnerId> {
        if !self.downwards {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a handle cannot be a result: give it to the child as an argument, or open it by name",
            ));
        }
        let known = self.seats.iter().position(|seat| Arc::ptr_eq(&seat.attachment, attachment));
        let index = match known {
            Some(index) => index,
            None => {
                let seat = attachment.seat()?;
                let file = self.files.len();
                self.files.push(inheritable(seat.file)?);
                self.seats.push(Reserved { attachment: attachment.clone(), file, owner: seat.owner });
                self.seats.len() - 1
            }
        };
        self.number(index as u64);
        Ok(self.seats[index].owner)
    }

    /// Gives the child a reference to the object; see [`attachment`](Packer::attachment).
    pub(crate) fn object(&mut self, object: &ObjectRef) -> Result<OwnerId> {
        let owner = self.attachment(object.attachment())?;
        self.number(object.record());
        Ok(owner)
    }

    pub(crate) fn finish(self) -> Parcel {
        let seats = self.seats.iter().map(|seat| (seat.file, seat.owner.bits())).collect();
        Parcel { bytes: self.bytes, files: self.files, seats }
    }
}

/// Gives values that came from another process.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    files: Vec<Option<OwnedFd>>,
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    file: usize,
    owner: u32,
    /// Once somebody sits there.
    attachment: Option<Arc<Attachment>>,
}

impl<'a> Unpacker<'a> {
    /// Reads `bytes`, which came without descriptors.
    pub(crate) fn new(bytes: &'a [u8]) -> Unpacker<'a> {
        Unpacker::with_files(bytes, Vec::new(), &[])
    }

    /// Reads `bytes`, which came with `files`. What nobody asks for is closed in the end.
    pub(crate) fn with_files(bytes: &'a [u8], files: Vec<OwnedFd>, seats: &[(usize, u32)]) -> Unpacker<'a> {
        let seat = |&(file, owner): &(usize, u32)| Seat { file, owner, attachment: None };
        Unpacker {
            bytes,
            files: files.into_iter().map(Some).collect(),
            seats: seats.iter().map(seat).collect(),
        }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(|| damaged("is too short"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A number that counts something in memory.
    pub(crate) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| damaged("has an impossible length"))
    }

    pub(crate) fn block(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.bytes(len)
    }

    /// Takes the seat that the parent reserved; handles of one segment share one.
    pub(crate) fn attachment(&mut self) -> Result<Arc<Attachment>> {
        let index = self.count()?;
        let seat = self.seats.get_mut(index).ok_or_else(|| damaged("names a seat that did not come"))?;
        if let Some(attachment) = &seat.attachment {
            return Ok(attachment.clone());
        }
        let owner = OwnerId::from_bits(seat.owner).ok_or_else(|| damaged("has an impossible owner"))?;
        let file = self.files.get_mut(seat.file).and_then(Option::take);
        let file = file.ok_or_else(|| damaged("names a descriptor that did not come"))?;
        let attachment = Attachment::adopt(file, owner)?;
        seat.attachment = Some(attachment.clone());
        Ok(attachment)
    }

    /// Takes a reference to an object, which must be of this kind.
    pub(crate) fn object(&mut self, kind: Kind) -> Result<ObjectRef> {
        let attachment = self.attachment()?;
        ObjectRef::at(attachment, self.number()?, kind)
    }

    /// Takes a descriptor.
    pub(crate) fn file(&mut self) -> Result<OwnedFd> {
        let index = self.count()?;
        let file = self.files.get_mut(index).and_then(Option::take);
        file.ok_or_else(|| damaged("names a descriptor that did not come"))
    }

    /// Everything must have been read.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(damaged("is too long"))
    }
}

/// What came from the other process is not what this program sends.
#[cold]
pub(crate) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupted, format!("what came from the other process {what}"))
}
