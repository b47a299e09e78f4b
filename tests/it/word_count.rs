//! The word count example, on a megabyte of text: its output equals that of `sort | uniq -c`, byte
//! for byte.

#[path = "../../examples/word_count/main.rs"]
#[allow(dead_code)] // its main is not called
mod example;

use std::process::Command;

#[test]
fn fewer_bytes_than_processes() {
    let path = std::env::temp_dir().join(format!("pagemate-test-word-{}", std::process::id()));
    for (text, expected) in
        [("", vec![]), ("a", vec![("a".to_string(), 1)]), (" a ", vec![("a".to_string(), 1)])]
    {
        std::fs::write(&path, text).unwrap();
        assert_eq!(example::count(path.to_str().unwrap(), 4, false).unwrap(), expected, "{text:?}");
    }
    std::fs::write(&path, [b'a', 0xff]).unwrap();
    let error = example::count(path.to_str().unwrap(), 1, false).unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn like_sort_and_uniq() {
    let path = std::env::temp_dir().join(format!("pagemate-test-words-{}", std::process::id()));
    let file = path.to_str().unwrap();
    let mut text = b" \n\n".to_vec();
    example::text::write(1 << 20, &mut text).unwrap();
    text.extend_from_slice(b"\t\x0blast");
    std::fs::write(&path, text).unwrap();

    let pipe = "tr -s ' \\t\\n\\v\\f\\r' '\\n' < \"$0\" | sed '/^$/d' | sort | uniq -c";
    let expected = Command::new("sh").env("LC_ALL", "C").args(["-c", pipe, file]).output().unwrap().stdout;
    assert!(expected.len() > 10_000, "{}", String::from_utf8_lossy(&expected));
    // 7: ranges that begin and end in the middle of words.
    for (processes, local) in [(1, false), (4, false), (7, true)] {
        let mut counts = example::count(file, processes, local).unwrap();
        counts.sort_unstable();
        let mut printed = Vec::new();
        example::print(&counts, &mut printed).unwrap();
        assert!(printed == expected, "{processes} processes, adding up first: {local}");
    }
    std::fs::remove_file(&path).unwrap();
}
