//! The layers of the library: a file imports only from its own folder and from lower layers.

use std::fs;
use std::path::{Path, PathBuf};

/// Lower layers first. A layer is a folder of `src`, or a file beside the folders.
const LAYERS: &[&str] = &[
    "error",
    "failpoint",
    "loom",
    "sys",
    "wait",
    "message",
    "registry",
    "segment",
    "sync",
    "heap",
    "queue",
    "pipe",
    "service",
    "collections",
    "compat",
    "waitset",
    "process",
    "pool",
    "inspect",
    "testing",
    "model",
];

/// The one file that imports from higher layers: the table of kinds. A process that reaps a dead
/// participant must recover every kind of object, also those that it never uses.
const TABLE_OF_KINDS: &str = "registry.rs";

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Returns the layers that the code of a file names: the first part of every path that begins with
/// `crate`. Comments do not count, and neither do the names that `lib.rs` exports.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, code) in text.lines().enumerate() {
        let code = code.split("//").next().unwrap_or("");
        for (at, _) in code.match_indices("crate::") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &code[at + "crate::".len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => first_parts(group.split('}').next().unwrap_or("")),
                None => vec![identifier(rest)],
            };
            found.extend(
                names.into_iter().filter(|name| is_module(name)).map(|name| (line + 1, name.to_string())),
            );
        }
    }
    found
}

/// Returns the `a` and the `c` of `a::b, c::d`.
fn first_parts(group: &str) -> Vec<&str> {
    group.split(',').map(|part| identifier(part.trim())).collect()
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

fn is_module(name: &str) -> bool {
    name.starts_with(|c: char| c.is_lowercase()) && !name.starts_with("__")
}

/// Returns the faulty imports of the file at `path` below `src`, and the number of all imports.
fn faults(path: &str, text: &str) -> (Vec<String>, usize) {
    let own = path.split('/').next().unwrap_or("").trim_end_matches(".rs");
    let place = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    let Some(here) = place(own) else {
        return (vec![format!("src/{path} belongs to no layer: add its folder to tests/layers.rs")], 0);
    };
    let mut faults = Vec::new();
    let imports = imports(text);
    for (line, name) in &imports {
        match place(name) {
            Some(there) if there > here && path != TABLE_OF_KINDS => {
                faults.push(format!("src/{path}:{line} imports from {name}, which is a higher layer"));
            }
            Some(_) => {}
            // A function or a macro of the root.
            None => {}
        }
    }
    (faults, imports.len())
}

#[test]
fn no_file_imports_from_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut all = Vec::new();
    let mut edges = 0;
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        // A test may use what it needs.
        if path == "lib.rs" || path.ends_with("tests.rs") {
            continue;
        }
        let (faults, found) = faults(path, &fs::read_to_string(&file).unwrap());
        all.extend(faults);
        edges += found;
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert!(edges > 400, "only {edges} imports were found: the test does not read them any more");
}

#[test]
fn an_upward_import_is_found_wherever_it_is_written() {
    let planted = [
        "    let heap = crate::heap::Heap::open();",
        "pub use crate::queue::Queue;",
        "pub(super) use crate::pool::Pool;",
        "use crate::{Error, inspect::contents};",
        "    if x == crate::pool::recover(kind, y) {",
    ];
    for text in planted {
        assert_eq!(faults("sys/futex.rs", text).0.len(), 1, "{text}");
    }
    assert!(faults("sys/futex.rs", "// see crate::pool::Pool").0.is_empty());
    assert!(faults("registry.rs", "use crate::pool;").0.is_empty());
    assert!(faults("segment/directory.rs", "use crate::registry::recover;").0.is_empty());
}
