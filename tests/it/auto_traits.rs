//! The auto traits of each public type. They are part of the interface, and a private field of
//! another type can take one away.

#![allow(dead_code)]

use std::panic::{RefUnwindSafe, UnwindSafe};

use pagemate::collections::*;
use pagemate::pipe::*;
use pagemate::pool::{
    Imap, MapError, MapTask, NextTimedOut, PoolBuilder, Task, TaskError, TaskOptions, Worker,
};
use pagemate::process::*;
use pagemate::queue::spsc::{Consumer, Producer, RecvChunk, SendChunk};
use pagemate::queue::*;
use pagemate::sync::*;
use pagemate::waitset::*;
use pagemate::*;

/// Evaluates to whether a type has a trait: the inherent constant is found first, if its bound
/// holds.
macro_rules! has {
    ($type:ty, $bound:ident) => {{
        struct Of<T: ?Sized>(std::marker::PhantomData<T>);
        impl<T: ?Sized + $bound> Of<T> {
            const YES: bool = true;
        }
        trait Otherwise {
            const YES: bool = false;
        }
        impl<T: ?Sized> Otherwise for Of<T> {}
        Of::<$type>::YES
    }};
}

/// The auto traits of each type, one line for each.
macro_rules! lines {
    ($($type:ty,)*) => {
        vec![$({
            let all = [
                ("Send", has!($type, Send)),
                ("Sync", has!($type, Sync)),
                ("Unpin", has!($type, Unpin)),
                ("UnwindSafe", has!($type, UnwindSafe)),
                ("RefUnwindSafe", has!($type, RefUnwindSafe)),
            ];
            let lacks: Vec<_> = all.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
            (stringify!($type), lacks)
        }),*]
    };
}

#[track_caller]
fn all_lack(types: Vec<(&str, Vec<&str>)>, lack: &[&str]) {
    for (name, lacks) in types {
        assert_eq!(lacks, lack, "what {name} lacks");
    }
}

#[test]
fn handles_have_all() {
    let handles = lines![
        Array<u64>, Barrier, BoundedSemaphore, Condvar, Dict<u64, str>, Event, List<str>, Lock, Manager,
        Mutex<u64>, Namespace, Once, OnceValue<u64>, Queue<u64>, QueueBuilder<u64>, ReentrantLock,
        RwLock<u64>, Segment, Semaphore, Value<u64>, Ref<Queue<u64>>,
        Place, Connection, Consumer<u64>, PipeReader, PipeWriter, Producer<u64>,
        Topic<u64>, topic::TopicBuilder<u64>, topic::Publisher<u64>, topic::Subscriber<u64>,
        Queue<[u64]>, Queue<str>, Consumer<[u64]>, Producer<str>, queue::spsc::RingBuilder<[u64]>,
        Topic<[u64]>, topic::TopicBuilder<str>, topic::Publisher<[u64]>, topic::Subscriber<str>,
        queue::Sender<u64>, queue::Receiver<str>, queue::Varying<Queue<str>>,
        Service<u64, str>, service::ServiceBuilder<str, u64>, service::Client<u64, str>,
        service::Server<[u64], u64>,
    ];
    all_lack(handles, &[]);
    // One thread waits on a set, through `&mut`.
    all_lack(lines![WaitSet,], &["Sync"]);
}

#[test]
fn errors_and_descriptions_have_all_that_their_parts_have() {
    let values = lines![
        BarrierError,
        CurrentProcess,
        ErrorKind,
        Excess,
        Kind,
        ObjectInfo,
        LockError<()>,
        OnceError,
        Origin,
        ParentProcess,
        ProcessBuilder,
        RecvError,
        Refusal,
        ReleaseError,
        RunningChild,
        Schema,
        SendError<u64>,
        SetError<u64>,
        PermitOverflow,
        ValueError,
        topic::From,
        topic::Laggard,
        topic::Policy,
        topic::RecvError,
        service::CallError,
        service::ClientId,
        NextTimedOut,
        Worker,
        TaskError,
        MapError<u64>,
        inspect::Contents,
        inspect::ItemBytes,
        inspect::ItemType,
        inspect::Object,
        inspect::Participant,
        inspect::SegmentInfo,
    ];
    all_lack(values, &[]);
    // As `std::io::Error`, which may be their cause.
    all_lack(lines![Error, JoinError, PipeError,], &["UnwindSafe", "RefUnwindSafe"]);
}

#[test]
fn processes_and_pools() {
    all_lack(lines![Process<u64>, Process<String>, Task<u64>, MapTask<u64>, Pool,], &[]);
    // They hold a function of the program in a box, as `std::process::Command` does.
    all_lack(
        lines![PoolBuilder, Imap<'static, std::vec::IntoIter<u64>, u64, u64>,],
        &["UnwindSafe", "RefUnwindSafe"],
    );
    // `progress` may be called in the calling thread only.
    all_lack(lines![TaskOptions<'static>,], &["Send", "Sync", "UnwindSafe", "RefUnwindSafe"]);
}

#[test]
fn guards_and_iterators() {
    let guards = lines![
        ArrayGuard<'static, u64>,
        DictGuard<'static, str>,
        Initialiser<'static>,
        ListIter<'static, u64>,
        Loan<'static, u64>,
        LockGuard<'static>,
        MutexGuard<'static, u64>,
        Permit<'static>,
        queue::Iter<'static, u64>,
        queue::TryIter<'static, u64>,
        queue::IntoIter<u64>,
        Received<'static, u64>,
        Room<'static, u64>,
        Writable<'static, u64>,
        RwLockReadGuard<'static, u64>,
        RwLockWriteGuard<'static, u64>,
        SemaphorePermit<'static>,
        queue::spsc::IntoIter<u64>,
        service::Answer<'static, str>,
        service::Call<'static, str>,
        service::Loan<'static, u64, str>,
        service::ReplyLoan<'static, u64, str>,
        service::ReplyRoom<'static, u64, u64>,
        service::Request<'static, u64, str>,
        service::Room<'static, u64, str>,
    ];
    all_lack(guards, &[]);
    // It belongs to a thread, as `std::sync::ReentrantLockGuard` does.
    all_lack(lines![ReentrantLockGuard<'static>,], &["Send"]);
    // They borrow an end of the ring mutably.
    let slots = lines![
        RecvChunk<'static, u64>,
        queue::spsc::Received<'static, u64>,
        SendChunk<'static, u64>,
        queue::spsc::Loan<'static, u64>,
        queue::spsc::Room<'static, u64>,
    ];
    all_lack(slots, &["UnwindSafe"]);
}

/// Every type that the crate and its public modules export is named above. (Traits and functions
/// have no auto traits.)
#[test]
fn none_is_missing() {
    let no_types =
        "Argument Integer Item Message Payload Referent Relock Result Varied Waitable HeapRehearsal \
         PoolRehearsal";
    let here = include_str!("auto_traits.rs");
    let words = |text: &'static str| text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut count = 0;
    let sources = [
        include_str!("../../src/lib.rs"),
        include_str!("../../src/collections/mod.rs"),
        include_str!("../../src/inspect/mod.rs"),
        include_str!("../../src/pipe/mod.rs"),
        include_str!("../../src/pool/mod.rs"),
        include_str!("../../src/process/mod.rs"),
        include_str!("../../src/queue/mod.rs"),
        include_str!("../../src/queue/spsc/mod.rs"),
        include_str!("../../src/service/mod.rs"),
        include_str!("../../src/sync/mod.rs"),
        include_str!("../../src/waitset/mod.rs"),
    ];
    for source in sources {
        for export in source.split("pub use ").skip(1) {
            let export = &export[..export.find(';').unwrap()];
            let types =
                export.split([',', '{', '}']).filter_map(|part| words(part).rfind(|word| !word.is_empty()));
            for name in types.filter(|word| word.starts_with(char::is_uppercase)) {
                count += 1;
                let is_listed = words(here).any(|word| word == name);
                assert!(
                    is_listed || no_types.split(' ').any(|no| no == name),
                    "{name} is not in the lists above"
                );
            }
        }
    }
    assert!(count > 60, "only {count} exports were found");
}
