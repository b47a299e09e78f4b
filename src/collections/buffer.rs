//! Bytes that belong to one process at a time: see [`crate::heap::owned`] for states and deaths.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::heap::{Block, Heap};
use crate::message::private::{field, structure};
use crate::message::{Message, Schema};
use crate::segment::Segment;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Bytes in the memory of a segment, which belong to one process at a time.
///
/// A process that has written a buffer sends its [`Ticket`], in a message of any kind, and then
/// [hands it over](Buffer::hand_over). The receiver [takes](Buffer::take) it. Nothing is copied,
/// and a message that is larger than any slot or quota needs no more room in a queue than a ticket.
/// The memory of a segment grows as buffers need it.
///
/// If its owner is killed, the buffer is freed. One that was handed over survives its sender. If
/// the message with the ticket is lost, the buffer is, too, until the segment is gone. So send
/// tickets through a queue that [redelivers](crate::queue::QueueBuilder::redeliver), and drop the
/// received message after the buffer was taken: then no death loses memory.
///
/// A buffer belongs to its process. In a forked child it is the parent's, which may free it or hand
/// it over at any time: the child must not use it, and dropping it there does nothing.
///
/// # Examples
///
/// ```
/// use pagemate::collections::{Buffer, Ticket};
/// use pagemate::{Queue, Segment};
///
/// # fn main() -> pagemate::Result<()> {
/// let segment = Segment::new(64 << 20)?;
/// let images = Queue::<Ticket>::builder(16).redeliver(true).create(segment.at("images"))?;
///
/// let mut image = Buffer::new(&segment, 1_000_000)?;
/// image.fill(7);
/// images.send(image.ticket())?;
/// image.hand_over();
///
/// // In any process:
/// let ticket = images.recv_ref()?;
/// let image = Buffer::take(&segment, *ticket)?.expect("its sender was not killed");
/// drop(ticket);
/// assert!(image.iter().all(|byte| *byte == 7));
/// # Ok(())
/// # }
/// ```
pub struct Buffer {
    heap: Heap,
    block: Block,
    bytes: *mut [u8],
    /// The [epoch](fork::epoch) of the owner; `None` once it was handed over.
    epoch: Option<u32>,
}

// SAFETY: the bytes belong to the process, not to a thread, and this is the only one in it.
unsafe impl Send for Buffer {}
// SAFETY: as above; through a shared reference the bytes can only be read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates a buffer of `len` bytes. They are what was in this memory before.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: the segment, or the machine, has no room. `Corrupted`.
    pub fn new(segment: &Segment, len: usize) -> Result<Buffer> {
        let heap = Heap::of(segment.attachment());
        let block = heap.alloc_owned(len)?;
        Ok(Buffer::of(segment, heap, block, len))
    }

    fn of(segment: &Segment, heap: Heap, block: Block, len: usize) -> Buffer {
        // SAFETY: the heap has found a block of at least `len` bytes at this offset, inside of the
        // mapping, which the heap keeps.
        let at = unsafe { segment.attachment().base().add(block.at as usize) };
        Buffer { heap, block, bytes: std::ptr::slice_from_raw_parts_mut(at, len), epoch: Some(fork::epoch()) }
    }

    /// Returns what the receiver takes the buffer with, once.
    pub fn ticket(&self) -> Ticket {
        let Block { at, generation } = self.block;
        Ticket { at, len: self.len() as u64, generation: generation.into() }
    }

    /// Gives the buffer to the receiver of its ticket, after that was sent. From now on it survives
    /// this process. The receiver may have taken it already.
    pub fn hand_over(mut self) {
        if self.epoch == Some(fork::epoch()) {
            // Fails only if the segment is damaged.
            _ = self.heap.release(self.block);
        }
        self.epoch = None;
    }

    /// Takes the buffer of a ticket that this process has received. `None` if it is gone: it was
    /// taken before, or its sender was killed.
    ///
    /// # Errors
    ///
    /// `Corrupted`: the ticket is damaged. `NotInThisProcess`.
    pub fn take(segment: &Segment, ticket: Ticket) -> Result<Option<Buffer>> {
        let heap = Heap::of(segment.attachment());
        let Ok(generation) = u32::try_from(ticket.generation) else { return Err(damaged()) };
        let Some((block, most)) = heap.adopt(Block { at: ticket.at, generation })? else { return Ok(None) };
        let len = usize::try_from(ticket.len).ok().filter(|_| ticket.len <= most);
        let taken = Buffer::of(segment, heap, block, len.unwrap_or(0));
        if len.is_none() {
            Err(damaged())
        } else {
            Ok(Some(taken))
        }
    }

    /// Returns where the bytes begin in the segment's file: see
    /// [`Segment::descriptor`](crate::Segment::descriptor). For mapping them elsewhere.
    pub fn offset(&self) -> u64 {
        self.block.at
    }
}

#[cold]
fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the ticket is damaged: there is no such buffer")
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are this process's until the block is freed or released, which needs
        // `self`. Whatever they are, they are bytes.
        unsafe { &*self.bytes }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.bytes }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Not if it was handed over, nor in a forked child.
        if self.epoch == Some(fork::epoch()) {
            // Fails only if the segment is damaged.
            _ = self.heap.free_owned(self.block);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("offset", &self.offset()).field("len", &self.len()).finish()
    }
}

/// A message that leads to a [`Buffer`] in the same segment.
///
/// It keeps nothing alive. A ticket of zero bytes leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ticket {
    at: u64,
    len: u64,
    generation: u64,
}

impl Ticket {
    /// Returns the ticket as bytes, for a message of another format.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (to, word) in bytes.chunks_exact_mut(8).zip([self.at, self.len, self.generation]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Returns the ticket of [`to_bytes`](Ticket::to_bytes). Any bytes are a ticket.
    pub fn from_bytes(bytes: [u8; 24]) -> Ticket {
        let word =
            |at: usize| bytes[at..].iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ticket { at: word(0), len: word(8), generation: word(16) }
    }
}

// SAFETY: three u64 and nothing else: no padding, no pointers, every bit pattern valid; Bits has
// the same size and alignment. Their meaning is checked when the buffer is taken.
unsafe impl Message for Ticket {
    type Bits = [u64; 3];

    const ANY_BITS: bool = true;
    const ZERO_VALID: bool = true;

    fn is_valid_bits(_: &[u64; 3]) -> bool {
        true
    }

    fn schema() -> Schema {
        let fields = vec![field::<u64>("at", 0), field::<u64>("len", 8), field::<u64>("generation", 16)];
        structure::<Ticket>("Ticket".to_string(), fields)
    }
}
