//! The implementations that `#[derive(Message)]` requests.
//!
//! The derive only describes a type: its fields or variants and their names. It writes no `unsafe`
//! and no path that soundness depends on, because a program chooses where the derive finds
//! pagemate, and may put anything there. The macros below name everything by `$crate`, and trust no
//! part of the description:
//!
//! - They destructure the type with exactly the described fields (no `..`) and compare the type of
//!   each, without coercion. So an attribute that changes the type after the derive cannot hide it.
//! - They compare the offsets of the fields of the type and of `Bits`, and the sizes and
//!   alignments.
//! - They compare how each variant of an enum is stored with its number.
//! - The tokens of the generics head a struct, an impl with a method and impls without one. No
//!   tokens that close a header and begin another item compile in all of these places.
//!
//! So anyone may call them, with any description.

/// Implements `Message` for a struct.
#[doc(hidden)]
#[macro_export]
macro_rules! __message_struct {
    (
        struct $name:ident $bits:ident
        plain [$($plain:ident $($bytemuck:ident)?)?]
        $(#[repr($($repr:tt)*)])*
        impl [$($parameters:tt)*] for [$($arguments:tt)*] where [$($bounds:tt)*]
        name { $text:expr }
        gaps { $gaps:expr }
        fields { $($place:tt $field:ident $field_text:literal $type:ty, $bits_type:ty,)* }
    ) => {
        // The last field has no bytes. It keeps the compiler from repeating an error about the last
        // real one for each impl.
        #[doc(hidden)]
        $(#[repr($($repr)*)])*
        pub struct $bits $($parameters)* $($bounds)* {
            $($field: $bits_type,)*
            __end: [(); 0],
        }

        impl $($parameters)* $crate::__private::Clone for $bits $($arguments)* $($bounds)* {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        impl $($parameters)* $crate::__private::Copy for $bits $($arguments)* $($bounds)* {}

        // SAFETY: each field is the Bits of a message (CHECKED), so AnyBitPattern, which includes
        // zero.
        unsafe impl $($parameters)* $crate::__private::bytemuck::Zeroable
            for $bits $($arguments)* $($bounds)* {}

        // SAFETY: as above.
        unsafe impl $($parameters)* $crate::__private::bytemuck::AnyBitPattern
            for $bits $($arguments)* $($bounds)* {}

        // SAFETY: CHECKED compiles only if the fields are these and no others, of these types, if
        // they leave no gap, and if Bits has each of them at the same offset, and size and
        // alignment of the type. A struct is valid if each field is.
        unsafe impl $($parameters)* $crate::Message for $name $($arguments)* $($bounds)* {
            type Bits = $bits $($arguments)*;
            const ANY_BITS: $crate::__private::bool =
                true $(&& $crate::__private::facts::<$type>().any_bits)*;
            const ZERO_VALID: $crate::__private::bool =
                true $(&& $crate::__private::facts::<$type>().zero_valid)*;
            const CHECKED: () = {
                $(let _ = $crate::__private::facts::<$type>();)*
                // The error names the field. The rest is for descriptions that are not the
                // derive's.
                let () = $gaps;
                let _ = |this: &Self, bits: &$bits $($arguments)*| {
                    let Self { $($place: $field),* } = this;
                    $(
                        // In statements of their own, because an expected type would coerce the
                        // references.
                        let field = $crate::__private::from_ref($field);
                        let bits_field = $crate::__private::from_ref(&bits.$field);
                        $crate::__private::confirm_field::<$type>(field, bits_field);
                    )*
                };
                let end = 0;
                $(
                    let offset = $crate::__private::offset_of!(Self, $place);
                    $crate::__private::confirm(offset == end);
                    $crate::__private::confirm(offset == $crate::__private::offset_of!(Self::Bits, $field));
                    let end = end + $crate::__private::size_of::<$type>();
                )*
                $crate::__private::confirm(end == $crate::__private::size_of::<Self>());
                $crate::__private::confirm_layout::<Self, $bits $($arguments)*>();
            };

            #[inline]
            fn is_valid_bits(bits: &Self::Bits) -> $crate::__private::bool {
                true $(&& $crate::__private::is_valid::<$type>(&bits.$field))*
            }

            fn schema() -> $crate::Schema {
                let () = <Self as $crate::Message>::CHECKED;
                $crate::__private::structure::<Self>(
                    $text,
                    $crate::__private::vec![$(
                        $crate::__private::field::<$type>(
                            $field_text,
                            $crate::__private::offset_of!(Self, $place),
                        )
                    ),*],
                )
            }
        }

        $(
            // A type without parameters; others are checked when they are used.
            const _: () = <$plain as $crate::Message>::CHECKED;

            $(
                // SAFETY: no padding, because CHECKED compiles, and no pointers; each field is a
                // message.
                unsafe impl $crate::__private::$bytemuck::NoUninit for $plain {}

                // SAFETY: Bits has the layout of the type, as Message demands.
                unsafe impl $crate::__private::$bytemuck::CheckedBitPattern for $plain {
                    type Bits = <$plain as $crate::Message>::Bits;

                    #[inline]
                    fn is_valid_bit_pattern(bits: &Self::Bits) -> $crate::__private::bool {
                        <$plain as $crate::Message>::is_valid_bits(bits)
                    }
                }
            )?
        )?
    };
}

/// Implements `Message` for an enum without data.
#[doc(hidden)]
#[macro_export]
macro_rules! __message_enum {
    (
        enum $name:ident $integer:ident
        traits [$($bytemuck:ident)?]
        name { $text:literal }
        variants { $($variant:ident $variant_text:literal,)* }
    ) => {
        // SAFETY: CHECKED compiles only if these are all of the variants, if none carries data, and
        // if each is stored as its number, in an integer of this size and alignment. The bits are
        // compared with all of the numbers. An integer has no padding.
        unsafe impl $crate::Message for $name {
            type Bits = $crate::__private::primitive::$integer;
            const ANY_BITS: $crate::__private::bool = false;
            const ZERO_VALID: $crate::__private::bool =
                false $(|| (Self::$variant as $crate::__private::primitive::$integer) == 0)*;
            const CHECKED: () = {
                let _ = |this: &Self| match *this {
                    $(Self::$variant {} => {})*
                };
                $crate::__private::confirm_layout::<Self, Self::Bits>();
                $(
                    let bits: Self::Bits =
                        // SAFETY: evaluated by the compiler, which refuses to read padding.
                        unsafe { $crate::__private::transmute_copy::<Self, _>(&Self::$variant) };
                    $crate::__private::confirm(
                        bits == (Self::$variant as $crate::__private::primitive::$integer)
                    );
                )*
            };

            #[inline]
            fn is_valid_bits(bits: &Self::Bits) -> $crate::__private::bool {
                false $(|| *bits == (Self::$variant as $crate::__private::primitive::$integer))*
            }

            fn schema() -> $crate::Schema {
                $crate::__private::enumeration::<$crate::__private::primitive::$integer>(
                    $text,
                    $crate::__private::vec![$(
                        $crate::__private::variant(
                            $variant_text,
                            (Self::$variant as $crate::__private::primitive::$integer)
                                as $crate::__private::primitive::i128,
                        )
                    ),*],
                )
            }
        }

        const _: () = <$name as $crate::Message>::CHECKED;

        $(
            // SAFETY: no padding, because CHECKED compiles, and no pointers; each field is a
            // message.
            unsafe impl $crate::__private::$bytemuck::NoUninit for $name {}

            // SAFETY: Bits has the layout of the type, as Message demands.
            unsafe impl $crate::__private::$bytemuck::CheckedBitPattern for $name {
                type Bits = <$name as $crate::Message>::Bits;

                #[inline]
                fn is_valid_bit_pattern(bits: &Self::Bits) -> $crate::__private::bool {
                    <$name as $crate::Message>::is_valid_bits(bits)
                }
            }
        )?
    };
}
