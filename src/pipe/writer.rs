//! The sending half of an end.

use std::any::TypeId;
use std::fmt;
use std::time::{Duration, Instant};

use super::{hand_over, Frame, PipeError, Way, CAPACITY};
use crate::message::{bytes_of, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place};
use crate::queue::bytes::{ByteWriter, Outgoing, Sort};
use crate::queue::ring::{Control, Stuck};
use crate::sys::clock::Deadline;
use crate::Result;

/// The sender of a pipe, or the sending half of a [`Connection`](super::Connection).
///
/// Dropping it is the end of file for the reader, after everything that was sent.
pub struct PipeWriter {
    writer: ByteWriter,
    frame: Frame,
    way: Way,
    /// The types whose layout the reader has been told, with their fingerprints.
    told: Vec<(TypeId, u64)>,
}

impl PipeWriter {
    /// Creates a pipe in one direction and becomes its writer. The reader's role is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`,
    /// `RoleTaken` (somebody opened it as writer at once).
    pub fn create(place: impl Into<Place>) -> Result<PipeWriter> {
        PipeWriter::take(Frame::create(place.into(), CAPACITY, false)?, Way::There)
    }

    /// Opens a pipe in one direction and becomes its writer.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a writer), `Closed` (it had one), `TypeMismatch` (it is something
    /// else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<PipeWriter> {
        PipeWriter::take(Frame::open(place.into(), false)?, Way::There)
    }

    /// Opens a pipe in one direction or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](PipeWriter::open) and [`create`](PipeWriter::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(PipeWriter, Origin)> {
        let (frame, origin) = Frame::open_or_create(place.into(), CAPACITY, false)?;
        Ok((PipeWriter::take(frame, Way::There)?, origin))
    }

    pub(super) fn take(frame: Frame, way: Way) -> Result<PipeWriter> {
        frame.take(frame.control(way).producer(), "writer of this pipe")?;
        PipeWriter::resume(frame, way)
    }

    fn resume(frame: Frame, way: Way) -> Result<PipeWriter> {
        match frame.area(way).and_then(|area| ByteWriter::start(frame.control(way), area)) {
            Some(writer) => Ok(PipeWriter { writer, frame, way, told: Vec::new() }),
            None => {
                frame.control(way).close_producer(frame.me);
                Err(PipeError::Corrupted.into())
            }
        }
    }

    fn control(&self) -> &Control {
        self.frame.control(self.way)
    }

    /// Sends a message; waits while there is no room.
    ///
    /// # Errors
    ///
    /// `Closed`: nobody will receive it.
    pub fn send<T: Message>(&mut self, message: &T) -> Result<(), PipeError> {
        self.send_until(message, Deadline::Never)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// `TimedOut`: there is no room. `TooLarge`: there never is. `Closed`: nobody will receive it.
    pub fn try_send<T: Message>(&mut self, message: &T) -> Result<(), PipeError> {
        let tag = self.tell::<T>(None)?;
        self.put_now(Sort::Typed, tag, bytes_of(message))
    }

    /// Sends a message; waits while there is no room, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// `TimedOut`: there was no room. The receiver will not see a part of the message. `Closed`: nobody will
    /// receive it.
    pub fn send_timeout<T: Message>(&mut self, message: &T, timeout: Duration) -> Result<(), PipeError> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message; waits while there is no room, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_deadline<T: Message>(&mut self, message: &T, deadline: Instant) -> Result<(), PipeError> {
        self.send_until(message, Deadline::at(deadline))
    }

    /// Sends bytes; waits while there is no room. Longer ones than the pipe has room for go in parts.
    ///
    /// # Errors
    ///
    /// `Closed`: nobody will receive them.
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

    /// Sends bytes; waits while there is no room, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_bytes_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), PipeError> {
        self.put(Sort::Bytes, 0, bytes, Deadline::after(timeout))
    }

    /// Sends bytes; waits while there is no room, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](PipeWriter::send_timeout).
    pub fn send_bytes_deadline(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), PipeError> {
        self.put(Sort::Bytes, 0, bytes, Deadline::at(deadline))
    }

    /// Whether the reader has closed or died. Stays true; false may be wrong the moment after.
    pub fn is_closed(&self) -> bool {
        self.control().consumer().is_gone()
    }

    /// Ends the sending: the reader gets the end of file after everything that was sent. The same as
    /// dropping.
    pub fn close(self) {}

    fn send_until<T: Message>(&mut self, message: &T, deadline: Deadline) -> Result<(), PipeError> {
        let tag = self.tell::<T>(Some(deadline))?;
        self.put(Sort::Typed, tag, bytes_of(message), deadline)
    }

    /// Tells the reader the layout of `T`, if it does not know it; gives the fingerprint.
    fn tell<T: Message>(&mut self, deadline: Option<Deadline>) -> Result<u64, PipeError> {
        let id = TypeId::of::<T>();
        if let Some((_, tag)) = self.told.iter().find(|(told, _)| *told == id) {
            return Ok(*tag);
        }
        let schema = T::schema();
        let (tag, text) = (schema.fingerprint(), schema.to_string());
        match deadline {
            Some(deadline) => self.put(Sort::Schema, tag, text.as_bytes(), deadline)?,
            None => self.put_now(Sort::Schema, tag, text.as_bytes())?,
        }
        self.told.push((id, tag));
        Ok(tag)
    }

    fn put_now(&mut self, sort: Sort, tag: u64, bytes: &[u8]) -> Result<(), PipeError> {
        if !self.frame.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        if !self.writer.fits(bytes.len()) {
            return Err(PipeError::TooLarge);
        }
        match self.writer.step(self.frame.control(self.way), &mut Outgoing::new(sort, tag, bytes)) {
            Ok(_) => Ok(()),
            Err(stuck) => {
                if stuck == Stuck::Later {
                    self.frame.object.miss();
                }
                Err(stuck.into())
            }
        }
    }

    fn put(&mut self, sort: Sort, tag: u64, bytes: &[u8], deadline: Deadline) -> Result<(), PipeError> {
        if !self.frame.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        let PipeWriter { writer, frame, way, .. } = self;
        let control = frame.control(*way);
        let mut message = Outgoing::new(sort, tag, bytes);
        loop {
            let attempt = || match writer.step(control, &mut message) {
                Err(Stuck::Later) => None,
                stepped => Some(stepped),
            };
            match control.wait_for_space(deadline, || frame.object.tend(), attempt) {
                Some(Ok(true)) => return Ok(()),
                Some(Ok(false)) => {}
                Some(Err(stuck)) => return Err(stuck.into()),
                // If parts of it are in the ring, the reader drops them when the next message begins.
                None => return Err(PipeError::TimedOut),
            }
        }
    }

    /// Gives the role to the process that `seat` finds a place for.
    pub(crate) fn into_child(self, seat: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<Way> {
        let child = seat(&self.frame.object)?;
        hand_over(self.control().producer(), self.frame.me, child)?;
        Ok(self.way)
    }

    /// In a child: the role that its parent handed over.
    pub(crate) fn from_parent(frame: Frame, way: Way) -> Result<PipeWriter> {
        match frame.control(way).producer().is_of(frame.me) {
            true => PipeWriter::resume(frame, way),
            false => Err(PipeError::Corrupted.into()),
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if self.frame.is_mine() {
            self.control().close_producer(self.frame.me);
        }
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
