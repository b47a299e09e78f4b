//! The messages of a queue, as bytes.
//!
//! | first byte | the rest |
//! |---|---|
//! | 0x80 | with that byte, a pickle: all begin so since protocol 2 |
//! | [`FRAME`] | a frame: see [`crate::frame`] |
//! | [`LONG_PICKLE`] | the ticket of a buffer that has a pickle, and its length |
//! | [`LONG_FRAME`] | the ticket of a buffer that has a frame, and its length |
//!
//! In a buffer they begin at the first page boundary, so that they can be mapped.

use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

use pagemate::collections::{Buffer, Ticket};
use pagemate::queue::{Received, RecvError, SendError};
use pagemate::Segment;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::export;
use crate::error::raise;
use crate::frame::Frame;
use crate::lease::{skipped, Lease};
use crate::pickle::Pickled;
use crate::views::{self, Views};
use crate::wait::{wait, Timeout};

/// Bytes for messages that are neither short nor long.
pub(super) const QUOTA: u64 = 1 << 20;
/// Messages that are no longer are in a slot.
const SHORT: usize = 104;
/// Messages that are longer never use the quota.
const LONG: usize = 32 << 10;
/// Frames that are no longer are copied when they are received. That takes less time than a
/// mapping of their own.
const COPIED: usize = 64 << 10;
/// So much is written between two looks at pending signals: some milliseconds.
const CHUNK: usize = 16 << 20;

const FRAME: u8 = 1;
const LONG_PICKLE: u8 = 2;
const LONG_FRAME: u8 = 3;
/// The length of a message that is a ticket: the tag, the ticket, and the length of the content.
const TICKET: usize = 1 + 24 + 8;

/// A queue of messages, and the segment that has their buffers.
pub(super) struct Memory {
    pub(super) queue: pagemate::Queue<[u8]>,
    pub(super) segment: Segment,
}

impl Memory {
    /// Sends an object. Returns false if there was no room in time.
    pub(super) fn send(&self, py: Python<'_>, pickled: &Pickled<'_>, timeout: Timeout) -> PyResult<bool> {
        if let Some(pickle) = pickled.only_part().filter(|pickle| pickle.len() <= SHORT) {
            return Ok(wait(py, timeout, |slice| self.try_send(pickle, slice))?.is_some());
        }
        let frame = Frame::new(pickled.parts(), pickled.buffers());
        if frame.len() <= LONG {
            let tag = usize::from(frame.has_buffers());
            let mut message = vec![FRAME; tag + frame.len()];
            frame.write(&mut message[tag..]);
            if self.try_send(&message, Duration::ZERO)?.is_some() {
                return Ok(true);
            }
        }
        // There is no room for it in the queue, but there is for a ticket, perhaps.
        if timeout.left() == Some(Duration::ZERO) && self.queue.is_full() {
            return Ok(false);
        }
        let buffer = self.write(py, &frame)?;
        let mut message = [0; TICKET];
        message[0] = if frame.has_buffers() { LONG_FRAME } else { LONG_PICKLE };
        message[1..25].copy_from_slice(&buffer.ticket().to_bytes());
        message[25..].copy_from_slice(&(frame.len() as u64).to_le_bytes());
        let sent = wait(py, timeout, |slice| self.try_send(&message, slice))?;
        if sent.is_some() {
            buffer.hand_over();
        }
        Ok(sent.is_some())
    }

    /// Sends bytes within `slice`. Returns `None` if there was no room.
    fn try_send(&self, message: &[u8], slice: Duration) -> PyResult<Option<()>> {
        let sent = if slice.is_zero() {
            self.queue.try_send(message)
        } else {
            self.queue.send_timeout(message, slice)
        };
        match sent {
            Ok(()) => Ok(Some(())),
            Err(SendError::Full(_)) => Ok(None),
            Err(error) => Err(raise(error)),
        }
    }

    /// Writes a long message.
    fn write(&self, py: Python<'_>, frame: &Frame<'_>) -> PyResult<Buffer> {
        let len = frame.len() + rustix::param::page_size();
        let mut buffer = py.detach(|| Buffer::new(&self.segment, len)).map_err(raise)?;
        let begin = skipped(&buffer);
        for (at, part) in frame.parts() {
            for (number, chunk) in part.chunks(CHUNK).enumerate() {
                let at = begin + at + number * CHUNK;
                py.detach(|| buffer[at..at + chunk.len()].copy_from_slice(chunk));
                py.check_signals()?;
            }
        }
        Ok(buffer)
    }

    /// Receives an object: its pickle and its buffers. Returns None if there was none in time.
    /// `file` returns the segment's.
    pub(super) fn recv<'py>(
        &self,
        py: Python<'py>,
        timeout: Timeout,
        file: impl Fn() -> PyResult<RawFd>,
    ) -> PyResult<Option<Views<'py>>> {
        loop {
            let Some(message) = wait(py, timeout, |slice| self.try_recv(slice))? else { return Ok(None) };
            match message[..] {
                [FRAME, ref frame @ ..] => return views::of_copy(py, frame).map(Some),
                [tag @ (LONG_PICKLE | LONG_FRAME), ref rest @ ..] => {
                    let (ticket, len) = decode(rest).ok_or_else(damaged)?;
                    let buffer = Buffer::take(&self.segment, ticket).map_err(raise)?;
                    drop(message);
                    // If it is gone, the message is one that a dead process had received before, or
                    // had not finished sending.
                    if let Some(buffer) = buffer {
                        return self.take(py, tag, buffer, len, file).map(Some);
                    }
                }
                _ => return Ok(Some((PyBytes::new(py, &message).into_any(), Vec::new()))),
            }
        }
    }

    /// Receives bytes within `slice`. Returns `None` if there were none.
    fn try_recv(&self, slice: Duration) -> PyResult<Option<Received<'_, [u8]>>> {
        let received =
            if slice.is_zero() { self.queue.try_recv_ref() } else { self.queue.recv_ref_timeout(slice) };
        match received {
            Ok(message) => Ok(Some(message)),
            Err(RecvError::Empty) => Ok(None),
            Err(error) => Err(raise(error)),
        }
    }

    /// Returns the object in a buffer.
    fn take<'py>(
        &self,
        py: Python<'py>,
        tag: u8,
        buffer: Buffer,
        len: usize,
        file: impl Fn() -> PyResult<RawFd>,
    ) -> PyResult<Views<'py>> {
        let begin = skipped(&buffer);
        let end = begin.checked_add(len).filter(|end| *end <= buffer.len()).ok_or_else(damaged)?;
        if tag == LONG_PICKLE {
            let pickle = NonNull::from(&buffer[begin..end]);
            // SAFETY: the buffer keeps its bytes, and nobody writes there, because it is ours.
            return Ok((unsafe { export(py, pickle, Box::new(buffer)) }?, Vec::new()));
        }
        if len <= COPIED {
            return views::of_copy(py, &buffer[begin..end]);
        }
        // SAFETY: the descriptor is the segment's, which stays open as long as this queue.
        let file = unsafe { BorrowedFd::borrow_raw(file()?) };
        match Lease::new(buffer, len, file) {
            // SAFETY: the lease keeps its bytes, and nobody writes there.
            Ok(lease) => unsafe { views::of_frame(py, lease.bytes(), Box::new(lease)) },
            Err(buffer) => views::of_copy(py, &buffer[begin..end]),
        }
    }
}

/// Returns the ticket in a message, and the length of what is in its buffer.
fn decode(rest: &[u8]) -> Option<(Ticket, usize)> {
    let (ticket, len) = rest.split_first_chunk::<24>()?;
    let len = u64::from_le_bytes(len.try_into().ok()?);
    Some((Ticket::from_bytes(*ticket), usize::try_from(len).ok()?))
}

#[cold]
fn damaged() -> PyErr {
    PyRuntimeError::new_err("the shared bytes of the queue contradict each other")
}
