//! What may be a message: every shape that works, and the error of everything that does not.

use pagemate::Message;

/// The compiler whose wording `tests/ui/fail` has recorded. Other versions may say the same in other words; there, what is
/// refused is still tried by the `compile_fail` examples in the docs.
const RECORDED_WITH: &str = "1.95";

#[test]
fn derive() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    let rustc = std::process::Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    if version.split(' ').nth(1).is_some_and(|version| version.starts_with(RECORDED_WITH)) {
        cases.compile_fail("tests/ui/fail/*.rs");
    } else {
        println!("the wording of errors is not compared: it is recorded for rustc {RECORDED_WITH}, this is {version}");
    }
}

mod one {
    #[derive(Debug, Clone, Copy, PartialEq, pagemate::Message)]
    #[repr(C)]
    pub(super) struct Tick {
        pub(super) price: f32,
        pub(super) amount: u32,
        pub(super) side: Side,
        pub(super) _pad: [u8; 3],
    }

    #[derive(Debug, Clone, Copy, PartialEq, pagemate::Message)]
    #[repr(u8)]
    pub(super) enum Side {
        Buy = 1,
        Sell = 2,
    }
}

mod two {
    pub(super) use deeper::Tick;

    mod deeper {
        #[derive(Clone, Copy, pagemate::Message)]
        #[repr(C)]
        pub(crate) struct Tick {
            price: f32,
            amount: u32,
            side: Side,
            _pad: [u8; 3],
        }

        #[derive(Clone, Copy, pagemate::Message)]
        #[repr(u8)]
        pub(crate) enum Side {
            #[allow(dead_code)]
            Buy = 1,
            #[allow(dead_code)]
            Sell = 2,
        }
    }
}

mod swapped {
    #[derive(Clone, Copy, pagemate::Message)]
    #[repr(C)]
    pub(super) struct Tick {
        amount: u32,
        price: f32,
        side: super::one::Side,
        _pad: [u8; 3],
    }
}

#[test]
fn the_same_declaration_is_the_same_type() {
    let (one, two, swapped) = (one::Tick::schema(), two::Tick::schema(), swapped::Tick::schema());
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_ne!(one.to_string(), swapped.to_string());
    assert_ne!(one.fingerprint(), swapped.fingerprint());
}

#[test]
fn what_is_not_generic_has_the_traits_of_bytemuck() {
    fn bounds<T: Message + bytemuck::NoUninit + bytemuck::CheckedBitPattern>() {}
    bounds::<one::Tick>();
    bounds::<one::Side>();
    bounds::<[u64; 3]>();
}

#[test]
fn bytes_are_checked_through_bytemuck() {
    let tick = one::Tick { price: 1.5, amount: 2, side: one::Side::Sell, _pad: [0; 3] };
    let mut bytes = bytemuck::bytes_of(&tick).to_vec();
    assert_eq!(bytemuck::checked::try_pod_read_unaligned::<one::Tick>(&bytes), Ok(tick));
    assert_eq!(one::Tick::schema().render(&bytes), "Tick { price: 1.5, amount: 2, side: Sell }");
    bytes[8] = 9;
    assert!(bytemuck::checked::try_pod_read_unaligned::<one::Tick>(&bytes).is_err());
    assert_eq!(one::Tick::schema().render(&bytes), "Tick { price: 1.5, amount: 2, side: <invalid 9> }");
    let _ = one::Side::Buy;
}
