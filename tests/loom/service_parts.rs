//! Models of answers in parts: each part is taken once and in order, no side sleeps for good, and a
//! server that dies after a part does not send it again.

use super::queue::{id, UnsafeCell};
use super::service::{read, scene, write, Scene, Ticket, ALL, DEAD};
use super::{model, model_within, thread, Arc};
use crate::loom::atomic::AtomicUsize;
use crate::loom::atomic::Ordering::Relaxed;
use crate::queue::blocked::Blocked;
use crate::service::parts::Parts;
use crate::service::word::{Outcome, Status};
use crate::sys::clock::Deadline;
use crate::wait::wait;

/// A service of one call, whose answer has this number of places.
struct Stream {
    scene: Arc<Scene>,
    places: Vec<UnsafeCell<u32>>,
    /// See `queue::Queue`.
    turn: AtomicUsize,
}

// SAFETY: the side that has a place has its part alone; the models check that.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// What the client finds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Part(u32),
    End(Status),
}

impl Stream {
    fn new(places: usize, redeliver: bool) -> Arc<Stream> {
        let places = (0..places).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Stream { scene: scene(1, redeliver), places, turn: AtomicUsize::new(0) })
    }

    fn start(&self) -> Ticket {
        self.scene.send_within(1, 10, Parts::new(true), ALL).unwrap().unwrap()
    }

    /// Sends a part. Returns whether the client still takes them.
    fn send(&self, index: u32, call: Outcome, part: u32) -> bool {
        let table = &self.scene.table;
        // As Serving::find_place() does.
        let attempt = || {
            let parts = table.parts(index);
            if !table.outcome(index).is_pending() {
                return Some(None);
            }
            (parts.number() < self.places.len()).then(|| Some(parts.next_sent()))
        };
        let announce = || table.announce_server(index);
        let futex = table.parts_futex(index);
        let Some(number) = wait(futex, Deadline::Never, || (), attempt, announce).unwrap() else {
            return false;
        };
        write(&self.places[number % self.places.len()], part);
        table.send_part(index, call);
        true
    }

    /// Receives the request and sends these parts, and dies after the first `dies_after` of them.
    /// Returns whether the client took the end.
    fn serve(&self, me: usize, parts: u32, dies_after: u32) -> Result<bool, Blocked> {
        self.turn.fetch_add(1, Relaxed);
        let table = &self.scene.table;
        let claim = table.ring.try_take(id(me))?;
        let call = table.outcome(claim.index);
        let is_taken = (0..parts.min(dies_after)).all(|part| self.send(claim.index, call, part));
        if dies_after <= parts {
            return Ok(false);
        }
        if !is_taken || table.settle(claim.index, call, Status::Ended).is_err() {
            table.ring.free_unsent(id(me), claim);
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes the next part, or the end of the call.
    fn next(&self, ticket: Ticket) -> Next {
        let (table, index) = (&self.scene.table, ticket.index);
        // As Caller::wait_longer() and Stream::find() do.
        let attempt = || {
            let seen = table.outcome(index);
            let parts = table.parts(index);
            (parts.number() > 0 || !seen.is_pending()).then_some((parts, seen))
        };
        let announce = || table.announce(index, ticket.outcome);
        let (parts, outcome) = wait(table.futex(index), Deadline::Never, || (), attempt, announce).unwrap();
        if parts.number() == 0 {
            table.ring.free_handed_on(index);
            return Next::End(outcome.status().unwrap());
        }
        let part = read(&self.places[parts.next_taken() % self.places.len()]);
        table.take_part(index);
        Next::Part(part)
    }

    fn take_all(&self, ticket: Ticket) -> Vec<Next> {
        let mut taken = Vec::new();
        loop {
            let next = self.next(ticket);
            taken.push(next);
            if matches!(next, Next::End(_)) {
                return taken;
            }
        }
    }

    fn cancel(&self, ticket: Ticket) {
        let ring = &self.scene.table.ring;
        match self.scene.table.cancel(ticket.index, id(1), ticket.outcome) {
            Ok(taken) => taken.into_iter().for_each(|claim| ring.free_unsent(id(1), claim)),
            Err(_) => ring.free_handed_on(ticket.index),
        }
    }
}

#[test]
fn parts_are_taken_in_order() {
    let exchange = |places: usize, parts: u32| {
        move || {
            let stream = Stream::new(places, false);
            let ticket = stream.start();
            let other = stream.clone();
            let server = thread::spawn(move || other.serve(5, parts, u32::MAX));
            let taken = stream.take_all(ticket);
            let expected: Vec<_> =
                (0..parts).map(Next::Part).chain([Next::End(Status::Ended)]).collect();
            assert_eq!(taken, expected);
            assert_eq!(server.join().unwrap(), Ok(true));
            stream.scene.assert_whole();
        }
    };
    model("service parts: 2 parts, 1 place", exchange(1, 2));
    model_within(2, "service parts: 3 parts, 2 places", exchange(2, 3));
}

/// The client gives up while the server waits for a place.
#[test]
fn a_server_that_waits_sees_that_its_client_gives_up() {
    let give_up = |taken: u32| {
        move || {
            let stream = Stream::new(1, false);
            let ticket = stream.start();
            let other = stream.clone();
            let server = thread::spawn(move || other.serve(5, 3, u32::MAX));
            for part in 0..taken {
                assert_eq!(stream.next(ticket), Next::Part(part));
            }
            stream.cancel(ticket);
            let served = server.join().unwrap();
            assert!(matches!(served, Ok(false) | Err(Blocked::Later)), "{served:?}");
            stream.scene.assert_whole();
        }
    };
    model("service parts: the client gives up at once", give_up(0));
    model_within(2, "service parts: the client gives up after a part", give_up(1));
}

/// The server dies after some parts, while the client takes them.
#[test]
fn a_server_dies_between_parts() {
    let dies = |after: u32, redeliver: bool| {
        move || {
            let stream = Stream::new(2, redeliver);
            let ticket = stream.start();
            assert_eq!(stream.serve(DEAD, 2, after), Ok(false));
            let other = stream.clone();
            let reaper = thread::spawn(move || {
                other.scene.recover(DEAD);
                other.serve(5, 2, u32::MAX)
            });
            let taken = stream.take_all(ticket);
            let is_again = redeliver && after == 0;
            let parts = (0..if is_again { 2 } else { after }).map(Next::Part);
            let end = if is_again { Status::Ended } else { Status::Died };
            assert_eq!(taken, parts.chain([Next::End(end)]).collect::<Vec<_>>());
            assert_eq!(reaper.join().unwrap(), if is_again { Ok(true) } else { Err(Blocked::Later) });
            stream.scene.assert_whole();
        }
    };
    for after in 0..=2 {
        for redeliver in [false, true] {
            let name = format!("service parts: the server dies: {redeliver}, {after}");
            model_within(2, &name, dies(after, redeliver));
        }
    }
}
