//! Integers, which can be counted with in one step.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{
    AtomicI16, AtomicI32, AtomicI64, AtomicI8, AtomicU16, AtomicU32, AtomicU64, AtomicU8,
};

use super::Value;
use crate::message::Message;

mod sealed {
    /// What an integer's atomic can do.
    pub trait Atomic {
        type Atomic;
        fn load(at: &Self::Atomic) -> Self;
        fn store(at: &Self::Atomic, value: Self);
        fn swap(at: &Self::Atomic, value: Self) -> Self;
        fn add(at: &Self::Atomic, value: Self) -> Self;
        fn sub(at: &Self::Atomic, value: Self) -> Self;
        fn max(at: &Self::Atomic, value: Self) -> Self;
        fn min(at: &Self::Atomic, value: Self) -> Self;
        fn and(at: &Self::Atomic, value: Self) -> Self;
        fn or(at: &Self::Atomic, value: Self) -> Self;
        fn xor(at: &Self::Atomic, value: Self) -> Self;
    }
}

/// The integers from `u8` to `u64` and from `i8` to `i64`: what a [`Value`] can count with. Nobody else can implement it.
pub trait Integer: Message + sealed::Atomic {}

macro_rules! integers {
    ($($integer:ty, $atomic:ty;)*) => {
        $(
            impl sealed::Atomic for $integer {
                type Atomic = $atomic;
                #[inline]
                fn load(at: &$atomic) -> $integer {
                    at.load(Acquire)
                }
                #[inline]
                fn store(at: &$atomic, value: $integer) {
                    at.store(value, Release);
                }
                #[inline]
                fn swap(at: &$atomic, value: $integer) -> $integer {
                    at.swap(value, AcqRel)
                }
                #[inline]
                fn add(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_add(value, AcqRel)
                }
                #[inline]
                fn sub(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_sub(value, AcqRel)
                }
                #[inline]
                fn max(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_max(value, AcqRel)
                }
                #[inline]
                fn min(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_min(value, AcqRel)
                }
                #[inline]
                fn and(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_and(value, AcqRel)
                }
                #[inline]
                fn or(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_or(value, AcqRel)
                }
                #[inline]
                fn xor(at: &$atomic, value: $integer) -> $integer {
                    at.fetch_xor(value, AcqRel)
                }
            }

            impl Integer for $integer {}
        )*
    };
}

integers! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
    i8, AtomicI8;
    i16, AtomicI16;
    i32, AtomicI32;
    i64, AtomicI64;
}

/// Counting: one step each, that nobody can be killed in the middle of. All that is done before a change is seen by who
/// reads the result.
impl<T: Integer> Value<T> {
    #[inline]
    fn atomic(&self) -> &T::Atomic {
        // SAFETY: the value's place is aligned to 8, mapped as long as `self` lives and at least 8 bytes long (checked in
        // from_object); the atomic is of the integer's size, and any bytes are one.
        unsafe { &*self.place().cast::<T::Atomic>() }
    }

    /// The number. What [`get`](Value::get) gives, which can fail for other types.
    #[inline]
    pub fn load(&self) -> T {
        T::load(self.atomic())
    }

    /// Sets the number.
    #[inline]
    pub fn store(&self, value: T) {
        T::store(self.atomic(), value);
    }

    /// Sets the number; gives the one before.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::swap(self.atomic(), value)
    }

    /// Adds; gives the number before. Wraps around.
    #[inline]
    pub fn fetch_add(&self, value: T) -> T {
        T::add(self.atomic(), value)
    }

    /// Subtracts; gives the number before. Wraps around.
    #[inline]
    pub fn fetch_sub(&self, value: T) -> T {
        T::sub(self.atomic(), value)
    }

    /// Keeps the larger one of the two; gives the number before.
    #[inline]
    pub fn fetch_max(&self, value: T) -> T {
        T::max(self.atomic(), value)
    }

    /// Keeps the smaller one of the two; gives the number before.
    #[inline]
    pub fn fetch_min(&self, value: T) -> T {
        T::min(self.atomic(), value)
    }

    /// Keeps the bits that both have; gives the number before.
    #[inline]
    pub fn fetch_and(&self, value: T) -> T {
        T::and(self.atomic(), value)
    }

    /// Adds the bits of `value`; gives the number before.
    #[inline]
    pub fn fetch_or(&self, value: T) -> T {
        T::or(self.atomic(), value)
    }

    /// Turns round the bits of `value`; gives the number before.
    #[inline]
    pub fn fetch_xor(&self, value: T) -> T {
        T::xor(self.atomic(), value)
    }
}
