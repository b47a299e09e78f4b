//! The least cost of a value: one atomic beside plain bytes, which nothing protects from a writer.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::link::{Pair, Result};
use crate::object::Cell;

#[derive(Debug)]
pub struct Bare<const N: usize>;

#[derive(Debug)]
#[repr(align(128))]
pub struct Copied<const N: usize> {
    sequence: AtomicU64,
    words: [u64; N],
}

impl<const N: usize> Pair for Bare<N> {
    type End = Box<Copied<N>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let one = || Box::new(Copied { sequence: AtomicU64::new(0), words: [0; N] });
        Ok((one(), one()))
    }
}

impl<const N: usize> Cell<N> for Box<Copied<N>> {
    #[inline]
    fn get(&mut self) -> [u64; N] {
        // Behind black boxes, so that each time is a load and a copy.
        let there = black_box(&**self);
        let first = there.sequence.load(Acquire);
        if N == 1 {
            return [first; N];
        }
        there.words
    }

    #[inline]
    fn set(&mut self, value: [u64; N]) {
        let there = black_box(&mut **self);
        if N == 1 {
            return there.sequence.store(value[0], Release);
        }
        there.words = value;
        there.sequence.store(value[0], Release);
    }
}
