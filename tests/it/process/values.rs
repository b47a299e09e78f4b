//! Arguments and results of every type.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use pagemate::process::Argument;
use pagemate::{Message, Process};

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    size: u32,
    side: [u8; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 3,
    Sell,
}

#[test]
fn a_message_a_string_and_a_tuple() {
    let tick = Tick { price: 1.5, size: 41, side: *b"sell" };
    let child = Process::spawn(|tick: Tick| Tick { size: tick.size + 1, ..tick }, tick).unwrap();
    assert_eq!(child.join().unwrap(), Tick { size: 42, ..tick });

    let child = Process::spawn(|text: String| text.to_uppercase(), String::from("grüße")).unwrap();
    assert_eq!(child.join().unwrap(), "GRÜSSE");

    let child = Process::spawn(|(a, b, c): (u8, Vec<u16>, Option<String>)| (c, b, a), (1, vec![2, 3], None));
    assert_eq!(child.unwrap().join().unwrap(), (None, vec![2, 3], 1));
}

fn echo<A: Argument>(value: A) -> A {
    value
}

#[track_caller]
fn comes_back<A: Argument + Clone + PartialEq + Debug + 'static>(value: A) {
    assert_eq!(Process::spawn(echo::<A>, value.clone()).unwrap().join().unwrap(), value);
}

#[test]
fn every_type_comes_back() {
    comes_back(());
    comes_back((1u8, -2i16, 3u32, -4i64, u128::MAX, 0.5f32, -0.25f64, 'ß'));
    comes_back((true, usize::MAX, isize::MIN, Side::Sell, [Side::Buy, Side::Sell], [[1u8; 3]; 2]));
    comes_back((vec![Tick { price: 0.0, size: 1, side: [0; 4] }; 3], Vec::<u64>::new(), vec![0xffu8; 3]));
    comes_back((vec![String::from("a"), String::new()], vec![vec![1u8], vec![]], vec![(1u8, None::<u8>)]));
    comes_back((Some(Some(1u8)), Some(None::<u8>), None::<Option<u8>>));
    comes_back((Ok::<u8, String>(1), Err::<u8, String>("no".into())));
    comes_back((PathBuf::from("/a/b"), OsString::from_vec(vec![0xff, 0xfe]), Duration::from_nanos(7)));
}

#[test]
fn any_length_goes_both_ways() {
    let length = 48 << 20;
    let child = Process::spawn(
        |mut bytes: Vec<u8>| {
            bytes.push(7);
            bytes
        },
        vec![1u8; length],
    );
    let bytes = child.unwrap().join().unwrap();
    assert_eq!((bytes.len(), bytes[length - 1], bytes[length]), (length + 1, 1, 7));
}

#[test]
fn a_child_inherits_directory_arguments_and_environment() {
    super::alone(surroundings);
}

fn surroundings((): ()) {
    // SAFETY: no other thread of this program calls C code that reads the environment while it
    // changes.
    unsafe { std::env::set_var("PAGEMATE_TEST_SURROUNDINGS", "here") };
    let child = Process::spawn(
        |()| {
            assert_eq!(fs::read_link("/proc/self/fd/0").unwrap(), PathBuf::from("/dev/null"));
            assert_eq!(std::env::var_os("PAGEMATE_CHILD"), None);
            // SAFETY: a null action changes nothing, and the old one is written to `action`.
            let pipe = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action);
                action.sa_sigaction
            };
            assert_eq!(pipe, libc::SIG_IGN, "as in any Rust program");
            let arguments: Vec<OsString> = std::env::args_os().collect();
            (
                std::env::current_dir().unwrap(),
                arguments,
                std::env::var("PAGEMATE_TEST_SURROUNDINGS").unwrap(),
            )
        },
        (),
    );
    let (dir, arguments, variable) = child.unwrap().join().unwrap();
    assert_eq!(dir, std::env::current_dir().unwrap());
    assert_eq!(arguments, std::env::args_os().collect::<Vec<_>>());
    assert_eq!(variable, "here");
}

#[test]
fn many_at_once_from_many_threads() {
    std::thread::scope(|scope| {
        for thread in 0..10u32 {
            scope.spawn(move || {
                let spawn = |n| Process::spawn(|(a, b): (u32, String)| format!("{a}{b}"), (thread, n));
                let children: Vec<_> = (0..10).map(|n| spawn(format!("-{n}")).unwrap()).collect();
                for (n, child) in children.into_iter().enumerate() {
                    assert_eq!(child.join().unwrap(), format!("{thread}-{n}"));
                }
            });
        }
    });
}

/// Exceeding the file size limit (`ulimit -f`) also raises SIGXFSZ, which ends a process by
/// default.
#[test]
fn exceeding_the_file_size_limit_is_an_error() {
    super::alone(|()| {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        // SAFETY: `setrlimit` only reads `limit`, which is this function's own.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let error = Process::spawn(|bytes: Vec<u8>| bytes.len() as u64, vec![1; 4 << 20]).unwrap_err();
        assert_eq!(error.kind(), pagemate::ErrorKind::OutOfMemory, "{error}");
        let error = Process::spawn(|len: u64| vec![1_u8; len as usize], 4 << 20).unwrap().join().unwrap_err();
        assert_eq!(error.signal(), None);
        assert!(error.to_string().contains("result could not be sent"), "{error}");
    });
}
