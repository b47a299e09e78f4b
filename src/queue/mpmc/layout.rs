//! Where everything of a queue is in memory: made once, checked once, and what can be done without knowing
//! the type.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::ring::{Control, Geometry, Ring};
use crate::kind::Kind;
use crate::message::Message;
use crate::owner::OwnerId;
use crate::place::Shape;
use crate::{Error, ErrorKind, Result};

const SLOTS: usize = size_of::<Control>();
/// Where a message can be at the earliest: behind the word.
const WORD: usize = 8;
/// The only option: what dead consumers held is delivered again.
const REDELIVER: u64 = 1;
/// A peek that finds its message gone tries again so often.
const PEEKS: usize = 8;

/// Slots for messages of one type.
#[derive(Debug)]
pub(super) struct Layout<T>(PhantomData<T>);

impl<T: Message> Layout<T> {
    /// Where in a slot the message is.
    pub(super) const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "messages aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > WORD {
            align_of::<T>()
        } else {
            WORD
        }
    };
    const STRIDE: usize = (Self::OFFSET + size_of::<T>()).next_multiple_of(128);

    pub(super) fn shape(capacity: usize) -> Result<Shape> {
        let len = Self::STRIDE.checked_mul(capacity).and_then(|len| len.checked_add(SLOTS));
        match (u32::try_from(capacity), len) {
            (Ok(1..), Some(len)) => Ok(Shape { kind: Kind::Queue, schema: T::schema().to_string(), len }),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a queue of {capacity} messages is not possible: 1 to {} are, if there is memory",
                    u32::MAX
                ),
            )),
        }
    }

    /// Writes down the geometry of a queue that nobody else can see yet. The rest is fresh if it is zero.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128, and the bytes of a [`shape`](Layout::shape) are there.
    pub(super) unsafe fn init(base: *mut u8, capacity: usize, redeliver: bool) {
        // SAFETY: promised by the caller; any bytes are a Control.
        let geometry: &Geometry = unsafe { &(*base.cast::<Control>()).geometry };
        geometry.capacity.store(capacity as u64, Relaxed);
        geometry.stride.store(Self::STRIDE as u64, Relaxed);
        geometry.offset.store(Self::OFFSET as u64, Relaxed);
        geometry.size.store(size_of::<T>() as u64, Relaxed);
        geometry.options.store(if redeliver { REDELIVER } else { 0 }, Relaxed);
    }

    /// The ring at `base`, if it is one for messages of this type.
    ///
    /// # Safety
    ///
    /// As [`Any::check`].
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
    /// Reads the geometry and holds it against `len`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128; `len` bytes from it on are mapped, as long as the result or anything made of
    /// it is used.
    unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        if len < SLOTS {
            return None;
        }
        let control = NonNull::new(base)?.cast::<Control>();
        // SAFETY: mapped, aligned and long enough; any bytes are a Control.
        let geometry: &Geometry = unsafe { &(*control.as_ptr()).geometry };
        let read = |word: &std::sync::atomic::AtomicU64| usize::try_from(word.load(Relaxed)).ok();
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
        // SAFETY: the control is there, and so are `capacity` slots of `stride` bytes behind it, each of
        // which begins with a word at a multiple of 128; messages begin behind the word.
        let ring = unsafe {
            let slots = control.byte_add(SLOTS).cast::<u8>();
            Ring::new(control, slots, stride, capacity, options & REDELIVER != 0)
        };
        Some(Any { ring, stride, offset, size })
    }
}

/// Takes every slot from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128.
    if let Some(found) = unsafe { Any::check(base, len) } {
        found.ring.recover(dead);
    }
}

/// What `pagemate show` says about a queue.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    // SAFETY: as in `recover`. Nothing below writes, so a mapping for reading does.
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

/// The bytes of the message that would be received next. `None`: there is none, or it is being received all
/// the time.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (index, word) = found.ring.peek()?;
        let at = found.ring.message(index, found.offset).cast_const();
        // SAFETY: within the slot. A producer may write there only after the word has changed, which shows
        // below; volatile, so that the bytes are read now.
        let bytes = (0..found.size).map(|i| unsafe { at.add(i).read_volatile() }).collect();
        std::sync::atomic::fence(Acquire); // the reads above, then the look at the word
        if found.ring.is_still(index, word) {
            return Some(bytes);
        }
    }
    None
}
