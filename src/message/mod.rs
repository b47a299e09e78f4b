//! Messages: values that may cross from one process to another, and the text that describes their
//! bytes.

mod derived;
mod encode;
mod item_type;
mod mismatch;
mod padded;
mod parse;
pub(crate) mod payload;
mod primitive;
pub mod private;
mod render;
mod schema;
pub(crate) mod wide_load;

use std::mem::MaybeUninit;
use std::sync::atomic::{compiler_fence, Ordering};

use bytemuck::AnyBitPattern;

pub use item::Item;
pub use item_type::ItemType;
pub(crate) use mismatch::mismatch;
pub(crate) use padded::CachePadded;
pub use payload::{Payload, Varied};
pub use schema::Schema;

/// A value that may cross between processes: fixed layout, no pointers, no padding, checked on
/// receipt.
///
/// Messages are integers of fixed size, floats, `bool`, `char`, `()`, arrays of messages, and every
/// struct or fieldless enum that derives the trait. `#[derive(Message)]` refuses the following
/// types, and names the field at fault:
///
/// - `usize` and `isize`, whose size differs between platforms: use `u64` and `i64`;
/// - references and pointers, which mean nothing in another process: store the data itself, or an
///   index;
/// - padding between or after the fields: add `_pad: [u8; 3]`, or order the fields from large to
///   small;
/// - structs that are not `#[repr(C)]` or `#[repr(transparent)]`, since the compiler may order
///   their fields at will;
/// - enums that do not name their integer, as `#[repr(u8)]` does, or that carry data.
///
/// A message that is aligned to more than 128 bytes (`#[repr(align(256))]`) derives, but no object
/// takes it: a program that names such an object does not compile.
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
///     "struct Tick size 16 align 8 { 0 price: f64, \
///      8 side: enum Side u8 { Buy = 0, Sell = 1 }, 9 _pad: [u8; 7] }",
/// );
/// ```
///
/// A message may be generic over messages. Padding depends on `T`, so it is checked when the type
/// is used with a particular `T`: `cargo build` and `cargo test` find it, `cargo check` does not.
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
/// The bounds of soundness are bytemuck's: [`Bits`](Message::Bits) is `AnyBitPattern`, and a type
/// that is not generic also gets `NoUninit` and `CheckedBitPattern`. They are not supertraits, for
/// two reasons. bytemuck lacks them for arrays of checked types (`[Side; 4]`). A generic struct
/// must not have them, because only its use determines whether it has padding. A type that derives
/// bytemuck's traits itself needs `#[message(no_bytemuck)]`. In a crate that re-exports pagemate,
/// use `#[message(crate = "its::pagemate")]`.
///
/// # Safety
///
/// Derive the trait; the derive checks all of this. A hand-written implementation promises:
///
/// - `Bits` has the size and alignment of `Self`, and holds the same bytes;
/// - if `is_valid_bits` returns true, the bytes are a valid `Self`; with `ANY_BITS` it always
///   returns true;
/// - if `CHECKED` compiles, `Self` has no padding and no uninitialised bytes;
/// - `ZERO_VALID` is true only if all bytes zero are a valid `Self`;
/// - `Self` contains no pointers and no interior mutability;
/// - `schema` describes this layout.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a message",
    label = "not a message",
    note = "for your own type: `#[derive(Clone, Copy, pagemate::Message)]` and \
            `#[repr(C)]`, or `#[repr(u8)]` on an enum",
    note = "for `usize` and `isize`: their size differs between platforms: use `u64` or `i64`",
    note = "for references, pointers, `String`, `Vec`: they mean nothing in another process: \
            use an array such as `[u8; 64]`"
)]
pub unsafe trait Message: Copy + Send + Sync + 'static {
    /// The same bytes without a meaning: same size and alignment, and every bit pattern is valid.
    type Bits: AnyBitPattern;

    /// Whether every bit pattern is a valid value, so that nothing needs to be checked on receipt.
    const ANY_BITS: bool;

    /// Whether all bytes zero are a valid value.
    const ZERO_VALID: bool;

    /// Does not compile if the type has padding. Code that reads the bytes of a `T: Message` must
    /// name `T::CHECKED` first.
    const CHECKED: () = ();

    /// Returns whether these bits are a valid value.
    fn is_valid_bits(bits: &Self::Bits) -> bool;

    /// Returns the layout of the type, which two programs compare.
    fn schema() -> Schema;
}

/// Copies a message out of shared memory, then checks whether the copy is a valid value.
///
/// The order matters, because a hostile process may change the original between the check and the
/// copy.
///
/// # Safety
///
/// `src` is readable for `size_of::<T>()` bytes, which need not be aligned. No well-behaved process
/// writes there meanwhile.
#[inline]
pub(crate) unsafe fn read<T: Message>(src: *const u8) -> Option<T> {
    let () = T::CHECKED;
    let mut copy = MaybeUninit::<T>::uninit();
    // SAFETY: readable for the size of T. The copy has this size and belongs to nobody else.
    unsafe { src.copy_to_nonoverlapping(copy.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    if !T::ANY_BITS {
        // Without this fence the compiler might check the original and not the copy.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: Bits has size and alignment of T (promised by Message), and every bit pattern is
        // a valid Bits.
        let bits = unsafe { &*copy.as_ptr().cast::<T::Bits>() };
        if !T::is_valid_bits(bits) {
            return None;
        }
    }
    // SAFETY: all bytes were written, and they are a valid T.
    Some(unsafe { copy.assume_init() })
}

/// Returns whether the bytes at `src` are a valid value, so that they may be used in place.
///
/// Another process may change them afterwards; only a copy ([`read`]) is safe from that.
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
        // SAFETY: readable for the size of T, which is the size of its Bits, aligned, and every bit
        // pattern is a valid Bits.
        T::is_valid_bits(unsafe { &*src })
    } else {
        // SAFETY: as above.
        unsafe { is_valid_unaligned::<T>(src) }
    }
}

/// Like [`is_valid`], for bytes at any address, by means of an aligned copy. The copy is on the
/// heap, because a message may be larger than a thread's stack. The function is separate, because a
/// stack frame has room for all branches of a function.
///
/// # Safety
///
/// `src` is readable for `size_of::<T>()` bytes. No well-behaved process writes there meanwhile.
#[cold]
#[inline(never)]
unsafe fn is_valid_unaligned<T: Message>(src: *const T::Bits) -> bool {
    let mut copy = Box::<T::Bits>::new_uninit();
    // SAFETY: readable for the size of T, which is the size of its Bits. The copy has this size and
    // belongs to nobody else.
    unsafe {
        src.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast::<u8>(), size_of::<T>());
    }
    // SAFETY: all bytes were written, and every bit pattern is a valid Bits.
    let copy = unsafe { copy.assume_init() };
    T::is_valid_bits(&copy)
}

/// Writes a message into shared memory.
///
/// # Safety
///
/// `dst` is writable for `size_of::<T>()` bytes, which need not be aligned. Nobody reads or writes
/// there meanwhile.
#[inline]
pub(crate) unsafe fn write<T: Message>(dst: *mut u8, value: T) {
    let () = T::CHECKED;
    // SAFETY: writable for the size of T.
    unsafe { dst.cast::<T>().write_unaligned(value) }
}

/// Returns the bytes of a message, all of them initialised.
#[inline]
pub(crate) fn bytes_of<T: Message>(value: &T) -> &[u8] {
    let () = T::CHECKED;
    // SAFETY: a T has size_of::<T>() bytes, none of them padding (CHECKED compiled), and no
    // interior mutability.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// Returns the bytes of all these values.
#[inline]
pub(crate) fn bytes_of_all<T: Message>(values: &[T]) -> &[u8] {
    let () = T::CHECKED;
    // SAFETY: as in bytes_of(), for each of them; there is nothing between them.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

pub(crate) mod item;
#[cfg(test)]
mod tests;
