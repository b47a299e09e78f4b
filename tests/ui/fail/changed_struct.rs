#![deny(unsafe_code)]
#![allow(dead_code)]
extern crate change;
use pagemate::Message;

type Word = u64;

#[derive(Clone, Copy, Message)]
#[change::replace(u8 => bool)]
#[repr(C)]
struct Flag {
    flag: u8,
}

#[derive(Clone, Copy, Message)]
#[change::replace(Word => &'static Word)]
#[repr(C)]
struct Pointer {
    pointer: Word,
}

#[derive(Clone, Copy, Message)]
#[change::replace(end => hidden: (), end)]
#[repr(C)]
struct Hidden {
    count: u64,
    end: (),
}

fn main() {}
