//! Models of the table of calls: each call has one outcome, an answer goes to its own call, and a
//! death of either side at any step leaves no slot behind.
//!
//! The slots are in a box. Beside them are cells that loom watches: a request or an answer that is
//! read while it is written is a failure.

use std::ptr::NonNull;

use super::queue::{id, UnsafeCell};
use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::mpmc::descriptor::Descriptor;
use crate::queue::mpmc::ring::{Claim, Ring};
use crate::service::descriptor::Call;
use crate::service::parts::Parts;
use crate::service::recover::{Blocks, Part};
use crate::service::table::Table;
use crate::service::word::{Outcome, Status};
use crate::sys::clock::Deadline;
use crate::wait::wait;

#[repr(C)]
struct Slot {
    word: AtomicU64,
    call: Call,
}

pub(super) struct Scene {
    pub(super) table: Table,
    _descriptor: Box<Descriptor>,
    _slots: Box<[Slot]>,
    requests: Vec<UnsafeCell<u32>>,
    answers: Vec<UnsafeCell<u32>>,
    /// See `queue::Queue`.
    turn: AtomicUsize,
}

// SAFETY: the holder of a slot has its messages alone; the models check that.
unsafe impl Send for Scene {}
// SAFETY: as above.
unsafe impl Sync for Scene {}

/// A call in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) index: u32,
    pub(super) outcome: Outcome,
}

/// How a call has ended for its client.
type End = Result<u32, Status>;

/// The answer to a request.
fn answer_to(request: u32) -> u32 {
    request + 1000
}

/// The participant that dies, in the models with one.
pub(super) const DEAD: usize = 8;
pub(super) const ALL: usize = usize::MAX;

/// A place to stop at, which represents a death there. Steps count from 0.
struct Steps(usize);

impl Steps {
    /// Returns `None`, which ends the operation, after the last step.
    fn take(&mut self) -> Option<()> {
        self.0 = self.0.checked_sub(1)?;
        Some(())
    }
}

pub(super) fn scene(capacity: usize, redeliver: bool) -> Arc<Scene> {
    let descriptor = Box::new(Descriptor::new());
    let slot = |_| Slot { word: AtomicU64::new(0), call: Call::new() };
    let slots: Box<[Slot]> = (0..capacity).map(slot).collect();
    let first = NonNull::from(&slots[..]).cast::<u8>();
    // SAFETY: descriptor and slots live as long as the table, in the same struct; the stride is
    // that of the slots, each of which begins with its word, and has a call behind it.
    let table = unsafe {
        let stride = size_of::<Slot>();
        let ring = Ring::new(NonNull::from(&*descriptor), first, stride, capacity as u32, redeliver);
        Table::new(ring, std::mem::offset_of!(Slot, call))
    };
    (0..10).for_each(|index| table.ring.enlist(id(index)));
    let cells = || (0..capacity).map(|_| UnsafeCell::new(0)).collect();
    let turn = AtomicUsize::new(0);
    Arc::new(Scene {
        table,
        _descriptor: descriptor,
        _slots: slots,
        requests: cells(),
        answers: cells(),
        turn,
    })
}

pub(super) fn write(cell: &UnsafeCell<u32>, value: u32) {
    // SAFETY: the slot is the caller's; loom checks that.
    cell.with_mut(|at| unsafe { *at = value });
}

pub(super) fn read(cell: &UnsafeCell<u32>) -> u32 {
    // SAFETY: the slot is the caller's; loom checks that.
    cell.with(|at| unsafe { *at })
}

impl Scene {
    /// Sends a request, and dies after this number of steps. `None` if it has died.
    fn start_within(&self, me: usize, request: u32, steps: usize) -> Option<Result<Ticket, Blocked>> {
        self.send_within(me, request, Parts::new(false), steps)
    }

    pub(super) fn send_within(
        &self,
        me: usize,
        request: u32,
        parts: Parts,
        steps: usize,
    ) -> Option<Result<Ticket, Blocked>> {
        self.turn.fetch_add(1, Relaxed);
        let mut steps = Steps(steps);
        steps.take()?;
        let claim = match self.table.ring.try_claim(id(me), None) {
            Ok(claim) => claim,
            Err(blocked) => return Some(Err(blocked)),
        };
        steps.take()?;
        let mut outcome = self.table.begin(claim, id(me), u64::MAX, parts);
        steps.take()?;
        write(&self.requests[claim.index as usize], request);
        steps.take()?;
        let find = |own| {
            let claim = self.table.ring.try_claim(id(me), Some(own))?;
            outcome = self.table.begin(claim, id(me), u64::MAX, parts);
            Ok(claim)
        };
        let copy = |_, to: u32| write(&self.requests[to as usize], request);
        match self.table.ring.send_claimed(id(me), claim, Deadline::At(0), find, copy) {
            Ok(Claim { index, .. }) => Some(Ok(Ticket { index, outcome })),
            Err((blocked, claim)) => {
                self.table.ring.free_unsent(id(me), claim);
                Some(Err(blocked))
            }
        }
    }

    fn start(&self, me: usize, request: u32) -> Result<Ticket, Blocked> {
        self.start_within(me, request, ALL).unwrap()
    }

    /// Takes the answer of a call that has ended, and frees its slot.
    fn take_answer(&self, ticket: Ticket, outcome: Outcome, steps: &mut Steps) -> Option<End> {
        assert!(outcome.is_of_same_call(ticket.outcome), "the slot has another call");
        let status = outcome.status().unwrap();
        let end = match status {
            Status::Answered => Ok(read(&self.answers[ticket.index as usize])),
            status => Err(status),
        };
        steps.take()?;
        self.table.ring.free_handed_on(ticket.index);
        Some(end)
    }

    /// Cancels a call. Returns its end if it had one before.
    fn cancel_within(&self, me: usize, ticket: Ticket, steps: usize) -> Option<Option<End>> {
        let mut steps = Steps(steps);
        steps.take()?;
        // As Table::cancel() does.
        match self.table.settle(ticket.index, ticket.outcome, Status::Cancelled) {
            Ok(()) => {
                steps.take()?;
                let taken = self.table.take_back(ticket.index, id(me), ticket.outcome);
                steps.take()?;
                if let Some(claim) = taken {
                    self.table.ring.free_unsent(id(me), claim);
                }
                Some(None)
            }
            Err(outcome) => Some(Some(self.take_answer(ticket, outcome, &mut steps)?)),
        }
    }

    fn cancel(&self, me: usize, ticket: Ticket) -> Option<End> {
        match self.table.cancel(ticket.index, id(me), ticket.outcome) {
            Ok(taken) => {
                taken.into_iter().for_each(|claim| self.table.ring.free_unsent(id(me), claim));
                None
            }
            Err(outcome) => self.take_answer(ticket, outcome, &mut Steps(ALL)),
        }
    }

    /// Takes the answer if the call has ended.
    fn poll(&self, ticket: Ticket) -> Option<End> {
        self.poll_within(ticket, ALL).unwrap()
    }

    fn poll_within(&self, ticket: Ticket, steps: usize) -> Option<Option<End>> {
        let outcome = self.table.outcome(ticket.index);
        if outcome.is_pending() {
            return Some(None);
        }
        self.take_answer(ticket, outcome, &mut Steps(steps)).map(Some)
    }

    fn wait(&self, ticket: Ticket) -> End {
        let attempt = || {
            let seen = self.table.outcome(ticket.index);
            (!seen.is_pending()).then_some(seen)
        };
        let announce = || self.table.announce(ticket.index, ticket.outcome);
        let outcome =
            wait(self.table.futex(ticket.index), Deadline::Never, || (), attempt, announce).unwrap();
        self.take_answer(ticket, outcome, &mut Steps(ALL)).unwrap()
    }

    /// Receives a request and answers it, and dies after this number of steps. Returns the request
    /// if the answer has gone to its caller.
    fn serve_within(&self, me: usize, steps: usize) -> Option<Result<Option<u32>, Blocked>> {
        self.turn.fetch_add(1, Relaxed);
        let mut steps = Steps(steps);
        steps.take()?;
        let claim = match self.table.ring.try_take(id(me)) {
            Ok(claim) => claim,
            Err(blocked) => return Some(Err(blocked)),
        };
        steps.take()?;
        self.answer(me, claim, &mut steps)
    }

    fn answer(&self, me: usize, claim: Claim, steps: &mut Steps) -> Option<Result<Option<u32>, Blocked>> {
        let outcome = self.table.outcome(claim.index);
        if !outcome.is_pending() {
            self.table.ring.free_unsent(id(me), claim);
            return Some(Ok(None));
        }
        let request = read(&self.requests[claim.index as usize]);
        steps.take()?;
        write(&self.answers[claim.index as usize], answer_to(request));
        steps.take()?;
        if self.table.settle(claim.index, outcome, Status::Answered).is_err() {
            steps.take()?;
            self.table.ring.free_unsent(id(me), claim);
            return Some(Ok(None));
        }
        Some(Ok(Some(request)))
    }

    fn serve(&self, me: usize) -> Result<Option<u32>, Blocked> {
        self.serve_within(me, ALL).unwrap()
    }

    /// Serves until there are no requests. Returns those that were answered.
    fn serve_all(&self, me: usize) -> Vec<u32> {
        let mut served = Vec::new();
        loop {
            match self.serve(me) {
                Ok(request) => served.extend(request),
                Err(blocked) => {
                    assert_eq!(blocked, Blocked::Later);
                    return served;
                }
            }
        }
    }

    pub(super) fn recover(&self, dead: usize) {
        let none = |_| [(Part::Request, None), (Part::Answer, None)];
        let free = |_, _| unreachable!("there are no blocks");
        let blocks = Blocks { headers: &none, more: &|_, _| (), free: &free };
        self.table.recover(id(dead), blocks);
    }

    /// Checks the end state: no slot has a call, and there is room for as many calls as ever, each
    /// of which is answered, in order. So no slot was lost.
    pub(super) fn assert_whole(&self) {
        let capacity = self.table.ring.capacity();
        assert_eq!((self.table.ring.count(usize::MAX), self.table.ring.held()), (0, 0), "{self:?}");
        for round in 0..2 {
            let requests: Vec<u32> = (0..capacity).map(|n| 100 * round + n).collect();
            let tickets: Vec<_> =
                requests.iter().map(|n| self.start(9, *n).expect("a slot is lost")).collect();
            assert_eq!(self.start(9, 0).unwrap_err(), Blocked::Later);
            assert_eq!(self.serve_all(7), requests);
            for (ticket, request) in tickets.into_iter().zip(requests) {
                assert_eq!(self.poll(ticket), Some(Ok(answer_to(request))));
            }
        }
    }
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.table.fmt(f)
    }
}

#[test]
fn a_sleeping_caller_is_woken_by_its_answer() {
    model("service: a call that waits, and its server", || {
        let scene = scene(1, false);
        let other = scene.clone();
        let server = thread::spawn(move || {
            let claim = other.table.ring.take(id(5), Deadline::Never, || ()).unwrap();
            other.answer(5, claim, &mut Steps(ALL)).unwrap().unwrap()
        });
        let ticket = scene.start(1, 20).unwrap();
        assert_eq!(scene.wait(ticket), Ok(answer_to(20)));
        assert_eq!(server.join().unwrap(), Some(20));
        scene.assert_whole();
    });
}

#[test]
fn two_callers_and_two_servers() {
    let exchange = |capacity: usize| {
        move || {
            let scene = scene(capacity, false);
            let first = scene.start(1, 10).unwrap();
            let servers: Vec<_> = [5, 6]
                .map(|me| {
                    let scene = scene.clone();
                    thread::spawn(move || scene.serve(me).ok().flatten())
                })
                .into_iter()
                .collect();
            let second = scene.start(2, 20);
            let mut served: Vec<_> =
                servers.into_iter().filter_map(|server| server.join().unwrap()).collect();
            served.extend(scene.serve_all(7));
            assert!(served.contains(&10) && served.contains(&20) == second.is_ok(), "{served:?}");
            assert_eq!(scene.poll(first), Some(Ok(answer_to(10))));
            assert!(second.is_ok() || capacity == 1);
            if let Ok(second) = second {
                assert_eq!(scene.poll(second), Some(Ok(answer_to(20))));
            }
            scene.assert_whole();
        }
    };
    model_within(2, "service: 2 calls, 2 servers, 1 slot", exchange(1));
    model_within(2, "service: 2 calls, 2 servers, 2 slots", exchange(2));
}

/// A caller cancels while a server is at it, and another caller calls, perhaps in the same slot.
#[test]
fn cancel_against_reply() {
    let race = |capacity: usize| {
        move || {
            let scene = scene(capacity, false);
            let ticket = scene.start(1, 10).unwrap();
            let other = scene.clone();
            let server = thread::spawn(move || other.serve(5));
            let other = scene.clone();
            let caller = thread::spawn(move || other.start(2, 20));
            let early = scene.cancel(1, ticket);
            let next = caller.join().unwrap();
            let mut served: Vec<_> = server.join().unwrap().ok().flatten().into_iter().collect();
            served.extend(scene.serve_all(7));
            // The answer that was sent has been received.
            assert_eq!(served.contains(&10), early.is_some());
            assert!(early.is_none_or(|end| end == Ok(answer_to(10))));
            assert_eq!(served.contains(&20), next.is_ok());
            if let Ok(next) = next {
                assert_eq!(scene.poll(next), Some(Ok(answer_to(20))), "an answer for another call");
            }
            scene.assert_whole();
        }
    };
    model_within(2, "service: cancel against reply, and another call, 1 slot", race(1));
    model_within(2, "service: cancel against reply, and another call, 2 slots", race(2));
}

/// A caller that is late to take its request back does not take that of the next call.
#[test]
fn a_slot_that_is_used_again_by_another_call() {
    model_within(2, "service: a late take-back, and the slot's next call", || {
        let scene = scene(1, false);
        let ticket = scene.start(1, 10).unwrap();
        let other = scene.clone();
        let next = thread::spawn(move || {
            // Drops the request that was cancelled, or answers it.
            let first = other.serve(5);
            (first, other.start(2, 20))
        });
        let early = scene.cancel(1, ticket);
        let (first, next) = next.join().unwrap();
        assert_eq!(early.is_some(), first == Ok(Some(10)));
        assert_eq!(scene.serve_all(7), Vec::from_iter(next.iter().map(|_| 20)), "the next call is lost");
        if let Ok(next) = next {
            assert_eq!(scene.poll(next), Some(Ok(answer_to(20))));
        }
        scene.assert_whole();
    });
}

/// A request that no server has taken is withdrawn, or a server has it.
#[test]
fn withdrawing_against_receiving() {
    model("service: a caller withdraws, and a server receives", || {
        let scene = scene(2, false);
        let ticket = scene.start(1, 10).unwrap();
        let other = scene.clone();
        let server = thread::spawn(move || other.serve(5));
        let taken = scene.table.take_back(ticket.index, id(1), ticket.outcome);
        match taken {
            Some(claim) => {
                scene.table.ring.free_unsent(id(1), claim);
                assert_eq!(server.join().unwrap(), Err(Blocked::Later));
            }
            None => {
                assert_eq!(server.join().unwrap(), Ok(Some(10)));
                assert_eq!(scene.poll(ticket), Some(Ok(answer_to(10))));
            }
        }
        scene.assert_whole();
    });
}

/// A request that is in the way of free slots is skipped, and keeps its place in the order.
#[test]
fn requests_that_are_passed() {
    let pass = |capacity: usize, calls: u32| {
        move || {
            let scene = scene(capacity, false);
            let oldest = scene.start(1, 10).unwrap();
            // Withdrawn calls carry the tail round the ring.
            for n in 0..calls {
                let ticket = scene.start(2, 50 + n).unwrap();
                assert_eq!(scene.cancel(2, ticket), None);
            }
            let other = scene.clone();
            let server = thread::spawn(move || {
                let first = other.serve(5).ok().flatten();
                (first, other.serve(5).ok().flatten())
            });
            let next = scene.start(3, 20).expect("there is a free slot");
            let (first, second) = server.join().unwrap();
            let rest = scene.serve_all(7);
            let all: Vec<u32> = first.into_iter().chain(second).chain(rest).collect();
            assert_eq!(all, [10, 20], "lost, or out of order");
            assert_eq!(scene.poll(oldest), Some(Ok(answer_to(10))));
            assert_eq!(scene.poll(next), Some(Ok(answer_to(20))));
            scene.assert_whole();
        }
    };
    model_within(2, "service: a request is passed, 2 slots", pass(2, 1));
    model_within(2, "service: a request is passed twice, 2 slots", pass(2, 2));
    model_within(2, "service: a request is passed, 3 slots", pass(3, 2));
    model_within(1, "service: a request is passed by many, 3 slots", pass(3, 11));
}

/// Two callers come round at once, and a server receives what they pass.
#[test]
fn two_callers_pass_a_request() {
    model_within(1, "service: 2 callers pass a request, 3 slots", || {
        let scene = scene(3, false);
        let oldest = scene.start(1, 10).unwrap();
        for n in 0..2 {
            let ticket = scene.start(2, 50 + n).unwrap();
            assert_eq!(scene.cancel(2, ticket), None);
        }
        let callers = [(2, 20), (3, 30)].map(|(me, request)| {
            let scene = scene.clone();
            thread::spawn(move || scene.start(me, request).unwrap())
        });
        let mut served: Vec<_> = scene.serve(5).ok().flatten().into_iter().collect();
        assert_eq!(served.first().copied().unwrap_or(10), 10, "out of order");
        let tickets = callers.map(|caller| caller.join().unwrap());
        served.extend(scene.serve_all(7));
        served.sort_unstable();
        assert_eq!(served, [10, 20, 30]);
        assert_eq!(scene.poll(oldest), Some(Ok(answer_to(10))));
        assert_eq!(tickets.map(|ticket| scene.poll(ticket).unwrap().unwrap() - 1000), [20, 30]);
        scene.assert_whole();
    });
}

/// The client dies after this number of steps of its call, or of its cancellation. A server is at
/// work, and two threads reap.
#[test]
fn deaths_of_a_caller() {
    let dies = |steps: usize, cancels: bool| {
        move || {
            let scene = scene(1, false);
            let other = scene.clone();
            let dead = thread::spawn(move || {
                let sending = if cancels { ALL } else { steps };
                let ticket = other.start_within(DEAD, 10, sending)?.unwrap();
                if cancels {
                    other.cancel_within(DEAD, ticket, steps)?;
                } else if let Some(steps) = steps.checked_sub(4) {
                    other.poll_within(ticket, steps)?;
                }
                Some(())
            });
            let served = scene.serve(5).ok().flatten();
            dead.join().unwrap();
            let other = scene.clone();
            let reaper = thread::spawn(move || other.recover(DEAD));
            scene.recover(DEAD);
            reaper.join().unwrap();
            assert!(served.is_none_or(|request| request == 10));
            assert!(scene.serve_all(7).is_empty(), "the request of a dead caller");
            scene.assert_whole();
        }
    };
    for steps in 0..6 {
        model_within(2, &format!("service: the caller dies: call, {steps}"), dies(steps, false));
    }
    for steps in 0..4 {
        model_within(2, &format!("service: the caller dies: cancel, {steps}"), dies(steps, true));
    }
}

/// The server dies after this number of steps. Two threads reap, one of them also serves.
#[test]
fn deaths_of_a_server() {
    let dies = |steps: usize, redeliver: bool| {
        move || {
            let scene = scene(1, redeliver);
            let ticket = scene.start(1, 10).unwrap();
            let other = scene.clone();
            let dead = thread::spawn(move || other.serve_within(DEAD, steps).is_none());
            assert!(dead.join().unwrap(), "it dies");
            let other = scene.clone();
            let reaper = thread::spawn(move || {
                other.recover(DEAD);
                other.serve(5).ok().flatten()
            });
            scene.recover(DEAD);
            let mut served: Vec<_> = reaper.join().unwrap().into_iter().collect();
            served.extend(scene.serve_all(7));
            let end = scene.poll(ticket).expect("a call without an outcome");
            // Before it had the request, or with redelivery, another server answers.
            if steps == 0 || redeliver {
                assert_eq!(end, Ok(answer_to(10)));
                assert_eq!(served, [10]);
            } else {
                assert_eq!(end, Err(Status::Died));
                assert!(served.is_empty());
            }
            scene.assert_whole();
        }
    };
    for steps in 0..4 {
        for redeliver in [false, true] {
            let name = format!("service: the server dies: {redeliver}, {steps}");
            model_within(2, &name, dies(steps, redeliver));
        }
    }
}

/// The server dies while its caller cancels, and the next call is in the same slot.
#[test]
fn a_server_dies_and_its_caller_cancels() {
    let dies = |steps: usize, redeliver: bool| {
        move || {
            let scene = scene(1, redeliver);
            let ticket = scene.start(1, 10).unwrap();
            assert!(scene.serve_within(DEAD, steps).is_none());
            let other = scene.clone();
            let reaper = thread::spawn(move || other.recover(DEAD));
            let early = scene.cancel(1, ticket);
            assert!(early.is_none_or(|end| end == Err(Status::Died) && !redeliver));
            let next = scene.start(2, 20);
            let served = scene.serve_all(5);
            reaper.join().unwrap();
            let next = next.or_else(|_| scene.start(2, 20)).expect("the slot is lost");
            let served = [served, scene.serve_all(5)].concat();
            assert_eq!(served, [20]);
            assert_eq!(scene.poll(next), Some(Ok(answer_to(20))));
            scene.assert_whole();
        }
    };
    for steps in 1..4 {
        for redeliver in [false, true] {
            let name = format!("service: the server dies and is cancelled: {redeliver}, {steps}");
            model_within(2, &name, dies(steps, redeliver));
        }
    }
}

/// Both sides die, and their reapers run at once.
#[test]
fn both_die() {
    let die = |steps: usize, redeliver: bool| {
        move || {
            let scene = scene(2, redeliver);
            scene.start(DEAD, 10).unwrap();
            let is_dead = scene.serve_within(6, steps).is_none();
            let other = scene.clone();
            let reaper = thread::spawn(move || other.recover(DEAD));
            if is_dead {
                scene.recover(6);
            }
            reaper.join().unwrap();
            assert!(scene.serve_all(7).is_empty());
            scene.assert_whole();
        }
    };
    for steps in 0..5 {
        for redeliver in [false, true] {
            model(&format!("service: both die: {redeliver}, {steps}"), die(steps, redeliver));
        }
    }
}

/// A late reaper of a caller does not touch the next call in the slot.
#[test]
fn a_late_reaper() {
    model_within(2, "service: a late reaper, and the slot's next call", || {
        let scene = scene(1, false);
        scene.start(DEAD, 10).unwrap();
        let other = scene.clone();
        let late = thread::spawn(move || other.recover(DEAD));
        scene.recover(DEAD);
        let next = scene.start(2, 20).expect("the slot was freed");
        assert_eq!(scene.serve_all(5), [20]);
        late.join().unwrap();
        assert_eq!(scene.poll(next), Some(Ok(answer_to(20))));
        scene.assert_whole();
    });
}

/// A server receives a request at the same time as its caller's reaper withdraws it.
#[test]
fn a_reaper_of_a_caller_against_a_server() {
    model_within(2, "service: the caller is reaped while a server serves", || {
        let scene = scene(2, false);
        scene.start(DEAD, 10).unwrap();
        let live = scene.start(1, 20).unwrap();
        let other = scene.clone();
        let reaper = thread::spawn(move || other.recover(DEAD));
        let first = scene.serve(5).ok().flatten();
        reaper.join().unwrap();
        let served: Vec<_> = first.into_iter().chain(scene.serve_all(7)).collect();
        assert!(served == [10, 20] || served == [20], "{served:?}");
        assert_eq!(scene.poll(live), Some(Ok(answer_to(20))));
        scene.recover(DEAD); // by whoever was first at each slot
        scene.assert_whole();
    });
}
