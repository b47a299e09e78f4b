//! The functions of tasks, as addresses in the program.
//!
//! They are function pointers, so nothing of a closure travels. A worker finds the function by its
//! offset in the image, and the runner was compiled for its type.

/// A function pointer of one of the types that a pool can call with an `A`.
pub(crate) trait Function<A, R>: Copy + Send + 'static {
    /// Returns the address of the function in this process.
    fn address(self) -> usize;

    /// Returns the function at `address`.
    ///
    /// # Safety
    ///
    /// [`address`](Function::address) has returned it for a value of this type: in this process, or
    /// in another process of this program and then moved as the image is.
    unsafe fn at(address: usize) -> Self;

    /// Calls the function.
    fn call(self, argument: A) -> R;
}

impl<A: 'static, R: 'static> Function<A, R> for fn(A) -> R {
    fn address(self) -> usize {
        self as usize
    }

    unsafe fn at(address: usize) -> Self {
        // SAFETY: the caller promises that it is the address of a function of this type.
        unsafe { std::mem::transmute::<usize, fn(A) -> R>(address) }
    }

    #[inline]
    fn call(self, argument: A) -> R {
        self(argument)
    }
}

/// A function of two parameters, which is called with a pair.
pub(crate) struct Spread<A, B, R>(pub(crate) fn(A, B) -> R);

impl<A, B, R> Clone for Spread<A, B, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, B, R> Copy for Spread<A, B, R> {}

impl<A: 'static, B: 'static, R: 'static> Function<(A, B), R> for Spread<A, B, R> {
    fn address(self) -> usize {
        self.0 as usize
    }

    unsafe fn at(address: usize) -> Self {
        // SAFETY: the caller promises that it is the address of a function of this type.
        Spread(unsafe { std::mem::transmute::<usize, fn(A, B) -> R>(address) })
    }

    #[inline]
    fn call(self, (first, second): (A, B)) -> R {
        self.0(first, second)
    }
}
