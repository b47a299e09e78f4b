//! An array behind one lock; each of two processes fills half of it: `cargo run --example array`.

use pagemate::{Array, Process};

fn fill((squares, from, to): (Array<u64>, usize, usize)) {
    let mut all = squares.lock().expect("no holder has died");
    for (n, square) in all.iter_mut().enumerate().take(to).skip(from) {
        *square = (n * n) as u64;
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let squares = Array::new(10, 0)?;
    let child = Process::spawn(fill, (squares.clone(), 0, 5))?;
    fill((squares.clone(), 5, 10));
    child.join()?;
    println!("{:?}", squares.to_vec()?);
    println!("number 7 is {:?}, number 70 is {:?}", squares.get(7)?, squares.get(70)?);
    Ok(())
}
