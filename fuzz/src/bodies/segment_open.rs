//! Any bytes as a segment: every operation on it returns.
//!
//! Input: if byte 0 is even, triples (offset low, offset high, value) that damage a sound segment
//! with one object of each kind; if it is odd, the whole file.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use pagemate::{inspect, Event, Place, Queue, Segment};

use super::Supply;

struct Sound {
    dir: PathBuf,
    image: Vec<u8>,
}

/// Returns a directory for this process, and the bytes of a sound segment.
fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("pagemate-fuzz-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the damaged segments");
        let place = Place::in_dir(&dir, "sound").persistent();
        {
            let segment = Segment::create(place.clone(), 1 << 16).expect("a segment");
            Event::create(segment.at("event")).expect("an event");
            let queue = Queue::<u32>::create(segment.at("queue"), 3).expect("a queue");
            (0..2).for_each(|i| queue.try_send(i).expect("room for two"));
        }
        let image = fs::read(dir.join("pagemate.sound")).expect("the segment's bytes");
        place.remove().expect("it is there");
        Sound { dir, image }
    })
}

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let sound = sound();
    let image = if supply.byte() % 2 == 0 {
        let mut image = sound.image.clone();
        while !supply.is_empty() {
            let offset = usize::from(supply.byte()) | usize::from(supply.byte()) << 8;
            let at = offset % image.len();
            image[at] = supply.byte();
        }
        image
    } else {
        supply.0.to_vec()
    };
    let path = sound.dir.join("pagemate.damaged");
    let _ = fs::remove_file(&path);
    fs::write(&path, image).expect("room for a small file");
    use_everything(&Place::in_dir(&sound.dir, "damaged"));
    let _ = fs::remove_file(&path);
    // The next run creates it again, so nothing is left when the last run ends.
    let _ = fs::remove_dir(&sound.dir);
    let _ = fs::create_dir(&sound.dir);
}

fn use_everything(place: &Place) {
    let _ = inspect::segment(place.clone());
    let Ok(segment) = Segment::open(place.clone()) else { return };
    let _ = segment.objects();
    if let Ok(event) = Event::open(segment.at("event")) {
        event.set();
        event.clear();
        event.wait_timeout(Duration::ZERO);
    }
    if let Ok(queue) = Queue::<u32>::open(segment.at("queue")) {
        for round in 0..8 {
            let _ = queue.try_send(round);
            let _ = queue.len();
            let _ = queue.try_recv();
            let held = queue.try_recv_ref();
            let _ = queue.try_send(round);
            drop(held);
        }
        queue.close();
        while queue.try_recv().is_ok() {}
        let _ = queue.recv_timeout(Duration::ZERO);
    }
    let _ = Event::create(segment.at("new"));
    let _ = inspect::segment(place.clone());
}
