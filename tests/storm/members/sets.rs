//! Sets: a process that waits for several things at once learns of each that is ready, and takes no
//! wake-up from plain waiters.
//!
//! Some workers make a queue, an event and a semaphore ready. Others wait for them, in a set or
//! without one.
//!
//! | words | meaning |
//! |---|---|
//! | [`NEXT`] | the next ticket: the number of a message, and of its line |
//! | [`SENT`] | messages that were surely sent |
//! | [`TAKES`] | receives that have begun, without those that found nothing |
//! | [`MISSING`] | deaths in a receive: the number of messages that may be missing |
//! | [`RELEASED`], [`ACQUIRED`] | permits that were surely released or acquired |
//! | [`DOUBTFUL`] | deaths in a release or an acquire |
//! | [`AT`] and slot | the worker's present step: [`TAKING`], [`ACQUIRING`], [`RELEASING`] |
//! | [`BEGUN`], [`ENDED`] of the event or of the semaphore, and slot | the worker's clears or acquires |
//! | [`LEDGER`] and ticket | 1: sent; and how often received, times 2 |

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pagemate::queue::{RecvError, SendError};
use pagemate::{Event, Queue, Semaphore, WaitSet};

use crate::board::{Fault, MEMBER_WORDS, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

const NEXT: usize = 0;
const SENT: usize = 1;
const TAKES: usize = 2;
const MISSING: usize = 3;
const RELEASED: usize = 4;
const ACQUIRED: usize = 5;
const DOUBTFUL: usize = 6;
const AT: usize = 64;
const BEGUN: [usize; 2] = [AT + WORKERS, AT + 2 * WORKERS];
const ENDED: [usize; 2] = [AT + 3 * WORKERS, AT + 4 * WORKERS];
const LEDGER: usize = AT + 5 * WORKERS;

const TAKING: u64 = 1;
const ACQUIRING: u64 = 2;
const RELEASING: u64 = 3;

/// The tokens. Those of event and semaphore are also the index of their words.
const EVENT: usize = 0;
const SEMAPHORE: usize = 1;
const QUEUE: usize = 7;
const FILE: usize = 8;
const TOKENS: [usize; 3] = [EVENT, SEMAPHORE, QUEUE];

/// A ticket and a word that it determines.
type Note = [u64; 2];

struct Several {
    queue: Queue<Note>,
    event: Event,
    semaphore: Semaphore,
    set: WaitSet,
    /// The other end of a socket that is in the set.
    _far: Option<UnixStream>,
}

/// Members that were ready before a wait. The wait must report them if nobody has touched them.
struct Ready {
    sent: u64,
    /// The number of clears or acquires that had begun, if all of them had ended and the member was
    /// ready then.
    begun: [Option<u64>; 2],
}

impl Several {
    fn join(site: &Site, name: &str, has_file: bool) -> pagemate::Result<Box<dyn Member>> {
        let at = |what| site.segment.at(format!("{name}.{what}"));
        let queue = Queue::builder(4).open_or_create(at("queue"))?.0;
        let event = Event::open_or_create(at("event"))?.0;
        let semaphore = Semaphore::open_or_create(at("semaphore"), 0)?.0;
        let mut set = WaitSet::new();
        set.add(QUEUE, &queue)?;
        set.add(EVENT, &event)?;
        set.add(SEMAPHORE, &semaphore)?;
        let mut far = None;
        if has_file {
            let (near, other) = UnixStream::pair().expect("a pair of sockets");
            set.add(FILE, &near)?;
            far = Some(other);
        }
        Ok(Box::new(Several { queue, event, semaphore, set, _far: far }))
    }

    fn send(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let ticket = words[NEXT].fetch_add(1, SeqCst);
        let Some(line) = words[LEDGER..].get(ticket as usize) else { return };
        let (queue, note) = (&self.queue, [ticket, mix(ticket)]);
        let sent = match desk.random.below(2) {
            0 => desk.act("try_send", || queue.try_send(note)),
            _ => desk.timed("send", |time| queue.send_timeout(note, time)),
        };
        match sent {
            Ok(()) => {
                line.fetch_or(1, SeqCst);
                words[SENT].fetch_add(1, SeqCst);
            }
            Err(SendError::Full(_)) => {}
            Err(error) => desk.fault(Fault::Broken, format!("send: {error}")),
        }
    }

    /// Receives by `take`, which may find nothing.
    fn receive(
        &self,
        desk: &mut Desk,
        take: impl FnOnce(&Queue<Note>, &mut Desk) -> Result<Note, RecvError>,
    ) {
        let words = desk.words();
        let at = &words[AT + desk.slot];
        at.store(TAKING, SeqCst);
        words[TAKES].fetch_add(1, SeqCst);
        match take(&self.queue, desk) {
            Ok(note) => enter(desk, note),
            Err(RecvError::Empty) => _ = words[TAKES].fetch_sub(1, SeqCst),
            Err(error) => desk.fault(Fault::Broken, format!("recv: {error}")),
        }
        at.store(0, SeqCst);
    }

    fn clear(&self, desk: &mut Desk) {
        let words = desk.words();
        words[BEGUN[EVENT] + desk.slot].fetch_add(1, SeqCst);
        desk.act("clear", || self.event.clear());
        words[ENDED[EVENT] + desk.slot].fetch_add(1, SeqCst);
    }

    fn acquire(&self, desk: &mut Desk, take: impl FnOnce(&Semaphore, &mut Desk) -> bool) {
        let words = desk.words();
        let at = &words[AT + desk.slot];
        at.store(ACQUIRING, SeqCst);
        words[BEGUN[SEMAPHORE] + desk.slot].fetch_add(1, SeqCst);
        if take(&self.semaphore, desk) {
            words[ACQUIRED].fetch_add(1, SeqCst);
        }
        words[ENDED[SEMAPHORE] + desk.slot].fetch_add(1, SeqCst);
        at.store(0, SeqCst);
    }

    fn release(&self, desk: &mut Desk) {
        // Three permits that nobody has acquired are enough.
        if self.semaphore.available() > 3 {
            return;
        }
        let (words, at) = (desk.words(), &desk.words()[AT + desk.slot]);
        at.store(RELEASING, SeqCst);
        if desk.act("release", || self.semaphore.release()).is_err() {
            desk.fault(Fault::Doubled, "more permits than can be");
        }
        words[RELEASED].fetch_add(1, SeqCst);
        at.store(0, SeqCst);
    }

    fn ready(&self, words: &[AtomicU64]) -> Ready {
        let (event, semaphore) = (begun(words, EVENT), begun(words, SEMAPHORE));
        Ready {
            sent: words[SENT].load(SeqCst),
            begun: [
                event.filter(|_| self.event.is_set()),
                semaphore.filter(|_| self.semaphore.available() > 0),
            ],
        }
    }

    /// Waits in the set, checks the result, and takes what is ready or leaves it to others.
    fn wait(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let before = self.ready(words);
        let set = &mut self.set;
        let reported = match desk.random.below(16) {
            0 => desk.patient("set: wait", || set.wait().map(<[usize]>::to_vec)),
            1..6 => desk.act("set: try_wait", || set.try_wait().map(<[usize]>::to_vec)),
            _ => desk.timed("set: wait_timeout", |time| set.wait_timeout(time).map(<[usize]>::to_vec)),
        };
        let reported = match reported {
            Ok(reported) => reported,
            Err(error) => return desk.fault(Fault::Broken, format!("wait: {error}")),
        };
        let count = |token| reported.iter().filter(|other| **other == token).count();
        if reported.len() != TOKENS.map(count).iter().sum::<usize>()
            || TOKENS.iter().any(|token| count(*token) > 1)
        {
            desk.fault(Fault::Doubled, format!("reported as ready: {reported:?}"));
        }
        if count(QUEUE) == 0 && before.sent > words[TAKES].load(SeqCst) {
            desk.fault(Fault::Lost, format!("{} were sent, nobody took all, and {reported:?}", before.sent));
        }
        for (token, name) in [(EVENT, "event"), (SEMAPHORE, "semaphore")] {
            if count(token) == 0
                && before.begun[token].is_some()
                && before.begun[token] == begun(words, token)
            {
                desk.fault(Fault::Lost, format!("the {name} was ready all the time, and {reported:?}"));
            }
        }
        for token in reported {
            if desk.random.one_in(4) {
                continue;
            }
            match token {
                QUEUE => self.receive(desk, |queue, desk| desk.act("try_recv", || queue.try_recv())),
                EVENT => self.clear(desk),
                _ => {
                    self.acquire(desk, |semaphore, desk| desk.act("try_acquire", || semaphore.try_acquire()))
                }
            }
        }
    }
}

/// Returns the number of clears or acquires that have begun, or `None` if one has not ended.
fn begun(words: &[AtomicU64], token: usize) -> Option<u64> {
    let counts = words[BEGUN[token]..][..WORKERS].iter().zip(&words[ENDED[token]..][..WORKERS]);
    counts
        .map(|(begun, ended)| (begun.load(SeqCst), ended.load(SeqCst)))
        .try_fold(0, |sum, (begun, ended)| (begun == ended).then_some(sum + begun))
}

/// Checks a received message, and enters it into the ledger.
fn enter(desk: &Desk, note: Note) {
    let line = desk.words()[LEDGER..].get(note[0] as usize);
    match line {
        Some(line) if note[1] == mix(note[0]) => {
            if line.fetch_add(2, SeqCst) > 1 {
                desk.fault(Fault::Doubled, format!("message {} received again", note[0]));
            }
        }
        _ => desk.fault(Fault::Torn, format!("{note:x?}")),
    }
}

impl Member for Several {
    fn step(&mut self, desk: &mut Desk) {
        match desk.random.below(16) {
            0..3 => self.send(desk),
            3 => desk.act("set", || self.event.set()),
            4 | 5 => self.release(desk),
            6 => self.receive(desk, |queue, desk| desk.timed("recv", |time| queue.recv_timeout(time))),
            7 => drop(desk.timed("wait", |time| self.event.wait_timeout(time))),
            8 => self.acquire(desk, |semaphore, desk| {
                desk.timed("acquire", |time| semaphore.acquire_timeout(time))
            }),
            _ => self.wait(desk),
        }
    }

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        let words = desk.words();
        match words[AT + slot].swap(0, SeqCst) {
            TAKING => _ = words[MISSING].fetch_add(1, SeqCst),
            ACQUIRING | RELEASING => _ = words[DOUBTFUL].fetch_add(1, SeqCst),
            _ => {}
        }
        for (begun, ended) in BEGUN.iter().zip(ENDED) {
            words[ended + slot].store(words[begun + slot].load(SeqCst), SeqCst);
        }
    }

    fn relieve(&mut self, _desk: &mut Desk) {
        // A worker that waits without a deadline waits for all of them.
        self.event.set();
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let begin = Instant::now();
        let mut quiet = 0;
        while quiet < 3 && begin.elapsed() < PATIENCE {
            // Longer than a slice, so that the messages of the dead are free.
            match self.queue.recv_timeout(Duration::from_millis(60)) {
                Ok(note) => enter(desk, note),
                Err(_) => quiet += 1,
            }
        }
        let tickets = (words[NEXT].load(SeqCst) as usize).min(MEMBER_WORDS - LEDGER);
        let is_missing = |ticket: &usize| words[LEDGER + ticket].load(SeqCst) == 1;
        let missing: Vec<_> = (0..tickets).filter(is_missing).collect();
        let deaths = words[MISSING].load(SeqCst);
        if missing.len() as u64 > deaths {
            desk.fault(Fault::Lost, format!("messages {missing:?}, with {deaths} deaths while receiving"));
        }
        let [released, acquired, doubt] = [RELEASED, ACQUIRED, DOUBTFUL].map(|word| words[word].load(SeqCst));
        let left = u64::from(self.semaphore.available());
        if (left + acquired).abs_diff(released) > doubt {
            let fault = if left + acquired < released { Fault::Lost } else { Fault::Doubled };
            desk.fault(
                fault,
                format!("{released} released, {acquired} acquired, {left} left, {doubt} deaths"),
            );
        }
        // Whatever became of the others, the set can wait.
        self.event.clear();
        while self.semaphore.try_acquire() {}
        if self.set.try_wait().is_ok_and(|ready| ready.is_empty()) {
            let queue = self.queue.clone();
            let sent = std::thread::spawn(move || queue.send_timeout([0, mix(0)], PATIENCE).is_ok());
            let is_told = self.set.wait_timeout(PATIENCE).is_ok_and(|ready| ready == [QUEUE]);
            if !sent.join().unwrap_or(false) || !is_told || self.queue.try_recv().is_err() {
                desk.fault(Fault::Stuck, "a message is sent, and the set does not say so");
            }
        } else {
            desk.fault(Fault::Broken, "nothing is ready, and the set says that something is");
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "set", join: |site, name| Several::join(site, name, false) },
    Recipe { name: "set with a file", join: |site, name| Several::join(site, name, true) },
];
