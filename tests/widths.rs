//! The widths of lines: prose at most 100 columns, code at most 110. A column is a character.
//!
//! Exempt is only what cannot wrap: rows of tables, and words that are wider than a line, such as
//! URLs. Code in comments and in Markdown counts as code. rustfmt wraps no comment, no macro and
//! no string, and leaves code as it is that holds one of them.

use std::fs;
use std::path::{Path, PathBuf};

const PROSE: usize = 100;
const CODE: usize = 110;

/// Appends the files below a folder that have prose or code, except those that tools have made.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_made = name.starts_with("target") || name.starts_with('.') && name != ".ci";
        if path.is_dir() && !is_made && !matches!(name, "artifacts" | "corpus" | "coverage") {
            sources(&path, found);
        } else if path.is_file() && !is_made && comment_signs(&path).is_some() {
            found.push(path);
        }
    }
}

/// Returns the signs that begin a comment in this file. In Markdown every line is prose. `None` if
/// the file is not read.
fn comment_signs(path: &Path) -> Option<&'static [&'static str]> {
    match path.extension().map(|extension| extension.to_str().unwrap()) {
        Some("rs") => Some(&["///", "//!", "//"]),
        Some("md") => Some(&[""]),
        Some("toml" | "py") => Some(&["#"]),
        // Scripts, such as those of `.ci`.
        None => Some(&["#"]),
        Some(_) => None,
    }
}

/// Returns the lines of a file that are too wide, each with its number and its width.
fn wide_lines(path: &Path, text: &str) -> Vec<(usize, usize)> {
    let signs = comment_signs(path).expect("a file that is read");
    let mut wide = Vec::new();
    let mut is_code_block = false;
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.trim_start();
        let prose = signs.iter().find_map(|sign| content.strip_prefix(sign)).map(str::trim_start);
        let is_fence = prose.is_some_and(|prose| prose.starts_with("```"));
        // A code block ends with its comment at the latest.
        is_code_block = prose.is_some() && is_code_block != is_fence;
        let most = if prose.is_some() && !is_code_block { PROSE } else { CODE };
        let width = line.chars().count();
        if width > most && !prose.is_some_and(|prose| !is_code_block && cannot_wrap(prose)) {
            wide.push((number, width));
        }
    }
    wide
}

/// Returns whether a line of prose is the row of a table or a single word, such as a URL, with the
/// sign of a list or the label of a link before it.
fn cannot_wrap(prose: &str) -> bool {
    let is_sign = |word: &str| matches!(word, "-" | "*") || word.ends_with("]:");
    prose.starts_with('|') || prose.split_whitespace().filter(|word| !is_sign(word)).count() <= 1
}

#[test]
fn no_line_is_too_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut all = Vec::new();
    let mut lines = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(root).unwrap().display();
        lines += text.lines().count();
        all.extend(
            wide_lines(file, &text).iter().map(|(line, width)| format!("{name}:{line} has {width} columns")),
        );
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert!(files.len() > 300 && lines > 40_000, "only {lines} lines in {} files were read", files.len());
}

#[test]
fn a_wide_line_is_found_wherever_it_is_written() {
    let words = |columns: usize| "x ".repeat(columns)[..columns].to_string();
    let wide = |name: &str, text: &str| wide_lines(Path::new(name), text);
    for (name, sign) in [("a.rs", "//! "), ("a.rs", "    /// "), ("a.rs", "    // "), ("a.md", "")] {
        let prose = |columns: usize| format!("{sign}{}x", words(columns - sign.len() - 1));
        assert_eq!(wide(name, &prose(PROSE)), [], "{name} {sign}");
        assert_eq!(wide(name, &format!("\n{}\n", prose(PROSE + 1))), [(2, PROSE + 1)], "{name} {sign}");
        let block = |columns: usize| format!("{sign}```\n{}\n{sign}```\n", prose(columns));
        assert_eq!(wide(name, &block(CODE)), [], "{name} {sign}");
        assert_eq!(wide(name, &block(CODE + 1)), [(2, CODE + 1)], "{name} {sign}");
        assert_eq!(wide(name, &(block(CODE) + &prose(PROSE + 1))).len(), 1, "after a block");
    }
    let code = |columns: usize| format!("let x = \"{}\";", words(columns - 11));
    assert_eq!(wide("a.rs", &code(CODE)), []);
    assert_eq!(wide("a.rs", &code(CODE + 1)), [(1, CODE + 1)]);
    assert_eq!(wide("run", &format!("# {}x", words(PROSE - 2))), [(1, PROSE + 1)]);
}

#[test]
fn what_cannot_wrap_may_be_wide() {
    let wide = |text: &str| wide_lines(Path::new("a.rs"), text);
    let url = format!("https://example.org/{}", "x".repeat(100));
    assert_eq!(wide(&format!("// {url}\n/// | {} | b |\n//! [x]: {url}\n//! - {url}", "a ".repeat(60))), []);
    assert_eq!(wide(&format!("// see {url}")).len(), 1, "the URL has a line of its own");
    assert_eq!(wide(&format!("// {}", "ä ".repeat(48))), [], "columns are not bytes");
}
