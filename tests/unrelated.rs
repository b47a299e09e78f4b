//! Two programs that were built apart, each with its own declaration of the message type. With
//! equal types they exchange messages, with different types they get an error.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use pagemate::{ErrorKind, Message, Queue};

fn example(name: &str) -> Command {
    // target/PROFILE/deps/this-test: the examples are in a folder beside `deps`.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples").join(name))
}

#[test]
fn a_struct_that_each_declares_itself() {
    for reader_first in [true, false] {
        let name = format!("test-unrelated-{}-{reader_first}", std::process::id());
        let mut reader = example("market_reader");
        reader.arg(&name).stdout(Stdio::piped());
        let mut ticker = example("ticker");
        ticker.args([&name, "20000"]);
        let (reader, mut ticker) = if reader_first {
            let reader = reader.spawn().unwrap();
            (reader, ticker.spawn().unwrap())
        } else {
            let ticker = ticker.spawn().unwrap();
            (reader.spawn().unwrap(), ticker)
        };
        assert!(ticker.wait().unwrap().success());
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success());
        // The sums over 1..=20000 of size * size / 4, and of the even sizes.
        let turnover: u64 = (1..=20_000u64).map(|size| size * size).sum::<u64>();
        let expected =
            format!("20000 ticks, {} bought, turnover {}\n", 10_000u64 * 10_001, turnover as f64 / 4.0);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert!(!std::path::Path::new("/dev/shm").join(format!("pagemate.{name}")).exists());
    }
}

mod one {
    #[derive(Clone, Copy, pagemate::Message)]
    #[repr(C)]
    pub(crate) struct Order {
        pub(crate) id: u32,
        pub(crate) size: u32,
    }
}

mod other {
    #[derive(Clone, Copy, pagemate::Message)]
    #[repr(C)]
    pub(crate) struct Order {
        pub(crate) size: u32,
        pub(crate) id: u32,
    }
}

#[test]
fn a_swapped_field_is_an_error_that_shows_both() {
    let name = format!("test-unrelated-swapped-{}", std::process::id());
    let _orders = Queue::<one::Order>::create(&name, 8).unwrap();
    let error = Queue::<other::Order>::open(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    let text = error.to_string();
    assert!(text.contains("id") && text.contains("size") && text.matches("Order").count() >= 2, "{text}");
    assert_ne!(one::Order::schema().fingerprint(), other::Order::schema().fingerprint());
}
