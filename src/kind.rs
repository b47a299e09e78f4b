//! The kinds of objects: the number in a record that says what its bytes are.

/// What an object is. The numbers are part of the memory layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// [`crate::Event`]
    Event = 1,
    /// [`crate::Queue`]
    Queue = 2,
    /// [`crate::spsc`]
    Spsc = 3,
    /// [`crate::pipe()`]
    Pipe = 4,
    /// [`crate::Mutex`]
    Mutex = 5,
    /// [`crate::Lock`]
    Lock = 6,
    /// [`crate::RLock`]
    RLock = 7,
    /// [`crate::RwLock`]
    RwLock = 8,
    /// [`crate::Semaphore`]
    Semaphore = 9,
    /// [`crate::BoundedSemaphore`]
    BoundedSemaphore = 10,
    /// [`crate::Condvar`]
    Condvar = 11,
    /// [`crate::Barrier`]
    Barrier = 12,
    /// [`crate::Once`]
    Once = 13,
    /// [`crate::OnceValue`]
    OnceValue = 14,
    /// [`crate::Value`]
    Value = 15,
    /// [`crate::List`]
    List = 18,
    /// A part of the memory from which lists and dicts of a segment take theirs.
    Heap = 20,
    /// [`crate::Array`]
    Array = 16,
    /// [`crate::Dict`]
    Dict = 17,
    /// [`crate::Namespace`]
    Namespace = 19,
    /// [`crate::Pool`]
    Pool = 21,
}

const ALL: &[Kind] = &[
    Kind::Event,
    Kind::Queue,
    Kind::Spsc,
    Kind::Pipe,
    Kind::Mutex,
    Kind::Lock,
    Kind::RLock,
    Kind::RwLock,
    Kind::Condvar,
    Kind::Semaphore,
    Kind::BoundedSemaphore,
    Kind::Barrier,
    Kind::Once,
    Kind::OnceValue,
    Kind::Value,
    Kind::List,
    Kind::Heap,
    Kind::Array,
    Kind::Dict,
    Kind::Namespace,
    Kind::Pool,
];

impl Kind {
    /// The kind with this number; `None` if this version of pagemate knows none.
    pub(crate) fn from_number(number: u32) -> Option<Kind> {
        ALL.iter().copied().find(|kind| *kind as u32 == number)
    }

    /// The kind in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Queue => "queue",
            Kind::Spsc => "spsc ring",
            Kind::Pipe => "pipe",
            Kind::Mutex => "mutex",
            Kind::Lock => "lock",
            Kind::RLock => "recursive lock",
            Kind::RwLock => "readers-writer lock",
            Kind::Condvar => "condition variable",
            Kind::Semaphore => "semaphore",
            Kind::BoundedSemaphore => "bounded semaphore",
            Kind::Barrier => "barrier",
            Kind::Once => "once",
            Kind::OnceValue => "once value",
            Kind::Value => "value",
            Kind::List => "list",
            Kind::Heap => "heap",
            Kind::Array => "array",
            Kind::Dict => "dict",
            Kind::Namespace => "namespace",
            Kind::Pool => "pool",
        }
    }
}
