//! The layout of a topic in memory, checked once for each handle; and the functions that work
//! without the type.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::body::{load_bytes, words};
use super::descriptor::{Descriptor, Geometry, Line, Slot};
use super::line::Mode;
use super::policy::Policy;
use super::ring::{Ring, Shape};
use crate::heap::{Store, UNITS_MAX};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::message::Payload;
use crate::queue::payload::area::Area;
use crate::queue::payload::header::Header;
use crate::queue::payload::sizes::{self, store_len};
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

/// The offset of the lines.
pub(crate) const LINES: usize = size_of::<Descriptor>();
/// The number of subscribers that a new topic has lines for.
pub(super) const SUBSCRIBERS: u32 = if cfg!(loom) { 4 } else { 64 };
/// The least number of slots beyond the capacity: this many can be in use in place, and a topic of
/// capacity 1 can still publish.
const SPARE_MIN: usize = 3;
/// A topic has one slot more for this many messages of its capacity. So a subscriber that lags gets
/// some time for the oldest message before it is overwritten.
const SPARE_SHARE: usize = 8;
/// The bit of the options that says that the topic ends with its publishers.
/// Below it is the policy.
const ENDS: u64 = 1 << 2;
/// The smallest offset of a message of varying length: after the words and the header.
const HEADER: usize = size_of::<Slot>() + size_of::<Header>();
/// The bits of the options that are the alignment of an element; 0: messages have a fixed size.
const ALIGN_SHIFT: u32 = 8;
const ALIGN: u64 = 0xff << ALIGN_SHIFT;
/// Attempts of a peek whose message is overwritten meanwhile.
const PEEKS: usize = 8;

/// Returns the number of slots of a topic of this capacity.
fn slots_for(capacity: usize) -> usize {
    capacity.saturating_add(SPARE_MIN.max(capacity / SPARE_SHARE))
}

/// The numbers that a new topic is built with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) capacity: usize,
    pub(super) policy: Policy,
    pub(super) ends: bool,
    /// Used only if messages differ in length: the minimum number of bytes for a message in a slot,
    /// and the number of bytes for larger messages.
    pub(super) inline: usize,
    pub(super) quota: u64,
}

/// The layout of slots for messages of one type.
#[derive(Debug)]
pub(super) struct Layout<P: ?Sized>(PhantomData<fn(&P)>);

impl<P: Payload + ?Sized> Layout<P> {
    /// The offset of the message in its slot.
    const OFFSET: usize = {
        let align = align_of::<P::Element>();
        assert!(align <= 128, "messages aligned to more than 128 bytes do not fit into objects");
        let first = if P::IS_FIXED { size_of::<Slot>() } else { HEADER };
        first.next_multiple_of(align)
    };

    fn stride(plan: &Plan) -> Option<usize> {
        sizes::stride::<P>(Self::OFFSET, plan.inline)
    }

    /// Returns the length in bytes of a topic.
    pub(super) fn len(plan: &Plan) -> Result<usize> {
        let capacity = plan.capacity;
        let slots = slots_for(capacity);
        let is_countable = capacity > 0 && slots < u32::MAX as usize;
        if !is_countable {
            let most = u32::MAX as usize / (SPARE_SHARE + 1) * SPARE_SHARE;
            let text = format!("a topic keeps 1 to {most} messages, not {capacity}");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let before = LINES + SUBSCRIBERS as usize * size_of::<Line>();
        let (counts, slots) = ((capacity, slots), (before, Self::stride(plan)));
        let (store_at, units) = sizes::behind_slots::<P>("topic", counts, slots, (plan.inline, plan.quota))?;
        let len = store_at.checked_add(store_len(units)).filter(|len| *len <= isize::MAX as usize);
        Ok(len.unwrap_or(usize::MAX))
    }

    /// Writes the geometry of a topic that no other process can see yet. The rest is fresh if it is
    /// zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128 and points to an object of this [`len`](Layout::len).
    pub(super) unsafe fn init(base: *mut u8, plan: &Plan) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        geometry.capacity.store(plan.capacity as u64, Relaxed);
        geometry.slots.store(slots_for(plan.capacity) as u64, Relaxed);
        // len() has checked it.
        geometry.stride.store(Self::stride(plan).unwrap_or(0) as u64, Relaxed);
        geometry.offset.store(Self::OFFSET as u64, Relaxed);
        geometry.size.store(size_of::<P::Element>() as u64, Relaxed);
        geometry.lines.store(u64::from(SUBSCRIBERS), Relaxed);
        let ends = if plan.ends { ENDS } else { 0 };
        let align = if P::IS_FIXED { 0 } else { (align_of::<P::Element>() as u64) << ALIGN_SHIFT };
        geometry.options.store(plan.policy as u64 | ends | align, Relaxed);
        geometry.units.store(sizes::units::<P>(plan.quota).unwrap_or(0), Relaxed);
    }

    /// Returns the topic at `base`, if it is one for messages of this type.
    ///
    /// # Safety
    ///
    /// As for [`Any::check`].
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let (size, align) = (size_of::<P::Element>(), align_of::<P::Element>());
        let stride = (Self::OFFSET + size).next_multiple_of(128);
        let shape = found.ring.shape();
        let fits = (shape.offset, found.size) == (Self::OFFSET, size)
            && if P::IS_FIXED { found.align == 0 && shape.stride == stride } else { found.align == align };
        fits.then_some(found)
    }
}

/// The layout of slots for messages whose size and alignment are known at run time only.
#[cfg(any(test, feature = "__internals"))]
pub(crate) struct Fixed {
    offset: usize,
    size: usize,
    capacity: usize,
}

#[cfg(any(test, feature = "__internals"))]
impl Fixed {
    pub(crate) fn of(schema: &crate::message::Schema, capacity: usize) -> Fixed {
        // An alignment of more than 128 is refused by len().
        let (size, align) = (schema.size() as usize, schema.align().max(1) as usize);
        Fixed { offset: size_of::<Slot>().next_multiple_of(align), size, capacity }
    }

    fn stride(&self) -> Option<usize> {
        self.offset.checked_add(self.size)?.checked_next_multiple_of(128)
    }

    /// As [`Layout::len`].
    pub(crate) fn len(&self) -> Result<usize> {
        let slots = slots_for(self.capacity);
        let before = LINES + SUBSCRIBERS as usize * size_of::<Line>();
        let end = self.stride().and_then(|stride| stride.checked_mul(slots)?.checked_add(before));
        let is_countable = self.capacity > 0 && slots < u32::MAX as usize && self.offset <= 128;
        end.filter(|end| is_countable && *end <= isize::MAX as usize).ok_or_else(|| {
            let (capacity, size) = (self.capacity, self.size);
            let text = format!("a topic of {capacity} messages of {size} bytes is not possible");
            Error::new(ErrorKind::InvalidInput, text)
        })
    }

    /// As [`Layout::init`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn init(&self, base: *mut u8) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        geometry.capacity.store(self.capacity as u64, Relaxed);
        geometry.slots.store(slots_for(self.capacity) as u64, Relaxed);
        // len() has checked it.
        geometry.stride.store(self.stride().unwrap_or(0) as u64, Relaxed);
        geometry.offset.store(self.offset as u64, Relaxed);
        geometry.size.store(self.size as u64, Relaxed);
        geometry.lines.store(u64::from(SUBSCRIBERS), Relaxed);
        geometry.options.store(Policy::Block as u64, Relaxed);
    }
}

/// A topic of messages of any type.
pub(crate) struct Any {
    pub(crate) ring: Ring,
    /// The size of a message, or of an element of one.
    pub(crate) size: usize,
    /// The alignment of an element; 0: messages do not differ in length.
    align: usize,
    /// Where messages that do not fit into a slot are, if messages differ in length.
    pub(crate) area: Option<Area>,
}

impl Any {
    /// Reads the geometry and checks it against `len`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128, and `len` bytes from there stay mapped while the result or
    /// anything made of it is used.
    pub(crate) unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        if len < LINES {
            return None;
        }
        let descriptor = NonNull::new(base)?.cast::<Descriptor>();
        // SAFETY: mapped, aligned and long enough; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*descriptor.as_ptr()).geometry };
        let read = |word: &AtomicU64| usize::try_from(word.load(Relaxed)).ok();
        let count = |word: &AtomicU64| u32::try_from(word.load(Relaxed)).ok().filter(|count| *count > 0);
        let (stride, offset, size) =
            (read(&geometry.stride)?, read(&geometry.offset)?, read(&geometry.size)?);
        let (capacity, slots, lines) =
            (count(&geometry.capacity)?, count(&geometry.slots)?, count(&geometry.lines)?);
        let options = geometry.options.load(Relaxed);
        let (policy, ends) = (Policy::from_number(options & !(ENDS | ALIGN))?, options & ENDS != 0);
        let align = (options & ALIGN) as usize >> ALIGN_SHIFT;
        let (is_varied, units) = (align != 0, geometry.units.load(Relaxed));
        let content_fits = if is_varied {
            align.is_power_of_two() && offset % align == 0 && offset >= HEADER && offset <= stride
        } else {
            let end = offset.checked_add(size);
            units == 0 && offset >= size_of::<Slot>() && end.is_some_and(|end| end <= stride)
        };
        let before = LINES + lines as usize * size_of::<Line>();
        let store_at = stride.checked_mul(slots as usize)?.checked_add(before)?;
        let fits = stride % 128 == 0
            && offset % 8 == 0
            && content_fits
            && capacity < slots
            && slots < u32::MAX
            && units <= UNITS_MAX
            && store_at.checked_add(store_len(units))? <= len;
        if !fits {
            return None;
        }
        let words = if is_varied { (stride - offset) / 8 } else { size.div_ceil(8) };
        let shape = Shape { capacity, slots, lines, stride, offset, words, is_varied, policy, ends };
        // SAFETY: `len` covers the descriptor, the lines and the slots after them. Each slot begins
        // at a multiple of 128; the words of its message are inside of it, because its length is a
        // multiple of 8.
        let ring = unsafe {
            let lines = descriptor.byte_add(LINES).cast::<Line>();
            Ring::new(descriptor, lines, descriptor.byte_add(before).cast::<u8>(), shape)
        };
        // SAFETY: the store follows the slots, at a multiple of 128, and `len` covers it.
        let store = (units > 0).then(|| unsafe { Store::new(base.add(store_at), units) });
        let area = is_varied.then(|| Area::new(store, stride - offset, size, align));
        Some(Any { ring, size, align, area })
    }

    /// Copies the bytes of the message in this slot, which may be overwritten meanwhile.
    fn copy(&self, index: u32) -> Vec<u8> {
        let inline = self.ring.message(index);
        let (at, bytes) = match &self.area {
            None => (inline, self.size),
            Some(area) => match area.find(self.ring.header(index), inline) {
                Some((at, len)) => (at, len * self.size),
                None => return Vec::new(),
            },
        };
        let mut copy = vec![0; bytes];
        // SAFETY: the bytes are in the slot or in a block, both of which begin at multiples of 8,
        // have such a length, and are mapped.
        unsafe { load_bytes(words(at, bytes), copy.as_mut_ptr(), bytes) };
        copy
    }
}

/// Takes every slot, pin, line and publisher from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    let Some(found) = (unsafe { Any::check(base, len) }) else { return };
    match &found.area {
        Some(area) => {
            // First, because the ring wakes those that wait for room.
            area.recover(dead);
            found.ring.recover_with(dead, Some(&|name| area.free_share(name)));
        }
        None => found.ring.recover(dead),
    }
}

/// Closes the topic if its last publisher has left, and was stopped before it did.
pub(crate) fn settle(base: *mut u8, len: usize) {
    // SAFETY: as in `recover`.
    if let Some(found) = unsafe { Any::check(base, len) } {
        found.ring.end_if_left();
    }
}

/// Returns what `pagemate show` prints about a topic.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    // SAFETY: as in `recover`. Nothing below writes, so a read-only mapping is enough.
    let Some(found) = (unsafe { Any::check(base.cast_mut(), len) }) else {
        return vec![("damaged", "the geometry contradicts the size".to_string())];
    };
    let ring = found.ring;
    let subscribers = ring.subscribers();
    let mut state = vec![
        ("capacity", ring.shape().capacity.to_string()),
        ("published", ring.published().to_string()),
        ("held", ring.held().to_string()),
        ("closed", ring.is_closed().to_string()),
        ("policy", ring.shape().policy.name().to_string()),
        ("ends with publishers", ring.shape().ends.to_string()),
        ("publishers", ring.publishers().to_string()),
        ("subscribers", subscribers.len().to_string()),
        ("lossless", subscribers.iter().filter(|seen| seen.mode == Mode::Lossless).count().to_string()),
        ("largest lag", subscribers.iter().map(|seen| seen.lag).max().unwrap_or(0).to_string()),
        ("lost", subscribers.iter().fold(0u64, |sum, seen| sum.wrapping_add(seen.lost)).to_string()),
    ];
    let lines: Vec<String> = subscribers
        .iter()
        .map(|seen| {
            let place = if seen.is_pinned { ", reads in place" } else { "" };
            let mode = match seen.mode {
                Mode::Lossy => "lossy",
                Mode::Lossless => "lossless",
                Mode::Evicted => "evicted",
            };
            format!("participant {}: {mode}, lag {}, lost {}{place}", seen.participant, seen.lag, seen.lost)
        })
        .collect();
    if !lines.is_empty() {
        state.push(("subscribed", lines.join("; ")));
    }
    state.push(("subscribers wait", ring.sleepers().is_waited_on().to_string()));
    state.push(("publishers wait", ring.room().is_waited_on().to_string()));
    if let Some(area) = &found.area {
        state.extend(area.describe());
    }
    state
}

/// Returns the bytes of the newest message. `None`: there is none, or each is overwritten at once.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (at, word) = found.ring.newest()?;
        let bytes = found.copy(at.index);
        crate::loom::atomic::fence(Acquire); // pairs with the fence in begin()
        if found.ring.is_still(at, word) {
            return Some(bytes);
        }
    }
    None
}
