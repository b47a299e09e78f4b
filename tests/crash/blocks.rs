//! How many blocks a segment's heap has in use, for scenes whose last word is that none is lost.

use pagemate::{inspect, Kind, Manager, Place};

/// Those of the segment at `place`, once the dead have been reaped.
pub fn in_use(place: &Place) -> Result<u64, String> {
    // Whoever attaches takes the place of the dead one, and reaps it.
    let _reaper = Manager::open(place.clone()).map_err(|error| error.to_string())?;
    let seen = inspect::segment(place.clone()).map_err(|error| error.to_string())?;
    let heap = seen.objects.iter().filter(|object| object.kind == Some(Kind::Heap));
    let states = heap.flat_map(|object| &object.state);
    let blocks = states.filter(|(what, _)| *what == "blocks in use");
    blocks.map(|(_, count)| count.parse::<u64>().map_err(|error| error.to_string())).sum()
}
