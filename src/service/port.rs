//! The local side of a service without its types: who this process is, and where the messages of a
//! slot are.

use std::sync::Arc;

use super::layout::{self, Any, Places, Side};
use super::table::Table;
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::holders::Holders;
use crate::queue::mpmc::ring::Claim;
use crate::queue::payload::area::{find, Area};
use crate::queue::payload::header::Header;
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;

/// A table and the object that it is in.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) table: Table,
    /// Keeps the memory of `table` mapped.
    pub(super) object: ObjectRef,
    pub(super) request: Direction,
    pub(super) answer: Direction,
    pub(super) places: Places,
    /// The last user of this handle that was registered as one that the words may name. 0: nobody.
    enlisted: AtomicU32,
}

/// Requests, or answers.
#[derive(Debug, Clone)]
pub(super) struct Direction {
    pub(super) side: Side,
    /// Where messages that do not fit into a slot are, if messages differ in length.
    pub(super) area: Option<Arc<Area>>,
}

impl Port {
    pub(super) fn new(found: Any, object: ObjectRef) -> Port {
        let Any { table, request, answer, places, request_area, answer_area } = found;
        Port {
            table,
            object,
            request: Direction { side: request, area: request_area.map(Arc::new) },
            answer: Direction { side: answer, area: answer_area.map(Arc::new) },
            places,
            enlisted: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(super) fn me(&self) -> Result<OwnerId, Blocked> {
        let me = self.object.owner().map_err(|error| Blocked::NotInThisProcess(error.refusal()))?;
        // Relaxed: a thread that sees another thread's mark may see the bit in memory later, but
        // before it dies.
        if self.enlisted.load(Relaxed) != me.bits() {
            self.table.ring.enlist(me);
            self.enlisted.store(me.bits(), Relaxed);
        }
        Ok(me)
    }

    pub(super) fn servers(&self) -> &Holders {
        // SAFETY: the geometry at the base of the object was checked, and `self` keeps it mapped.
        unsafe { layout::servers(self.object.base()) }
    }

    /// Counts a failed attempt, because callers that poll without blocking must notice deaths too.
    #[inline]
    pub(super) fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.object.note_failed_try();
        }
        blocked
    }

    /// Returns the headers of the request and of the answer in this slot, where there are any.
    #[inline]
    pub(super) fn headers(&self, index: u32) -> [Option<&Header>; 2] {
        let [(_, request), (_, answer)] =
            layout::headers(&self.table, &self.request.side, &self.answer.side, index);
        [request, answer]
    }

    /// Returns the elements of the request in this slot: their address and their number. `None`:
    /// its header is damaged.
    #[inline]
    pub(super) fn find_request(&self, index: u32) -> Option<(*mut u8, usize)> {
        let [header, _] = self.headers(index);
        self.request.find(self.table.ring.message(index, self.request.side.offset), header)
    }

    /// Returns the elements of the answer in this slot, as [`find_request`](Port::find_request).
    #[inline]
    pub(super) fn find_answer(&self, index: u32) -> Option<(*mut u8, usize)> {
        self.find_part(index, 0)
    }

    /// Returns the elements of the part with this number, as [`find_request`](Port::find_request).
    #[inline]
    pub(super) fn find_part(&self, index: u32, number: usize) -> Option<(*mut u8, usize)> {
        let (header, at) = self.place(index, number);
        self.answer.find(at, header)
    }

    /// Returns the place of the part with this number: its header, if there is one, and its address
    /// if it is in the slot.
    #[inline]
    pub(super) fn place(&self, index: u32, number: usize) -> (Option<&Header>, *mut u8) {
        let ring = &self.table.ring;
        match self.places.at(number) {
            None => {
                let [_, header] = self.headers(index);
                (header, ring.message(index, self.answer.side.offset))
            }
            Some((header, part)) => {
                // SAFETY: as in layout::more_headers().
                let header = (!self.answer.side.is_fixed())
                    .then(|| unsafe { &*ring.message(index, header).cast() });
                (header, ring.message(index, part))
            }
        }
    }

    /// Frees the blocks of the messages in a slot that this process has, before it frees the slot.
    #[inline]
    fn abandon_messages(&self, index: u32) {
        let [request, answer] = self.headers(index);
        self.request.abandon(request);
        self.answer.abandon(answer);
        if self.table.parts(index).is_in_parts() {
            layout::more_headers(&self.table, &self.answer.side, &self.places, index)
                .for_each(|header| self.answer.abandon(Some(header)));
        }
    }

    /// Gives the place of a part back to the server, once this process has read it.
    pub(super) fn finish_part(&self, index: u32, number: usize) {
        let (header, _) = self.place(index, number);
        let has_block = header.is_some_and(|header| header.block().is_some());
        self.answer.abandon(header);
        self.table.take_part(index);
        if has_block {
            self.table.ring.pass_on_after_claim(); // a server may wait for memory
        }
    }

    /// Frees a slot whose word names this process.
    pub(super) fn free_own(&self, me: OwnerId, claim: Claim) {
        self.abandon_messages(claim.index);
        self.table.ring.free_unsent(me, claim);
    }

    /// Frees a slot that a server has handed on to this process.
    #[inline]
    pub(super) fn free_handed_on(&self, index: u32) {
        self.abandon_messages(index);
        self.table.ring.free_handed_on(index);
    }
}

impl Direction {
    #[inline]
    fn find(&self, at: *mut u8, header: Option<&Header>) -> Option<(*mut u8, usize)> {
        let Side { size, room, .. } = self.side;
        match header {
            None => Some((at, 1)),
            Some(header) => find(self.area.as_deref(), header, at, size, room),
        }
    }

    #[inline]
    fn abandon(&self, header: Option<&Header>) {
        if let (Some(area), Some(header)) = (&self.area, header) {
            area.abandon(header);
        }
    }
}

impl Clone for Port {
    fn clone(&self) -> Port {
        Port {
            table: self.table,
            object: self.object.clone(),
            request: self.request.clone(),
            answer: self.answer.clone(),
            places: self.places,
            enlisted: AtomicU32::new(0),
        }
    }
}
