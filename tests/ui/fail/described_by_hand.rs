#![deny(unsafe_code)]

#[derive(Clone, Copy)]
#[repr(C)]
struct Padded(u8, u64);

pagemate::__private::message_struct! {
    struct Padded PaddedBits
    plain [Padded bytemuck]
    #[repr(C)]
    impl [] for [] where []
    name { String::new() }
    gaps { () }
    fields { 0 first "0" u8, u8, 1 second "1" u64, u64, }
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Flag(bool);

pagemate::__private::message_struct! {
    struct Flag FlagBits
    plain [Flag bytemuck]
    #[repr(C)]
    impl [] for [] where []
    name { String::new() }
    gaps { () }
    fields { 0 first "0" u8, u8, }
}

fn main() {}
