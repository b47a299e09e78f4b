//! The layout of a queue in memory, checked once for each handle; and the functions that work
//! without the type.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::descriptor::{Descriptor, Geometry};
use super::halves::Halves;
use super::ring::Ring;
use crate::heap::{Store, UNITS_MAX};
use crate::message::Payload;
use crate::queue::payload::area::Area;
use crate::queue::payload::header::Header;
use crate::queue::payload::sizes::{self, store_len};
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

pub(super) const SLOTS: usize = size_of::<Descriptor>();
/// The smallest offset of a message: after the word.
const WORD: usize = 8;
/// The smallest offset of a message of varying length: after the word and the header.
const HEADER: usize = WORD + size_of::<Header>();
/// An option: messages of dead consumers are delivered again.
const REDELIVER: u64 = 1;
/// An option: messages differ in length, and slots have headers.
const VARIED: u64 = 2;
/// Attempts of a peek whose message is received meanwhile.
const PEEKS: usize = 8;

/// The numbers that a new queue is built with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) capacity: usize,
    pub(super) redeliver: bool,
    /// Only of a queue whose messages differ in length: the least bytes of a slot, and the bytes
    /// for larger messages.
    pub(super) inline: usize,
    pub(super) quota: u64,
}

/// The layout of slots for messages of one type.
#[derive(Debug)]
pub(super) struct Layout<P: ?Sized>(PhantomData<fn(&P)>);

impl<P: Payload + ?Sized> Layout<P> {
    /// The offset of the message in its slot.
    pub(super) const OFFSET: usize = {
        let align = align_of::<P::Element>();
        assert!(align <= 128, "messages aligned to more than 128 bytes do not fit into objects");
        let first = if P::IS_FIXED { WORD } else { HEADER };
        first.next_multiple_of(align)
    };

    fn stride(plan: &Plan) -> Option<usize> {
        sizes::stride::<P>(Self::OFFSET, plan.inline)
    }

    /// Returns the length in bytes of a queue.
    pub(super) fn len(plan: &Plan) -> Result<usize> {
        let capacity = plan.capacity;
        let is_countable = u32::try_from(capacity).is_ok_and(|capacity| capacity > 0);
        if !is_countable {
            let text = format!("a queue has room for 1 to {} messages, not for {capacity}", u32::MAX);
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let (counts, slots) = ((capacity, capacity), (SLOTS, Self::stride(plan)));
        let (store_at, units) = sizes::behind_slots::<P>("queue", counts, slots, (plan.inline, plan.quota))?;
        let halves = halves_at(store_at, units).filter(|at| *at <= isize::MAX as usize);
        Ok(halves.map_or(usize::MAX, |at| at + size_of::<Halves>()))
    }

    /// Writes the geometry of a queue that no other process can see yet. The rest is fresh if it is
    /// zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128 and points to an object of this [`len`](Layout::len).
    pub(super) unsafe fn init(base: *mut u8, plan: &Plan) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        let (redeliver, varied) =
            (if plan.redeliver { REDELIVER } else { 0 }, if P::IS_FIXED { 0 } else { VARIED });
        geometry.capacity.store(plan.capacity as u64, Relaxed);
        // len() has checked it.
        geometry.stride.store(Self::stride(plan).unwrap_or(0) as u64, Relaxed);
        geometry.offset.store(Self::OFFSET as u64, Relaxed);
        geometry.size.store(size_of::<P::Element>() as u64, Relaxed);
        geometry.options.store(redeliver | varied, Relaxed);
        if !P::IS_FIXED {
            geometry.align.store(align_of::<P::Element>() as u64, Relaxed);
            geometry.units.store(sizes::units::<P>(plan.quota).unwrap_or(0), Relaxed);
        }
    }

    /// Returns the ring at `base`, if it is one for messages of this type; their area, if they
    /// differ in length; and the offset of the halves.
    ///
    /// # Safety
    ///
    /// As for [`Any::check`].
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<(Ring, Option<Area>, usize)> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let (size, align) = (size_of::<P::Element>(), align_of::<P::Element>());
        let stride = (Self::OFFSET + size).next_multiple_of(128);
        let fits = (found.offset, found.size) == (Self::OFFSET, size)
            && if P::IS_FIXED { found.align == 0 && found.stride == stride } else { found.align == align };
        fits.then_some((found.ring, found.area, found.halves_at))
    }
}

/// The layout of slots for messages whose size and alignment are known at run time only.
#[cfg(any(test, feature = "__internals"))]
pub(super) struct Fixed {
    pub(super) offset: usize,
    pub(super) size: usize,
}

#[cfg(any(test, feature = "__internals"))]
impl Fixed {
    pub(super) fn of(schema: &crate::message::Schema) -> Fixed {
        // An alignment of more than 128 is refused by len().
        let (size, align) = (schema.size() as usize, schema.align().max(1) as usize);
        Fixed { offset: WORD.next_multiple_of(align), size }
    }

    fn stride(&self) -> Option<usize> {
        self.offset.checked_add(self.size)?.checked_next_multiple_of(128)
    }

    /// As [`Layout::len`].
    pub(super) fn len(&self, capacity: usize) -> Result<usize> {
        let is_countable = u32::try_from(capacity).is_ok_and(|capacity| capacity > 0);
        let slots = self.stride().and_then(|stride| stride.checked_mul(capacity)?.checked_add(SLOTS));
        let halves = slots.and_then(|end| halves_at(end, 0)).filter(|at| *at <= isize::MAX as usize);
        match halves {
            Some(at) if is_countable && self.offset <= 128 => Ok(at + size_of::<Halves>()),
            _ => {
                let text = format!("a queue of {capacity} messages of {} bytes is not possible", self.size);
                Err(Error::new(ErrorKind::InvalidInput, text))
            }
        }
    }

    /// As [`Layout::init`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(super) unsafe fn init(&self, base: *mut u8, capacity: usize) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        geometry.capacity.store(capacity as u64, Relaxed);
        // len() has checked it.
        geometry.stride.store(self.stride().unwrap_or(0) as u64, Relaxed);
        geometry.offset.store(self.offset as u64, Relaxed);
        geometry.size.store(self.size as u64, Relaxed);
        geometry.options.store(0, Relaxed);
    }

    /// Finds out the layout of a queue of messages of a fixed size. `None` if it is none, or if its
    /// geometry does not fit into `len` bytes.
    ///
    /// # Safety
    ///
    /// As for [`Layout::check`].
    pub(super) unsafe fn find(base: *mut u8, len: usize) -> Option<(Ring, Fixed)> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let fixed = Fixed { offset: found.offset, size: found.size };
        (found.area.is_none() && Some(found.stride) == fixed.stride()).then_some((found.ring, fixed))
    }
}

/// Returns the offset of the halves, behind the slots and the store. `None` if the store is too
/// large.
fn halves_at(store_at: usize, units: u64) -> Option<usize> {
    let store_at = Some(store_at).filter(|_| units <= UNITS_MAX)?;
    store_at.checked_add(store_len(units))?.checked_next_multiple_of(128)
}

/// A queue of messages of any type.
struct Any {
    ring: Ring,
    stride: usize,
    offset: usize,
    size: usize,
    /// 0: messages do not differ in length.
    align: usize,
    area: Option<Area>,
    halves_at: usize,
}

impl Any {
    /// Reads the geometry and checks it against `len`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128, and `len` bytes from there stay mapped while the result or
    /// anything made of it is used.
    unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        if len < SLOTS {
            return None;
        }
        let descriptor = NonNull::new(base)?.cast::<Descriptor>();
        // SAFETY: mapped, aligned and long enough; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*descriptor.as_ptr()).geometry };
        let read = |word: &crate::loom::atomic::AtomicU64| usize::try_from(word.load(Relaxed)).ok();
        let (stride, offset, size) =
            (read(&geometry.stride)?, read(&geometry.offset)?, read(&geometry.size)?);
        let (align, units) = (read(&geometry.align)?, geometry.units.load(Relaxed));
        let options = geometry.options.load(Relaxed);
        let capacity =
            u32::try_from(geometry.capacity.load(Relaxed)).ok().filter(|capacity| *capacity > 0)?;
        let is_varied = options & VARIED != 0;
        let content_fits = if is_varied {
            let is_aligned = align.is_power_of_two() && align <= 128 && offset % align == 0;
            is_aligned && offset >= HEADER && offset <= stride
        } else {
            align == 0 && units == 0 && offset >= WORD && offset.checked_add(size)? <= stride
        };
        let store_at = stride.checked_mul(capacity as usize)?.checked_add(SLOTS)?;
        let halves_at = halves_at(store_at, units)?;
        let fits = stride % 128 == 0
            && content_fits
            && halves_at.checked_add(size_of::<Halves>())? <= len
            && options & !(REDELIVER | VARIED) == 0;
        if !fits {
            return None;
        }
        // SAFETY: `len` covers the descriptor and `capacity` slots of `stride` bytes after it. Each
        // slot begins with a word at a multiple of 128; its message follows the word.
        let ring = unsafe {
            let slots = descriptor.byte_add(SLOTS).cast::<u8>();
            Ring::new(descriptor, slots, stride, capacity, options & REDELIVER != 0)
        };
        // SAFETY: the store follows the slots, at a multiple of 128, and `len` covers it.
        let store = (units > 0).then(|| unsafe { Store::new(base.add(store_at), units) });
        let area = is_varied.then(|| Area::new(store, stride - offset, size, align));
        Some(Any { ring, stride, offset, size, align, area, halves_at })
    }

    /// Returns the words of the halves.
    fn halves(&self, base: *const u8) -> &Halves {
        // SAFETY: check() has found that they are inside of the object, at a multiple of 128. Any
        // bytes are Halves, which are atomics only.
        unsafe { &*base.add(self.halves_at).cast() }
    }

    /// Returns the bytes of the message in this slot; `None` if its header is damaged, or the
    /// message is being received.
    fn message(&self, index: u32) -> Option<(*const u8, usize)> {
        let inline = self.ring.message(index, self.offset);
        match &self.area {
            None => Some((inline, self.size)),
            Some(area) => area.find(self.ring.header(index), inline).map(|(at, len)| (at, len * self.size)),
        }
        .map(|(at, bytes)| (at.cast_const(), bytes))
    }
}

/// Takes every slot from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    let Some(found) = (unsafe { Any::check(base, len) }) else { return };
    match &found.area {
        Some(area) => {
            // First, because the ring wakes those that wait for room.
            area.recover(dead);
            found.ring.recover_with(dead, Some(&|name| area.free(name)));
        }
        None => found.ring.recover(dead),
    }
    found.halves(base).recover(&found.ring, dead);
}

/// Closes the queue if all halves of one side have left, and the last one was stopped before it
/// did.
pub(crate) fn settle(base: *mut u8, len: usize) {
    // SAFETY: as in `recover`.
    if let Some(found) = unsafe { Any::check(base, len) } {
        found.halves(base).close_if_left(&found.ring);
    }
}

/// Returns what `pagemate show` prints about a queue.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    // SAFETY: as in `recover`. Nothing below writes, so a read-only mapping is enough.
    let Some(found) = (unsafe { Any::check(base.cast_mut(), len) }) else {
        return vec![("damaged", "the geometry contradicts the size".to_string())];
    };
    let ring = found.ring;
    let mut state = vec![
        ("capacity", ring.capacity().to_string()),
        ("depth", ring.count(usize::MAX).to_string()),
        ("sent", ring.tail(Relaxed).passed(ring.capacity()).to_string()),
        ("received", ring.head(Relaxed).passed(ring.capacity()).to_string()),
        ("held", ring.held().to_string()),
        ("closed", ring.is_closed().to_string()),
        ("redeliver", ring.redelivers().to_string()),
        ("lost", ring.lost().to_string()),
        ("senders wait", ring.senders().is_waited_on().to_string()),
        ("receivers wait", ring.receivers().is_waited_on().to_string()),
        ("senders", found.halves(base).senders.number().to_string()),
        ("receivers", found.halves(base).receivers.number().to_string()),
    ];
    if let Some(area) = &found.area {
        state.extend(area.describe());
    }
    state
}

/// Returns the bytes of the message that is next in order. `None` if there is no message, or if
/// each is received before it has been read.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (index, word) = found.ring.peek()?;
        let bytes = found.message(index).map(|(at, len)| {
            // SAFETY: within the slot or a block. A producer may write there only after the word
            // has changed, which is checked below. Volatile, so that the bytes are read now.
            (0..len).map(|i| unsafe { at.add(i).read_volatile() }).collect()
        });
        crate::loom::atomic::fence(Acquire); // the reads above, then the check of the word
        if found.ring.is_still(index, word) {
            return bytes;
        }
    }
    None
}
