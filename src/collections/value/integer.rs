//! Integers, on which a value can count in one atomic step.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Release};
use crate::loom::atomic::{
    AtomicI16, AtomicI32, AtomicI64, AtomicI8, AtomicU16, AtomicU32, AtomicU64, AtomicU8,
};

use super::Value;
use crate::message::Message;

mod sealed {
    /// The operations of an integer's atomic.
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

/// An integer type that a [`Value`] can count with: `u8` to `u64` and `i8` to `i64`. Sealed.
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

/// Counting. Each operation is one atomic step, so a process cannot be killed in the middle of it.
/// A reader of the result sees everything that was done before the change.
impl<T: Integer> Value<T> {
    #[inline]
    fn atomic(&self) -> &T::Atomic {
        // SAFETY: the value's place is aligned to 8, mapped as long as `self` lives and at least 8
        // bytes long (checked in from_object). The atomic has the integer's size, and any bytes are
        // one.
        unsafe { &*self.place().cast::<T::Atomic>() }
    }

    /// Returns the number. Like [`get`](Value::get), which can fail for other types.
    #[inline]
    pub fn load(&self) -> T {
        T::load(self.atomic())
    }

    /// Sets the number.
    #[inline]
    pub fn store(&self, value: T) {
        T::store(self.atomic(), value);
    }

    /// Sets the number. Returns the previous one.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::swap(self.atomic(), value)
    }

    /// Adds `value`, wrapping around. Returns the previous number.
    #[inline]
    pub fn fetch_add(&self, value: T) -> T {
        T::add(self.atomic(), value)
    }

    /// Subtracts `value`, wrapping around. Returns the previous number.
    #[inline]
    pub fn fetch_sub(&self, value: T) -> T {
        T::sub(self.atomic(), value)
    }

    /// Stores the larger of the two. Returns the previous number.
    #[inline]
    pub fn fetch_max(&self, value: T) -> T {
        T::max(self.atomic(), value)
    }

    /// Stores the smaller of the two. Returns the previous number.
    #[inline]
    pub fn fetch_min(&self, value: T) -> T {
        T::min(self.atomic(), value)
    }

    /// Stores the bitwise and of the two. Returns the previous number.
    #[inline]
    pub fn fetch_and(&self, value: T) -> T {
        T::and(self.atomic(), value)
    }

    /// Stores the bitwise or of the two. Returns the previous number.
    #[inline]
    pub fn fetch_or(&self, value: T) -> T {
        T::or(self.atomic(), value)
    }

    /// Stores the bitwise exclusive or of the two. Returns the previous number.
    #[inline]
    pub fn fetch_xor(&self, value: T) -> T {
        T::xor(self.atomic(), value)
    }
}
