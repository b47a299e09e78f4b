//! Names that come and go: rings and pipes of their own, which one process creates and another one
//! opens.
//!
//! Every worker has one name for a ring and one for a pipe. It creates what it may, sends, and
//! drops it; others open it and receive. A worker that dies leaves its name behind, for the next
//! one to replace or open.

use pagemate::pipe::{Connection, PipeError};
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::{ErrorKind, Event, Place};

use crate::board::Fault;
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

/// The number of the message, its sender, and a word that both determine.
type Note = [u64; 3];

fn note(number: u64, from: u64) -> Note {
    [number, from, mix(number ^ from << 32)]
}

/// The number of workers that have names.
const NAMES: u64 = 4;
/// The name that all workers share.
const COMMON: &str = "common";

struct Names {
    site: Site,
    producer: Option<(Producer<Note>, u64)>,
    /// The consumer and the last message, whose successor has the next number.
    consumer: Option<(Consumer<Note>, Option<Note>)>,
    sender: Option<(Connection, u64)>,
    receiver: Option<(Connection, Option<Note>)>,
}

/// Returns whether this error may occur when a process opens or creates a name that others use as
/// well.
fn is_expected(kind: ErrorKind) -> bool {
    use ErrorKind::{AlreadyExists, Busy, Closed, NotFound, RoleTaken};
    matches!(kind, NotFound | AlreadyExists | Busy | RoleTaken | Closed)
}

fn there<T>(desk: &Desk, result: pagemate::Result<T>) -> Option<T> {
    match result {
        Ok(there) => Some(there),
        Err(error) if is_expected(error.kind()) => None,
        Err(error) => {
            desk.fault(Fault::Broken, format!("{error}"));
            None
        }
    }
}

/// Checks the message that follows `last` in one direction.
fn follow(desk: &Desk, last: &mut Option<Note>, message: Note) {
    let [number, from, _] = message;
    if message != note(number, from) {
        return desk.fault(Fault::Torn, format!("{message:x?}"));
    }
    match last {
        Some([before, sender, _]) if *sender == from && number != *before + 1 => {
            let fault = if number <= *before { Fault::Doubled } else { Fault::Lost };
            desk.fault(fault, format!("{number} after {before} of sender {from}"));
        }
        None if number != 0 => desk.fault(Fault::Lost, format!("{number} is the first of sender {from}")),
        _ => {}
    }
    *last = Some(message);
}

impl Names {
    fn place(&self, kind: &str, number: u64) -> Place {
        self.site.file(format!("{kind}-{number}"))
    }

    fn send_on_ring(&mut self, desk: &mut Desk) {
        let from = (desk.slot as u64) << 32 | desk.incarnation;
        let Some((producer, next)) = &mut self.producer else {
            let place = self.place("ring", desk.slot as u64);
            let created = desk.act("ring: create", || Producer::create(place, 4));
            self.producer = there(desk, created).map(|producer| (producer, 0));
            return;
        };
        let message = note(*next, from);
        let sent = match desk.random.below(2) {
            0 => desk.act("ring: try_send", || producer.try_send(message)),
            _ => desk.timed("ring: send", |time| producer.send_timeout(message, time)),
        };
        match sent {
            Ok(()) => *next += 1,
            Err(SendError::Full(_)) => {}
            Err(SendError::Closed(_)) => self.producer = None,
            Err(error) => desk.fault(Fault::Broken, format!("ring: {error}")),
        }
        if desk.random.one_in(100) {
            self.producer = None;
        }
    }

    fn receive_on_ring(&mut self, desk: &mut Desk) {
        let Some((consumer, last)) = &mut self.consumer else {
            let place = self.place("ring", desk.random.below(NAMES));
            let opened = desk.act("ring: open", || Consumer::open(place));
            self.consumer = there(desk, opened).map(|consumer| (consumer, None));
            return;
        };
        let received = match desk.random.below(2) {
            0 => desk.act("ring: try_recv", || consumer.try_recv()),
            _ => desk.timed("ring: recv", |time| consumer.recv_timeout(time)),
        };
        match received {
            Ok(message) => follow(desk, last, message),
            Err(RecvError::Empty) => {}
            Err(RecvError::Closed) => self.consumer = None,
            Err(error) => desk.fault(Fault::Broken, format!("ring: {error}")),
        }
        if desk.random.one_in(100) {
            self.consumer = None;
        }
    }

    fn send_on_pipe(&mut self, desk: &mut Desk) {
        let from = (desk.slot as u64) << 32 | desk.incarnation;
        let Some((sender, next)) = &mut self.sender else {
            let place = self.place("pipe", desk.slot as u64);
            let created = desk.act("pipe: create", || Connection::create(place));
            self.sender = there(desk, created).map(|sender| (sender, 0));
            return;
        };
        let message = note(*next, from);
        // With a deadline, because there may be no receiver.
        match desk.timed("pipe: send", |time| sender.send_timeout(&message, time)) {
            Ok(()) => *next += 1,
            Err(PipeError::TimedOut) => {}
            Err(PipeError::Closed) => self.sender = None,
            Err(error) => desk.fault(Fault::Broken, format!("pipe: {error}")),
        }
        if desk.random.one_in(100) {
            self.sender = None;
        }
    }

    fn receive_on_pipe(&mut self, desk: &mut Desk) {
        let Some((receiver, last)) = &mut self.receiver else {
            let place = self.place("pipe", desk.random.below(NAMES));
            let opened = desk.act("pipe: open", || Connection::open(place));
            self.receiver = there(desk, opened).map(|receiver| (receiver, None));
            return;
        };
        match desk.timed("pipe: recv", |time| receiver.recv_timeout::<Note>(time)) {
            Ok(message) => follow(desk, last, message),
            Err(PipeError::TimedOut) => {}
            Err(PipeError::Closed) => self.receiver = None,
            Err(error) => desk.fault(Fault::Broken, format!("pipe: {error}")),
        }
        if desk.random.one_in(100) {
            self.receiver = None;
        }
    }

    /// Opens or creates the common name. The first process creates it, and the last one removes it.
    fn common(&self, desk: &Desk) {
        let place = self.site.file(COMMON);
        let result = desk.act("name: open", || Event::open_or_create(place));
        if let Some((event, _)) = there(desk, result) {
            event.set();
            if !event.is_set() {
                desk.fault(Fault::Lost, "set, and nobody ever clears it");
            }
        }
    }
}

impl Member for Names {
    fn step(&mut self, desk: &mut Desk) {
        match desk.random.below(9) {
            0 | 1 => self.send_on_ring(desk),
            2 | 3 => self.receive_on_ring(desk),
            4 | 5 => self.send_on_pipe(desk),
            6 | 7 => self.receive_on_pipe(desk),
            _ => self.common(desk),
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        // Whatever the dead have left there, a new one can be created.
        let begin = std::time::Instant::now();
        while self.producer.is_none() && begin.elapsed() < PATIENCE {
            let created = Producer::create(self.place("ring", 0), 1);
            self.producer = there(desk, created).map(|producer| (producer, 0));
        }
        if self.producer.take().is_none() {
            desk.fault(Fault::Stuck, "a name cannot be had, and nobody has it");
        }
    }
}

pub const RECIPES: &[Recipe] = &[Recipe {
    name: "names of their own",
    join: |site, _| {
        let site = Site { segment: site.segment.clone(), dir: site.dir.clone() };
        Ok(Box::new(Names { site, producer: None, consumer: None, sender: None, receiver: None }))
    },
}];
