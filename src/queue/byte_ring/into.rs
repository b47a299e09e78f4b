//! Receiving into the caller's buffer: the parts of a message bypass the reader's own memory.

use super::{Arrived, ByteReader, Record, Sort, STEP};
use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::size_for;
use crate::queue::spsc::cursor::Control;

/// The result of one step of receiving into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A part was received: call again.
    Part,
    /// The message is complete in the buffer and has this length.
    Copied(usize),
    /// A message that the buffer is too short for, or a layout. The caller takes it.
    Arrived(Arrived),
}

impl ByteReader {
    /// Receives the next message into `buffer`, one part at a time. Call it with the same buffer
    /// until it is done: that is, unless it returns a part or `Later`. Until the last part the
    /// content of the buffer is unspecified.
    pub(crate) fn step_into(&mut self, control: &Control, buffer: &mut [u8]) -> Result<Step, Blocked> {
        let stepped = self.try_step_into(control, buffer);
        if stepped.is_err_and(|blocked| blocked != Blocked::Later) {
            // If the damage is repaired, the rest of the message may come into another buffer.
            self.spill(buffer);
        }
        stepped
    }

    fn try_step_into(&mut self, control: &Control, buffer: &mut [u8]) -> Result<Step, Blocked> {
        if let Some(arrived) = self.arrived {
            return Ok(self.finish(control, arrived, buffer));
        }
        let ready = match self.cursor.ready(control, STEP) {
            Ok(ready) => ready,
            Err(Blocked::Closed) => {
                self.in_buffer = 0;
                // Drops the parts.
                return self.step(control).map(|_| Step::Part);
            }
            Err(blocked) => return Err(blocked),
        };
        let record = self.record(ready).ok_or(Blocked::Corrupted)?;
        let is_part = !record.is_first || record.has_more;
        if record.is_first {
            self.in_buffer = 0;
        }
        if is_part && record.sort != Sort::Schema && self.fits_into(record, buffer) {
            return self.put_into(control, record, buffer);
        }
        self.spill(buffer);
        Ok(match self.step(control)? {
            Some(arrived) => self.finish(control, arrived, buffer),
            None => Step::Part,
        })
    }

    /// Copies a complete message, if the buffer has room for it.
    fn finish(&mut self, control: &Control, arrived: Arrived, buffer: &mut [u8]) -> Step {
        if arrived.sort == Sort::Schema || arrived.len > buffer.len() {
            return Step::Arrived(arrived);
        }
        // SAFETY: the buffer is at least as long as the message.
        let len = unsafe { self.peek(buffer.as_mut_ptr(), arrived.len) };
        self.skip(control);
        Step::Copied(len)
    }

    /// Returns whether the parts so far and this one fit.
    fn fits_into(&self, record: Record, buffer: &[u8]) -> bool {
        let have = if record.is_first { 0 } else { self.parts.len() + self.in_buffer };
        have.checked_add(record.len as usize).is_some_and(|len| len <= buffer.len())
    }

    /// Appends a part to the buffer.
    fn put_into(&mut self, control: &Control, record: Record, buffer: &mut [u8]) -> Result<Step, Blocked> {
        if record.is_first {
            self.drop_parts();
            self.begun = Some((record.sort, record.tag));
        } else if self.begun != Some((record.sort, record.tag)) {
            return Err(Blocked::Corrupted);
        } else if !self.parts.is_empty() {
            // Parts from before this call.
            self.in_buffer = self.parts.len();
            buffer[..self.in_buffer].copy_from_slice(&self.parts);
            self.parts.clear();
        }
        let len = record.len as usize;
        let to = &mut buffer[self.in_buffer..][..len];
        // SAFETY: the record is within what is ready and has `len` bytes of payload; `to` has `len`
        // bytes.
        unsafe { self.copy_payload(to.as_mut_ptr(), len) };
        self.cursor.release(control, size_for(len as u64));
        self.in_buffer += len;
        if record.has_more {
            return Ok(Step::Part);
        }
        self.begun = None;
        Ok(Step::Copied(std::mem::take(&mut self.in_buffer)))
    }

    /// Moves the parts from the buffer to the reader's own memory.
    fn spill(&mut self, buffer: &[u8]) {
        let len = std::mem::take(&mut self.in_buffer);
        self.parts.extend_from_slice(&buffer[..len]);
    }
}
