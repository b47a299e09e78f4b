//! `demo` prints what its two processes exchange, and ends without an error.

use std::process::Command;

#[test]
fn prints_the_lines_of_each_process_in_order() {
    for _ in 0..10 {
        let output = Command::new(env!("CARGO_BIN_EXE_pagemate")).arg("demo").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<_> = text.lines().collect();

        let last = lines.pop().unwrap();
        let elapsed = last.strip_prefix("elapsed: ").and_then(|rest| rest.strip_suffix(" ms"));
        assert!(elapsed.is_some_and(|number| number.parse::<f64>().is_ok()), "{last:?}");

        assert_eq!(lines.pop().unwrap(), "list: [29, 49]");
        assert_eq!(lines.pop().unwrap(), r#"dict: {"A process": 245, "B process": 445}"#);

        // Each process prints its own lines in order. Either of the two may print first at the end.
        let expected = |prefix: &str, range: std::ops::Range<u32>| {
            range.map(|n| format!("{prefix}{n}")).collect::<Vec<_>>()
        };
        assert_eq!(lines[..10], expected("from the queue: ", 0..10));
        let of =
            |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).copied().collect::<Vec<_>>();
        assert_eq!(of("A process: "), expected("A process: ", 20..30));
        assert_eq!(of("B process: "), expected("B process: ", 40..50));
        assert_eq!(lines.len(), 30);
    }
}
