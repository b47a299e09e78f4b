//! The receiving half of an end.

use std::any::TypeId;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::message::{self, Message};
use crate::pipe::state::{hand_over, Direction, Rings, ONE_WAY};
use crate::pipe::PipeError;
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::{Arrived, ByteReader, Partial, Sort, Step};
use crate::queue::spsc::cursor::Control;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::{Origin, Place};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// The number of layouts that are remembered. Beyond it, error texts cannot show the sender's
/// layout.
const LAYOUTS: usize = 256;
/// The longest text that is remembered as a layout.
const LAYOUT_BYTES: usize = 1 << 20;
/// The number of records that are read before the deadline is checked.
const RECORDS: usize = 64;

/// The receiver of a pipe, or the receiving half of a [`Connection`](super::Connection).
///
/// Dropping it makes the writer's sends fail. A message in parts is assembled in the memory of this
/// process. In a child made by `fork` its calls return `NotInThisProcess`, because it stays with
/// the parent.
pub struct PipeReader {
    reader: ByteReader,
    rings: Rings,
    direction: Direction,
    /// The layouts that the writer has sent, by fingerprint.
    layouts: Vec<(u64, String)>,
    /// The types that have been received, with their fingerprints.
    known: Vec<(TypeId, u64)>,
}

impl PipeReader {
    /// Creates a pipe in one direction and becomes its reader. The writer's role is vacant.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`,
    /// `Unsupported`, `RoleTaken` (another process became the reader first).
    pub fn create(place: impl Into<Place>) -> Result<PipeReader> {
        PipeReader::take(Rings::create(place, ONE_WAY)?, Direction::There)
    }

    /// Opens a pipe in one direction and becomes its reader.
    ///
    /// # Errors
    ///
    /// `NotFound`, `RoleTaken` (it has a reader), `Closed` (it had one), `TypeMismatch` (it is
    /// something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<PipeReader> {
        PipeReader::take(Rings::open(place)?.checked(false)?, Direction::There)
    }

    /// Opens a pipe in one direction, or creates it if there is none. Also returns which of the two
    /// happened.
    ///
    /// # Errors
    ///
    /// Those of [`open`](PipeReader::open) and [`create`](PipeReader::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(PipeReader, Origin)> {
        let (rings, origin) = Rings::open_or_create(place, ONE_WAY)?;
        Ok((PipeReader::take(rings.checked(false)?, Direction::There)?, origin))
    }

    pub(super) fn take(rings: Rings, direction: Direction) -> Result<PipeReader> {
        rings.take(rings.control(direction).consumer(), "reader of this pipe")?;
        PipeReader::resume(rings, direction)
    }

    fn resume(rings: Rings, direction: Direction) -> Result<PipeReader> {
        match rings.area(direction).and_then(|area| ByteReader::start(rings.control(direction), area)) {
            Some(reader) => {
                Ok(PipeReader { reader, rings, direction, layouts: Vec::new(), known: Vec::new() })
            }
            None => {
                rings.control(direction).close_consumer(rings.me);
                Err(PipeError::Corrupted.into())
            }
        }
    }

    fn control(&self) -> &Control {
        self.rings.control(self.direction)
    }

    /// Receives a message of type `T`. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file. `TypeMismatch`: the next message has another layout. It stays and can
    /// be received as the type that it has. `Corrupted`, `NotInThisProcess`.
    pub fn recv<T: Message>(&mut self) -> Result<T, PipeError> {
        self.recv_until(Deadline::Never)
    }

    /// Receives a message of type `T` if one is there now.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](PipeReader::recv), and `TimedOut`: there is no message.
    pub fn try_recv<T: Message>(&mut self) -> Result<T, PipeError> {
        self.recv_until(NOW)
    }

    /// Receives a message of type `T`. Blocks until there is one, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](PipeReader::try_recv).
    pub fn recv_timeout<T: Message>(&mut self, timeout: Duration) -> Result<T, PipeError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives a message of type `T`. Blocks until there is one, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](PipeReader::try_recv).
    pub fn recv_deadline<T: Message>(&mut self, deadline: Instant) -> Result<T, PipeError> {
        self.recv_until(Deadline::at(deadline))
    }

    /// Receives the bytes of the next message, of whatever type. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// `Closed`: end of file. `Corrupted`, `NotInThisProcess`.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::Never)
    }

    /// Receives the bytes of the next message if one is there now.
    ///
    /// # Errors
    ///
    /// Those of [`recv_bytes`](PipeReader::recv_bytes), and `TimedOut`: there is no message.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(NOW)
    }

    /// Receives the bytes of the next message. Blocks until there is one, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv_bytes`](PipeReader::try_recv_bytes).
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::after(timeout))
    }

    /// Receives the bytes of the next message. Blocks until there is one, until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// As [`try_recv_bytes`](PipeReader::try_recv_bytes).
    pub fn recv_bytes_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_until(Deadline::at(deadline))
    }

    /// Receives the bytes of the next message into `buffer`. Blocks until there is one. Returns the
    /// number of bytes.
    ///
    /// Allocates nothing if the buffer is long enough, even for a message that is larger than the
    /// pipe and arrives in parts.
    ///
    /// # Errors
    ///
    /// Those of [`recv_bytes`](PipeReader::recv_bytes), and `BufferTooShort`: the message is longer
    /// than the buffer. It has been received, and the error contains it.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        if !self.rings.is_mine() {
            return Err(PipeError::NotInThisProcess);
        }
        // Each turn but the last learns a layout or receives a part.
        loop {
            let PipeReader { reader, rings, direction, .. } = self;
            let control = rings.control(*direction);
            let attempt = || match reader.step_into(control, buffer) {
                Err(Blocked::Later) => None,
                stepped => Some(stepped),
            };
            let stepped = control.wait_for_items(Deadline::Never, || rings.object.reap_dead(), attempt);
            match stepped.ok_or(PipeError::TimedOut)?? {
                Step::Part => {}
                Step::Copied(len) => return Ok(len),
                Step::Arrived(arrived) if arrived.sort == Sort::Schema => self.learn(arrived),
                Step::Arrived(_) => {
                    return Err(PipeError::BufferTooShort(
                        self.reader.take(self.rings.control(self.direction)),
                    ));
                }
            }
        }
    }

    /// Blocks until a complete message or the end of file has arrived, for at most `timeout`.
    /// Returns whether one of them has. Does not block if `timeout` is zero.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn wait_readable(&mut self, timeout: Duration) -> Result<bool, PipeError> {
        let deadline = if timeout.is_zero() { NOW } else { Deadline::after(timeout) };
        match self.arrive(deadline) {
            Ok(_) | Err(PipeError::Closed) => Ok(true),
            Err(PipeError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the writer has closed or died. There may still be messages. True stays true.
    /// False can turn true immediately.
    pub fn is_closed(&self) -> bool {
        !self.rings.object.is_hindered(!self.control().producer().is_gone())
    }

    /// Closes the pipe: the writer's sends fail from now on. The same as dropping.
    ///
    /// Returns true if this call closed it. False in a forked child, where the handle is a copy and
    /// closes nothing.
    pub fn close(self) -> bool {
        self.end_role()
    }

    /// Ends the role of this process. Returns false if it has ended already, or in a fork.
    fn end_role(&self) -> bool {
        self.rings.is_mine() && self.control().close_consumer(self.rings.me)
    }

    fn recv_bytes_until(&mut self, deadline: Deadline) -> Result<Vec<u8>, PipeError> {
        self.arrive(deadline)?;
        Ok(self.reader.take(self.rings.control(self.direction)))
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
        // SAFETY: the copy has room for a T, and `peek` initialises `size_of::<T>()` bytes of it,
        // which nobody else sees.
        let value = unsafe {
            self.reader.peek(copy.as_mut_ptr().cast(), size_of::<T>());
            message::read::<T>(copy.as_ptr().cast())
        };
        let value = value.ok_or(PipeError::Corrupted)?;
        self.reader.skip(self.rings.control(self.direction));
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
                "the next message of the pipe is {} bytes that were sent as bytes, and this \
                 program expects {}: use recv_bytes",
                arrived.len,
                T::schema().name()
            );
            return Error::new(ErrorKind::TypeMismatch, text);
        }
        let known = self.layouts.iter().find(|(tag, _)| *tag == arrived.tag);
        let found = known.map_or("(a layout that this end does not know)", |(_, text)| text);
        message::mismatch("the pipe", &T::schema().to_string(), found)
    }

    /// Returns the next message that is not a layout. Blocks until there is one or the deadline
    /// passes.
    fn arrive(&mut self, deadline: Deadline) -> Result<Arrived, PipeError> {
        if !self.rings.is_mine() {
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
        let PipeReader { reader, rings, direction, .. } = self;
        let control = rings.control(*direction);
        let mut attempt = || match reader.step(control) {
            Err(Blocked::Later) => None,
            stepped => Some(stepped),
        };
        let stepped = match deadline {
            NOW => attempt().or_else(|| {
                rings.object.note_failed_try();
                None
            }),
            deadline => control.wait_for_items(deadline, || rings.object.reap_dead(), attempt),
        };
        Ok(stepped.ok_or(PipeError::TimedOut)??)
    }

    /// Remembers a layout that has arrived.
    fn learn(&mut self, arrived: Arrived) {
        let bytes = self.reader.take(self.rings.control(self.direction));
        let is_new = self.layouts.iter().all(|(tag, _)| *tag != arrived.tag);
        if is_new && self.layouts.len() < LAYOUTS && bytes.len() <= LAYOUT_BYTES {
            if let Ok(text) = String::from_utf8(bytes) {
                self.layouts.push((arrived.tag, text));
            }
        }
    }

    /// Hands the role to the child process that `register` adds, and returns what was read but not
    /// received.
    pub(crate) fn into_child(
        mut self,
        register: impl FnOnce(&ObjectRef) -> Result<OwnerId>,
    ) -> Result<ReaderState> {
        let child = register(&self.rings.object)?;
        let partial = self.reader.leave();
        hand_over(self.control().consumer(), self.rings.me, child)?;
        Ok(ReaderState { direction: self.direction, partial, layouts: std::mem::take(&mut self.layouts) })
    }

    /// Creates, in a child, the handle of the role that its parent handed over.
    pub(crate) fn from_parent(rings: Rings, state: ReaderState) -> Result<PipeReader> {
        let ReaderState { direction, partial, layouts } = state;
        if !rings.control(direction).consumer().is_of(rings.me) {
            return Err(PipeError::Corrupted.into());
        }
        let mut reader = PipeReader::resume(rings, direction)?;
        reader.reader.resume(partial);
        reader.layouts = layouts;
        Ok(reader)
    }

    pub(super) fn object(&self) -> &ObjectRef {
        &self.rings.object
    }

    /// Returns what a waiter without the handle needs: the object, the control block of the
    /// direction, and the flag that a complete message is in this process and not in the ring.
    pub(crate) fn parts(&self) -> (&ObjectRef, &Control, &Arc<AtomicBool>) {
        (&self.rings.object, self.control(), self.reader.is_complete())
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }
}

/// No blocking, and no read of the clock.
const NOW: Deadline = Deadline::At(0);

/// The state that a reader passes on to another process with its role.
#[derive(Debug)]
pub(crate) struct ReaderState {
    pub(crate) direction: Direction,
    pub(crate) partial: Partial,
    pub(crate) layouts: Vec<(u64, String)>,
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.end_role();
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
