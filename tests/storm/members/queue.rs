//! Queues: a ledger has a line for each message, which tells at the end what became of it.
//!
//! | words | meaning |
//! |---|---|
//! | [`NEXT`] | the next ticket: the number of a message, and of its line |
//! | [`GENERATION`] | the number of the present queue, of those that are closed one after another |
//! | [`MISSING`] | deaths between a receive and its line: messages that may be missing |
//! | [`HELD`] | messages that were held at a death: the number that may count as lost |
//! | [`TAKING`] and slot | not 0: that worker is between a receive and the line |
//! | [`HOLDING`] and slot | up to [`HOLDS`] tickets plus one that the worker holds in place |
//! | [`LEDGER`] and ticket | [`BEGUN`], [`SENT`], [`REFUSED`]; counts of [`RECEIVED`], [`AGAIN`] |

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pagemate::queue::{Loan, Payload, QueueBuilder, Received, RecvError, SendError};
use pagemate::Queue;

use crate::board::{Fault, MEMBER_WORDS, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

const NEXT: usize = 0;
const GENERATION: usize = 1;
const MISSING: usize = 2;
const HELD: usize = 3;
const TAKING: usize = 64;
const HOLDING: usize = TAKING + WORKERS;
const HOLDS: usize = 4;
const LEDGER: usize = HOLDING + HOLDS * WORKERS;

const BEGUN: u64 = 1;
const SENT: u64 = 2;
const REFUSED: u64 = 4;
const RECEIVED: u64 = 1 << 8;
const AGAIN: u64 = 1 << 32;

/// The largest number of queues that are closed in a round.
const GENERATIONS: u64 = 100;

/// What a queue carries: ticket, sender, and words that both determine.
trait Letter: Payload<Owned: AsRef<[u64]>> + AsRef<[u64]> {
    /// Returns the number of words of the letter with this ticket.
    fn len(ticket: u64) -> usize;

    fn sent(words: &[u64]) -> Self::Sent<'_>;

    fn loan(queue: &Queue<Self>, len: usize, timeout: Duration) -> Result<Loan<'_, Self>, SendError<()>>;

    fn words(loan: &mut Self) -> &mut [u64];

    fn build(builder: QueueBuilder<Self>) -> QueueBuilder<Self>;

    fn in_use(queue: &Queue<Self>) -> u64;
}

impl Letter for [u64; 8] {
    fn len(_: u64) -> usize {
        8
    }

    fn sent(words: &[u64]) -> [u64; 8] {
        std::array::from_fn(|word| words[word])
    }

    fn loan(queue: &Queue<Self>, _: usize, timeout: Duration) -> Result<Loan<'_, Self>, SendError<()>> {
        queue.loan_timeout(timeout)
    }

    fn words(loan: &mut Self) -> &mut [u64] {
        loan
    }

    fn build(builder: QueueBuilder<Self>) -> QueueBuilder<Self> {
        builder
    }

    fn in_use(_: &Queue<Self>) -> u64 {
        0
    }
}

/// Letters of any length: some are in their slot, most in a block, and a few take much of the
/// quota.
impl Letter for [u64] {
    fn len(ticket: u64) -> usize {
        let random = mix(ticket) >> 8;
        2 + (random % [12, 100, 1000, 12_000][mix(ticket) as usize % 4]) as usize
    }

    fn sent(words: &[u64]) -> &[u64] {
        words
    }

    fn loan(queue: &Queue<Self>, len: usize, timeout: Duration) -> Result<Loan<'_, Self>, SendError<()>> {
        queue.loan_timeout(len, timeout).map(|room| room.zeroed())
    }

    fn words(loan: &mut Self) -> &mut [u64] {
        loan
    }

    fn build(builder: QueueBuilder<Self>) -> QueueBuilder<Self> {
        builder.quota(512 << 10)
    }

    fn in_use(queue: &Queue<Self>) -> u64 {
        queue.quota_in_use()
    }
}

fn letter<T: Letter + ?Sized>(ticket: u64, from: u64) -> Vec<u64> {
    let word = |word| match word {
        0 => ticket,
        1 => from,
        _ => mix(ticket ^ from << 40 ^ (word as u64) << 56),
    };
    (0..T::len(ticket)).map(word).collect()
}

struct Traffic<T: Letter + ?Sized> {
    site: Site,
    name: &'static str,
    capacity: usize,
    redeliver: bool,
    /// Whether the queue is sometimes closed and replaced by another one.
    closes: bool,
    generation: u64,
    queue: Queue<T>,
    /// The last ticket received from each sender: later ones are greater.
    last: [u64; WORKERS],
}

impl<T: Letter + ?Sized> Traffic<T> {
    fn join(
        site: &Site,
        name: &'static str,
        capacity: usize,
        redeliver: bool,
    ) -> pagemate::Result<Box<dyn Member>> {
        let site = Site { segment: site.segment.clone(), dir: site.dir.clone() };
        let queue = open::<T>(&site, name, capacity, redeliver, 0)?;
        let closes = name.contains("closed");
        let last = [0; WORKERS];
        Ok(Box::new(Traffic { site, name, capacity, redeliver, closes, generation: 0, queue, last }))
    }

    /// Turns to the queue of this generation.
    fn turn_to(&mut self, desk: &Desk, generation: u64) {
        if generation != self.generation {
            match open(&self.site, self.name, self.capacity, self.redeliver, generation) {
                Ok(queue) => (self.queue, self.generation) = (queue, generation),
                Err(error) => desk.fault(Fault::Broken, format!("generation {generation}: {error}")),
            }
        }
    }

    fn send(&mut self, desk: &mut Desk) {
        let ticket = desk.words()[NEXT].fetch_add(1, SeqCst);
        let Some(line) = desk.words()[LEDGER..].get(ticket as usize) else { return };
        let letter = letter::<T>(ticket, desk.slot as u64);
        line.store(BEGUN, SeqCst);
        let queue = self.queue.clone();
        let sent = match desk.random.below(8) {
            0 | 1 => desk.act("try_send", || {
                queue.varying().try_send(T::sent(&letter)).map_err(|error| error.map_to_unit())
            }),
            2 => desk.patient("send", || {
                queue.varying().send(T::sent(&letter)).map_err(|error| error.map_to_unit())
            }),
            3 | 4 => desk.timed("send_timeout", |time| {
                queue.varying().send_timeout(T::sent(&letter), time).map_err(|error| error.map_to_unit())
            }),
            way => match desk.timed("loan", |time| T::loan(&queue, letter.len(), time)) {
                Err(error) => Err(error),
                Ok(mut loan) => {
                    for (to, from) in T::words(&mut loan).iter_mut().zip(&letter) {
                        *to = *from;
                        if desk.random.one_in(32) {
                            desk.dawdle();
                        }
                    }
                    if way == 5 && desk.random.one_in(4) {
                        desk.act("drop loan", || drop(loan));
                        Err(SendError::Full(()))
                    } else {
                        desk.timed("loan.send", |time| {
                            loan.send_timeout(time).map_err(|error| error.map_to_unit())
                        })
                    }
                }
            },
        };
        match sent {
            Ok(()) => line.fetch_or(SENT, SeqCst),
            Err(SendError::Full(())) => line.fetch_or(REFUSED, SeqCst),
            Err(SendError::Closed(())) if self.closes => line.fetch_or(REFUSED, SeqCst),
            Err(error) => {
                desk.fault(Fault::Broken, format!("send: {error}"));
                line.fetch_or(REFUSED, SeqCst)
            }
        };
    }

    /// Checks a received message, and enters it into the ledger.
    fn enter(&mut self, desk: &Desk, message: &[u64]) {
        let [ticket, from, ..] = *message else {
            return desk.fault(Fault::Torn, format!("a message of {} words", message.len()));
        };
        if *message != letter::<T>(ticket, from) || from >= WORKERS as u64 {
            return desk.fault(Fault::Torn, format!("message {ticket} from {from}: {message:x?}"));
        }
        let Some(line) = desk.words()[LEDGER..].get(ticket as usize) else {
            return desk.fault(Fault::Torn, format!("message {ticket}, which nobody can have sent"));
        };
        let state = line.fetch_add(RECEIVED, SeqCst);
        if state & BEGUN == 0 || state & REFUSED != 0 {
            desk.fault(Fault::Broken, format!("message {ticket}, which was not sent ({state:#x})"));
        }
        let last = &mut self.last[from as usize];
        if !self.redeliver && *last > ticket {
            desk.fault(Fault::Broken, format!("message {ticket} from {from} after {last}, which was later"));
        }
        *last = (*last).max(ticket);
    }

    fn receive(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let taking = &words[TAKING + desk.slot];
        let queue = self.queue.clone();
        // A message received by value belongs to nobody any more. One that is held in place comes
        // back if the queue has redelivery.
        taking.store(1, SeqCst);
        let received = match desk.random.below(5) {
            0 | 1 => desk.act("try_recv", || queue.varying().try_recv()),
            2 => desk.timed("recv_timeout", |time| queue.varying().recv_timeout(time)),
            _ => {
                taking.store(u64::from(!self.redeliver), SeqCst);
                let count = 1 + desk.random.below(HOLDS as u64 - 1) as usize;
                let result = self.receive_in_place(desk, &queue, count);
                taking.store(0, SeqCst);
                return self.end_of(desk, result);
            }
        };
        match received {
            Ok(message) => self.enter(desk, message.as_ref()),
            Err(error) => self.end_of(desk, Err(error)),
        }
        taking.store(0, SeqCst);
    }

    fn receive_in_place(&mut self, desk: &mut Desk, queue: &Queue<T>, count: usize) -> Result<(), RecvError> {
        let holding = &desk.words()[HOLDING + HOLDS * desk.slot..][..HOLDS];
        let mut held: Vec<(Received<'_, T>, &AtomicU64)> = Vec::new();
        for hold in &holding[..count] {
            let message = match desk.random.below(2) {
                0 => desk.act("try_recv_ref", || queue.try_recv_ref()),
                _ => desk.timed("recv_ref", |time| queue.recv_ref_timeout(time)),
            };
            match message {
                Ok(message) => {
                    let ticket = AsRef::<[u64]>::as_ref(&*message).first().map_or(0, |ticket| ticket + 1);
                    hold.store(ticket, SeqCst);
                    self.enter(desk, AsRef::<[u64]>::as_ref(&*message));
                    desk.dawdle();
                    held.push((message, hold));
                }
                Err(error) if held.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        while !held.is_empty() {
            let (message, hold) = held.swap_remove(desk.random.below(held.len() as u64) as usize);
            let words = AsRef::<[u64]>::as_ref(&*message);
            if *words != letter::<T>(words[0], words[1]) {
                desk.fault(Fault::Torn, format!("message {} changed while it was read", words[0]));
            }
            desk.act("drop received", || drop(message));
            hold.store(0, SeqCst);
        }
        Ok(())
    }

    fn end_of(&mut self, desk: &Desk, result: Result<(), RecvError>) {
        match result {
            Ok(()) | Err(RecvError::Empty) => {}
            Err(RecvError::Closed) if self.closes => {
                let _ = desk.words()[GENERATION].compare_exchange(
                    self.generation,
                    self.generation + 1,
                    SeqCst,
                    SeqCst,
                );
            }
            Err(error) => desk.fault(Fault::Broken, format!("recv: {error}")),
        }
    }

    /// Receives the rest, until everything is accounted for. Then the queue must take `capacity`
    /// messages.
    fn drain(&mut self, desk: &mut Desk) {
        let begin = Instant::now();
        let mut quiet = 0;
        while quiet < 3 && begin.elapsed() < PATIENCE {
            // Longer than a slice, so the messages of dead workers come back meanwhile.
            match self.queue.varying().recv_timeout(Duration::from_millis(60)) {
                Ok(message) => {
                    self.enter(desk, message.as_ref());
                    quiet = 0;
                }
                Err(_) => quiet += 1,
            }
        }
        let mut filled = self.queue.is_closed();
        let begin = Instant::now();
        while !filled && begin.elapsed() < PATIENCE {
            while self.queue.varying().recv_timeout(Duration::from_millis(1)).is_ok() {}
            let small = [0; 8]; // in its slot, whatever the quota
            filled = T::in_use(&self.queue) == 0
                && (0..self.capacity).all(|_| self.queue.varying().try_send(T::sent(&small)).is_ok());
        }
        while self.queue.varying().try_recv().is_ok() {}
        if !filled {
            let in_use = T::in_use(&self.queue);
            desk.fault(
                Fault::Stuck,
                format!("not all slots have come back, or {in_use} bytes: {:?}", self.queue),
            );
        }
    }
}

fn open<T: Letter + ?Sized>(
    site: &Site,
    name: &str,
    capacity: usize,
    redeliver: bool,
    generation: u64,
) -> pagemate::Result<Queue<T>> {
    let place = site.segment.at(format!("{name}.{generation}"));
    Ok(T::build(Queue::builder(capacity).redeliver(redeliver)).open_or_create(place)?.0)
}

/// An error without the message.
trait Unit {
    fn map_to_unit(self) -> SendError<()>;
}

impl<T> Unit for SendError<T> {
    fn map_to_unit(self) -> SendError<()> {
        match self {
            SendError::Full(_) => SendError::Full(()),
            SendError::Closed(_) => SendError::Closed(()),
            SendError::NotInThisProcess(_, refusal) => SendError::NotInThisProcess((), refusal),
            _ => SendError::Corrupted(()),
        }
    }
}

impl<T: Letter + ?Sized> Member for Traffic<T> {
    fn step(&mut self, desk: &mut Desk) {
        let generation = desk.words()[GENERATION].load(SeqCst);
        if self.closes {
            self.turn_to(desk, generation);
            if generation < GENERATIONS && desk.random.one_in(200) {
                self.queue.close();
            }
        }
        // Slightly more receives, because empty queues are as interesting as full ones.
        match desk.random.below(100) {
            0..48 => self.send(desk),
            _ => self.receive(desk),
        }
    }

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        let words = desk.words();
        words[MISSING].fetch_add(words[TAKING + slot].swap(0, SeqCst), SeqCst);
        for hold in &words[HOLDING + HOLDS * slot..][..HOLDS] {
            let ticket = hold.swap(0, SeqCst);
            if ticket != 0 {
                words[HELD].fetch_add(1, SeqCst);
                if self.redeliver {
                    words[LEDGER + ticket as usize - 1].fetch_add(AGAIN, SeqCst);
                }
            }
        }
    }

    fn relieve(&mut self, desk: &mut Desk) {
        self.turn_to(desk, desk.words()[GENERATION].load(SeqCst));
        while let Ok(message) = self.queue.varying().try_recv() {
            self.enter(desk, message.as_ref());
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let mut counted = 0;
        for generation in 0..=words[GENERATION].load(SeqCst) {
            self.turn_to(desk, generation);
            self.last = [0; WORKERS];
            self.drain(desk);
            counted += self.queue.lost();
        }
        let tickets = (words[NEXT].load(SeqCst) as usize).min(MEMBER_WORDS - LEDGER);
        let mut missing = Vec::new();
        for (ticket, line) in words[LEDGER..][..tickets].iter().enumerate() {
            let line = line.load(SeqCst);
            let (received, again) = ((line >> 8) & 0xff_ffff, line >> 32);
            if received > 1 + again {
                desk.fault(
                    Fault::Doubled,
                    format!("message {ticket} received {received} times, {again} holders died"),
                );
            }
            if line & SENT != 0 && received == 0 {
                missing.push(ticket);
            }
        }
        let (deaths, held) = (words[MISSING].load(SeqCst), words[HELD].load(SeqCst));
        if missing.len() as u64 > deaths {
            desk.fault(
                Fault::Lost,
                format!("{} messages, with {deaths} deaths while receiving: {missing:?}", missing.len()),
            );
        }
        if counted > if self.redeliver { 0 } else { deaths + held } {
            desk.fault(
                Fault::Lost,
                format!("the queue counts {counted} as lost, {deaths} deaths while receiving, {held} held"),
            );
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "queue of 1", join: |site, name| Traffic::<[u64; 8]>::join(site, name, 1, false) },
    Recipe { name: "queue of 2", join: |site, name| Traffic::<[u64; 8]>::join(site, name, 2, false) },
    Recipe { name: "queue of 3", join: |site, name| Traffic::<[u64; 8]>::join(site, name, 3, false) },
    Recipe { name: "queue of 16", join: |site, name| Traffic::<[u64; 8]>::join(site, name, 16, false) },
    Recipe {
        name: "queue of 1 that redelivers",
        join: |site, name| Traffic::<[u64; 8]>::join(site, name, 1, true),
    },
    Recipe {
        name: "queue of 3 that redelivers",
        join: |site, name| Traffic::<[u64; 8]>::join(site, name, 3, true),
    },
    Recipe {
        name: "queue of 16 that redelivers",
        join: |site, name| Traffic::<[u64; 8]>::join(site, name, 16, true),
    },
    Recipe {
        name: "queue of 4 that is closed",
        join: |site, name| Traffic::<[u64; 8]>::join(site, name, 4, false),
    },
    Recipe { name: "queue of 4 slices", join: |site, name| Traffic::<[u64]>::join(site, name, 4, false) },
    Recipe { name: "queue of 16 slices", join: |site, name| Traffic::<[u64]>::join(site, name, 16, false) },
    Recipe {
        name: "queue of 8 slices that redelivers",
        join: |site, name| Traffic::<[u64]>::join(site, name, 8, true),
    },
];
