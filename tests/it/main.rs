//! The tests that need no program of their own, one module for each object or property. The tests
//! run side by side in one process, so a test that changes or counts something of the whole process
//! (descriptors, signal handlers, limits, the environment) does so in a child. Names of segments
//! and files begin with the module's name and contain the process id.
//!
//! `cargo test --test it mutex::` runs the tests of one module.

#[path = "../support/mod.rs"]
mod support;

mod array;
mod auto_traits;
mod barrier;
mod bounded_semaphore;
mod closing;
mod condvar;
mod contents;
mod conveniences;
mod counters;
mod damage;
mod damage_words;
mod death;
mod dict;
mod event;
mod force_send;
mod halves;
mod iter;
mod kill;
mod large_messages;
mod linear;
mod list;
mod liveness;
mod lock;
mod manager;
mod message;
mod mutex;
mod names;
mod once;
mod payload;
mod payload_faults;
mod payload_ring;
mod pipe;
mod polling;
mod pool;
mod process;
mod queue;
mod reentrant_lock;
mod rwlock;
mod segment;
mod semaphore;
mod service;
mod service_deaths;
mod service_stream;
mod service_turmoil;
mod spsc;
mod spsc_slices;
mod topic;
mod topic_ends;
mod topic_lossless;
mod topic_turmoil;
mod topic_varied;
mod twin;
mod value;
mod waitset;
mod word_count;

pagemate::init_tests!();

/// Sets the number of tests that run at once, unless the caller has. Most of them wait for other
/// processes rather than compute, so there are four for each processor.
extern "C" fn set_test_threads() {
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let count = 4 * std::thread::available_parallelism().map_or(1, usize::from);
        // SAFETY: this runs before `main`, in the only thread.
        unsafe { std::env::set_var("RUST_TEST_THREADS", count.to_string()) };
    }
}

// The harness reads the variable in `main`, and the C runtime calls this before, in the only
// thread.
#[used]
#[unsafe(link_section = ".init_array")]
static SET_TEST_THREADS: extern "C" fn() = set_test_threads;
