//! A member of the storm: an object, the workers' operations on it, and checks of its promises.

use std::path::PathBuf;

use pagemate::{Place, Segment};

use crate::desk::Desk;

/// Where the objects of a round are.
pub struct Site {
    /// The segment of the objects that have a name inside of one.
    pub segment: Segment,
    /// The storm's directory, for objects with a name of their own.
    pub dir: PathBuf,
}

impl Site {
    /// Returns a place with a name of its own.
    pub fn file(&self, name: impl Into<String>) -> Place {
        Place::in_dir(&self.dir, name)
    }
}

/// One process's handles of an object of the storm, or of several that belong together.
pub trait Member {
    /// Does a random operation in a worker, and reports faults. Every wait in it must have a
    /// deadline or be [`Desk::patient`]. It releases everything that it acquires.
    fn step(&mut self, desk: &mut Desk);

    /// Accounts for the records of a dead worker, before another one takes its index. Runs in the
    /// storm's own process.
    fn account_for(&mut self, _desk: &mut Desk, _slot: usize) {}

    /// Does what a worker may wait for without a deadline, since the others no longer do it. Runs
    /// in the storm's own process, again and again while the workers end.
    fn relieve(&mut self, _desk: &mut Desk) {}

    /// Reports what is lost, doubled or stuck. Runs in the storm's own process when all workers
    /// have ended.
    fn verdict(&mut self, desk: &mut Desk);
}

/// How to create or open a member. `join` runs in every process, in any order, and the first
/// creates.
pub struct Recipe {
    pub name: &'static str,
    pub join: fn(&Site, &'static str) -> pagemate::Result<Box<dyn Member>>,
}
