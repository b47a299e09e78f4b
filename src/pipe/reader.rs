//! The receiving half of an end.

use std::any::TypeId;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{hand_over, Frame, PipeError, Way, CAPACITY};
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place};
use crate::queue::bytes::{Arrived, ByteReader, Leftover, Sort};
use crate::queue::ring::{Control, Stuck};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// So many layouts are remembered. A sender that tells more gets poorer error texts.
const LAYOUTS: usize = 256;
/// What is longer is no layout, and not remembered.
const LAYOUT_BYTES: usize = 1 << 20;
/// So many records are read in one go before the deadline is looked at.
const RECORDS: usize = 64;

/// The receiver of a pipe, or the receiving half of a [`Connection`](super::Connection).
///
/// Dropping it makes the writer's sends fail. A message that went in parts is put together here, in memory of
/// this process.
pub struct PipeReader {
    reader: ByteReader,
    frame: Frame,
    way: Way,
    /// Layouts that the writer has told, by fingerprint.
    layouts: Vec<(u64, String)>,
    /// Types that have been received, with their fingerprints.
    known: Vec<(TypeId, u64)>,
}

impl PipeReader {
    /// Creates a pipe in one direction and becomes its reader. The writer's role is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`,
    /// `RoleTaken` (somebody opened it as reader at once).
    pub fn create(place: impl Into<Place>) -> Result<PipeReader> {
        PipeReader::take(Frame::create(place.into(), CAPACITY, false)?, Way::There)
    }

    /// Opens a pipe in one direction and becomes its reader.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a reader), `Closed` (it had one), `TypeMismatch` (it is something
    /// else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<PipeReader> {
        PipeReader::take(Frame::open(place.into(), false)?, Way::There)
    }

    /// Opens a pipe in one direction or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](PipeReader::open) and [`create`](PipeReader::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(PipeReader, Origin)> {
        let (frame, origin) = Frame::open_or_create(place.into(), CAPACITY, false)?;
        Ok((PipeReader::take(frame, Way::There)?, origin))
    }

    pub(super) fn take(frame: Frame, way: Way) -> Result<PipeReader> {
        frame.take(frame.control(way).consumer(), "reader of this pipe")?;
        PipeReader::resume(frame, way)
    }

    fn resume(frame: Frame, way: Way) -> Result<PipeReader> {
        match frame.area(way).and_then(|area| ByteReader::start(frame.control(way), area)) {
            Some(reader) => Ok(PipeReader { reader, frame, way, layouts: Vec::new(), known: Vec::new() }),
            None => {
                frame.control(way).close_consumer(frame.me);
                Err(PipeError::Corrupted.into())
            }
        }
    }

    fn control(&self) -> &Control {
        self.frame.control(self.way)
    }

    /// Receives a message of type `T`; waits for it.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file. `TypeMismatch`: the next message has another layout; it stays and can be
    /// received as what it is.
    pub fn recv<T: Message>(&mut self) -> Result<T, PipeError> {
        self.recv_until(Deadline::Never)
    }

    /// Receives a message of type `T` if one is there now.
    ///
    /// # Errors
    ///
    /// As [`recv`](PipeReader::recv); `TimedOut`: there is none.
    pub fn try_recv<T: Message>(&mut self) -> Result<T, PipeError> {
        self.recv_until(NOW)
    }

    /// Receives a message of type `T`; waits for it, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](PipeReader::try_recv).
    pub fn recv_timeout<T: Message>(&mut self, timeout: Duration) -> Result<T, PipeError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives a message of type `T`; waits for it, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](PipeReader::try_recv).
    pub fn recv_deadline<T: Message>(&mut self, deadline: Instant) -> Result<T, PipeError> {
        self.recv_until(Deadline::at(deadline))
    }

    /// Receives the bytes of the next message, whatever it was sent as; waits for it.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::Never)
    }

    /// Receives the bytes of the next message if one is there now.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file. `TimedOut`: there is none.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(NOW)
    }

    /// Receives the bytes of the next message; waits for it, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv_bytes`](PipeReader::try_recv_bytes).
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::after(timeout))
    }

    /// Receives the bytes of the next message; waits for it, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv_bytes`](PipeReader::try_recv_bytes).
    pub fn recv_bytes_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::at(deadline))
    }

    /// Receives the bytes of the next message into `buffer` without allocating; waits for it. Says how many
    /// bytes they are.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file. `BufferTooShort`: the message is longer than the buffer; it has been received,
    /// and the error has all of it.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        let arrived = self.arrive(Deadline::Never)?;
        if arrived.len > buffer.len() {
            return Err(PipeError::BufferTooShort(self.reader.take(self.frame.control(self.way))));
        }
        // SAFETY: the buffer has so many bytes.
        let len = unsafe { self.reader.peek(buffer.as_mut_ptr(), buffer.len()) };
        self.reader.skip(self.frame.control(self.way));
        Ok(len)
    }

    /// Whether a receive would not wait: a whole message is there, or the end of file. Waits for that, for
    /// `timeout` at most; not at all if it is zero.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, PipeError> {
        let deadline = if timeout.is_zero() { NOW } else { Deadline::after(timeout) };
        match self.arrive(deadline) {
            Ok(_) | Err(PipeError::Closed) => Ok(true),
            Err(PipeError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the writer has closed or died; there may be messages left. Stays true; false may be wrong the
    /// moment after.
    pub fn is_closed(&self) -> bool {
        self.control().producer().is_gone()
    }

    /// Ends the receiving: the writer's sends fail. The same as dropping.
    pub fn close(self) {}

    fn recv_bytes_until(&mut self, deadline: Deadline) -> Result<Vec<u8>, PipeError> {
        self.arrive(deadline)?;
        Ok(self.reader.take(self.frame.control(self.way)))
    }

    fn recv_until<T: Message>(&mut self, deadline: Deadline) -> Result<T, PipeError> {
        let arrived = self.arrive(deadline)?;
        if arrived.sort != Sort::Typed || arrived.tag != self.fingerprint::<T>() {
            return Err(PipeError::TypeMismatch(self.mismatch::<T>(arrived)));
        }
        if arrived.len != size_of::<T>() {
            return Err(PipeError::Corrupted);
        }
        let mut copy = MaybeUninit::<T>::uninit();
        // SAFETY: the copy has room for a T, and after it so many bytes are initialised, which nobody else
        // sees.
        let value = unsafe {
            self.reader.peek(copy.as_mut_ptr().cast(), size_of::<T>());
            message::read::<T>(copy.as_ptr().cast())
        };
        let value = value.ok_or(PipeError::Corrupted)?;
        self.reader.skip(self.frame.control(self.way));
        Ok(value)
    }

    fn fingerprint<T: Message>(&mut self) -> u64 {
        let id = TypeId::of::<T>();
        if let Some((_, tag)) = self.known.iter().find(|(known, _)| *known == id) {
            return *tag;
        }
        let tag = T::schema().fingerprint();
        self.known.push((id, tag));
        tag
    }

    #[cold]
    fn mismatch<T: Message>(&self, arrived: Arrived) -> Error {
        if arrived.sort == Sort::Bytes {
            let text = format!(
                "the next message of the pipe is {} bytes that were sent as bytes, and this program expects {}: use recv_bytes",
                arrived.len,
                T::schema().name()
            );
            return Error::new(ErrorKind::TypeMismatch, text);
        }
        let told = self.layouts.iter().find(|(tag, _)| *tag == arrived.tag);
        let found = told.map_or("(a layout that this end was not told)", |(_, text)| text);
        message::mismatch("the pipe", &T::schema().to_string(), found)
    }

    /// The message that waits, or the first that comes.
    fn arrive(&mut self, deadline: Deadline) -> Result<Arrived, PipeError> {
        if !self.frame.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        let mut records = 0;
        loop {
            match self.step(deadline)? {
                Some(arrived) if arrived.sort == Sort::Schema => self.learn(arrived),
                Some(arrived) => return Ok(arrived),
                None => {}
            }
            // A sender that never stops sending parts must not take this end past its deadline.
            records += 1;
            if records % RECORDS == 0 && deadline.has_passed() {
                return Err(PipeError::TimedOut);
            }
        }
    }

    fn step(&mut self, deadline: Deadline) -> Result<Option<Arrived>, PipeError> {
        let PipeReader { reader, frame, way, .. } = self;
        let control = frame.control(*way);
        let mut attempt = || match reader.step(control) {
            Err(Stuck::Later) => None,
            stepped => Some(stepped),
        };
        let stepped = match deadline {
            NOW => attempt().or_else(|| {
                frame.object.miss();
                None
            }),
            deadline => control.wait_for_items(deadline, || frame.object.tend(), attempt),
        };
        Ok(stepped.ok_or(PipeError::TimedOut)??)
    }

    /// Remembers the layout that waits.
    fn learn(&mut self, arrived: Arrived) {
        let bytes = self.reader.take(self.frame.control(self.way));
        let is_new = self.layouts.iter().all(|(tag, _)| *tag != arrived.tag);
        if is_new && self.layouts.len() < LAYOUTS && bytes.len() <= LAYOUT_BYTES {
            if let Ok(text) = String::from_utf8(bytes) {
                self.layouts.push((arrived.tag, text));
            }
        }
    }

    /// Gives the role to the process that `seat` finds a place for, and what was read but not received.
    pub(crate) fn into_child(mut self, seat: impl FnOnce(&ObjectRef) -> Result<OwnerId>) -> Result<Luggage> {
        let child = seat(&self.frame.object)?;
        let leftover = self.reader.leave();
        hand_over(self.control().consumer(), self.frame.me, child)?;
        Ok(Luggage { way: self.way, leftover, layouts: std::mem::take(&mut self.layouts) })
    }

    /// In a child: the role that its parent handed over.
    pub(crate) fn from_parent(frame: Frame, luggage: Luggage) -> Result<PipeReader> {
        let Luggage { way, leftover, layouts } = luggage;
        if !frame.control(way).consumer().is_of(frame.me) {
            return Err(PipeError::Corrupted.into());
        }
        let mut reader = PipeReader::resume(frame, way)?;
        reader.reader.resume(leftover);
        reader.layouts = layouts;
        Ok(reader)
    }

    pub(super) fn object(&self) -> &ObjectRef {
        &self.frame.object
    }

    /// What somebody who waits for the pipe without the handle looks at: the object, the control block of its way, and
    /// whether the handle holds a message that is not in the ring any more.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control, &Arc<AtomicBool>) {
        (&self.frame.object, self.control(), self.reader.is_complete())
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }
}

/// No waiting, and not even a look at the clock.
const NOW: Deadline = Deadline::At(0);

/// What a reader takes along to another process.
#[derive(Debug)]
pub(crate) struct Luggage {
    pub(crate) way: Way,
    pub(crate) leftover: Leftover,
    pub(crate) layouts: Vec<(u64, String)>,
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        if self.frame.is_mine() {
            self.control().close_consumer(self.frame.me);
        }
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
