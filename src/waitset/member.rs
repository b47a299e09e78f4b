//! The members of a set: some kinds of handles, and everything that has a file descriptor.

use std::os::fd::{AsFd, OwnedFd};

use self::sealed::Member;
use super::source::Source;
use crate::message::Payload;
use crate::pipe::{Connection, PipeReader};
use crate::queue::mpmc::Queue;
use crate::queue::spsc::cursor::Control;
use crate::queue::spsc::{Consumer, Producer};
use crate::queue::topic::Subscriber;
use crate::segment::object::{Object, ObjectRef};
use crate::service::{Call, Server};
use crate::sync::event::Event;
use crate::sync::semaphore::Semaphore;
use crate::{Error, Result};

/// A thing that a [`WaitSet`](crate::WaitSet) can wait for. The trait is sealed.
///
/// | member | ready when |
/// |---|---|
/// | [`Queue`], [`Consumer`] | there is a message, or the end |
/// | [`Subscriber`] that was not dropped | there is a message, messages were lost, or the end |
/// | [`Writable`] of a queue, [`Producer`] | there is room, or the end |
/// | [`Connection`], [`PipeReader`] | there are bytes to read, or the end of file |
/// | [`Event`] | it is set, or was set at any moment since the wait began |
/// | [`Semaphore`] | there is a permit |
/// | [`Server`] | there is a request, or the end |
/// | [`Call`] | it has ended |
/// | [`Process`](crate::Process) | it has ended |
/// | anything else with a file descriptor | it is readable, at its end, or broken, as `poll` says |
///
/// The bytes in a pipe may be only a part of a long message. Remove a subscriber or a call from the
/// set before you drop it. Otherwise the set may report a later one of this process instead.
pub trait Waitable: sealed::Sealed {}

/// Room in a queue, as a member of a [`WaitSet`](crate::WaitSet). The queue itself, as a member,
/// represents its messages. If messages differ in length, room means a free slot; the sender of a
/// long message may still have to wait for memory.
///
/// # Examples
///
/// ```
/// use pagemate::{Queue, WaitSet};
/// use pagemate::waitset::Writable;
///
/// # fn main() -> pagemate::Result<()> {
/// let queue = Queue::<u32>::new(1)?;
/// let mut set = WaitSet::new();
/// set.add(0, &queue)?;
/// set.add(1, &Writable(&queue))?;
/// assert_eq!(set.wait()?, [1]);
/// queue.send(7)?;
/// assert_eq!(set.wait()?, [0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writable<'a, T: Payload + ?Sized>(pub &'a Queue<T>);

/// A member as the set stores it.
#[derive(Debug)]
pub(super) enum Part {
    /// A word in shared memory.
    Word(Word),
    /// A duplicate of a descriptor.
    File(OwnedFd),
}

/// A word, and the object that keeps it mapped.
#[derive(Debug)]
pub(super) struct Word {
    /// Points into the memory of `object`.
    pub(super) source: Source<'static>,
    pub(super) object: ObjectRef,
    /// Whether a death can make the member ready.
    pub(super) has_owners: bool,
}

pub(super) mod sealed {
    /// The member that a handle supplies to a set.
    #[derive(Debug)]
    pub struct Member(pub(in crate::waitset) super::Part);

    pub trait Sealed {
        #[doc(hidden)]
        fn member(&self) -> crate::Result<Member>;
    }
}

/// Extends the lifetime of `word`, which an [`ObjectRef`] keeps mapped.
///
/// # Safety
///
/// The reference points into the memory of `object`. The result is stored beside a clone of
/// `object`, and nowhere else.
unsafe fn kept<T>(_object: &ObjectRef, word: &T) -> &'static T {
    // SAFETY: promised by the caller.
    unsafe { &*std::ptr::from_ref(word) }
}

fn word(object: &ObjectRef, source: Source<'static>, has_owners: bool) -> Result<Member> {
    Ok(Member(Part::Word(Word { source, object: object.clone(), has_owners })))
}

impl<T: Payload + ?Sized> Waitable for Queue<T> {}
impl<T: Payload + ?Sized> sealed::Sealed for Queue<T> {
    fn member(&self) -> Result<Member> {
        // The ring points into the memory of the object, and the object is stored beside the ring.
        word(self.object(), Source::Messages(self.ring()), true)
    }
}

impl<T: Payload + ?Sized> Waitable for Writable<'_, T> {}
impl<T: Payload + ?Sized> sealed::Sealed for Writable<'_, T> {
    fn member(&self) -> Result<Member> {
        word(self.0.object(), Source::Writable(self.0.ring()), true)
    }
}

impl<T: Payload + ?Sized> Waitable for Subscriber<T> {}
impl<T: Payload + ?Sized> sealed::Sealed for Subscriber<T> {
    fn member(&self) -> Result<Member> {
        // The ring points into the memory of the object, and the object is stored beside the ring.
        let (object, ring, line, me) = self.parts();
        word(object, Source::Published(ring, line, me), true)
    }
}

impl<T: Payload + ?Sized> Waitable for Consumer<T> {}
impl<T: Payload + ?Sized> sealed::Sealed for Consumer<T> {
    fn member(&self) -> Result<Member> {
        let (object, control) = self.parts();
        // SAFETY: the control block is in the object's memory.
        let control: &'static Control = unsafe { kept(object, control) };
        word(object, Source::Items(control), true)
    }
}

impl<T: Payload + ?Sized> Waitable for Producer<T> {}
impl<T: Payload + ?Sized> sealed::Sealed for Producer<T> {
    fn member(&self) -> Result<Member> {
        let (object, control, capacity) = self.parts();
        // SAFETY: the control block is in the object's memory.
        let control: &'static Control = unsafe { kept(object, control) };
        word(object, Source::Space(control, capacity), true)
    }
}

impl Waitable for PipeReader {}
impl sealed::Sealed for PipeReader {
    fn member(&self) -> Result<Member> {
        let (object, control, held) = self.parts();
        // SAFETY: the control block is in the object's memory.
        let control: &'static Control = unsafe { kept(object, control) };
        word(object, Source::ItemsOr(control, held.clone()), true)
    }
}

impl Waitable for Connection {}
impl sealed::Sealed for Connection {
    fn member(&self) -> Result<Member> {
        self.reader().member()
    }
}

impl Waitable for Event {}
impl sealed::Sealed for Event {
    fn member(&self) -> Result<Member> {
        // SAFETY: the flag is in the object's memory.
        let flag = unsafe { kept(self.object(), self.flag()) };
        word(self.object(), Source::Set(flag, 0), false)
    }
}

impl Waitable for Semaphore {}
impl sealed::Sealed for Semaphore {
    fn member(&self) -> Result<Member> {
        // SAFETY: the counter is in the object's memory.
        let counter = unsafe { kept(self.object(), self.counter()) };
        word(self.object(), Source::Permit(counter), false)
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Waitable for Server<Q, R> {}
impl<Q: Payload + ?Sized, R: Payload + ?Sized> sealed::Sealed for Server<Q, R> {
    fn member(&self) -> Result<Member> {
        // The ring points into the memory of the object, and the object is stored beside the ring.
        let (object, ring) = self.parts();
        word(object, Source::Messages(ring), true)
    }
}

impl<R: Payload + ?Sized> Waitable for Call<'_, R> {}
impl<R: Payload + ?Sized> sealed::Sealed for Call<'_, R> {
    fn member(&self) -> Result<Member> {
        let (object, table, servers, index, call) = self.parts();
        // SAFETY: the counts of the servers are in the object's memory, and so is the table.
        let servers = servers.map(|servers| unsafe { kept(object, servers) });
        word(object, Source::Answered(table, servers, index, call), true)
    }
}

impl<F: AsFd + ?Sized> Waitable for F {}
impl<F: AsFd + ?Sized> sealed::Sealed for F {
    fn member(&self) -> Result<Member> {
        match self.as_fd().try_clone_to_owned() {
            Ok(file) => Ok(Member(Part::File(file))),
            Err(cause) => Err(Error::system("cannot duplicate a descriptor for a set", cause)),
        }
    }
}
