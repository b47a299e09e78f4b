//! The kinds of objects: one row a kind, and the one file that imports from higher layers.
//!
//! A process that reaps a dead participant must recover every kind of object from that death, even
//! of kinds that it never uses. So the directory needs all kinds at once, and all kinds need the
//! directory. This table is where the two meet. It also implements `Argument` for each handle that
//! any number of processes may have. A new kind of object is a row here, and a folder.

use crate::message::{Item, Message, Payload};
use crate::process::{Argument, Packer, Unpacker};
use crate::segment::object::Object;
use crate::segment::owner::OwnerId;
use crate::Result;

/// The functions of a kind that the segment calls. Each takes the address and the length of the
/// object.
struct Functions {
    /// Clears every word of the object that names the dead participant. Idempotent; any number of
    /// processes may do it at once.
    recover: fn(*mut u8, usize, OwnerId),
    /// Returns the object's state as pairs of a label and a text, in the order in which `pagemate
    /// show` prints them. `pagemate top` finds some of them by their label.
    describe: fn(*const u8, usize) -> Vec<(&'static str, String)>,
    /// Returns the bytes of the message that would be received next, if there is one.
    peek: fn(*const u8, usize) -> Option<Vec<u8>>,
}

/// A row: `Kind = number, name, (handle), recover, describe, peek;`. `handle` is the type whose
/// `Argument` is implemented here, after its generics in brackets. It is empty for a handle that
/// only one process can have.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $kind:ident = $number:literal, $name:literal, ($($handle:tt)*),
            $recover:expr, $describe:expr, $peek:expr;
    )*) => {
        /// The kind of an object. The numbers are part of the memory format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl Kind {
            /// Returns the kind with this number; `None` if this version of pagemate does not know
            /// it.
            pub(crate) fn from_number(number: u32) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)*
                    _ => None,
                }
            }

            /// Returns the kind's name for use in a sentence, such as "readers-writer lock".
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            fn functions(self) -> Functions {
                match self {
                    $(Kind::$kind => Functions { recover: $recover, describe: $describe, peek: $peek },)*
                }
            }
        }

        $(argument! { $($handle)* })*
    };
}

/// Implements `Argument` for the handle to a kind of object. A blanket implementation for every
/// `Object` would overlap with that for every `Message`.
macro_rules! argument {
    () => {};
    ([$($generics:tt)*] $handle:ty) => {
        impl<$($generics)*> Argument for $handle {
            const HAS_HANDLES: bool = true;

            fn pack(self, packer: &mut Packer) -> Result<()> {
                packer.object(self.object()).map(drop)
            }

            fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self> {
                unpacker.handle()
            }
        }
    };
    ($handle:ty) => {
        argument! { [] $handle }
    };
}

use crate::collections::{array, dict, list, value};
use crate::collections::{Array, Dict, List, Namespace, Value};
use crate::queue::topic::{self, Topic};
use crate::queue::{mpmc, spsc, Queue};
use crate::service::{self, Service};
use crate::sync::{
    barrier, bounded_semaphore, condvar, event, lock, mutex, once, reentrant, rwlock, semaphore,
};
use crate::sync::{
    Barrier, BoundedSemaphore, Condvar, Event, Lock, Mutex, Once, OnceValue, ReentrantLock, RwLock, Semaphore,
};
use crate::{heap, pipe, pool};

kinds! {
    // `no_owners`: nothing in it names a participant.
    /// [`Event`](crate::Event)
    Event = 1, "event", (Event), no_owners, event::describe, no_messages;
    /// [`Queue`](crate::Queue)
    Queue = 2, "queue", ([T: Payload + ?Sized] Queue<T>), mpmc::recover, mpmc::describe, mpmc::peek;
    /// [`spsc`](crate::spsc())
    Spsc = 3, "spsc ring", (), spsc::recover, spsc::describe, spsc::peek;
    /// [`pipe`](crate::pipe())
    Pipe = 4, "pipe", (), pipe::recover, pipe::describe, no_messages;
    /// [`Mutex`](crate::Mutex)
    Mutex = 5, "mutex", ([T: Message] Mutex<T>), mutex::recover, mutex::describe, no_messages;
    /// [`Lock`](crate::Lock)
    Lock = 6, "lock", (Lock), lock::recover, lock::describe, no_messages;
    /// [`ReentrantLock`](crate::ReentrantLock)
    ReentrantLock = 7, "reentrant lock", (ReentrantLock),
        reentrant::recover, reentrant::describe, no_messages;
    /// [`RwLock`](crate::RwLock)
    RwLock = 8, "readers-writer lock", ([T: Message] RwLock<T>),
        rwlock::recover, rwlock::describe, no_messages;
    // `no_owners`: nothing in it names a participant.
    /// [`Semaphore`](crate::Semaphore)
    Semaphore = 9, "semaphore", (Semaphore), no_owners, semaphore::describe, no_messages;
    /// [`BoundedSemaphore`](crate::BoundedSemaphore)
    BoundedSemaphore = 10, "bounded semaphore", (BoundedSemaphore),
        bounded_semaphore::recover, bounded_semaphore::describe, no_messages;
    /// [`Condvar`](crate::Condvar)
    Condvar = 11, "condition variable", (Condvar), condvar::recover, condvar::describe, no_messages;
    /// [`Barrier`](crate::Barrier)
    Barrier = 12, "barrier", (Barrier), barrier::recover, barrier::describe, no_messages;
    /// [`Once`](crate::Once)
    Once = 13, "once", (Once), once::recover, once::describe, no_messages;
    /// [`OnceValue`](crate::OnceValue)
    OnceValue = 14, "once value", ([T: Message] OnceValue<T>), once::recover, once::describe, no_messages;
    /// [`Value`](crate::Value)
    Value = 15, "value", ([T: Message] Value<T>), value::recover, value::describe, value::peek;
    /// [`Array`](crate::Array)
    Array = 16, "array", ([T: Message] Array<T>), array::recover, array::describe, no_messages;
    /// [`Dict`](crate::Dict)
    Dict = 17, "dict", ([K: Item + ?Sized, V: Item + ?Sized] Dict<K, V>),
        dict::recover, dict::describe, no_messages;
    /// [`List`](crate::List)
    List = 18, "list", ([T: Item + ?Sized] List<T>), list::recover, list::describe, no_messages;
    /// [`Namespace`](crate::Namespace)
    Namespace = 19, "namespace", (Namespace), dict::recover, dict::describe, no_messages;
    /// Memory from which the lists and dicts of a segment allocate.
    Heap = 20, "heap", (), heap::recover, heap::describe, no_messages;
    // `no_owners`: only the pool's parent uses the object, and it checks for dead workers by
    // itself.
    /// [`Pool`](crate::Pool)
    Pool = 21, "pool", (), no_owners, pool::describe, no_messages;
    /// [`Topic`](crate::Topic)
    Topic = 22, "topic", ([T: Payload + ?Sized] Topic<T>), topic::recover, topic::describe, topic::peek;
    /// [`Service`](crate::Service)
    Service = 23, "service", ([Q: Payload + ?Sized, R: Payload + ?Sized] Service<Q, R>),
        service::recover, service::describe, service::peek;
}

fn no_owners(_: *mut u8, _: usize, _: OwnerId) {}

fn no_messages(_: *const u8, _: usize) -> Option<Vec<u8>> {
    None
}

/// Recovers the object from the death of `dead`. Does nothing for a kind that this version does not
/// know.
pub(crate) fn recover(kind: u32, base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(kind) = Kind::from_number(kind) {
        (kind.functions().recover)(base, len, dead);
    }
}

/// Ends the object if that is what a participant has begun, and is stopped: its last holder has
/// left. Waiters call it once a slice.
pub(crate) fn settle(kind: u32, base: *mut u8, len: usize) {
    match Kind::from_number(kind) {
        Some(Kind::Queue) => mpmc::settle(base, len),
        Some(Kind::Topic) => topic::settle(base, len),
        _ => {}
    }
}

/// Returns the state of the object in words, for people.
pub(crate) fn describe(kind: u32, base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    Kind::from_number(kind).map_or_else(Vec::new, |kind| (kind.functions().describe)(base, len))
}

/// Returns the bytes of the message that would be received next, if the object holds messages and
/// has one.
pub(crate) fn peek(kind: u32, base: *const u8, len: usize) -> Option<Vec<u8>> {
    (Kind::from_number(kind)?.functions().peek)(base, len)
}
