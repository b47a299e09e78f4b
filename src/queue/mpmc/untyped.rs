//! Queues whose messages are of a type that the program does not have: bytes, of the size and
//! alignment that a schema says.
//!
//! Not for users: a program that has the type uses [`Queue`](super::Queue).

use std::fmt;
use std::time::Duration;

use super::layout::Fixed;
use super::ring::{Claim, Ring};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::message::Schema;
use crate::queue::blocked::Blocked;
use crate::queue::error::{RecvError, SendError};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::place::Place;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A queue of messages of one size.
pub struct Untyped {
    ring: Ring,
    object: ObjectRef,
    enlisted: AtomicU32,
    offset: usize,
    size: usize,
}

/// What a new queue is built with.
pub(crate) struct Initial {
    fixed: Fixed,
    capacity: usize,
}

impl Object for Untyped {
    const KIND: Kind = Kind::Queue;
    const LEN: usize = super::layout::SLOTS;
    type Initial = Initial;

    fn len_for(initial: &Initial) -> Result<usize> {
        initial.fixed.len(initial.capacity)
    }

    unsafe fn init(base: *mut u8, initial: &Initial) {
        // SAFETY: as the caller promises.
        unsafe { initial.fixed.init(base, initial.capacity) }
    }

    fn attach(object: ObjectRef) -> Result<Untyped> {
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Fixed::find(object.base(), object.len()) } {
            Some((ring, fixed)) => {
                let Fixed { offset, size } = fixed;
                Ok(Untyped { ring, object, enlisted: AtomicU32::new(0), offset, size })
            }
            None => Err(damaged()),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

#[cold]
fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the queue's geometry does not fit its size or its type")
}

impl Untyped {
    /// Creates a queue of messages of this layout.
    ///
    /// # Errors
    ///
    /// As `Queue::create`.
    pub fn create(place: impl Into<Place>, schema: &Schema, capacity: usize) -> Result<Untyped> {
        let initial = Initial { fixed: Fixed::of(schema), capacity };
        Object::create_as(place, schema.to_string(), initial)
    }

    /// Opens a queue of messages of this layout.
    ///
    /// # Errors
    ///
    /// As `Queue::open`.
    pub fn open(place: impl Into<Place>, schema: &Schema) -> Result<Untyped> {
        let queue = <Untyped as Object>::open_as(place, &schema.to_string())?;
        let Fixed { offset, size } = Fixed::of(schema);
        if (queue.offset, queue.size) == (offset, size) { Ok(queue) } else { Err(damaged()) }
    }

    fn me(&self) -> std::result::Result<OwnerId, Blocked> {
        let me = self.object.owner().map_err(|error| Blocked::NotInThisProcess(error.refusal()))?;
        // As in Queue::me().
        if self.enlisted.load(Relaxed) != me.bits() {
            self.ring.enlist(me);
            self.enlisted.store(me.bits(), Relaxed);
        }
        Ok(me)
    }

    fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.object.note_failed_try();
        }
        blocked
    }

    /// Sends the bytes of a message. Blocks while there is no room, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As `Queue::send_timeout`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a message.
    pub fn send_timeout(&self, bytes: &[u8], timeout: Duration) -> std::result::Result<(), SendError<()>> {
        assert_eq!(bytes.len(), self.size, "the bytes of one message");
        let write = |index| {
            let to = self.ring.message(index, self.offset);
            // SAFETY: the slot is ours to write, and has room for `size` bytes (checked in attach).
            unsafe { bytes.as_ptr().copy_to_nonoverlapping(to, bytes.len()) };
        };
        let sent = self.me().and_then(|me| match self.ring.try_send(me, write) {
            Err(Blocked::Later) if timeout > Duration::ZERO => {
                self.ring.send(me, Deadline::after(timeout), || self.object.reap_dead(), write)
            }
            done => done,
        });
        sent.map_err(|blocked| self.note(blocked).into_send_error(()))
    }

    /// Receives the bytes of a message. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As `Queue::recv_timeout`, but for bytes that are no valid message, which nobody checks.
    pub fn recv_timeout(&self, timeout: Duration) -> std::result::Result<Vec<u8>, RecvError> {
        let taken = self.me().and_then(|me| {
            let claim: Claim = match self.ring.try_take(me) {
                Err(Blocked::Later) if timeout > Duration::ZERO => {
                    self.ring.take(me, Deadline::after(timeout), || self.object.reap_dead())?
                }
                done => done?,
            };
            let from = self.ring.message(claim.index, self.offset);
            let mut copy = vec![0; self.size];
            // SAFETY: the slot is ours to read, and has `size` bytes (checked in attach).
            unsafe { from.copy_to_nonoverlapping(copy.as_mut_ptr(), self.size) };
            self.ring.free(me, claim);
            Ok(copy)
        });
        taken.map_err(|blocked| self.note(blocked).into_recv_error())
    }

    /// Returns the number of messages, as `Queue::len`.
    pub fn len(&self) -> usize {
        self.ring.count(usize::MAX)
    }

    /// Returns whether there is nothing to receive, as `Queue::is_empty`.
    pub fn is_empty(&self) -> bool {
        self.object.is_hindered(self.ring.is_empty())
    }

    /// Returns whether there is no room, as `Queue::is_full`.
    pub fn is_full(&self) -> bool {
        self.object.is_hindered(!self.ring.has_room())
    }

    /// Closes the queue, as `Queue::close`.
    pub fn close(&self) -> bool {
        self.ring.close()
    }
}

impl fmt::Debug for Untyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untyped").field("size", &self.size).finish_non_exhaustive()
    }
}
