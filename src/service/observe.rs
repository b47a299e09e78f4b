//! A service as observers see it: its calls by state, and the next request.
//!
//! These functions only read, so they work on a read-only mapping. Their answers may be out of date
//! immediately.

use super::layout::{servers, Any};
use super::word::Status;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::queue::mpmc::slot::Status as Slot;

/// Attempts of a peek whose request is received meanwhile.
const PEEKS: usize = 8;

/// The calls of a service, by state.
#[derive(Debug, Default)]
struct Census {
    /// Requests that their clients write.
    written: usize,
    /// Requests that no server has.
    waiting: usize,
    /// Requests that servers have.
    served: usize,
    /// Of these, those whose clients have given up.
    cancelled: usize,
    /// Calls that have ended, and whose clients have the slot.
    ended: usize,
}

impl Any {
    fn census(&self) -> Census {
        let mut census = Census::default();
        for index in 0..self.table.ring.capacity() {
            let (word, outcome) = (self.table.ring.word(index), self.table.outcome(index));
            match (word.status(), outcome.status()) {
                (Slot::Empty | Slot::Sealed, _) => {}
                (Slot::Writing | Slot::Held, _) => census.written += 1,
                (Slot::Full | Slot::Returned, _) => census.waiting += 1,
                (Slot::Reading | Slot::Kept, Some(Status::Pending)) => census.served += 1,
                (Slot::Reading | Slot::Kept, Some(Status::Cancelled)) => {
                    census.served += 1;
                    census.cancelled += 1;
                }
                (Slot::Reading | Slot::Kept, _) => census.ended += 1,
            }
        }
        census
    }

    /// Returns the bytes of the request in this slot; `None` if its header is damaged, or the
    /// request is being received.
    fn request(&self, index: u32) -> Option<(*const u8, usize)> {
        let in_slot = self.table.ring.message(index, self.request.offset);
        match &self.request_area {
            None => Some((in_slot.cast_const(), self.request.size)),
            Some(area) => {
                let (at, len) = area.find(self.table.ring.header(index), in_slot)?;
                Some((at.cast_const(), len.checked_mul(self.request.size)?))
            }
        }
    }
}

/// Returns what `pagemate show` prints about a service.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    // Nothing below writes, so a read-only mapping is enough.
    let Some(found) = (unsafe { Any::check(base.cast_mut(), len) }) else {
        return vec![("damaged", "the geometry contradicts the size".to_string())];
    };
    let (ring, calls) = (found.table.ring, found.census());
    // SAFETY: as above.
    let servers = unsafe { servers(base) };
    let mut state = vec![
        ("capacity", ring.capacity().to_string()),
        ("sent", ring.tail(Relaxed).passed(ring.capacity()).to_string()),
        ("calls", (calls.written + calls.waiting + calls.served + calls.ended).to_string()),
        ("written", calls.written.to_string()),
        ("waiting", calls.waiting.to_string()),
        ("served", calls.served.to_string()),
        ("cancelled", calls.cancelled.to_string()),
        ("ended", calls.ended.to_string()),
        ("servers", servers.number().to_string()),
        ("closed", ring.is_closed().to_string()),
        ("redeliver", ring.redelivers().to_string()),
        ("places", found.places.number().to_string()),
        ("clients wait for room", ring.senders().is_waited_on().to_string()),
        ("servers wait", ring.receivers().is_waited_on().to_string()),
    ];
    for (area, labels) in [
        (&found.request_area, ["inline for requests", "quota for requests", "in use for requests"]),
        (&found.answer_area, ["inline for answers", "quota for answers", "in use for answers"]),
    ] {
        let values = area.iter().flat_map(|area| area.describe()).map(|(_, value)| value);
        state.extend(labels.into_iter().zip(values));
    }
    state
}

/// Returns the bytes of the request that is next in order. `None` if there is no request, or if
/// each is received before it has been read.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (index, word) = found.table.ring.peek()?;
        let bytes = found.request(index).map(|(at, len)| {
            // SAFETY: within the slot or a block. A client may write there only after the word has
            // changed, which is checked below. Volatile, so that the bytes are read now.
            (0..len).map(|i| unsafe { at.add(i).read_volatile() }).collect()
        });
        crate::loom::atomic::fence(Acquire); // the reads above, then the check of the word
        if found.table.ring.is_still(index, word) {
            return bytes;
        }
    }
    None
}
