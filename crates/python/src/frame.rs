//! The layout of a message that has buffers beside its pickle.
//!
//! ```text
//! 0        number of buffers
//! 8        length of the pickle
//! 16       for each buffer: its offset, its length
//!          the pickle
//!          the buffers, each at a multiple of 64
//! ```
//!
//! Numbers are 64 bits long. A frame begins at a multiple of 64 in memory.

use std::ops::Range;

/// The alignment of frames and buffers.
pub(crate) const ALIGN: usize = 64;

/// A message to be sent: a pickle and its buffers, and where they are in the frame.
pub(crate) struct Frame<'a> {
    head: Vec<u8>,
    pickle: &'a [u8],
    buffers: Vec<(usize, &'a [u8])>,
    len: usize,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(pickle: &'a [u8], buffers: impl ExactSizeIterator<Item = &'a [u8]>) -> Frame<'a> {
        let count = buffers.len();
        let mut head = Vec::with_capacity(16 * (count + 1));
        let mut number = |number: usize| head.extend_from_slice(&(number as u64).to_le_bytes());
        number(count);
        number(pickle.len());
        let mut len = 16 * (count + 1) + pickle.len();
        let mut placed = Vec::with_capacity(count);
        for buffer in buffers {
            let at = len.next_multiple_of(ALIGN);
            number(at);
            number(buffer.len());
            placed.push((at, buffer));
            len = at + buffer.len();
        }
        Frame { head, pickle, buffers: placed, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the parts, each with its offset in the frame, in order. What is between them may be
    /// anything.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let first = [(0, &self.head[..]), (self.head.len(), self.pickle)];
        first.into_iter().chain(self.buffers.iter().copied())
    }

    /// Returns the frame as bytes.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.parts().for_each(|(at, part)| bytes[at..at + part.len()].copy_from_slice(part));
        bytes
    }
}

/// Where the parts of a received frame are.
pub(crate) struct Parts {
    pub(crate) pickle: Range<usize>,
    pub(crate) buffers: Vec<Range<usize>>,
}

impl Parts {
    /// Finds the parts. `None` if these bytes are no frame.
    pub(crate) fn find(frame: &[u8]) -> Option<Parts> {
        let number = |at: usize| {
            let bytes = frame.get(at..at.checked_add(8)?)?;
            usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
        };
        let range = |at: usize, len: usize| {
            let range = at..at.checked_add(len)?;
            (range.end <= frame.len()).then_some(range)
        };
        let count = number(0)?;
        let head = count.checked_add(1)?.checked_mul(16)?;
        let pickle = range(head, number(8)?)?;
        let buffers = (1..=count).map(|n| range(number(16 * n)?, number(16 * n + 8)?));
        Some(Parts { pickle, buffers: buffers.collect::<Option<_>>()? })
    }
}
