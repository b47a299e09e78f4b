//! Records of any length in a ring of bytes, with one writer and one reader.
//!
//! A message that fits into the ring is one record. A larger one is sent in parts, and the reader
//! assembles them in its own memory. Nothing is truncated, and no length is refused. Each message
//! is copied once into the ring and once out of it.
//!
//! # State
//!
//! The positions are those of [`cursor`](crate::queue::spsc::cursor), counted in bytes, in steps of
//! 16. A record:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | length of the payload in this record |
//! | 4..8 | bit 0: first of its message; bit 1: more follow; bits 8..16: [`Sort`]; all others 0 |
//! | 8..16 | tag: the fingerprint of a typed message, 0 for bytes |
//! | 16.. | payload, to the next multiple of 16; may wrap, unlike the 16 bytes before it |
//!
//! One store of `tail` makes a whole record visible. A first part that arrives while parts of
//! another message are missing means that the sender's deadline has passed: the reader drops those
//! parts.
//!
//! # Memory ordering
//!
//! That of [`cursor`](crate::queue::spsc::cursor); there is no other shared word. The 16 bytes are
//! read once and checked before use: a wrong length is damage, never an access out of bounds, and
//! no memory is allocated for bytes that have not arrived.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | writer dies inside of a record | the reader, on empty | nobody: invisible | that message |
//! | writer dies between two parts | the reader, on empty | it drops the parts | that message |
//! | reader dies | the writer, in its next step | nobody | what was not read |

pub(crate) mod area;
mod into;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

pub(crate) use into::Step;

use crate::queue::blocked::Blocked;
use crate::queue::byte_ring::area::Area;
use crate::queue::spsc::cursor::{Control, ReadCursor, WriteCursor};

/// The size of a record's header, and the alignment of all records.
const STEP: u64 = 16;
/// The smallest ring: one part of it carries at least 16 bytes.
pub(crate) const RING_MIN: u64 = 64;
/// The largest ring: the length of a record has 32 bits.
pub(crate) const RING_MAX: u64 = 1 << 31;

const FIRST: u32 = 1;
const MORE: u32 = 2;
const SORT_SHIFT: u32 = 8;

/// The sort of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Sort {
    /// Bytes, sent as bytes.
    Bytes = 0,
    /// A typed message; the tag is its fingerprint.
    Typed = 1,
    /// The text of a layout; the tag is its fingerprint. Precedes the first message of that layout.
    Schema = 2,
}

impl Sort {
    pub(crate) fn from_number(number: u32) -> Option<Sort> {
        [Sort::Bytes, Sort::Typed, Sort::Schema].into_iter().find(|sort| *sort as u32 == number)
    }
}

/// The header of a record, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    len: u32,
    sort: Sort,
    is_first: bool,
    has_more: bool,
    tag: u64,
}

impl Record {
    fn words(self) -> [u64; 2] {
        let flags = (u32::from(self.is_first) * FIRST) | (u32::from(self.has_more) * MORE);
        let flags = flags | ((self.sort as u32) << SORT_SHIFT);
        [(u64::from(flags) << 32) | u64::from(self.len), self.tag]
    }

    /// Decodes a header. `None` if the record is longer than the `ready` bytes, or its flags are
    /// unknown.
    fn from_words([word, tag]: [u64; 2], ready: u64) -> Option<Record> {
        let (len, flags) = (word as u32, (word >> 32) as u32);
        let sort = Sort::from_number(flags >> SORT_SHIFT)?;
        let record = Record { len, sort, is_first: flags & FIRST != 0, has_more: flags & MORE != 0, tag };
        // A part without payload would be no progress.
        let is_sound = record.words()[0] == word && size_for(u64::from(len)) <= ready;
        (is_sound && !(record.has_more && len == 0)).then_some(record)
    }
}

/// Returns the number of bytes of the ring that a payload of `len` bytes takes. Lengths of slices
/// do not come near an overflow.
fn size_for(len: u64) -> u64 {
    STEP + len.next_multiple_of(STEP)
}

/// Returns whether a ring can have `capacity` bytes.
pub(crate) fn is_possible(capacity: u64) -> bool {
    capacity.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&capacity)
}

/// The writing side of a ring, local to the handle.
#[derive(Debug)]
pub(crate) struct ByteWriter {
    cursor: WriteCursor,
    area: Area,
}

/// A message to be sent: all of it, or the rest after some parts.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    sort: Sort,
    tag: u64,
    rest: &'a [u8],
    is_first: bool,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(sort: Sort, tag: u64, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing { sort, tag, rest: bytes, is_first: true }
    }
}

impl ByteWriter {
    /// Starts at the ring's present position. `None` if the positions are impossible. The area's
    /// length is [`is_possible`].
    pub(crate) fn start(control: &Control, area: Area) -> Option<ByteWriter> {
        let cursor = WriteCursor::start(control, area.len() as u64)?;
        (cursor.position() % STEP == 0).then_some(ByteWriter { cursor, area })
    }

    /// Returns whether a message of `len` bytes is sent as one record.
    pub(crate) fn fits(&self, len: usize) -> bool {
        size_for(len as u64) <= self.area.len() as u64
    }

    /// Writes one record of the message, if there is enough room. Returns true if it was the last.
    pub(crate) fn step(&mut self, control: &Control, message: &mut Outgoing<'_>) -> Result<bool, Blocked> {
        let needed = size_for(message.rest.len() as u64);
        let want = if message.is_first && self.fits(message.rest.len()) {
            needed
        } else {
            // Half of the ring at a time, so that both sides can work at once.
            needed.min(self.area.len() as u64 / 2)
        };
        // A damaged head that is not a multiple of 16 is detected here first.
        let room = self.cursor.room(control, want)?;
        if room % STEP != 0 {
            return Err(Blocked::Corrupted);
        }
        if room < want {
            return Err(Blocked::Later);
        }
        let len = message.rest.len().min((room - STEP) as usize);
        let (part, rest) = message.rest.split_at(len);
        let Outgoing { sort, tag, is_first, .. } = *message;
        let record = Record { len: len as u32, sort, is_first, has_more: !rest.is_empty(), tag };
        self.write(record, part);
        self.cursor.publish(control, size_for(len as u64));
        *message = Outgoing { rest, is_first: false, ..*message };
        Ok(rest.is_empty())
    }

    fn write(&self, record: Record, part: &[u8]) {
        let [first, second] = record.words();
        let mut head = [0; STEP as usize];
        head[..8].copy_from_slice(&first.to_le_bytes());
        head[8..].copy_from_slice(&second.to_le_bytes());
        let position = self.cursor.position();
        // SAFETY: `room` has granted 16 bytes and the part from the position on, which is no more
        // than the ring has.
        unsafe {
            self.area.write(position, &head);
            self.area.write(position.wrapping_add(STEP), part);
        }
    }
}

/// A complete message that has not been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) sort: Sort,
    pub(crate) tag: u64,
    pub(crate) len: usize,
    /// Whether its bytes are still in the ring, not assembled from parts.
    in_ring: bool,
}

/// The reading side of a ring, local to the handle.
#[derive(Debug)]
pub(crate) struct ByteReader {
    cursor: ReadCursor,
    area: Area,
    /// The parts of a message so far; the whole message if `arrived` is set.
    parts: Vec<u8>,
    /// Sort and tag of the message of `parts`, while some parts are missing.
    begun: Option<(Sort, u64)>,
    arrived: Option<Arrived>,
    /// The bytes of an incomplete message in the buffer of [`step_into`](ByteReader::step_into).
    in_buffer: usize,
    /// Whether a complete message is in this process and not in the ring. For waiters without the
    /// reader.
    is_complete: Arc<AtomicBool>,
}

impl ByteReader {
    /// Starts at the ring's present position. `None` if the positions are impossible. The area's
    /// length is [`is_possible`].
    pub(crate) fn start(control: &Control, area: Area) -> Option<ByteReader> {
        let cursor = ReadCursor::start(control, area.len() as u64)?;
        let is_possible = cursor.position() % STEP == 0;
        is_possible.then(|| ByteReader {
            cursor,
            area,
            parts: Vec::new(),
            begun: None,
            arrived: None,
            in_buffer: 0,
            is_complete: Arc::default(),
        })
    }

    /// Returns the flag that is true while a complete message is in this process and not in the
    /// ring.
    pub(crate) fn is_complete(&self) -> &Arc<AtomicBool> {
        &self.is_complete
    }

    fn set_arrived(&mut self, arrived: Option<Arrived>) {
        self.arrived = arrived;
        // Relaxed: the message is in this process, and `&mut self` guards it.
        self.is_complete.store(arrived.is_some_and(|arrived| !arrived.in_ring), Relaxed);
    }

    /// Returns the next complete message, if there is one. `Ok(None)`: a part was received, call
    /// again.
    pub(crate) fn step(&mut self, control: &Control) -> Result<Option<Arrived>, Blocked> {
        if self.arrived.is_some() {
            return Ok(self.arrived);
        }
        let ready = match self.cursor.ready(control, STEP) {
            Ok(ready) => ready,
            Err(blocked) => {
                if blocked == Blocked::Closed {
                    // The sender died or gave up within a message.
                    self.parts = Vec::new();
                    self.begun = None;
                }
                return Err(blocked);
            }
        };
        let record = self.record(ready).ok_or(Blocked::Corrupted)?;
        if record.is_first && !record.has_more {
            self.drop_parts();
            let Record { sort, tag, len, .. } = record;
            // Not by set_arrived(): on this fast path the message stays in the ring.
            self.arrived = Some(Arrived { sort, tag, len: len as usize, in_ring: true });
        } else {
            self.put_aside(control, record)?;
        }
        Ok(self.arrived)
    }

    /// Decodes the header at the position.
    fn record(&self, ready: u64) -> Option<Record> {
        if ready < STEP {
            return None;
        }
        let position = self.cursor.position();
        // SAFETY: 16 bytes from the position on are the reader's; the position is a multiple of 16,
        // and the region is aligned to more.
        let words = unsafe { [self.area.word(position), self.area.word(position.wrapping_add(8))] };
        Record::from_words(words, ready)
    }

    fn put_aside(&mut self, control: &Control, record: Record) -> Result<(), Blocked> {
        if record.is_first {
            self.drop_parts();
            self.begun = Some((record.sort, record.tag));
        } else if self.begun != Some((record.sort, record.tag)) {
            return Err(Blocked::Corrupted);
        }
        let have = self.parts.len();
        let len = record.len as usize;
        self.parts.reserve(len);
        let to = self.parts.as_mut_ptr();
        // SAFETY: the record is within what is ready and has `len` bytes of payload; `len` bytes
        // were just reserved.
        unsafe {
            self.copy_payload(to.add(have), len);
            self.parts.set_len(have + len);
        }
        self.cursor.release(control, size_for(len as u64));
        if !record.has_more {
            self.begun = None;
            let Record { sort, tag, .. } = record;
            self.set_arrived(Some(Arrived { sort, tag, len: self.parts.len(), in_ring: false }));
        }
        Ok(())
    }

    fn drop_parts(&mut self) {
        self.parts.clear();
        self.begun = None;
    }

    /// # Safety
    ///
    /// The record at the position has `len` bytes of payload, checked, and `to` is writable for
    /// `len` bytes.
    unsafe fn copy_payload(&self, to: *mut u8, len: usize) {
        let position = self.cursor.position().wrapping_add(STEP);
        // SAFETY: as promised; the record is within what is ready, so within the ring.
        unsafe { self.area.read(position, to, len) }
    }

    /// Copies the first `len` bytes of the message that [`step`](ByteReader::step) has returned, or
    /// all of it if it is shorter. The message stays. Returns the number of bytes copied.
    ///
    /// # Safety
    ///
    /// `to` is writable for `len` bytes.
    pub(crate) unsafe fn peek(&self, to: *mut u8, len: usize) -> usize {
        let Some(arrived) = self.arrived else { return 0 };
        let len = len.min(arrived.len);
        // SAFETY: the message has at least `len` bytes, in the record at the position or among the
        // parts, which the caller cannot have a pointer into.
        unsafe {
            if arrived.in_ring {
                self.copy_payload(to, len);
            } else {
                std::ptr::copy_nonoverlapping(self.parts.as_ptr(), to, len);
            }
        }
        len
    }

    /// Takes the message that [`step`](ByteReader::step) has returned.
    pub(crate) fn take(&mut self, control: &Control) -> Vec<u8> {
        match self.arrived {
            None => Vec::new(),
            Some(Arrived { in_ring: false, .. }) => {
                self.set_arrived(None);
                std::mem::take(&mut self.parts)
            }
            Some(Arrived { len, .. }) => {
                let mut bytes = Vec::with_capacity(len);
                // SAFETY: the message is the record at the position with `len` bytes, which have
                // been reserved.
                unsafe {
                    self.copy_payload(bytes.as_mut_ptr(), len);
                    bytes.set_len(len);
                }
                self.skip(control);
                bytes
            }
        }
    }

    /// Drops the message that [`step`](ByteReader::step) has returned.
    pub(crate) fn skip(&mut self, control: &Control) {
        match self.arrived.take() {
            Some(Arrived { in_ring: true, len, .. }) => self.cursor.release(control, size_for(len as u64)),
            Some(_) => {
                self.set_arrived(None);
                self.parts.clear();
            }
            None => {}
        }
    }

    /// Returns what is out of the ring and not yet with the caller, for the next holder of the
    /// role.
    pub(crate) fn leave(&mut self) -> Partial {
        let complete = self.arrived.take().filter(|arrived| !arrived.in_ring);
        self.set_arrived(None);
        let begun = self.begun.take();
        Partial {
            head: complete.map(|arrived| (arrived.sort, arrived.tag)).or(begun),
            is_complete: complete.is_some(),
            parts: std::mem::take(&mut self.parts),
        }
    }

    /// Continues with the partial message of another reader of the same ring. Only for a fresh
    /// reader.
    pub(crate) fn resume(&mut self, partial: Partial) {
        let Partial { head, is_complete, parts } = partial;
        match head {
            Some((sort, tag)) if is_complete => {
                self.set_arrived(Some(Arrived { sort, tag, len: parts.len(), in_ring: false }));
            }
            head => self.begun = head,
        }
        self.parts = parts;
    }
}

/// A message that a reader had assembled in part or as a whole.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) head: Option<(Sort, u64)>,
    pub(crate) is_complete: bool,
    pub(crate) parts: Vec<u8>,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn records_and_words() {
        let record = Record { len: 7, sort: Sort::Schema, is_first: true, has_more: true, tag: 9 };
        assert_eq!(Record::from_words(record.words(), 32), Some(record));
        assert_eq!(Record::from_words(record.words(), 16), None, "longer than what is there");
        assert_eq!(Record::from_words([u64::MAX, 0], u64::MAX), None);
        assert_eq!(Record::from_words([3 << 40 | 1 << 32, 0], 1024), None, "no such sort");
        assert_eq!(Record::from_words([1 << 34, 0], 1024), None, "no such flag");
        assert_eq!(Record::from_words([u64::from(MORE) << 32, 0], 1024), None, "an empty part");
        assert!(Record::from_words([u64::from(FIRST) << 32, 0], 16).is_some(), "an empty message");
        assert!(Record::from_words([u64::from(FIRST) << 32 | 0xffff_ffff, 0], 1 << 31).is_none());
    }

    #[test]
    fn sizes() {
        assert_eq!((size_for(0), size_for(1), size_for(16), size_for(17)), (16, 32, 32, 48));
        assert!(is_possible(64) && !is_possible(63) && !is_possible(96) && !is_possible(1 << 32));
    }
}
