//! The layout of a queue in memory, checked once for each handle; and the functions that work
//! without the type.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::descriptor::{Descriptor, Geometry};
use super::ring::Ring;
use crate::message::Message;
use crate::segment::owner::OwnerId;
use crate::{Error, ErrorKind, Result};

pub(super) const SLOTS: usize = size_of::<Descriptor>();
/// The smallest offset of a message: after the word.
const WORD: usize = 8;
/// The only option: messages of dead consumers are delivered again.
const REDELIVER: u64 = 1;
/// Attempts of a peek whose message is received meanwhile.
const PEEKS: usize = 8;

/// The layout of slots for messages of one type.
#[derive(Debug)]
pub(super) struct Layout<T>(PhantomData<T>);

impl<T: Message> Layout<T> {
    /// The offset of the message in its slot.
    pub(super) const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "messages aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > WORD {
            align_of::<T>()
        } else {
            WORD
        }
    };
    const STRIDE: usize = (Self::OFFSET + size_of::<T>()).next_multiple_of(128);

    /// Returns the length in bytes of a queue of this capacity.
    pub(super) fn len(capacity: usize) -> Result<usize> {
        let is_countable = u32::try_from(capacity).is_ok_and(|capacity| capacity > 0);
        if !is_countable {
            let text = format!("a queue has room for 1 to {} messages, not for {capacity}", u32::MAX);
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let len = Self::STRIDE.checked_mul(capacity).and_then(|len| len.checked_add(SLOTS));
        len.filter(|len| *len <= isize::MAX as usize).ok_or_else(|| {
            let text = format!(
                "a queue of {capacity} messages of {} bytes each is larger than the address space",
                Self::STRIDE
            );
            Error::new(ErrorKind::InvalidInput, text)
        })
    }

    /// Writes the geometry of a queue that no other process can see yet. The rest is fresh if it is
    /// zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128 and points to an object of this [`len`](Layout::len).
    pub(super) unsafe fn init(base: *mut u8, capacity: usize, redeliver: bool) {
        // SAFETY: promised by the caller; any bytes are a Descriptor.
        let geometry: &Geometry = unsafe { &(*base.cast::<Descriptor>()).geometry };
        geometry.capacity.store(capacity as u64, Relaxed);
        geometry.stride.store(Self::STRIDE as u64, Relaxed);
        geometry.offset.store(Self::OFFSET as u64, Relaxed);
        geometry.size.store(size_of::<T>() as u64, Relaxed);
        geometry.options.store(if redeliver { REDELIVER } else { 0 }, Relaxed);
    }

    /// Returns the ring at `base`, if it is one for messages of this type.
    ///
    /// # Safety
    ///
    /// As for [`Any::check`].
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Ring> {
        // SAFETY: promised by the caller.
        let found = unsafe { Any::check(base, len) }?;
        let fits = (found.stride, found.offset, found.size) == (Self::STRIDE, Self::OFFSET, size_of::<T>());
        fits.then_some(found.ring)
    }
}

/// A queue of messages of any type.
struct Any {
    ring: Ring,
    stride: usize,
    offset: usize,
    size: usize,
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
        let options = geometry.options.load(Relaxed);
        let capacity =
            u32::try_from(geometry.capacity.load(Relaxed)).ok().filter(|capacity| *capacity > 0)?;
        let fits = stride % 128 == 0
            && offset >= WORD
            && offset.checked_add(size).is_some_and(|end| end <= stride)
            && stride.checked_mul(capacity as usize).is_some_and(|slots| slots <= len - SLOTS)
            && options & !REDELIVER == 0;
        if !fits {
            return None;
        }
        // SAFETY: `len` covers the descriptor and `capacity` slots of `stride` bytes after it. Each
        // slot begins with a word at a multiple of 128; its message follows the word.
        let ring = unsafe {
            let slots = descriptor.byte_add(SLOTS).cast::<u8>();
            Ring::new(descriptor, slots, stride, capacity, options & REDELIVER != 0)
        };
        Some(Any { ring, stride, offset, size })
    }
}

/// Takes every slot from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    if let Some(found) = unsafe { Any::check(base, len) } {
        found.ring.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a queue.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    // SAFETY: as in `recover`. Nothing below writes, so a read-only mapping is enough.
    let Some(found) = (unsafe { Any::check(base.cast_mut(), len) }) else {
        return vec![("damaged", "the geometry contradicts the size".to_string())];
    };
    let ring = found.ring;
    vec![
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
    ]
}

/// Returns the bytes of the message that is next in order. `None`: there is no message, or each is
/// received at once.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (index, word) = found.ring.peek()?;
        let at = found.ring.message(index, found.offset).cast_const();
        // SAFETY: within the slot. A producer may write there only after the word has changed,
        // which is checked below. Volatile, so that the bytes are read now.
        let bytes = (0..found.size).map(|i| unsafe { at.add(i).read_volatile() }).collect();
        crate::loom::atomic::fence(Acquire); // the reads above, then the check of the word
        if found.ring.is_still(index, word) {
            return Some(bytes);
        }
    }
    None
}
