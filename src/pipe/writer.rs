//! The sending half of an end.

use std::any::TypeId;
use std::fmt;
use std::time::{Duration, Instant};

use crate::message::{bytes_of, Message};
use crate::pipe::state::{hand_over, Direction, Rings, ONE_WAY};
use crate::pipe::PipeError;
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::{ByteWriter, Outgoing, Sort};
use crate::queue::spsc::cursor::Control;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::sys::clock::Deadline;
use crate::Result;

/// The sender of a pipe, or the sending half of a [`Connection`](super::Connection).
///
/// Dropping it is the end of file for the reader, after everything that was sent. In a child made
/// by `fork` its calls return `NotInThisProcess`, because it stays with the parent.
pub struct PipeWriter {
    writer: ByteWriter,
    rings: Rings,
    direction: Direction,
    /// The types whose layout the reader has received, with their fingerprints.
    announced: Vec<(TypeId, u64)>,
}

impl PipeWriter {
    /// Creates a pipe in one direction and becomes its writer. The reader's role is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`, `RoleTaken` (another process became the writer first).
    pub fn create(place: impl Into<Place>) -> Result<PipeWriter> {
        PipeWriter::take(Rings::create(place, ONE_WAY)?, Direction::There)
    }

    /// Opens a pipe in one direction and becomes its writer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a writer), `Closed` (it had one), `TypeMismatch` (it is
    /// something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<PipeWriter> {
        PipeWriter::take(Rings::open(place)?.checked(false)?, Direction::There)
    }

    /// Opens a pipe in one direction, or creates it if there is none. Also returns which of the two
    /// happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](PipeWriter::open) and [`create`](PipeWriter::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(PipeWriter, Origin)> {
        let (rings, origin) = Rings::open_or_create(place, ONE_WAY)?;
        Ok((PipeWriter::take(rings.checked(false)?, Direction::There)?, origin))
    }

    pub(super) fn take(rings: Rings, direction: Direction) -> Result<PipeWriter> {
        rings.take(rings.control(direction).producer(), "writer of this pipe")?;
        PipeWriter::resume(rings, direction)
    }

    fn resume(rings: Rings, direction: Direction) -> Result<PipeWriter> {
        match rings.area(direction).and_then(|area| ByteWriter::start(rings.control(direction), area)) {
            Some(writer) => Ok(PipeWriter { writer, rings, direction, announced: Vec::new() }),
            None => {
                rings.control(direction).close_producer(rings.me);
                Err(PipeError::Corrupted.into())
            }
        }
    }

    fn control(&self) -> &Control {
        self.rings.control(self.direction)
    }

    /// Sends a message. Blocks while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed`: nobody will receive it. `Corrupted`, `NotInThisProcess`.
    pub fn send<T: Message>(&mut self, message: &T) -> Result<(), PipeError> {
        self.send_until(message, Deadline::Never)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// Those of [`send`](PipeWriter::send); `TimedOut`: there is no room; `TooLarge`: there never
    /// is.
    pub fn try_send<T: Message>(&mut self, message: &T) -> Result<(), PipeError> {
        let tag = self.send_layout::<T>(None)?;
        self.put_now(Sort::Typed, tag, bytes_of(message))
    }

    /// Sends a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`send`](PipeWriter::send), and `TimedOut`: there was no room. The receiver will
    /// not see a part of the message.
    pub fn send_timeout<T: Message>(&mut self, message: &T, timeout: Duration) -> Result<(), PipeError> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_deadline<T: Message>(&mut self, message: &T, deadline: Instant) -> Result<(), PipeError> {
        self.send_until(message, Deadline::at(deadline))
    }

    /// Sends bytes. Blocks while there is no room. Bytes that exceed the pipe's capacity are sent
    /// in parts.
    ///
    /// # Errors
    ///
    /// `Closed`: nobody will receive them. `Corrupted`, `NotInThisProcess`.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.put(Sort::Bytes, 0, bytes, Deadline::Never)
    }

    /// Sends bytes if there is room now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](PipeWriter::try_send).
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.put_now(Sort::Bytes, 0, bytes)
    }

    /// Sends bytes. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), PipeError> {
        self.put(Sort::Bytes, 0, bytes, Deadline::after(timeout))
    }

    /// Sends bytes. Blocks while there is no room, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_bytes_deadline(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), PipeError> {
        self.put(Sort::Bytes, 0, bytes, Deadline::at(deadline))
    }

    /// Returns whether the reader has closed or died. True stays true. False can turn true
    /// immediately.
    pub fn is_closed(&self) -> bool {
        !self.rings.object.is_hindered(!self.control().consumer().is_gone())
    }

    /// Closes the pipe: the reader gets the end of file after everything that was sent. The same as
    /// dropping.
    ///
    /// Returns true if this call closed it. False in a forked child, where the handle is a copy and
    /// closes nothing.
    pub fn close(self) -> bool {
        self.end_role()
    }

    /// Ends the role of this process. Returns false if it has ended already, or in a fork.
    fn end_role(&self) -> bool {
        self.rings.is_mine() && self.control().close_producer(self.rings.me)
    }

    fn send_until<T: Message>(&mut self, message: &T, deadline: Deadline) -> Result<(), PipeError> {
        let tag = self.send_layout::<T>(Some(deadline))?;
        self.put(Sort::Typed, tag, bytes_of(message), deadline)
    }

    /// Sends the layout of `T` to the reader, if it does not have it. Returns the fingerprint.
    fn send_layout<T: Message>(&mut self, deadline: Option<Deadline>) -> Result<u64, PipeError> {
        let id = TypeId::of::<T>();
        if let Some((_, tag)) = self.announced.iter().find(|(announced, _)| *announced == id) {
            return Ok(*tag);
        }
        let schema = T::schema();
        let (tag, text) = (schema.fingerprint(), schema.to_string());
        match deadline {
            Some(deadline) => self.put(Sort::Schema, tag, text.as_bytes(), deadline)?,
            None => self.put_now(Sort::Schema, tag, text.as_bytes())?,
        }
        self.announced.push((id, tag));
        Ok(tag)
    }

    fn put_now(&mut self, sort: Sort, tag: u64, bytes: &[u8]) -> Result<(), PipeError> {
        if !self.rings.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        if !self.writer.fits(bytes.len()) {
            return Err(PipeError::TooLarge);
        }
        match self.writer.step(self.rings.control(self.direction), &mut Outgoing::new(sort, tag, bytes)) {
            Ok(_) => Ok(()),
            Err(blocked) => {
                if blocked == Blocked::Later {
                    self.rings.object.note_failed_try();
                }
                Err(blocked.into())
            }
        }
    }

    fn put(&mut self, sort: Sort, tag: u64, bytes: &[u8], deadline: Deadline) -> Result<(), PipeError> {
        if !self.rings.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        let PipeWriter { writer, rings, direction, .. } = self;
        let control = rings.control(*direction);
        let mut message = Outgoing::new(sort, tag, bytes);
        loop {
            let attempt = || match writer.step(control, &mut message) {
                Err(Blocked::Later) => None,
                stepped => Some(stepped),
            };
            match control.wait_for_space(deadline, || rings.object.reap_dead(), attempt) {
                Some(Ok(true)) => return Ok(()),
                Some(Ok(false)) => {}
                Some(Err(blocked)) => return Err(blocked.into()),
                // If parts of it are in the ring, the reader drops them when the next message
                // begins.
                None => return Err(PipeError::TimedOut),
            }
        }
    }

    /// Hands the role to the child process that `register` adds.
    pub(crate) fn into_child(
        self,
        register: impl FnOnce(&ObjectRef) -> Result<OwnerId>,
    ) -> Result<Direction> {
        let child = register(&self.rings.object)?;
        hand_over(self.control().producer(), self.rings.me, child)?;
        Ok(self.direction)
    }

    /// Creates, in a child, the handle of the role that its parent handed over.
    pub(crate) fn from_parent(rings: Rings, direction: Direction) -> Result<PipeWriter> {
        if !rings.control(direction).producer().is_of(rings.me) {
            return Err(PipeError::Corrupted.into());
        }
        PipeWriter::resume(rings, direction)
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.end_role();
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
