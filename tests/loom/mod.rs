//! The models: small programs of a few threads, whose every interleaving loom tries. Without `--cfg
//! loom` the same bodies run many times as stress tests.
//!
//! They are compiled into the library's own test binary, because they use private items.
//!
//! ```text
//! RUSTFLAGS="--cfg loom -C debug_assertions" \
//!     cargo test --release --lib models --target-dir target/loom
//! ```

mod barrier;
mod bounded_semaphore;
mod bytes;
mod condvar;
mod dict;
mod event;
mod floor;
mod force_send;
mod heap;
mod list;
mod lossless;
mod membership;
mod once;
mod owned;
mod participant;
mod payload;
mod pool;
#[cfg(loom)]
mod processes;
mod publish;
mod publishers;
mod queue;
mod reentrant_lock;
mod removal;
mod rwlock;
mod semaphore;
mod service;
mod service_parts;
mod slot_table;
mod spsc;
mod topic;
mod value;
mod wait;
mod waitset;

#[cfg(loom)]
pub(crate) use ::loom::{sync::Arc, thread};
#[cfg(not(loom))]
pub(crate) use std::{sync::Arc, thread};

/// Runs `body` in every interleaving (loom) or repeatedly (without), and prints the number of runs.
pub(crate) fn model(name: &str, body: impl Fn() + Sync + Send + 'static) {
    model_within(3, name, body);
}

/// Like [`model`], for bodies that would take too long there: loom preempts threads at most
/// `preemptions` times.
pub(crate) fn model_within(preemptions: usize, name: &str, body: impl Fn() + Sync + Send + 'static) {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let began = std::time::Instant::now();
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let body = move || {
        counted.fetch_add(1, Relaxed);
        begin();
        body();
    };
    #[cfg(loom)]
    {
        let mut builder = ::loom::model::Builder::new();
        builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
        builder.max_branches = 10_000;
        builder.check(body);
    }
    #[cfg(not(loom))]
    let _ = preemptions;
    #[cfg(not(loom))]
    stress(body);
    println!("model {name}: {} runs, {:.1?}", runs.load(Relaxed), began.elapsed());
}

/// Begins an execution, whose words are constructed from here on.
fn begin() {
    #[cfg(loom)]
    crate::loom::execution::begin();
}

/// Runs a body of one thread once.
pub(crate) fn alone(body: impl Fn() + Sync + Send + 'static) {
    #[cfg(loom)]
    ::loom::model(move || {
        begin();
        body();
    });
    #[cfg(not(loom))]
    body();
}

/// Runs `body` 2,000 times, or until 40 ms have passed, so that a busy machine runs fewer.
#[cfg(not(loom))]
fn stress(body: impl Fn()) {
    let begin = std::time::Instant::now();
    for _ in 0..2_000 {
        body();
        if begin.elapsed() > std::time::Duration::from_millis(40) {
            break;
        }
    }
}
