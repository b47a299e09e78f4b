//! The layout of an object that is sent: a pickle alone; or, if it has buffers beside its pickle, a
//! frame:
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

/// An object to be sent: where the pieces of its pickle go, and its buffers.
pub(crate) struct Frame<'a> {
    /// Empty if there are no buffers.
    head: Vec<u8>,
    /// What follows the head: each with its offset.
    parts: Vec<(usize, &'a [u8])>,
    len: usize,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(
        pickle: impl Iterator<Item = &'a [u8]> + Clone,
        buffers: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Frame<'a> {
        let (mut head, mut parts) = (Vec::new(), Vec::with_capacity(buffers.len() + 1));
        let mut number = |number: usize| head.extend_from_slice(&(number as u64).to_le_bytes());
        let mut len = 0;
        if buffers.len() > 0 {
            number(buffers.len());
            number(pickle.clone().map(<[u8]>::len).sum());
            len = 16 * (buffers.len() + 1);
        }
        for piece in pickle {
            parts.push((len, piece));
            len += piece.len();
        }
        for buffer in buffers {
            len = len.next_multiple_of(ALIGN);
            number(len);
            number(buffer.len());
            parts.push((len, buffer));
            len += buffer.len();
        }
        Frame { head, parts, len }
    }

    /// Returns whether it has buffers, and is not a pickle alone.
    pub(crate) fn has_buffers(&self) -> bool {
        !self.head.is_empty()
    }

    /// Returns the bytes, if they are one piece.
    pub(crate) fn only_part(&self) -> Option<&'a [u8]> {
        match self.parts[..] {
            [(_, part)] if !self.has_buffers() => Some(part),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the parts, each with its offset in the frame, in order. What is between them may be
    /// anything.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        std::iter::once((0, &self.head[..])).chain(self.parts.iter().copied())
    }

    /// Writes the frame.
    pub(crate) fn write(&self, to: &mut [u8]) {
        self.parts().for_each(|(at, part)| to[at..at + part.len()].copy_from_slice(part));
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
