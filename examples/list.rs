//! A list that grows in shared memory: `cargo run --example list`.

use pagemate::{List, Process};

fn write(names: List<str>) -> Result<(), String> {
    let write = || {
        names.push("Grace")?;
        names.extend(["Edsger", "Barbara"])?;
        names.insert(0, "Alan")
    };
    write().map_err(|error: pagemate::Error| error.to_string())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let names = List::<str>::new()?;
    names.push("Ada")?;
    Process::spawn(write, names.clone())?.join()??;
    println!("{} names, the first is {:?}", names.len()?, names.get(0)?);
    names.sort()?;
    println!("{:?}", names.snapshot()?);
    Ok(())
}
