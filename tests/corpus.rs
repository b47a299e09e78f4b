//! The fuzz targets as plain tests: each stored input once. `.ci/fuzz` searches for new ones. A
//! program of its own, because it compiles the bodies in fuzz/.

#[path = "../fuzz/src/bodies/mod.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        std::fs::read_dir(&dir).expect("a stored corpus").map(|e| e.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "only {} stored inputs in {}", inputs.len(), dir.display());
    for input in inputs {
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
    }
}

#[test]
fn segment_open() {
    replay("segment_open", bodies::segment_open::run);
}

#[test]
fn queue_ops() {
    replay("queue_ops", bodies::queue_ops::run);
}

#[test]
fn topic_ops() {
    replay("topic_ops", bodies::topic_ops::run);
}

#[test]
fn topic_bytes() {
    replay("topic_bytes", bodies::topic_bytes::run);
}

#[test]
fn service_ops() {
    replay("service_ops", bodies::service_ops::run);
}

#[test]
fn dict_ops() {
    replay("dict_ops", bodies::dict_ops::run);
}

#[test]
fn spsc_ops() {
    replay("spsc_ops", bodies::spsc_ops::run);
}

#[test]
fn heap_ops() {
    replay("heap_ops", bodies::heap_ops::run);
}

#[test]
fn list_ops() {
    replay("list_ops", bodies::list_ops::run);
}

#[test]
fn payload_bytes() {
    replay("payload_bytes", bodies::payload_bytes::run);
}

#[test]
fn pipe_bytes() {
    replay("pipe_bytes", bodies::pipe_bytes::run);
}

#[test]
fn pool_bytes() {
    replay("pool_bytes", bodies::pool_bytes::run);
}

#[test]
fn schema_text() {
    replay("schema_text", bodies::schema_text::run);
}
