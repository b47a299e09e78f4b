//! The functions by which users create and open objects, with their docs: the same on every type
//! without a builder.

/// Defines `new`, `create`, `open` and `open_or_create` in the `impl` of a handle. Each calls the
/// function of the same name of [`Object`](crate::segment::object::Object). First come the handle's
/// type, its article and its noun, and the arguments of `new`. They form `Initial`: no argument is
/// `()`, one argument is its value, several are a tuple. Then optional texts follow: `with` says
/// what the arguments mean, `refuses` which of them are invalid, `mismatch` which other contents
/// `open` rejects, `keeps` what an existing object does not change.
macro_rules! verbs {
    (
        $handle:ty: $a:literal $noun:literal ($($arg:ident: $type:ty),*)
        $(, with $with:literal)?
        $(, refuses $refused:literal)?
        $(, mismatch $mismatch:literal)?
        $(, keeps $kept:literal)?
    ) => {
        #[doc = concat!("Creates ", $a, " ", $noun, " without a name", $(", ", $with,)? ".")]
        /// Share it by cloning it, or pass it to a child process.
        ///
        /// # Errors
        ///
        #[doc = concat!($("`InvalidInput` (", $refused, "), ",)? "`OutOfMemory`,")]
        /// `System` (too many open files).
        pub fn new($($arg: $type),*) -> $crate::Result<$handle> {
            $crate::segment::object::Object::new(($($arg),*))
        }

        #[doc = concat!("Creates ", $a, " ", $noun, $(" ", $with,)? ". Fails if the name is already taken.")]
        ///
        /// # Errors
        ///
        #[doc = concat!("`AlreadyExists`, `InvalidInput` (the name", $("; ", $refused,)? "), `OutOfMemory`,")]
        /// `PermissionDenied`, `Unsupported`.
        pub fn create(place: impl Into<$crate::Place>, $($arg: $type),*) -> $crate::Result<$handle> {
            $crate::segment::object::Object::create(place, ($($arg),*))
        }

        #[doc = concat!("Opens an existing ", $noun, ".")]
        ///
        /// # Errors
        ///
        #[doc = concat!("`NotFound`, `TypeMismatch` (another kind of object", $(", or ", $mismatch,)? "),")]
        /// `PermissionDenied`, `VersionMismatch`, `Corrupted`.
        pub fn open(place: impl Into<$crate::Place>) -> $crate::Result<$handle> {
            $crate::segment::object::Object::open(place)
        }

        #[doc = concat!("Opens the ", $noun, ", or creates it ", $($with, " ",)? "if there is none.")]
        /// Returns which of the two happened.
        $(#[doc = concat!("An existing ", $noun, " keeps ", $kept, ".")])?
        ///
        /// # Errors
        ///
        /// Those of [`open`](Self::open) and [`create`](Self::create), and `Busy`.
        pub fn open_or_create(
            place: impl Into<$crate::Place>,
            $($arg: $type),*
        ) -> $crate::Result<($handle, $crate::Origin)> {
            $crate::segment::object::Object::open_or_create(place, ($($arg),*))
        }
    };
}

pub(crate) use verbs;
