//! A segment inspected from outside, without taking part in it: `cargo run --example inspect`.

use pagemate::{inspect, Event, Kind, Manager, Process};

fn hold((manager, ready, done): (Manager, Event, Event)) {
    manager.list::<str>("names").and_then(|names| names.push("Ada")).expect("the segment has room");
    ready.set();
    done.wait();
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let name = format!("inspect-{}", std::process::id());
    let manager = Manager::create(&name)?;
    let (ready, done) = (Event::new()?, Event::new()?);
    let child = Process::spawn(hold, (manager.clone(), ready.clone(), done.clone()))?;
    ready.wait();

    let segment = inspect::segment(name.as_str())?;
    println!("{} bytes, stale: {}", segment.size, segment.stale);
    for participant in &segment.participants {
        println!("  process {}, alive: {}", participant.pid, participant.alive);
    }
    for object in &segment.objects {
        let kind = object.info.kind.map_or("other", Kind::name);
        println!("  {kind} {:?} {:?}", object.info.name, object.state);
    }
    let names = inspect::contents(name.as_str(), "names", 10, 100)?.expect("a list has contents");
    for (_, name) in names.entries {
        println!("  holds {}", name.render());
    }
    done.set();
    child.join()?;
    Ok(())
}
