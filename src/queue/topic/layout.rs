//! The layout of a topic in memory, checked once for each handle; and the functions that work
//! without the type.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::descriptor::{Descriptor, Geometry, Line, Slot};
use super::line::Mode;
use super::policy::Policy;
use super::ring::{Ring, Shape};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::message::Message;
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

/// The offset of the lines.
pub(super) const LINES: usize = size_of::<Descriptor>();
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
/// Attempts of a peek whose message is overwritten meanwhile.
const PEEKS: usize = 8;

/// Returns the number of slots of a topic of this capacity.
fn slots_for(capacity: usize) -> usize {
    capacity.saturating_add(SPARE_MIN.max(capacity / SPARE_SHARE))
}

/// The layout of slots for messages of one type.
#[derive(Debug)]
pub(super) struct Layout<T>(PhantomData<T>);

impl<T: Message> Layout<T> {
    /// The offset of the message in its slot.
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "messages aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > size_of::<Slot>() {
            align_of::<T>()
        } else {
            size_of::<Slot>()
        }
    };
    const STRIDE: usize = (Self::OFFSET + size_of::<T>()).next_multiple_of(128);

    /// Returns the length in bytes of a topic of this capacity.
    pub(super) fn len(capacity: usize) -> Result<usize> {
        let slots = slots_for(capacity);
        let is_countable = capacity > 0 && slots < u32::MAX as usize;
        if !is_countable {
            let most = u32::MAX as usize / (SPARE_SHARE + 1) * SPARE_SHARE;
            let text = format!("a topic keeps 1 to {most} messages, not {capacity}");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let before = LINES + SUBSCRIBERS as usize * size_of::<Line>();
        let len = Self::STRIDE.checked_mul(slots).and_then(|len| len.checked_add(before));
        len.filter(|len| *len <= isize::MAX as usize).ok_or_else(|| {
            let text = format!(
                "a topic of {capacity} messages of {} bytes each is larger than the address space",
                Self::STRIDE
            );
            Error::new(ErrorKind::InvalidInput, text)
        })
    }

    /// Writes the geometry of a topic that no other process can see yet. The rest is fresh if it is
    /// zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128 and points to an object of this [`len`](Layout::len).
    pub(super) unsafe fn init(base: *mut u8, capacity: usize, policy: Policy, ends: bool) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        geometry.capacity.store(capacity as u64, Relaxed);
        geometry.slots.store(slots_for(capacity) as u64, Relaxed);
        geometry.stride.store(Self::STRIDE as u64, Relaxed);
        geometry.offset.store(Self::OFFSET as u64, Relaxed);
        geometry.size.store(size_of::<T>() as u64, Relaxed);
        geometry.lines.store(u64::from(SUBSCRIBERS), Relaxed);
        geometry.options.store(policy as u64 | if ends { ENDS } else { 0 }, Relaxed);
    }

    /// Returns the ring at `base`, if it is one for messages of this type.
    ///
    /// # Safety
    ///
    /// As for [`Any::check`].
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Ring> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let shape = found.ring.shape();
        let fits = (shape.stride, shape.offset, found.size) == (Self::STRIDE, Self::OFFSET, size_of::<T>());
        fits.then_some(found.ring)
    }
}

/// A topic of messages of any type.
pub(crate) struct Any {
    pub(crate) ring: Ring,
    /// The size of a message.
    pub(crate) size: usize,
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
        let (policy, ends) = (Policy::from_number(options & !ENDS)?, options & ENDS != 0);
        let before = LINES + lines as usize * size_of::<Line>();
        let fits = stride % 128 == 0
            && offset % 8 == 0
            && offset >= size_of::<Slot>()
            && offset.checked_add(size).is_some_and(|end| end <= stride)
            && capacity < slots
            && slots < u32::MAX
            && before <= len
            && stride.checked_mul(slots as usize).is_some_and(|slots| slots <= len - before);
        if !fits {
            return None;
        }
        let shape = Shape { capacity, slots, lines, stride, offset, words: size.div_ceil(8), policy, ends };
        // SAFETY: `len` covers the descriptor, the lines and the slots after them. Each slot begins
        // at a multiple of 128; the words of its message are inside of it, because its length is a
        // multiple of 8.
        let ring = unsafe {
            let lines = descriptor.byte_add(LINES).cast::<Line>();
            Ring::new(descriptor, lines, descriptor.byte_add(before).cast::<u8>(), shape)
        };
        Some(Any { ring, size })
    }
}

/// Takes every slot, pin, line and publisher from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    if let Some(found) = unsafe { Any::check(base, len) } {
        found.ring.recover(dead);
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
    state
}

/// Returns the bytes of the newest message. `None`: there is none, or each is overwritten at once.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (index, word) = found.ring.newest()?;
        let words = found.ring.words(index);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        crate::loom::atomic::fence(Acquire); // pairs with the fence in begin()
        if found.ring.is_still(index, word) {
            bytes.truncate(found.size);
            return Some(bytes);
        }
    }
    None
}
