//! The values that processes can pass to each other.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::message::{bytes_of, read, Message};
use crate::process::codec::{damaged, Packer, Unpacker};
use crate::Result;

/// A value that can be passed to a new process, and returned by its function.
///
/// - every [`Message`]: numbers, `bool`, `char`, arrays, structs and enums that derive it;
/// - `usize`, `isize`, `String`, `PathBuf`, `OsString`, `Duration`: parent and child are the same
///   program;
/// - `Option`, `Result`, `Vec` and tuples (up to eight) of arguments;
/// - handles (an [`Event`](crate::Event), a [`Segment`](crate::Segment), an end of a pipe ...), but
///   not as a result. The child is a participant before its first instruction, so its handles
///   always have a living holder.
///
/// Values travel in anonymous memory, and may have any length. Handles share the objects that they
/// refer to.
///
/// References cannot be passed, because another process does not have what they point to. A struct
/// with a `String` in it cannot be passed either: pass a tuple of its parts. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given to another process",
    label = "not an argument",
    note = "messages, strings, paths, handles can, and `Option`, `Result`, \
            `Vec` and tuples (up to 8) of them",
    note = "for your own type: `#[derive(Clone, Copy, pagemate::Message)]` and \
            `#[repr(C)]`, or give a tuple of its parts",
    note = "for references such as `&str`: give the owned value, `String`"
)]
pub trait Argument: Sized {
    /// Whether it contains handles, which cannot be returned to the parent.
    #[doc(hidden)]
    const HAS_HANDLES: bool = false;

    /// Whether all values have the same number of bytes, so that the next one can be found after a
    /// damaged one.
    #[doc(hidden)]
    const HAS_FIXED_SIZE: bool = false;

    #[doc(hidden)]
    fn pack(self, packer: &mut Packer) -> Result<()>;

    #[doc(hidden)]
    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self>;

    /// Packs one of several consecutive values: with a byte before it, so that a count can be
    /// checked against the number of bytes left.
    #[doc(hidden)]
    #[inline]
    fn pack_item(self, packer: &mut Packer) -> Result<()> {
        packer.bytes(&[1]);
        self.pack(packer)
    }

    #[doc(hidden)]
    #[inline]
    fn unpack_item(unpacker: &mut Unpacker<'_>) -> Result<Self> {
        unpacker.bytes(1)?;
        Self::unpack(unpacker)
    }

    #[doc(hidden)]
    fn pack_all(items: Vec<Self>, packer: &mut Packer) -> Result<()> {
        items.into_iter().try_for_each(|item| item.pack_item(packer))
    }

    #[doc(hidden)]
    fn unpack_all(count: usize, unpacker: &mut Unpacker<'_>) -> Result<Vec<Self>> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(Self::unpack_item(unpacker)?);
        }
        Ok(items)
    }
}

impl<T: Message> Argument for T {
    const HAS_FIXED_SIZE: bool = true;

    #[inline]
    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.bytes(bytes_of(&self));
        Ok(())
    }

    #[inline]
    fn pack_item(self, packer: &mut Packer) -> Result<()> {
        self.pack(packer)
    }

    #[inline]
    fn unpack_item(unpacker: &mut Unpacker<'_>) -> Result<T> {
        T::unpack(unpacker)
    }

    #[inline]
    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<T> {
        let bytes = unpacker.bytes(size_of::<T>())?;
        // SAFETY: `bytes` has `size_of::<T>()` bytes, and nobody writes to them.
        unsafe { read(bytes.as_ptr()) }.ok_or_else(|| damaged("is not a valid value"))
    }

    fn pack_all(items: Vec<T>, packer: &mut Packer) -> Result<()> {
        let () = T::CHECKED;
        // SAFETY: a message has size_of::<T>() bytes, none of them padding (CHECKED compiled).
        packer.bytes(unsafe { std::slice::from_raw_parts(items.as_ptr().cast(), size_of_val(&items[..])) });
        Ok(())
    }

    fn unpack_all(count: usize, unpacker: &mut Unpacker<'_>) -> Result<Vec<T>> {
        let () = T::CHECKED;
        let len = count.checked_mul(size_of::<T>()).ok_or_else(|| damaged("has an impossible length"))?;
        let bytes = unpacker.bytes(len)?;
        let mut items: Vec<T> = Vec::new();
        items.try_reserve_exact(count).map_err(|_| damaged("does not fit into memory"))?;
        if !T::ANY_BITS && len > 0 {
            for at in bytes.chunks_exact(size_of::<T>()) {
                // SAFETY: `at` has `size_of::<T>()` bytes, and nobody writes to them.
                items.push(unsafe { read(at.as_ptr()) }.ok_or_else(|| damaged("is not a valid value"))?);
            }
        } else if T::ANY_BITS {
            // SAFETY: room for `count` was reserved, `bytes` has `len` bytes, and every bit pattern
            // is a value.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), items.as_mut_ptr().cast(), len);
                items.set_len(count);
            }
        } else if count > 0 {
            return Err(damaged("is a list of values that cannot be"));
        }
        Ok(items)
    }
}

/// Implements `Argument` for a type that is packed as one block of bytes.
macro_rules! block {
    ($type:ty, $bytes:expr, $from:expr) => {
        impl Argument for $type {
            fn pack(self, packer: &mut Packer) -> Result<()> {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                packer.block(bytes(&self));
                Ok(())
            }

            fn unpack(unpacker: &mut Unpacker<'_>) -> Result<$type> {
                let from: fn(Vec<u8>) -> Result<$type> = $from;
                from(unpacker.block()?.to_vec())
            }
        }
    };
}

block!(String, |text| text.as_bytes(), |bytes| {
    String::from_utf8(bytes).map_err(|_| damaged("is not valid UTF-8"))
});
block!(OsString, |text| text.as_bytes(), |bytes| Ok(OsString::from_vec(bytes)));
block!(PathBuf, |path| OsStr::as_bytes(path.as_os_str()), |bytes| Ok(OsString::from_vec(bytes).into()));

/// Implements `Argument` for a type that is packed as another argument.
macro_rules! via {
    ($type:ty, $way:ty, $there:expr, $back:expr) => {
        impl Argument for $type {
            fn pack(self, packer: &mut Packer) -> Result<()> {
                let there: fn($type) -> $way = $there;
                there(self).pack(packer)
            }

            fn unpack(unpacker: &mut Unpacker<'_>) -> Result<$type> {
                let back: fn($way) -> Option<$type> = $back;
                back(<$way>::unpack(unpacker)?).ok_or_else(|| damaged("is not a valid value"))
            }
        }
    };
}

via!(usize, u64, |value| value as u64, |value| usize::try_from(value).ok());
via!(isize, i64, |value| value as i64, |value| isize::try_from(value).ok());
via!(Duration, (u64, u32), |time| (time.as_secs(), time.subsec_nanos()), |(seconds, nanos)| (nanos
    < 1_000_000_000)
    .then(|| Duration::new(seconds, nanos)));

impl<A: Argument> Argument for Vec<A> {
    const HAS_HANDLES: bool = A::HAS_HANDLES;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.number(self.len() as u64);
        A::pack_all(self, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Vec<A>> {
        let count = unpacker.count()?;
        A::unpack_all(count, unpacker)
    }
}

impl<A: Argument> Argument for Option<A> {
    const HAS_HANDLES: bool = A::HAS_HANDLES;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.bytes(&[u8::from(self.is_some())]);
        self.map_or(Ok(()), |value| value.pack(packer))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Option<A>> {
        bool::unpack(unpacker)?.then(|| A::unpack(unpacker)).transpose()
    }
}

impl<A: Argument, B: Argument> Argument for Result<A, B> {
    const HAS_HANDLES: bool = A::HAS_HANDLES || B::HAS_HANDLES;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.bytes(&[u8::from(self.is_ok())]);
        match self {
            Ok(value) => value.pack(packer),
            Err(error) => error.pack(packer),
        }
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Result<A, B>> {
        match bool::unpack(unpacker)? {
            true => A::unpack(unpacker).map(Ok),
            false => B::unpack(unpacker).map(Err),
        }
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*);)*) => {$(
        impl<$($name: Argument),*> Argument for ($($name,)*) {
            const HAS_HANDLES: bool = $($name::HAS_HANDLES)||*;

            fn pack(self, packer: &mut Packer) -> Result<()> {
                $(self.$index.pack(packer)?;)*
                Ok(())
            }

            fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self> {
                Ok(($($name::unpack(unpacker)?,)*))
            }
        }
    )*};
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: impl Argument) -> Vec<u8> {
        let mut packer = Packer::for_child();
        value.pack(&mut packer).unwrap();
        packer.finish().bytes
    }

    fn unpacked<A: Argument>(bytes: &[u8]) -> Result<A> {
        let mut unpacker = Unpacker::new(bytes);
        let value = A::unpack(&mut unpacker)?;
        unpacker.finish()?;
        Ok(value)
    }

    #[track_caller]
    fn round_trip<A: Argument + Clone + PartialEq + std::fmt::Debug>(value: A) {
        let bytes = packed(value.clone());
        assert_eq!(unpacked::<A>(&bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(unpacked::<A>(&bytes[..end]).is_err(), "cut off after {end} bytes");
        }
        assert!(unpacked::<A>(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
    }

    #[test]
    fn everything_comes_back() {
        round_trip(());
        round_trip((1u8, -2i64, 3.5f64, true, 'x', [1u16; 3], usize::MAX, isize::MIN));
        round_trip((String::from("héllo"), String::new(), PathBuf::from("/tmp/\u{fffd}")));
        round_trip(OsString::from_vec(vec![0xff, 0]));
        round_trip(vec![1u64, 2, 3]);
        round_trip(vec![true, false]);
        round_trip(vec![(); 5]);
        round_trip(vec![((), ()); 5]);
        round_trip(vec![vec![String::from("a")], vec![]]);
        round_trip(Some((Duration::MAX, None::<u8>)));
        round_trip(Ok::<u8, String>(1));
        round_trip(Err::<u8, String>("no".into()));
    }

    #[test]
    fn damage_is_an_error_and_no_endless_loop() {
        assert!(unpacked::<bool>(&[2]).is_err());
        assert!(unpacked::<Option<u8>>(&[2, 0]).is_err());
        assert!(unpacked::<Duration>(&[0xff; 12]).is_err());
        assert!(unpacked::<String>(&packed(vec![0xffu8])).is_err());
        let endless = u64::MAX.to_le_bytes();
        assert!(unpacked::<Vec<u64>>(&endless).is_err());
        assert!(unpacked::<Vec<bool>>(&endless).is_err());
        assert!(unpacked::<Vec<String>>(&endless).is_err());
        assert!(unpacked::<Vec<((), ())>>(&endless).is_err());
        assert!(unpacked::<Vec<()>>(&endless).is_ok_and(|units| units.len() == usize::MAX));
        assert!(unpacked::<Vec<Vec<()>>>(&endless).is_err());
    }
}
