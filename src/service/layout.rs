//! The layout of a service in memory, checked once for each handle.
//!
//! ```text
//! slot, a multiple of 128 bytes
//! ┌──────┬─────────┬────────────────────────────┬─────────┬─────────┬────────┐
//! │ word │ header  │ caller, outcome, deadline  │ header  │ request │ answer │
//! └──────┴─────────┴────────────────────────────┴─────────┴─────────┴────────┘
//! ```
//!
//! The first header is that of the request, the second that of the answer. Each is there only if
//! such messages differ in length. So the whole call is in one cache line if both messages are
//! short and of fixed size.
//!
//! A service whose answers come in several parts has more places for them behind that one, each
//! with its header, if they differ in length.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::descriptor::{Call, Descriptor, Geometry, Part as PartWords};
use super::parts::PLACES_MAX;
use super::recover::{Blocks, Headers, Part};
use super::table::Table;
use crate::heap::{Store, UNITS_MAX};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Relaxed;
use crate::message::Payload;
use crate::queue::holders::Holders;
use crate::queue::mpmc::descriptor::Geometry as RingGeometry;
use crate::queue::mpmc::ring::Ring;
use crate::queue::payload::area::Area;
use crate::queue::payload::header::{Header, Name};
use crate::queue::payload::sizes;
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

/// The offset of the slots.
pub(super) const SLOTS: usize = size_of::<Descriptor>();
/// The offset of a request's header in its slot, as [`Ring::header`] has it.
const HEADER: usize = 8;
/// The bytes in the slot for a message that differs in length, unless the creator chooses.
pub(super) const INLINE: usize = 96;
/// An option: requests of dead servers go to other servers.
const REDELIVER: u64 = 1;

/// The numbers that a new service is built with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) capacity: usize,
    pub(super) redeliver: bool,
    /// The least bytes in the slot for a message that differs in length.
    pub(super) inline: usize,
    /// The bytes for larger requests, and as many for larger answers.
    pub(super) quota: u64,
    /// The least number of places for the parts of an answer.
    pub(super) parts: usize,
}

impl Plan {
    /// Returns the number of places. `None`: too many, or none.
    fn places(&self) -> Option<usize> {
        self.parts.checked_next_power_of_two().filter(|places| self.parts > 0 && *places <= PLACES_MAX)
    }
}

/// Where the parts of a slot are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offsets {
    call: usize,
    request: usize,
    answer: usize,
    /// The end of the answer, and the other places for its parts.
    more: usize,
    stride: usize,
}

/// The layout of slots for requests and answers of these types.
#[derive(Debug)]
pub(super) struct Layout<Q: ?Sized, R: ?Sized>(PhantomData<fn(&Q, &R)>);

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Layout<Q, R> {
    /// The offset of the words of a call.
    const CALL: usize = if Q::IS_FIXED { HEADER } else { HEADER + size_of::<Header>() };
    /// The offset of the request.
    const REQUEST: usize = {
        let (request, answer) = (align_of::<Q::Element>(), align_of::<R::Element>());
        assert!(
            request <= 128 && answer <= 128,
            "messages aligned to more than 128 bytes do not fit into objects"
        );
        (answer_header(Self::CALL) + if R::IS_FIXED { 0 } else { size_of::<Header>() })
            .next_multiple_of(request)
    };

    /// Returns the parts of a slot. `None`: it is too large.
    fn offsets(plan: &Plan) -> Option<Offsets> {
        let answer_align = align_of::<R::Element>();
        let request_room = if Q::IS_FIXED { size_of::<Q::Element>() } else { plan.inline };
        let answer_room = if R::IS_FIXED { size_of::<R::Element>() } else { plan.inline };
        let answer = Self::REQUEST.checked_add(request_room)?.checked_next_multiple_of(answer_align)?;
        let end = answer.checked_add(answer_room)?;
        let (call, request) = (Self::CALL, Self::REQUEST);
        let places = plan.places()?;
        if places > 1 {
            let align = if R::IS_FIXED { 0 } else { answer_align };
            let places = Places::new(places, end, answer_room, align)?;
            let stride = places.end()?.checked_next_multiple_of(128)?;
            return Some(Offsets { call, request, answer, more: places.more, stride });
        }
        let stride = end.checked_next_multiple_of(128)?;
        // What is left of the last line is the request's, if its length is not fixed and that of
        // the answer is.
        let last = (stride - answer_room) / answer_align * answer_align;
        let answer = if !Q::IS_FIXED && R::IS_FIXED { last } else { answer };
        Some(Offsets { call, request, answer, more: stride, stride })
    }

    /// Returns the length in bytes of a service.
    pub(super) fn len(plan: &Plan) -> Result<usize> {
        let capacity = plan.capacity;
        let is_countable = u32::try_from(capacity).is_ok_and(|capacity| capacity > 0);
        if !is_countable {
            let text = format!("a service has room for 1 to {} calls, not for {capacity}", u32::MAX);
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let units = |units: Option<u64>| {
            units.ok_or_else(|| {
                let text = format!("the quota of a service is 128 GiB at most, and not {} bytes", plan.quota);
                Error::new(ErrorKind::InvalidInput, text)
            })
        };
        let (request, answer) =
            (units(sizes::units::<Q>(plan.quota))?, units(sizes::units::<R>(plan.quota))?);
        if plan.places().is_none() {
            let parts = plan.parts;
            let text = format!("a service has room for 1 to {PLACES_MAX} parts of an answer, not for {parts}");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let end = Self::offsets(plan)
            .and_then(|offsets| offsets.stride.checked_mul(capacity)?.checked_add(SLOTS))
            .filter(|end| *end <= isize::MAX as usize);
        let end = end.ok_or_else(|| {
            let text = format!("a service of {capacity} calls of this size is larger than the address space");
            Error::new(ErrorKind::InvalidInput, text)
        })?;
        let len = stores(end, request, answer).map(|(_, _, end)| end);
        Ok(len.filter(|len| *len <= isize::MAX as usize).unwrap_or(usize::MAX))
    }

    /// Writes the geometry of a service that no other process can see yet. The rest is fresh if it
    /// is zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128 and points to an object of this [`len`](Layout::len).
    pub(super) unsafe fn init(base: *mut u8, plan: &Plan) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let descriptor = unsafe { &*base.cast::<Descriptor>() };
        // len() has checked it.
        let (Some(offsets), Some(places)) = (Self::offsets(plan), plan.places()) else { return };
        let ring: &RingGeometry = &descriptor.ring.geometry;
        ring.capacity.store(plan.capacity as u64, Relaxed);
        ring.stride.store(offsets.stride as u64, Relaxed);
        ring.options.store(if plan.redeliver { REDELIVER } else { 0 }, Relaxed);
        let geometry: &Geometry = &descriptor.geometry;
        geometry.call.store(offsets.call as u64, Relaxed);
        init_part::<Q>(&geometry.request, offsets.request, offsets.answer, plan);
        init_part::<R>(&geometry.answer, offsets.answer, offsets.more, plan);
        geometry.places.store(places as u64, Relaxed);
        geometry.more.store(offsets.more as u64, Relaxed);
    }

    /// Returns the service at `base`, if it is one for messages of these types.
    ///
    /// # Safety
    ///
    /// As for [`Any::check`].
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let (request, answer) = (&found.request, &found.answer);
        let fits = fits::<Q>(request)
            && fits::<R>(answer)
            && request.offset == Self::REQUEST
            && answer.offset % align_of::<R::Element>() == 0;
        fits.then_some(found)
    }
}

/// Returns the offset of the header of the answer, behind the words of the call at `call`.
const fn answer_header(call: usize) -> usize {
    call + size_of::<Call>()
}

fn init_part<P: Payload + ?Sized>(part: &PartWords, offset: usize, end: usize, plan: &Plan) {
    part.offset.store(offset as u64, Relaxed);
    part.size.store(size_of::<P::Element>() as u64, Relaxed);
    let (align, room) = match P::IS_FIXED {
        true => (0, size_of::<P::Element>()),
        false => (align_of::<P::Element>(), end - offset),
    };
    part.align.store(align as u64, Relaxed);
    part.room.store(room as u64, Relaxed);
    part.units.store(sizes::units::<P>(plan.quota).unwrap_or(0), Relaxed);
}

fn fits<P: Payload + ?Sized>(side: &Side) -> bool {
    let align = if P::IS_FIXED { 0 } else { align_of::<P::Element>() };
    (side.size, side.align) == (size_of::<P::Element>(), align)
}

/// Returns the offsets of both stores, and the end of the object. `None`: they are too large.
fn stores(slots_end: usize, request: u64, answer: u64) -> Option<(usize, usize, usize)> {
    if request > UNITS_MAX || answer > UNITS_MAX {
        return None;
    }
    let second = slots_end.checked_add(sizes::store_len(request))?.checked_next_multiple_of(128)?;
    let end = second.checked_add(sizes::store_len(answer))?.checked_next_multiple_of(128)?;
    Some((slots_end, second, end))
}

/// The places for the parts of an answer in each slot. The first is that of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// A power of two.
    number: usize,
    /// The offset of the second.
    more: usize,
    /// The bytes of each but the first.
    pitch: usize,
    /// The offset of a part in its place, behind its header if there is one.
    part: usize,
}

impl Places {
    /// Returns places of `room` bytes behind `end`. `align` is the alignment of an element, or 0 if
    /// parts have a fixed size, which is a multiple of their alignment. `None`: they are too large.
    fn new(number: usize, end: usize, room: usize, align: usize) -> Option<Places> {
        if align == 0 {
            return Some(Places { number, more: end, pitch: room, part: 0 });
        }
        let part = size_of::<Header>().next_multiple_of(align);
        let align = align.max(align_of::<Header>());
        let pitch = part.checked_add(room)?.checked_next_multiple_of(align)?;
        Some(Places { number, more: end.checked_next_multiple_of(align)?, pitch, part })
    }

    fn end(&self) -> Option<usize> {
        self.pitch.checked_mul(self.number - 1)?.checked_add(self.more)
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Returns the offsets in the slot of the header and of the part with this number, if it is not
    /// in the place of the answer.
    #[inline]
    pub(super) fn at(&self, number: usize) -> Option<(usize, usize)> {
        let at = self.more + ((number & (self.number - 1)).checked_sub(1)?) * self.pitch;
        Some((at, at + self.part))
    }
}

/// One of the two directions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// The offset of the message in its slot.
    pub(super) offset: usize,
    /// The size of a message, or of an element of one.
    pub(super) size: usize,
    /// The alignment of an element, if messages differ in length; else 0.
    pub(super) align: usize,
    /// The bytes in the slot.
    pub(super) room: usize,
    units: u64,
}

impl Side {
    fn read(words: &PartWords) -> Option<Side> {
        let read = |word: &AtomicU64| usize::try_from(word.load(Relaxed)).ok();
        let side = Side {
            offset: read(&words.offset)?,
            size: read(&words.size)?,
            align: read(&words.align)?,
            room: read(&words.room)?,
            units: words.units.load(Relaxed),
        };
        let is_sound = match side.align {
            0 => side.room == side.size && side.units == 0,
            align => align.is_power_of_two() && align <= 128 && side.offset % align == 0,
        };
        is_sound.then_some(side)
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.align == 0
    }

    /// Returns the size of a message, or of an element, and whether messages differ in length.
    #[cfg(feature = "__internals")]
    pub(super) fn kind(&self) -> (u64, bool) {
        (self.size as u64, !self.is_fixed())
    }

    fn end(&self) -> Option<usize> {
        self.offset.checked_add(self.room)
    }

    /// Returns the room for messages that differ in length.
    ///
    /// # Safety
    ///
    /// As many units of a store are mapped at `at` as `self` says, as long as the result is used.
    unsafe fn area(&self, at: *mut u8) -> Option<Area> {
        if self.is_fixed() {
            return None;
        }
        // SAFETY: promised by the caller; stores() has rounded the address to a multiple of 128.
        let store = (self.units > 0).then(|| unsafe { Store::new(at, self.units) });
        Some(Area::new(store, self.room, self.size, self.align))
    }
}

/// A service of messages of any type.
#[derive(Debug)]
pub(crate) struct Any {
    pub(crate) table: Table,
    pub(super) request: Side,
    pub(super) answer: Side,
    pub(super) places: Places,
    pub(super) request_area: Option<Area>,
    pub(super) answer_area: Option<Area>,
}

impl Any {
    /// Reads the geometry and checks it against `len`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128, and `len` bytes from there stay mapped while the result or
    /// anything made of it is used.
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        if len < SLOTS {
            return None;
        }
        let descriptor = NonNull::new(base)?.cast::<Descriptor>();
        // SAFETY: mapped, aligned and long enough; any bytes are a Descriptor.
        let words = unsafe { descriptor.as_ref() };
        let (ring, geometry): (&RingGeometry, &Geometry) = (&words.ring.geometry, &words.geometry);
        let capacity = u32::try_from(ring.capacity.load(Relaxed)).ok().filter(|capacity| *capacity > 0)?;
        let stride = usize::try_from(ring.stride.load(Relaxed)).ok()?;
        let options = ring.options.load(Relaxed);
        let call = usize::try_from(geometry.call.load(Relaxed)).ok()?;
        let (request, answer) = (Side::read(&geometry.request)?, Side::read(&geometry.answer)?);
        let number = usize::try_from(geometry.places.load(Relaxed)).ok();
        let number = number.filter(|number| number.is_power_of_two() && *number <= PLACES_MAX)?;
        let more = usize::try_from(geometry.more.load(Relaxed)).ok()?;
        let places = Places::new(number, more, answer.room, answer.align)?;
        let header = if request.is_fixed() { 0 } else { size_of::<Header>() };
        let answer_header = if answer.is_fixed() { 0 } else { size_of::<Header>() };
        let slots_end = stride.checked_mul(capacity as usize)?.checked_add(SLOTS)?;
        let (request_at, answer_at, end) = stores(slots_end, request.units, answer.units)?;
        let fits = stride % 128 == 0
            && options & !REDELIVER == 0
            && call == HEADER + header
            && request.offset >= self::answer_header(call) + answer_header
            && request.end()? <= answer.offset
            && answer.end()? <= more
            && places.more == more
            && places.end()? <= stride
            && end <= len;
        if !fits {
            return None;
        }
        // SAFETY: `len` covers the descriptor and `capacity` slots of `stride` bytes after it. Each
        // slot begins with a word at a multiple of 128; the words of its call, at a multiple of 8,
        // and its messages follow, and do not overlap.
        let table = unsafe {
            let slots = descriptor.byte_add(SLOTS).cast::<u8>();
            let ring = Ring::new(descriptor.cast(), slots, stride, capacity, options & REDELIVER != 0);
            Table::new(ring, call)
        };
        // SAFETY: the stores follow the slots, and `len` covers them.
        let (request_area, answer_area) =
            unsafe { (request.area(base.add(request_at)), answer.area(base.add(answer_at))) };
        Some(Any { table, request, answer, places, request_area, answer_area })
    }

    /// Returns the headers of a slot.
    fn headers(&self, index: u32) -> Headers<'_> {
        headers(&self.table, &self.request, &self.answer, index)
    }
}

/// Returns the headers of a slot.
pub(super) fn headers<'a>(table: &'a Table, request: &Side, answer: &Side, index: u32) -> Headers<'a> {
    let first = (!request.is_fixed()).then(|| table.ring.header(index));
    let at = answer_header(HEADER + if request.is_fixed() { 0 } else { size_of::<Header>() });
    // SAFETY: check() has found that the header is inside of the slot, at a multiple of 8, and that
    // the messages follow it. Any bytes are a Header, which is atomics only.
    let second = (!answer.is_fixed()).then(|| unsafe { &*table.ring.message(index, at).cast::<Header>() });
    [(Part::Request, first), (Part::Answer, second)]
}

/// Returns the headers of the parts of a slot that are not in the place of the answer.
pub(super) fn more_headers<'a>(
    table: &'a Table,
    answer: &Side,
    places: &'a Places,
    index: u32,
) -> impl Iterator<Item = &'a Header> + 'a {
    let number = if answer.is_fixed() { 0 } else { places.number };
    (1..number).filter_map(move |number| {
        let (header, _) = places.at(number)?;
        // SAFETY: check() has found that all places are inside of the slot, at multiples of 8. Any
        // bytes are a Header, which is atomics only.
        Some(unsafe { &*table.ring.message(index, header).cast() })
    })
}

/// Returns how many servers each participant has.
///
/// # Safety
///
/// [`Any::check`] has found a service at `base`, which stays mapped as long as the result is used.
pub(super) unsafe fn servers<'a>(base: *const u8) -> &'a Holders {
    // SAFETY: promised by the caller; any bytes are a Descriptor, which is atomics only.
    unsafe { &(*base.cast::<Descriptor>()).servers }
}

/// Takes everything from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    let Some(found) = (unsafe { Any::check(base, len) }) else { return };
    // First, because the table wakes those that wait for room.
    found.request_area.iter().chain(&found.answer_area).for_each(|area| area.recover(dead));
    // SAFETY: as above.
    unsafe { servers(base) }.recover(dead);
    let free = |part, name: Name| match part {
        Part::Request => found.request_area.iter().for_each(|area| area.free(name)),
        Part::Answer => found.answer_area.iter().for_each(|area| area.free(name)),
    };
    let more = |index: u32, each: &mut dyn FnMut(&Header)| {
        more_headers(&found.table, &found.answer, &found.places, index).for_each(each);
    };
    let headers = |index| found.headers(index);
    found.table.recover(dead, Blocks { headers: &headers, more: &more, free: &free });
}
