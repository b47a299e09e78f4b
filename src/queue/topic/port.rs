//! The local side of a topic without its type: who this process is, how its publishers wait for
//! room and its subscribers for messages, and what happens at their deadlines.

use std::cell::Cell;
use std::sync::Arc;

use super::gate::Lack;
use super::handle::From as Start;
use super::layout::{Any, SUBSCRIBERS};
use super::locate::Wanted;
use super::policy::{Laggard, Policy};
use super::publish::{Claim, Unsent};
use super::receive::{Cursor, Unread};
use super::ring::Ring;
use crate::heap::{Class, CLASSES};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::holders::Tenure;
use crate::queue::payload::area::Area;
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::membarrier;
use crate::wait::wait;
use crate::{Error, ErrorKind, Result};

/// Attempts at a deadline, each after an eviction or a death.
const REFUSALS_MAX: u32 = 64;

/// A ring and the object that it is in.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) ring: Ring,
    /// Keeps the memory of `ring` mapped.
    pub(crate) object: ObjectRef,
    /// Where messages that do not fit into a slot are, if messages differ in length.
    pub(super) area: Option<Arc<Area>>,
    /// For each class, if messages differ in length. 0: there was memory when a publisher last
    /// searched all of it. Else the number of messages since then that discarded others.
    shortages: Box<[AtomicU32]>,
    /// The last user of this handle that was registered as one that the words may name. 0: nobody.
    enlisted: AtomicU32,
}

/// The reason why nothing was published, at the deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    Lagging(Laggard),
    Blocked(Blocked),
}

impl From<Blocked> for Refused {
    #[inline]
    fn from(blocked: Blocked) -> Refused {
        Refused::Blocked(blocked)
    }
}

impl Refused {
    /// Returns the error of a publication of `value`.
    #[inline]
    pub(crate) fn into_send_error<T>(self, value: T) -> SendError<T> {
        match self {
            Refused::Lagging(laggard) => SendError::Lagging(value, laggard),
            Refused::Blocked(blocked) => blocked.into_send_error(value),
        }
    }
}

impl Port {
    pub(crate) fn new(found: Any, object: ObjectRef) -> Port {
        Port {
            ring: found.ring,
            object,
            shortages: no_shortages(found.area.as_ref()),
            area: found.area.map(Arc::new),
            enlisted: AtomicU32::new(0),
        }
    }

    /// Returns the shortage of blocks of this class. Only if messages differ in length.
    #[inline]
    pub(super) fn shortage(&self, class: Class) -> &AtomicU32 {
        &self.shortages[class.number()]
    }

    #[inline]
    pub(crate) fn me(&self) -> Result<OwnerId, Blocked> {
        let me = self.object.owner().map_err(|error| Blocked::NotInThisProcess(error.refusal()))?;
        self.enlist(me);
        Ok(me)
    }

    #[inline]
    fn enlist(&self, me: OwnerId) {
        // Relaxed: a thread that sees another thread's mark may see the bit in memory later, but
        // before it dies.
        if self.enlisted.load(Relaxed) != me.bits() {
            self.ring.enlist(me);
            self.enlisted.store(me.bits(), Relaxed);
        }
    }

    /// Makes this process a publisher once more. `None`: it has no place in the segment.
    pub(crate) fn join(&self) -> Option<Tenure> {
        let me = self.me().ok()?;
        self.ring.join_publisher(me);
        Some(Tenure::new(me))
    }

    /// Ends what [`join`](Port::join) began.
    pub(crate) fn leave(&self, tenure: Option<Tenure>) {
        if let Some(tenure) = tenure.filter(Tenure::is_mine) {
            self.ring.leave_publisher(tenure.me);
        }
    }

    /// Publishes the message that `write` puts into the slot with the given index. Without a
    /// deadline it does not block.
    #[inline]
    pub(crate) fn publish(
        &self,
        deadline: Option<Deadline>,
        mut write: impl FnMut(u32),
    ) -> Result<(), Refused> {
        let me = self.me()?;
        self.try_until(deadline, || self.ring.send(me, &mut write))
    }

    /// Claims a slot. Without a deadline it does not block.
    pub(crate) fn claim(&self, deadline: Option<Deadline>) -> Result<(OwnerId, Claim), Refused> {
        let me = self.me()?;
        Ok((me, self.claim_as(me, deadline)?))
    }

    pub(crate) fn claim_as(&self, me: OwnerId, deadline: Option<Deadline>) -> Result<Claim, Refused> {
        self.try_until(deadline, || self.ring.try_claim(me))
    }

    /// Calls `attempt` until the lossless subscribers permit it.
    #[inline]
    pub(super) fn try_until<R>(
        &self,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Result<R, Unsent>,
    ) -> Result<R, Refused> {
        match attempt() {
            Ok(done) => Ok(done),
            Err(Unsent::Blocked(blocked)) => Err(self.note(blocked).into()),
            Err(Unsent::Gated(lack)) => self.wait_for_room(deadline, lack, attempt),
        }
    }

    #[cold]
    fn wait_for_room<R>(
        &self,
        deadline: Option<Deadline>,
        lack: Lack,
        mut attempt: impl FnMut() -> Result<R, Unsent>,
    ) -> Result<R, Refused> {
        let lack = Cell::new(lack);
        let mut attempt = || match attempt() {
            Err(Unsent::Gated(now)) => {
                lack.set(now);
                None
            }
            Err(Unsent::Blocked(blocked)) => Some(Err(self.note(blocked).into())),
            Ok(done) => Some(Ok(done)),
        };
        if let Some(deadline) = deadline {
            let reap_dead = || {
                self.object.reap_dead();
                self.reap_hindering(lack.get());
            };
            if let Some(done) = self.ring.room().wait_heavy(deadline, reap_dead, &mut attempt) {
                self.ring.pass_on_room();
                return done;
            }
        } else {
            self.object.note_failed_try();
        }
        for _ in 0..REFUSALS_MAX {
            match self.ring.shape().policy {
                Policy::Block => break,
                _ if self.reap_hindering(lack.get()) => {}
                Policy::Evict => _ = self.ring.evict(lack.get()),
                Policy::Fail => {
                    if let Some(id) = self.ring.hindering(lack.get()).next() {
                        let line = self.object.attachment().view();
                        let (pid, _) = line.line(id.index()).label();
                        return Err(Refused::Lagging(Laggard::new(id, pid)));
                    }
                }
            }
            if let Some(done) = attempt() {
                return done;
            }
        }
        Err(Blocked::Later.into())
    }

    /// Reaps the dead among the subscribers for which publishers wait. Returns whether there were
    /// any.
    fn reap_hindering(&self, lack: Lack) -> bool {
        let attachment = self.object.attachment();
        let dead: Vec<_> = self.ring.hindering(lack).filter(|id| !attachment.is_alive(*id)).collect();
        dead.iter().for_each(|id| attachment.reap(*id));
        !dead.is_empty()
    }

    /// Counts a failed attempt, because a dead participant may be in a slot.
    #[inline]
    fn note(&self, blocked: Blocked) -> Blocked {
        if blocked == Blocked::Later {
            self.object.note_failed_try();
        }
        blocked
    }

    /// Takes a line, and returns where the subscriber begins.
    pub(crate) fn subscribe(&self, from: Start, is_lossless: bool) -> Result<(Tenure, Cursor)> {
        let me = self.object.owner()?;
        self.enlist(me);
        let ring = &self.ring;
        let line = match ring.take_line(me) {
            Some(line) => line,
            None => {
                // Some of them may be dead.
                self.object.attachment().reap_all();
                ring.take_line(me).ok_or_else(table_is_full)?
            }
        };
        let wanted = match from {
            Start::Latest => Wanted::Last(0),
            Start::Earliest => Wanted::Last(u64::MAX),
            Start::Last(count) => Wanted::Last(count),
            Start::Position(position) => Wanted::Ordinal(position),
        };
        let begun = match is_lossless {
            true => {
                membarrier::register(); // for the light fence of a receive
                ring.begin_lossless(wanted, line)
            }
            false => ring.begin_at(wanted, line),
        };
        match begun {
            Ok(Some(cursor)) => Ok((Tenure::new(me), cursor)),
            failed => {
                ring.leave(me, line);
                Err(cannot_subscribe(failed.err()))
            }
        }
    }

    /// Calls `attempt` until there is something to return. Without a deadline it does not block.
    #[inline]
    pub(crate) fn receive<S, R>(
        &self,
        deadline: Option<Deadline>,
        cursor: &mut Cursor,
        mut state: S,
        mut attempt: impl FnMut(&mut Cursor, &mut S) -> Result<R, Unread>,
    ) -> Result<R, Unread> {
        match attempt(cursor, &mut state) {
            Err(Unread::Blocked(Blocked::Later)) => {}
            done => return done,
        }
        let Some(deadline) = deadline else {
            self.object.note_failed_try();
            return Err(Blocked::Later.into());
        };
        let sleepers = self.ring.sleepers();
        let may_sleep = Cell::new(false);
        let attempt = || {
            if may_sleep.get() {
                cursor.polls.make_due(cursor.at.number); // it may be closed, and not sealed yet
            }
            match attempt(cursor, &mut state) {
                Err(Unread::Blocked(Blocked::Later)) => None,
                done => Some(done),
            }
        };
        let announce = || {
            may_sleep.set(true);
            sleepers.announce()
        };
        let done = wait(sleepers.futex(), deadline, || self.object.reap_dead(), attempt, announce);
        done.unwrap_or(Err(Blocked::Later.into()))
    }
}

fn no_shortages(area: Option<&Area>) -> Box<[AtomicU32]> {
    area.iter().flat_map(|_| (0..CLASSES).map(|_| AtomicU32::new(0))).collect()
}

impl Clone for Port {
    fn clone(&self) -> Port {
        let (ring, object, area) = (self.ring, self.object.clone(), self.area.clone());
        let shortages = no_shortages(area.as_deref());
        Port { ring, object, area, shortages, enlisted: AtomicU32::new(0) }
    }
}

#[cold]
fn table_is_full() -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("all {SUBSCRIBERS} lines for subscribers of this topic are taken"),
    )
}

#[cold]
fn cannot_subscribe(blocked: Option<Blocked>) -> Error {
    match blocked {
        None => Error::new(ErrorKind::InvalidInput, "the message to begin with is not published yet"),
        Some(Blocked::Later) => Error::new(
            ErrorKind::Busy,
            "publishers went round the topic faster than a subscriber could begin",
        ),
        Some(_) => Error::new(ErrorKind::Corrupted, "the words of the topic contradict each other"),
    }
}
