//! A dict in shared memory that two processes change at the same time: `cargo run --example dict`.

use pagemate::{Dict, Process};

fn count((words, text): (Dict<str, u64>, String)) -> Result<(), String> {
    for word in text.split_whitespace() {
        words.update(word, |count| Some(count.unwrap_or(&0) + 1)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let words = Dict::<str, u64>::new()?;
    let child = Process::spawn(count, (words.clone(), "to be or not to be".to_owned()))?;
    count((words.clone(), "be that as it may".to_owned()))?;
    child.join()??;
    println!("{} words, \"be\" {} times", words.len()?, words.get("be")?.unwrap_or(0));
    let mut entries = words.iter().collect::<pagemate::Result<Vec<_>>>()?;
    entries.sort();
    println!("{entries:?}");
    Ok(())
}
