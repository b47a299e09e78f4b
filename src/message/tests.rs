//! Messages: bytes that are read and written, valid or not; schemas that are printed and parsed.

use proptest::prelude::*;

use super::private::{Field, Layout, Variant};
use super::schema::Primitive;
use super::{bytes_of, is_valid, mismatch, private, read, write, CachePadded, Schema};
use crate::{ErrorKind, Message};

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[message(crate = "crate")]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[message(crate = "crate")]
#[repr(C)]
struct Tick {
    price: f64,
    letter: char,
    sides: [Side; 2],
    is_last: bool,
    _pad: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[message(crate = "crate")]
#[repr(C)]
struct Pair<T>(T, T);

const TICK: Tick = Tick { price: 1.5, letter: 'ß', sides: [Side::Sell, Side::Buy], is_last: true, _pad: 0 };

/// Returns the bytes at an address that is not aligned, as if they came from elsewhere.
fn unaligned(bytes: &[u8]) -> Vec<u128> {
    let mut memory = vec![0u128; bytes.len() / 16 + 2];
    bytemuck::cast_slice_mut::<u128, u8>(&mut memory)[1..=bytes.len()].copy_from_slice(bytes);
    memory
}

fn read_from<T: Message>(bytes: &[u8]) -> Option<T> {
    assert_eq!(bytes.len(), size_of::<T>());
    let mut aligned = std::mem::MaybeUninit::<T>::uninit();
    // SAFETY: `size_of::<T>()` bytes are copied into a place for a T, and checked there.
    let valid_in_place = unsafe {
        bytes.as_ptr().copy_to_nonoverlapping(aligned.as_mut_ptr().cast::<u8>(), bytes.len());
        is_valid::<T>(aligned.as_ptr().cast::<u8>())
    };
    let memory = unaligned(bytes);
    let src = bytemuck::cast_slice::<u128, u8>(&memory)[1..].as_ptr();
    // SAFETY: `memory` holds all the bytes after its first one.
    let (value, valid) = unsafe { (read::<T>(src), is_valid::<T>(src)) };
    assert_eq!((value.is_some(), valid), (valid_in_place, valid_in_place));
    value
}

#[test]
fn what_is_written_is_read() {
    let mut memory = [0u128; 3];
    let dst = bytemuck::cast_slice_mut::<u128, u8>(&mut memory)[3..].as_mut_ptr();
    // SAFETY: 45 bytes are left behind the third.
    unsafe { write(dst, TICK) };
    // SAFETY: as above.
    assert_eq!(unsafe { read::<Tick>(dst) }, Some(TICK));
    assert_eq!(read_from::<Tick>(bytes_of(&TICK)), Some(TICK));
    assert_eq!(read_from::<[u16; 3]>(&[1, 0, 2, 0, 3, 0]), Some([1, 2, 3]));
    assert_eq!(read_from::<()>(&[]), Some(()));
    assert_eq!(bytes_of(&Pair(1u16, 2)), [1, 0, 2, 0]);
}

#[test]
fn invalid_bytes_are_refused_wherever_they_are() {
    for (at, value) in [(8, 0xff), (11, 0x11), (12, 2), (13, 0xff), (14, 2)] {
        let mut bytes = bytes_of(&TICK).to_vec();
        bytes[at] = value;
        let is_valid = at == 8; // another letter
        assert_eq!(read_from::<Tick>(&bytes).is_some(), is_valid, "byte {at} = {value}");
        assert_eq!(read_from::<[Pair<Tick>; 1]>(&[bytes_of(&TICK), &bytes].concat()).is_some(), is_valid);
    }
    assert_eq!(read_from::<char>(&0xd800u32.to_le_bytes()), None);
    assert_eq!(read_from::<bool>(&[2]), None);
}

#[test]
fn what_is_known_of_all_bytes() {
    const { assert!(Pair::<[f32; 4]>::ANY_BITS && !Pair::<[bool; 4]>::ANY_BITS && !Tick::ANY_BITS) };
    const { assert!(Tick::ZERO_VALID && Side::ZERO_VALID && char::ZERO_VALID) };
    assert!(read_from::<Tick>(&[0; 16]).is_some());
}

#[test]
fn a_message_is_printed_by_its_text_alone() {
    let schema: Schema = Tick::schema().to_string().parse().unwrap();
    let bytes = bytes_of(&TICK);
    assert_eq!(schema.render(bytes), "Tick { price: 1.5, letter: 'ß', sides: [Sell, Buy], is_last: true }");
    assert_eq!(
        schema.render(&[&[0xff; 13][..], &[9]].concat()),
        "Tick { price: NaN, letter: <invalid 4294967295>, \
         sides: [<invalid 255>, <invalid 9>], is_last: <truncated> }"
    );
    assert_eq!(Pair::<i128>::schema().render(&[0xff; 20]), "Pair<i128>(-1, <truncated>)");
    assert_eq!(u128::schema().render(&[0xff; 16]), u128::MAX.to_string());
    let long = <[u8; 100]>::schema().render(&[7; 100]);
    assert!(long.ends_with("7, 7, .. 68 more]"), "{long}");
}

#[test]
fn printing_is_bounded() {
    let mut text = "struct A size 0 align 1 {}".to_owned();
    for _ in 0..40 {
        text = format!("[{text}; 281474976710656]");
    }
    let text = text.parse::<Schema>().unwrap().render(&[]);
    assert!(text.len() < 20_000, "{}", text.len());
}

#[test]
fn a_mismatch_shows_both_layouts() {
    let found = Tick::schema().to_string().replace("12 sides: [enum", "12 side: [enum");
    let error = mismatch("queue `ticks`", &Tick::schema().to_string(), &found);
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(
        error.to_string(),
        "queue `ticks` holds messages of another layout\n  \
           this program expects:
      struct Tick {  // size 16, align 8
          price: f64,  // at 0
          letter: char,  // at 8
    >     sides: [enum Side: u8 { Buy = 0, Sell = 1 }; 2],  // at 12
          is_last: bool,  // at 14
          _pad: u8,  // at 15
      }
  it was created with:
      struct Tick {  // size 16, align 8
          price: f64,  // at 0
          letter: char,  // at 8
    >     side: [enum Side: u8 { Buy = 0, Sell = 1 }; 2],  // at 12
          is_last: bool,  // at 14
          _pad: u8,  // at 15
      }"
    );
    let error = mismatch("it", "u8", "\u{1b}[2J garbage").to_string();
    assert!(error.contains("    > u8") && error.contains("    > \\u{1b}[2J garbage"), "{error}");
}

#[test]
fn fingerprints_are_fnv_1a() {
    // From the text "()", by hand: ((basis ^ 0x28) * prime ^ 0x29) * prime.
    let prime = 0x0000_0100_0000_01b3_u64;
    let expected = ((0xcbf2_9ce4_8422_2325 ^ 0x28_u64).wrapping_mul(prime) ^ 0x29).wrapping_mul(prime);
    assert_eq!(<()>::schema().fingerprint(), expected);
}

#[test]
fn other_texts_are_refused() {
    let deep = format!("{}u8{}", "[".repeat(100_000), "; 1]".repeat(100_000));
    let names = format!("struct {}u8{} size 0 align 1 {{}}", "A<".repeat(100_000), ">".repeat(100_000));
    let long = format!("struct {} size 0 align 1 {{}}", "A".repeat(2 << 20));
    for text in [
        "",
        " u8",
        "u8 ",
        "u9",
        "usize",
        "[u8; 01]",
        "[u8; -1]",
        "[u8;1]",
        "[u8; 18446744073709551616]",
        "[[u8; 4294967296]; 4294967296]",
        "struct A size 1 align 3 {}",
        "struct A size 1 align 1 { }",
        "struct A size 1 align 1 { 0 a: u16 }",
        "struct A size 4 align 1 { 2 a: u8, 2 b: u8 }",
        "struct A size 4 align 1 { 0 a: u8, }",
        "struct A size 4 align 1 { 0 a\u{202e}: u8 }",
        "struct A size 4 align 1 { 0 a\n: u8 }",
        "struct A<> size 1 align 1 {}",
        "enum A u8 { B = 256 }",
        "enum A i8 { B = -0 }",
        "enum A f32 { B = 0 }",
        &deep,
        &names,
        &long,
    ] {
        let error = text.parse::<Schema>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{}", &text[..text.len().min(50)]);
    }
}

#[test]
fn lines_of_its_own() {
    let mut padded = CachePadded::new(1u8);
    *padded += 1;
    assert_eq!((*padded, align_of_val(&padded), size_of_val(&[padded; 2])), (2, 128, 256));
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z_äλ名][a-zA-Z0-9_äλ名]{0,6}"
}

fn type_name() -> impl Strategy<Value = String> {
    let argument = prop_oneof![word(), "-[1-9][0-9]?", Just("[Pair<(), u8>; 4]".to_owned())];
    (word(), prop::collection::vec(argument, 0..3)).prop_map(|(name, arguments)| match arguments[..] {
        [] => name,
        _ => private::generic_name(&name, &arguments),
    })
}

fn enumeration() -> impl Strategy<Value = Layout> {
    let reprs: Vec<Primitive> = Primitive::ALL.into_iter().filter(|repr| repr.range().is_some()).collect();
    (type_name(), prop::sample::select(reprs), prop::collection::vec((word(), any::<i64>()), 0..5)).prop_map(
        |(name, repr, variants)| {
            let (least, most) = repr.range().unwrap();
            let variants = variants
                .into_iter()
                .map(|(name, value)| Variant { name, value: i128::from(value).clamp(least, most) })
                .collect();
            Layout::Enum { name, repr, variants }
        },
    )
}

fn structure(part: impl Strategy<Value = Layout>) -> impl Strategy<Value = Layout> {
    let field = (word(), 0..3u64, part);
    (type_name(), 0..10u32, 0..9u64, prop::collection::vec(field, 0..5)).prop_map(
        |(name, align, rest, parts)| {
            let (mut fields, mut end) = (Vec::new(), 0);
            for (name, gap, layout) in parts {
                fields.push(Field { name, offset: end + gap, layout });
                end += gap + fields.last().map_or(0, |field: &Field| field.layout.size());
            }
            Layout::Struct { name, size: end + rest, align: 1 << align, fields }
        },
    )
}

fn layout() -> impl Strategy<Value = Layout> {
    let leaf =
        prop_oneof![prop::sample::select(Primitive::ALL.to_vec()).prop_map(Layout::Primitive), enumeration()];
    leaf.prop_recursive(4, 32, 5, |part| {
        prop_oneof![
            (part.clone(), 0..50u64).prop_map(|(element, count)| Layout::Array(Box::new(element), count)),
            structure(part),
        ]
    })
}

proptest! {
    // No file of regressions: an input that failed becomes a test above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_gives_its_layout_back(layout in layout(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let schema = Schema::new(layout);
        let again: Schema = schema.to_string().parse()?;
        prop_assert_eq!(&again, &schema);
        prop_assert_eq!(again.fingerprint(), schema.fingerprint());
        prop_assert_eq!(again.render(&bytes), schema.render(&bytes));
        schema.pretty();
    }

    /// Parses a valid text with a few bytes exchanged, which reaches further than random text does.
    #[test]
    fn damaged_texts_are_read_or_refused(
        layout in layout(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[ -~é]"), 1..4),
    ) {
        let mut text: Vec<char> = Schema::new(layout).to_string().chars().collect();
        for (at, with) in damage {
            let at = at.index(text.len());
            text.splice(at..=at, with.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(schema) = text.parse::<Schema>() {
            prop_assert_eq!(schema.to_string(), text);
            schema.render(&[0xa5; 64]);
        }
    }

    #[test]
    fn random_texts_are_read_or_refused(
        text in any::<String>(),
        tokens in "(struct |enum |A|B<| size | align |[{}0-9: ,=;()<>\\[\\]]|u8|-){0,40}",
    ) {
        for text in [text, tokens] {
            if let Ok(schema) = text.parse::<Schema>() {
                prop_assert_eq!(schema.to_string(), text);
            }
        }
    }
}
