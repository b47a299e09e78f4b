//! Tasks for worker processes, one of which dies: `cargo run --example pool`.

use pagemate::Pool;

fn invert(n: u32) -> f64 {
    match n {
        0 => std::process::abort(), // costs this task, and no other
        n => 1.0 / f64::from(n),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let pool = Pool::new(2)?;
    println!("map: {:?}", pool.map(invert, [1, 2, 4])?);

    let task = pool.apply_async(invert, 8)?;
    println!("meanwhile ... {}", task.get()?);

    let error = pool.map(invert, [5, 0, 10]).expect_err("one task ends its worker");
    println!("{error}");
    println!("the others: {:?} and {:?}", error.results()[0], error.results()[2]);
    println!("imap: {:?}", pool.imap(invert, 1..).take(3).collect::<Result<Vec<_>, _>>()?);
    Ok(())
}
