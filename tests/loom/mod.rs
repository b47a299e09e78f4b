//! The models: small programs of a few threads, whose every interleaving loom tries. Without `--cfg loom` the same
//! bodies run many times as stress tests.
//!
//! They are compiled into the library's own test binary, since they look at what no user sees.
//!
//! `RUSTFLAGS="--cfg loom -C debug_assertions" cargo test --release --lib models --target-dir target/loom`

mod barrier;
mod bounded;
mod bytes;
mod condvar;
mod dict;
mod event;
mod heap;
mod once;
mod owned;
mod participant;
mod pool;
mod publish;
mod queue;
mod rwlock;
mod semaphore;
mod spsc;
mod value;
mod wait;
mod waitset;

#[cfg(loom)]
pub(crate) use ::loom::{sync::Arc, thread};
#[cfg(not(loom))]
pub(crate) use std::{sync::Arc, thread};

/// Runs `body` in every interleaving (loom) or a few thousand times (without), and says how many runs that were.
pub(crate) fn model(name: &str, body: impl Fn() + Sync + Send + 'static) {
    model_within(3, name, body);
}

/// Likewise; loom switches threads at most so many times where it need not. For bodies that would take too long otherwise.
pub(crate) fn model_within(preemptions: usize, name: &str, body: impl Fn() + Sync + Send + 'static) {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let body = move || {
        counted.fetch_add(1, Relaxed);
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
    (0..2_000).for_each(|_| body());
    println!("model {name}: {} runs", runs.load(Relaxed));
}
