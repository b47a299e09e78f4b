//! The layers: a file of the library imports only from those above its own.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. A file belongs to the last line that its path begins with.
const LAYERS: &[&str] = &[
    "error",
    "fault",
    "loom",
    "owner",
    "sys/",
    "message",
    "item",
    "kind",
    "sync/wait",
    "participant",
    "segment/",
    "heap/class",
    "heap/known",
    "attachment",
    "directory",
    "heap",
    "object",
    "place",
    "sync/event",
    "sync/error",
    "sync/owned",
    "sync/mutex",
    "sync/lock",
    "sync/nest",
    "sync/rlock",
    "sync/rwlock",
    "sync/condvar",
    "sync/semaphore",
    "sync/bounded",
    "sync/barrier",
    "sync/once",
    "value",
    "array",
    "raw_sync",
    "shared_memory",
    "list",
    "queue/",
    "pipe",
    "dict",
    "namespace",
    "reference",
    "manager",
    "process/",
    "waitset/",
    "pool/",
    "switchboard",
    "inspect",
    "untyped",
];

/// The one upward edge: who is reaped must be reaped from every kind of object.
const UPWARD: &[(&str, &str)] = &[("directory", "switchboard")];

fn layer(path: &str) -> Option<usize> {
    let place = |layer: &str| {
        let folder = layer.strip_suffix('/');
        path == layer
            || folder.is_some_and(|f| path == f || path.starts_with(layer))
            || path.starts_with(&format!("{layer}/"))
    };
    LAYERS.iter().position(|layer| place(layer))
}

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

/// `use crate::a::b::{..}` gives `a/b`; what lib.rs exports (`Error`, `Result` ...) belongs to no layer of its own.
fn imports(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim_start().trim_start_matches("pub(crate) ").strip_prefix("use crate::"))
        .map(|rest| {
            let path = rest.split(['{', ';', '*']).next().unwrap_or("");
            path.split("::")
                .filter(|part| part.starts_with(|c: char| c.is_lowercase()))
                .collect::<Vec<_>>()
                .join("/")
        })
        .filter(|path| !path.is_empty())
        .collect()
}

#[test]
fn no_file_imports_from_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut faults = Vec::new();
    let mut edges = 0;
    for file in files {
        let own = file.strip_prefix(&root).unwrap().with_extension("");
        let own = own.to_str().unwrap().trim_end_matches("/mod").to_string();
        if own == "lib" || own == "sync" {
            continue;
        }
        let Some(here) = layer(&own) else {
            faults.push(format!("src/{own}.rs stands in no layer: name it in tests/layers.rs"));
            continue;
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let allowed = UPWARD.iter().any(|(from, to)| own == *from && import.starts_with(to));
            match layer(&import) {
                Some(there) if there > here && !allowed => {
                    faults.push(format!("src/{own}.rs imports from {import}, which is below it"));
                }
                Some(_) => edges += 1,
                None => faults.push(format!("src/{own}.rs imports from {import}, which stands in no layer")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(edges > 40, "only {edges} imports were found: the test does not read them any more");
}
