//! The worker: does operations until it is killed, the round is over, or it leaves by itself.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;

use pagemate::Segment;

use crate::board::{Board, Fault};
use crate::desk::{mix, Desk, Random};
use crate::member::{Member, Recipe, Site};
use crate::members;

/// The segment's name in the storm's directory.
pub const SEGMENT: &str = "objects";

/// The orders of a worker: the board, the directory, a part of the names of its members, its slot,
/// the incarnation in that slot, the seed of its random choices, and maybe the segment. Without one
/// it opens the segment by name.
pub type Orders = (String, String, String, u64, u64, u64, Option<Segment>);

/// Returns the members of a round: those whose names contain `only`.
pub fn recipes(only: &str) -> Vec<&'static Recipe> {
    members::recipes().filter(|recipe| recipe.name.contains(only)).collect()
}

/// Runs a worker.
pub fn work((board, dir, only, slot, incarnation, seed, segment): Orders) {
    let Some(board) = Board::open(&board) else { return };
    let random = Random::new(mix(seed) ^ mix(slot << 32 | incarnation));
    let mut desk = Desk::new(&board, slot as usize, incarnation, random);
    desk.begin("start");
    if let Err(error) = steps(&mut desk, PathBuf::from(dir), &only, segment) {
        desk.fault(Fault::Broken, format!("cannot begin: {error}"));
    }
}

fn steps(desk: &mut Desk, dir: PathBuf, only: &str, segment: Option<Segment>) -> pagemate::Result<()> {
    let place = pagemate::Place::in_dir(&dir, SEGMENT);
    let segment = segment.map_or_else(|| Segment::open(place), Ok)?;
    let site = Site { segment, dir };
    let mut members: Vec<(&'static str, Box<dyn Member>)> = Vec::new();
    for recipe in recipes(only) {
        members.push((recipe.name, (recipe.join)(&site, recipe.name)?));
    }
    while desk.board.common().over.load(SeqCst) == 0 {
        let index = desk.random.below(members.len() as u64) as usize;
        let (name, member) = &mut members[index];
        desk.turn_to(index, name);
        // Several in a row, so that workers often use the same object at the same time.
        for _ in 0..=desk.random.below(8) {
            member.step(desk);
        }
        if desk.random.one_in(20_000) {
            break;
        }
    }
    desk.begin("leave");
    Ok(())
}
