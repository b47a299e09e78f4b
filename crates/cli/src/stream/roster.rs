//! Who takes part in a stream of lines: how many have begun, how many have finished, how many are alive.
//!
//! Those who are alive are the participants of a segment of its own, NAME.senders or NAME.receivers: nothing is in it, and
//! the kernel says who is attached, however they ended. Those who have begun and those who have finished have each put one
//! message into a queue that nobody ever receives from. So a death can be told from an end.

use pagemate::inspect::{self, Participant};
use pagemate::{ErrorKind, Origin, Place, Queue, Segment};

use crate::site::Site;
use crate::Failure;

/// How many senders, and how many receivers, one stream can have in its life.
const MAX: usize = 1000;

/// One side of a stream, as seen by both.
#[derive(Debug)]
pub(super) struct Roster {
    begun: Queue<u32>,
    finished: Queue<u32>,
    presence: Place,
    who: &'static str,
}

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Census {
    pub(super) begun: usize,
    pub(super) alive: usize,
    /// Who have begun and not come to their end, dead or alive.
    pub(super) unfinished: usize,
    /// Those of them who are dead. Too low by as many as have finished and not yet left.
    pub(super) dead: usize,
}

impl Census {
    /// Whether all who were there have left.
    pub(super) fn is_over(&self) -> bool {
        self.begun > 0 && self.alive == 0
    }
}

impl Roster {
    /// The names of its objects.
    pub(super) const SENDERS: [&'static str; 2] = ["senders begun", "senders finished"];
    pub(super) const RECEIVERS: [&'static str; 2] = ["receivers begun", "receivers finished"];

    pub(super) fn senders(segment: &Segment, name: &str, site: &Site) -> Result<Roster, Failure> {
        Roster::open(segment, Roster::SENDERS, "senders", name, site)
    }

    pub(super) fn receivers(segment: &Segment, name: &str, site: &Site) -> Result<Roster, Failure> {
        Roster::open(segment, Roster::RECEIVERS, "receivers", name, site)
    }

    fn open(
        segment: &Segment,
        [begun, finished]: [&str; 2],
        who: &'static str,
        name: &str,
        site: &Site,
    ) -> Result<Roster, Failure> {
        let queue = |object: &str| Ok::<_, Failure>(Queue::open_or_create(segment.at(object), MAX)?.0);
        let presence = site.place(&format!("{name}.{who}"));
        Ok(Roster { begun: queue(begun)?, finished: queue(finished)?, presence, who })
    }

    /// This process begins. It is alive until the result is dropped.
    pub(super) fn begin(&self) -> Result<Segment, Failure> {
        // Alive first: who has begun and is not alive is gone.
        let (alive, _): (Segment, Origin) = Segment::open_or_create(self.presence.clone(), PRESENCE_SIZE)?;
        self.note(&self.begun)?;
        Ok(alive)
    }

    /// This process has come to its end. Before it stops being alive.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.note(&self.finished)
    }

    fn note(&self, queue: &Queue<u32>) -> Result<(), Failure> {
        queue.try_send(std::process::id()).map_err(|_| {
            format!("this stream has had {MAX} {}: no more are possible, use another name", self.who).into()
        })
    }

    pub(super) fn census(&self) -> Result<Census, Failure> {
        // In this order: who began before the first look and has left before the second one has finished before the
        // third one, or never will.
        let begun = self.begun.len();
        let alive = match inspect::segment(self.presence.clone()) {
            Ok(segment) => segment.participants.iter().filter(|seen: &&Participant| seen.alive).count(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        let finished = self.finished.len();
        let unfinished = begun.saturating_sub(finished);
        Ok(Census { begun, alive, unfinished, dead: unfinished.saturating_sub(alive) })
    }
}

impl Drop for Roster {
    /// Takes away what those who were killed have left, if nobody else is there.
    fn drop(&mut self) {
        if inspect::segment(self.presence.clone()).is_ok_and(|segment| segment.stale) {
            // Opening removes what is stale.
            let _ = Segment::open(self.presence.clone());
        }
    }
}

/// Room for the table of participants.
const PRESENCE_SIZE: u64 = 1 << 20;
