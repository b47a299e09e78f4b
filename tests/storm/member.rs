//! What takes part in the storm: an object, what workers do with it, and what must be true of it.

use std::path::PathBuf;

use pagemate::{Place, Segment};

use crate::desk::Desk;

/// Where the objects of a round are.
pub struct Site {
    /// Everything that has a name inside of a segment.
    pub segment: Segment,
    /// A directory of the storm's own, for names of their own.
    pub dir: PathBuf,
}

impl Site {
    /// A place with a name of its own.
    pub fn file(&self, name: impl Into<String>) -> Place {
        Place::in_dir(&self.dir, name)
    }
}

/// One object of the storm, or several that belong together, as one process has them.
pub trait Member {
    /// A worker does something at random, and says what it found wrong. Every wait in it must have a deadline or be
    /// [`Desk::patient`]; it gives up everything that it acquires.
    fn step(&mut self, desk: &mut Desk);

    /// In the storm's own process, when a worker has died and before its place is taken again: settles what the dead one had
    /// written down as its own.
    fn bury(&mut self, _desk: &mut Desk, _slot: usize) {}

    /// In the storm's own process, while the workers are ending, again and again: does what somebody may wait for without a
    /// deadline, and which the others no longer do.
    fn relieve(&mut self, _desk: &mut Desk) {}

    /// In the storm's own process, when all workers have ended: says what is lost, doubled or stuck.
    fn verdict(&mut self, desk: &mut Desk);
}

/// How a member comes about. `join` runs in every process, in any order; whoever is first creates.
pub struct Recipe {
    pub name: &'static str,
    pub join: fn(&Site, &'static str) -> pagemate::Result<Box<dyn Member>>,
}
