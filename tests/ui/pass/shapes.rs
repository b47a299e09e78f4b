#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused, unsafe_op_in_unsafe_fn)]
#![deny(missing_debug_implementations, unreachable_pub)]
//! Every shape that a message may have.

use pagemate::Message;

/// Stored as a byte.
#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
pub enum Side {
    /// 0
    Buy,
    /// 7
    Sell = 7,
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(i64)]
enum Far {
    Least = i64::MIN,
    #[allow(non_camel_case_types)]
    r#type = -1,
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    side: Side,
    r#type: bool,
    _pad: [u8; 2],
    letter: char,
    sides: [[Side; 2]; 4],
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Position(u32, i32);

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Nothing;

#[derive(Debug, Clone, Copy, Message)]
#[repr(transparent)]
struct Meters(f32);

#[derive(Debug, Clone, Copy, Message)]
#[repr(C, align(64))]
struct Line {
    bytes: [u8; 64],
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Pair<T: Message, U = T>
where
    U: PartialEq,
{
    first: T,
    second: U,
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Text<const N: usize> {
    bytes: [u8; N],
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Named<T, const C: char, const D: i8>(T);

mod elsewhere {
    pub(crate) use pagemate as mate;
}

#[derive(Debug, Clone, Copy, Message)]
#[message(crate = "elsewhere::mate", no_bytemuck)]
#[repr(C)]
struct Moved {
    count: u64,
}

fn show<T: Message>() -> String {
    assert_eq!((size_of::<T::Bits>(), align_of::<T::Bits>()), (size_of::<T>(), align_of::<T>()));
    let schema = T::schema();
    assert_eq!(schema.size(), size_of::<T>() as u64);
    assert_eq!(schema.to_string().parse::<pagemate::Schema>().unwrap(), schema);
    schema.to_string()
}

fn main() {
    assert_eq!(show::<Side>(), "enum Side u8 { Buy = 0, Sell = 7 }");
    assert_eq!(show::<Far>(), format!("enum Far i64 {{ Least = {}, type = -1 }}", i64::MIN));
    assert!(show::<Tick>().contains(" 9 type: bool,") && show::<Tick>().contains("16 sides: [[enum Side"));
    assert_eq!(show::<Position>(), "struct Position size 8 align 4 { 0 0: u32, 4 1: i32 }");
    assert_eq!(show::<Nothing>(), "struct Nothing size 0 align 1 {}");
    assert_eq!(show::<Meters>(), "struct Meters size 4 align 4 { 0 0: f32 }");
    assert_eq!(show::<Line>(), "struct Line size 64 align 64 { 0 bytes: [u8; 64] }");
    assert_eq!(show::<Moved>(), "struct Moved size 8 align 8 { 0 count: u64 }");
    assert_eq!(Pair::<[u8; 4], f32>::schema().name(), "Pair<[u8; 4], f32>");
    let begin = "struct Pair<Pair<u32, u32>, u64> size 16 align 8 { 0 first";
    assert!(show::<Pair<Pair<u32>, u64>>().starts_with(begin));
    assert_eq!(show::<[Text<3>; 2]>(), "[struct Text<3> size 3 align 1 { 0 bytes: [u8; 3] }; 2]");
    assert_eq!(Named::<(), '>', -3>::schema().name(), "Named<(), 62, -3>");
    assert!(Tick::ZERO_VALID && !Tick::ANY_BITS && Position::ANY_BITS && !Far::ZERO_VALID);
    assert_eq!(show::<shadowed::Byte>(), "enum Byte u8 { Zero = 0 }");
    assert_eq!(hidden::name(), "Bounded<u8>");
    let _ = (Far::Least, Far::r#type, Side::Buy, Side::Sell);
}

mod shadowed {
    #![allow(non_camel_case_types, dead_code)]
    type u8 = u64;
    struct Vec;
    struct String;
    mod std {}

    #[derive(Debug, Clone, Copy, pagemate::Message)]
    #[repr(u8)]
    pub(super) enum Byte {
        Zero,
    }
}

mod hidden {
    trait Hidden {}
    impl Hidden for u8 {}

    #[derive(Debug, Clone, Copy, pagemate::Message)]
    #[repr(C)]
    #[allow(private_bounds)]
    pub(super) struct Bounded<T: Hidden>(T);

    pub(super) fn name() -> std::string::String {
        <Bounded<u8> as pagemate::Message>::schema().name()
    }
}
