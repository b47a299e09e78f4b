//! The bytes of slots and stores of a new queue, ring or topic. The quota and the bytes of a slot
//! are the caller's choice if messages differ in length; messages of a fixed size ignore both.

use crate::heap::Store;
use crate::message::Payload;
use crate::{Error, ErrorKind, Result};

/// Returns the number of bytes of a message in its slot.
fn content<P: Payload + ?Sized>(inline: usize) -> usize {
    if P::IS_FIXED {
        size_of::<P::Element>()
    } else {
        inline
    }
}

/// Returns the number of bytes of a slot whose message is at `offset`: a multiple of 128. `None`:
/// too many.
pub(crate) fn stride<P: Payload + ?Sized>(offset: usize, inline: usize) -> Option<usize> {
    offset.checked_add(content::<P>(inline))?.checked_next_multiple_of(128)
}

/// Returns the number of units of the store; `None`: the quota is too large.
pub(crate) fn units<P: Payload + ?Sized>(quota: u64) -> Option<u64> {
    if P::IS_FIXED {
        Some(0)
    } else {
        Store::units_for(quota)
    }
}

/// Returns the length in bytes of a store. If it is too large for any object, the result is, too.
pub(crate) fn store_len(units: u64) -> usize {
    match units {
        0 => 0,
        _ => usize::try_from(Store::len_for(units)).unwrap_or(usize::MAX),
    }
}

/// Returns the offset of what follows the slots, and the units of the store. `what` is "queue" or
/// "topic"; `first` and `stride` are those of its slots.
pub(crate) fn behind_slots<P: Payload + ?Sized>(
    what: &str,
    (capacity, slots): (usize, usize),
    (first, stride): (usize, Option<usize>),
    (inline, quota): (usize, u64),
) -> Result<(usize, u64)> {
    let end = stride.and_then(|stride| stride.checked_mul(slots)?.checked_add(first));
    let end = end.filter(|len| *len <= isize::MAX as usize).ok_or_else(|| {
        let size = content::<P>(inline);
        let text =
            format!("a {what} of {capacity} messages of {size} bytes each is larger than the address space");
        Error::new(ErrorKind::InvalidInput, text)
    })?;
    let units = units::<P>(quota).ok_or_else(|| {
        let text = format!("the quota of a {what} is 128 GiB at most, and not {quota} bytes");
        Error::new(ErrorKind::InvalidInput, text)
    })?;
    Ok((end, units))
}
