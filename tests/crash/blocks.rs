//! Counts the blocks of a segment's heap that are in use, for scenes that end by checking that none
//! is lost.

use pagemate::{inspect, Kind, Manager, Place};

/// Returns the number of blocks in use in the segment at `place`, once the dead have been reaped.
pub fn in_use(place: &Place) -> Result<u64, String> {
    // A process that attaches takes the place of the dead one, and reaps it.
    let _reaper = Manager::open(place.clone()).map_err(|error| error.to_string())?;
    let seen = inspect::segment(place.clone()).map_err(|error| error.to_string())?;
    let heap = seen.objects.iter().filter(|object| object.info.kind == Some(Kind::Heap));
    let states = heap.flat_map(|object| &object.state);
    let blocks = states.filter(|(what, _)| *what == "blocks in use");
    blocks.map(|(_, count)| count.parse::<u64>().map_err(|error| error.to_string())).sum()
}
