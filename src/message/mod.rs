//! Messages: values that may cross from one process to another, and the text that describes their bytes.

mod encode;
mod item_type;
mod mismatch;
mod padded;
mod parse;
mod primitive;
pub mod private;
mod render;
mod schema;

use std::mem::MaybeUninit;
use std::sync::atomic::{compiler_fence, Ordering};

use bytemuck::AnyBitPattern;

pub use item_type::ItemType;
pub(crate) use mismatch::mismatch;
pub(crate) use padded::CachePadded;
pub use schema::Schema;

/// A value that may cross between processes: fixed layout, no pointers, no padding, checked on receipt.
///
/// Integers of fixed size, floats, `bool`, `char`, `()`, arrays of messages, and every struct or fieldless enum that
/// derives it. `#[derive(Message)]` refuses, and says which field it is about:
///
/// - `usize` and `isize`, which have another size on another platform: use `u64` and `i64`;
/// - references and pointers, which mean nothing in another process: put the data itself, or an index;
/// - padding between or after the fields: add `_pad: [u8; 3]`, or order the fields from large to small;
/// - structs that are not `#[repr(C)]` or `#[repr(transparent)]`, since the compiler may order their fields at will;
/// - enums that do not say their integer, `#[repr(u8)]`, or that carry data.
///
/// # Examples
///
/// A struct and an enum. Fields whose names begin with `_` are not shown when a message is printed.
///
/// ```
/// use pagemate::Message;
///
/// #[derive(Clone, Copy, Message)]
/// #[repr(u8)]
/// enum Side {
///     Buy,
///     Sell,
/// }
///
/// #[derive(Clone, Copy, Message)]
/// #[repr(C)]
/// struct Tick {
///     price: f64,
///     side: Side,
///     _pad: [u8; 7],
/// }
///
/// assert_eq!(
///     Tick::schema().to_string(),
///     "struct Tick size 16 align 8 { 0 price: f64, 8 side: enum Side u8 { Buy = 0, Sell = 1 }, 9 _pad: [u8; 7] }",
/// );
/// ```
///
/// Generic over messages. Padding depends on `T`, so it is looked for when the type is used with a particular `T`:
/// `cargo build` and `cargo test` find it, `cargo check` does not.
///
/// ```
/// use pagemate::Message;
///
/// #[derive(Clone, Copy, Message)]
/// #[repr(C)]
/// struct Stamped<T: Message> {
///     nanoseconds: u64,
///     value: T,
/// }
///
/// assert!(Stamped::<[u8; 8]>::schema().to_string().starts_with("struct Stamped<[u8; 8]> size 16 align 8"));
/// ```
///
/// ```compile_fail
/// # use pagemate::Message;
/// #[derive(Clone, Copy, Message)]
/// #[repr(C)]
/// struct Slow {
///     flag: bool, // three bytes of padding follow
///     count: u32,
/// }
/// ```
///
/// # With bytemuck
///
/// The bounds of soundness are bytemuck's: the bytes of [`Bits`](Message::Bits) are `AnyBitPattern`, and what is not
/// generic also gets `NoUninit` and `CheckedBitPattern`. They are no supertraits, because bytemuck lacks them for
/// arrays of checked types (`[Side; 4]`), and a generic struct must not have them: whether it has padding is known only
/// when it is used. A type that derives bytemuck's traits itself says `#[message(no_bytemuck)]`. A crate that re-exports
/// pagemate says `#[message(crate = "its::pagemate")]`.
///
/// # Safety
///
/// Derive it; the derive checks all of this. A hand-written implementation promises:
///
/// - `Bits` has the size and alignment of `Self`, and holds the same bytes;
/// - if `is_valid_bits` returns true, the bytes are a valid `Self`, and for `ANY_BITS` it is true always;
/// - if `CHECKED` compiles, `Self` has no padding and no uninitialised bytes;
/// - `ZERO_VALID` is true only if all bytes zero are a valid `Self`;
/// - there are no pointers and no interior mutability in it;
/// - `schema` describes this layout.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a message",
    label = "not a message",
    note = "for your own type: `#[derive(Clone, Copy, pagemate::Message)]` and `#[repr(C)]`, or `#[repr(u8)]` on an enum",
    note = "for `usize` and `isize`: its size differs between platforms: use `u64` or `i64`",
    note = "for references, pointers, `String`, `Vec`: they mean nothing in another process: use an array such as `[u8; 64]`"
)]
pub unsafe trait Message: Copy + Send + Sync + 'static {
    /// The same bytes without a meaning: same size, same alignment, every bit pattern valid.
    type Bits: AnyBitPattern;

    /// Whether every bit pattern is a valid value, so that nothing needs to be checked on receipt.
    const ANY_BITS: bool;

    /// Whether all bytes zero are a valid value.
    const ZERO_VALID: bool;

    /// Does not compile if the type has padding. Whoever looks at the bytes of a `T: Message` names `T::CHECKED` first.
    const CHECKED: () = ();

    /// Whether these bits are a valid value.
    fn is_valid_bits(bits: &Self::Bits) -> bool;

    /// The layout of the type: what two programs compare.
    fn schema() -> Schema;
}

/// Copies a message out of shared memory, then looks whether the copy is a valid value.
///
/// The order matters: a hostile process may change the original between the look and the copy.
///
/// # Safety
///
/// `src` is readable for `size_of::<T>()` bytes, which need not be aligned. No well-behaved process writes there
/// meanwhile.
#[inline]
pub(crate) unsafe fn read<T: Message>(src: *const u8) -> Option<T> {
    let () = T::CHECKED;
    let mut copy = MaybeUninit::<T>::uninit();
    // SAFETY: readable for the size of T, and the copy is of this size and nobody else's.
    unsafe { src.copy_to_nonoverlapping(copy.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    if !T::ANY_BITS {
        // Without it the compiler might look at the original and not at the copy.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: Bits has size and alignment of T (promised by Message), and every bit pattern is a valid Bits.
        let bits = unsafe { &*copy.as_ptr().cast::<T::Bits>() };
        if !T::is_valid_bits(bits) {
            return None;
        }
    }
    // SAFETY: all bytes were written, and they are a valid T.
    Some(unsafe { copy.assume_init() })
}

/// Whether the bytes at `src` are a valid value, so that they may be used in place.
///
/// Says nothing about what another process makes of them afterwards; only a copy ([`read`]) is safe from that.
///
/// # Safety
///
/// `src` is readable for `size_of::<T>()` bytes. No well-behaved process writes there meanwhile.
#[inline]
pub(crate) unsafe fn is_valid<T: Message>(src: *const u8) -> bool {
    let () = T::CHECKED;
    if T::ANY_BITS {
        return true;
    }
    let src = src.cast::<T::Bits>();
    if src.is_aligned() {
        // SAFETY: readable for the size of T, which is the size of its Bits, aligned, and every bit pattern is a
        // valid Bits.
        T::is_valid_bits(unsafe { &*src })
    } else {
        // SAFETY: as above, and read_unaligned needs no alignment.
        T::is_valid_bits(&unsafe { src.read_unaligned() })
    }
}

/// Puts a message into shared memory.
///
/// # Safety
///
/// `dst` is writable for `size_of::<T>()` bytes, which need not be aligned. Nobody reads or writes there meanwhile.
#[inline]
pub(crate) unsafe fn write<T: Message>(dst: *mut u8, value: T) {
    let () = T::CHECKED;
    // SAFETY: writable for the size of T.
    unsafe { dst.cast::<T>().write_unaligned(value) }
}

/// The bytes of a message, all of them initialised.
#[inline]
pub(crate) fn bytes_of<T: Message>(value: &T) -> &[u8] {
    let () = T::CHECKED;
    // SAFETY: a T has size_of::<T>() bytes, none of them padding (CHECKED compiled), and no interior mutability.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

#[cfg(test)]
mod tests;
