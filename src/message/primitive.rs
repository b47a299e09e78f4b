//! The messages that are not derived: integers, floats, `bool`, `char`, `()`, arrays.

use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, Zeroable};

use super::schema::{Layout, Primitive};
use super::{Message, Schema};

macro_rules! any_bits {
    ($($type:ty: $primitive:ident),* $(,)?) => {$(
        // SAFETY: a primitive of fixed size, without padding, of which every bit pattern is a
        // value.
        unsafe impl Message for $type {
            type Bits = $type;
            const ANY_BITS: bool = true;
            const ZERO_VALID: bool = true;

            #[inline]
            fn is_valid_bits(_: &Self::Bits) -> bool {
                true
            }

            fn schema() -> Schema {
                Schema::new(Layout::Primitive(Primitive::$primitive))
            }
        }
    )*};
}

any_bits! {
    (): Unit,
    u8: U8, u16: U16, u32: U32, u64: U64, u128: U128,
    i8: I8, i16: I16, i32: I32, i64: I64, i128: I128,
    f32: F32, f64: F64,
}

// SAFETY: one byte; 0 and 1 are its values.
unsafe impl Message for bool {
    type Bits = u8;
    const ANY_BITS: bool = false;
    const ZERO_VALID: bool = true;

    #[inline]
    fn is_valid_bits(bits: &u8) -> bool {
        *bits < 2
    }

    fn schema() -> Schema {
        Schema::new(Layout::Primitive(Primitive::Bool))
    }
}

// SAFETY: has size and alignment of u32; the scalar values are its values.
unsafe impl Message for char {
    type Bits = u32;
    const ANY_BITS: bool = false;
    const ZERO_VALID: bool = true;

    #[inline]
    fn is_valid_bits(bits: &u32) -> bool {
        char::from_u32(*bits).is_some()
    }

    fn schema() -> Schema {
        Schema::new(Layout::Primitive(Primitive::Char))
    }
}

// SAFETY: no bytes at all, alignment 1.
unsafe impl<T: Send + Sync + 'static> Message for PhantomData<T> {
    type Bits = ();
    const ANY_BITS: bool = true;
    const ZERO_VALID: bool = true;

    #[inline]
    fn is_valid_bits(_: &()) -> bool {
        true
    }

    fn schema() -> Schema {
        <()>::schema()
    }
}

/// The bits of an array. bytemuck has `AnyBitPattern` only for arrays of types that are `Pod`.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct ArrayBits<B, const N: usize>([B; N]);

// SAFETY: an array of types whose zero is a value.
unsafe impl<B: AnyBitPattern, const N: usize> Zeroable for ArrayBits<B, N> {}
// SAFETY: an array of types of which every bit pattern is a value, and nothing else.
unsafe impl<B: AnyBitPattern, const N: usize> AnyBitPattern for ArrayBits<B, N> {}

// SAFETY: an array is its elements in order, without padding between them; each is checked.
unsafe impl<T: Message, const N: usize> Message for [T; N] {
    type Bits = ArrayBits<T::Bits, N>;
    const ANY_BITS: bool = T::ANY_BITS;
    const ZERO_VALID: bool = T::ZERO_VALID;
    const CHECKED: () = T::CHECKED;

    #[inline]
    fn is_valid_bits(bits: &Self::Bits) -> bool {
        T::ANY_BITS || bits.0.iter().all(T::is_valid_bits)
    }

    fn schema() -> Schema {
        let () = Self::CHECKED;
        Schema::new(Layout::Array(Box::new(T::schema().into_layout()), N as u64))
    }
}
