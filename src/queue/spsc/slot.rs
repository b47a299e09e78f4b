//! The layout of a ring's slots, checked once for each handle; what is in a slot whose messages
//! differ in length; and the functions that work without the type.
//!
//! # State
//!
//! Messages of a fixed size follow each other. Otherwise a slot is a multiple of 128 bytes: a
//! [`Header`], then the bytes of a short message. A longer one is a block of the store.
//!
//! # Death
//!
//! The table of [`header`](crate::queue::payload::header) holds, with the producer's role in place
//! of the slot's word. A block that is LIVE and was not sent is named by the slot at `tail`.
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | producer dies, block CLAIMED | reaping | the store's own recovery | nothing |
//! | producer dies, block LIVE, not sent | reaping | [`recover`] frees it | what was not sent |
//! | producer dies after sending | not needed | the consumer frees the block | nothing |
//! | consumer dies | nobody | nobody: the ring is over, and its memory ends with it | all |
//! | a reaper is late | not needed | the block has another generation | nothing |
//!
//! [`recover`] frees the block before it ends the role. If every slot has an unread message, none
//! is the producer's, and nothing is freed.

use std::marker::PhantomData;

use super::cursor::{Control, CAPACITY_MAX};
use super::endpoint::{both, Endpoint, SLOTS};
use super::{Consumer, Producer};
use crate::heap::{Store, UNITS_MAX};
use crate::loom::atomic::Ordering::Acquire;
use crate::message::{Payload, Varied};
use crate::queue::payload::area::{find, Area};
use crate::queue::payload::header::Header;
use crate::queue::payload::sizes::{self, store_len};
use crate::queue::payload::QUOTA;
use crate::segment::object::Object;
use crate::segment::owner::OwnerId;
use crate::segment::place::Place;
use crate::{Error, ErrorKind, Result};

/// Attempts of a peek whose message is received meanwhile.
const PEEKS: usize = 8;

/// The numbers that a new ring is built with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    capacity: usize,
    inline: usize,
    quota: u64,
}

/// Returns the offset of a short message in its slot.
const fn offset(align: usize) -> usize {
    size_of::<Header>().next_multiple_of(align)
}

impl Plan {
    pub(super) fn of(capacity: usize) -> Plan {
        Plan { capacity, inline: 0, quota: QUOTA }
    }

    fn stride<T: Payload + ?Sized>(&self) -> Option<usize> {
        if T::IS_FIXED {
            return Some(size_of::<T::Element>());
        }
        sizes::stride::<T>(offset(align_of::<T::Element>()), self.inline)
    }

    pub(super) fn len<T: Payload + ?Sized>(&self) -> Result<usize> {
        let Plan { capacity, .. } = *self;
        let slots = self.stride::<T>().and_then(|stride| stride.checked_mul(capacity)?.checked_add(SLOTS));
        let is_possible = |len: &usize| *len as u64 <= CAPACITY_MAX;
        match (slots.filter(is_possible), sizes::units::<T>(self.quota)) {
            (Some(slots), Some(units)) if (1..=CAPACITY_MAX).contains(&(capacity as u64)) => {
                Ok(slots.saturating_add(store_len(units)))
            }
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a ring of {capacity} messages is not possible: it has 1 to {CAPACITY_MAX} messages, \
                     and at most {CAPACITY_MAX} bytes"
                ),
            )),
        }
    }

    pub(super) fn init<T: Payload + ?Sized>(&self, control: &Control) {
        // len() has checked both.
        let (stride, units) = (self.stride::<T>().unwrap_or(0), sizes::units::<T>(self.quota).unwrap_or(0));
        control.init(self.capacity as u64, stride as u64);
        if !T::IS_FIXED {
            control.init_varied(size_of::<T::Element>() as u64, align_of::<T::Element>() as u64, units);
        }
    }
}

/// A builder for a ring whose messages differ in length: see [`builder`].
pub struct RingBuilder<T: Varied + ?Sized> {
    plan: Plan,
    _messages: PhantomData<fn(&T) -> &T>,
}

/// Returns a builder for a ring of `capacity` messages that differ in length.
///
/// # Examples
///
/// ```
/// use pagemate::queue::spsc;
///
/// # fn main() -> pagemate::Result<()> {
/// let (mut frames, mut viewer) = spsc::builder::<[u8]>(4).quota(8 << 20).build()?;
/// frames.send(&vec![7; 2 << 20])?;
/// assert_eq!(viewer.recv_ref()?.len(), 2 << 20);
/// # Ok(())
/// # }
/// ```
pub fn builder<T: Varied + ?Sized>(capacity: usize) -> RingBuilder<T> {
    RingBuilder { plan: Plan::of(capacity), _messages: PhantomData }
}

impl<T: Varied + ?Sized> RingBuilder<T> {
    /// Sets the number of bytes for messages that do not fit into a slot. The default is 1 MiB. See
    /// [`QueueBuilder::quota`](crate::queue::QueueBuilder::quota).
    pub fn quota(mut self, bytes: u64) -> RingBuilder<T> {
        self.plan.quota = bytes;
        self
    }

    /// Sets the length in bytes of the longest message that is stored in its slot, without using
    /// the quota. It is rounded up so that slots are multiples of 128 bytes, of which the header
    /// takes 16. The default is 112: one such multiple.
    pub fn inline(mut self, bytes: usize) -> RingBuilder<T> {
        self.plan.inline = bytes;
        self
    }

    /// Creates an anonymous ring, like [`spsc`](crate::spsc()).
    ///
    /// # Errors
    ///
    /// As [`spsc`](crate::spsc()).
    pub fn build(self) -> Result<(Producer<T>, Consumer<T>)> {
        both(self.plan)
    }

    /// Creates the ring at `place` and becomes its producer, like [`Producer::create`].
    ///
    /// # Errors
    ///
    /// As [`Producer::create`].
    pub fn create_producer(self, place: impl Into<Place>) -> Result<Producer<T>> {
        Producer::join(Endpoint::create(place, self.plan)?)
    }

    /// Creates the ring at `place` and becomes its consumer, like [`Consumer::create`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::create`].
    pub fn create_consumer(self, place: impl Into<Place>) -> Result<Consumer<T>> {
        Consumer::join(Endpoint::create(place, self.plan)?)
    }
}

impl<T: Varied + ?Sized> std::fmt::Debug for RingBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingBuilder").field("plan", &self.plan).finish()
    }
}

impl<T: Payload + ?Sized> Endpoint<T> {
    /// Returns the header of a slot, which is less than `capacity`. Only if messages differ in
    /// length.
    #[inline(always)]
    pub(super) fn header(&self, slot: usize) -> &Header {
        debug_assert!(!T::IS_FIXED);
        // SAFETY: the slot begins with a header, which is atomics; it is within the object, at a
        // multiple of 128, and mapped as long as `self` lives.
        unsafe { &*self.slot(slot).cast::<Header>() }
    }

    /// Returns the address of a short message in its slot.
    #[inline(always)]
    pub(super) fn short(&self, slot: usize) -> *mut T::Element {
        self.slot(slot).wrapping_byte_add(if T::IS_FIXED { 0 } else { offset(align_of::<T::Element>()) })
    }

    /// Returns the elements of a slot's message: their address and their number. `None` if the
    /// header is damaged.
    #[inline(always)]
    pub(super) fn find(&self, slot: usize) -> Option<(*mut T::Element, usize)> {
        let at = self.short(slot);
        if T::IS_FIXED {
            return Some((at, 1));
        }
        let size = size_of::<T::Element>();
        let (at, len) = find(self.area.as_ref(), self.header(slot), at.cast(), size, self.inline)?;
        Some((at.cast(), len))
    }

    /// Frees the block of a message that was received.
    #[inline(always)]
    pub(super) fn finish(&self, slot: usize) {
        if let (false, Some(area)) = (T::IS_FIXED, &self.area) {
            area.finish(self.header(slot));
        }
    }

    /// Frees the block of a message that is not sent: also of one whose loan was forgotten.
    #[inline(always)]
    pub(super) fn abandon(&self, slot: usize) {
        if let (false, Some(area)) = (T::IS_FIXED, &self.area) {
            area.abandon(self.header(slot));
        }
    }
}

/// A ring of messages of any type.
pub(super) struct Any {
    pub(super) capacity: usize,
    pub(super) stride: usize,
    size: usize,
    /// 0: messages do not differ in length.
    align: usize,
    pub(super) area: Option<Area>,
}

impl Any {
    /// Reads the geometry and checks it against `len`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 128, and `len` bytes from there stay mapped while the result or
    /// anything made of it is used.
    pub(super) unsafe fn check(base: *mut u8, len: usize) -> Option<Any> {
        let control = control_at(base, len)?;
        let read = |word: u64| usize::try_from(word).ok();
        let (capacity, stride) = (read(control.capacity())?, read(control.stride())?);
        let (size, align, units) = control.varied();
        let (size, align) = (read(size)?, read(align)?);
        let store_at = capacity.checked_mul(stride)?.checked_add(SLOTS)?;
        let is_varied = align != 0;
        let content_fits = if is_varied {
            align.is_power_of_two() && align <= 128 && stride % 128 == 0 && stride >= offset(align)
        } else {
            size == 0 && units == 0
        };
        let fits = (1..=CAPACITY_MAX).contains(&(capacity as u64))
            && content_fits
            && units <= UNITS_MAX
            && store_at.checked_add(store_len(units))? <= len;
        if !fits {
            return None;
        }
        // SAFETY: the store follows the slots, at a multiple of 128, and `len` covers it.
        let store = (units > 0).then(|| unsafe { Store::new(base.add(store_at), units) });
        let area = is_varied.then(|| Area::new(store, stride - offset(align), size, align));
        Some(Any { capacity, stride, size, align, area })
    }

    pub(super) fn is_of<T: Payload + ?Sized>(&self) -> bool {
        let (size, align) = (size_of::<T::Element>(), align_of::<T::Element>());
        if T::IS_FIXED {
            self.align == 0 && self.stride == size
        } else {
            (self.size, self.align) == (size, align)
        }
    }

    /// Returns the header of the slot of this position, and the address of a short message.
    fn slot(&self, base: *mut u8, position: u64) -> (&Header, *mut u8) {
        let slot = (position % self.capacity as u64) as usize;
        let at = base.wrapping_add(SLOTS + slot * self.stride);
        // SAFETY: within the object, as check() has found, aligned, and mapped as long as `self` is
        // used; any bytes are a Header. Only called if slots have headers.
        (unsafe { &*at.cast::<Header>() }, at.wrapping_add(offset(self.align)))
    }
}

/// Returns the control block of an object of any content.
fn control_at<'a>(base: *const u8, len: usize) -> Option<&'a Control> {
    // SAFETY: the caller keeps the object mapped while it uses the result; objects are aligned to
    // 128, and this one is long enough; any bytes are a Control.
    (len >= SLOTS).then(|| unsafe { &*base.cast::<Control>() })
}

/// Ends the roles of `dead` and wakes the waiters.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    let Some(control) = control_at(base, len) else { return };
    // SAFETY: the caller keeps the object mapped during the call; objects are aligned to 128.
    if let Some(found) = unsafe { Any::check(base, len) } {
        if let Some(area) = &found.area {
            area.recover(dead);
            let (head, tail) = control.positions();
            // Not if the slot is still the consumer's.
            if control.producer().is_of(dead) && tail.wrapping_sub(head) < found.capacity as u64 {
                area.abandon_of_dead(found.slot(base, tail).0);
            }
        }
    }
    control.recover(dead);
}

/// Returns what `pagemate show` prints about a ring.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(control) = control_at(base, len) else { return Vec::new() };
    let (head, tail) = control.positions();
    let (consumer_waits, producer_waits) = control.is_waited_on();
    let mut state = vec![
        ("capacity", control.capacity().to_string()),
        ("depth", tail.wrapping_sub(head).min(control.capacity()).to_string()),
        ("sent", tail.to_string()),
        ("received", head.to_string()),
        ("producer", control.producer().describe()),
        ("consumer", control.consumer().describe()),
        ("producer waits", producer_waits.to_string()),
        ("consumer waits", consumer_waits.to_string()),
    ];
    // SAFETY: as in `recover`. Nothing below writes, so a read-only mapping is enough.
    if let Some(area) = unsafe { Any::check(base.cast_mut(), len) }.and_then(|found| found.area) {
        state.extend(area.describe());
    }
    state
}

/// Returns the bytes of the message that is next in order. `None` if there is no message, or if
/// each is received before it has been read.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    let control = control_at(base, len)?;
    // SAFETY: as in `describe`.
    let found = unsafe { Any::check(base.cast_mut(), len) }?;
    for _ in 0..PEEKS {
        let (head, tail) = control.positions();
        if head == tail {
            return None;
        }
        let message = match &found.area {
            None => {
                let slot = (head % found.capacity as u64) as usize;
                Some((base.wrapping_add(SLOTS + slot * found.stride), found.stride))
            }
            Some(area) => {
                let (header, short) = found.slot(base.cast_mut(), head);
                area.find(header, short).map(|(at, len)| (at.cast_const(), len * found.size))
            }
        };
        // SAFETY: within a slot or a block of the object. The producer may write there only after
        // the head has moved, which is checked below. Volatile, so that the bytes are read now.
        let bytes = message.map(|(at, len)| (0..len).map(|i| unsafe { at.add(i).read_volatile() }).collect());
        crate::loom::atomic::fence(Acquire); // the reads above, then the check of the head
        if control.positions().0 == head {
            return bytes;
        }
    }
    None
}
