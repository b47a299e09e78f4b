//! The first of several processes initialises a value, and all read it: `cargo run --example once`.

use pagemate::{OnceValue, Process};

fn read(config: OnceValue<u64>) -> (u64, bool) {
    let mut is_first = false;
    let value = *config
        .get_or_init(|| {
            is_first = true;
            u64::from(std::process::id())
        })
        .expect("initialised");
    (value, is_first)
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let config = OnceValue::new()?;
    let children = [(); 3].map(|()| Process::spawn(read, config.clone()));
    for child in children {
        let child = child?;
        let pid = child.pid();
        let (value, is_first) = child.join()?;
        println!("process {pid} read {value}{}", if is_first { ", which it had written" } else { "" });
    }
    Ok(())
}
