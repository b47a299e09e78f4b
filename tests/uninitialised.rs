//! A program that forgets `pagemate::init()` gets an error that says so, and does not start itself
//! without end. It is a program of its own, because all others call it.

use pagemate::{ErrorKind, Process};

#[test]
fn spawning_without_init_is_an_error() {
    let error = Process::spawn(|()| (), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialised);
    let text = error.to_string();
    assert!(text.contains("put `pagemate::init();` as the first line of `main`"), "{text}");
    assert!(text.contains("`pagemate::init_tests!();`"), "{text}");
}
