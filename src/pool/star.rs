//! Functions of several parameters, for tuples of arguments.

/// A function that [`starmap`](super::Options::starmap) can call with the parts of an `A`. For functions of two to eight parameters.
pub trait Star<A, R> {
    /// The same function with one parameter, the tuple.
    #[doc(hidden)]
    fn spread(self) -> impl Fn(A) -> R + Copy + Send + 'static
    where
        Self: Copy + Send + 'static;
}

macro_rules! star {
    ($(($($name:ident $part:ident),*);)*) => {$(
        impl<Function, Output, $($name),*> Star<($($name,)*), Output> for Function
        where
            Function: Fn($($name),*) -> Output,
        {
            fn spread(self) -> impl Fn(($($name,)*)) -> Output + Copy + Send + 'static
            where
                Self: Copy + Send + 'static,
            {
                move |($($part,)*)| self($($part),*)
            }
        }
    )*};
}

star! {
    (A a, B b);
    (A a, B b, C c);
    (A a, B b, C c, D d);
    (A a, B b, C c, D d, E e);
    (A a, B b, C c, D d, E e, F f);
    (A a, B b, C c, D d, E e, F f, G g);
    (A a, B b, C c, D d, E e, F f, G g, H h);
}
