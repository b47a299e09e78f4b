//! A directory of shared objects, by name: a dict, a list, a namespace and a value. Each run of
//! this example continues where the last one ended.
//!
//! ```text
//! cargo run --release --example gallery -- /var/tmp/visits
//! cargo run --release -- show visits --dir /var/tmp/visits                   # inspect it
//! cargo run --release -- set visits/settings title Gallery --dir /var/tmp/visits
//! cargo run --release --example gallery -- /var/tmp/visits --forget          # remove it
//! ```
//!
//! Three visitors come at once, each in a process of its own; one is killed halfway. There is no
//! server, so at times no process is there at all. The next visitor finds the last complete state.

use std::path::PathBuf;

use pagemate::{Dict, List, Manager, Message, Origin, Place, Process, Value};

/// A visit, as it is stored in the list.
#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Visit {
    /// The number of the visit among all visits.
    number: u64,
    /// The id of the visiting process.
    pid: u32,
    rooms: u32,
}

/// The handles of the shared objects.
struct Gallery {
    /// Number of visits of each visitor.
    guests: Dict<str, u64>,
    visits: List<Visit>,
    /// Number of visits, by any visitor.
    counter: Value<u64>,
}

impl Gallery {
    /// Opens all objects, and creates those that do not exist.
    fn of(manager: &Manager) -> pagemate::Result<Gallery> {
        Ok(Gallery {
            guests: manager.dict("guests")?,
            visits: manager.list("visits")?,
            counter: manager.value("counter", 0)?,
        })
    }

    fn visit(&self, name: &str, rooms: u32) -> pagemate::Result<Visit> {
        let number = self.counter.fetch_add(1) + 1;
        self.guests.update(name, |count| Some(count.unwrap_or(&0) + 1))?;
        let visit = Visit { number, pid: std::process::id(), rooms };
        self.visits.push(visit)?;
        Ok(visit)
    }
}

/// A visitor. It runs in a process of its own and opens the directory by its name, as another
/// user's program would.
fn visitor((dir, name, rooms): (String, String, u32)) -> Result<(), String> {
    let visit = || -> pagemate::Result<()> {
        let gallery = Gallery::of(&Manager::open(place(&dir))?)?;
        for room in 1..=rooms {
            let visit = gallery.visit(&name, room)?;
            if name == "Mallory" && room == 2 {
                // Even a death here loses nothing for the others, and leaves nothing half done.
                std::process::abort();
            }
            println!("{name} is in room {room}: visit {} of all", visit.number);
        }
        Ok(())
    };
    visit().map_err(|error| error.to_string())
}

fn place(dir: &str) -> Place {
    Place::in_dir(dir, "visits").persistent()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: gallery DIRECTORY [--forget]")?;
    if arguments.next().is_some_and(|argument| argument == "--forget") {
        return Ok(place(&dir).remove()?);
    }
    std::fs::create_dir_all(&dir)?;
    let (manager, origin) = Manager::open_or_create(place(&dir))?;
    let gallery = Gallery::of(&manager)?;
    let settings = manager.namespace("settings")?;
    match origin {
        Origin::Created => settings.set::<str>("title", "Museum")?,
        Origin::Opened => println!("open again, after {} visits", gallery.counter.load()),
    }
    let title = settings.get::<str>("title")?.unwrap_or_default();
    settings.set("openings", &(settings.get::<u32>("openings")?.unwrap_or(0) + 1))?;

    let mut visitors = Vec::new();
    for (name, rooms) in [("Ada", 3), ("Grace", 2), ("Mallory", 4)] {
        visitors.push((name, Process::spawn(visitor, (dir.clone(), name.to_owned(), rooms))?));
    }
    for (name, process) in visitors {
        match process.join() {
            Ok(visited) => visited?,
            Err(death) => println!("{name} did not come out: {death}"),
        }
    }

    let mut guests: Vec<(String, u64)> = gallery.guests.iter().collect::<pagemate::Result<_>>()?;
    guests.sort();
    println!("{title}, opening {}", settings.get::<u32>("openings")?.unwrap_or(0));
    guests.iter().for_each(|(name, count)| println!("  {name}: {count} rooms"));
    let last = gallery.visits.len()?.checked_sub(1).and_then(|last| gallery.visits.get(last).transpose());
    println!("  last: {:?}", last.transpose()?);
    println!("kept in {}", manager.path().unwrap_or_else(PathBuf::new).display());
    Ok(())
}
