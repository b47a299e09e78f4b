//! One segment with all objects that some processes share, by name: `cargo run --example manager`.
//!
//! `gallery` is the longer example, which keeps its segment on disk.

use pagemate::{Kind, Manager, Process};

/// Opens the segment by its name, as an unrelated program of the same user can.
fn other(name: String) -> Result<u64, String> {
    let work = || -> pagemate::Result<u64> {
        let manager = Manager::open(name)?;
        manager.dict::<str, f64>("prices")?.insert("tea", &2.5)?;
        manager.list::<str>("log")?.push("a price was set")?;
        manager.namespace("settings")?.set("title", "Kiosk")?;
        Ok(manager.value("visits", 0u64)?.fetch_add(1) + 1)
    };
    work().map_err(|error| error.to_string())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let name = format!("manager-{}", std::process::id());
    let manager = Manager::create(&name)?;
    let visits = Process::spawn(other, name)?.join()??;
    println!("visit {visits}: tea is {:?}", manager.dict::<str, f64>("prices")?.get("tea")?);
    println!("title: {:?}", manager.namespace("settings")?.get::<str>("title")?);
    for object in manager.objects()? {
        println!("  {} {}", object.kind.map_or("other", Kind::name), object.name);
    }
    // The name is removed by the last process that has the segment open.
    Ok(())
}
