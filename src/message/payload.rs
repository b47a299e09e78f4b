//! What a queue carries: one message, a slice of messages, or text.

use std::sync::atomic::{compiler_fence, Ordering};

use super::{is_valid, Message};

/// What is sent through a [`Queue`](crate::Queue) or a [`Topic`](crate::Topic): every [`Message`],
/// a slice `[T]` of messages, or `str`.
///
/// | type | is sent as | is received as |
/// |---|---|---|
/// | `T` | `T` | `T` |
/// | `[T]` | `&[T]` | `Vec<T>` |
/// | `str` | `&str` | `String` |
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent through a queue or topic",
    label = "not a message, a slice of messages, or `str`",
    note = "for your own type: `#[derive(Clone, Copy, pagemate::Message)]` and \
            `#[repr(C)]`, or `#[repr(u8)]` on an enum",
    note = "for `String` and `Vec<T>`: use `str` and `[T]`"
)]
pub trait Payload: sealed::Sealed<Out = <Self as Payload>::Owned> {
    /// What a send takes.
    type Sent<'a>: Copy;
    /// What a receive returns.
    type Owned;

    #[doc(hidden)]
    fn elements<'s>(sent: &'s Self::Sent<'_>) -> &'s [Self::Element];
}

/// A [`Payload`] whose length differs from message to message: `[T]` or `str`. The trait is sealed.
pub trait Varied: Payload {
    #[doc(hidden)]
    fn take_memory(owned: &mut Self::Owned) -> Vec<Self::Element>;
}

pub(crate) mod sealed {
    use crate::message::Message;

    pub trait Sealed: Send + Sync + 'static {
        /// The same type as [`Payload::Owned`](super::Payload::Owned).
        type Out;

        /// The messages that the payload consists of.
        type Element: Message;

        /// Whether every payload is one element.
        const IS_FIXED: bool;

        /// Returns the schema text of the type.
        fn layout() -> String;

        /// Returns the name of the type, as one would write it.
        fn name() -> String;

        /// Borrows elements as a payload in place; `None` if they are not a valid one. A payload of
        /// fixed size is one element, whatever `len` says.
        ///
        /// # Safety
        ///
        /// `at` is aligned, and the elements are readable. No well-behaved process writes there
        /// meanwhile.
        unsafe fn in_place(at: *mut Self::Element, len: usize) -> Option<*mut Self>;

        /// Returns the elements of a payload.
        fn as_elements(&self) -> &[Self::Element];

        /// Returns the owned form of a copy of all elements; `None` if they are not a valid
        /// payload.
        fn from_copy(copy: Vec<Self::Element>) -> Option<Self::Out>;

        /// Returns the owned form of one element; `None` if the length differs between payloads.
        fn from_one(element: Self::Element) -> Option<Self::Out>;
    }
}

impl<T: Message> Payload for T {
    type Sent<'a> = T;
    type Owned = T;

    #[inline]
    fn elements(sent: &T) -> &[T] {
        std::slice::from_ref(sent)
    }
}

impl<T: Message> sealed::Sealed for T {
    type Out = T;
    type Element = T;

    const IS_FIXED: bool = true;

    fn layout() -> String {
        T::schema().to_string()
    }

    fn name() -> String {
        T::schema().name()
    }

    #[inline]
    unsafe fn in_place(at: *mut T, _: usize) -> Option<*mut T> {
        // SAFETY: promised by the caller.
        unsafe { is_valid::<T>(at.cast()) }.then_some(at)
    }

    #[inline]
    fn as_elements(&self) -> &[T] {
        std::slice::from_ref(self)
    }

    fn from_copy(copy: Vec<T>) -> Option<T> {
        copy.first().copied()
    }

    #[inline]
    fn from_one(element: T) -> Option<T> {
        Some(element)
    }
}

impl<T: Message> Payload for [T] {
    type Sent<'a> = &'a [T];
    type Owned = Vec<T>;

    #[inline]
    fn elements<'s>(sent: &'s &[T]) -> &'s [T] {
        sent
    }
}

impl<T: Message> Varied for [T] {
    fn take_memory(owned: &mut Vec<T>) -> Vec<T> {
        std::mem::take(owned)
    }
}

impl<T: Message> sealed::Sealed for [T] {
    type Out = Vec<T>;
    type Element = T;

    const IS_FIXED: bool = false;

    fn layout() -> String {
        format!("[{}]", T::schema())
    }

    fn name() -> String {
        format!("[{}]", T::schema().name())
    }

    #[inline]
    unsafe fn in_place(at: *mut T, len: usize) -> Option<*mut [T]> {
        // SAFETY: promised by the caller, for every element.
        unsafe { are_valid(at, len) }.then(|| std::ptr::slice_from_raw_parts_mut(at, len))
    }

    #[inline]
    fn as_elements(&self) -> &[T] {
        self
    }

    fn from_copy(copy: Vec<T>) -> Option<Vec<T>> {
        Some(copy)
    }

    fn from_one(_: T) -> Option<Vec<T>> {
        None
    }
}

impl Payload for str {
    type Sent<'a> = &'a str;
    type Owned = String;

    #[inline]
    fn elements<'s>(sent: &'s &str) -> &'s [u8] {
        sent.as_bytes()
    }
}

impl Varied for str {
    fn take_memory(owned: &mut String) -> Vec<u8> {
        std::mem::take(owned).into_bytes()
    }
}

impl sealed::Sealed for str {
    type Out = String;
    type Element = u8;

    const IS_FIXED: bool = false;

    fn layout() -> String {
        "str".to_owned()
    }

    fn name() -> String {
        "str".to_owned()
    }

    unsafe fn in_place(at: *mut u8, len: usize) -> Option<*mut str> {
        let bytes = std::ptr::slice_from_raw_parts_mut(at, len);
        // SAFETY: promised by the caller.
        std::str::from_utf8(unsafe { &*bytes }).is_ok().then_some(bytes as *mut str)
    }

    #[inline]
    fn as_elements(&self) -> &[u8] {
        self.as_bytes()
    }

    fn from_copy(copy: Vec<u8>) -> Option<String> {
        String::from_utf8(copy).ok()
    }

    fn from_one(_: u8) -> Option<String> {
        None
    }
}

/// Returns whether each of these elements is valid, so that they may be used in place.
///
/// # Safety
///
/// `at` is aligned, and `len` elements are readable. No well-behaved process writes there
/// meanwhile.
pub(crate) unsafe fn are_valid<T: Message>(at: *const T, len: usize) -> bool {
    let () = T::CHECKED;
    // Elements without bytes are all the same.
    let different = if size_of::<T>() == 0 { len.min(1) } else { len };
    // SAFETY: promised by the caller, for every index below `len`.
    T::ANY_BITS || (0..different).all(|index| unsafe { is_valid::<T>(at.add(index).cast()) })
}

/// Appends a copy of these elements, if each of them is valid. The copy is checked, because a
/// hostile process may change the original meanwhile.
///
/// # Safety
///
/// As for [`are_valid`].
pub(crate) unsafe fn append<T: Message>(copy: &mut Vec<T>, at: *const T, len: usize) -> bool {
    copy.reserve(len);
    let end = copy.spare_capacity_mut().as_mut_ptr().cast::<T>();
    // SAFETY: `len` elements are readable there, and there is room for as many here, which is
    // nobody else's.
    unsafe { at.copy_to_nonoverlapping(end, len) };
    compiler_fence(Ordering::SeqCst); // see message::read()

    // SAFETY: all bytes of the copy were written, and it is aligned.
    let is_valid = unsafe { are_valid(end, len) };
    if is_valid {
        // SAFETY: the elements were written above, and they are valid.
        unsafe { copy.set_len(copy.len() + len) };
    }
    is_valid
}
